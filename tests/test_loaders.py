"""Image loaders: what is recognised, what stands in memory and registers, what is refused and how."""

import os
from io import BytesIO
from pathlib import Path
from struct import pack, pack_into, unpack_from

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from translator import layout
from vmm.errors import ImageError
from vmm.loaders import (
    EntryState,
    Image,
    Kind,
    MemoryRange,
    Mode,
    Module,
    Options,
    enter,
    load,
    read_modules,
    recognise,
)
from vmm.vcpu import VCpu

MIB = 1 << 20
RAM = 16 * MIB
SMALL_RAM = 2 * MIB


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


# Recognition -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (multiboot1_elf(), Kind.MULTIBOOT1),
        (multiboot1_elf(checksum=1), Kind.MULTIBOOT1),
        (addressed(0x100000, 0x100000, 0, 0, 0x100020), Kind.MULTIBOOT1),
        (bytes(8188) + multiboot1(), Kind.FLAT),
        (bytes(2) + multiboot1() + bytes(512), Kind.FLAT),
        (multiboot2_elf(), Kind.MULTIBOOT2),
        (multiboot2_elf(wrong=1), Kind.MULTIBOOT2),
        (multiboot2() + bytes(16) + multiboot1(), Kind.MULTIBOOT1),
        (elf(), Kind.ELF32),
        (b"\x7fELF", Kind.ELF32),
        (bzimage(), Kind.LINUX),
        (sector(), Kind.FLOPPY),
        (sector(1474560), Kind.FLOPPY),
        (sector(2949120), Kind.FLOPPY),
        (sector(1474560, PARTITION), Kind.DISK),
        (sector(2 * MIB), Kind.DISK),
        (sector(1474560)[:-1], Kind.FLOPPY),
        (sector() + addressed(0x8200, 0x8200, 0, 0, 0x8220).ljust(512, b"\0"), Kind.FLOPPY),
        (bios(), Kind.ROM),
        (bios(0x4_0000), Kind.ROM),
        (option_rom(), Kind.OPTION_ROM),
        (CODE, Kind.FLAT),
        (b"\x90", Kind.FLAT),
        (bytes(0x1_0000), Kind.FLAT),
    ],
    ids=size_id,
)
def test_recognition(data: bytes, kind: Kind) -> None:
    assert recognise(Image(data)) is kind


def test_an_iso_is_recognised_even_with_a_boot_sector() -> None:
    data = bytearray(iso())
    assert recognise(Image(bytes(data))) is Kind.ISO
    data[:512] = sector()
    assert recognise(Image(bytes(data))) is Kind.ISO


# What is loaded ----------------------------------------------------------------------------------


def check_flat(state: EntryState, ram: Ram) -> None:
    """Flat segments that agree with the descriptors of the GDT in memory."""
    assert state.mode is Mode.FLAT32
    assert state.cr0 & 0x8000_0001 == 1
    assert not state.eflags & 0x200
    base, limit = state.gdtr
    for segment in state.segments:
        assert segment.selector + 7 <= limit
        low, high = ram.words(base + segment.selector, 2)
        assert (low, high >> 24, high & 0xFF) == (0xFFFF, 0, 0)
        assert high >> 8 & 0xF0FF == segment.attr
        assert (segment.base, segment.limit) == (0, 0xFFFF_FFFF)


def test_elf_segments_bss_and_entry() -> None:
    data = elf(((0xC010_0000, 0x10_0000, 0x2000, CODE), (0xC020_0000, 0x20_0000, 0x1_2345, b"data")), 0xC010_0004)
    state, ram = boot(data)
    assert (state.kind, state.eip) == (Kind.ELF32, 0x10_0004)
    assert ram.bytes[0x10_0000:0x10_2000] == CODE.ljust(0x2000, b"\0")
    assert ram.bytes[0x20_0000:0x21_2345] == b"data".ljust(0x1_2345, b"\0")
    assert ram.bytes[0x21_2345] == 0xA5
    check_flat(state, ram)


