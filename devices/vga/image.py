"""Pictures of the screen, for people: text with the font in plane 2, planar, CGA and 256-colour modes, VBE modes.

One pixel of the picture is one dot of the mode, so doubled scan lines are drawn once.  Not drawn: panning by
single dots, the split screen, and blinking (blinking characters and the cursor are shown on).
"""

from __future__ import annotations

from PIL import Image

from devices.vga import dispi
from devices.vga import registers as reg
from devices.vga.beam import last_line
from devices.vga.core import FONT_PITCH, FONT_PLANE, MINIMUM_MEMORY, PLANE_SIZE, Vga
from devices.vga.planes import EXPAND
from devices.vga.text import in_text_mode, read_screen

FONT_BASES = (0x0000, 0x4000, 0x8000, 0xC000, 0x2000, 0x6000, 0xA000, 0xE000)
"""Where in plane 2 the character maps stand (IBM, sequencer register 3)."""
LINE_GRAPHICS = range(0xC0, 0xE0)
"""Characters whose ninth dot repeats the eighth."""

DOTS = tuple(int.from_bytes(bytes(byte >> 7 - dot & 1 for dot in range(8)), "little") for byte in range(256))
"""Eight dots of a plane, a byte each, the leftmost first, as a little-endian integer."""
CGA_DOTS = tuple(bytes(byte >> 6 - 2 * dot & 3 for dot in range(4)) for byte in range(256))
"""Four dots of two bits."""

RAW_MODES = {15: "BGR;15", 16: "BGR;16", 24: "BGR", 32: "BGRX"}
"""Pillow's names of the direct-colour layouts, by depth."""


def colors(vga: Vga) -> bytes:
    """The DAC's 256 colours, 8 bits each of red, green and blue."""
    if vga.dac_is_8bit:
        return bytes(vga.state.dac)
    return bytes(value << 2 | value >> 4 for value in vga.state.dac)


def palette(vga: Vga) -> bytes:
    """The DAC index of each of the sixteen colours of text and planes, as a table of 256 for ``translate``."""
    attribute = vga.state.attribute
    select = attribute[reg.AR_COLOR_SELECT]
    if attribute[reg.AR_MODE] & reg.AR_MODE_P54S:
        indices = [attribute[n] & 0x0F | (select & 0x0F) << 4 for n in range(reg.AR_PALETTE_COUNT)]
    else:
        indices = [attribute[n] & 0x3F | (select & 0x0C) << 4 for n in range(reg.AR_PALETTE_COUNT)]
    return bytes(index & vga.state.pel_mask for index in indices) * 16


def picture(vga: Vga) -> Image.Image:
    """The screen as an RGB picture."""
    registers = vga.state.dispi.registers
    if vga.state.dispi.linear and registers[dispi.BPP] in RAW_MODES:
        return _direct_color(vga)
    if in_text_mode(vga):
        width, height, dots = _text(vga)
    elif vga.state.dispi.linear or vga.state.graphics[reg.GR_MODE] & reg.MODE_SHIFT_256:
        width, height, dots = _bytes(vga)
    else:
        width, height, dots = _planes(vga)
    if not width or not height:
        return Image.new("RGB", (1, 1))
    image = Image.frombytes("P", (width, height), dots)
    image.putpalette(colors(vga))
    return image.convert("RGB")


def _direct_color(vga: Vga) -> Image.Image:
    extensions = vga.state.dispi
    width, height = extensions.registers[dispi.XRES], extensions.registers[dispi.YRES]
    pitch = extensions.pitch
    data = bytes(vga.memory[extensions.start : extensions.start + height * pitch])
    mode = RAW_MODES[extensions.registers[dispi.BPP]]
    return Image.frombytes("RGB", (width, height), data.ljust(height * pitch, b"\0"), "raw", mode, pitch, 1)


