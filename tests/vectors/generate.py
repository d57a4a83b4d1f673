"""Vectors from the rule table: instances of a row, encoded here, with a state in which they do something.

The encoder shares nothing with ``translator.decode``; operands are placed by solving for a register or a displacement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.support.state import (
    CODE,
    DATA,
    DATA_END,
    ENVIRONMENTS,
    FLAGS,
    STACK,
    Case,
    Environment,
    Outcome,
    Segment,
    differences,
    fx_image,
)
from tests.vectors import undefined
from translator import layout
from translator.layout import CS, DS, ES, SS
from translator.rules import UNDEFINED_X87, Row

SEGMENT_PREFIXES: Final = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
_PAIRS: Final = ((3, 6), (3, 7), (5, 6), (5, 7), (6, -1), (7, -1), (5, -1), (3, -1))
_EDGES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFFE)
_SIZES: Final = {"": 0, "b": 1, "w": 2, "d": 4, "q": 8, "o": 16, "t": 10, "s": 6, "x": 512}
_PUSHES: Final = frozenset(
    ("push_seg", "push_reg", "push_imm", "push_rm", "pusha", "pushf", "enter", "call", "call_rm")
)
SKIPPED: Final = frozenset(("rdtsc",))
"""Emitters whose result depends on time."""
_REAL_ONLY: Final = frozenset(("mov_to_seg", "pop_seg"))
"""In protected mode the VMM loads descriptors: another test's subject."""
_ALIGNED_16: Final = frozenset((0x28, 0x29, 0x2B, 0xE7))

DOUBLES: Final = (
    0.0,
    -0.0,
    1.0,
    -1.5,
    3.141592653589793,
    1e10,
    -2.5e-7,
    65536.0,
    255.75,
    float("inf"),
    2.0**62,
    -(2.0**31),
)


@dataclass(frozen=True, slots=True)
class Vector:
    """A case of one instruction, and what of its outcome is not defined."""

    row: Row
    case: Case
    flags_undefined: int
    """Flags not to compare."""
    result_undefined: bool
    """Compare nothing but EIP and the end."""
    memory_undefined: frozenset[int] = frozenset()
    """Linear addresses not to compare."""

    memory: bool = False
    """It has a ModRM memory operand."""
    reach: int = 0
    """The last offset of the memory operand: plain Unicorn does not check that it is inside the segment."""

    def differences(self, expected: Outcome, got: Outcome) -> list[str]:
        """What differs although it is defined, a line each."""
        if self.result_undefined:
            same = expected.end == got.end and expected.eip == got.eip
            return [] if same else [f"expected {expected.end} at {expected.eip:#x}, got {got.end} at {got.eip:#x}"]
        if self.memory_undefined:
            for outcome in (expected, got):
                outcome.memory = {at: b for at, b in outcome.memory.items() if at not in self.memory_undefined}
        return differences(self.case, expected, got, FLAGS & ~self.flags_undefined)


def extended(value: float) -> int:
    """*value* as an 80-bit extended real."""
    import struct

    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    sign, exponent, fraction = bits >> 63, bits >> 52 & 0x7FF, bits & (1 << 52) - 1
    if exponent == 0x7FF:
        return (sign << 15 | 0x7FFF) << 64 | 1 << 63 | fraction << 11
    if not exponent:
        return sign << 79
    return (sign << 15 | exponent - 1023 + 16383) << 64 | 1 << 63 | fraction << 11


