"""Image loaders: every way in which an image can be wrong."""

import os
from pathlib import Path
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.loader_images import (
    CODE,
    MIB,
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
from vmm.errors import ImageError
from vmm.loaders import Image, Kind, MemoryRange, Mode, Module, Options, load, read_modules

SMALL_RAM = 2 * MIB


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
        (bzimage(code32_start=0), Options(), "only a real-mode entry point, which needs firmware"),
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
