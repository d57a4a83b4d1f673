"""Images for the tests of the loaders, made field by field, and a guest memory that watches its bounds."""

from io import BytesIO
from struct import pack, pack_into, unpack_from

import pytest

from vmm.loaders import EntryState, Image, Options, load

MIB = 1 << 20
RAM = 16 * MIB


class Ram:
    """Guest memory that refuses what is outside RAM, and remembers whether anything was written."""

    def __init__(self, size: int = RAM) -> None:
        self.size = size
        self.bytes = bytearray(b"\xa5" * size)
        self.writes = 0

    def write(self, address: int, data: bytes) -> None:
        end = address + len(data)
        assert 0 <= address < end <= 0xA_0000 or MIB <= address < end <= self.size
        self.bytes[address:end] = data
        self.writes += 1

    def string(self, address: int) -> str:
        return self.bytes[address : self.bytes.index(0, address)].decode()

    def words(self, address: int, count: int) -> tuple[int, ...]:
        return unpack_from(f"<{count}I", self.bytes, address)


def boot(
    data: bytes, options: Options | None = None, ram_size: int = RAM, name: str = "image"
) -> tuple[EntryState, Ram]:
    ram = Ram(ram_size)
    return load(Image(data, name), ram, ram_size, options), ram


# Images ------------------------------------------------------------------------------------------

CODE = b"\xb0\x31\xe6\xf4" * 4


def elf(
    segments: tuple[tuple[int, int, int, bytes], ...] = ((0x10_0000, 0x10_0000, 0x2000, CODE),),
    entry: int = 0x10_0000,
    **changes: int,
) -> bytes:
    """An ELF32 file from (virtual, physical, memory size, content) and changed header fields."""
    fields = {
        "class": 1,
        "data": 1,
        "type": 2,
        "machine": 3,
        "phoff": 52,
        "phentsize": 32,
        "phnum": len(segments),
        "shoff": 0,
        "filesz": -1,
        "offset": -1,
    } | changes
    ident = b"\x7fELF" + bytes([fields["class"], fields["data"], 1]) + bytes(9)
    order = ">" if fields["data"] == 2 else "<"
    header = ident + pack(
        f"{order}HHIIIIIHHHHHH",
        fields["type"],
        fields["machine"],
        1,
        entry,
        fields["phoff"],
        fields["shoff"],
        0,
        52,
        fields["phentsize"],
        fields["phnum"],
        40,
        0,
        0,
    )
    at = 0x1000
    table = body = b""
    for virtual, physical, size, data in segments:
        offset = at + len(body) if fields["offset"] < 0 else fields["offset"]
        file_size = len(data) if fields["filesz"] < 0 else fields["filesz"]
        table += pack(f"{order}8I", 1, offset, virtual, physical, file_size, size, 5, 0x1000)
        body += data
    return (header + table).ljust(at, b"\0") + body


def multiboot1(flags: int = 0, checksum: int | None = None, fields: bytes = b"") -> bytes:
    return (
        pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF if checksum is None else checksum) + fields
    )


def multiboot1_elf(flags: int = 0, checksum: int | None = None) -> bytes:
    return elf(((0x10_0000, 0x10_0000, 0x2000, multiboot1(flags, checksum) + CODE),), 0x10_000C)


def addressed(*fields: int, prefix: int = 0) -> bytes:
    return bytes(prefix) + multiboot1(1 << 16, None, pack("<5I", *fields)) + CODE


def tag(kind: int, content: bytes = b"", optional: bool = False) -> bytes:
    data = pack("<HHI", kind, optional, 8 + len(content)) + content
    return data + bytes(-len(data) % 8)


def multiboot2(*tags: bytes, end: bool = True, arch: int = 0, size: int | None = None, wrong: int = 0) -> bytes:
    body = b"".join(tags) + (tag(0) if end else b"")
    size = 16 + len(body) if size is None else size
    return pack("<4I", 0xE85250D6, arch, size, -(0xE85250D6 + arch + size) + wrong & 0xFFFFFFFF) + body