def test_damaged_section_headers_do_not_matter() -> None:
    assert boot(elf(shoff=0xFFFF_FFF0))[0].eip == 0x10_0000


def test_multiboot1_information() -> None:
    modules = (Module(b"first", "one 1"), Module(bytes(5000), "two"))
    options = Options(append="a=b c", initrd=b"initrd!", modules=modules)
    state, ram = boot(multiboot1_elf(3), options, name="kernel.elf")
    assert (state.kind, state.eip) == (Kind.MULTIBOOT1, 0x10_000C)
    check_flat(state, ram)
    assert state.gpr[layout.EAX] == 0x2BADB002
    info = state.gpr[layout.EBX]
    flags, lower, upper, _, line, count, table = ram.words(info, 7)
    assert flags == 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9 | 1 << 12
    assert (lower, upper) == (639, 15 * 1024)
    assert ram.string(line) == "kernel.elf a=b c"
    assert count == 3
    rows = [ram.words(table + 16 * n, 4) for n in range(3)]
    assert [bytes(ram.bytes[start:end]) for start, end, _, _ in rows] == [b"initrd!", b"first", bytes(5000)]
    assert [ram.string(text) for _, _, text, _ in rows] == ["initrd", "one 1", "two"]
    assert all(start % 4096 == 0 and start >= 0x10_2000 and not reserved for start, _, _, reserved in rows)
    length, at = ram.words(info + 44, 2)
    ranges = [unpack_from("<IQQI", ram.bytes, at + offset) for offset in range(0, length, 24)]
    assert ranges == [
        (20, 0, 0x9FC00, 1),
        (20, 0x9FC00, 0x400, 2),
        (20, 0xF0000, 0x10000, 2),
        (20, MIB, 15 * MIB, 1),
    ]
    assert ram.string(ram.words(info + 64, 1)[0]) == "vmm"
    assert unpack_from("<QIIIBB", ram.bytes, info + 88) == (0xB8000, 160, 80, 25, 16, 2)


@pytest.mark.parametrize(
    ("fields", "prefix", "start", "content", "end"),
    [
        ((0x200000, 0x200000, 0, 0, 0x200020), 0, 0x200000, 48, 0x200030),
        ((0x200040, 0x200000, 0, 0x201000, 0x200060), 64, 0x200000, 112, 0x201000),
        ((0x200000, 0x200000, 0x200028, 0x200100, 0x200020), 64, 0x200000, 40, 0x200100),
    ],
)
def test_multiboot1_address_fields(fields: tuple[int, ...], prefix: int, start: int, content: int, end: int) -> None:
    data = addressed(*fields, prefix=prefix)
    state, ram = boot(data)
    assert state.eip == fields[4]
    offset = prefix - (fields[0] - fields[1])
    assert ram.bytes[start:end] == data[offset : offset + content].ljust(end - start, b"\0")
    assert ram.bytes[end] == 0xA5
    check_flat(state, ram)


def test_address_fields_override_elf_headers() -> None:
    data = bytearray(elf())
    data[0x100 : 0x100 + 32] = multiboot1(1 << 16, None, pack("<5I", 0x300100, 0x300000, 0, 0, 0x301000))
    state, ram = boot(bytes(data))
    assert state.eip == 0x301000
    assert ram.bytes[0x300000 : 0x300000 + len(data)] == data


def read_tags(ram: Ram, info: int) -> list[tuple[int, bytes]]:
    total, reserved = ram.words(info, 2)
    assert (total % 8, info % 8, reserved) == (0, 0, 0)
    at, rows = info + 8, []
    while at < info + total:
        kind, size = ram.words(at, 2)
        rows.append((kind, bytes(ram.bytes[at + 8 : at + size])))
        at += size + 7 & -8
    assert at == info + total
    return rows


