"""The Bochs VBE extensions: linear modes by an index and a data port.

Source: Bochs's VBE display API (vbe-display-api.txt) and QEMU's docs/specs/standard-vga.txt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

INDEX_PORT = 0x1CE
DATA_PORT = 0x1CF
ALIGNED_DATA_PORT = 0x1D0
"""The data port again, at an even address."""

ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, VIDEO_MEMORY_64K = range(11)
STORED = range(ID, VIDEO_MEMORY_64K)

ID0, ID5 = 0xB0C0, 0xB0C5
ENABLED = 0x01
GETCAPS = 0x02
DAC_8BIT = 0x20
NOCLEARMEM = 0x80

MAX_XRES, MAX_YRES, MAX_BPP = 16000, 12000, 32
CAPABILITIES = {XRES: MAX_XRES, YRES: MAX_YRES, BPP: MAX_BPP}
"""What these registers read as under GETCAPS."""

BITS = {4: 4, 8: 8, 15: 16, 16: 16, 24: 24, 32: 32}
"""Bits of memory a pixel, by depth; any other depth becomes 8."""


def _registers() -> list[int]:
    return [ID5] + [0] * (len(STORED) - 1)


@dataclass
class Dispi:
    """The registers.  ``write`` keeps them such that the picture lies within the memory."""

    index: int = 0
    registers: list[int] = field(default_factory=_registers)
    bank: int = 0
    """The bank in use, in 64 KiB: the register's until the extensions are switched off."""

    @property
    def enabled(self) -> bool:
        """A mode of the extensions is on."""
        return bool(self.registers[ENABLE] & ENABLED)

    @property
    def linear(self) -> bool:
        """A mode is on in which the memory counts up straight, not by planes."""
        return self.enabled and self.registers[BPP] != 4

    @property
    def pitch(self) -> int:
        """Bytes from one line to the next."""
        return self.registers[VIRT_WIDTH] * BITS.get(self.registers[BPP], 8) // 8

    @property
    def start(self) -> int:
        """Byte offset of the first pixel shown."""
        return self.registers[Y_OFFSET] * self.pitch + self.registers[X_OFFSET] * BITS.get(self.registers[BPP], 8) // 8

    def read(self, index: int, memory_size: int) -> int:
        """Register *index* of a chip with *memory_size* bytes."""
        if index == VIDEO_MEMORY_64K:
            return memory_size >> 16
        if index not in STORED:
            return 0
        if self.registers[ENABLE] & GETCAPS and index in CAPABILITIES:
            return CAPABILITIES[index]
        return self.registers[index]

    def write(self, index: int, value: int, memory_size: int) -> bool:
        """Write register *index*; true if that has just switched a mode on."""
        r = self.registers
        was_enabled = self.enabled
        if index == ID:
            if ID0 <= value <= ID5:
                r[ID] = value
        elif index == BANK:
            r[BANK] = self.bank = value & (memory_size >> 16) - 1
        elif index == ENABLE:
            if value & ENABLED and not was_enabled:
                r[VIRT_WIDTH] = r[X_OFFSET] = r[Y_OFFSET] = 0
            elif not value & ENABLED:
                self.bank = 0
            r[ENABLE] = value
        elif index in STORED and index != VIRT_HEIGHT:
            r[index] = value
        if self.enabled:
            self._fit(memory_size)
        return self.enabled and not was_enabled

    def _fit(self, memory_size: int) -> None:
        r = self.registers
        if r[BPP] not in BITS:
            r[BPP] = 8
        r[XRES] = min(max(r[XRES] & ~7, 8), MAX_XRES)
        r[VIRT_WIDTH] = max(min(r[VIRT_WIDTH] & ~7, MAX_XRES), r[XRES])
        lines = memory_size // self.pitch
        r[YRES] = min(max(r[YRES], 1), MAX_YRES, lines)
        r[VIRT_HEIGHT] = lines & 0xFFFF
        r[X_OFFSET] = min(r[X_OFFSET], MAX_XRES)
        r[Y_OFFSET] = min(r[Y_OFFSET], MAX_YRES)
        if self.start + r[YRES] * self.pitch > memory_size:
            r[Y_OFFSET] = 0
        if self.start + r[YRES] * self.pitch > memory_size:
            r[X_OFFSET] = 0
