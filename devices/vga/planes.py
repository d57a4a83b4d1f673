"""The graphics controller between processor and the four planes.

Display memory is kept with the planes side by side: byte 4n + p is byte n of plane p, so a 32-bit word of host
memory is what the latches hold.  Source: IBM VGA XGA Technical Reference Manual, 2-79 ff. (graphics controller).
"""

from __future__ import annotations

from devices.vga.registers import (
    GR_BIT_MASK,
    GR_COLOR_COMPARE,
    GR_DONT_CARE,
    GR_ENABLE_SET_RESET,
    GR_MODE,
    GR_READ_MAP,
    GR_ROTATE,
    GR_SET_RESET,
    MODE_READ_COMPARE,
    MODE_WRITE,
)

REPEAT = 0x0101_0101
"""Times a byte: that byte in all four planes."""

EXPAND = tuple(sum(0xFF << 8 * plane for plane in range(4) if value >> plane & 1) for value in range(16))
"""Four plane bits as four bytes, all ones or all zeros."""


def read_planes(graphics: bytearray, latch: int) -> int:
    """The byte that the processor reads when the latches hold *latch*."""
    if graphics[GR_MODE] & MODE_READ_COMPARE:
        differs = (latch ^ EXPAND[graphics[GR_COLOR_COMPARE]]) & EXPAND[graphics[GR_DONT_CARE]]
        differs |= differs >> 16
        return ~(differs | differs >> 8) & 0xFF
    return latch >> 8 * graphics[GR_READ_MAP] & 0xFF


def write_planes(graphics: bytearray, latch: int, value: int) -> int:
    """The four bytes that a write of the byte *value* gives the planes (before the map mask)."""
    mode = graphics[GR_MODE] & MODE_WRITE
    if mode == 1:
        return latch
    bits = graphics[GR_BIT_MASK]
    if mode == 2:
        data = EXPAND[value & 0xF]
    else:
        count = graphics[GR_ROTATE] & 7
        value = (value >> count | value << 8 - count) & 0xFF
        if mode == 3:
            bits &= value
            data = EXPAND[graphics[GR_SET_RESET]]
        else:
            forced = EXPAND[graphics[GR_ENABLE_SET_RESET]]
            data = value * REPEAT & ~forced | EXPAND[graphics[GR_SET_RESET]] & forced
    function = graphics[GR_ROTATE] >> 3
    if function == 1:
        data &= latch
    elif function == 2:
        data |= latch
    elif function == 3:
        data ^= latch
    mask = bits * REPEAT
    return data & mask | latch & ~mask
