"""One instruction alone, with something in the machine changed for its time."""

from __future__ import annotations

from collections.abc import Callable

from cache.cache import Placed
from translator import layout


class Step:
    """The instruction that runs alone, if there is one, and what is to be put back when it has run.

    *never* is the host address of a lookup table that is always empty: whatever it is, it leaves for the VMM.
    """

    def __init__(self, quads: memoryview, never: int) -> None:
        self._quads = quads
        self._never = never
        self._ends: list[Callable[[], None]] = []

    @property
    def running(self) -> bool:
        """An instruction runs alone."""
        return bool(self._ends)

    def begin(self, placed: Placed) -> None:
        """Let *placed*, one instruction, run next."""
        quads = self._quads
        table = quads[layout.TABLE // 8]
        quads[layout.TABLE // 8] = self._never

        def restore() -> None:
            quads[layout.TABLE // 8] = table

        self._ends.append(restore)
        quads[layout.RESUME // 8] = placed.entry
        quads[layout.DELTA // 8] = 0

    def after(self, call: Callable[[], None]) -> None:
        """Do *call* when the instruction that runs alone has run; now if none does."""
        if self._ends:
            self._ends.append(call)
        else:
            call()

    def end(self) -> None:
        """It has run, or has faulted."""
        ends, self._ends = self._ends, []
        for each in ends:
            each()
