"""The VGA's registers: ports, indices, bits, and which bits are kept.

Source: IBM VGA XGA Technical Reference Manual (1992), chapter 2; names are its own or those of its tables.
"""

from __future__ import annotations

from dataclasses import dataclass

ATTRIBUTE_ADDRESS = 0x3C0
ATTRIBUTE_DATA = 0x3C1
MISC_WRITE = 0x3C2  # read: input status 0
SEQUENCER_INDEX = 0x3C4
SEQUENCER_DATA = 0x3C5
PEL_MASK = 0x3C6
PEL_READ_INDEX = 0x3C7  # read: the DAC's state
PEL_WRITE_INDEX = 0x3C8
PEL_DATA = 0x3C9
FEATURE_READ = 0x3CA
MISC_READ = 0x3CC
GRAPHICS_INDEX = 0x3CE
GRAPHICS_DATA = 0x3CF
CRTC_INDEX = 0x3D4
CRTC_DATA = 0x3D5
INPUT_STATUS_1 = 0x3DA  # write: feature control
MONO_TO_COLOR = 0x20
"""3B4h, 3B5h and 3BAh are 3D4h, 3D5h and 3DAh of a monochrome mode."""

MISC_IOAS = 0x01  # the CRTC is at 3Dxh, not 3Bxh
MISC_ERAM = 0x02  # the processor may reach the display memory
MISC_CLOCK_SHIFT = 2
MISC_MASK = 0xEF

DOT_CLOCKS = (25_175_000, 28_322_000, 25_175_000, 25_175_000)
"""Hz, by the clock select bits; the external clocks stand for the first."""

STATUS_DE = 0x01  # blanking or retrace: the display is not enabled
STATUS_VR = 0x08  # vertical retrace

SR_CLOCKING, SR_MAP_MASK, SR_CHARACTER_MAP, SR_MEMORY_MODE = range(1, 5)
CLOCKING_8DOT = 0x01
CLOCKING_DCLK2 = 0x08  # half the dot clock
MEMORY_OE_DISABLE = 0x04  # no odd/even
MEMORY_CHAIN4 = 0x08

GR_SET_RESET, GR_ENABLE_SET_RESET, GR_COLOR_COMPARE, GR_ROTATE = range(4)
GR_READ_MAP, GR_MODE, GR_MISC, GR_DONT_CARE, GR_BIT_MASK = range(4, 9)
MODE_WRITE = 0x03
MODE_READ_COMPARE = 0x08
MODE_ODD_EVEN = 0x10
MODE_SHIFT_INTERLEAVE = 0x20
MODE_SHIFT_256 = 0x40
MISC_GRAPHICS = 0x01
MISC_CHAIN_ODD_EVEN = 0x02
GR_MISC_MAP_SHIFT = 2

MEMORY_MAPS = ((0xA_0000, 0x2_0000), (0xA_0000, 0x1_0000), (0xB_0000, 0x8000), (0xB_8000, 0x8000))
"""(address, bytes) of the window to display memory, by the graphics controller's memory map bits."""

CR_HORIZONTAL_TOTAL, CR_HORIZONTAL_DISPLAY_END = 0x00, 0x01
CR_VERTICAL_TOTAL, CR_OVERFLOW, CR_PRESET_ROW_SCAN, CR_MAXIMUM_SCAN_LINE = 0x06, 0x07, 0x08, 0x09
CR_CURSOR_START, CR_CURSOR_END, CR_START_HIGH, CR_START_LOW = 0x0A, 0x0B, 0x0C, 0x0D
CR_CURSOR_HIGH, CR_CURSOR_LOW, CR_RETRACE_START, CR_RETRACE_END = 0x0E, 0x0F, 0x10, 0x11
CR_VERTICAL_DISPLAY_END, CR_OFFSET, CR_MODE, CR_LINE_COMPARE = 0x12, 0x13, 0x17, 0x18
CURSOR_OFF = 0x20
RETRACE_END_PROTECT = 0x80  # locks CR0..CR7, but for the line compare bit of CR7
OVERFLOW_LINE_COMPARE = 0x10
SCAN_DOUBLE = 0x80

AR_PALETTE_COUNT = 16
AR_MODE, AR_OVERSCAN, AR_PLANE_ENABLE, AR_PANNING, AR_COLOR_SELECT = 0x10, 0x11, 0x12, 0x13, 0x14
AR_MODE_GRAPHICS = 0x01
AR_MODE_LINE_GRAPHICS = 0x04  # the ninth dot of C0h..DFh repeats the eighth
AR_MODE_BLINK = 0x08
AR_MODE_P54S = 0x80  # palette bits 5 and 4 come from the color select register
ATTRIBUTE_PAS = 0x20  # the palette is the display's, not the processor's

SEQUENCER_MASKS = (0x03, 0x3D, 0x0F, 0x3F, 0x0E, 0x00, 0x00, 0xFF)
GRAPHICS_MASKS = (0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF, 0, 0, 0, 0, 0, 0, 0)
ATTRIBUTE_MASKS = (0x3F,) * AR_PALETTE_COUNT + (0xEF, 0xFF, 0x3F, 0x0F, 0x0F) + (0,) * 11
"""Bits that are kept, by index.  The CRTC keeps every bit of 256 registers, as QEMU's does."""


@dataclass(frozen=True, slots=True)
class Mode:
    """Values of the registers of one video mode, each bank from index 0 on."""

    misc: int
    sequencer: bytes
    crtc: bytes
    graphics: bytes
    attribute: bytes


TEXT_MODE_3 = Mode(
    misc=0x67,
    sequencer=bytes.fromhex("03 00 03 00 02"),
    crtc=bytes.fromhex("5f4f50825581bf1f 004f0d0e00000000 9c8e8f281f96b9a3 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 10 0e 0f ff"),
    attribute=bytes.fromhex("0001020304051407 38393a3b3c3d3e3f 0c000f0800"),
)
"""Mode 3 as the video BIOS sets it: 80 by 25 characters of 9 by 16 dots, 16 colours, window at B8000h."""

TEXT_MODE_3_DAC = bytes(
    0x2A * (index >> bit & 1) + 0x15 * (index >> bit + 3 & 1) for index in range(64) for bit in (2, 1, 0)
)
"""Mode 3's first 64 DAC entries, 6 bits each of red, green and blue: bits 0..2 of the index are the strong
primaries (blue lowest), 3..5 the weak ones."""
