"""The flags of the system, the time-stamp counter and control registers: by their virtual values."""

from __future__ import annotations

from typing import Final

from translator import layout
from translator.assembler import asm
from translator.decode import Insn
from translator.layout import SS
from translator.mode import CHECKED, FLAT
from translator.operand import R10, Emitter, block_operand, move_stack_pointer, offset_in_r8, stack
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


def cld(e: Emitter, insn: Insn) -> int:
    """CLD."""
    e.glue(f"cld; mov dword ptr [r15+{layout.DIRECTION}], 0")
    return PLAIN


def std(e: Emitter, insn: Insn) -> int:
    """STD."""
    e.glue(f"std; mov dword ptr [r15+{layout.DIRECTION}], {layout.DF}")
    return PLAIN


def pushf(e: Emitter, insn: Insn) -> int | None:
    """PUSHF: the host's arithmetic flags with the virtual IF and system flags.

    By LAHF and SETO, for Unicorn's PUSHFQ and POPFQ are calls.
    """
    if (e.mode.v86 and not e.mode.io) or e.mode.segments[SS] == CHECKED:
        return None
    e.glue(
        "mov r10, rax; mov r9, rdx; lahf; seto al; movzx edx, ah; movzx eax, al; lea r8d, [rax*8]; lea r8d, [r8*8];"
        f"lea r8d, [r8*8]; lea r8d, [rdx+r8*4]; mov edx, [r15+{layout.DIRECTION}]; mov eax, [r15+{layout.PUSHF_IMAGE}];"
        f"lea r8d, [r8+rdx]; movzx edx, word ptr [r15+{layout.IF_WORD}]; lea r8d, [r8+rax]; mov rax, r10;"
        "lea r10d, [r8+rdx*2]; mov rdx, r9"
    )
    slot = stack(e, -insn.opsize, insn.opsize, True)
    e.store(R10, insn.opsize, slot)
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


_WITHOUT_OF: Final = asm("xor r8d, r8d; sahf")
"""Behind XOR of a register with itself Unicorn knows the flags, of which SAHF keeps OF; else it has to compute them."""
_WITH_OF: Final = asm("mov al, 1; add al, 0x7f; sahf") + bytes((0xEB, len(_WITHOUT_OF)))  # jmp


def popf(e: Emitter, insn: Insn) -> int | None:
    """POPF that changes only arithmetic flags and IF stays in the TC; other changes are the VMM's."""
    mode = e.mode
    if (mode.v86 and not mode.io) or mode.segments[SS] == CHECKED or mode.step:
        return None
    system = layout.TF | layout.NT | layout.RF | layout.DF
    if mode.supervisor:
        system |= layout.IOPL
    if insn.opsize == 4:
        system |= layout.AC | layout.ID
    e.load(R10, insn.opsize, stack(e, 0, insn.opsize, False))
    # The comparison destroys the arithmetic flags, which a callout must not see destroyed: POPF replaces them all.
    e.glue(f"mov r8d, [r15+{layout.SYSTEM_FLAGS}]; or r8d, [r15+{layout.DIRECTION}]; xor r8d, r10d; and r8d, {system}")
    e.branch_if(0x5, "callout", 0, restore=False)
    if mode.io:
        e.glue(f"mov r9d, r10d; shr r9d, 9; and r9d, 1; mov byte ptr [r15+{layout.IF}], r9b")
    move_stack_pointer(e, insn.opsize)
    e.glue("mov r9, rax; movzx eax, r10b; shl eax, 8; bt r10d, 11")
    e.code += bytes((0x73, len(_WITH_OF))) + _WITH_OF + _WITHOUT_OF  # jnc
    e.glue("mov rax, r9")
    return ATTENTION if mode.io else PLAIN


def time_in(e: Emitter, register: str, base: int) -> None:
    """Append code that finds r14's time: [r15 + *base*] less r14's worth; no flag changes, r9 does.

    Everything has to be taken off r14: a block ends here.  ``Mode.tsc`` must not be 0.
    """
    ticks = min(e.mode.tsc, 8)
    e.glue(f"mov {register}, r14; not {register}; lea {register}, [{register}*{ticks}+{ticks}]")
    while ticks < e.mode.tsc:
        ticks *= 2
        e.glue(f"lea {register}, [{register}+{register}]")
    e.glue(f"mov r9, [r15+{base}]; lea {register}, [{register}+r9]")


def rdtsc(e: Emitter, insn: Insn) -> int | None:
    """RDTSC from the instruction budget: it ends a block, so that r14 is exact."""
    if not e.mode.tsc:
        return None
    time_in(e, "rax", layout.TSC_BASE)
    e.glue(f"mov [r15+{layout.SCRATCH}], rax; mov eax, eax; mov edx, [r15+{layout.SCRATCH + 4}]")
    return ENDS


def mov_from_cr(e: Emitter, insn: Insn) -> int | None:
    """MOV r, CRn at CPL 0; the operand is 32 bits and a register whatever the prefixes and ModRM's mod say."""
    if not e.mode.supervisor or insn.reg not in (0, 2, 3, 4):
        return None
    e.op(b"\x8b", insn.modrm & 7, block_operand(layout.CR + 8 * insn.reg))
    return PLAIN


def invlpg(e: Emitter, insn: Insn) -> int | None:
    """INVLPG at CPL 0 of a page that no address space has in its host tables does nothing; others are the VMM's."""
    if not e.mode.supervisor or e.mode.step:
        return None
    offset_in_r8(e, insn.base, insn.index, insn.scale, insn.disp, insn.adsize)
    if e.mode.segments[insn.seg] != FLAT:
        e.glue(f"mov r9, [r15+{layout.SEG_BASE + 8 * insn.seg}]; lea r8d, [r8+r9]")
    e.glue(
        f"mov [r15+{layout.SCRATCH}], r8; mov r8d, [r15+{layout.SCRATCH + layout.SEEN_SHIFT // 8}]; mov r9, rcx;"
        f"movabs r10, {layout.SEEN_PAGES}; movzx ecx, byte ptr [r10+r8]"
    )
    e.leave_unless_rcx_is_zero("mov rcx, r9")
    e.glue("mov rcx, r9")
    return PLAIN


def mov_from_dr(e: Emitter, insn: Insn) -> int | None:
    """MOV r, DRn at CPL 0, while no breakpoint is enabled and nothing guards the registers."""
    if not e.mode.supervisor or e.mode.armed or insn.reg in (4, 5):
        return None
    e.op(b"\x8b", insn.modrm & 7, block_operand(layout.DR + 8 * insn.reg))
    return PLAIN


def mov_to_dr(e: Emitter, insn: Insn) -> int | None:
    """MOV DRn, r: in the same state an address is a number that nobody looks at; DR6 and DR7 are the VMM's."""
    if not e.mode.supervisor or e.mode.armed or insn.reg > 3:
        return None
    e.op(b"\x89", insn.modrm & 7, block_operand(layout.DR + 8 * insn.reg))
    return PLAIN
