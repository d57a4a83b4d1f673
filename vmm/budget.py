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
_NOW: Final = layout.NOW_BASE // 8
_PORT_FLOOR: Final = layout.PORT_FLOOR // 8
_PORT_TIME: Final = layout.PORT_TIME // 8
_NO_BUDGET: Final = 1 << 63
"""More than r14 ever is."""
_WORD: Final = 0xFFFF_FFFF_FFFF_FFFF


@mypyc_attr(allow_interpreted_subclasses=True)
class Budget:
    """r14 while the VMM is in control (*quads* is the vCPU block), and what it means."""

    __slots__ = ("_deadline", "_due", "_port_insns", "_quads", "exact", "icount", "idle_ns", "soft", "tsc_offset")

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
        self._port_insns = 0
        """How many instructions' time an access to a port takes; 0: emitted code makes none."""
        quads[_BUDGET] = BUDGET_BASE
        quads[_PORT_FLOOR] = _NO_BUDGET

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
        self._quads[_NOW] = base = (self._deadline + BUDGET_BASE << self.icount) + self.idle_ns
        self._quads[_TSC] = base + self.tsc_offset & _WORD
        self._limit_ports()

    def let_ports(self, nanoseconds: int) -> None:
        """Emitted code may make accesses to ports that take *nanoseconds* each; 0: none any more."""
        insns = nanoseconds >> self.icount
        self._port_insns = insns if insns << self.icount == nanoseconds else 0
        self._quads[_PORT_TIME] = -insns & _WORD
        self._limit_ports()

    def _limit_ports(self) -> None:
        """Such an access must not come to the deadline, nor near an exact one."""
        insns = self._port_insns
        self._quads[_PORT_FLOOR] = self._due + insns + 1 if insns and not self.exact else _NO_BUDGET

    def count_ports(self, accesses: int) -> None:
        """Emitted code made so many accesses to ports: their time has passed without instructions."""
        insns = accesses * self._port_insns
        self._deadline -= insns
        self.idle_ns += insns << self.icount

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
        self._quads[_NOW] -= left << self.icount
        self._quads[_BUDGET] = self._due
