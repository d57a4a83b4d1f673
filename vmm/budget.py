"""The instruction budget: how far emitted code may run, and with it guest time.

Guest time is retired instructions, 2**icount ns each, and what passed without any (HLT, accesses to ports).  r14 counts
down; see ``translator.layout.BUDGET_BASE``.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from translator import layout
from translator.blocks import MAX_INSNS
from translator.layout import BUDGET_BASE
from vmm.clock import ICOUNT

_BUDGET: Final = layout.BUDGET // 8
_TSC: Final = layout.TSC_BASE // 8
_WORD: Final = 0xFFFF_FFFF_FFFF_FFFF


@mypyc_attr(allow_interpreted_subclasses=True)
class Budget:
    """r14 while the VMM is in control (*quads* is the vCPU block), and what it means."""

    __slots__ = ("_deadline", "_due", "_quads", "exact", "icount", "idle_ns", "soft", "tsc_offset")

    def __init__(self, quads: memoryview, icount: int = ICOUNT) -> None:
        self._quads = quads
        self.icount = icount
        """The base-2 logarithm of the nanoseconds that an instruction takes."""
        self._deadline = 0
        """Instructions retired when r14 is at BUDGET_BASE."""
        self._due = BUDGET_BASE
        """What r14 is at the deadline."""
        self.soft = True
        self.exact = False
        self.idle_ns = 0
        """Guest nanoseconds that passed without instructions."""
        self.tsc_offset = 0
        """What the guest added to the TSC (WRMSR), in its ticks of a nanosecond."""
        quads[_BUDGET] = BUDGET_BASE

    @property
    def insns(self) -> int:
        """Guest instructions retired."""
        return self._deadline - (self._quads[_BUDGET] - BUDGET_BASE)

    @property
    def now(self) -> int:
        """Guest time in nanoseconds."""
        return (self.insns << self.icount) + self.idle_ns

    @property
    def tsc(self) -> int:
        """The time-stamp counter."""
        return self.now + self.tsc_offset & _WORD

    @property
    def is_over(self) -> bool:
        """The deadline is reached."""
        over: bool = self._quads[_BUDGET] <= self._due
        return over

    @property
    def left(self) -> int:
        """Instructions to the deadline."""
        left: int = self._quads[_BUDGET] - self._due
        return left

    def set(self, insns: int, soft: bool, exact: bool) -> None:
        """Let emitted code run until *insns* instructions have retired.

        A *soft* deadline may be early by a unit, an *exact* one is met to the instruction.  Others may be late by less
        than a unit: the budget is longer by as much, so that the first check that fails stands behind the deadline.
        """
        now = self.insns
        more = 0 if soft or exact else MAX_INSNS - 1
        insns = min(max(insns, now), now + layout.BUDGET_SPAN - 2 * MAX_INSNS)
        self._deadline = insns + more
        self._due = BUDGET_BASE + more
        self.soft, self.exact = soft, exact
        self._quads[_BUDGET] = self._due + insns - now
        self._quads[_TSC] = (self._deadline + BUDGET_BASE << self.icount) + self.idle_ns + self.tsc_offset & _WORD

    def elapse(self, nanoseconds: int) -> None:
        """*nanoseconds*, those of some instructions, pass without any: the deadline comes nearer."""
        self.idle_ns += nanoseconds
        insns = nanoseconds >> self.icount
        self._deadline -= insns
        self._quads[_BUDGET] -= insns

    def refund(self, insns: int) -> None:
        """Give back instructions that were taken off but not executed (negative: take them off)."""
        self._quads[_BUDGET] += insns

    def end(self) -> None:
        """Call it the deadline now (a soft one)."""
        left = self.left
        self._deadline -= left
        self._quads[_TSC] = self._quads[_TSC] - (left << self.icount) & _WORD
        self._quads[_BUDGET] = self._due