def test_multiboot2_information() -> None:
    requests = tag(1, pack("<3I", 1, 4, 6))
    options = Options(append="x", modules=(Module(b"abc", "m"),), rsdp_data=b"RSD PTR ".ljust(36, b"\1"))
    relocatable = tag(10, pack("<4I", 0, 0xFFFF_FFFF, 4096, 0), optional=True)
    state, ram = boot(multiboot2_elf(requests, relocatable, tag(99, b"?", optional=True)), options, name="k")
    assert (state.kind, state.eip, state.gpr[layout.EAX]) == (Kind.MULTIBOOT2, 0x10_0100, 0x36D76289)
    check_flat(state, ram)
    rows = read_tags(ram, state.gpr[layout.EBX])
    assert [kind for kind, _ in rows] == [1, 2, 3, 4, 6, 8, 15, 21, 0]
    content = dict(rows)
    assert (content[1], content[2]) == (b"k x\0", b"vmm\0")
    start, end = unpack_from("<II", content[3])
    assert (ram.bytes[start:end], content[3][8:]) == (b"abc", b"m\0")
    assert unpack_from("<II", content[4]) == (639, 15 * 1024)
    assert unpack_from("<II", content[6]) == (24, 0)
    assert unpack_from("<QQII", content[6], 8) == (0, 0x9FC00, 1, 0)
    assert unpack_from("<QIIIBB", content[8]) == (0xB8000, 160, 80, 25, 16, 2)
    assert content[15] == options.rsdp_data
    assert unpack_from("<I", content[21]) == (0x10_0000,)


@pytest.mark.parametrize("start", [0x300000, 0xFFFF_FFFF])
def test_multiboot2_address_and_entry_tags(start: int) -> None:
    tags = tag(2, pack("<4I", 0x300000, start, 0, 0x302000)), tag(3, pack("<I", 0x300048))
    data = multiboot2(*tags) + CODE * 8
    state, ram = boot(data)
    assert state.eip == 0x300048
    assert ram.bytes[0x300000:0x302000] == data.ljust(0x2000, b"\0")


def test_linux_boot_parameters() -> None:
    options = Options(append="console=ttyS0", initrd=b"cpio" * 1000, rsdp=0xE0010)
    data = bzimage()
    state, ram = boot(data, options)
    assert (state.kind, state.eip) == (Kind.LINUX, 0x20_0000)
    check_flat(state, ram)
    assert [segment.selector for segment in state.segments] == [0x18, 0x10, 0x18, 0x18, 0x18, 0x18]
    assert state.gpr[layout.EBX] == state.gpr[layout.EBP] == state.gpr[layout.EDI] == 0
    assert ram.bytes[0x20_0000 : 0x20_0000 + len(CODE) * 64] == CODE * 64
    params = state.gpr[layout.ESI]
    zero = bytes(ram.bytes[params : params + 4096])
    assert zero[0x1F1:0x210] == data[0x1F1:0x1FA] + b"\xff\xff" + data[0x1FC:0x210]
    assert zero[0x210] == 0xFF
    assert unpack_from("<I", zero, 0x214) == (0x20_0000,)
    image, size = unpack_from("<II", zero, 0x218)
    assert bytes(ram.bytes[image : image + size]) == options.initrd
    assert (image % 4096, image) == (0, RAM - 4096)
    assert ram.string(unpack_from("<I", zero, 0x228)[0]) == "console=ttyS0"
    assert unpack_from("<Q", zero, 0x70) == (0xE0010,)
    assert zero[0x1EF] == 0  # the sentinel
    assert zero[0x1E8] == 4
    assert [unpack_from("<QQI", zero, 0x2D0 + 20 * n) for n in (0, 3)] == [(0, 0x9FC00, 1), (MIB, 15 * MIB, 1)]
    assert unpack_from("<I", zero, 0x1E0) == (15 * 1024,)
    # screen_info: mode 3, 80 columns, 25 lines, VGA, 16 scan lines
    assert (zero[6], zero[7], zero[0xE], zero[0xF], zero[0x10]) == (3, 80, 25, 1, 16)
    assert not any(zero[0x268:0x2D0])  # the header ends where the file says: 202h + 66h


