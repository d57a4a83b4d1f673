"""El Torito 1.0: a bootable CD-ROM (ISO 9660) and its default boot entry."""

from __future__ import annotations

from struct import unpack, unpack_from

from vmm.loaders import disk
from vmm.loaders.entry import EntryState, Medium, real_mode
from vmm.loaders.image import Image
from vmm.loaders.options import Kind, Options
from vmm.loaders.placement import Placement

SECTOR = 2048
VIRTUAL_SECTOR = 512
PRIMARY_DESCRIPTOR = 16 * SECTOR
BOOT_RECORD = 17 * SECTOR
STANDARD_IDENTIFIER = b"CD001"
BOOT_SYSTEM = b"EL TORITO SPECIFICATION"
AT_CATALOG = 0x47

VALIDATION_HEADER, PLATFORM_X86, BOOTABLE = 0x01, 0x00, 0x88
DEFAULT_SEGMENT = 0x07C0
NO_EMULATION = 0
EMULATED_DRIVES = {0: 0xE0, 1: disk.FLOPPY_DRIVE, 2: disk.FLOPPY_DRIVE, 3: disk.FLOPPY_DRIVE, 4: disk.DISK_DRIVE}
"""Media type (2.4) -> the BIOS drive number that the boot code gets in DL."""


def is_iso(head: bytes) -> bool:
    """Does the file begin like an ISO 9660 volume?"""
    return head[PRIMARY_DESCRIPTOR + 1 : PRIMARY_DESCRIPTOR + 6] == STANDARD_IDENTIFIER


def load(image: Image, placement: Placement, options: Options) -> EntryState:
    """The default entry's boot code, at its load segment, as the BIOS hands over.

    Raises ``ImageError`` for an ISO that is not bootable, or not on a PC, or whose catalog is damaged.
    """
    if not is_iso(image.head(PRIMARY_DESCRIPTOR + SECTOR)):
        raise image.error("the file is no ISO 9660 image")
    record = image.read(BOOT_RECORD, SECTOR, "the boot record")
    if record[1:6] != STANDARD_IDENTIFIER or record[0] or not record[7:].startswith(BOOT_SYSTEM):
        raise image.error("the ISO image is not bootable: it has no El Torito boot record")
    (catalog_sector,) = unpack_from("<I", record, AT_CATALOG)
    catalog = image.read(catalog_sector * SECTOR, 64, "the boot catalog")
    if catalog[0] != VALIDATION_HEADER or catalog[30:32] != b"\x55\xaa" or sum(unpack("<16H", catalog[:32])) & 0xFFFF:
        raise image.error("the ISO image's boot catalog has no valid validation entry")
    if catalog[1] != PLATFORM_X86:
        raise image.error(f"the ISO image's boot catalog is for another platform ({catalog[1]:#x})")
    indicator, media, segment, _, _, count, start = unpack_from("<BBHBBHI", catalog, 32)
    if indicator != BOOTABLE:
        raise image.error("the ISO image's default boot entry is not bootable")
    if media & 0xF not in EMULATED_DRIVES:
        raise image.error(f"the ISO image's default boot entry has the unknown media type {media & 0xF}")
    if not count:
        raise image.error("the ISO image's default boot entry loads no sectors")
    size = count * VIRTUAL_SECTOR
    if start * SECTOR >= image.size:
        raise image.error(f"the ISO image is truncated: its boot code is at {start * SECTOR:#x} of {image.size:#x}")
    # mkisofs counts whole virtual sectors of the boot file, which may end before the last one.
    code = image.read(start * SECTOR, min(size, image.size - start * SECTOR), "the boot code")
    address = (segment or DEFAULT_SEGMENT) << 4
    placement.claim(address, code, "the boot code")
    drive = EMULATED_DRIVES[media & 0xF]
    medium = Medium(0xE0, image.size // SECTOR)
    return real_mode(Kind.ISO, address, drive=drive, firmware=True, medium=medium)
