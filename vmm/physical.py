"""Guest-physical memory: which page is RAM, ROM, device memory or nothing, and access to it for the VMM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from vmm.host import DEVICES, PAGE, Host

RAM: Final = 0
ROM: Final = 1
DEVICE: Final = 2
EXACT: Final = 3
NOTHING: Final = 4
"""Kinds of pages.

RAM      readable and writable memory
ROM      writes have no effect
DEVICE   handlers answer, and need not know at which instruction
EXACT    handlers answer, at the exact guest time: one instruction at a time
NOTHING  reads give all ones, writes have no effect
"""

LIMIT: Final = 1 << 32


class Page(NamedTuple):
    """What stands behind a guest-physical page."""

    kind: int
    host: int
    """Host-physical address of the page."""


class DeviceMemory(NamedTuple):
    """A device's window."""

    base: int
    size: int
    read: Callable[[int, int], int]
    write: Callable[[int, int, int], None]


class PhysicalMemory:
    """The guest's physical address space of 4 GiB.

    ``written(page, first, last)`` is called after the VMM or a device wrote to RAM in ``watched`` pages (those with
    translated code); ``remapped(first, count)`` after pages changed what stands behind them.
    """

    def __init__(self, host: Host, ram_size: int) -> None:
        self._host = host
        self.ram = host.ram
        self.ram_size = ram_size
        filler = host.new_frames(PAGE)
        host.frame(filler)[:] = b"\xff" * PAGE
        self.nothing = Page(NOTHING, filler)
        self._pages: dict[int, Page] = {}
        self._devices: list[DeviceMemory] = []
        self.watched: set[int] = set()
        self.written: Callable[[int, int, int], None] = lambda page, first, last: None
        self.remapped: Callable[[int, int], None] = lambda first, count: None

    # The map -------------------------------------------------------------------------------------------

    def page(self, number: int) -> Page:
        """What stands behind page *number* (address >> 12)."""
        page = self._pages.get(number)
        if page is not None:
            return page
        if number << 12 < self.ram_size:
            return Page(RAM, number << 12)
        return self.nothing

    def map(self, address: int, size: int, kind: int, host: int) -> None:
        """Let [address, address + size), whole pages, be *kind* with host-physical memory at *host*."""
        first, count = address >> 12, -(-size // PAGE)
        for n in range(count):
            self._pages[first + n] = Page(kind, host + n * PAGE)
        self.remapped(first, count)

    def map_ram(self, address: int, size: int, writable: bool = True) -> None:
        """Let RAM show through at its own address again."""
        self.map(address, size, RAM if writable else ROM, address)

    def unmap(self, address: int, size: int) -> None:
        """Let pages be what they are without a mapping: RAM below the RAM's end, else nothing."""
        first, count = address >> 12, -(-size // PAGE)
        for n in range(count):
            self._pages.pop(first + n, None)
        self.remapped(first, count)

    def add_rom(self, address: int, image: bytes) -> int:
        """Map *image* read-only at *address*; returns its host-physical address."""
        host = self._host.new_frames(len(image))
        self._host.frame(host, len(image))[:] = image
        self.map(address, len(image), ROM, host)
        return host

    def add_device(
        self,
        base: int,
        size: int,
        read: Callable[[int, int], int],
        write: Callable[[int, int, int], None],
        exact: bool = True,
    ) -> None:
        """Let a device answer at [base, base + size), whole pages, now."""
        self._host.map_device(base, size, read, write)
        self._devices.append(DeviceMemory(base, size, read, write))
        self.map(base, size, EXACT if exact else DEVICE, DEVICES + base)

    def map_device_page(self, address: int, kind: int) -> None:
        """Let the device added at *address* answer there again."""
        self.map(address, PAGE, kind, DEVICES + address)

    # Access for the VMM and for devices -------------------------------------------------------------------

    def plain(self, address: int, size: int) -> bool:
        """Whether *size* bytes at *address* surely stand at the same place in ``ram``; a negative one does not."""
        end = address + size
        return end <= self.ram_size and (address >= 0x10_0000 or (address >= 0 and end <= 0xA_0000))

    def read(self, address: int, size: int) -> bytes:
        """*size* bytes from *address*; what is not there reads as ones."""
        if self.plain(address, size):
            return bytes(self.ram[address : address + size])
        parts = []
        while size > 0:
            chunk = min(size, PAGE - (address & 0xFFF))
            parts.append(self._read_page(address, chunk))
            address = address + chunk & LIMIT - 1
            size -= chunk
        return b"".join(parts)

    def _read_page(self, address: int, size: int) -> bytes:
        page = self.page(address >> 12)
        if page.kind in (DEVICE, EXACT):
            return self._device_read(address, size)
        if page.host < self.ram_size and page.kind in (RAM, ROM):
            at = page.host + (address & 0xFFF)
            return bytes(self.ram[at : at + size])
        at = address & 0xFFF
        return bytes(self._host.frame(page.host)[at : at + size])

    def write(self, address: int, data: bytes) -> None:
        """Write *data* at *address*; what is not RAM or a device takes no notice."""
        size, at = len(data), 0
        while at < size:
            chunk = min(size - at, PAGE - (address & 0xFFF))
            self._write_page(address, data[at : at + chunk])
            address = address + chunk & LIMIT - 1
            at += chunk

    def _write_page(self, address: int, data: bytes) -> None:
        number = address >> 12
        page = self.page(number)
        first = address & 0xFFF
        if page.kind == RAM:
            at = page.host + first
            if page.host < self.ram_size:
                self.ram[at : at + len(data)] = data
            else:
                self._host.frame(page.host)[first : first + len(data)] = data
            if number in self.watched:
                self.written(number, first, first + len(data))
        elif page.kind in (DEVICE, EXACT):
            self._device_write(address, data)

    def _device(self, address: int) -> DeviceMemory | None:
        for device in self._devices:
            if device.base <= address < device.base + device.size:
                return device
        return None

    def _device_read(self, address: int, size: int) -> bytes:
        device = self._device(address)
        if device is None:
            return b"\xff" * size
        offset = address - device.base
        if size in (1, 2, 4):
            return device.read(offset, size).to_bytes(size, "little")
        return bytes(device.read(offset + n, 1) for n in range(size))

    def _device_write(self, address: int, data: bytes) -> None:
        device = self._device(address)
        if device is None:
            return
        offset = address - device.base
        if len(data) in (1, 2, 4):
            device.write(offset, len(data), int.from_bytes(data, "little"))
        else:
            for n, byte in enumerate(data):
                device.write(offset + n, 1, byte)
