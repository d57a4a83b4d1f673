"""Guest memory operands in the host frame, and the raw encoding of host instructions that use them.

A 32-bit address in a flat segment keeps its ModRM form under a 67h prefix.  Everything else is computed
into r8 (the offset, wrapped as the guest would) and added to the segment's base: r11, r12 and r13 hold the
bases of ES, SS and DS; others are loaded into r9.  Glue touches no flags but inside a segment check, which
saves and restores them.  r8, r9 and r10 are scratch.
"""

from __future__ import annotations

from typing import Final

from translator import layout
from translator.assembler import asm
from translator.layout import DS, ES, SS
from translator.mode import CHECKED, FLAT, WORD, Mode

R8: Final = 8
R9: Final = 9
R10: Final = 10
R11: Final = 11
R12: Final = 12
R13: Final = 13
BASE_REGISTER: Final = {ES: R11, SS: R12, DS: R13}
"""Host registers that hold the bases of segments while emitted code runs."""

GP: Final = 13
STACK_FAULT: Final = 12
ALIGNMENT: Final = 17

MISALIGNED: Final = {2: 1, 4: 3, 6: 3, 8: 7, 10: 7, 14: 1, 28: 3, 94: 1, 108: 3}
"""Address bits that must be clear under alignment checking, by operand size in bytes (SDM vol. 3, table 6-7): those of
FNSTENV (14, 28) and FNSAVE (94, 108) follow the operand size.  Others are not checked here."""
_PARKED: Final = layout.SCRATCH + 16
_LINEAR: Final = layout.SCRATCH + 24


class Operand:
    """A host memory operand, ready to be merged with a reg field."""

    __slots__ = ("a32", "modrm", "rest", "xb")

    def __init__(self, a32: bool, xb: int, modrm: int, rest: bytes) -> None:
        self.a32 = a32
        """It needs the 67h prefix."""
        self.xb = xb
        """REX.X and REX.B."""
        self.modrm = modrm
        """mod and rm, the reg field zero."""
        self.rest = rest
        """SIB and displacement."""


class Branch:
    """A forward jump out of a piece of code: a 32-bit displacement at ``at`` to be bound to an exit."""

    __slots__ = ("at", "kind", "restore", "value")

    def __init__(self, at: int, kind: str, value: int, restore: bool) -> None:
        self.at = at
        self.kind = kind
        """"fault" or "callout", or "onward": to the next instruction by the lookup table."""
        self.value = value
        """The vector of a fault."""
        self.restore = restore
        """AX holds LAHF/SETO's flags and r10 holds RAX: put both back first."""


class Emitter:
    """Code of one guest instruction in the making, with what must be known when it faults.

    ``fixes`` are (start, end, text) of host bytes within which a fault finds guest registers moved:
    *text* such as "rsi=r10" tells the VMM to put them back.
    """

    __slots__ = ("branches", "code", "fixes", "mode")

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.code = bytearray()
        self.fixes: list[tuple[int, int, str]] = []
        self.branches: list[Branch] = []

    def glue(self, source: str) -> None:
        """Append assembled host *source*."""
        self.code += asm(source)

    def op(
        self, opcode: bytes, reg: int, operand: Operand, tail: bytes = b"", prefix: bytes = b"", wide: bool = False
    ) -> None:
        """Append ``prefix [67] [REX] opcode modrm rest tail``; *reg* is 0..15, *wide* sets REX.W."""
        rex = reg >> 3 << 2 | operand.xb | wide << 3
        self.code += (
            (b"\x67" if operand.a32 else b"")
            + prefix
            + (bytes((0x40 | rex,)) if rex else b"")
            + opcode
            + bytes((operand.modrm | (reg & 7) << 3,))
            + operand.rest
            + tail
        )

    def load(self, reg: int, size: int, operand: Operand) -> None:
        """A zero-extending load of 1, 2 or 4 bytes into a 64-bit host register."""
        self.op({1: b"\x0f\xb6", 2: b"\x0f\xb7", 4: b"\x8b"}[size], reg, operand)

    def store(self, reg: int, size: int, operand: Operand) -> None:
        """Store the low 2 or 4 bytes of a host register."""
        self.op(b"\x89", reg, operand, prefix=b"\x66" if size == 2 else b"")

    def branch_if(self, condition: int, kind: str, value: int, restore: bool) -> None:
        """Append ``Jcc rel32`` to an exit; *condition* is the low opcode nibble."""
        self.code += bytes((0x0F, 0x80 | condition)) + b"\0\0\0\0"
        self.branches.append(Branch(len(self.code) - 4, kind, value, restore))

    def leave_unless_rcx_is_zero(self, back: str) -> int:
        """Append a way out to a callout, which *back* (three bytes) gives RCX back to first, and JRCXZ over it.

        Returns where the way out begins.
        """
        self.code += b"\xe3\x08"
        out = len(self.code)
        self.glue(back)
        self.code += b"\xe9\0\0\0\0"
        self.branches.append(Branch(len(self.code) - 4, "callout", 0, False))
        return out


