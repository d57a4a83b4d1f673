"""Instructions that become themselves, or almost: operands in the host frame, and what Unicorn does not know."""

from __future__ import annotations

from typing import Final

from translator import layout
from translator.assembler import asm
from translator.decode import Insn
from translator.mode import CHECKED, FLAT, WORD
from translator.operand import (
    GP,
    R8,
    R9,
    R10,
    Emitter,
    Operand,
    address,
    based,
    block_operand,
    check_alignment,
    flat_operand,
    offset_in_r8,
)  # fmt: skip
from translator.piece import PLAIN

_FXSAVE_SIZE: Final = 512


def memory(e: Emitter, insn: Insn, size: int, write: bool) -> Operand:
    """The host form of the instruction's ModRM memory operand."""
    operand = address(e, insn.seg, insn.base, insn.index, insn.scale, insn.disp, insn.adsize, size, write)
    if e.mode.align and size == _FXSAVE_SIZE:
        check_alignment(e, operand, 3)
    if e.mode.align and size >= 16 and size in (16, _FXSAVE_SIZE) and not _unaligned(insn):
        check_alignment(e, operand, 15, GP)
    return operand


def _unaligned(insn: Insn) -> bool:
    """MOVUPS, MOVUPD, MOVDQU: 16 bytes at any address, which CPUs do not check either."""
    return bool(insn.map) and (insn.opcode in (0x10, 0x11) or (insn.opcode in (0x6F, 0x7F) and insn.rep == 0xF3))


def needs_check(e: Emitter, insn: Insn) -> bool:
    """Whether an offset into the instruction's segment is checked against its limit."""
    kind = e.mode.segments[insn.seg]
    return kind == CHECKED or (kind == WORD and insn.adsize == 4)


def has_66(insn: Insn) -> bool:
    return 0x66 in insn.raw[: insn.prefixes]


def ident(e: Emitter, insn: Insn) -> int:
    """Copy the instruction; a memory operand takes its form in the host frame (IDENT, IDENT + 67h).

    LOCK is left out: there is one CPU, and nothing else comes between (Unicorn's LOCK NEG leaves wrong flags).
    """
    row = insn.row
    prefix = b""
    if row.prefixes:
        if insn.rep:
            prefix = bytes((insn.rep,))
        elif "6" in row.prefixes and has_66(insn):
            prefix = b"\x66"
    elif row.wide and insn.opsize == 2:
        prefix = b"\x66"
    opcode = bytes((0x0F, insn.opcode)) if insn.map else bytes((insn.opcode,))
    if not insn.mem:
        e.code += prefix + opcode + (bytes((insn.modrm,)) if row.modrm else b"") + insn.tail
        return PLAIN
    operand = memory(e, insn, insn.size, row.stores)
    if operand.xb and row.byte_reg and insn.reg >= 4:
        # AH, CH, DH and BH cannot be named beside REX: reach the operand through RSI without it.
        e.glue("mov r10, rsi")
        e.op(b"\x8d", 6, operand, wide=True)
        start = len(e.code)
        e.code += prefix + opcode + bytes((insn.reg << 3 | 6,)) + insn.tail
        e.fixes.append((start, len(e.code), "rsi=r10"))
        e.glue("mov rsi, r10")
        return PLAIN
    e.op(opcode, insn.reg, operand, insn.tail, prefix)
    return PLAIN


def nop(e: Emitter, insn: Insn) -> int:
    """Hints and prefetches: no access, no fault."""
    return PLAIN


def alias_80(e: Emitter, insn: Insn) -> int:
    """82h is an alias of 80h that 64-bit mode has not."""
    insn.opcode = 0x80
    ident(e, insn)
    insn.opcode = 0x82
    return PLAIN


def clflush(e: Emitter, insn: Insn) -> int:
    """CLFLUSH faults as a load of a byte does, and that is all that shows of it."""
    e.load(R10, 1, memory(e, insn, 1, False))
    return PLAIN


def setcc(e: Emitter, insn: Insn) -> int:
    """SETcc m by way of a register: if the store of SETcc itself faults, Unicorn has lost the flags."""
    if not insn.mem:
        return ident(e, insn)
    operand = memory(e, insn, 1, True)
    e.code += bytes((0x41, 0x0F, insn.opcode, 0xC2))  # setcc r10b
    e.op(b"\x88", R10, operand)
    return PLAIN


def test_alias(e: Emitter, insn: Insn) -> int:
    """F6 /1 and F7 /1 are aliases of TEST /0 that Unicorn has not."""
    reg, modrm = insn.reg, insn.modrm
    insn.reg, insn.modrm = 0, modrm & ~0x38
    ident(e, insn)
    insn.reg, insn.modrm = reg, modrm
    return PLAIN


def cmpps(e: Emitter, insn: Insn) -> int:
    """CMPPS and its kin ignore the upper bits of the predicate; Unicorn raises #UD for them."""
    tail = insn.tail
    insn.tail = bytes((tail[0] & 7,))
    ident(e, insn)
    insn.tail = tail
    return PLAIN


