"""Stops at exact instruction counts change nothing: interrupts come at counts that the guest alone decides."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.asm import FLAT, assemble, needs_nasm
from tests.guests.build import build
from vmm.config import DebugExit, MachineConfig
from vmm.trace import Level, Plan, check, record

SHADOWS = f"""{FLAT}
        cli
        xor     ax, ax
        mov     ss, ax
        mov     sp, 0x7000
        mov     word [0x20], isr
        mov     [0x22], ax
        mov     al, 0x34                ; the 8254's channel 0 every 40 ticks, some 4,000 instructions
        out     0x43, al
        mov     al, 40
        out     0x40, al
        xor     ax, ax
        out     0x40, al
        in      al, 0x21
        and     al, 0xfe
        out     0x21, al
again:  times 150 sti
        inc     ecx
        jmp     again
isr:    push    ax
        mov     al, 0x20
        out     0x20, al
        pop     ax
        inc     edx
        mov     ax, ss
        mov     ss, ax
        mov     ss, ax
        iret
"""
"""Interrupts that are held off behind most instructions: more in a row than a unit has."""
WAYS: dict[str, dict[str, Any]] = {"as is": {}, "chaining off": {"chaining": False}, "64 KiB": {"tc_size": 64 << 10}}
LIMIT = 60_000


def machine(name: str, **settings: Any) -> MachineConfig:
    image = assemble(SHADOWS) if name == "shadows" else build(name)
    return MachineConfig(kernel=image, memory=16 << 20, max_insns=LIMIT, debug_exit=DebugExit(0xF4, 1), **settings)


@needs_nasm
@pytest.mark.parametrize("name", ["shadows", "ticks", "rings", "single_step", "breakpoints"])
def test_stops_change_nothing(name: str) -> None:
    config = machine(name)
    every = {found.insns: found.registers for found in record(config, Plan(Level.HASH, 1))[0].records}
    assert len(every) > 100
    for interval in (97, 1009):
        some = record(config, Plan(Level.HASH, interval))[0].records
        assert [found.insns for found in some[:-1]] == list(range(0, some[-2].insns + 1, interval))
        assert [found for found in some[:-1] if every[found.insns] != found.registers] == []


@needs_nasm
@pytest.mark.parametrize("way", WAYS)
def test_units_decide_nothing(way: str) -> None:
    trace, _ = record(machine("shadows"), Plan(Level.HASH, 97))
    assert check(machine("shadows", **WAYS[way]), trace) is None
