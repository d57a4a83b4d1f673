"""The mode of a piece of code: everything of the CPU's state that its translation depends on.

The mode is in the fragment's key so that it is not in the code: emitted code never asks in which mode it runs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FLAT: Final = 0
BASED: Final = 1
WORD: Final = 2
CHECKED: Final = 3
"""Classes of segments, the cheapest first:

FLAT     base 0, limit 4 GiB, readable and (data) writable: an offset is a linear address
BASED    limit 4 GiB: only the base is added
WORD     limit FFFFh, as in real mode: 16-bit offsets need no check, 32-bit ones do
CHECKED  every access is checked against limits and rights
"""


class Mode(NamedTuple):
    """What a translation depends on, but for the code's address and its CS base."""

    code32: bool
    """CS.D: the default operand and address size is 32 bits."""
    stack32: bool
    """SS.B: the stack pointer is ESP."""
    protected: bool
    """CR0.PE and not EFLAGS.VM."""
    v86: bool
    """EFLAGS.VM."""
    user: bool
    """CPL 3: runs at the host's CPL 3."""
    io: bool
    """CPL <= IOPL (or real mode): CLI and STI are allowed, POPF may change IF."""
    supervisor: bool
    """CPL 0: POPF may change IOPL, privileged instructions are allowed."""
    step: bool
    """EFLAGS.TF: a trap after each instruction."""
    segments: tuple[int, int, int, int, int, int]
    """Classes of ES CS SS DS FS GS."""
    tsc: int = 4
    """Ticks of the time-stamp counter that an instruction takes, a power of two; 0 if RDTSC is not allowed (CPL > 0
    and CR4.TSD)."""
    align: bool = False
    """CPL 3, CR0.AM and EFLAGS.AC: what is not aligned raises #AC."""
    bulk: bool = True
    """Repeated string instructions may take many elements at a time, and loads of segment registers go on in another
    mode.  Not for an instruction that runs alone."""
    armed: bool = False
    """DR7 enables a breakpoint or guards the debug registers: moves to and from them are the VMM's."""
    record: bool = False
    """Each instruction stores a record of the CPU before it (``translator.recording``)."""
