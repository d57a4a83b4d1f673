"""Handlers against plain Unicorn: the same instruction from the same random states."""

from __future__ import annotations

import pytest

from tests.callouts.oracle import assemble, prepare, random_state, run_unicorn
from vmm.errors import GuestFault

CF, PF, AF, ZF, SF, OF = 0x1, 0x4, 0x10, 0x40, 0x80, 0x800
ALL_FLAGS = 0xCD5
SEEDS = 12

# (instruction, flags that the manual leaves undefined and on which Unicorn's QEMU goes its own way)
ANYWHERE = [
    ("daa", 0), ("das", 0), ("aaa", 0), ("aas", 0), ("aam 10", 0), ("aam 7", 0), ("aad 10", 0), ("aad 0xf3", 0),
    (".byte 0xd6", 0),
    ("pushaw", 0), ("pushal", 0), ("popaw", 0), ("popal", 0),
    ("push -3", 0), ("push 0x1234", 0), ("push esp", 0), ("push sp", 0), ("push bx", 0), ("push edi", 0),
    ("push word ptr [esi+4]", 0), ("push dword ptr [esp+8]", 0), ("push dword ptr [bp+di]", 0),
    ("push es", 0), ("push ds", 0), ("push gs", 0),
    ("pop ax", 0), ("pop ebx", 0), ("pop esp", 0), ("pop sp", 0), ("pop dword ptr [esp+4]", 0),
    ("pop word ptr [ebx]", 0),
    ("enter 16, 0", 0), ("enter 0x30, 1", 0), ("enter 8, 2", 0), ("enter 8, 7", 0), ("enter 0, 31", 0),
    ("leave", 0), (".byte 0x66; leave", 0),
    (".byte 0x9c", 0), (".byte 0x66, 0x9c", 0),
    ("lea ax, [bx+si-3]", 0), ("lea eax, [ebx+esi*4+77]", 0), ("lea edx, [bp+2]", 0), ("lea cx, [ebp+edi]", 0),
    ("xlatb", 0), (".byte 0x67; xlatb", 0), (".byte 0x64; xlatb", 0),
    ("bswap eax", 0), ("bswap edi", 0),
    ("inc cx", 0), ("inc edx", 0), ("dec ax", 0), ("dec edi", 0),
    *((f".byte 0x82, {modrm | n << 3:#x}, {imm:#x}", AF if n in (1, 4, 6) else 0)
      for n in range(8) for modrm, imm in ((0xC1, 0x7F), (0xC1, 0x91), (0x03, 0x35))),
    *((f"{name} {operands}", OF | SF | ZF | AF | PF)
      for name in ("bt", "bts", "btr", "btc")
      for operands in ("ax, cx", "edx, eax", "word ptr [bx], cx", "dword ptr [esi+8], ecx", "dword ptr [ebx], edi")),
    ("mov ax, ds", 0), ("mov eax, ss", 0), ("mov word ptr [bx], gs", 0),
    ("mov al, byte ptr [0x1234]", 0),
    ("bound ax, dword ptr [bx]", 0), ("bound eax, qword ptr [esi]", 0),
]  # fmt: skip
REAL_MODE = [
    ("les di, [bx]", 0), ("lds esi, [si+2]", 0), ("lfs ax, [bp]", 0), ("lgs ecx, [ebx]", 0),
    ("mov es, ax", 0), ("mov ds, word ptr [bx]", 0), ("mov fs, dx", 0),
    ("pop es", 0), ("pop ds", 0), (".byte 0x66; pop fs", 0),
    (".byte 0x9d", 0),
]  # fmt: skip
PROTECTED = [("smsw word ptr [ebx]", 0), ("arpl word ptr [ebx], ax", 0), ("arpl cx, dx", 0), ("arpl ax, cx", 0)]
POINTERS16 = {"[bx", "[bp", "[si", "[di"}
STRINGS = [
    (rep, first + width, wide)
    for first, reps in (
        (0xA4, ("", "f3")),
        (0xAA, ("", "f2")),
        (0xAC, ("", "f3")),
        (0xA6, ("", "f3", "f2")),
        (0xAE, ("", "f3", "f2")),
    )
    for rep in reps
    for width, wide in ((0, False), (1, False), (1, True))
]
"""Repeat prefix, opcode, whether with 66h."""


def compare(code: bytes, code32: bool, undefined: int, seed: int, bulk: bool = True, count: int = 5) -> None:
    wide_address = code32 or 0x67 in code[:3]
    state = random_state(f"{code.hex()} {seed}", code32, wide_address, code, count)
    expected = run_unicorn(state, code, code32)
    machine = prepare(state, code32, bulk)
    vector = None
    try:
        machine.run(code)
    except GuestFault as fault:
        vector = fault.vector
    cpu = machine.cpu
    assert vector == expected.vector
    assert [f"{value:08x}" for value in cpu.gpr] == [f"{value:08x}" for value in expected.gpr]
    mask = ALL_FLAGS & ~undefined
    assert f"{cpu.eflags & mask:#x}" == f"{expected.eflags & mask:#x}"
    assert {n: cpu.segments[n].selector for n in expected.selectors} == expected.selectors
    assert cpu.eip == expected.eip
    different = [
        n for n in range(0, len(state.memory), 64) if machine.memory.data[n : n + 64] != expected.memory[n : n + 64]
    ]
    assert not different, f"{different[0]:#x}"


@pytest.mark.parametrize(("source", "undefined"), ANYWHERE + REAL_MODE)
def test_16_bit(source: str, undefined: int) -> None:
    for seed in range(SEEDS):
        compare(assemble(source, False), False, undefined, seed)


@pytest.mark.parametrize(
    ("source", "undefined"),
    PROTECTED + [row for row in ANYWHERE if not any(pointer in row[0] for pointer in POINTERS16)],
)
def test_32_bit(source: str, undefined: int) -> None:
    for seed in range(SEEDS):
        compare(assemble(source, True), True, undefined, seed)


@pytest.mark.parametrize("bulk", [True, False], ids=["slices", "elements"])
@pytest.mark.parametrize("code32", [False, True], ids=["16", "32"])
@pytest.mark.parametrize("other_address", [False, True], ids=["", "67"])
@pytest.mark.parametrize(
    ("rep", "opcode", "wide"), STRINGS, ids=lambda value: f"{value:x}" if isinstance(value, int) else value
)
def test_strings(rep: str, opcode: int, wide: bool, other_address: bool, code32: bool, bulk: bool) -> None:
    code = bytes.fromhex(rep + "66" * wide + "67" * other_address) + bytes((opcode,))
    for seed, count in enumerate((0, 1, 3, 70, 200, 1500)):
        compare(code, code32, 0, seed, bulk, count)