@pytest.mark.parametrize(
    ("changes", "address"),
    [({"relocatable": 0}, 0x10_0000), ({"version": 0x0204}, 0x10_0000), ({"pref_address": 0x80_0000}, 0x80_0000)],
)
def test_linux_load_address(changes: dict[str, int], address: int) -> None:
    assert boot(bzimage(**changes))[0].eip == address


def test_the_initrd_stays_below_its_limit() -> None:
    state, ram = boot(bzimage(initrd_addr_max=0x5F_FFFF), Options(initrd=bytes(0x1001)))
    start, size = ram.words(state.gpr[layout.ESI] + 0x218, 2)
    assert (start, size) == (0x5F_E000, 0x1001)


@pytest.mark.parametrize(("start", "options"), [(0, Options()), (0x10_0000, Options(firmware=True))])
def test_linux_by_its_real_mode_entry(start: int, options: Options) -> None:
    data = bzimage(code32_start=start, init_size=0)
    state, ram = boot(data, options)
    assert state.firmware
    assert (state.mode, state.linear, state.eip) == (Mode.REAL16, 0x1_0200, 0)
    assert {segment.base for n, segment in enumerate(state.segments) if n != layout.CS} == {0x1_0000}
    kernel = state.kernel
    assert kernel is not None
    assert (kernel.setup_address, kernel.kernel_address) == (0x1_0000, 0x10_0000)
    assert kernel.kernel == data[1536:] == ram.bytes[0x10_0000 : 0x10_0000 + len(kernel.kernel)]
    assert kernel.setup[0x211] == 0x81
    assert unpack_from("<I", kernel.setup, 0x228) == (kernel.command_line_address,)


@pytest.mark.parametrize(
    ("data", "kind", "drive", "sectors", "geometry"),
    [
        (sector(), Kind.FLOPPY, 0, 1, (80, 2, 18)),
        (sector(737280), Kind.FLOPPY, 0, 1440, (80, 2, 9)),
        (sector(1474560), Kind.FLOPPY, 0, 2880, (80, 2, 18)),
        (sector(4 * MIB), Kind.DISK, 0x80, 8192, (0, 0, 0)),
    ],
    ids=size_id,
)
def test_boot_sectors(data: bytes, kind: Kind, drive: int, sectors: int, geometry: tuple[int, int, int]) -> None:
    state, ram = boot(data)
    assert (state.kind, state.mode, state.linear, state.eip) == (kind, Mode.REAL16, 0x7C00, 0x7C00)
    assert state.firmware
    assert ram.bytes[0x7C00:0x7E00] == data[:512]
    medium = state.medium
    assert medium is not None
    assert (medium.drive, medium.sectors) == (drive, sectors)
    assert (medium.cylinders, medium.heads, medium.sectors_per_track) == geometry
    assert state.gpr[layout.EDX] == drive


def test_el_torito() -> None:
    state, ram = boot(iso())
    assert (state.kind, state.linear, state.gpr[layout.EDX]) == (Kind.ISO, 0x7C00, 0xE0)
    assert ram.bytes[0x7C00 : 0x7C00 + 2048] == CODE * 128
    assert state.medium is not None
    assert state.medium.sectors == len(iso()) // 2048


def test_a_bios_starts_at_the_reset_vector() -> None:
    data = bios(0x4_0000)
    state, ram = boot(data)
    assert (state.kind, state.linear, state.eip) == (Kind.ROM, 0xFFFF_FFF0, 0xFFF0)
    assert state.segments[layout.CS].selector == 0xF000
    assert state.roms == ((0xE_0000, data[-0x2_0000:]), (0xFFFC_0000, data))
    assert not ram.writes


