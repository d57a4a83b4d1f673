"""Random programs: lines with labels, branches, calls, strings and stores into the program itself.

(E)BX holds the data's address throughout, so that memory operands stay inside the windows; the other registers take any
value.  A program need not end: both machines are stopped after the same number of instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Final

from tests.support.state import CODE, DATA, DATA_END, STACK, Case, Environment, fx_image
from tests.vectors import undefined
from translator import layout
from translator.layout import CS, DS, ES, SS
from translator.rules import UNDEFINED_X87, Row, rows

Line = tuple[int, int]
"""(kind, seed): a line of a program; the kind is an index into ``COMPUTING`` or ``CHANGING``."""

_FREE = (0, 1, 2, 5, 6, 7)
_FREE_BYTES = (0, 1, 2, 4, 5, 6)
_AFTER_BT: Final = b"\x19\xd2"
"""SBB EDX, EDX: what BT leaves in the flags other than CF depends on what came before."""
_BY_REGISTER = (*range(0x40, 0x50), *range(0x90, 0x98), *range(0xB8, 0xC0))
_LEFT_OUT = frozenset(
    (
        "FNSAVE",
        "FNSTENV",
        "FXSAVE",
        "FXRSTOR",
        "FRSTOR",
        "FLDENV",
        "FLDCW",
        "LDMXCSR",
        "DIV",
        "IDIV",
        "MASKMOVQ",
        "XLAT",
    )
)
"""Not compared, or likely to end the program at once."""
_HOWS = frozenset(
    (
        "",
        "nop",
        "alias_80",
        "inc_dec",
        "bswap",
        "lea",
        "mov_moffs",
        "bt_reg",
        "cli",
        "sti",
        "rotate_carry",
        "cmpxchg8b",
        "clflush",
    )
)


@cache
def _simple() -> tuple[Row, ...]:
    """Rows that compute: no stack, no branch, no segment, no string."""
    return tuple(
        r
        for r in rows()
        if r.treatment in ("ident", "emulate")
        and r.how in _HOWS
        and r.name not in _LEFT_OUT
        and r.name not in undefined.PLAIN_DIFFERS
        and r.key not in undefined.PLAIN_DIFFERS_KEYS
        and (r.key, "r") not in undefined.MAKERS_DIFFER
    )


@cache
def _integer() -> tuple[Row, ...]:
    """Those that are neither x87 nor MMX nor SSE."""
    return tuple(r for r in _simple() if not r.prefixes and not (0xD8 <= r.opcode <= 0xDF and not r.map))


@cache
def _defined() -> tuple[Row, ...]:
    """Those that leave no flag undefined."""
    return tuple(
        r
        for r in _integer()
        if r.name not in undefined.FLAGS and r.name not in undefined.OF_UNLESS_ONE and r.how not in ("cli", "sti")
    )


RETURNS: Final = 24
"""Return addresses on the stack before the program starts."""


class Assembler:
    """Lays lines out; every line's length is known before its labels are."""

    def __init__(self, environment: Environment, kinds: Sequence[Kind], lines: Sequence[Line], at: int) -> None:
        self.environment = environment
        self.bits32 = environment.code32
        self.base = environment.segments[CS].base
        self.size = 4 if self.bits32 else 2
        self.alias = b"" if self.bits32 else b"\x64"
        """The prefix of stores into the program."""
        self.at = at
        self.count = len(lines)
        self.labels = [at] * (len(lines) + 1)
        self.pads: list[int] = []
        self.old_pads: list[int] = []
        for _ in range(6):  # until labels are known, and what depends on them has its length
            before = list(self.labels), self.pads
            here = at
            parts = []
            self.old_pads, self.pads = self.pads, []
            for n, (kind, seed) in enumerate(lines):
                self.labels[n] = here
                self.here, self.line = here, n
                parts.append(kinds[kind % len(kinds)](self, Random(seed)))
                here += len(parts[-1])
            self.labels[len(lines)] = here
            if before == (self.labels, self.pads):
                break
        self.code = b"".join(parts) + b"\xf4"

    def label(self, dice: Random) -> int:
        """The linear address of some line, mostly of one that follows."""
        first = self.line + 1 if dice.random() < 0.85 else 0
        return self.labels[dice.randrange(first, self.count + 1)]

    def returns(self, dice: Random) -> bytes:
        """Return addresses for a stack from which more is taken than was put."""
        chosen = (dice.choice((self.labels[-1], dice.choice(self.labels))) for _ in range(RETURNS))
        return b"".join(self.offset(linear, CS) for linear in chosen)

    def some_pad(self, dice: Random) -> int:
        """The linear address of a pad, or of the HLTs at the end of the code's window."""
        return dice.choice(self.old_pads or [CODE + 0x1FF0])

    def near(self, opcode: bytes, target: int) -> bytes:
        """A branch with a displacement of the operand size."""
        after = self.here + len(opcode) + self.size
        return opcode + (target - after & (1 << 8 * self.size) - 1).to_bytes(self.size, "little")

    def offset(self, linear: int, seg: int = DS) -> bytes:
        """The address of *linear* in a segment, as an operand."""
        return (linear - self.environment.segments[seg].base & 0xFFFF_FFFF).to_bytes(4, "little")[: self.size]

    def memory(self, dice: Random, reg: int) -> bytes:
        """ModRM and displacement of [(E)BX + disp]."""
        disp = dice.choice((0, 4, 8, 0x7D, 0x100, 0x108, 0x7FE, 0xFFD, 0xFFF, 0x1004)).to_bytes(4, "little")
        return bytes((0x80 | reg << 3 | (3 if self.bits32 else 7),)) + disp[: self.size]


