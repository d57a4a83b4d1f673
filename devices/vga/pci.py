"""The VGA as a PCI function, QEMU's standard VGA 1234:1111: linear memory at BAR 0, registers at BAR 2, a ROM.

Source: QEMU's docs/specs/standard-vga.txt.
"""

from __future__ import annotations

from typing import ClassVar

from devices.bus import float_read
from devices.pci import BAR0, BAR2, EXPANSION_ROM, Mapper, PciFunction, Region, config_space, unmapped
from devices.vga.core import Vga
from devices.vga.dispi import VIDEO_MEMORY_64K

REGISTERS_SIZE = 0x1000
VGA_PORTS = range(0x400, 0x420)
"""Offsets in BAR 2 that stand for ports 3C0h..3DFh."""
FIRST_PORT = 0x3C0
DISPI = range(0x500, 0x500 + 2 * (VIDEO_MEMORY_64K + 1))
"""The DISPI registers, 16 bits each."""
EXTENDED = {0x600: 8, 0x604: 0x1E1E_1E1E}
"""QEMU's own registers by offset, 32 bits each: the size of this block, and "the frame buffer is little-endian"."""


class StdVga(PciFunction):
    """The PCI side of *vga*: the frame buffer, the registers by memory, and the video BIOS *rom*.

    The legacy ports and the window at A0000h are the ``Vga``'s, wherever the BARs are.  *rom* is padded to a
    power of two.
    """

    name = "std_vga"
    config_reset: ClassVar[bytes] = config_space(0x1234, 0x1111, 0x030000, revision=2)

    def __init__(self, vga: Vga, slot: int, rom: bytes = b"", mapper: Mapper = unmapped) -> None:
        self.vga = vga
        regions = [
            Region(BAR0, len(vga.memory), False, memory=vga.memory, prefetchable=True),
            Region(BAR2, REGISTERS_SIZE, False, self._read, self._write),
        ]
        if rom:
            size = max(0x800, 1 << (len(rom) - 1).bit_length())
            regions.append(Region(EXPANSION_ROM, size, False, memory=rom.ljust(size, b"\xff")))
        super().__init__(slot, 0, regions, mapper)

    def _read(self, offset: int, size: int) -> int:
        if offset in VGA_PORTS and offset + size <= VGA_PORTS.stop:
            first = FIRST_PORT + offset - VGA_PORTS.start
            return sum(self.vga.read_port(first + n, 1) << 8 * n for n in range(size))
        if offset in DISPI and size == 2 and not offset % 2:
            return self.vga.read_dispi((offset - DISPI.start) // 2)
        if offset in EXTENDED and size == 4:
            return EXTENDED[offset]
        return 0 if offset < VGA_PORTS.start else float_read(offset, size)

    def _write(self, offset: int, size: int, value: int) -> None:
        if offset in VGA_PORTS and offset + size <= VGA_PORTS.stop:
            first = FIRST_PORT + offset - VGA_PORTS.start
            for n in range(size):
                self.vga.write_port(first + n, 1, value >> 8 * n & 0xFF)
        elif offset in DISPI and size == 2 and not offset % 2:
            self.vga.write_dispi((offset - DISPI.start) // 2, value)
