"""The guest's text screen on the host's terminal: what is new on it, or the screen itself.

``StreamDisplay`` prints new text as it appears, for pipes and where a serial line has the terminal too.
``ScreenDisplay`` draws the screen with its colours and cursor, on a terminal of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Protocol

from devices.vga.text import CP437, TextScreen

Write = Callable[[bytes], None]

ANSI_OF_VGA = (0, 4, 2, 6, 1, 5, 3, 7)
"""The VGA's colours count blue first, ECMA-48's red first."""
NO_TEXT = "(the guest shows graphics, which -display text cannot)"


class Display(Protocol):
    """Shows the screen to the user."""

    def show(self, screen: TextScreen | None, new_text: str) -> None:
        """The screen has changed to *screen* (None: graphics); *new_text* has appeared on it."""

    def close(self) -> None:
        """Leave the terminal in order."""


class NoDisplay:
    """Shows nothing."""

    def show(self, screen: TextScreen | None, new_text: str) -> None:
        """Nobody looks."""

    def close(self) -> None:
        """Nothing to put in order."""


class StreamDisplay:
    """Prints what is new."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._column = 0

    def show(self, screen: TextScreen | None, new_text: str) -> None:
        if not new_text:
            return
        self._write(new_text.encode())
        self._column = len(new_text.rpartition("\n")[2])

    def close(self) -> None:
        """End the line."""
        if self._column:
            self._write(b"\n")
            self._column = 0


class ScreenDisplay:
    """Draws the screen at the top left of a terminal; *size* gives its columns and rows."""

    def __init__(self, write: Write, size: Callable[[], tuple[int, int]]) -> None:
        self._write = write
        self._size = size
        self._rows: list[tuple[bytes, bytes] | None] = []
        self._shape = (0, 0, 0, 0)

    def show(self, screen: TextScreen | None, new_text: str) -> None:
        columns, rows = self._size()
        shape = (columns, rows, screen.columns, screen.rows) if screen else (columns, rows, 0, 0)
        parts = []
        if shape != self._shape:
            self._shape = shape
            self._rows = [None] * (screen.rows if screen else 0)
            parts.append("\x1b[0m\x1b[2J\x1b[H")
            if screen is None:
                parts.append(NO_TEXT)
        if screen is not None:
            for n in range(min(screen.rows, rows)):
                part = slice(n * screen.columns, n * screen.columns + min(screen.columns, columns))
                row = screen.codes[part], screen.attributes[part]
                if row != self._rows[n]:
                    self._rows[n] = row
                    parts.append(f"\x1b[{n + 1};1H" + _colored(*row))
            cursor = screen.cursor
            shown = cursor.visible and cursor.column < columns and cursor.row < rows
            parts.append(f"\x1b[0m\x1b[{cursor.row + 1};{cursor.column + 1}H\x1b[?25h" if shown else "\x1b[0m\x1b[?25l")
        if parts:
            self._write("".join(parts).encode())

    def close(self) -> None:
        """The cursor goes below the screen."""
        if any(self._shape):
            self._write(f"\x1b[0m\x1b[?25h\x1b[{min(self._shape[3] + 1, self._shape[1])};1H\n".encode())
            self._shape = (0, 0, 0, 0)


def _colored(codes: bytes, attributes: bytes) -> str:
    """Characters with their colours, as SGR sequences (ECMA-48, 8.3.117); bright backgrounds are for blinking."""
    parts = []
    for attribute, run in groupby(zip(attributes, codes, strict=True), lambda cell: cell[0]):
        foreground = ANSI_OF_VGA[attribute & 7] + (90 if attribute & 8 else 30)
        background = ANSI_OF_VGA[attribute >> 4 & 7] + 40
        parts.append(f"\x1b[{foreground};{background}m" + "".join(CP437[code] for _, code in run))
    return "".join(parts)
