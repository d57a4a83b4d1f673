"""Real time for interactive use: guest time never runs ahead of the wall's, and an idle guest idles the host.

Guest time that falls behind is not made up for: a guest that was busy and then waits, waits its full time.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from devices.core import SECOND

TOLERANCE_NS = 2_000_000
"""Guest time may be ahead by this much before it is worth to sleep."""
LONGEST_WAIT = 3600.0
"""Seconds."""


class Governor:
    """Holds guest time back.

    ``now()`` is guest time in nanoseconds; ``wait(seconds)`` sleeps and says whether an input came before.
    *wall* is a monotonic clock in seconds.
    """

    def __init__(
        self, now: Callable[[], int], wait: Callable[[float], bool], wall: Callable[[], float] = perf_counter
    ) -> None:
        self._now = now
        self._wait = wait
        self._wall = wall
        self._wall_start = wall()
        self._guest_start = now()

    def _wall_ns(self) -> int:
        """Guest time as the wall has it."""
        return self._guest_start + int((self._wall() - self._wall_start) * SECOND)

    def _sleep(self, nanoseconds: int) -> bool:
        return self._wait(min(nanoseconds / SECOND, LONGEST_WAIT))

    def pace(self) -> None:
        """A busy guest has come this far: wait for the wall if that is behind."""
        ahead = self._now() - self._wall_ns()
        if ahead > TOLERANCE_NS:
            self._sleep(ahead)

    def idle(self, nanoseconds: int) -> int:
        """An idle guest waits for *nanoseconds*: sleep as long; returns what passed of it, less if an input came."""
        now = self._now()
        behind = self._wall_ns() - now
        if behind > 0:
            self._guest_start -= behind
        due = now + nanoseconds
        while (left := due - self._wall_ns()) > 0:
            if self._sleep(left):
                return min(max(self._wall_ns() - now, 0), nanoseconds)
        return nanoseconds
