"""Alignment checking: CR0.AM, EFLAGS.AC, CPL 3.  What each instruction's operand must be aligned to; the real CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from tests.support import makers
from tests.support.engine import BareEngine
from tests.support.silicon import Silicon
from tests.support.state import DATA, ENVIRONMENTS, STACK, Case, Environment
from tests.vectors import known, undefined
from tests.vectors.generate import vectors
from tests.vectors.record import INSTANCES, can_judge
from translator.layout import ESP
from translator.rules import Row, rows
from vmm.vcpu import CR0_AM

AC_FAULT, GP = (17, 0), (13, 0)
LIMIT_FAULTS = (GP, (12, 0))
UNCHECKED, SSE = 1, 16
"""Bytes: any address does, and SDM vol. 2's "must be aligned on 16 bytes", which is #GP whatever AC says."""

ROWS: Final = {
    1: {
        "movups xmm0, [ebx]": "0f1003",
        "movups [ebx], xmm0": "0f1103",
        "movdqu xmm0, [ebx]": "f30f6f03",
        "movdqu [ebx], xmm0": "f30f7f03",
        "clflush [ebx]": "0fae3b",
        "prefetcht0 [ebx]": "0f180b",
        "xlatb": "d7",
        "nop dword [ebx]": "0f1f03",
        "lea eax, [ebx]": "8d03",
    },
    2: {
        "mov ax, [ebx]": "668b03",
        "push word [ebx]": "66ff33",
        "fild word [ebx]": "df03",
        "o16 fnstenv [ebx]": "66d933",
        "o16 fnsave [ebx]": "66dd33",
        "fnstcw [ebx]": "d93b",
        "pinsrw xmm0, [ebx], 1": "660fc40301",
        "o16 bound ax, [ebx]": "666203",
        "lodsw": "66ad",
        "scasw": "66af",
        "pop ax": "6658",
        "o16 ret": "66c3",
        "o16 lfs ax, [ebx]": "660fb403",
        "mov [ebx], ds": "8c1b",
        "mov ds, [ebx]": "8e1b",
        "push ds": "1e",
        "pop ds": "1f",
        "o16 bt [ebx], ax": "660fa303",
        "movzx eax,  word [ebx]": "0fb703",
        "lar eax, [ebx]": "0f0203",
        "verr [ebx]": "0f0023",
        "arpl [ebx], ax": "6303",
    },
    4: {
        "mov eax, [ebx]": "8b03",
        "mov [ebx], eax": "8903",
        "add [ebx], eax": "0103",
        "push eax": "50",
        "fld dword [ebx]": "d903",
        "fnstenv [ebx]": "d933",
        "fldenv [ebx]": "d923",
        "fnsave [ebx]": "dd33",
        "frstor [ebx]": "dd23",
        "punpcklbw mm0, [ebx]": "0f6003",
        "movss xmm0, [ebx]": "f30f1003",
        "addss xmm0, [ebx]": "f30f5803",
        "comiss xmm0, [ebx]": "0f2f03",
        "movd xmm0, [ebx]": "660f6e03",
        "fxsave [ebx]": "0fae03",
        "fxrstor [ebx]": "0fae0b",
        "ldmxcsr [ebx]": "0fae13",
        "stmxcsr [ebx]": "0fae1b",
        "cmpxchg [ebx], eax": "0fb103",
        "xchg [ebx], eax": "8703",
        "bound eax, [ebx]": "6203",
        "lodsd": "ad",
        "stosd": "ab",
        "movsd": "a5",
        "cmpsd": "a7",
        "rep movsd": "f3a5",
        "enter 8, 0": "c8080000",
        "enter 8, 2": "c8080002",
        "leave": "c9",
        "pusha": "60",
        "popa": "61",
        "pushf": "9c",
        "popf": "9d",
        "pop eax": "58",
        "call $+5": "e800000000",
        "ret": "c3",
        "lss eax, [ebx]": "0fb203",
        "lfs eax, [ebx]": "0fb403",
        "bt [ebx], eax": "0fa303",
        "bts [ebx], eax": "0fab03",
        "bt dword [ebx], 3": "0fba2303",
        "movnti [ebx], eax": "0fc303",
        "cmovz eax, [ebx]": "0f4403",
        "cmovnz eax, [ebx]": "0f4503",
        "shld [ebx], eax, 3": "0fa40303",
        "imul eax, [ebx]": "0faf03",
        "call far [ebx]": "ff1b",
        "jmp far [ebx]": "ff2b",
        "retf": "cb",
        "iret": "cf",
    },
    8: {
        "fld qword [ebx]": "dd03",
        "fld tword [ebx]": "db2b",
        "fstp tword [ebx]": "db3b",
        "fbld [ebx]": "df23",
        "fbstp [ebx]": "df33",
        "fild qword [ebx]": "df2b",
        "movq mm0, [ebx]": "0f6f03",
        "paddb mm0, [ebx]": "0ffc03",
        "movsd xmm0, [ebx]": "f20f1003",
        "movlps xmm0, [ebx]": "0f1203",
        "movhps xmm0, [ebx]": "0f1603",
        "addsd xmm0, [ebx]": "f20f5803",
        "cvtps2pd xmm0, [ebx]": "0f5a03",
        "cvtpi2ps xmm0, [ebx]": "0f2a03",
        "cmpxchg8b [ebx]": "0fc70b",
        "movntq [ebx], mm0": "0fe703",
        "maskmovq mm0, mm1": "0ff7c1",
        "maskmovdqu xmm0, xmm1": "660ff7c1",
    },
    16: {
        "movaps xmm0, [ebx]": "0f2803",
        "movntps [ebx], xmm0": "0f2b03",
        "addps xmm0, [ebx]": "0f5803",
        "paddb xmm0, [ebx]": "660ffc03",
    },
}
"""Instructions of the memory at EBX, ESI or ESP, as nasm writes them, by alignment in bytes (SDM vol. 3, table 6-7)."""
OFFSETS: Final = (0, 1, 2, 4, 8)
DESCRIPTIVE: Final = [(name, code, size) for size, rows in ROWS.items() for name, code in rows.items()]