def test_an_option_rom() -> None:
    state, _ = boot(option_rom(4, size=4096))
    assert state.roms == ((0xD_0000, option_rom(4)),)
    assert (state.linear, state.firmware) == (0xD_0003, True)


@pytest.mark.parametrize(
    ("options", "address", "mode", "selector", "eip"),
    [
        (Options(), 0x7C00, Mode.REAL16, 0, 0x7C00),
        (Options(address=0x1_2340), 0x1_2340, Mode.REAL16, 0x1000, 0x2340),
        (Options(address=0, entry=8), 0, Mode.REAL16, 0, 8),
        (Options(mode=Mode.FLAT32), MIB, Mode.FLAT32, 8, MIB),
        (Options(mode=Mode.FLAT32, address=0x8000, entry=0x8004), 0x8000, Mode.FLAT32, 8, 0x8004),
        (Options(kind=Kind.FLAT, address=0x500), 0x500, Mode.REAL16, 0, 0x500),
    ],
)
def test_flat_binaries(options: Options, address: int, mode: Mode, selector: int, eip: int) -> None:
    state, ram = boot(CODE, options)
    assert (state.kind, state.mode, state.eip) == (Kind.FLAT, mode, eip)
    assert state.segments[layout.CS].selector == selector
    assert ram.bytes[address : address + len(CODE)] == CODE


def test_enter_puts_the_processor_into_the_state() -> None:
    class NoMemory:
        def __getattr__(self, name: str) -> None:
            raise AssertionError(name)

    cpu = VCpu(memoryview(bytearray(layout.BLOCK_SIZE)), NoMemory())  # type: ignore[arg-type]
    state, _ = boot(multiboot1_elf())
    heard: list[str] = []
    cpu.on_control_change = heard.append
    enter(cpu, state)
    assert (cpu.eip, cpu.next_eip, cpu.cr0, cpu.gdtr, cpu.idtr) == (state.eip, state.eip, 0x11, state.gdtr, (0, 0))
    assert tuple(cpu.gpr[:8]) == state.gpr
    assert cpu.protected
    assert cpu.segments[layout.SS].big
    assert [s.limit for s in cpu.segments[:6]] == [0xFFFF_FFFF] * 6
    assert not cpu.interrupts_enabled
    assert heard == ["cr0"]


# What is refused ---------------------------------------------------------------------------------

HUGE = 0xFFFF_F000