class Maker:
    """Makes one vector: state in the making."""

    def __init__(self, row: Row, environment: Environment, dice: Random) -> None:
        self.row = row
        self.environment = environment
        self.dice = dice
        self.gpr = [self.number() for _ in range(8)]
        self.flags = sum(bit for bit in (1, 4, 0x10, 0x40, 0x80, 0x800) if dice.random() < 0.5)
        if dice.random() < 0.2:
            self.flags |= layout.DF
        self.memory: list[tuple[int, bytes]] = []
        self.at = CODE + dice.choice((0x100, 0x200, 0x3F0, 0xFF8))
        self.fx = b""
        self.operand_at = 0
        self.reach = 0
        self.refused = False
        self.set_stack()

    # Values --------------------------------------------------------------------------------------------

    def number(self) -> int:
        dice = self.dice
        return dice.choice(_EDGES) if dice.random() < 0.4 else dice.randrange(1 << dice.choice((4, 8, 16, 32, 32)))

    def base(self, seg: int) -> int:
        return self.environment.segments[seg].base

    def set_stack(self) -> None:
        """A stack pointer inside the stack's window, seldom at its edge."""
        dice, segment = self.dice, self.environment.segments[SS]
        edges: tuple[int, ...] = (0, 1, 2, 4, 6, 0xFFC, 0xFFF)
        if segment.limit == 0xFFFF:  # see test_deviations: no operand lies across the end of 64 KiB
            edges = (0, 4, 8, 0xFFC, 0xFFFC, 0xFFF8)
        linear = STACK + dice.choice((0x100, 0x804, 0x805, 0xF00, 0xC80) if dice.random() < 0.8 else edges)
        offset = linear - segment.base & 0xFFFF_FFFF
        self.gpr[4] = offset if self.environment.stack32 else self.gpr[4] & 0xFFFF_0000 | offset & 0xFFFF

    @property
    def stack_linear(self) -> int:
        mask = 0xFFFF_FFFF if self.environment.stack32 else 0xFFFF
        return (self.gpr[4] & mask) + self.base(SS) & 0xFFFF_FFFF

    def patch(self, linear: int, data: bytes) -> None:
        """Put *data* into memory where it is mapped whole; elsewhere the noise stays."""
        for start, end in (
            (CODE + 0x1000, CODE + 0x2000),
            (DATA, DATA_END),
            (0x3_F000, 0x4_0000),
            (STACK, STACK + 0x1000),
            (0x4_F000, 0x5_0000),
        ):
            if start <= linear and linear + len(data) <= end:
                self.memory.append((linear, data))

    def place(self, seg: int, size: int, adsize: int) -> int:
        """An offset in *seg* for an operand: mostly where it is allowed, now and then at an edge."""
        dice, segment = self.dice, self.environment.segments[seg]
        if self._stack_only(segment):
            choices = [STACK + dice.randrange(0x200, 0xE00, 4)]
        elif segment.code and segment.base == CODE:
            choices = [CODE + dice.randrange(0x1200, 0x1E00)]
        else:
            choices = [DATA + dice.randrange(0x110, 0x2C00)]
        roll = dice.random()
        if size == 16 and (self.row.opcode in _ALIGNED_16 or self.row.prefixes):
            return (choices[0] & ~15) - segment.base & 0xFFFF_FFFF
        if self.row.map == 1 and size == 512:
            return (DATA + 0x400) - segment.base & 0xFFFF_FFFF
        if roll < 0.12:
            choices = [DATA + 0x1000 - dice.randrange(1, 8), DATA + 0x2000 - dice.randrange(1, 8)]
        elif roll < 0.18:
            choices = [DATA_END - dice.randrange(1, 10), DATA - dice.randrange(1, 9)]
        elif roll < 0.27 and segment.limit < 0xFFFF:
            return segment.limit + 1 - dice.randrange(0, size + 3) & (0xFFFF if adsize == 2 else 0xFFFF_FFFF)
        elif roll < 0.27 and segment.limit == 0xFFFF:
            if adsize == 4:
                return dice.choice((0, 1, 0xFFFF, 0xFFFE, 0x1_0000 - size, 0x1_0001 - size, 0x1_0000, 0xFFFF_FFFF))
            return dice.choice((0, 1, 0x1_0000 - size, 0xFFFF - size))
        offset = dice.choice(choices) - segment.base & 0xFFFF_FFFF
        if adsize == 2 and offset > 0x1_0000 - size:
            offset &= 0x7FFF
        return offset

    @staticmethod
    def _stack_only(segment: Segment) -> bool:
        return segment.base == STACK

    # Encoding ------------------------------------------------------------------------------------------

    def operand(
        self, adsize: int, size: int, free_stack: bool, offset: int = -1, override: int = -1
    ) -> tuple[int, bytes, int, int]:
        """(mod and rm, SIB and displacement, segment, offset) of a memory operand; registers are set to reach it."""
        found = (self._operand32 if adsize == 4 else self._operand16)(size, free_stack, offset, override)
        self.reach = max(self.reach, found[3] + max(size, 1) - 1)
        self.refused |= self.reach > 0xFFFF_FFFF
        return found

    def _operand16(self, size: int, free_stack: bool, offset: int, override: int) -> tuple[int, bytes, int, int]:
        dice = self.dice
        mod, rm = dice.randrange(3), dice.randrange(8)
        base, index = _PAIRS[rm]
        absolute = mod == 0 and rm == 6
        seg = override if override >= 0 else SS if base == 5 and not absolute else DS
        offset = offset if offset >= 0 else self.place(seg, size, 2)
        offset &= 0xFFFF
        if absolute:
            return 0x06, offset.to_bytes(2, "little"), seg, offset
        disp, rest = 0, b""
        if mod:
            rest = dice.randbytes(mod)
            disp = int.from_bytes(rest, "little", signed=True)
        others = disp + (self.gpr[index] if index >= 0 else 0)
        self.gpr[base] = self.gpr[base] & 0xFFFF_0000 | offset - others & 0xFFFF
        return mod << 6 | rm, rest, seg, offset

    def _operand32(self, size: int, free_stack: bool, offset: int, override: int) -> tuple[int, bytes, int, int]:
        dice = self.dice
        mod, rm = dice.randrange(3), dice.randrange(8)
        scale = base = index = 0
        index = -1
        sib = b""
        if rm == 4:
            scale, number, base = dice.randrange(4), dice.randrange(8), dice.choice((0, 1, 2, 3, 4, 4, 5, 6, 7))
            index = -1 if number == 4 else number
            sib = bytes((scale << 6 | number << 3 | base,))
        else:
            base = rm
        absolute = mod == 0 and base == 5
        if base == 4 and not free_stack:
            mod = 2
        if index == base and mod != 2 and not absolute:
            mod = 2  # one equation, but not always a solution
        seg = override if override >= 0 else SS if base in (4, 5) and not absolute else DS
        if offset < 0:
            offset = self.place(seg, size, 4)
        scaled = self.gpr[index] << scale if index >= 0 else 0
        width = 4 if mod == 2 or absolute else mod
        if width == 4:
            disp = offset - scaled - (0 if absolute else self.gpr[base])
            rest = (disp & 0xFFFF_FFFF).to_bytes(4, "little")
        else:
            rest = dice.randbytes(width)
            self.gpr[base] = offset - scaled - int.from_bytes(rest, "little", signed=True) & 0xFFFF_FFFF
        return mod << 6 | rm, sib + rest, seg, offset

    def operand_value(self, size: int) -> bytes:
        """Bytes for a memory operand: numbers that matter to its instruction."""
        dice, row = self.dice, self.row
        if 0xD8 <= row.opcode <= 0xDF and not row.map and row.name[:2] != "FI" and row.name[:3] not in ("FBL",):
            import struct

            value = dice.choice(DOUBLES)
            if size == 4:
                return struct.pack("<f", value)
            if size == 8:
                return struct.pack("<d", value)
            if size == 10:
                return extended(value).to_bytes(10, "little")
        if row.name == "FXRSTOR":
            self.set_fx()
            return self.fx[:288] + bytes(224)
        if row.name == "LDMXCSR":
            return (dice.getrandbits(16) & 0xFFBF).to_bytes(4, "little")
        if row.name in ("FLDCW", "FLDENV", "FRSTOR"):  # reserved bits, which Unicorn keeps
            return (dice.getrandbits(13) & 0x1F3F | 0x40).to_bytes(2, "little") + dice.randbytes(size - 2)
        if row.name == "FBLD":
            return bytes(dice.randrange(10) << 4 | dice.randrange(10) for _ in range(9)) + dice.choice((b"\0", b"\x80"))
        if (row.map and size == 16) or row.prefixes:
            return self.vector()[:size].ljust(size, b"\0")
        return self.number().to_bytes(4, "little")[:size] if size <= 4 else dice.randbytes(size)

    def vector(self) -> bytes:
        """Sixteen bytes for an SSE register: floats, doubles or noise."""
        import struct

        dice = self.dice
        kind = dice.randrange(3)
        if kind == 0:
            return struct.pack("<4f", *(dice.choice(DOUBLES) for _ in range(4)))
        if kind == 1:
            return struct.pack("<2d", *(dice.choice(DOUBLES) for _ in range(2)))
        return dice.randbytes(16)

    def set_fx(self) -> None:
        """Registers of x87, MMX and SSE that are not all zero."""
        dice = self.dice
        media = self.row.map == 1
        # Unicorn does not check for empty registers, so that only the top one is empty.
        depth = 8 if media else 7
        top = dice.randrange(8) if not media else 0
        st = [extended(dice.choice(DOUBLES)) for _ in range(depth)]
        if media:
            st = [0xFFFF << 64 | dice.getrandbits(64) for _ in range(8)]
        xmm = tuple(int.from_bytes(self.vector(), "little") for _ in range(8))
        constants = self.row.name == "FLD1..FLDZ"  # Unicorn does not round them as the control word says
        control = 0x37F if media or constants else dice.choice((0x37F, 0x37F, 0x27F, 0x77F, 0xB7F, 0xF7F))
        self.fx = fx_image(tuple(st), xmm, control, top << 11)

    def make(self, form: str) -> Vector | None:
        """A vector with a memory ("m") or register ("r") operand, or "" without ModRM; None if there is none."""
        row, dice, environment = self.row, self.dice, self.environment
        how = row.how or "ident"
        if how in _REAL_ONLY and not (environment.real or environment.v86):
            return None
        prefixes: list[int] = []
        wide = environment.code32
        if row.prefixes:
            mandatory = dice.choice(row.prefixes)
            if mandatory != ".":
                prefixes.append({"6": 0x66, "3": 0xF3, "2": 0xF2}[mandatory])
        elif dice.random() < (0.35 if environment.code32 else 0.45):
            prefixes.append(0x66)
        opsize = 4 if wide ^ (0x66 in prefixes) else 2
        if (
            how in ("jcc", "jmp", "call", "loop", "ret", "jmp_rm", "call_rm")
            and 0x66 in prefixes
            and environment.code32
        ):
            if environment.segments[CS].base != CODE:
                prefixes.remove(0x66)
                opsize = 4
        adsize = 4 if wide else 2
        other_address = not environment.segmented and dice.random() > 0.05
        if (
            (form == "m" or how in ("mov_moffs", "string", "xlat", "maskmov", "loop"))
            and not other_address
            and dice.random() < 0.35
        ):
            prefixes.append(0x67)
            adsize = 6 - adsize
        override = -1
        if (form == "m" or how in ("mov_moffs", "string", "xlat", "maskmov")) and dice.random() < 0.35:
            # Plain Unicorn checks no rights: a store by CS is left to the real CPU.
            override = dice.choice((0, 2, 3, 4, 5)) if environment.name == "flat32" else dice.randrange(6)
            prefixes.append(SEGMENT_PREFIXES[override])
        if row.lock and form == "m" and dice.random() < 0.25:
            prefixes.append(0xF0)
        if how == "string" and dice.random() < 0.5:
            prefixes.append(dice.choice((0xF2, 0xF3)))
        if not row.prefixes:
            dice.shuffle(prefixes)
        if (0xD8 <= row.opcode <= 0xDF and not row.map) or row.prefixes or row.opcode in (0xAE, 0x77):
            self.set_fx()
        opcode = (b"\x0f" if row.map else b"") + bytes((row.opcode,))
        body = getattr(self, "_" + how, self._plain)(form, opcode, opsize, adsize, override, prefixes)
        if body is None:
            return None
        code = bytes(prefixes) + body
        if len(code) > 15 or self.refused:
            return None
        self._after_placement(how, opsize, len(code))
        case = Case(code, environment, tuple(self.gpr), self.flags, tuple(self.memory), self.at, self.fx, max_insns=300)
        count = self._count(body)
        bits = 8 if row.size == "b" else 8 * opsize
        mask = undefined.flags(row.name, count, bits)
        unknown = frozenset(self.operand_at + n & 0xFFFF_FFFF for n in undefined.memory(row.name, opsize))
        return Vector(
            row, case, mask, undefined.result(row.name, count, bits, opsize), unknown, form == "m", self.reach
        )

    def _count(self, body: bytes) -> int | None:
        row = self.row
        if row.name not in undefined.OF_UNLESS_ONE:
            return None
        if row.map:
            return (body[-1] if row.opcode in (0xA4, 0xAC) else self.gpr[1]) & 31
        return {0xC0: body[-1], 0xD0: 1, 0xD2: self.gpr[1]}[row.opcode & 0xFE] & 31

    # Bodies --------------------------------------------------------------------------------------------

    def _immediate(self, opsize: int, adsize: int) -> bytes:
        dice, kind = self.dice, self.row.imm
        if not kind:
            return b""
        size = {"b": 1, "w": 2, "z": opsize, "a": adsize, "e": 3}[kind]
        return self.number().to_bytes(4, "little")[:size] if dice.random() < 0.6 else dice.randbytes(size)

    def _size(self, opsize: int) -> int:
        size = self.row.size
        return (
            _SIZES[size]
            if size in _SIZES
            else {"v": opsize, "e": 7 * opsize, "n": 80 + 7 * opsize, "a": 2 * opsize}.get(size, 6)
        )

    def _plain(
        self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]
    ) -> bytes | None:
        row, dice = self.row, self.dice
        if not row.modrm:
            return opcode + self._immediate(opsize, adsize)
        reg = dice.randrange(8) if row.digit is None else row.digit
        if form == "r":
            numbered = 0xD8 <= row.opcode <= 0xDF and not row.map and (row.opcode, reg) not in ((0xD9, 4), (0xDB, 4))
            last = 7 if numbered and (row.opcode, reg) not in ((0xD9, 5), (0xD9, 6), (0xD9, 7)) else 8
            choices = [
                m
                for m in range(0xC0 | reg << 3, (0xC0 | reg << 3) + last)
                if (row.opcode, m) not in UNDEFINED_X87 or row.map
            ]
            return opcode + bytes((dice.choice(choices),)) + self._immediate(opsize, adsize) if choices else None
        uses_stack = (row.how or "") in _PUSHES or row.how in ("pop_rm",)
        size = self._size(opsize)
        rm, rest, seg, offset = self.operand(adsize, max(size, 1), not uses_stack, override=override)
        self.operand_at = offset + self.base(seg) & 0xFFFF_FFFF
        self.patch(self.operand_at, self.operand_value(size))
        return opcode + bytes((rm | reg << 3,)) + rest + self._immediate(opsize, adsize)

    def _bt_reg(
        self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]
    ) -> bytes | None:
        reg = self.dice.randrange(8)
        if form == "r":
            return opcode + bytes((0xC0 | reg << 3 | self.dice.randrange(8),))
        bit = self.dice.randrange(-700, 700)
        self.gpr[reg] = bit & 0xFFFF_FFFF if opsize == 4 else self.gpr[reg] & 0xFFFF_0000 | bit & 0xFFFF
        saved = self.gpr[reg]
        rm, rest, _, _ = self.operand(adsize, 4, True, override=override)
        if self.gpr[reg] != saved:
            return None
        return opcode + bytes((rm | reg << 3,)) + rest

    def _mov_moffs(
        self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]
    ) -> bytes:
        offset = self.place(override if override >= 0 else DS, self._size(opsize), adsize)
        return opcode + (offset & (1 << 8 * adsize) - 1).to_bytes(adsize, "little")

    def _xlat(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        offset = self.place(override if override >= 0 else DS, 1, adsize) - (self.gpr[0] & 0xFF)
        self.gpr[3] = offset & 0xFFFF_FFFF if adsize == 4 else self.gpr[3] & 0xFFFF_0000 | offset & 0xFFFF
        return opcode

    def _pointer(self, reg: int, seg: int, size: int, adsize: int) -> None:
        offset = self.place(seg, size, adsize)
        self.gpr[reg] = offset if adsize == 4 else self.gpr[reg] & 0xFFFF_0000 | offset & 0xFFFF

    def _string(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        size = self._size(opsize)
        if self.dice.random() < 0.5:
            self.flags ^= layout.DF
        self._pointer(6, override if override >= 0 else DS, size, adsize)
        self._pointer(7, ES, size, adsize)
        count = self.dice.choice((0, 1, 2, 3, 5, 17))
        self.gpr[1] = count if adsize == 4 else self.gpr[1] & 0xFFFF_0000 | count
        if self.dice.random() < 0.5:  # something to find, something to be equal
            byte = bytes((self.gpr[0] & 0xFF,))
            for reg, seg in ((6, override if override >= 0 else DS), (7, ES)):
                start = (self.gpr[reg] & (0xFFFF if adsize == 2 else 0xFFFF_FFFF)) + self.base(seg) & 0xFFFF_FFFF
                self.patch(start - 64, byte * 128)
        return opcode

    def _maskmov(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        self._pointer(7, override if override >= 0 else DS, 16 if 0x66 in prefixes else 8, adsize)
        return opcode + bytes((0xC0 | self.dice.randrange(64),))

    def _mov_from_seg(
        self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]
    ) -> bytes | None:
        if self.environment.name == "flat32" or (0x66 in prefixes and form == "r"):
            return None
        reg = self.dice.randrange(6)
        if form == "r":
            return opcode + bytes((0xC0 | reg << 3 | self.dice.randrange(8),))
        rm, rest, _, _ = self.operand(adsize, 2, True, override=override)
        return opcode + bytes((rm | reg << 3,)) + rest

    def _push_seg(
        self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]
    ) -> bytes | None:
        return None if self.environment.name == "flat32" else opcode

    def _mov_to_seg(
        self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]
    ) -> bytes | None:
        reg = self.dice.choice((0, 2, 3, 4, 5))
        selector = self.dice.choice((0x3000, 0x3010, 0x3123, 0x4000, 0x2800))
        if form == "r":
            rm = self.dice.randrange(8)
            self.gpr[rm] = self.gpr[rm] & 0xFFFF_0000 | selector
            return opcode + bytes((0xC0 | reg << 3 | rm,))
        rm, rest, seg, offset = self.operand(adsize, 2, True, override=override)
        self.patch(offset + self.base(seg), selector.to_bytes(2, "little"))
        return opcode + bytes((rm | reg << 3,)) + rest

    def _pop_seg(
        self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]
    ) -> bytes | None:
        self.patch(self.stack_linear, self.dice.choice((0x3000, 0x3010, 0x3123, 0x4000)).to_bytes(4, "little"))
        return opcode

    def _popf(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        value = self.dice.getrandbits(32) & 0xFD5 | 0x202
        value &= ~layout.TF
        if self.dice.random() < 0.3:
            value |= self.dice.choice((layout.NT, layout.ID))
        if not self.environment.user:
            value |= 0x200
        self.patch(self.stack_linear, value.to_bytes(4, "little"))
        return opcode

    def _enter(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        level = self.dice.choice((0, 0, 0, 0, 1, 2, 5, 31, 32, 33))
        return opcode + self.dice.choice((0, 4, 8, 100, 0x80, 0x1234)).to_bytes(2, "little") + bytes((level,))

    def _leave(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        self.gpr[5] = self.gpr[4] if self.environment.stack32 else self.gpr[5] & 0xFFFF_0000 | self.gpr[4] & 0xFFFF
        self.gpr[4] = self.number()
        return opcode

    # Branches ------------------------------------------------------------------------------------------

    def _target(self) -> int:
        """A linear address in the code's window, which is full of HLT."""
        return CODE + self.dice.choice((0, 0x10, 0x80, 0x180, 0x7FF, 0xFFF, 0x1000, 0x1001, 0x1800))

    def _relative(self, opcode: bytes, opsize: int, length: int) -> bytes:
        """Opcode and displacement to a target; *length* is that of the prefixes."""
        if self.row.imm == "b":
            return opcode + bytes((self.dice.choice((0, 1, 5, 0x40, 0x7F, 0x80, 0xC0, 0xF0)),))
        after = self.at + length + len(opcode) + opsize
        return opcode + (self._target() - after & (1 << 8 * opsize) - 1).to_bytes(opsize, "little")

    def _jcc(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        return self._relative(opcode, opsize, len(prefixes))

    _jmp = _call = _jcc

    def _loop(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        self.gpr[1] = self.dice.choice((0, 1, 2, 0x1_0000, 0x1_0001, 0xFFFF_0000, 0xFFFF_FFFF))
        return self._relative(opcode, opsize, len(prefixes))

    def _ret(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        self.patch(
            self.stack_linear, (self._target() - self.base(CS) & (1 << 8 * opsize) - 1).to_bytes(opsize, "little")
        )
        return opcode + self._immediate(opsize, adsize)

    def _jmp_rm(self, form: str, opcode: bytes, opsize: int, adsize: int, override: int, prefixes: list[int]) -> bytes:
        target = self._target() - self.base(CS) & 0xFFFF_FFFF
        assert self.row.digit is not None
        if form == "r":
            rm = self.dice.randrange(8)
            if rm == 4 and self.environment.segmented:
                return None
            self.gpr[rm] = target if opsize == 4 else self.gpr[rm] & 0xFFFF_0000 | target & 0xFFFF
            return opcode + bytes((0xC0 | self.row.digit << 3 | rm,))
        rm, rest, seg, offset = self.operand(adsize, opsize, self.row.how == "jmp_rm", override=override)
        self.patch(offset + self.base(seg) & 0xFFFF_FFFF, target.to_bytes(4, "little")[:opsize])
        return opcode + bytes((rm | self.row.digit << 3,)) + rest

    _call_rm = _jmp_rm

    def _after_placement(self, how: str, opsize: int, length: int) -> None:
        if self.row.name in ("DIV", "IDIV") and self.dice.random() < 0.7:
            self.gpr[2] = 0 if self.dice.random() < 0.7 else self.dice.randrange(3)
            self.gpr[0] &= 0x7FFF if self.row.size == "b" and self.dice.random() < 0.5 else 0xFFFF_FFFF


def vectors(row: Row, environment: Environment, count: int, salt: str = "") -> Iterator[Vector]:
    """*count* vectors of each form of *row*."""
    if row.how in SKIPPED:
        return
    forms = ("m", "r") if row.modrm and not row.form else (row.form,) if row.modrm else ("",)
    for form in forms:
        for n in range(count):
            vector = Maker(
                row, environment, Random(f"{row.map}{row.key}{row.prefixes}{environment.name}{form}{n}{salt}")
            ).make(form)
            if vector is not None:
                yield vector


__all__ = ["ENVIRONMENTS", "Vector", "vectors"]