@pytest.fixture(scope="module")
def engine() -> BareEngine:
    return BareEngine()


def case(code: str, offset: int, environment: Environment = ENVIRONMENTS["flat32u"], ac: bool = True) -> Case:
    """EBX, ESP, EBP and ESI *offset* bytes behind aligned zeroes, EDI too; ECX is 1."""
    data, stack = DATA + 0x800 + offset, STACK + 0x800 + offset
    memory = ((DATA + 0x800, bytes(64)), (STACK + 0x800, bytes(64)))
    gpr = (0, 1, 0, data, stack, stack, data, data + 0x100)
    return Case(bytes.fromhex(code) + b"\xf4", environment, gpr, ac=ac, memory=memory)


def misaligned(size: int, offset: int) -> tuple[int, int] | None:
    """The exception for an operand *offset* bytes behind an aligned address."""
    return (GP if size == SSE else AC_FAULT) if offset % size else None


@pytest.mark.parametrize(("name", "code", "size"), DESCRIPTIVE, ids=[name for name, _, _ in DESCRIPTIVE])
def test_what_must_be_aligned(engine: BareEngine, name: str, code: str, size: int) -> None:
    for offset in OFFSETS:
        subject = case(code, offset)
        got, expected = engine.run_case(subject), misaligned(size, offset)
        if expected is None:
            assert got.end != AC_FAULT, offset
        else:
            assert (got.end, got.eip, got.gpr, got.memory) == (expected, subject.eip, subject.gpr, {}), offset


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "code", "size"), DESCRIPTIVE, ids=[name for name, _, _ in DESCRIPTIVE])
def test_the_rows_are_the_real_cpus(silicon: Silicon, name: str, code: str, size: int) -> None:
    ends = [silicon.run_case(case(code, offset)).end for offset in OFFSETS]
    amds = makers.ALIGNED_BY_AMD.get(name)
    if amds and [end == AC_FAULT for end in ends] == [offset % amds != 0 for offset in OFFSETS]:
        return
    for offset, end in zip(OFFSETS, ends, strict=True):
        expected = misaligned(size, offset)
        assert end == expected if expected else end != AC_FAULT, offset


GROUPS: Final = [(map_, nibble) for map_ in (0, 1) for nibble in range(16)]
USER: Final = [e for e in ENVIRONMENTS.values() if e.user and not e.v86 and e.name != "alias16"]


