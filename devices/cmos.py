"""What a PC's set-up program leaves in CMOS RAM, as QEMU does it for SeaBIOS (QEMU: ``pc_cmos_init``).

The bytes are those that Ralf Brown's CMOS list gives for AT-class BIOSes, with Bochs's and QEMU's own
at 38h, 39h, 3Dh and 5Bh..5Fh.
"""

from __future__ import annotations

from collections.abc import Sequence

FLOPPY_TYPES, DISK_TYPES, EQUIPMENT = 0x10, 0x12, 0x14
BASE_MEMORY, EXTENDED_MEMORY, EXTENDED_MEMORY_FOUND = 0x15, 0x17, 0x30
DISK_TYPE_EXTENDED = (0x19, 0x1A)
DISK_PARAMETERS = (0x1B, 0x24)
MEMORY_ABOVE_16M, BOOT_ORDER_HIGH, DISK_TRANSLATION, BOOT_ORDER_LOW = 0x34, 0x38, 0x39, 0x3D
MEMORY_ABOVE_4G, PROCESSORS = 0x5B, 0x5F

FLOPPY_NONE, FLOPPY_1200K, FLOPPY_1440K, FLOPPY_2880K = 0, 2, 4, 5
"""Drive types of byte 10h."""

EQUIPMENT_FPU, EQUIPMENT_MOUSE = 0x02, 0x04
EQUIPMENT_FLOPPIES = (0x00, 0x01, 0x41)
"""By the number of floppy drives."""

DISK_TYPE_USER = 47
"""The parameters stand in the CMOS."""
TRANSLATION_NONE, TRANSLATION_LBA = 0, 1

BOOT_DEVICES = {"a": 1, "b": 1, "c": 2, "d": 3, "n": 4}
"""Floppy, hard disk, CD-ROM, network."""

KIB, MIB = 1 << 10, 1 << 20
LOW_MEMORY_LIMIT, LOW_MEMORY_SPLIT = 0xE000_0000, 0xC000_0000
"""The i440FX keeps RAM of this size and more out of the PCI hole: it ends at the split and goes on at 4 GiB."""

Geometry = tuple[int, int, int]
"""Cylinders, heads, sectors a track."""


def standard_geometry(sectors: int) -> Geometry:
    """The geometry an ATA disk of so many 512-byte sectors reports: 16 heads, 63 sectors, 2..16383 cylinders."""
    return min(max(sectors // (16 * 63), 2), 16383), 16, 63


def pc_cmos(
    ram_size: int, floppies: Sequence[int], disks: Sequence[Geometry | None], boot_order: str = "cad"
) -> dict[int, int]:
    """The bytes by index.

    *ram_size* is in bytes; *floppies* are the types (``FLOPPY_*``) of drives A and B; *disks* the geometries
    of the ATA disks, primary master and slave, secondary master and slave; *boot_order* up to three letters of
    ``BOOT_DEVICES``.  Raises ``ValueError`` for another letter or more of anything.
    """
    if len(floppies) > 2 or len(disks) > 4 or len(boot_order) > 3 or not set(boot_order) <= set(BOOT_DEVICES):
        raise ValueError("a PC has 2 floppy drives, 4 ATA disks and 3 boot devices of 'abcdn'")
    low = ram_size if ram_size < LOW_MEMORY_LIMIT else LOW_MEMORY_SPLIT
    cmos: dict[int, int] = {PROCESSORS: 0}

    def store(index: int, value: int, size: int) -> None:
        for n, byte in enumerate(value.to_bytes(size, "little")):
            cmos[index + n] = byte

    extended = min(max(ram_size - MIB, 0) // KIB, 0xFFFF)
    store(BASE_MEMORY, min(ram_size // KIB, 640), 2)
    store(EXTENDED_MEMORY, extended, 2)
    store(EXTENDED_MEMORY_FOUND, extended, 2)
    store(MEMORY_ABOVE_16M, min(max(low - 16 * MIB, 0) // (64 * KIB), 0xFFFF), 2)
    store(MEMORY_ABOVE_4G, (ram_size - low) // (64 * KIB) & 0xFF_FFFF, 3)

    first, second, third = ([BOOT_DEVICES[letter] for letter in boot_order] + [0, 0, 0])[:3]
    cmos[BOOT_ORDER_LOW] = second << 4 | first
    # Bit 0 clear: the signature of a floppy's boot sector is checked.
    cmos[BOOT_ORDER_HIGH] = third << 4

    drive_a, drive_b = ([*floppies, FLOPPY_NONE, FLOPPY_NONE])[:2]
    cmos[FLOPPY_TYPES] = drive_a << 4 | drive_b
    count = (drive_a != FLOPPY_NONE) + (drive_b != FLOPPY_NONE)
    cmos[EQUIPMENT] = EQUIPMENT_FLOPPIES[count] | EQUIPMENT_FPU | EQUIPMENT_MOUSE

    cmos[DISK_TYPES] = cmos[DISK_TRANSLATION] = 0
    for n, geometry in enumerate(disks):
        if geometry is None:
            continue
        cylinders, heads, sectors = geometry
        translated = cylinders > 1024 or heads > 16 or sectors > 63
        cmos[DISK_TRANSLATION] |= (TRANSLATION_LBA if translated else TRANSLATION_NONE) << 2 * n
        if n < 2:
            cmos[DISK_TYPES] |= (0xF0, 0x0F)[n]
            cmos[DISK_TYPE_EXTENDED[n]] = DISK_TYPE_USER
            # No write precompensation; control byte: more than eight heads, no retries.
            parameters = DISK_PARAMETERS[n]
            store(parameters, cylinders, 2)
            cmos[parameters + 2] = heads
            store(parameters + 3, 0xFFFF, 2)
            cmos[parameters + 5] = 0xC0 | (heads > 8) << 3
            store(parameters + 6, cylinders, 2)
            cmos[parameters + 8] = sectors
    return cmos
