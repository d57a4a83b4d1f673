"""Translation units: a few printed ones that a human accepted, and what must hold of every one."""

from __future__ import annotations

import os
from bisect import bisect_right
from functools import cache
from pathlib import Path
from random import Random

import capstone
import pytest
from keystone import KS_ARCH_X86, KS_MODE_16, KS_MODE_32, Ks

from tests.fuzz.program import CHANGING, COMPUTING, case
from tests.support.state import CODE, ENVIRONMENTS
from translator.assembler import asm, in_hexadecimal
from translator.decode import disassemble
from translator.fragment import Fragment, floats
from translator.layout import TC_BASE
from translator.mode import BASED, CHECKED, FLAT, WORD, Mode
from translator.plain import from_plain, to_plain
from translator.unit import Translator

GOLDEN = Path(__file__).parent / "golden"
ACCEPT = "ACCEPT=1 python -m pytest tests/test_unit.py"
AT = 0x1000

KERNEL = Mode(True, True, True, False, False, True, True, False, (FLAT,) * 6)
USER = Mode(True, True, True, False, True, False, False, False, (FLAT,) * 6)
REAL = Mode(False, False, False, False, False, True, True, False, (WORD,) * 6)
LIMITED = Mode(True, True, True, False, False, True, True, False, (FLAT, CHECKED, FLAT, CHECKED, FLAT, FLAT))
TLS = Mode(True, True, True, False, True, False, False, False, (FLAT, FLAT, FLAT, FLAT, FLAT, BASED))

PRINTED = {
    "a loop over memory": (KERNEL, "l: add eax, [esi+ecx*4-4]; inc dword ptr [edi]; dec ecx; jnz l; ret"),
    "calls": (KERNEL, "call 0x2000; push eax; call [ebx+8]; pop ecx; ret 8"),
    "flags on the stack": (KERNEL, "pushfd; cli; popfd; sti; nop"),
    "absolute addresses and segments": (TLS, "mov eax, gs:[0x14]; mov [0x12345678], eax; mov gs:[eax+ecx*2], dl"),
    "a checked segment": (LIMITED, "mov eax, [ebx+4]; mov [ebx], ah; hlt"),
    "real mode": (REAL, "push bx; mov ax, [bx+si+4]; mov ds, ax; stosb; loop 0x1000; retf"),
    "a system call": (USER, "mov eax, 4; int 0x80; ret"),
}


def translate(mode: Mode, source: str) -> Fragment:
    code, _ = Ks(KS_ARCH_X86, KS_MODE_32 if mode.code32 else KS_MODE_16).asm(in_hexadecimal(source), AT)
    return Translator().translate(bytes(code), lambda: b"", AT, mode, 0)


@cache
def host() -> capstone.Cs:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = True
    return engine


