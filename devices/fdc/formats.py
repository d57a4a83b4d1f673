"""Formats of diskettes, by the size of their images, and the drives that take them."""

from __future__ import annotations

from dataclasses import dataclass

from devices.backends import Disk

RATE_500K, RATE_300K, RATE_250K, RATE_1M = range(4)
"""Data rates as DSR and CCR bits 0 and 1 select them (82077AA, table 2-5)."""


@dataclass(frozen=True, slots=True)
class Format:
    """Layout of a diskette with 512-byte sectors.

    ``drive`` is the CMOS type (register 10h) of the drive that is made for it: 1 = 360K, 2 = 1.2M, 3 = 720K,
    4 = 1.44M, 5 = 2.88M.
    """

    cylinders: int
    heads: int
    sectors: int
    rate: int
    drive: int

    @property
    def size(self) -> int:
        """Capacity in sectors."""
        return self.cylinders * self.heads * self.sectors

    def lba(self, cylinder: int, head: int, sector: int) -> int:
        """The position in the image of a sector; sectors count from 1."""
        return (cylinder * self.heads + head) * self.sectors + sector - 1


FORMATS = (
    # cylinders, heads, sectors a track, rate, drive: in order of capacity
    Format(40, 1, 8, RATE_250K, 1),  # 160K
    Format(40, 1, 9, RATE_250K, 1),  # 180K
    Format(40, 2, 8, RATE_250K, 1),  # 320K
    Format(40, 2, 9, RATE_250K, 1),  # 360K
    Format(80, 2, 9, RATE_250K, 4),  # 720K
    Format(80, 2, 10, RATE_250K, 4),  # 800K
    Format(80, 2, 15, RATE_500K, 2),  # 1.2M
    Format(80, 2, 18, RATE_500K, 4),  # 1.44M
    Format(82, 2, 18, RATE_500K, 4),
    Format(83, 2, 18, RATE_500K, 4),
    Format(80, 2, 20, RATE_500K, 4),  # 1.6M
    Format(80, 2, 21, RATE_500K, 4),  # 1.68M, "DMF"
    Format(82, 2, 21, RATE_500K, 4),  # 1.72M
    Format(83, 2, 21, RATE_500K, 4),
    Format(80, 2, 22, RATE_500K, 4),
    Format(80, 2, 23, RATE_500K, 4),
    Format(80, 2, 24, RATE_500K, 4),
    Format(80, 2, 36, RATE_1M, 5),  # 2.88M
    Format(80, 2, 39, RATE_1M, 5),
)
USUAL = (FORMATS[7], FORMATS[17], FORMATS[18])
"""1.44M and larger: an image of another size is taken as the beginning of the first that holds it."""


def format_of(sectors: int) -> Format | None:
    """The format of an image of *sectors* sectors, or ``None`` if no diskette holds so many.

    An image of no known size is the beginning of a 1.44M diskette, or of a larger one.
    """
    exact = (form for form in FORMATS if form.size == sectors)
    fitting = (form for form in USUAL if form.size >= sectors)
    return next(exact, None) or next(fitting, None)


class Drive:
    """A drive and the diskette in it.

    *cmos_type* is the drive's CMOS type; by default the drive is made for whatever is in it.
    """

    __slots__ = ("_cmos_type", "disk", "format")

    def __init__(self, disk: Disk | None = None, cmos_type: int | None = None) -> None:
        self._cmos_type = cmos_type
        self.insert(disk)

    @property
    def type(self) -> int:
        """The drive's CMOS type: as given, or one for the diskette, or 1.44M if empty."""
        if self._cmos_type is not None:
            return self._cmos_type
        return self.format.drive if self.format else 4

    def insert(self, disk: Disk | None) -> None:
        """Change the diskette.  Raises ``ValueError`` if the image is too large for any format."""
        form = format_of(disk.sectors) if disk else None
        if disk and form is None:
            raise ValueError(f"no diskette holds {disk.sectors} sectors")
        self.disk = disk
        self.format = form
