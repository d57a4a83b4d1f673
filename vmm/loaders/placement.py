"""Where things go in guest RAM: nothing outside, nothing twice, nothing written before all is known to fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Protocol

from vmm.errors import ImageError
from vmm.loaders.options import EBDA_BASE, HIGH_RAM_BASE, LOW_RAM_END, USABLE, MemoryRange

ZEROS = bytes(1 << 16)


class MemoryWriter(Protocol):
    """Guest-physical memory, as a loader needs it."""

    def write(self, address: int, data: bytes, /) -> object:
        """Store *data* at the physical *address*; only ever called inside RAM."""


class Placement:
    """The plan of a load.  ``claim`` takes a given address, ``place`` finds one, ``commit`` writes.

    RAM is 0 .. 640 KiB and 1 MiB .. *ram_size*; ``place`` keeps to the usable rows of *memory_map*.
    """

    def __init__(self, ram_size: int, memory_map: tuple[MemoryRange, ...], name: str) -> None:
        self._ram = [(0, min(ram_size, LOW_RAM_END))]
        if ram_size > HIGH_RAM_BASE:
            self._ram.append((HIGH_RAM_BASE, ram_size))
        self._ram_size = ram_size
        self._usable = [(r.base, min(r.base + r.size, ram_size)) for r in memory_map if r.type == USABLE]
        self._name = name
        self.memory_map = memory_map
        self._starts: list[int] = []
        self._claims: list[tuple[int, int, str]] = []
        self._writes: list[tuple[int, bytes, int]] = []

    def claim(self, address: int, data: bytes, what: str) -> None:
        """Put *data* at *address*; errors as for ``reserve``."""
        self.reserve(address, len(data), what)
        self.fill(address, data)

    def reserve(self, address: int, size: int, what: str) -> None:
        """Take *size* bytes at *address*.  Raises ``ImageError`` if they are outside RAM or taken already."""
        end = address + size
        if not any(low <= address and end <= high for low, high in self._ram):
            raise self.error(
                f"{what} ({address:#x} to {end:#x}) does not fit the guest's RAM of {self._ram_size:#x} bytes"
            )
        if not size:
            return
        at = bisect_left(self._starts, address)
        for start, stop, other in self._claims[max(at - 1, 0) : at + 1]:
            if start < end and address < stop:
                raise self.error(f"{what} at {address:#x} overlaps {other} at {start:#x}")
        self._starts.insert(at, address)
        self._claims.insert(at, (address, end, what))

    def fill(self, address: int, data: bytes, size: int = 0) -> None:
        """Write *data*, zero-filled to *size* bytes, into reserved memory."""
        self._writes.append((address, data, max(size, len(data))))

    def error(self, sentence: str) -> ImageError:
        """An ``ImageError`` that names the image."""
        return ImageError(f"{self._name}: {sentence}")

    @property
    def claims(self) -> list[tuple[int, int, str]]:
        """(first address, address behind the last, what) of everything claimed so far, in order."""
        return list(self._claims)

    @property
    def end(self) -> int:
        """The address after everything claimed so far."""
        return max((stop for _, stop, _ in self._claims), default=0)

    def covers(self, address: int) -> bool:
        """Is the byte at *address* claimed?"""
        at = bisect_left(self._starts, address + 1) - 1
        return at >= 0 and address < self._claims[at][1]

    def _gaps(self) -> Iterator[tuple[int, int]]:
        for low, high in self._usable:
            for start, stop, _ in self._claims:
                if stop <= low or start >= high:
                    continue
                if start > low:
                    yield low, start
                low = stop
            if low < high:
                yield low, high

    def find(self, size: int, what: str, *, align: int, low: int, high: int, top: bool = False) -> int:
        """Free usable RAM of *size* bytes in [*low*, *high*): the lowest, or the highest if *top*.

        *align* is a power of two.  Raises ``ImageError`` if there is no room.
        """
        found = None
        for start, stop in self._gaps():
            start = max(start, low)
            stop = min(stop, high)
            address = (stop - size) & -align if top else (start + align - 1) & -align
            if start <= address <= address + size <= stop:
                found = address
                if not top:
                    break
        if found is None:
            raise self.error(f"{what} of {size:#x} bytes does not fit the guest's RAM of {self._ram_size:#x} bytes")
        return found

    def place(self, data: bytes, what: str, *, align: int, low: int, high: int, top: bool = False) -> int:
        """Put *data* where ``find`` says and return the address."""
        address = self.find(len(data), what, align=align, low=low, high=high, top=top)
        self.claim(address, data, what)
        return address

    def commit(self, memory: MemoryWriter) -> None:
        """Write everything."""
        for address, data, size in self._writes:
            if data:
                memory.write(address, data)
            for at in range(address + len(data), address + size, len(ZEROS)):
                memory.write(at, ZEROS[: address + size - at])


LOW_AREA = 0x1000
"""A loader's own structures go below the EBDA, but not into the first page (IVT and BIOS data)."""


def place_low(placement: Placement, data: bytes, what: str) -> int:
    """Put a loader's structure at the top of conventional memory, where kernels expect to find such things."""
    return placement.place(data, what, align=16, low=LOW_AREA, high=EBDA_BASE, top=True)
