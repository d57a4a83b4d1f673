"""The text screen."""

from __future__ import annotations

import pytest

from devices.vga.registers import TEXT_MODE_3, TEXT_MODE_3_DAC
from devices.vga.text import CP437, Cursor, read_screen
from tests.devices.vga.pc import (
    GRAPHICS_12,
    Pc,
    indexed,
    set_mode,
)


def test_text_screen() -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    pc.vga.text[2 * 80 : 2 * 80 + 12] = b"H\x1fi\x2f\x01\x07\xdb\x07\xff\x07!\x07"
    indexed(pc, 0x3D4, 0x0E, 0)
    indexed(pc, 0x3D4, 0x0F, 86)
    screen = read_screen(pc.vga)
    assert screen
    assert (screen.columns, screen.rows, screen.cursor) == (80, 25, Cursor(6, 1, True))
    assert screen.lines() == ["", "Hi☺█ !", *[""] * 23]
    assert (screen.attribute(0, 1), screen.attribute(1, 1), screen.attribute(0, 0)) == (0x1F, 0x2F, 0x07)
    assert screen.text().count("\n") == 25


@pytest.mark.parametrize(
    ("rows", "first", "cursor"),
    [
        pytest.param([(0x0C, 0), (0x0D, 160)], "row 2", Cursor(0, -2, False), id="scrolled by two rows"),
        pytest.param([(0x0C, 0x3F), (0x0D, 0xF0)], " " * 16 + "row 0", None, id="round the end"),
        pytest.param([(0x0A, 0x20)], "row 0", Cursor(0, 0, False), id="cursor off"),
        pytest.param([(0x01, 39), (0x13, 20)], "row 0", None, id="40 columns"),
        pytest.param([(0x13, 0)], "row 0", Cursor(0, 0, True), id="no pitch"),
    ],
)
def test_text_start_and_cursor(rows: list[tuple[int, int]], first: str, cursor: Cursor | None) -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    indexed(pc, 0x3D4, 0x11, 0)
    for row in range(25):
        pc.vga.text[160 * row : 160 * row + 10 : 2] = f"row {row % 10}".encode()
    for row in rows:
        indexed(pc, 0x3D4, *row)
    screen = read_screen(pc.vga)
    assert screen
    assert screen.lines()[0] == first
    assert cursor in (None, screen.cursor)


def test_text_is_read_from_the_planes_too() -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    pc.vga.text[:4] = b"o\x07k\x07"
    indexed(pc, 0x3C4, 2, 7)
    assert not pc.vga.text_in_window
    screen = read_screen(pc.vga)
    assert screen
    assert screen.lines()[0] == "ok"


def test_graphics_are_no_text() -> None:
    pc = Pc()
    set_mode(pc, GRAPHICS_12)
    assert read_screen(pc.vga) is None


def test_code_page() -> None:
    assert len(CP437) == 256
    assert len(set(CP437)) == 254  # three look like spaces
    assert CP437[0x41] == "A"


def test_set_text_mode_is_what_the_ports_would_set() -> None:
    direct, programmed = Pc(), Pc()
    direct.vga.set_text_mode()
    set_mode(programmed, TEXT_MODE_3)
    programmed.write(0x3C8, 1, 0)
    for value in TEXT_MODE_3_DAC:
        programmed.write(0x3C9, 1, value)
    for name in ("misc", "sequencer", "crtc", "graphics", "attribute", "dac"):
        assert getattr(direct.vga.state, name) == getattr(programmed.vga.state, name)
    assert direct.vga.window.memory is direct.vga.text
