"""Code memory: extents of the translation cache, handed out and taken back."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

ALIGNMENT: Final = 16
PAGE: Final = 4096


class CodeMemory:
    """A best-fit allocator of [0, size) in bytes, aligned to 16.

    Freed extents are merged and reused.  From ``fresh`` on all is free.  An extent that would straddle a page
    without need is moved to the next one, because the host links no jump to a block that lies in two.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.fresh = 0
        self.used = 0
        self._touched = 0  # nothing was ever handed out from here on
        self._starts: list[int] = []  # of free extents below ``fresh``, ascending
        self._sizes: dict[int, int] = {}
        self._by_size: list[tuple[int, int]] = []  # (size, start) of the same, ascending

    def allocate(self, size: int) -> tuple[int, bool] | None:
        """(offset, reused) of *size* bytes, or None if no extent is large enough.

        *reused* says that code may have run there before.
        """
        size = -(-size // ALIGNMENT) * ALIGNMENT
        if self.fresh + size > self.size:
            at = bisect_left(self._by_size, (size, 0))
            if at < len(self._by_size):
                start = self._by_size[at][1]
                self._take(start, size)
                self.used += size
                return start, True
        start = self.fresh
        if size <= PAGE and start // PAGE != (start + size - 1) // PAGE:
            gap = -start % PAGE
            if start + gap + size <= self.size:
                self._give(start, gap)
                start += gap
        if start + size > self.size:
            return None
        self.fresh = start + size
        self.used += size
        reused = start < self._touched
        self._touched = max(self._touched, self.fresh)
        return start, reused

    def free(self, start: int, size: int) -> None:
        """Take an extent back."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        self.used -= size
        self._give(start, size)

    def _take(self, start: int, size: int) -> None:
        left = self._forget(bisect_left(self._starts, start)) - size
        if left:
            self._give(start + size, left)

    def _forget(self, at: int) -> int:
        """Take free extent number *at* off the lists; its size."""
        start = self._starts.pop(at)
        size = self._sizes.pop(start)
        del self._by_size[bisect_left(self._by_size, (size, start))]
        return size

    def _give(self, start: int, size: int) -> None:
        if not size:
            return
        at = bisect_left(self._starts, start)
        if at < len(self._starts) and self._starts[at] == start + size:
            size += self._forget(at)
        if at and (before := self._starts[at - 1]) + self._sizes[before] == start:
            size += self._forget(at - 1)
            start = before
        if start + size == self.fresh:
            self.fresh = start
            return
        insort(self._starts, start)
        insort(self._by_size, (size, start))
        self._sizes[start] = size

    def clear(self) -> None:
        """Free everything; what was handed out before counts as reused from now on."""
        self._starts = []
        self._sizes = {}
        self._by_size = []
        self.fresh = 0
        self.used = 0
