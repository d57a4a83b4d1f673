"""The text screen as characters: what a human would read off the monitor in a text mode."""

from __future__ import annotations

from dataclasses import dataclass

from devices.vga import registers as reg
from devices.vga.beam import last_line
from devices.vga.core import TEXT_SIZE, Vga

CP437 = (
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
    + bytes(range(0x20, 0x7F)).decode("ascii")
    + "⌂"
    + bytes(range(0x80, 0xFF)).decode("cp437")
    + " "
)
"""The glyphs of code page 437, which is what the video BIOS's font draws; 00h and FFh look like spaces."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the cursor is; *visible* means switched on and on the screen."""

    column: int
    row: int
    visible: bool


@dataclass(frozen=True, slots=True)
class TextScreen:
    """One text screen: *codes* and *attributes* hold a byte for each character, a row after another."""

    columns: int
    rows: int
    codes: bytes
    attributes: bytes
    cursor: Cursor

    def line(self, row: int) -> str:
        """A row in Unicode, *columns* characters long."""
        return "".join(CP437[code] for code in self.codes[row * self.columns : (row + 1) * self.columns])

    def lines(self) -> list[str]:
        """All rows, trailing spaces taken off."""
        return [self.line(row).rstrip() for row in range(self.rows)]

    def text(self) -> str:
        """All rows, a newline after each."""
        return "".join(line + "\n" for line in self.lines())

    def attribute(self, column: int, row: int) -> int:
        """The attribute byte of a character: background in the upper half, foreground in the lower."""
        return self.attributes[row * self.columns + column]


def in_text_mode(vga: Vga) -> bool:
    """The chip shows characters, not dots."""
    state = vga.state
    return not state.graphics[reg.GR_MISC] & reg.MISC_GRAPHICS and not state.dispi.enabled


def text_cells(vga: Vga) -> tuple[bytes, bytes]:
    """Character codes and attributes of the whole text memory, by cell address."""
    if vga.text_in_window:
        return bytes(vga.text[0::2]), bytes(vga.text[1::2])
    return bytes(vga.memory[0 : 2 * TEXT_SIZE : 4]), bytes(vga.memory[1 : 2 * TEXT_SIZE : 4])


def read_screen(vga: Vga) -> TextScreen | None:
    """The text screen as it stands; None in a graphics mode."""
    if not in_text_mode(vga):
        return None
    crtc = vga.state.crtc
    columns = crtc[reg.CR_HORIZONTAL_DISPLAY_END] + 1
    height = (crtc[reg.CR_MAXIMUM_SCAN_LINE] & 0x1F) + 1
    lines = last_line(crtc) + 1 >> bool(crtc[reg.CR_MAXIMUM_SCAN_LINE] & reg.SCAN_DOUBLE)
    rows = lines // height
    codes, attributes = text_cells(vga)
    pitch = 2 * crtc[reg.CR_OFFSET]
    start = crtc[reg.CR_START_HIGH] << 8 | crtc[reg.CR_START_LOW]

    def shown(cells: bytes) -> bytes:
        # The address counter wraps at the end of the text memory; a row may reach over it.
        endless = cells + cells[:columns]
        firsts = ((start + row * pitch) % len(cells) for row in range(rows))
        return b"".join(endless[first : first + columns] for first in firsts)

    at = (crtc[reg.CR_CURSOR_HIGH] << 8 | crtc[reg.CR_CURSOR_LOW]) - start
    row, column = divmod(at, pitch) if pitch else (0, at)
    on = not crtc[reg.CR_CURSOR_START] & reg.CURSOR_OFF
    cursor = Cursor(column, row, on and 0 <= row < rows and 0 <= column < columns)
    return TextScreen(columns, rows, shown(codes), shown(attributes), cursor)
