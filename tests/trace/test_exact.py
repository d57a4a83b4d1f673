"""Stops at exact instruction counts change nothing: interrupts come at counts that the guest alone decides."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.asm import FLAT, assemble, needs_nasm
from tests.guests.build import build
from vmm.config import DebugExit, MachineConfig
from vmm.trace import Level, Plan, check, record
from vmm.trace.records import REGISTERS

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
LIMIT = 20_000
EIP = REGISTERS.index("eip")


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
    assert check(machine("shadows", **WAYS[way]), trace)[0] is None


WINDOWS = [(name, "as is") for name in ("ticks", "rings", "faults", "selfmod32", "single_step", "paging")] + [
    ("shadows", way) for way in WAYS
]


@needs_nasm
@pytest.mark.parametrize(("name", "way"), WINDOWS)
def test_records_by_emitted_code_are_those_of_stops(name: str, way: str) -> None:
    """But where an instruction did not follow: an interrupt came at that count, or a fault's handler followed."""
    first, last = 100, 12_000
    stops, _ = record(machine(name), Plan(Level.HASH, 1, first, last))
    ring, _ = record(machine(name, **WAYS[way]), Plan(Level.INSN, 1, first, last))
    by_count: dict[int, list[tuple[int, ...]]] = {}
    for found in ring.records:
        by_count.setdefault(found.insns, []).append(found.registers)
    assert list(by_count) == [found.insns for found in stops.records[:-1]] + [ring.records[-1].insns]
    others = [found for found in stops.records if found.registers not in by_count[found.insns]]
    handlers = sum(len(found) - 1 for found in by_count.values())
    assert len(others) + handlers < len(by_count) / 5
    assert [found for found in others if by_count[found.insns][0][EIP] == found.registers[EIP]] == []
