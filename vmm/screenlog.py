"""A text screen as a stream: what has appeared since the last look.

A screen is a matrix that is overwritten and scrolled; patterns and logs want lines.  ``ScreenLog.update``
compares two looks, finds by how many rows the screen has scrolled, and returns the new text in reading order.
"""

from __future__ import annotations

from collections.abc import Sequence


class ScreenLog:
    """Remembers the last look at a screen of any size."""

    def __init__(self) -> None:
        self._rows: list[str] = []
        self._row = 0
        """The row that text was last added to."""

    def update(self, rows: Sequence[str]) -> str:
        """The text in *rows* (the screen, top to bottom) that was not there at the last look.

        Text that continues the row added to last goes on there; any other row that changed comes whole,
        on a line of its own.
        """
        now = [row.rstrip() for row in rows]
        before = self._rows
        if now == before:
            return ""
        scrolled = _scrolled(before, now)
        self._rows = now
        self._row -= scrolled
        parts = []
        for n, row in enumerate(now):
            old = before[n + scrolled] if n + scrolled < len(before) else ""
            if row in (old, ""):
                continue
            if n == self._row and row.startswith(old):
                parts.append(row[len(old) :])
            else:
                parts.append("\n" + row)
            self._row = n
        return "".join(parts)


def _scrolled(before: Sequence[str], now: Sequence[str]) -> int:
    """The number of rows by which *before* went up to become *now*, by the most rows that agree."""

    def agreeing(rows: int) -> int:
        return sum(bool(new) and new == old for new, old in zip(now, before[rows:], strict=False))

    return max(range(len(before) or 1), key=agreeing)
