"""The flags of the system, the time-stamp counter and control registers: by their virtual values."""

from __future__ import annotations

from translator import layout
from translator.decode import Insn
from translator.layout import SS
from translator.mode import CHECKED
from translator.operand import R8, R10, Emitter, block_operand, move_stack_pointer, stack
from translator.piece import ATTENTION, ENDS, PLAIN


def cli(e: Emitter, insn: Insn) -> int | None:
    """CLI clears the virtual IF."""
    if not e.mode.io:
        return None
    e.op(b"\xc6", 0, block_operand(layout.IF), b"\0")
    return PLAIN


def sti(e: Emitter, insn: Insn) -> int | None:
    """STI sets the virtual IF; interrupts wait for one more instruction."""
    if not e.mode.io:
        return None
    e.op(b"\xc6", 0, block_operand(layout.IF), b"\1")
    return ATTENTION


def pushf(e: Emitter, insn: Insn) -> int | None:
    """PUSHF: the host's arithmetic flags with the virtual IF and system flags."""
    if (e.mode.v86 and not e.mode.io) or e.mode.segments[SS] == CHECKED:
        return None
    e.glue(f"mov r10, rsp; lea rsp, [r15+{layout.STACK_TOP}]; pushfq; pop r9; mov rsp, r10")
    e.glue(
        f"movzx r8d, word ptr [r15+{layout.IF_WORD}]; lea r9, [r9+r8*2];"
        f"mov r8, [r15+{layout.PUSHF_IMAGE}]; lea r10, [r9+r8]"
    )
    slot = stack(e, -insn.opsize, insn.opsize, True)
    e.store(R10, insn.opsize, slot)
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


def popf(e: Emitter, insn: Insn) -> int | None:
    """POPF that changes only arithmetic flags, DF and IF stays in the TC; other changes are the VMM's."""
    mode = e.mode
    if (mode.v86 and not mode.io) or mode.segments[SS] == CHECKED or mode.step:
        return None
    system = layout.TF | layout.NT
    if mode.supervisor:
        system |= layout.IOPL
    if insn.opsize == 4:
        system |= layout.AC | layout.ID
    e.load(R10, insn.opsize, stack(e, 0, insn.opsize, False))
    e.glue("mov r9d, r10d")
    e.code += b"\x41\x81\xe1" + system.to_bytes(4, "little")  # and r9d, system
    e.op(b"\x8b", R8, block_operand(layout.SYSTEM_FLAGS))
    e.code += b"\x41\x81\xe0" + (system | layout.RF).to_bytes(4, "little")  # and r8d, system + RF
    # The comparison destroys the arithmetic flags, which a callout must not see destroyed: POPF replaces them all.
    e.glue("cmp r9d, r8d")
    e.branch_if(0x5, "callout", 0, restore=False)
    if mode.io:
        e.glue(f"mov r9d, r10d; shr r9d, 9; and r9d, 1; mov byte ptr [r15+{layout.IF}], r9b")
    e.glue(f"and r10d, {layout.ARITHMETIC | layout.DF}; or r10d, 2")
    move_stack_pointer(e, insn.opsize)
    e.glue(f"mov r9, rsp; lea rsp, [r15+{layout.STACK_TOP}]; push r10; popfq; mov rsp, r9")
    return ATTENTION if mode.io else PLAIN


def rdtsc(e: Emitter, insn: Insn) -> int | None:
    """RDTSC from the instruction budget: it ends a block, so that r14 is exact."""
    if not e.mode.tsc:
        return None
    e.glue(
        f"mov rax, r14; not rax; lea rax, [rax*8+8]; mov r8, [r15+{layout.TSC_BASE}]; lea rax, [rax+r8];"
        f"mov [r15+{layout.SCRATCH}], rax; mov eax, eax; mov edx, [r15+{layout.SCRATCH + 4}]"
    )
    return ENDS


def mov_from_cr(e: Emitter, insn: Insn) -> int | None:
    """MOV r, CRn at CPL 0; the operand is 32 bits and a register whatever the prefixes and ModRM's mod say."""
    if not e.mode.supervisor or insn.reg not in (0, 2, 3, 4):
        return None
    e.op(b"\x8b", insn.modrm & 7, block_operand(layout.CR + 8 * insn.reg))
    return PLAIN
