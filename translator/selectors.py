"""Loads of segment registers inside the TC: by descriptors that the VMM has checked before.

The vCPU block holds a small table of loads that the VMM has answered: which selector, into which register, in which
context, which descriptor it found, and what the segment register was then.  Emitted code looks up its own load, reads
the descriptor again where it stands, and if that is the same, copies the outcome.  If data in the segment is now
reached another way (another class in ``translator.mode``), it goes on in that other context.  Everything else is left
to the VMM.  Comparisons go by JRCXZ, so that no flag is touched; r8 holds the guest's RCX meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from translator import layout
from translator.mode import Mode
from translator.operand import BASE_REGISTER, Branch, Emitter, block_operand

COPIED: Final = (
    layout.SELECTOR,
    layout.SEG_BASE,
    layout.SEG_LIMIT,
    layout.NEG_BASE,
    layout.WINDOW_LOW,
    layout.WINDOW_READ,
    layout.WINDOW_WRITE,
    layout.SEG_ATTR,
    layout.SEG_KINDS,
)
"""What makes a segment register, by the place of ES's in the vCPU block."""
MINUS_TAG: Final = 0
DESCRIPTOR: Final = 8
MINUS_RAW: Final = 16
STATE: Final = 24
CROSSING: Final = STATE + 8 * len(COPIED)
TO_CONTEXT: Final = CROSSING + 8
TO_SALT: Final = CROSSING + 16
TO_TABLE: Final = CROSSING + 24
"""Offsets in an entry, in bytes: minus the tag, the descriptor's host address, minus the descriptor, ``COPIED``, not 0
if the context changes, and the new one's CONTEXT, SALT and address of its word in CONTEXT_TABLES."""
ENTRIES: Final = 256
ENTRY_SIZE: Final = 128
CONTEXT_SHIFT: Final = 20
QUERY: Final = 6
"""The register number of VERW, which loads nothing; IRET to the same CS has that of CS, and loads nothing either."""

_R9_ENTRY: Final = "lea ecx, [rcx*8]; lea ecx, [rcx*8]; "


def tag(context: int, register: int, selector: int) -> int:
    """What tells loads apart; *context* is at least 1."""
    return context << CONTEXT_SHIFT | register << 16 | selector


def place(salt: int, register: int, selector: int) -> int:
    """The number of the entry of a load; *salt* is its context's."""
    return salt + _spread(register) + selector & ENTRIES - 1


def _spread(register: int) -> int:
    return 29 * register


def remembers(mode: Mode) -> bool:
    """Whether loads of segment registers may go by what the VMM remembers of them: descriptors are a supervisor's."""
    return mode.protected and mode.supervisor and not mode.step and mode.bulk


def guarded(e: Emitter, register: int, found: Callable[[], None]) -> None:
    """Code for the selector in r10: *found* emits what follows, with the entry in r9; otherwise the VMM answers.

    *found* must put r8 back into RCX.
    """
    e.glue(
        f"mov r8, rcx; mov ecx, [r15+{layout.SALT}]; lea ecx, [rcx+r10+{_spread(register)}]; movzx ecx, cl;"
        + _R9_ENTRY
        + f"lea r9, [r15+rcx*2+{layout.SEGMENT_LOADS}]; mov rcx, [r15+{layout.CONTEXT}];"
        f"lea r10, [r10+rcx+{register << 16}]; mov rcx, [r9+{MINUS_TAG}]; lea rcx, [rcx+r10]"
    )
    refused = e.leave_unless_rcx_is_zero("mov rcx, r8")
    e.glue(f"mov r10, [r9+{DESCRIPTOR}]")
    start = len(e.code)
    e.glue("mov rcx, [r10]")
    e.fixes.append((start, len(e.code), "rcx=r8"))
    e.glue(f"mov r10, [r9+{MINUS_RAW}]; lea rcx, [rcx+r10]")
    e.code += b"\xe3\x02\xeb" + (refused - len(e.code) - 4 & 0xFF).to_bytes(1, "little")  # jrcxz over a jump back
    found()


def load(e: Emitter, register: int) -> None:
    """Copy the entry's outcome into a segment register; go on in another context if need be."""
    for n, at in enumerate(COPIED):
        e.glue(f"mov r10, [r9+{STATE + 8 * n}]")
        e.op(b"\x89", 10, block_operand(at + 8 * register), wide=True)
        if at == layout.SEG_BASE and register in BASE_REGISTER:
            e.glue(f"mov r{BASE_REGISTER[register]}, r10")
    e.glue(f"mov rcx, [r9+{CROSSING}]")
    e.code += b"\xe3\0"
    same = len(e.code)
    e.glue(
        f"mov rcx, r8; mov r10, [r9+{TO_CONTEXT}]; mov [r15+{layout.CONTEXT}], r10;"
        f"mov r10, [r9+{TO_SALT}]; mov [r15+{layout.SALT}], r10;"
        f"mov r10, [r9+{TO_TABLE}]; mov r10, [r10]; mov [r15+{layout.TABLE}], r10"
    )
    e.code += b"\xe9\0\0\0\0"
    e.branches.append(Branch(len(e.code) - 4, "onward", 0, False))
    e.code[same - 1] = len(e.code) - same
    e.glue("mov rcx, r8")
