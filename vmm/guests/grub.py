"""A bootable GRUB made of the unmodified modules of Debian's ``grub-pc-bin``.

The layout is that of GRUB 2.06's i386-pc images (grub-core/boot/i386/pc, include/grub/kernel.h and
include/grub/offsets.h of its source)::

    boot.img       512 bytes   the boot sector; loads the next sector
    diskboot.img   512 bytes   loads the rest, as its block list says
    lzma_decompress.img        switches to protected mode, unpacks the rest to 1 MiB
    (LZMA) kernel.img, the modules in order of dependence, a configuration, the prefix
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from vmm.errors import ImageError
from vmm.guests.iso import iso_image

SECTOR = 512
MODULES = (
    *("biosdisk", "part_msdos", "iso9660", "fat", "ext2"),
    *("serial", "terminal", "normal", "minicmd", "configfile"),
    *("echo", "ls", "cat", "test", "date", "lspci", "cpuid", "halt", "reboot", "linux", "multiboot"),
)
"""Built in, with what they depend on."""
CONFIGURATION = "serial\nterminal_input serial console\nterminal_output serial console\n"
"""Commands that GRUB runs before its prompt: use COM1 and the keyboard and screen at once."""

_OBJ_ELF, _OBJ_CONFIG, _OBJ_PREFIX = 0, 2, 3  # enum of include/grub/kernel.h
_MODULE_MAGIC = b"mimg"
_COMPRESSED_SIZE = 0x08  # of lzma_decompress.img; the unpacked size follows
_BLOCK_LIST = SECTOR - 12  # of diskboot.img: first sector (8 bytes), count, segment
_LOAD_SEGMENT = 0x820
_LOAD_LIMIT = 0x7_8000  # bytes at 8200h: further up is the EBDA
_PARTITION_TABLE = 0x1BE
_PARTITION_START, _PARTITION_SECTORS = 2048, 2048
_CD_INFO_TABLE = struct.Struct("<III")  # at 8 of a boot image: LBA of the volume descriptor, LBA and size of the file


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ImageError(f"GRUB cannot be built: {folder / name}: {error.strerror}") from None


def resolve(dependencies: str, wanted: Sequence[str]) -> list[str]:
    """*wanted* and what it depends on, dependencies first; *dependencies* is the text of ``moddep.lst``.

    Raises ``ImageError`` if a module is not in the list.
    """
    needs = {name: rest.split() for name, _, rest in (line.partition(":") for line in dependencies.splitlines())}
    order: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in order or name in path:
            return
        if name not in needs:
            raise ImageError(f"GRUB cannot be built: there is no module {name!r}")
        for need in needs[name]:
            visit(need, (*path, name))
        order[name] = None

    for name in wanted:
        visit(name, ())
    return list(order)


def _kernel(elf: bytes) -> bytes:
    """The loadable bytes of ``kernel.img``: one segment without its .bss (ELF32 program header)."""
    offset = struct.unpack_from("<I", elf, 28)[0]
    start, _, _, size = struct.unpack_from("<IIII", elf, offset + 4)
    return elf[start : start + size]


def _object(kind: int, data: bytes) -> bytes:
    padded = data + bytes(-len(data) % 4)
    return struct.pack("<II", kind, 8 + len(padded)) + padded


def core(folder: Path, prefix: str, modules: Sequence[str] = MODULES) -> bytes:
    """What follows the loader: the decompressor and everything it unpacks.

    *folder* is ``usr/lib/grub/i386-pc`` of the package; *prefix* is where GRUB looks for its files.
    """
    parts = [
        _object(_OBJ_ELF, _read(folder, name + ".mod"))
        for name in resolve(_read(folder, "moddep.lst").decode(), modules)
    ]
    parts.append(_object(_OBJ_CONFIG, CONFIGURATION.encode() + b"\0"))
    parts.append(_object(_OBJ_PREFIX, prefix.encode() + b"\0"))
    objects = b"".join(parts)
    header = _MODULE_MAGIC + struct.pack("<II", 12, 12 + len(objects))
    plain = _kernel(_read(folder, "kernel.img")) + header + objects
    settings = {"id": lzma.FILTER_LZMA1, "lc": 3, "lp": 0, "pb": 2, "dict_size": 1 << 16}
    packed = lzma.compress(plain, format=lzma.FORMAT_RAW, filters=[settings])
    loader = bytearray(_read(folder, "lzma_decompress.img"))
    struct.pack_into("<II", loader, _COMPRESSED_SIZE, len(packed), len(plain))
    return bytes(loader) + packed


def _loaded(folder: Path, prefix: str) -> bytes:
    """diskboot.img, which loads what follows it from the sector after its own, and the core, in whole sectors."""
    rest = core(folder, prefix)
    rest += bytes(-len(rest) % SECTOR)
    if len(rest) > _LOAD_LIMIT or 2 + len(rest) // SECTOR > _PARTITION_START:
        raise ImageError("GRUB cannot be built: the modules are too large")
    first = bytearray(_read(folder, "diskboot.img"))
    struct.pack_into("<QHH", first, _BLOCK_LIST, 2, len(rest) // SECTOR, _LOAD_SEGMENT)
    return bytes(first) + rest


def disk(folder: Path) -> bytes:
    """A hard disk image: GRUB before an empty partition that begins at 1 MiB."""
    boot = bytearray(_read(folder, "boot.img"))
    boot[_PARTITION_TABLE : _PARTITION_TABLE + 64] = bytes(64)
    # Status, CHS of the first sector (none: use the LBA), type Linux, CHS of the last, LBA, sectors.
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", _PARTITION_START, _PARTITION_SECTORS)
    boot[_PARTITION_TABLE : _PARTITION_TABLE + 16] = entry
    image = bytes(boot) + _loaded(folder, "(hd0,msdos1)/boot/grub")
    return image + bytes((_PARTITION_START + _PARTITION_SECTORS) * SECTOR - len(image))


def cdrom(folder: Path) -> bytes:
    """An ISO 9660 image that boots GRUB by El Torito, without emulation of a disk.

    cdboot.img loads what follows it to 8000h and jumps to 8200h, over diskboot.img.
    """
    image = _read(folder, "cdboot.img") + _loaded(folder, "(cd)/boot/grub")

    def with_information(volume: int, block: int) -> bytes:
        filled = bytearray(image)
        _CD_INFO_TABLE.pack_into(filled, 8, volume, block, len(image))
        return bytes(filled)

    return iso_image("GRUB", with_information)


RECIPES: dict[str, Callable[[Path], bytes]] = {"disk": disk, "iso": cdrom}
"""What can be made of the package's folder."""
