"""RAM with broken cells: bits that are always 0 or always 1, for tests of memory tests.

A page with a broken cell is device memory over the RAM behind it.  Whatever is written, the stuck bits are put back
into the RAM at once, so every reader (the CPU, the VMM, DMA) finds them without a detour.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmm.config import BrokenCell
from vmm.host import PAGE
from vmm.physical import PhysicalMemory


class BrokenPage:
    """One page of RAM at guest-physical *base*, with its broken cells."""

    def __init__(self, ram: memoryview, base: int, cells: Sequence[BrokenCell]) -> None:
        self._ram = ram[base : base + PAGE]
        self._stuck: dict[int, tuple[int, int]] = {}
        """Bits that are kept and bits that are set, by offset."""
        for cell in cells:
            keep, ones = self._stuck.get(cell.address - base, (0xFF, 0))
            bit = 1 << cell.bit
            self._stuck[cell.address - base] = keep & ~bit, ones & ~bit | (bit if cell.stuck else 0)
        self._put_back()

    def _put_back(self) -> None:
        for at, (keep, ones) in self._stuck.items():
            self._ram[at] = self._ram[at] & keep | ones

    def read(self, offset: int, size: int) -> int:
        """*size* bytes at *offset*."""
        return int.from_bytes(self._ram[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Store *size* bytes at *offset*; stuck bits stay."""
        self._ram[offset : offset + size] = value.to_bytes(size, "little")
        self._put_back()


def install(physical: PhysicalMemory, cells: Sequence[BrokenCell]) -> list[int]:
    """Put *cells* into RAM; returns the numbers of their pages.

    Stores into these pages are not seen by traces: code in them must verify itself.
    """
    by_page: dict[int, list[BrokenCell]] = {}
    for cell in cells:
        by_page.setdefault(cell.address // PAGE, []).append(cell)
    for number, broken in by_page.items():
        page = BrokenPage(physical.ram, number * PAGE, broken)
        physical.add_device(number * PAGE, PAGE, page.read, page.write, exact=False)
    return list(by_page)