def printed(mode: Mode, source: str) -> str:
    """The unit for people: each guest instruction above the host instructions that it became."""
    fragment = translate(mode, source)
    code, _ = Ks(KS_ARCH_X86, KS_MODE_32 if mode.code32 else KS_MODE_16).asm(in_hexadecimal(source), AT)
    guest = dict(disassemble(bytes(code), AT, mode.code32))
    points = {p.at: p for p in fragment.points if p.refund}
    stubs = {e.stub: e for e in fragment.exits}
    lines = []
    for insn in host().disasm(bytes(fragment.code), 0):
        if insn.address in points:
            eip = fragment.eip + points[insn.address].offset
            lines.append(f"{eip:x}: {guest[eip]}")
        if insn.address in stubs:
            way = stubs[insn.address]
            lines.append(f"exit: {way.kind} {fragment.eip + way.offset & 0xFFFF_FFFF:x}")
        lines.append(f"    {insn.address:3x}  {insn.mnemonic} {insn.op_str}".rstrip())
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", PRINTED)
def test_printed_as_accepted(name: str) -> None:
    path = GOLDEN / f"{name.replace(' ', '-')}.txt"
    text = printed(*PRINTED[name])
    if os.environ.get("ACCEPT"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"look at it, then accept it with: {ACCEPT}\n{text}"
    assert text == path.read_text(), f"look at the change, then accept it with: {ACCEPT}"


def random_fragments(mode: Mode, count: int) -> list[tuple[bytes, Fragment]]:
    """Units of random programs, from several starts in each, with the guest's bytes from there on."""
    environment = ENVIRONMENTS["flat32" if mode.code32 else "real16"]
    translator, found = Translator(), []
    for seed in range(count):
        dice = Random(seed)
        lines = [(dice.randrange(256), dice.getrandbits(16)) for _ in range(30)]
        subject = case(environment, dice.choice((COMPUTING, CHANGING)), lines, seed)
        page = subject.code[: 4096 - (subject.at & 0xFFF)]
        verify = dice.random() < 0.2
        base = CODE if environment.real else 0
        anywhere = floats(mode, base) and not verify and dice.random() < 0.7
        fragment = translator.translate(
            page, lambda: b"\xf4" * 15, subject.eip, mode, base, verify=verify, anywhere=anywhere
        )
        found.append((page, fragment))
    return found


MODES = {"kernel": KERNEL, "user": USER, "real": REAL, "limited": LIMITED, "tls": TLS}


@pytest.fixture(scope="module", params=list(MODES))
def fragments(request: pytest.FixtureRequest) -> list[tuple[bytes, Fragment]]:
    return random_fragments(MODES[request.param], 60)


def instructions(fragment: Fragment) -> dict[int, tuple[int, str, str]]:
    """Host offset: (length, mnemonic, operands)."""
    code = bytes(fragment.code)
    return {i.address: (i.size, i.mnemonic, i.op_str) for i in host().disasm(code, 0)}


def successors(at: int, insn: tuple[int, str, str]) -> list[int]:
    """Where a host instruction may go, inside the fragment."""
    size, mnemonic, operands = insn
    if mnemonic[0] == "j" or mnemonic.startswith("loop"):
        target = [] if "[" in operands else [int(operands, 16)]
        return target if mnemonic == "jmp" else [*target, at + size]
    return [at + size]


def test_code_is_position_independent(fragments: list[tuple[bytes, Fragment]]) -> None:
    """Nothing but exit numbers, which the cache fills in, depends on where it stands."""
    for _, fragment in fragments:
        found = instructions(fragment)
        assert sum(size for size, _, _ in found.values()) == len(fragment.code)
        for at, insn in found.items():
            assert all(to in found or to == len(fragment.code) for to in successors(at, insn)), insn
            for word in insn[2].replace("[", " ").replace("]", " ").split():
                assert not (word.startswith("0x") and TC_BASE <= int(word.rstrip(","), 16) < TC_BASE << 8), insn
            assert "rip" not in insn[2], insn


def parse_step(insn: tuple[int, str, str]) -> tuple[int, int]:
    """(need of a check, instructions taken off) that a host instruction stands for."""
    _, mnemonic, operands = insn
    value = int(operands.rstrip("]").rsplit(" ", 1)[-1], 0) if "[r14 - " in operands else 0
    if mnemonic == "movzx" and "[r14 - " in operands:
        return value, 0
    if mnemonic == "lea" and operands.startswith("r14, "):
        return 0, value
    return 0, 0


def longest(fragment: Fragment, found: dict[int, tuple[int, str, str]], start: int) -> int:
    """The most instructions that a path from behind *start* takes off before the next check or a way out.

    A loop within one guest instruction (REP MOVS of many elements at a time) is one instruction however often it goes.
    """
    memo: dict[int, int] = {}
    starts = [p.at for p in fragment.points]

    def onward(at: int) -> list[int]:
        here = bisect_right(starts, at)
        return [to for to in successors(at, found[at]) if to > at or bisect_right(starts, to) != here]

    def walk(at: int, open_: frozenset[int]) -> int:
        if at not in found:
            return 0
        if at in memo:
            return memo[at]
        assert at not in open_, "a loop that never checks the budget"
        need, taken = parse_step(found[at])
        if need:
            return 0
        memo[at] = taken + max((walk(to, open_ | {at}) for to in onward(at)), default=0)
        return memo[at]

    return max(walk(to, frozenset()) for to in successors(start, found[start]))


def test_each_budget_check_covers_every_path_to_the_next(fragments: list[tuple[bytes, Fragment]]) -> None:
    for _, fragment in fragments:
        found = instructions(fragment)
        checks = {at: parse_step(insn)[0] for at, insn in found.items() if parse_step(insn)[0]}
        assert checks
        for at, need in checks.items():
            assert need == longest(fragment, found, at)


def test_every_host_instruction_belongs_to_a_guest_instruction(fragments: list[tuple[bytes, Fragment]]) -> None:
    for page, fragment in fragments:
        offsets = [p.at for p in fragment.points]
        assert offsets == sorted(offsets)
        assert offsets[0] <= fragment.entry + 64
        boundaries = {at for at, _ in disassemble(page + b"\xf4" * 15, fragment.eip, fragment.mode.code32)}
        assert {fragment.eip + p.offset for p in fragment.points} <= boundaries
        assert all(0 <= p.refund <= fragment.insns for p in fragment.points)
        assert all(0 <= e.refund < fragment.insns + 1 for e in fragment.exits)


def test_a_moved_unit_is_the_unit_translated_there(fragments: list[tuple[bytes, Fragment]]) -> None:
    translator = Translator()
    moved = 0
    for page, fragment in fragments:
        if not fragment.movable:
            continue
        there = fragment.eip + 0x0123_4000 & 0xFFFF_FFFF
        expected = translator.translate(
            page, lambda: b"\xf4" * 15, there, fragment.mode, fragment.cs_base, anywhere=fragment.anywhere
        )
        if expected.insns != fragment.insns:
            continue
        other = from_plain(to_plain(fragment), fragment.mode).moved(there)
        assert (other.code, other.start, other.eip) == (expected.code, expected.start, expected.eip)
        assert [e.offset for e in other.exits] == [e.offset for e in expected.exits]
        assert list(other.points) == list(expected.points)
        moved += 1
    assert moved or not any(f.movable for _, f in fragments)


@pytest.mark.parametrize(
    ("code", "returns", "sure"),
    [
        ("90 e8 00100000", True, [0x1006]),
        ("74 fd e8 00100000", True, []),  # JZ out of the unit
        ("74 01 90 e8 00100000", True, [0x1008]),  # JZ within it
        ("90 e9 00100000", False, [0x1006]),
        ("ff d0", True, []),
        ("74 fd c3", False, []),
    ],
    ids=["a call", "another way out", "no other way out", "a jump", "a call of an unknown address", "a return"],
)
def test_a_unit_knows_what_it_surely_leads_to(code: str, returns: bool, sure: list[int]) -> None:
    fragment = Translator().translate(bytes.fromhex(code), lambda: b"", 0x1000, KERNEL, 0)
    assert fragment.returns is returns
    assert [offset for _, offset, direct in fragment.direct if direct and fragment.leads_on] == sure


def test_decimal_numbers_are_decimal() -> None:
    assert in_hexadecimal("mov r10, [r15+16]; lea r8d, [rcx*8-120]; mov al, 0x10") == (
        "mov r10, [r15+0x10]; lea r8d, [rcx*8-0x78]; mov al, 0x10"
    )
    assert asm("mov r10, [r15+16]") == bytes.fromhex("4d8b5710")
    assert asm("mov eax, 573785173") == bytes.fromhex("b855443322")
