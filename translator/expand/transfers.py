"""Far transfers that stay in the TC: the kernel's return to itself from an interrupt, and fast system calls."""

from __future__ import annotations

from typing import Final

from translator import layout, selectors
from translator.decode import Insn
from translator.layout import CS, SS
from translator.mode import FLAT
from translator.operand import R8, R9, R10, Branch, Emitter, block_operand, move_stack_pointer, stack
from translator.piece import GONE, LEAVES

_SYSTEM: Final = (
    layout.TF | layout.IOPL | layout.NT | layout.RF | layout.VM | layout.AC | layout.VIF | layout.VIP | layout.ID
)
_NEVER: Final = layout.TF | layout.NT | layout.RF | layout.VM
_JNE: Final = 0x5
_JA: Final = 0x7


def iret(e: Emitter, insn: Insn) -> int | None:
    """IRETD at CPL 0 to the code segment that runs, if no flags change but arithmetic ones, DF and IF.

    The VMM has answered one to that selector, and the descriptor is the same.  All others are the VMM's, also one that
    opens the way to an interrupt that waits.
    """
    mode = e.mode
    if not selectors.remembers(mode) or insn.opsize != 4 or not mode.stack32 or mode.segments[SS] != FLAT:
        return None

    def refuse(condition: int) -> None:
        e.branch_if(condition, "callout", 0, restore=True)

    def found() -> None:
        e.glue("mov rcx, r8; mov r10, rax; lahf; seto al")
        start = len(e.code)
        e.load(R9, 4, stack(e, 8, 4, False))
        e.op(b"\x8b", R8, block_operand(layout.SYSTEM_FLAGS))
        e.glue(f"xor r8d, r9d; and r8d, {_SYSTEM}")
        refuse(_JNE)
        e.glue(f"test r9d, {_NEVER}")
        refuse(_JNE)
        e.load(R8, 2, stack(e, 4, 4, False))
        e.op(b"\x3b", R8, block_operand(layout.SELECTOR + 8 * CS))
        refuse(_JNE)
        e.glue(f"mov r8d, r9d; shr r8d, 9; and r8d, 1; mov r8, [r15+r8*8+{layout.QUIET}]; cmp r8, r15")
        refuse(_JNE)
        e.load(R8, 4, stack(e, 0, 4, False))
        e.op(b"\x3b", R8, block_operand(layout.SEG_LIMIT + 8 * CS))
        refuse(_JA)
        e.fixes.append((start, len(e.code), "saved"))

    e.load(R10, 2, stack(e, 4, 4, False))
    selectors.guarded(e, CS, found)
    e.glue(
        f"mov rax, r10; mov r10d, r8d; mov r8d, r9d; shr r8d, 9; and r8d, 1; mov byte ptr [r15+{layout.IF}], r8b;"
        f"and r9d, {layout.ARITHMETIC | layout.DF}; or r9d, 2;"
        f"mov r8d, r9d; and r8d, {layout.DF}; mov [r15+{layout.DIRECTION}], r8d"
    )
    move_stack_pointer(e, 12)
    e.glue(f"mov r8, rsp; lea rsp, [r15+{layout.STACK_TOP}]; push r9; popfq; mov rsp, r8")
    return LEAVES


def _cross(e: Emitter, stub: int) -> int:
    """Go by a stub of ``translator.crossings``, which comes back to the jump behind if the VMM has to answer."""
    e.glue(f"lea r8, [rip+7]; jmp [r15+{stub}]")
    e.code += b"\xe9\0\0\0\0"
    e.branches.append(Branch(len(e.code) - 4, "callout", 0, True))
    return GONE


def sysenter(e: Emitter, insn: Insn) -> int | None:
    """SYSENTER of a program under paging."""
    mode = e.mode
    return _cross(e, layout.SYSENTER_STUB) if mode.user and mode.protected and mode.bulk and not mode.step else None


def sysexit(e: Emitter, insn: Insn) -> int | None:
    """SYSEXIT."""
    return _cross(e, layout.SYSEXIT_STUB) if selectors.remembers(e.mode) else None
