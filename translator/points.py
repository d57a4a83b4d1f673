"""Which guest instruction a host instruction of a fragment belongs to: a packed table, eight bytes an entry.

A cache holds a hundred thousand fragments of a dozen instructions each, and few of them ever fault.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

Fixes = tuple[tuple[int, int, str], ...]
_ALL_BELOW: Final = 0xFFFF_FFFF


class Point(NamedTuple):
    """From host offset ``at`` on, a fault belongs to the guest instruction ``offset`` bytes into the unit."""

    at: int
    offset: int
    refund: int
    """Instructions that were taken off the budget and have not retired."""
    fixes: Fixes
    """(start, end, text) relative to ``at``."""
    shadow: bool = False
    """Interrupts are still held off there (behind STI)."""


class PointList:
    """The points of a fragment that is being made, in the order of ``at``."""

    def __init__(self) -> None:
        self.packed: list[int] = []  # at << 32 | offset << 16 | refund << 8 | shadow
        self.fixes: dict[int, Fixes] = {}

    def add(self, at: int, offset: int, refund: int, fixes: Fixes = (), shadow: bool = False) -> None:
        """One more; see ``Point``."""
        if fixes:
            self.fixes[len(self.packed)] = fixes
        self.packed.append(at << 32 | offset << 16 | refund << 8 | shadow)


class Points:
    """The points of one fragment, in the order of ``at``, which only grows."""

    __slots__ = ("_fixes", "_packed")

    def __init__(self, packed: array[int], fixes: dict[int, Fixes] | None) -> None:
        self._packed = packed
        self._fixes = fixes

    @classmethod
    def listed(cls, points: PointList) -> Points:
        """Those that were listed."""
        return cls(array("Q", points.packed), points.fixes or None)

    def plain(self) -> tuple[bytes, tuple[tuple[int, Fixes], ...]]:
        """All of it as plain data."""
        return self._packed.tobytes(), tuple((self._fixes or {}).items())

    @classmethod
    def restored(cls, plain: tuple[bytes, tuple[tuple[int, Fixes], ...]]) -> Points:
        """Points from what ``plain`` gave."""
        packed, fixes = plain
        return cls(array("Q", packed), dict(fixes) if fixes else None)

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, n: int) -> Point:
        word = self._packed[n]
        fixes = self._fixes.get(n, ()) if self._fixes else ()
        return Point(word >> 32, word >> 16 & 0xFFFF, word >> 8 & 0xFF, fixes, bool(word & 1))

    def __iter__(self) -> Iterator[Point]:
        return map(self.__getitem__, range(len(self._packed)))

    def of(self, at: int) -> Point:
        """The point that host offset *at* belongs to."""
        return self[bisect_right(self._packed, at << 32 | _ALL_BELOW) - 1]
