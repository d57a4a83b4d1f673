"""Vectors from the rule table: instances of a row, encoded here, with a state in which they do something.

The encoder shares nothing with ``translator.decode``; operands are placed by solving for a register or a displacement.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

from tests.support.state import (
    CODE,
    DATA,
    DATA_END,
    ENVIRONMENTS,
    STACK,
    Case,
    Environment,
    Segment,
    fx_image,
)
from tests.vectors import system, undefined
from tests.vectors.far import FarBodies, left_out
from tests.vectors.vector import DOUBLES, Vector, extended
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
_BY_ADDRESS: Final = frozenset(("mov_moffs", "string", "xlat", "maskmov"))
"""Emitters with a memory operand of no ModRM byte."""
_NOISE: Final = tuple(Random(16).randbytes(16) for _ in range(64))
"""Few, so that the recorded vectors are small."""
_ALIGNED_16: Final = frozenset((0x28, 0x29, 0x2B, 0xE7))


PRELUDES: Final = (b"", b"\x3c\x55", b"\x83\xf8\x55", b"\x83\xc4\x00", b"\x44\x4c", b"\xf9")
"""Nothing, CMP AL, CMP (E)AX, ADD (E)SP,0, INC and DEC (E)SP, STC: Unicorn keeps the flags of each in another form."""


class Ask(NamedTuple):
    """What an instance of a row is to be."""

    form: str
    """"m", "r" or ""."""
    opcode: bytes
    opsize: int
    adsize: int
    override: int
    """Segment of the prefix, or -1."""
    prefixes: list[int]


class Maker(FarBodies):
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
        self.prelude = dice.choice(PRELUDES)
        self.at = CODE + dice.choice((0x100, 0x200, 0x3F0, 0xFF8)) + len(self.prelude)
        self.postlude = b""
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
        if segment.limit == 0xFFFF or (
            segment.base == STACK and segment.limit == 0xFFFF_FFFF
        ):  # see test_deviations: no operand lies across the end of 64 KiB
            edges = (0, 4, 8, 0xFFC, 0xFFFC, 0xFFF8)
        linear = STACK + dice.choice((0x100, 0x804, 0x805, 0xF00, 0xC80) if dice.random() < 0.8 else edges)
        offset = linear - segment.base & 0xFFFF_FFFF
        self.gpr[4] = offset if self.environment.stack32 else self.gpr[4] & 0xFFFF_0000 | offset & 0xFFFF

    @property
    def stack_linear(self) -> int:
        mask = 0xFFFF_FFFF if self.environment.stack32 else 0xFFFF
        return (self.gpr[4] & mask) + self.base(SS) & 0xFFFF_FFFF

    def patch(self, linear: int, data: bytes) -> bool:
        """Put *data* into memory where it is mapped whole; elsewhere the noise stays (False)."""
        for start, end in (
            (CODE + 0x1000, CODE + 0x2000),
            (DATA, DATA_END),
            (0x3_F000, 0x4_0000),
            (STACK, STACK + 0x1000),
            (0x4_F000, 0x5_0000),
        ):
            if start <= linear and linear + len(data) <= end:
                self.memory.append((linear, data))
                return True
        return False

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
        self.note_reach(found[3], size)
        return found

    def note_reach(self, offset: int, size: int) -> None:
        """An operand of *size* bytes stands at *offset*; none lies across the end of 4 GiB."""
        self.reach = max(self.reach, offset + max(size, 1) - 1)
        self.refused |= self.reach > 0xFFFF_FFFF

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
        if 0xD8 <= row.opcode <= 0xDF and not row.map and row.name[:2] != "FI" and row.name[:3] != "FBL":
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
            return (dice.getrandbits(13) & 0x1F3F | 0x40).to_bytes(2, "little") + (dice.choice(_NOISE) * 7)[: size - 2]
        if row.name == "FBLD":
            return bytes(dice.randrange(10) << 4 | dice.randrange(10) for _ in range(9)) + dice.choice((b"\0", b"\x80"))
        if (row.map and size == 16) or row.prefixes:
            return self.vector()[:size].ljust(size, b"\0")
        return self.number().to_bytes(4, "little")[:size] if size <= 4 else (dice.choice(_NOISE) * 32)[:size]

    def vector(self) -> bytes:
        """Sixteen bytes for an SSE register: floats, doubles or noise."""
        import struct

        dice = self.dice
        kind = dice.randrange(3)
        if kind == 0:
            return struct.pack("<4f", *(dice.choice(DOUBLES) for _ in range(4)))
        if kind == 1:
            return struct.pack("<2d", *(dice.choice(DOUBLES) for _ in range(2)))
        return dice.choice(_NOISE)

    def set_fx(self) -> None:
        """Registers of x87, MMX and SSE that are not all zero."""
        dice = self.dice
        media = self.row.map == 1
        # Unicorn does not check for empty registers, so that only the top one is empty.
        depth = 8 if media else 7
        top = dice.randrange(8) if not media else 0
        st = [extended(dice.choice(DOUBLES)) for _ in range(depth)]
        if media:
            st = [0xFFFF << 64 | int.from_bytes(dice.choice(_NOISE)[:8], "little") for _ in range(8)]
        xmm = tuple(int.from_bytes(self.vector(), "little") for _ in range(8))
        constants = self.row.name == "FLD1..FLDZ"  # Unicorn does not round them as the control word says
        control = 0x37F if media or constants else dice.choice((0x37F, 0x37F, 0x27F, 0x77F, 0xB7F, 0xF7F))
        self.fx = fx_image(tuple(st), xmm, control, top << 11)

    def make(self, form: str) -> Vector | None:
        """A vector with a memory ("m") or register ("r") operand, or "" without ModRM; None if there is none."""
        row, dice, environment = self.row, self.dice, self.environment
        how = row.how or "ident"
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
        ) and environment.segments[CS].base != CODE:
            prefixes.remove(0x66)
            opsize = 4
        adsize = 4 if wide else 2
        other_address = not environment.segmented and dice.random() > 0.05
        if (form == "m" or how in _BY_ADDRESS or how == "loop") and not other_address and dice.random() < 0.35:
            prefixes.append(0x67)
            adsize = 6 - adsize
        override = -1
        if (form == "m" or how in _BY_ADDRESS) and dice.random() < 0.35:
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
        self.soften_division()
        opcode = (b"\x0f" if row.map else b"") + bytes((row.opcode,))
        body = getattr(self, "_" + how, self._plain)(Ask(form, opcode, opsize, adsize, override, prefixes))
        if body is None:
            return None
        code = bytes(prefixes) + body + self.postlude
        if len(code) - len(self.postlude) > 15 or self.refused:
            return None
        start = self.at - len(self.prelude)
        memory = tuple(self.memory)
        case = Case(
            self.prelude + code, environment, tuple(self.gpr), self.flags, memory, start, self.fx, max_insns=300
        )
        count = self._count(body)
        bits = 8 if row.size == "b" else 8 * opsize
        mask = undefined.flags(row.name, count, bits)
        unknown = frozenset(self.operand_at + n & 0xFFFF_FFFF for n in undefined.memory(row.name, opsize))
        return Vector(
            row,
            case,
            mask,
            undefined.result(row.name, count, bits, opsize),
            unknown,
            form == "m",
            self.reach,
            len(self.prelude),
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

    def _plain(self, ask: Ask) -> bytes | None:
        row, dice = self.row, self.dice
        if not row.modrm:
            return ask.opcode + self._immediate(ask.opsize, ask.adsize)
        reg = dice.randrange(8) if row.digit is None else row.digit
        if ask.form == "r":
            numbered = 0xD8 <= row.opcode <= 0xDF and not row.map and (row.opcode, reg) not in ((0xD9, 4), (0xDB, 4))
            last = 7 if numbered and (row.opcode, reg) not in ((0xD9, 5), (0xD9, 6), (0xD9, 7)) else 8
            choices = [
                m
                for m in range(0xC0 | reg << 3, (0xC0 | reg << 3) + last)
                if (row.opcode, m) not in UNDEFINED_X87 or row.map
            ]
            return (
                ask.opcode + bytes((dice.choice(choices),)) + self._immediate(ask.opsize, ask.adsize)
                if choices
                else None
            )
        uses_stack = (row.how or "") in _PUSHES or row.how == "pop_rm"
        size = self._size(ask.opsize)
        rm, rest, seg, offset = self.operand(ask.adsize, max(size, 1), not uses_stack, override=ask.override)
        self.operand_at = offset + self.base(seg) & 0xFFFF_FFFF
        placed = self.patch(self.operand_at, self.operand_value(size))
        self.refused |= not placed and row.name in ("FLDENV", "FRSTOR", "FXRSTOR", "LDMXCSR", "FLDCW")
        return ask.opcode + bytes((rm | reg << 3,)) + rest + self._immediate(ask.opsize, ask.adsize)

    def _bt_reg(self, ask: Ask) -> bytes | None:
        reg = self.dice.randrange(8)
        if ask.form == "r":
            return ask.opcode + bytes((0xC0 | reg << 3 | self.dice.randrange(8),))
        bit = self.dice.randrange(-700, 700)
        self.gpr[reg] = bit & 0xFFFF_FFFF if ask.opsize == 4 else self.gpr[reg] & 0xFFFF_0000 | bit & 0xFFFF
        saved = self.gpr[reg]
        rm, rest, _, _ = self.operand(ask.adsize, 4, True, override=ask.override)
        if self.gpr[reg] != saved:
            return None
        return ask.opcode + bytes((rm | reg << 3,)) + rest

    def _mov_moffs(self, ask: Ask) -> bytes:
        offset = self.place(ask.override if ask.override >= 0 else DS, self._size(ask.opsize), ask.adsize)
        self.note_reach(offset, self._size(ask.opsize))
        return ask.opcode + (offset & (1 << 8 * ask.adsize) - 1).to_bytes(ask.adsize, "little")

    def _xlat(self, ask: Ask) -> bytes:
        offset = self.place(ask.override if ask.override >= 0 else DS, 1, ask.adsize)
        self.note_reach(offset, 1)
        offset -= self.gpr[0] & 0xFF
        self.gpr[3] = offset & 0xFFFF_FFFF if ask.adsize == 4 else self.gpr[3] & 0xFFFF_0000 | offset & 0xFFFF
        return ask.opcode

    def _pointer(self, reg: int, seg: int, size: int, adsize: int) -> None:
        offset = self.place(seg, size, adsize)
        self.note_reach(offset, size)
        self.gpr[reg] = offset if adsize == 4 else self.gpr[reg] & 0xFFFF_0000 | offset & 0xFFFF

    def _string(self, ask: Ask) -> bytes:
        size = self._size(ask.opsize)
        if self.dice.random() < 0.5:
            self.flags ^= layout.DF
        self._pointer(6, ask.override if ask.override >= 0 else DS, size, ask.adsize)
        self._pointer(7, ES, size, ask.adsize)
        count = self.dice.choice((0, 1, 2, 3, 5, 17))
        self.gpr[1] = count if ask.adsize == 4 else self.gpr[1] & 0xFFFF_0000 | count
        if self.dice.random() < 0.5:  # something to find, something to be equal
            byte = bytes((self.gpr[0] & 0xFF,))
            for reg, seg in ((6, ask.override if ask.override >= 0 else DS), (7, ES)):
                start = (self.gpr[reg] & (0xFFFF if ask.adsize == 2 else 0xFFFF_FFFF)) + self.base(seg) & 0xFFFF_FFFF
                self.patch(start - 64, byte * 128)
        return ask.opcode

    def _maskmov(self, ask: Ask) -> bytes:
        self._pointer(7, ask.override if ask.override >= 0 else DS, 16 if 0x66 in ask.prefixes else 8, ask.adsize)
        return ask.opcode + bytes((0xC0 | self.dice.randrange(64),))

    def _mov_from_seg(self, ask: Ask) -> bytes | None:
        if self.environment.name == "flat32" or (0x66 in ask.prefixes and ask.form == "r"):
            return None
        reg = self.dice.randrange(6)
        if ask.form == "r":
            return ask.opcode + bytes((0xC0 | reg << 3 | self.dice.randrange(8),))
        rm, rest, _, _ = self.operand(ask.adsize, 2, True, override=ask.override)
        return ask.opcode + bytes((rm | reg << 3,)) + rest

    def _push_seg(self, ask: Ask) -> bytes | None:
        return None if self.environment.name == "flat32" else ask.opcode

    def _popf(self, ask: Ask) -> bytes:
        value = self.dice.getrandbits(32) & 0xFD5 | 0x202
        value &= ~layout.TF
        if self.dice.random() < 0.3:
            value |= self.dice.choice((layout.NT, layout.ID))
        if not self.environment.user:
            value |= 0x200
        self.patch(self.stack_linear, value.to_bytes(4, "little"))
        return ask.opcode

    def _enter(self, ask: Ask) -> bytes:
        level = self.dice.choice((0, 0, 0, 0, 1, 2, 5, 31, 32, 33))
        offset = STACK + 0x800 - self.base(SS) & 0xFFFF_FFFF
        self.gpr[5] = offset if self.environment.stack32 else self.gpr[5] & 0xFFFF_0000 | offset & 0xFFFF
        return ask.opcode + self.dice.choice((0, 4, 8, 100, 0x80, 0x1234)).to_bytes(2, "little") + bytes((level,))

    def _leave(self, ask: Ask) -> bytes:
        self.gpr[5] = self.gpr[4] if self.environment.stack32 else self.gpr[5] & 0xFFFF_0000 | self.gpr[4] & 0xFFFF
        self.gpr[4] = self.number()
        return ask.opcode

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

    def _jcc(self, ask: Ask) -> bytes:
        return self._relative(ask.opcode, ask.opsize, len(ask.prefixes))

    _jmp = _call = _jcc

    def _loop(self, ask: Ask) -> bytes:
        self.gpr[1] = self.dice.choice((0, 1, 2, 0x1_0000, 0x1_0001, 0xFFFF_0000, 0xFFFF_FFFF))
        return self._relative(ask.opcode, ask.opsize, len(ask.prefixes))

    def _ret(self, ask: Ask) -> bytes:
        self.patch(
            self.stack_linear,
            (self._target() - self.base(CS) & (1 << 8 * ask.opsize) - 1).to_bytes(ask.opsize, "little"),
        )
        return ask.opcode + self._immediate(ask.opsize, ask.adsize)

    def _jmp_rm(self, ask: Ask) -> bytes:
        target = self._target() - self.base(CS) & 0xFFFF_FFFF
        assert self.row.digit is not None
        if ask.form == "r":
            rm = self.dice.randrange(8)
            if rm == 4 and self.environment.segmented:
                return None
            self.gpr[rm] = target if ask.opsize == 4 else self.gpr[rm] & 0xFFFF_0000 | target & 0xFFFF
            return ask.opcode + bytes((0xC0 | self.row.digit << 3 | rm,))
        rm, rest, seg, offset = self.operand(ask.adsize, ask.opsize, self.row.how == "jmp_rm", override=ask.override)
        self.patch(offset + self.base(seg) & 0xFFFF_FFFF, target.to_bytes(4, "little")[: ask.opsize])
        return ask.opcode + bytes((rm | self.row.digit << 3,)) + rest

    _call_rm = _jmp_rm

    def soften_division(self) -> None:
        """A dividend that mostly fits."""
        if self.row.name in ("DIV", "IDIV") and self.dice.random() < 0.7:
            self.gpr[2] = 0 if self.dice.random() < 0.7 else self.dice.randrange(3)
            self.gpr[0] &= 0x7FFF if self.row.size == "b" and self.dice.random() < 0.5 else 0xFFFF_FFFF


def vectors(row: Row, environment: Environment, count: int, salt: str = "") -> Iterator[Vector]:
    """*count* vectors of each form of *row*."""
    if left_out(row, environment):
        return
    if environment.system:
        yield from system.vectors(row, environment, count)
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