def compute(a: Assembler, dice: Random, found: tuple[Row, ...] | None = None) -> bytes:
    """Any instruction of one row."""
    row = dice.choice(found or _integer())
    prefixes = b""
    if row.prefixes:
        mandatory = dice.choice(row.prefixes)
        prefixes = {".": b"", "6": b"\x66", "3": b"\xf3", "2": b"\xf2"}[mandatory]
    elif dice.random() < 0.2:
        prefixes = b"\x66"
    opsize = 4 if a.bits32 ^ (0x66 in prefixes) else 2
    opcode = row.opcode
    if not row.map and opcode in _BY_REGISTER:
        opcode = opcode & 0xF8 | dice.choice(_FREE)
    elif not row.map and 0xB0 <= opcode <= 0xB7:
        opcode = 0xB0 | dice.choice(_FREE_BYTES)
    elif row.map and 0xC8 <= opcode <= 0xCF:
        opcode = 0xC8 | dice.choice(_FREE)
        prefixes = prefixes if a.bits32 else b"\x66"
        prefixes = prefixes.replace(b"\x66", b"") if a.bits32 else prefixes
    code = prefixes + (b"\x0f" if row.map else b"") + bytes((opcode,))
    if row.modrm:
        narrow = row.size == "b"
        free = _FREE_BYTES if narrow and not (row.map and row.opcode in (0xB6, 0xBE)) else _FREE
        media = bool(row.prefixes) or (0xD8 <= row.opcode <= 0xDF and not row.map)
        reg = row.digit if row.digit is not None else dice.choice(free)
        if row.form == "m" or (row.form == "" and dice.random() < 0.5):
            code += a.memory(dice, reg)
        else:
            choices = [
                m for m in range(0xC0, 0x100) if m >> 3 & 7 == reg and (row.map or (row.opcode, m) not in UNDEFINED_X87)
            ]
            choices = [m for m in choices if (m & 7) in (_FREE_BYTES if narrow else _FREE) or (media and not row.map)]
            code += bytes((dice.choice(choices),))
    if row.imm:
        if row.how == "mov_moffs":
            code += a.offset(DATA + dice.randrange(0x1000))
        else:
            size = {"b": 1, "w": 2, "z": opsize}[row.imm]
            value = dice.choice((0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, dice.getrandbits(32)))
            code += value.to_bytes(4, "little")[:size]
    if row.name in ("BT", "BTS", "BTR", "BTC"):
        code += _AFTER_BT
    return code


