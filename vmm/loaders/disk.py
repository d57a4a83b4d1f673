"""Boot sectors: floppy and hard-disk images.  The BIOS loads one sector to 7C00h and jumps there with DL = drive."""

from __future__ import annotations

from math import prod
from struct import unpack_from

from vmm.loaders.entry import EntryState, Medium, real_mode
from vmm.loaders.image import Image
from vmm.loaders.options import Kind, Options
from vmm.loaders.placement import Placement

SECTOR = 512
BOOT_ADDRESS = 0x7C00
SIGNATURE = b"\x55\xaa"
AT_SIGNATURE = 510
FLOPPY_DRIVE = 0x00
DISK_DRIVE = 0x80

PARTITION_TABLE = 0x1BE
PARTITION_ENTRY = 16

FLOPPIES = {
    cylinders * heads * sectors: (cylinders, heads, sectors)
    for cylinders, heads, sectors in (
        (40, 1, 8),
        (40, 1, 9),
        (40, 2, 8),
        (40, 2, 9),
        (80, 2, 9),
        (80, 2, 15),
        (80, 2, 18),
        (80, 2, 36),
    )
}
"""Sectors -> (cylinders, heads, sectors a track) of the PC's floppies: 160, 180, 320, 360, 720 K, 1.2, 1.44, 2.88 M."""
DEFAULT_FLOPPY = (80, 2, 18)
"""The drive that a shorter image is put into: 1.44 M."""


def has_partitions(head: bytes) -> bool:
    """Does the boot sector hold a plausible MBR partition table (each entry empty, or with a type and a size)?"""
    used = 0
    for n in range(4):
        entry = head[PARTITION_TABLE + n * PARTITION_ENTRY :][:PARTITION_ENTRY]
        status, kind, (start, count) = entry[0], entry[4], unpack_from("<II", entry, 8)
        if status & 0x7F or bool(kind) != bool(count) or (kind and not start):
            return False
        used += bool(kind)
    return used > 0


def check_size(image: Image) -> int:
    """Sectors of the image.  Raises ``ImageError`` if it does not end on a sector."""
    if image.size % SECTOR:
        raise image.error(f"the disk image of {image.size} bytes is no multiple of {SECTOR} bytes")
    return image.size // SECTOR


def classify(image: Image) -> Kind:
    """A floppy or a hard disk: by size, and by the partition table where the size says floppy."""
    sectors = image.size // SECTOR
    fits = sectors in FLOPPIES or sectors <= prod(DEFAULT_FLOPPY)
    return Kind.FLOPPY if fits and not has_partitions(image.head(SECTOR)) else Kind.DISK


def floppy(image: Image) -> Medium:
    """The image as a floppy.  Raises ``ImageError`` if no drive takes it."""
    sectors = check_size(image)
    geometry = FLOPPIES.get(sectors, DEFAULT_FLOPPY)
    if sectors > prod(geometry):
        raise image.error(f"the image of {image.size} bytes is larger than any floppy")
    return Medium(FLOPPY_DRIVE, sectors, *geometry)


def hard_disk(image: Image) -> Medium:
    """The image as a hard disk (LBA; the firmware makes up a geometry)."""
    return Medium(DISK_DRIVE, check_size(image))


def load_floppy(image: Image, placement: Placement, options: Options) -> EntryState:
    """The boot sector of a floppy as the BIOS hands over."""
    return load_boot_sector(image, placement, floppy(image), Kind.FLOPPY)


def load_hard_disk(image: Image, placement: Placement, options: Options) -> EntryState:
    """The boot sector of a hard disk as the BIOS hands over."""
    return load_boot_sector(image, placement, hard_disk(image), Kind.DISK)


def load_boot_sector(image: Image, placement: Placement, medium: Medium, kind: Kind) -> EntryState:
    """The boot sector at 7C00h.  Raises ``ImageError`` if it lacks its signature."""
    sector = image.read(0, SECTOR, "the boot sector")
    if sector[AT_SIGNATURE:] != SIGNATURE:
        raise image.error("the boot sector lacks the signature 55 AA")
    placement.claim(BOOT_ADDRESS, sector, "the boot sector")
    return real_mode(kind, BOOT_ADDRESS, drive=medium.drive, firmware=True, medium=medium)