def two(start: int) -> bytes:
    return elf(((0x10_0000, 0x10_0000, 0x2000, CODE), (start, start, 0x1000, CODE)))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        # ELF
        (b"\x7fELF", None, "truncated: the ELF header"),
        (elf()[:51], None, "truncated"),
        (elf()[:60], None, "truncated: the table of program headers"),
        (elf()[:0x1004], None, "truncated: ELF segment 0"),
        (elf(**{"class": 2}), None, "64-bit, not 32-bit"),
        (elf(**{"class": 9}), None, "unknown class 9"),
        (elf(data=2), None, "big-endian"),
        (elf(data=0), None, "unknown byte order"),
        (elf(machine=62), None, "another machine .*X86_64"),
        (elf(machine=40), None, "another machine .*ARM"),
        (elf(machine=0xBEEF), None, "another machine"),
        (elf(type=1), None, "no executable"),
        (elf(type=3), None, "no executable"),
        (elf(phnum=0), None, "no program headers"),
        (elf(phnum=0xFFFF), None, "65535 program headers"),
        (elf(phentsize=31), None, "31 bytes"),
        (elf(phoff=HUGE), None, "truncated"),
        (elf(offset=HUGE), None, "truncated: ELF segment 0"),
        (elf(filesz=0x2001), None, "more bytes in the file"),
        (elf(((MIB, MIB, 0, b""),)), None, "no segment to load"),
        (elf(((0, 0xB_8000, 0x1000, CODE),), 0), None, "does not fit the guest's RAM"),
        (elf(((0, 0x9_F000, 0x2000, CODE),), 0), None, "does not fit the guest's RAM"),
        (elf(((0, RAM - 0x1000, 0x1001, CODE),), 0), None, "does not fit the guest's RAM"),
        (elf(((0, HUGE, 0x1000, CODE),), 0), None, "does not fit the guest's RAM"),
        (elf(((0, MIB, HUGE, CODE),), 0), None, "does not fit the guest's RAM"),
        (two(0x10_1000), None, "segment 1 at 0x101000 overlaps ELF segment 0 at 0x100000"),
        (two(0x10_0000), None, "overlaps"),
        (two(0x0F_F800), None, "does not fit"),
        (elf(entry=0), None, "entry point 0x0 is outside"),
        (elf(entry=0x10_2000), None, "entry point 0x102000 is outside"),
        # multiboot 1
        (multiboot1_elf(checksum=1), None, "wrong checksum"),
        (multiboot1(checksum=0) + CODE, None, "wrong checksum"),
        (multiboot1_elf(0x10), None, "requires features .*0x10"),
        (multiboot1() + CODE, None, "not an ELF file"),
        (multiboot1(1 << 16), None, "truncated: the multiboot address fields"),
        (addressed(0x100000, 0x100004, 0, 0, 0x100020), None, "below load_addr"),
        (addressed(0x100004, 0x100000, 0, 0, 0x100020), None, "before the beginning"),
        (addressed(0x100000, 0x100000, 0x100031, 0, 0x100020), None, "truncated"),
        (addressed(0x100000, 0x100000, 0xFFFFF, 0, 0x100020), None, "load_end_addr .* is below"),
        (addressed(0x100000, 0x100000, 0, 0x10001F, 0x100020), None, "bss_end_addr .* is below"),
        (addressed(0x100000, 0x100000, 0, HUGE, 0x100020), None, "does not fit"),
        (addressed(HUGE, HUGE, 0, 0, HUGE), None, "does not fit"),
        (addressed(0xB8000, 0xB8000, 0, 0, 0xB8020), None, "does not fit"),
        (addressed(0x100000, 0x100000, 0, 0, 0x100030), None, "entry point 0x100030 is outside"),
        (addressed(0x100000, 0x100000, 0, 0, 0), None, "entry point 0x0 is outside"),
        (multiboot1_elf(), Options(initrd=bytes(RAM)), "module 0 .*does not fit"),
        (multiboot1_elf(), Options(modules=(Module(b"x"), Module(bytes(RAM)))), "module 1 .*does not fit"),
        (multiboot1_elf(), Options(append="x" * 700_000), "information .*does not fit"),
        (multiboot1_elf(), Options(append="a\0b"), "NUL"),
        (elf(), Options(kind=Kind.MULTIBOOT1), "no multiboot header"),
        # multiboot 2
        (multiboot2_elf(wrong=1), None, "wrong checksum"),
        (multiboot2_elf(arch=4), None, "another machine"),
        (multiboot2_elf(size=8), None, "length 0x8"),
        (multiboot2_elf(size=0x7FFF_FFFF), None, "length 0x7fffffff"),
        (multiboot2_elf(end=False), None, "no end tag"),
        (multiboot2_elf(pack("<HHI", 4, 0, 7) + bytes(8)), None, "impossible size 0x7"),
        (multiboot2_elf(pack("<HHI", 4, 0, HUGE)), None, "impossible size"),
        (multiboot2_elf(tag(2, bytes(4))), None, "too short"),
        (multiboot2_elf(tag(77)), None, "unknown tag 77"),
        (multiboot2_elf(tag(1, pack("<I", 12))), None, "information tag 12"),
        (multiboot2_elf(tag(2, bytes(16))), None, "no entry address tag"),
        (multiboot2_elf(tag(3, pack("<I", 0x900000))), None, "entry point 0x900000 is outside"),
        (multiboot2(tag(2, pack("<4I", 0, 0xFFFF_FFFF, 0, 0)), tag(3, bytes(4)))[:40], None, "truncated|impossible"),
        (bytes(8) + multiboot2(tag(2, pack("<4I", 4, 0xFFFF_FFFF, 0, 0)), tag(3, bytes(4))), None, "below the header"),
        (multiboot2() + CODE, None, "not an ELF file"),
        (elf(), Options(kind=Kind.MULTIBOOT2), "no multiboot2 header"),
        # bzImage
        (bzimage()[:0x220], None, "truncated: the setup header"),
        (bzimage()[:1536], None, "truncated: the setup code"),
        (bzimage(cut=512), None, "truncated: it says"),
        (bzimage(syssize=0x0FFF_FFFF), None, "truncated"),
        (bzimage(version=0x0201), None, "2.01 is older"),
        (bzimage(loadflags=0), None, "zImage"),
        (bzimage(alignment=3), None, "no power of two"),
        (bzimage(pref_address=0x20_0800), None, "not aligned"),
        (bzimage(init_size=HUGE), None, "the memory it needs to start"),
        (bzimage(pref_address=1 << 40), None, "does not fit"),
        (bzimage(init_size=RAM), None, "does not fit"),
        (bzimage(), Options(append="x" * 256), "256 bytes, the kernel takes 255"),
        (bzimage(version=0x0205, cmdline_size=9999), Options(append="x" * 256), "takes 255"),
        (bzimage(), Options(initrd=bytes(RAM)), "the initrd .*does not fit"),
        (bzimage(initrd_addr_max=0x1F_FFFF), Options(initrd=bytes(2 * MIB)), "the initrd .*does not fit"),
        (bzimage(setup_sectors=200), Options(firmware=True), "no room for its heap"),
        (elf(), Options(kind=Kind.LINUX), "no Linux kernel"),
        # disks
        (sector(513), None, "no multiple of 512"),
        (sector(2 * MIB + 100), None, "no multiple of 512"),
        (bytes(512), Options(kind=Kind.FLOPPY), "signature"),
        (sector(2949120 + 512), Options(kind=Kind.FLOPPY), "larger than any floppy"),
        (sector()[:100], Options(kind=Kind.DISK), "no multiple of 512"),
        # ROMs
        (option_rom(wrong=1), None, "wrong checksum"),
        (option_rom(4)[:1024], Options(kind=Kind.OPTION_ROM), "truncated"),
        (bytes(1000), Options(kind=Kind.ROM), "no multiple of 64 KiB"),
        # flat
        (bytes(RAM), None, "does not fit"),
        (CODE, Options(address=0x9_FFF8), "does not fit"),
        (CODE, Options(address=-1), "does not fit"),
        (CODE, Options(address=1 << 40), "does not fit"),
        (CODE, Options(entry=0x7C10), "outside the flat binary"),
        (CODE, Options(entry=0), "outside the flat binary"),
        (CODE, Options(address=MIB), "out of reach in real mode"),
    ],
    ids=size_id,
)
def test_malformed_images(data: bytes, options: Options | None, message: str) -> None:
    ram = Ram()
    with pytest.raises(ImageError, match=message) as caught:
        load(Image(data, "bad"), ram, RAM, options)
    assert "\n" not in str(caught.value)
    assert caught.value.status == 4
    assert not ram.writes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plain": 1}, "not bootable: it has no El Torito"),
        ({"catalog": 0x7FFF_FFFF}, "truncated: the boot catalog"),
        ({"b0": 2}, "no valid validation entry"),
        ({"b5": 1}, "no valid validation entry"),
        ({"b1": 0xEF, "b5": 0x11}, "another platform"),
        ({"b32": 0}, "not bootable"),
        ({"b33": 7}, "unknown media type 7"),
        ({"count": 0}, "loads no sectors"),
        ({"start": 0x00FF_FFFF}, "truncated: its boot code"),
        ({"b34": 0xFF, "b35": 0xFF}, "does not fit"),
    ],
)
def test_malformed_isos(changes: dict[str, int], message: str) -> None:
    if "plain" in changes:
        data = bytearray(iso())
        data[17 * 2048 + 7] ^= 1
        image = bytes(data)
    else:
        image = iso(**changes)
    with pytest.raises(ImageError, match=message):
        boot(image)