_PACKED_SINGLE: Final = frozenset(
    (*range(0x10, 0x18), 0x28, 0x29, 0x2B, 0x2E, 0x2F, 0x50, 0x51, *range(0x54, 0x60), 0xC2, 0xC6)
)
"""Opcodes that are SSE without a prefix; the others are MMX then."""
_WITH_MMX: Final = frozenset((0x2A, 0x2C, 0x2D, 0x77, 0xAE, 0xC3, 0xD6, 0xF7))


@cache
def _sse() -> tuple[tuple[Row, str], ...]:
    """SSE's rows with a mandatory prefix of each."""
    return tuple(
        (r, mandatory)
        for r in _simple()
        for mandatory in r.prefixes
        if r.opcode not in _WITH_MMX
        and r.name not in undefined.APPROXIMATE
        and (mandatory != "." or r.opcode in _PACKED_SINGLE)
    )


def sse(a: Assembler, dice: Random) -> bytes:
    """An SSE instruction, with an aligned operand if that is in memory."""
    row, mandatory = dice.choice(_sse())
    code = {".": b"", "6": b"\x66", "3": b"\xf3", "2": b"\xf2"}[mandatory] + bytes((0x0F, row.opcode))
    reg = row.digit if row.digit is not None else dice.choice(_FREE)
    if row.form == "m" or (row.form == "" and dice.random() < 0.5):
        code += bytes((0x80 | reg << 3 | (3 if a.bits32 else 7),))
        code += dice.choice((0, 0x10, 0x80, 0x100, 0xFF0, 0x1000)).to_bytes(a.size, "little")
    else:
        code += bytes((0xC0 | reg << 3 | dice.choice(_FREE),))
    return code + (bytes((dice.randrange(256),)) if row.imm else b"")


def media(a: Assembler, dice: Random) -> bytes:
    return compute(a, dice, _simple())


def defined(a: Assembler, dice: Random) -> bytes:
    return compute(a, dice, _defined())


def condition(a: Assembler, dice: Random) -> bytes:
    return a.near(bytes((0x0F, 0x80 | dice.randrange(16))), a.label(dice))


def short(a: Assembler, dice: Random) -> bytes:
    """Jcc, LOOP, JCXZ: to a label if one is in reach."""
    # Unicorn's own LOOPE and LOOPNE lose flags where ECX becomes zero: see ``loop_while``.
    return _short(a, dice, dice.choice((*range(0x70, 0x80), 0xE2, 0xE2, 0xE3)))


def loop_while(a: Assembler, dice: Random) -> bytes:
    """LOOPE, LOOPNE."""
    return _short(a, dice, dice.choice((0xE0, 0xE1)))


def _short(a: Assembler, dice: Random, opcode: int) -> bytes:
    prefix = b"\x67" if opcode >= 0xE0 and dice.random() < 0.3 else b""
    disp = a.label(dice) - (a.here + 2 + len(prefix))
    return prefix + bytes((opcode, disp & 0xFF if -128 <= disp <= 127 else 0))


def jump(a: Assembler, dice: Random) -> bytes:
    return a.near(b"\xe9", a.label(dice))


def call(a: Assembler, dice: Random) -> bytes:
    return a.near(b"\xe8", a.label(dice))


def ret(a: Assembler, dice: Random) -> bytes:
    return b"\xc3" if dice.random() < 0.8 else b"\xc2\x04\x00"


def indirect(a: Assembler, dice: Random) -> bytes:
    """MOV r, label; JMP or CALL r."""
    reg = dice.choice(_FREE)
    return bytes((0xB8 | reg,)) + a.offset(a.label(dice), CS) + bytes((0xFF, dice.choice((0xD0, 0xE0)) | reg))


def indirect_memory(a: Assembler, dice: Random) -> bytes:
    """MOV [m], label; JMP or CALL [m]."""
    place = a.memory(Random(7), 0)
    jump = a.memory(Random(7), dice.choice((2, 4)))
    return b"\xc7" + place + a.offset(a.label(dice), CS) + b"\xff" + jump


