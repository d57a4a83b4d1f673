"""Segment registers: their selectors, and loads that need no descriptor or one that the VMM knows."""

from __future__ import annotations

from typing import Final

from translator import layout, selectors
from translator.decode import Insn
from translator.expand.copied import memory
from translator.layout import CS, DS, ES, FS, GS, SS
from translator.mode import CHECKED, FLAT
from translator.operand import (
    BASE_REGISTER,
    R9,
    R10,
    Emitter,
    aligned,
    block_operand,
    move_stack_pointer,
    stack,
    stack_place,
)  # fmt: skip
from translator.piece import PLAIN

_PUSH_SEG: Final = {0x06: ES, 0x0E: CS, 0x16: SS, 0x1E: DS, 0xA0: FS, 0xA8: GS}
_POP_SEG: Final = {0x07: ES, 0x17: SS, 0x1F: DS, 0xA1: FS, 0xA9: GS}


def push_seg(e: Emitter, insn: Insn) -> int:
    """PUSH of a segment register reads the virtual selector."""
    target = aligned(e, stack_place(e, -insn.opsize, insn.opsize, True), 2)  # CPUs write the selector alone
    e.op(b"\x8b", R10, block_operand(layout.SELECTOR + 8 * _PUSH_SEG[insn.opcode]))
    e.store(R10, insn.opsize, target)
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


def mov_from_seg(e: Emitter, insn: Insn) -> int | None:
    """MOV r/m, Sreg reads the virtual selector; a memory operand is 16 bits whatever the operand size."""
    if insn.reg > 5:
        return None
    selector = block_operand(layout.SELECTOR + 8 * insn.reg)
    if not insn.mem:
        e.op(b"\x8b", insn.rm, selector, prefix=b"\x66" if insn.opsize == 2 else b"")
        return PLAIN
    target = memory(e, insn, 2, True)
    e.op(b"\x8b", R10, selector)
    e.store(R10, 2, target)
    return PLAIN


def _load_real(e: Emitter, seg: int) -> None:
    """Segment register *seg* from r10w as real mode does: base = selector * 16, limit and rights stay."""
    base = BASE_REGISTER.get(seg, R9)
    e.op(b"\x89", R10, block_operand(layout.SELECTOR + 8 * seg), wide=True)
    e.glue("lea r9d, [r10*8]; lea r9d, [r9*2]")
    e.op(b"\x89", R9, block_operand(layout.SEG_BASE + 8 * seg), wide=True)
    if base != R9:
        e.glue(f"mov r{base}, r9")
    e.glue("not r9; lea r9, [r9+1]")
    e.op(b"\x89", R9, block_operand(layout.NEG_BASE + 8 * seg), wide=True)


def _selector(e: Emitter, insn: Insn) -> None:
    """The 16-bit operand into r10."""
    if insn.mem:
        e.load(R10, 2, memory(e, insn, 2, False))
    else:
        e.code += bytes((0x44, 0x0F, 0xB7, 0xD0 | insn.rm))  # movzx r10d, rm16


def mov_to_seg(e: Emitter, insn: Insn) -> int | None:
    """MOV Sreg, r/m: in protected mode only loads that the VMM remembers."""
    if insn.reg > 5 or insn.reg == CS:
        return None
    if selectors.remembers(e.mode) and insn.reg != SS:
        _selector(e, insn)
        selectors.guarded(e, insn.reg, lambda: selectors.load(e, insn.reg))
        return PLAIN
    if e.mode.protected or FLAT in e.mode.segments:
        return None
    _selector(e, insn)
    _load_real(e, insn.reg)
    return PLAIN


def pop_seg(e: Emitter, insn: Insn) -> int | None:
    """POP Sreg: in protected mode only loads that the VMM remembers."""
    register = _POP_SEG[insn.opcode]
    if selectors.remembers(e.mode) and register != SS and e.mode.stack32 and e.mode.segments[SS] == FLAT:

        def found() -> None:
            move_stack_pointer(e, insn.opsize)
            selectors.load(e, register)

        e.load(R10, 2, stack(e, 0, insn.opsize, False))
        selectors.guarded(e, register, found)
        return PLAIN
    if e.mode.protected or FLAT in e.mode.segments or e.mode.segments[SS] == CHECKED:
        return None
    e.load(R10, 2, aligned(e, stack_place(e, 0, insn.opsize, False), 2))
    move_stack_pointer(e, insn.opsize)
    _load_real(e, _POP_SEG[insn.opcode])
    return PLAIN


def verw(e: Emitter, insn: Insn) -> int | None:
    """VERW of a segment that the VMM found writable: ZF is set, the other flags stay."""
    if not selectors.remembers(e.mode):
        return None

    def found() -> None:
        e.glue("mov rcx, r8; mov r10, rax; lahf; seto al; or ah, 0x40; add al, 0x7f; sahf; mov rax, r10")

    _selector(e, insn)
    selectors.guarded(e, selectors.QUERY, found)
    return PLAIN
