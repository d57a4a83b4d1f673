"""The text screen on the host's terminal."""

from __future__ import annotations

import re

import pytest

from devices.vga.text import Cursor, TextScreen
from vmm.display import NO_TEXT, ScreenDisplay, StreamDisplay

HOME = Cursor(0, 0, True)


def screen(*rows: str, columns: int = 8, attribute: int = 7, cursor: Cursor = HOME) -> TextScreen:
    codes = b"".join(row.encode("cp437").ljust(columns) for row in rows)
    return TextScreen(columns, len(rows), codes, bytes((attribute,)) * len(codes), cursor)


class Paper:
    """A terminal that is 20 by 5."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def take(self) -> str:
        written, self.written = self.written.decode(), b""
        return written

    @staticmethod
    def size() -> tuple[int, int]:
        return 20, 5


@pytest.mark.parametrize(
    ("texts", "printed"),
    [
        ([], ""),
        (["\nabc"], "\nabc\n"),
        (["\nabc", "def"], "\nabcdef\n"),
        (["\nabc\n"], "\nabc\n"),
        (["", "\nü│"], "\nü│\n"),
    ],
)
def test_new_text_is_printed_and_the_last_line_ended(texts: list[str], printed: str) -> None:
    paper = Paper()
    display = StreamDisplay(paper.write)
    for text in texts:
        display.show(None, text)
    display.close()
    display.close()
    assert paper.take() == printed


def test_the_screen_is_drawn_and_then_what_changes() -> None:
    paper = Paper()
    display = ScreenDisplay(paper.write, paper.size)
    display.show(screen("one", "two"), "")
    first = paper.take()
    assert first.startswith("\x1b[0m\x1b[2J\x1b[H")
    assert "\x1b[1;1H\x1b[37;40mone     " in first
    assert "\x1b[2;1H\x1b[37;40mtwo     " in first
    display.show(screen("one", "2", cursor=Cursor(1, 1, True)), "")
    assert paper.take() == "\x1b[2;1H\x1b[37;40m2       \x1b[0m\x1b[2;2H\x1b[?25h"
    display.show(screen("one", "2", cursor=Cursor(1, 1, False)), "")
    assert paper.take() == "\x1b[0m\x1b[?25l"


@pytest.mark.parametrize(("attribute", "sgr"), [(0x07, "37;40"), (0x1F, "97;44"), (0x4E, "93;41"), (0x70, "30;47")])
def test_colours(attribute: int, sgr: str) -> None:
    paper = Paper()
    ScreenDisplay(paper.write, paper.size).show(screen("x", columns=1, attribute=attribute), "")
    assert f"\x1b[{sgr}mx" in paper.take()


def test_a_small_terminal_shows_a_part() -> None:
    paper = Paper()
    wide = [letter * 30 for letter in "abcdefg"]
    ScreenDisplay(paper.write, paper.size).show(screen(*wide, columns=30), "")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", paper.take())
    assert shown == "".join(letter * 20 for letter in "abcde")


def test_graphics_are_said_once() -> None:
    paper = Paper()
    display = ScreenDisplay(paper.write, paper.size)
    display.show(None, "")
    display.show(None, "")
    assert paper.take().count(NO_TEXT) == 1
    display.show(screen("back"), "")
    assert "back" in paper.take()


def test_the_cursor_ends_below_the_screen() -> None:
    paper = Paper()
    display = ScreenDisplay(paper.write, paper.size)
    display.close()
    assert paper.take() == ""
    display.show(screen("one", "two"), "")
    paper.take()
    display.close()
    assert paper.take() == "\x1b[0m\x1b[?25h\x1b[3;1H\n"
