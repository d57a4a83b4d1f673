"""The stack: PUSH, POP, PUSHA, POPA, ENTER and LEAVE."""

from __future__ import annotations

from translator import layout
from translator.decode import Insn
from translator.expand.copied import memory
from translator.layout import SS
from translator.mode import CHECKED, FLAT
from translator.operand import R10, Emitter, address, block_operand, flat_operand, move_stack_pointer, stack
from translator.piece import PLAIN


def push_reg(e: Emitter, insn: Insn) -> int:
    """PUSH r."""
    e.store(insn.opcode & 7, insn.opsize, stack(e, -insn.opsize, insn.opsize, True))
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


def push_imm(e: Emitter, insn: Insn) -> int:
    """PUSH imm."""
    imm = (insn.imm & (1 << 8 * insn.opsize) - 1).to_bytes(insn.opsize, "little")
    e.op(b"\xc7", 0, stack(e, -insn.opsize, insn.opsize, True), imm, b"\x66" if insn.opsize == 2 else b"")
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


def push_rm(e: Emitter, insn: Insn) -> int:
    """PUSH r/m."""
    size = insn.opsize
    if not insn.mem:
        e.store(insn.rm, size, stack(e, -size, size, True))
    else:
        e.load(R10, size, memory(e, insn, size, False))
        if e.mode.segments[SS] == CHECKED:  # the check needs r10: park the value
            e.op(b"\x89", R10, block_operand(layout.SCRATCH), wide=True)
        slot = stack(e, -size, size, True)
        if e.mode.segments[SS] == CHECKED:
            e.op(b"\x8b", R10, block_operand(layout.SCRATCH), wide=True)
        e.store(R10, size, slot)
    move_stack_pointer(e, -size)
    return PLAIN


def pop_reg(e: Emitter, insn: Insn) -> int:
    """POP r; POP ESP takes the loaded value."""
    reg = insn.opcode & 7
    slot = stack(e, 0, insn.opsize, False)
    if reg == 4:
        e.load(R10, insn.opsize, slot)
        move_stack_pointer(e, insn.opsize)
        e.glue("mov sp, r10w" if insn.opsize == 2 else "mov esp, r10d")
        return PLAIN
    e.op(b"\x8b", reg, slot, prefix=b"\x66" if insn.opsize == 2 else b"")
    move_stack_pointer(e, insn.opsize)
    return PLAIN


def pop_rm(e: Emitter, insn: Insn) -> int | None:
    """POP r/m: an address by ESP is computed after the pop."""
    if insn.reg != 0:
        return None
    size = insn.opsize
    if not insn.mem:
        e.load(R10, size, stack(e, 0, size, False))
        move_stack_pointer(e, size)
        e.code += (b"\x66" if size == 2 else b"") + bytes((0x44, 0x89, 0xD0 | insn.rm))  # mov r, r10
        return PLAIN
    if CHECKED in (e.mode.segments[SS], e.mode.segments[insn.seg]) or (insn.base == 4 and not e.mode.stack32):
        return None
    e.load(R10, size, stack(e, 0, size, False))
    disp = insn.disp + (size if insn.base == 4 else 0)
    target = address(e, insn.seg, insn.base, insn.index, insn.scale, disp, insn.adsize, size, True)
    if e.branches:  # a WORD segment with a 32-bit address was checked, which took r10
        return None
    e.store(R10, size, target)
    move_stack_pointer(e, size)
    return PLAIN


def pusha(e: Emitter, insn: Insn) -> int | None:
    """PUSHA stores the old ESP."""
    size = insn.opsize
    if e.mode.segments[SS] == CHECKED:
        return None
    for n in range(8):
        e.store(n, size, stack(e, -size * (n + 1), size, True))
    move_stack_pointer(e, -8 * size)
    return PLAIN


def popa(e: Emitter, insn: Insn) -> int | None:
    """POPA skips ESP.  Both ends are touched first, so that no load faults half way."""
    size = insn.opsize
    if e.mode.segments[SS] == CHECKED:
        return None
    e.load(R10, size, stack(e, 7 * size, size, False))
    for slot, n in enumerate((7, 6, 5, 4, 3, 2, 1, 0)):
        if n != 4:
            e.op(b"\x8b", n, stack(e, slot * size, size, False), prefix=b"\x66" if size == 2 else b"")
    move_stack_pointer(e, 8 * size)
    return PLAIN


def enter(e: Emitter, insn: Insn) -> int | None:
    """ENTER n, 0 on a flat 32-bit stack; the others are the VMM's."""
    if insn.far_selector & 31 or insn.opsize != 4 or not e.mode.stack32 or e.mode.segments[SS] != FLAT:
        return None
    e.store(5, 4, stack(e, -4, 4, True))
    e.op(b"\x8d", 5, flat_operand(4, -1, 0, -4, a32=False))
    e.op(b"\x8d", 4, flat_operand(5, -1, 0, -insn.imm, a32=False))
    return PLAIN


def leave(e: Emitter, insn: Insn) -> int | None:
    """LEAVE: (E)SP = (E)BP, pop (E)BP."""
    if e.mode.segments[SS] == CHECKED:
        return None
    if e.mode.stack32 and insn.opsize == 4:
        e.load(R10, 4, address(e, SS, 5, -1, 0, 0, 4, 4, False))
        e.op(b"\x8d", 4, flat_operand(5, -1, 0, 4, a32=False))
        e.glue("mov ebp, r10d")
        return PLAIN
    if not e.mode.stack32 and insn.opsize == 2:
        e.load(R10, 2, address(e, SS, 5, -1, 0, 0, 2, 2, False))
        e.glue("lea r8d, [rbp+2]; mov sp, r8w; mov bp, r10w")
        return PLAIN
    return None
