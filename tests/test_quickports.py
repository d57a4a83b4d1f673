"""Ports that emitted code answers: with a hook on all ports each access is the chips', and nothing else differs."""

from __future__ import annotations

from dataclasses import astuple
from random import Random

import pytest

from devices import pit
from devices import ports as chips
from tests.e2e.asm import KERNEL, assemble, needs_nasm
from translator import layout
from translator.decode import Insn
from translator.expand import ports
from vmm.config import DebugExit
from vmm.machine import Machine

LOG, LOG_SIZE = 0x20_0000, 1 << 16
ROUNDS = 12
PIT_MODES = (0x30, 0x34, 0x36, 0x38, 0xB0, 0xB2, 0xB4, 0xB6, 0xB8, 0x70, 0x90, 0xA0, 0x31, 0x00, 0x80, 0xC2, 0xE8, 0x54)
"""Control words: counter, bytes and mode, BCD; latches; read-back commands."""


def _out(port: int, value: int) -> list[str]:
    return [f"mov al, {value}", f"out {port}, al"]


def _in(port: int) -> list[str]:
    return [f"in al, {port}", "stosb", "lahf", "mov [edi], ah", "inc edi"]


def _step(random: Random) -> list[str]:
    """One thing that a kernel does, or might."""
    kind = random.randrange(16)
    if kind < 4:
        return _in(random.choice((0x21, 0x61, 0x61, 0x42, 0x42, 0x40, 0x41, 0x20, 0x80, 0xA1)))
    if kind < 6:
        return _out(0x80, random.randrange(256))
    if kind < 8:
        return _out(0x21, random.choice((0xFA, 0xFB, 0xFF, 0xB8, 0xFA)))
    if kind < 10:
        return _out(0x20, random.choice((0x20, 0x60, 0x61, 0x67, 0x23, 0x0A, 0x0B, 0x48, 0x68, 0xC2, 0xC7, 0x0C)))
    if kind == 10:
        return _out(0x61, random.randrange(4))
    if kind == 11:
        return _out(0x43, random.choice(PIT_MODES))
    if kind == 12:
        return _out(random.choice((0x40, 0x42)), random.randrange(1, 256)) * random.choice((1, 2))
    if kind == 13:
        port = random.choice((0x42, 0x61, 0x21))
        return [f"mov ecx, {random.randrange(2, 60)}", f"%%again: in al, {port}", "stosb", "loop %%again"]
    if kind == 14:
        return [f"mov ecx, {random.randrange(1, 4000)}", "%%wait: dec ecx", "jnz %%wait"]
    return random.choice((["sti"], ["cli"], ["stc"], ["cmp edi, eax"], ["std", "cld"]))


def program(seed: int) -> str:
    """A kernel that takes interrupts of the timer and does such things over and over."""
    random = Random(seed)
    setup = [*_out(0x20, 0x11), *_out(0x21, 0x20), *_out(0x21, 4), *_out(0x21, random.choice((1, 1, 1, 3)))]
    setup += [*_out(0x21, 0xFA), *_out(0x43, 0x34), *_out(0x40, random.randrange(256)), *_out(0x40, 2)]
    body = ""
    for n in range(random.randrange(20, 60)):
        body += f"%macro step{n} 0\n" + "\n".join(_step(random)) + f"\n%endmacro\nstep{n}\n"
    lines = "\n".join(setup)
    end = random.choice(("mov al, 0x20", "mov al, 0x60"))
    return f"""{KERNEL}
        lgdt [gdtr]
        jmp 8:flat
flat:   mov edi, 0x300000
        mov ecx, 256
.gate:  mov dword [edi], 0x80000 + handler - 0x100000
        mov dword [edi + 4], 0x100000 + 0x8e00
        add edi, 8
        loop .gate
        lidt [idtr]
        {lines}
        mov edi, {LOG}
        mov ebp, {ROUNDS}
round:
        {body}
        dec ebp
        jnz round
        cli
        mov al, 0
        out 0xf4, al
        hlt
handler:
        push eax
        mov byte [edi], 0xEE
        inc edi
        in al, 0x21
        out 0x21, al
        {end}
        out 0x20, al
        out 0x80, al
        pop eax
        iret
gdt:    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   dw 23
        dd gdt
idtr:   dw 0x7ff
        dd 0x300000
"""


def run(seed: int, watched: bool, icount: int) -> tuple[tuple[object, ...], int]:
    """How the guest ends, and how many instructions were callouts."""
    kernel = assemble(program(seed))
    with Machine(kernel=kernel, memory="8M", icount=icount, debug_exit=DebugExit(0xF4, 1)) as machine:
        seen: list[int] = []
        if watched:
            machine.on("port.write", lambda vm, port, size, value: seen.append(port))
        result = machine.run(max_insns=3_000_000)
        board, stats = machine.board, machine.stats.as_dict(deterministic=True)
        board.clock.now = machine.engine.now
        outputs = [board.pit.output(n) for n in range(3)]  # which brings all up to now
        chips = [astuple(device.state) for device in (board.pic, board.pit, board.port61, board.post)]
        outcome = (
            result.status, result.insns, outputs, machine.engine.now, machine.engine.budget.tsc, stats["port_io"],
            stats["interrupts"], chips, machine.memory[LOG : LOG + LOG_SIZE], machine.engine.interrupt,
        )  # fmt: skip
        callouts = machine.stats.callouts
        return outcome, callouts["in_imm"] + callouts["out_imm"]


@needs_nasm
@pytest.mark.parametrize("seed", range(40))
def test_the_guest_cannot_tell_who_answers(seed: int) -> None:
    icount = (2, 3, 0, 2)[seed % 4]
    ours, callouts = run(seed, False, icount)
    theirs, all_of_them = run(seed, True, icount)
    assert ours == theirs
    assert 0 < callouts <= all_of_them


@needs_nasm
def test_most_accesses_are_answered_by_emitted_code() -> None:
    some = [(run(seed, False, 2)[1], run(seed, True, 2)[1]) for seed in range(8)]
    assert sum(ours for ours, _ in some) < sum(theirs for _, theirs in some) * 3 / 4


@needs_nasm
def test_who_hooks_the_instruction_sees_each_access() -> None:
    with Machine(kernel=assemble(program(3)), memory="8M", debug_exit=DebugExit(0xF4, 1)) as machine:
        seen = 0

        def see(vm: Machine, insn: Insn) -> None:
            nonlocal seen
            seen += 1

        remove = machine.on("callout.out_imm", see)
        machine.on("callout.in_imm", see)
        machine.run(max_insns=3_000)
        accesses = sum(machine.stats.port_io.values())
        assert seen == accesses > 500
        remove()
        machine.run(max_insns=100_000)
        assert seen < sum(machine.stats.port_io.values())


def test_the_translator_has_the_numbers_of_the_chips() -> None:
    """It imports nothing of ours."""
    assert (ports.PIT_HZ, ports.REFRESH_PULSES) == (pit.PIT_HZ, chips.REFRESH_PULSES)
    assert layout.POST_CODES == chips.POST_CODES
