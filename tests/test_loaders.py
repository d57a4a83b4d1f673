"""Image loaders: what is recognised, and what stands in memory and registers."""

from struct import pack, unpack_from

import pytest

from tests.loader_images import (
    CODE,
    MIB,
    PARTITION,
    RAM,
    Ram,
    addressed,
    bios,
    boot,
    bzimage,
    elf,
    iso,
    multiboot1,
    multiboot1_elf,
    multiboot2,
    multiboot2_elf,
    option_rom,
    sector,
    size_id,
    tag,
)
from translator import layout
from vmm.loaders import EntryState, Image, Kind, Mode, Module, Options, enter, recognise
from vmm.vcpu import VCpu

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