@pytest.mark.parametrize("ram_size", [0, 1, 4096, 0x7C00, 640 << 10, MIB])
@pytest.mark.parametrize("data", [multiboot1_elf(), multiboot2_elf(), elf(), bzimage(), CODE * 100_000], ids=size_id)
def test_too_little_ram(data: bytes, ram_size: int) -> None:
    with pytest.raises(ImageError, match="does not fit"):
        boot(data, ram_size=ram_size)


def test_the_boards_memory_map_rules() -> None:
    rows = (MemoryRange(0, 0x8_0000, 1), MemoryRange(MIB, 7 * MIB, 1), MemoryRange(8 * MIB, 8 * MIB, 2))
    state, ram = boot(bzimage(), Options(memory_map=rows, initrd=b"x"))
    start, _ = ram.words(state.gpr[layout.ESI] + 0x218, 2)
    assert start == 8 * MIB - 4096
    assert max(state.gpr[layout.ESI], state.gdtr[0]) < 0x8_0000
    with pytest.raises(ImageError, match="does not fit"):
        boot(bzimage(), Options(memory_map=(), initrd=b"x"))


# Files -------------------------------------------------------------------------------------------


def test_a_file_is_read_like_bytes(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(multiboot1_elf())
    ram, other = Ram(), Ram()
    state = load(path, ram, RAM)
    assert state == load(Image(multiboot1_elf(), "kernel"), other, RAM)
    assert ram.bytes == other.bytes


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.mkdir(), "directory"),
        (make_fifo, "neither a regular file"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, make, message: str) -> None:
    path = tmp_path / "image"
    make(path)
    with pytest.raises(ImageError, match=f"image: .*{message}"):
        load(path, Ram(), RAM)