def _rows(vga: Vga) -> list[int]:
    """For each row of dots, where it begins: a word address in the planes.

    Scan lines of one character row show the same dots, unless the CRTC's mode control (bits 0 and 1 clear) puts
    the row scan counter into the address, as in the modes of the CGA and Hercules cards.
    """
    crtc = vga.state.crtc
    extensions = vga.state.dispi
    if extensions.enabled:
        pitch, start = extensions.pitch // 4, extensions.start // 4
        return [start + row * pitch for row in range(extensions.registers[dispi.YRES])]
    pitch, start = 2 * crtc[reg.CR_OFFSET], crtc[reg.CR_START_HIGH] << 8 | crtc[reg.CR_START_LOW]
    mode, scan = crtc[reg.CR_MODE], crtc[reg.CR_MAXIMUM_SCAN_LINE]
    lines = last_line(crtc) + 1 >> bool(scan & reg.SCAN_DOUBLE)
    height = (scan & 0x1F) + 1
    shared = ~mode & 3
    if not shared:
        return [start + row * pitch for row in range(lines // height)]
    bit_0 = 1 << 12 + (mode >> 6 & 1)
    rows = []
    for line in range(lines):
        row, counter = divmod(line, height)
        at = start + row * pitch
        if shared & 1:
            at = at & ~bit_0 | bit_0 * (counter & 1)
        if shared & 2:
            at = at & ~0x2000 | 0x2000 * (counter >> 1 & 1)
        rows.append(at)
    return rows


def _width(vga: Vga) -> int:
    """Dots in a row of the planar modes."""
    if vga.state.dispi.enabled:
        return vga.state.dispi.registers[dispi.XRES]
    return (vga.state.crtc[reg.CR_HORIZONTAL_DISPLAY_END] + 1) * 8


def _bytes(vga: Vga) -> tuple[int, int, bytes]:
    """A byte a dot: mode 13h and its unchained kin, and VBE's 8 bits."""
    linear = vga.state.dispi.linear
    width = _width(vga) if linear else _width(vga) // 2
    size = len(vga.memory) if linear else MINIMUM_MEMORY
    mask = vga.state.pel_mask
    rows = []
    for word in _rows(vga):
        at = 4 * word % size
        row = bytes(vga.memory[at : min(at + width, size)])
        rows.append(row.ljust(width, b"\0"))
    return width, len(rows), b"".join(rows).translate(bytes(index & mask for index in range(256)))


def _planes(vga: Vga) -> tuple[int, int, bytes]:
    """A bit a dot in each of four planes, or the CGA's two bits a dot."""
    interleaved = bool(vga.state.graphics[reg.GR_MODE] & reg.MODE_SHIFT_INTERLEAVE)
    width, rows = _width(vga), _rows(vga)
    enabled = EXPAND[vga.state.attribute[reg.AR_PLANE_ENABLE] & 0xF]
    words = vga.planes()
    dots = bytearray()
    for first in rows:
        for at in range(first, first + width // 8):
            word = (words[at % PLANE_SIZE] & enabled).to_bytes(4, "little")
            if interleaved:
                for low, high in ((word[0], word[2]), (word[1], word[3])):
                    dots += bytes(a | b << 2 for a, b in zip(CGA_DOTS[low], CGA_DOTS[high], strict=True))
            else:
                eight = DOTS[word[0]] | DOTS[word[1]] << 1 | DOTS[word[2]] << 2 | DOTS[word[3]] << 3
                dots += eight.to_bytes(8, "little")
    return width, len(rows), bytes(dots).translate(palette(vga))


def _font(vga: Vga, select: int) -> bytes:
    """256 shapes of 32 bytes from plane 2; the map wraps at the plane's end."""
    at = 4 * FONT_BASES[select] + FONT_PLANE
    return bytes(vga.memory[at : at + 4 * FONT_PITCH * 256 : 4])


def _text(vga: Vga) -> tuple[int, int, bytes]:
    """Characters and cursor."""
    state = vga.state
    screen = read_screen(vga)
    assert screen
    height = (state.crtc[reg.CR_MAXIMUM_SCAN_LINE] & 0x1F) + 1
    width = 8 if state.sequencer[reg.SR_CLOCKING] & reg.CLOCKING_8DOT else 9
    mode = state.attribute[reg.AR_MODE]
    backgrounds = 0x7 if mode & reg.AR_MODE_BLINK else 0xF
    maps = state.sequencer[reg.SR_CHARACTER_MAP]
    fonts = (_font(vga, maps & 3 | maps >> 2 & 4), _font(vga, maps >> 2 & 3 | maps >> 3 & 4))
    cells: dict[tuple[int, int], list[bytes]] = {}

    def cell(code: int, attribute: int) -> list[bytes]:
        """A character's rows, as colours."""
        known = cells.get((code, attribute))
        if known is None:
            ink, paper = attribute & 0xF, attribute >> 4 & backgrounds
            shape = fonts[attribute >> 3 & 1][FONT_PITCH * code : FONT_PITCH * code + height]
            known = []
            for bits in shape:
                row = DOTS[bits].to_bytes(8, "little")
                if width == 9:
                    joined = mode & reg.AR_MODE_LINE_GRAPHICS and code in LINE_GRAPHICS
                    row += row[7:] if joined else b"\0"
                known.append(row.translate(bytes((paper, ink)) + bytes(254)))
            cells[code, attribute] = known
        return known

    cursor = screen.cursor
    cursor_rows = range(state.crtc[reg.CR_CURSOR_START] & 0x1F, (state.crtc[reg.CR_CURSOR_END] & 0x1F) + 1)
    lines = []
    for row in range(screen.rows):
        first = row * screen.columns
        shapes = [cell(screen.codes[n], screen.attributes[n]) for n in range(first, first + screen.columns)]
        if cursor.visible and cursor.row == row:
            ink = bytes((screen.attribute(cursor.column, row) & 0xF,)) * width
            under = shapes[cursor.column]
            shapes[cursor.column] = [ink if n in cursor_rows else dots for n, dots in enumerate(under)]
        lines += [b"".join(shape[n] for shape in shapes) for n in range(height)]
    return screen.columns * width, screen.rows * height, b"".join(lines).translate(palette(vga))
