"""Where the beam is: the CRTC's timing against guest time.

Source: IBM VGA XGA Technical Reference Manual, 2-58 ff. (CRT controller) and 2-47 (input status 1).
"""

from __future__ import annotations

from devices.core import SECOND
from devices.vga import registers as reg


def last_line(crtc: bytearray) -> int:
    """The number of the last scan line shown."""
    overflow = crtc[reg.CR_OVERFLOW]
    return crtc[reg.CR_VERTICAL_DISPLAY_END] | (overflow & 0x02) << 7 | (overflow & 0x40) << 3


def input_status(now: int, misc: int, clocking: int, crtc: bytearray) -> int:
    """Input status 1 at *now* (ns) under the miscellaneous output, clocking mode and CRTC registers."""
    overflow = crtc[reg.CR_OVERFLOW]
    dots = 8 if clocking & reg.CLOCKING_8DOT else 9
    dot_clock = reg.DOT_CLOCKS[misc >> reg.MISC_CLOCK_SHIFT & 3]
    if clocking & reg.CLOCKING_DCLK2:
        dot_clock //= 2
    characters = crtc[reg.CR_HORIZONTAL_TOTAL] + 5
    lines = (crtc[reg.CR_VERTICAL_TOTAL] | (overflow & 0x01) << 8 | (overflow & 0x20) << 4) + 2
    line, column = divmod(now * dot_clock // (SECOND * dots) % (characters * lines), characters)
    start = crtc[reg.CR_RETRACE_START] | (overflow & 0x04) << 6 | (overflow & 0x80) << 2
    height = (crtc[reg.CR_RETRACE_END] - start & 0xF) or 16
    if start <= line < start + height:
        return reg.STATUS_VR | reg.STATUS_DE
    blank = line > last_line(crtc) or column > crtc[reg.CR_HORIZONTAL_DISPLAY_END]
    return reg.STATUS_DE if blank else 0
