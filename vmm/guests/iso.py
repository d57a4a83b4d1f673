"""The smallest ISO 9660 image that boots: one file in the root, named by an El Torito boot record.

ECMA-119 (ISO 9660) for the descriptors and directory records; "El Torito" Bootable CD-ROM Format
Specification 1.0 for the boot record and its catalogue.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

BLOCK = 2048
"""Bytes of a logical sector."""
VOLUME, BOOT_RECORD, TERMINATOR, PATHS_LE, PATHS_BE, ROOT, CATALOGUE, FILE = 16, 17, 18, 19, 20, 21, 22, 23
"""Where things stand, in sectors."""

_DATE = bytes((120, 1, 1, 0, 0, 0, 0))  # 2020-01-01 00:00:00 UTC, 9.1.5
_LONG_DATE = b"2020010100000000\0"  # 8.4.26.1
_NO_DATE = b"0" * 16 + b"\0"
_PADDING = 150  # sectors at the end, as usual: a loader that reads ahead, or one sector too many, does not fail
_LOAD_SECTORS = 4  # of 512 bytes: the first block of the boot image


def _both(value: int, size: int) -> bytes:
    """A number in both byte orders (7.2.3, 7.3.3)."""
    return value.to_bytes(size, "little") + value.to_bytes(size, "big")


def _record(block: int, size: int, flags: int, name: bytes) -> bytes:
    """A directory record (9.1)."""
    body = b"\0" + _both(block, 4) + _both(size, 4) + _DATE + bytes((flags, 0, 0)) + _both(1, 2)
    body += bytes((len(name),)) + name + bytes((len(name) + 1) % 2)
    return bytes((len(body) + 1,)) + body


def _block(*parts: bytes) -> bytes:
    data = b"".join(parts)
    return data + bytes(BLOCK - len(data))


def _catalogue() -> bytes:
    """The validation entry and the default entry (El Torito 2.1, 2.2)."""
    validation = bytearray(struct.pack("<BBH24sHBB", 1, 0, 0, b"", 0, 0x55, 0xAA))
    checksum = -sum(struct.unpack("<16H", validation)) & 0xFFFF
    struct.pack_into("<H", validation, 28, checksum)
    default = struct.pack("<BBHBBHI20s", 0x88, 0, 0, 0, 0, _LOAD_SECTORS, FILE, b"")
    return bytes(validation) + default


def iso_image(label: str, boot_image: Callable[[int, int], bytes]) -> bytes:
    """An image whose boot program is ``boot_image(sector of the volume descriptor, its own first sector)``.

    *label* is the volume's name: at most 32 capital letters, digits and underscores.
    """
    file = boot_image(VOLUME, FILE)
    file_blocks = -(-len(file) // BLOCK) + _PADDING
    paths = b"\x01\x00" + ROOT.to_bytes(4, "little") + b"\x01\x00\x00\x00"
    paths_be = b"\x01\x00" + ROOT.to_bytes(4, "big") + b"\x00\x01\x00\x00"
    volume = _block(
        b"\x01CD001\x01\x00",
        b" " * 32,
        label.encode().ljust(32),
        bytes(8),
        _both(FILE + file_blocks, 4),
        bytes(32),
        *(_both(1, 2), _both(1, 2), _both(BLOCK, 2), _both(len(paths), 4)),
        *(struct.pack("<II", PATHS_LE, 0), struct.pack(">II", PATHS_BE, 0)),
        _record(ROOT, BLOCK, 2, b"\0"),
        b" " * 128,  # volume set
        b" " * 128 * 3,  # publisher, preparer, application
        b" " * 37 * 3,  # copyright, abstract and bibliographic files
        *(_LONG_DATE, _LONG_DATE, _NO_DATE, _NO_DATE),
        b"\x01\x00",
    )
    boot_record = _block(
        b"\0CD001\x01", b"EL TORITO SPECIFICATION".ljust(32, b"\0"), bytes(32), struct.pack("<I", CATALOGUE)
    )
    root = _block(
        _record(ROOT, BLOCK, 2, b"\0"), _record(ROOT, BLOCK, 2, b"\1"), _record(FILE, len(file), 0, b"BOOT.IMG;1")
    )
    blocks = (
        volume,
        boot_record,
        _block(b"\xffCD001\x01"),
        _block(paths),
        _block(paths_be),
        root,
        _block(_catalogue()),
    )
    return bytes(VOLUME * BLOCK) + b"".join(blocks) + file + bytes(file_blocks * BLOCK - len(file))