def multiboot2_elf(*tags: bytes, **changes: int) -> bytes:
    return elf(((0x10_0000, 0x10_0000, 0x2000, multiboot2(*tags, **changes).ljust(256, b"\0") + CODE),), 0x10_0100)


def bzimage(
    version: int = 0x020C,
    payload: bytes = CODE * 64,
    setup_sectors: int = 2,
    cut: int = 0,
    **changes: int,
) -> bytes:
    """A Linux kernel image with the header fields that the loader reads."""
    data = bytearray((setup_sectors + 1) * 512)
    data[0x1F1] = setup_sectors
    pack_into("<I", data, 0x1F4, changes.get("syssize", (len(payload) + 15) // 16))
    data[0x1FE:0x206] = b"\x55\xaa\xeb\x66HdrS"
    pack_into("<H", data, 0x206, version)
    data[0x211] = changes.get("loadflags", 1)
    pack_into("<I", data, 0x214, changes.get("code32_start", 0x10_0000))
    pack_into("<I", data, 0x22C, changes.get("initrd_addr_max", 0x7FFF_FFFF))
    pack_into("<I", data, 0x230, changes.get("alignment", 0x1000))
    data[0x234] = changes.get("relocatable", 1)
    pack_into("<I", data, 0x238, changes.get("cmdline_size", 255))
    pack_into("<Q", data, 0x258, changes.get("pref_address", 0x20_0000))
    pack_into("<I", data, 0x260, changes.get("init_size", 0x10_0000))
    whole = bytes(data) + payload
    return whole[: len(whole) - cut]


def sector(size: int = 512, table: bytes = b"") -> bytes:
    data = bytearray(size)
    data[:4] = CODE[:4]
    data[0x1BE : 0x1BE + len(table)] = table
    data[510:512] = b"\x55\xaa"
    return bytes(data)


PARTITION = bytes([0x80, 1, 1, 0, 0x0C, 1, 1, 1]) + pack("<II", 63, 1000)


def iso(**changes: int) -> bytes:
    """An ISO image by pycdlib, with changed bytes at named places."""
    pycdlib = pytest.importorskip("pycdlib")
    disc = pycdlib.PyCdlib()
    disc.new()
    disc.add_fp(BytesIO(CODE * 128), len(CODE) * 128, "/BOOT.BIN;1")
    if not changes.pop("plain", 0):
        disc.add_eltorito("/BOOT.BIN;1", bootcatfile="/BOOT.CAT;1", boot_load_size=4)
    out = BytesIO()
    disc.write_fp(out)
    disc.close()
    data = bytearray(out.getvalue())
    (catalog,) = unpack_from("<I", data, 17 * 2048 + 0x47)
    for place, value in changes.items():
        if place == "catalog":
            pack_into("<I", data, 17 * 2048 + 0x47, value)
        elif place == "start":
            pack_into("<I", data, catalog * 2048 + 32 + 8, value)
        elif place == "count":
            pack_into("<H", data, catalog * 2048 + 32 + 6, value)
        else:
            data[catalog * 2048 + int(place.removeprefix("b"))] = value
    return bytes(data)


def bios(size: int = 0x2_0000) -> bytes:
    return bytes(size - 16) + b"\xea\x5b\xe0\x00\xf0" + b"06/23/99".ljust(11, b"\0")


def option_rom(blocks: int = 2, wrong: int = 0, size: int | None = None) -> bytes:
    data = bytearray(blocks * 512)
    data[:5] = b"\x55\xaa" + bytes([blocks]) + b"\xeb\x01"
    data[-1] = -sum(data) + wrong & 0xFF
    return bytes(data) if size is None else bytes(data).ljust(size, b"\0")


def size_id(value: object) -> str | None:
    """Test names with the sizes of images instead of their bytes."""
    return f"{len(value)}-bytes" if isinstance(value, bytes) else None