def translated(map_: int, nibble: int) -> list[Row]:
    """Rows of a group that become host code and that the real CPU can judge."""
    found = [r for r in rows() if r.map == map_ and r.opcode >> 4 == nibble]
    return [r for r in found if r.treatment in ("ident", "emulate", "branch") and r.how not in _SYSTEMS]


_PARTS: Final = frozenset(("FLDENV", "FRSTOR", "FNSTENV", "FNSAVE"))
"""Their operands go in parts: where one is not aligned and another beyond the limit, CPUs come to either first."""
_SYSTEMS: Final = frozenset(("verw", "mov_from_cr"))
"""They ask what the harness has not: descriptor tables and control registers."""


@pytest.mark.oracle
@pytest.mark.parametrize("group", GROUPS, ids=[f"{'0F ' if m else ''}{n:X}x" for m, n in GROUPS])
@pytest.mark.parametrize("environment", USER, ids=[e.name for e in USER])
def test_vectors_under_ac(
    engine: BareEngine, silicon: Silicon, environment: Environment, group: tuple[int, int]
) -> None:
    """The vectors of every row again, under AC."""
    found = [v for row in translated(*group) for v in vectors(row, environment, INSTANCES) if can_judge(silicon, v)]
    found = [v for v in found if v.row.name != "CMPS" and v.row.name not in undefined.HOST_DIFFERS]
    cases = [replace(v.case, ac=True) for v in found]
    wrong = []
    for vector, subject, expected in zip(found, cases, silicon.run_cases(cases), strict=True):
        got = engine.run_case(subject)
        if vector.row.name in _PARTS and expected.end == AC_FAULT and got.end in LIMIT_FAULTS:
            continue
        if vector.row.how in ("push_seg", "pop_seg") and expected.end == AC_FAULT and expected.gpr[ESP] % 4 == 2:
            continue  # see makers.ALIGNED_BY_AMD
        lines = vector.differences(expected, got, False)
        if lines and known.reason(vector, expected, got) is None:
            wrong.append((vector.row.name, subject.code.hex(), lines))
    assert not wrong


@pytest.mark.parametrize(
    ("name", "ac", "am", "end"),
    [
        ("flat32u", True, True, AC_FAULT),
        ("flat32u", False, True, "halt"),
        ("flat32u", True, False, "halt"),
        ("flat32", True, True, "halt"),  # ring 0
        ("v86", True, True, AC_FAULT),
        ("real16", True, True, "halt"),
    ],
)
def test_when_it_is_checked(name: str, ac: bool, am: bool, end: tuple[int, int] | str) -> None:
    engine = BareEngine()
    environment = ENVIRONMENTS[name]
    if not am:
        engine.run_case(case("90", 0, environment))
        engine.cpu.cr0 &= ~CR0_AM
        engine.cpu.on_control_change("cr0")
    base = environment.segments[3].base
    subject = case("8b03" if environment.code32 else "8b07", 1, environment, ac)
    gpr = tuple(DATA + 0x801 - base if n == 3 else 0x800 if n == 4 and base else r for n, r in enumerate(subject.gpr))
    assert engine.run_case(replace(subject, gpr=gpr)).end == end


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("code", "gpr"),
    [
        ("8b03", {3: 0x5_0001}),  # not mapped either
        ("8b03", {3: DATA + 0x2FFD}),  # its last byte is not mapped
        ("ff33", {3: 0x5_0000, 4: STACK + 0x801}),  # the first operand is not mapped, the second is not aligned
        ("ff33", {3: DATA + 1, 4: 0x6_0000}),
        ("a5", {6: 0x6_0000, 7: DATA + 0x11}),
        ("a5", {6: DATA + 0x11, 7: 0x6_0000}),
        ("f3a5", {1: 4, 6: DATA + 0x2FF8, 7: DATA + 0x100}),
        ("f3a5", {1: 0, 6: DATA + 1, 7: DATA + 1}),  # no repetition, no access
        ("60", {4: STACK + 0x12}),
        ("61", {4: STACK + 0xFF2}),
    ],
)
def test_the_order_of_faults(engine: BareEngine, silicon: Silicon, code: str, gpr: dict[int, int]) -> None:
    plain = case(code, 0)
    subject = replace(plain, gpr=tuple(gpr.get(n, r) for n, r in enumerate(plain.gpr)))
    got, expected = engine.run_case(subject), silicon.run_case(subject)
    assert (got.end, got.eip, got.gpr) == (expected.end, expected.eip, expected.gpr)