def flat_operand(base: int, index: int, scale: int, disp: int, a32: bool = True) -> Operand:
    """The ModRM form of [base + index << scale + disp] with legacy registers; -1 means none."""
    if index < 0 and base >= 0 and base != 4:
        rm, sib = base, b""
    elif index < 0 and base < 0:
        return Operand(a32, 0, 0x04, b"\x25" + (disp & 0xFFFF_FFFF).to_bytes(4, "little"))
    else:
        rm, sib = 4, bytes((scale << 6 | (4 if index < 0 else index) << 3 | (5 if base < 0 else base),))
    if base < 0:
        return Operand(a32, 0, 0x04, sib + (disp & 0xFFFF_FFFF).to_bytes(4, "little"))
    if disp == 0 and base != 5:
        return Operand(a32, 0, rm, sib)
    if -128 <= disp <= 127:
        return Operand(a32, 0, 0x40 | rm, sib + (disp & 0xFF).to_bytes(1, "little"))
    return Operand(a32, 0, 0x80 | rm, sib + (disp & 0xFFFF_FFFF).to_bytes(4, "little"))


def pair_operand(offset: int, base: int) -> Operand:
    """[offset + base] of two host registers, 64 bits wide; *base* -1 means none."""
    xb, index = (offset >> 3, 4) if base < 0 else (base >> 3 << 1 | offset >> 3, base & 7)
    sib = index << 3 | offset & 7
    if offset & 7 == 5:  # RBP and R13 as a SIB base need a displacement
        return Operand(False, xb, 0x44, bytes((sib, 0)))
    return Operand(False, xb, 0x04, bytes((sib,)))


BLOCK_REG: Final = 7
"""r15's low bits: the vCPU block."""


def block_operand(offset: int) -> Operand:
    """[r15 + offset]."""
    if -128 <= offset <= 127:
        return Operand(False, 1, 0x40 | BLOCK_REG, offset.to_bytes(1, "little", signed=True))
    return Operand(False, 1, 0x80 | BLOCK_REG, offset.to_bytes(4, "little"))


def offset_in_r8(e: Emitter, base: int, index: int, scale: int, disp: int, adsize: int) -> None:
    """Compute the effective address into r8, zero-extended and wrapped to the address size."""
    if adsize == 4:
        e.op(b"\x8d", R8, flat_operand(base, index, scale, disp, a32=False))
    elif base < 0:
        e.code += b"\x41\xb8" + (disp & 0xFFFF).to_bytes(4, "little")  # mov r8d, imm32
    elif index < 0 and disp == 0:
        e.code += bytes((0x44, 0x0F, 0xB7, 0xC0 | base))  # movzx r8d, base16
    else:
        e.op(b"\x8d", R8, flat_operand(base, index, 0, disp, a32=False))
        e.code += b"\x45\x0f\xb7\xc0"  # movzx r8d, r8w