def push(a: Assembler, dice: Random) -> bytes:
    return dice.choice(
        (bytes((0x50 | dice.choice(_FREE),)), b"\x54", b"\x6a\x85", b"\x66\x50", b"\x9c", b"\xff" + a.memory(dice, 6))
    )


def pop(a: Assembler, dice: Random) -> bytes:
    return dice.choice(
        (bytes((0x58 | dice.choice(_FREE),)), b"\x66\x59", b"\x8f" + a.memory(dice, 0), b"\x9c\x9d", b"\x54\x5c")
    )


def frame(a: Assembler, dice: Random) -> bytes:
    """ENTER and LEAVE, or PUSHA and the stack pointer put back."""
    if dice.random() < 0.7:
        return (
            b"\xc8"
            + dice.choice((0, 4, 16)).to_bytes(2, "little")
            + b"\0"
            + dice.choice((b"\xc9", b"\x50\xc9", b"\x9c\x9d\xc9"))
        )
    return b"\x60\x61"


def string(a: Assembler, dice: Random) -> bytes:
    """Pointers and count, then a string instruction, repeated or not."""
    code = b""
    for reg, seg in ((6, DS), (7, ES)):
        code += bytes((0xB8 | reg,)) + a.offset(DATA + dice.randrange(0x180, 0x1200), seg)
    code += b"\xb9" + dice.choice((0, 1, 2, 3, 9, 40)).to_bytes(a.size, "little")
    prefix = dice.choice((b"", b"\xf3", b"\xf2", b"\xf3\x66"))
    return code + prefix + bytes((dice.choice((0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF)),))


def stray(a: Assembler, dice: Random) -> bytes:
    """An access where nothing is mapped, or beyond a limit: a fault in the middle of things, and the end."""
    if dice.random() < 0.5:
        return b""
    linear = dice.choice((DATA_END, DATA_END - 1, DATA - 4, DATA - 0x1000))
    address = a.offset(linear, DS)
    modrm = 5 if a.bits32 else 6
    register = dice.choice(_FREE) << 3
    opcode = dice.choice(
        (b"\x8b", b"\x89", b"\x01", b"\x87", b"\x0f\xb1", b"\x11", b"\x0f\x92", b"\xd1", b"\xff", b"\x8f", b"\x0f\xa3")
    )
    if opcode in (b"\xd1", b"\xff", b"\x8f"):
        register = {b"\xd1": 0x18, b"\xff": dice.choice((0x00, 0x30)), b"\x8f": 0}[opcode]
    code = opcode + bytes((register | modrm,)) + address
    return code + _AFTER_BT if opcode == b"\x0f\xa3" else code


def divide(a: Assembler, dice: Random) -> bytes:
    """A division that may fault."""
    return b"\xba" + bytes(a.size) + bytes((0xF7, dice.choice((0xF0, 0xF8)) | dice.choice((1, 5, 6, 7))))


def pad(a: Assembler, dice: Random) -> bytes:
    """Eight instructions of one byte, any of which may be replaced by another such."""
    a.pads.append(a.here)
    return bytes(dice.choice(_SINGLES) for _ in range(8))


_SINGLES = b"\x90\x40\x41\x42\x45\x46\x4a\x4d\x4e\x4f\x96\x98\x99\xf5\xf8\xf9\x9f"


def patch_immediate(a: Assembler, dice: Random) -> bytes:
    """MOV r, imm behind a store to that immediate: the next instruction changes."""
    opcode, value = dice.choice(((b"\xfe", b""), (b"\xd0", b""), (b"\xc6", b"\x5a")))
    store = a.alias + opcode + bytes((0x05 if a.bits32 else 0x06,))
    address = a.here + len(store) + a.size + len(value) + 1 + dice.randrange(2)
    return store + a.offset(address, CS) + value + bytes((0xB8 | dice.choice(_FREE),)) + dice.randbytes(a.size)