def rotate_carry(e: Emitter, insn: Insn) -> int:
    """RCL and RCR: Unicorn changes CF before it stores, so the store is tried first, with the value that is there."""
    if insn.mem:
        operand = memory(e, insn, insn.size, True)
        e.load(R10, insn.size, operand)
        e.op(b"\x88" if insn.size == 1 else b"\x89", R10, operand, prefix=b"\x66" if insn.size == 2 else b"")
        e.op(bytes((insn.opcode,)), insn.reg, operand, insn.tail, b"\x66" if insn.size == 2 else b"")
        return PLAIN
    return ident(e, insn)


def compare_real(e: Emitter, insn: Insn) -> int:
    """FCOMI and its kin clear OF, SF and AF, which Unicorn leaves alone."""
    e.glue("xor r8d, r8d")
    return ident(e, insn)


def cmpxchg8b(e: Emitter, insn: Insn) -> int:
    """CMPXCHG8B in a block of the host's own: else Unicorn takes the flags that stay from a stale condition code."""
    operand = memory(e, insn, 8, True)
    e.code += b"\xeb\x00"  # jmp to the next instruction
    e.op(b"\x0f\xc7", 1, operand)
    return PLAIN


def inc_dec(e: Emitter, insn: Insn) -> int:
    """40h..4Fh are REX prefixes on the host: the FF /0 and /1 forms instead."""
    e.code += (b"\x66" if insn.opsize == 2 else b"") + bytes((0xFF, 0xC0 | insn.opcode & 0x0F))
    return PLAIN


def bswap(e: Emitter, insn: Insn) -> int:
    """With a 16-bit operand the result is undefined; the whole register is swapped."""
    e.code += bytes((0x0F, insn.opcode))
    return PLAIN


def lea(e: Emitter, insn: Insn) -> int:
    """The offset alone: no segment, no access."""
    prefix = b"\x66" if insn.opsize == 2 else b""
    if insn.adsize == 4:
        e.op(b"\x8d", insn.reg, flat_operand(insn.base, insn.index, insn.scale, insn.disp, a32=False), prefix=prefix)
    else:
        offset_in_r8(e, insn.base, insn.index, 0, insn.disp, 2)
        e.code += prefix + bytes((0x44, 0x89, 0xC0 | insn.reg))  # mov reg, r8
    return PLAIN


def mov_moffs(e: Emitter, insn: Insn) -> int:
    """A0h..A3h in their ModRM form."""
    size = insn.size
    write = insn.opcode >= 0xA2
    operand = address(e, insn.seg, -1, -1, 0, insn.imm, insn.adsize, size, write)
    opcode = (0x88 if write else 0x8A) | (insn.opcode & 1)
    e.op(bytes((opcode,)), 0, operand, prefix=b"\x66" if size == 2 else b"")
    return PLAIN


def xlat(e: Emitter, insn: Insn) -> int | None:
    """MOV AL, seg:[(E)BX + AL]."""
    if needs_check(e, insn):
        return None
    e.glue("movzx r8d, al; lea r8d, [rbx+r8]" + ("; movzx r8d, r8w" if insn.adsize == 2 else ""))
    e.op(b"\x8a", 0, based(e, R8, insn.seg))
    return PLAIN


def bt_reg(e: Emitter, insn: Insn) -> int | None:
    """BT with a register offset reaches beyond its operand: the host does it in flat segments only."""
    if insn.mem and (e.mode.segments[insn.seg] != FLAT or insn.adsize == 2):
        return None
    return ident(e, insn)


def maskmov(e: Emitter, insn: Insn) -> int | None:
    """MASKMOVQ and MASKMOVDQU store at DS:(E)DI."""
    if needs_check(e, insn):
        return None
    code = (b"\x66" if has_66(insn) else b"") + b"\x0f\xf7" + bytes((insn.modrm,))
    if insn.adsize == 4 and e.mode.segments[insn.seg] == FLAT:
        if e.mode.align:
            check_alignment(e, flat_operand(7, -1, 0, 0), 7)
        e.code += b"\x67" + code
        return PLAIN
    e.glue("mov r10, rdi; mov r8d, edi" if insn.adsize == 4 else "mov r10, rdi; movzx r8d, di")
    operand = based(e, R8, insn.seg)
    if e.mode.align:
        check_alignment(e, operand, 7)
    e.op(b"\x8d", 7, operand, wide=True)
    start = len(e.code)
    e.code += code
    e.fixes.append((start, len(e.code), "rdi=r10"))
    e.glue("mov rdi, r10")
    return PLAIN


def fxsave(e: Emitter, insn: Insn) -> int | None:
    """FXSAVE into the vCPU block, then copied: the host's 64-bit form would write XMM8..15 too."""
    operand = memory(e, insn, 512, True)
    e.op(b"\x8d", R8, operand, wide=True)
    e.glue(f"fxsave [r15+{layout.FX_AREA}]")
    for at in range(0, 288, 8):
        e.op(b"\x8b", R9, block_operand(layout.FX_AREA + at), wide=True)
        e.code += asm("mov [r8+0x100], r9")[:3] + at.to_bytes(4, "little")
    return PLAIN