def test_a_name_with_a_nul() -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        Image.open("a\0b")


def test_no_image_is_empty() -> None:
    with pytest.raises(ImageError, match="empty"):
        Image(b"")


def test_modules_from_an_argument(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "with,comma"
    first.write_bytes(b"1")
    second.write_bytes(b"22")
    text = f"{first} a b,{str(second).replace(',', ',,')}"
    assert read_modules(text) == (Module(b"1", "first a b"), Module(b"22", "with,comma"))
    with pytest.raises(ImageError, match="no such file"):
        read_modules(f"{first},{tmp_path / 'none'}")


# Anything ----------------------------------------------------------------------------------------

SEEDS = [multiboot1_elf(3), addressed(MIB, MIB, 0, 0, MIB + 32), multiboot2_elf(tag(1, bytes(8))), elf(), bzimage()]
SEEDS += [sector(1474560)[:4096], option_rom(), bios()[-0x1_0000:]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(
        st.tuples(st.integers(0, 0x1300), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(1, 4)), max_size=6
    ),
    cut=st.integers(0, 0x1400),
)
def test_damaged_images_load_or_are_refused(seed: bytes, edits: list[tuple[int, int, int]], cut: int) -> None:
    data = bytearray(seed)
    for at, value, count in edits:
        data[at : at + count] = bytes([value]) * min(count, max(len(data) - at, 0))
    ram = Ram(SMALL_RAM)
    try:
        state = load(Image(bytes(data[: len(data) - cut]) or b"\0"), ram, SMALL_RAM, Options(initrd=b"i"))
    except ImageError:
        assert not ram.writes
    else:
        if state.mode is Mode.FLAT32:
            assert state.eip < SMALL_RAM