def patch_pad(a: Assembler, dice: Random) -> bytes:
    """A store into a pad: ahead, behind, or across the pages' boundary."""
    size = dice.choice((1, 1, 2, 4)) if a.bits32 else dice.choice((1, 1, 2))
    prefix = a.alias + (b"\x66" if size == 2 and a.bits32 else b"")
    store = prefix + (b"\xc6" if size == 1 else b"\xc7") + bytes((0x05 if a.bits32 else 0x06,))
    data = bytes(dice.choice(_SINGLES) for _ in range(size))
    return store + a.offset(a.some_pad(dice) + dice.randrange(9 - size), CS) + data


def patch_string(a: Assembler, dice: Random) -> bytes:
    """REP STOSB or REP MOVSB into a pad."""
    if not a.bits32:  # no alias by ES
        return patch_pad(a, dice)
    target = b"\xbf" + a.offset(a.some_pad(dice), ES)
    count = b"\xb9" + dice.choice((1, 2, 7, 8)).to_bytes(a.size, "little")
    if dice.random() < 0.5:
        return b"\xfc\xb0" + bytes((dice.choice(_SINGLES),)) + target + count + b"\xf3\xaa"
    return b"\xfc\xbe" + a.offset(a.some_pad(dice), ES) + target + count + b"\xf3\xa4"


def mixed(a: Assembler, dice: Random) -> bytes:
    """Data among the code: jump over a word, which is written."""
    store = a.alias + b"\x01" + bytes(((0x05 if a.bits32 else 0x06) | dice.choice(_FREE) << 3,))
    word = a.here + len(store) + a.size + 2
    return store + a.offset(word, CS) + b"\xeb\x04" + dice.randbytes(4)


Kind = Callable[[Assembler, Random], bytes]
COMPUTING: tuple[Kind, ...] = (
    compute, compute, compute, compute, compute, compute, media, media, condition, condition, condition, short,
    short, short, jump, call, call, ret, indirect, indirect_memory, push, pop, pop, frame, string, string, divide,
)  # fmt: skip
"""Programs that leave their own code alone."""
STEADY: tuple[Kind, ...] = (
    defined, defined, defined, defined, defined, defined, condition, condition, condition, short, short, short,
    loop_while, stray, jump, call, ret, indirect, indirect_memory, push, push, pop, pop, frame, string, string,
)  # fmt: skip
"""The same of instructions whose flags the manual defines, so that the real CPU can judge."""
VECTOR: tuple[Kind, ...] = (sse, sse, sse, sse, sse, sse, defined, defined, condition, short, loop_while, call, ret)
"""SSE's, among some whose flags are defined, for the real CPU to judge."""
CHANGING: tuple[Kind, ...] = (
    defined, defined, defined, defined, condition, condition, short, short, loop_while, stray, jump, call, ret,
    indirect, indirect_memory, push, pop, frame, string, patch_immediate, patch_immediate, patch_pad, patch_pad,
    patch_pad, mixed, patch_string, patch_string, pad, pad, pad, pad,
)  # fmt: skip
"""Programs that change themselves, for the real CPU to judge."""


def case(
    environment: Environment, kinds: Sequence[Kind], lines: Sequence[Line], seed: int, max_insns: int = 400
) -> Case:
    """The program of *lines* with registers, flags and media registers from *seed*."""
    dice = Random(seed)
    at = CODE + dice.choice((0x100, 0x3F0, 0xF80, 0xFF0))
    gpr = [dice.getrandbits(32) for _ in range(8)]
    gpr[1] = dice.choice((1, 2, 3, 9, 0x1_0003))
    gpr[3] = DATA + 0x400 - environment.segments[DS].base & 0xFFFF_FFFF
    gpr[4] = STACK + 0x800 - environment.segments[SS].base & 0xFFFF_FFFF
    st = tuple(0x3FFF << 64 | 1 << 63 | dice.getrandbits(63) for _ in range(4))
    fx = fx_image(st, tuple(dice.getrandbits(128) for _ in range(8)), fsw=4 << 11)
    flags = dice.getrandbits(12) & (layout.ARITHMETIC | layout.DF)
    program = Assembler(environment, kinds, lines, at)
    memory = ((STACK + 0x800, program.returns(dice)),)
    return Case(program.code, environment, tuple(gpr), flags, memory, at, fx, max_insns)