def check_r8(e: Emitter, seg: int, size: int, write: bool) -> None:
    """Check the offset in r8d against the segment's window; a violation leaves with #GP(0) or #SS(0)."""
    window = (layout.WINDOW_WRITE if write else layout.WINDOW_READ) + 8 * seg
    e.glue("mov r10, rax; lahf; seto al; mov r9d, r8d")
    e.op(b"\x2b", R9, block_operand(layout.WINDOW_LOW + 8 * seg))
    if size > 1:
        e.code += b"\x4d\x8d\x89" + (size - 1).to_bytes(4, "little")  # lea r9, [r9 + size - 1]
    e.op(b"\x3b", R9, block_operand(window), wide=True)
    e.branch_if(0xF, "fault", STACK_FAULT if seg == SS else GP, restore=True)
    e.glue("add al, 0x7f; sahf; mov rax, r10")


def check_alignment(e: Emitter, operand: Operand, bits: int, vector: int = ALIGNMENT) -> None:
    """Leave with *vector* if one of the address's lowest *bits* is set; no register or flag changes."""
    e.glue(f"mov [r15+{_PARKED}], r10")
    e.op(b"\x8d", R10, operand, wide=True)
    e.glue(f"mov [r15+{_LINEAR}], r10; mov r10, rax; lahf; seto al; test byte ptr [r15+{_LINEAR}], {bits}")
    e.branch_if(0x5, "fault", vector, restore=True)
    e.glue(f"add al, 0x7f; sahf; mov rax, r10; mov r10, [r15+{_PARKED}]")


def aligned(e: Emitter, operand: Operand, size: int) -> Operand:
    """*operand* of *size* bytes, checked if the mode asks for it."""
    if e.mode.align and size in MISALIGNED:
        check_alignment(e, operand, MISALIGNED[size])
    return operand


def based(e: Emitter, offset: int, seg: int) -> Operand:
    """[offset register + base of *seg*]."""
    if e.mode.segments[seg] == FLAT:
        return pair_operand(offset, -1)
    base = BASE_REGISTER.get(seg, R9)
    if base == R9:
        e.op(b"\x8b", R9, block_operand(layout.SEG_BASE + 8 * seg), wide=True)
    return pair_operand(offset, base)


def address(
    e: Emitter, seg: int, base: int, index: int, scale: int, disp: int, adsize: int, size: int, write: bool
) -> Operand:
    """Emit what is needed to reach a guest operand of *size* bytes, and return its host form."""
    return aligned(e, place(e, seg, base, index, scale, disp, adsize, size, write), size)


def place(
    e: Emitter, seg: int, base: int, index: int, scale: int, disp: int, adsize: int, size: int, write: bool
) -> Operand:
    """As ``address``, whether it is aligned or not."""
    kind = e.mode.segments[seg]
    if kind == FLAT and adsize == 4:
        return flat_operand(base, index, scale, disp)
    checked = kind == CHECKED or (kind == WORD and adsize == 4)
    if adsize == 4 and index < 0 and disp == 0 and base >= 0 and not checked:
        return based(e, base, seg)
    offset_in_r8(e, base, index, scale, disp, adsize)
    if checked:
        check_r8(e, seg, size, write)
    return based(e, R8, seg)


def stack(e: Emitter, delta: int, size: int, write: bool) -> Operand:
    """The stack slot at SS:[(E)SP + delta]; may use r8."""
    return aligned(e, stack_place(e, delta, size, write), size)


def stack_place(e: Emitter, delta: int, size: int, write: bool) -> Operand:
    """As ``stack``, whether it is aligned or not."""
    kind = e.mode.segments[SS]
    if e.mode.stack32:
        return place(e, SS, 4, -1, 0, delta, 4, size, write)
    e.op(b"\x8d", R8, flat_operand(4, -1, 0, delta, a32=False))
    e.glue("movzx r8d, r8w")
    if kind == CHECKED:
        check_r8(e, SS, size, write)
    return based(e, R8, SS)


def move_stack_pointer(e: Emitter, delta: int) -> None:
    """Add *delta* to ESP or SP; touches no flags and cannot fault."""
    if e.mode.stack32:
        e.op(b"\x8d", 4, flat_operand(4, -1, 0, delta, a32=False))  # lea esp, [rsp + delta]
    else:
        e.op(b"\x8d", R8, flat_operand(4, -1, 0, delta, a32=False))
        e.glue("mov sp, r8w")
