"""fw_cfg: selector, data and DMA; the directory; what firmware and boot ROMs ask for (also against QEMU's)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import fw_cfg as fw
from devices.bus import PortBus
from devices.fw_cfg import DATA, DMA_ADDRESS, SELECTOR, FwCfg
from tests.devices.qemu import QEMU, Qemu

RAM = 1 << 20


class Ram:
    """Memory for DMA: outside of it reads give ones and writes are ignored."""

    def __init__(self) -> None:
        self.data = bytearray(RAM)
        self.writes = 0

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[at] if at < RAM else 0xFF for at in range(address, address + size))

    def write(self, address: int, data: bytes) -> None:
        self.writes += 1
        inside = data[: max(RAM - address, 0)]
        self.data[address : address + len(inside)] = inside


class Pc:
    """The device on a port bus."""

    def __init__(self) -> None:
        self.ram = Ram()
        self.chip = FwCfg(self.ram)
        self.bus = PortBus()
        self.bus.attach(self.chip)
        self.read = self.bus.read
        self.write = self.bus.write

    def dma(self, control: int, length: int, address: int, block: int = 0x100) -> int:
        """Run a DMA command; what stands in its control field afterwards."""
        self.ram.data[block : block + 16] = struct.pack(">IIQ", control, length, address)
        self.write(DMA_ADDRESS, 4, 0)
        self.write(DMA_ADDRESS + 4, 4, int.from_bytes(block.to_bytes(4, "big"), "little"))
        return int(struct.unpack_from(">I", self.ram.data, block)[0])


def item(machine: Pc | Qemu, key: int, size: int) -> bytes:
    """The first *size* bytes of an item, by the data port."""
    machine.write(SELECTOR, 2, key)
    return bytes(machine.read(DATA, 1) for _ in range(size))


def directory(machine: Pc | Qemu) -> dict[str, tuple[int, int]]:
    """Size and key of each file."""
    count = struct.unpack(">I", item(machine, fw.FILE_DIR, 4))[0]
    entries = item(machine, fw.FILE_DIR, 4 + 64 * count)[4:]
    rows = (struct.unpack(">IHH56s", entries[at : at + 64]) for at in range(0, len(entries), 64))
    return {name.rstrip(b"\0").decode(): (size, key) for size, key, _, name in rows}


@pytest.fixture(scope="module")
def qemu() -> Iterator[Qemu]:
    if not QEMU:
        pytest.skip("QEMU is not installed")
    with Qemu() as oracle:
        yield oracle


def described() -> Pc:
    pc = Pc()
    pc.chip.add_machine(128 << 20)
    return pc


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("key", "size"),
    [
        pytest.param(fw.SIGNATURE, 8, id="signature"),
        pytest.param(fw.ID, 8, id="id"),
        pytest.param(fw.UUID, 16, id="uuid"),
        pytest.param(fw.RAM_SIZE, 10, id="RAM size"),
        pytest.param(fw.NB_CPUS, 4, id="processors"),
        pytest.param(fw.MAX_CPUS, 4, id="most processors"),
        pytest.param(fw.NUMA, 16, id="NUMA"),
        pytest.param(fw.BOOT_MENU, 4, id="boot menu"),
        pytest.param(fw.KERNEL_SIZE, 4, id="no kernel"),
        pytest.param(fw.ACPI_TABLES, 4, id="no legacy ACPI tables"),
        pytest.param(fw.SMBIOS_ENTRIES, 4, id="no legacy SMBIOS tables"),
        pytest.param(fw.IRQ0_OVERRIDE, 4, id="IRQ 0 override"),
        pytest.param(fw.ID | fw.WRITE_CHANNEL, 4, id="the write channel bit"),
        pytest.param(0x3FFF, 4, id="no such key"),
    ],
)
def test_items_are_qemus(qemu: Qemu, key: int, size: int) -> None:
    assert item(described(), key, size) == item(qemu, key, size)


@pytest.mark.oracle
def test_e820_is_qemus(qemu: Qemu) -> None:
    pc = described()
    size, key = directory(qemu)["etc/e820"]
    our_size, our_key = directory(pc)["etc/e820"]
    assert item(pc, our_key, our_size) == item(qemu, key, size)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("port", "size"),
    [(SELECTOR, 1), (SELECTOR, 2), (DATA, 1), (DMA_ADDRESS, 1), (DMA_ADDRESS, 4), (DMA_ADDRESS + 4, 4)],
)
def test_ports_read_as_qemus(qemu: Qemu, port: int, size: int) -> None:
    pc = Pc()
    values = []
    for machine in (pc, qemu):
        machine.write(SELECTOR, 2, 0)
        values.append([machine.read(port, size) for _ in range(3)])
    assert values[0] == values[1]


def test_directory_is_sorted_and_keys_follow_it() -> None:
    pc = Pc()
    for name in ("vgaroms/vgabios.bin", "bootorder", "etc/e820"):
        pc.chip.add_file(name, name.encode())
    files = directory(pc)
    assert list(files) == ["bootorder", "etc/e820", "vgaroms/vgabios.bin"]
    assert {name: item(pc, key, size).decode() for name, (size, key) in files.items()} == {name: name for name in files}


@pytest.mark.parametrize("name", ["", "x" * 56, "naïve", "a\0b"])
def test_bad_file_names(name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        Pc().chip.add_file(name, b"")


def test_a_full_directory() -> None:
    chip = FwCfg(Ram())
    chip.files = {str(n): b"" for n in range(fw.FILE_SLOTS)}
    chip.add_file("7", b"replaced")
    with pytest.raises(ValueError, match="no more than"):
        chip.add_file("one more", b"")


@pytest.mark.parametrize("key", [fw.FILE_DIR, 0x20, 0x4001, -1, 0x1_0000])
def test_keys_that_are_not_fixed(key: int) -> None:
    with pytest.raises(ValueError, match="not a fixed one"):
        Pc().chip.add(key, b"")


DATA_KEY = fw.KERNEL_DATA
CONTENT = bytes(range(1, 101))


def loaded() -> Pc:
    pc = Pc()
    pc.chip.add(DATA_KEY, CONTENT)
    pc.ram.data[0x1000:0x1100] = b"\xcc" * 0x100
    return pc


@pytest.mark.parametrize(
    ("control", "length", "expected", "result"),
    [
        pytest.param(DATA_KEY << 16 | fw.DMA_SELECT | fw.DMA_READ, 10, CONTENT[:10], 0, id="select and read"),
        pytest.param(fw.DMA_READ, 10, CONTENT[5:15], 0, id="read on"),
        pytest.param(fw.DMA_READ, 110, CONTENT[5:] + bytes(15), 0, id="past the end are zeros"),
        pytest.param(DATA_KEY << 16 | fw.DMA_SELECT, 10, b"", 0, id="select only"),
        pytest.param(fw.DMA_WRITE, 10, b"", fw.DMA_ERROR, id="write"),
        pytest.param(fw.DMA_SKIP, 10, b"", 0, id="skip"),
        pytest.param(0, 10, b"", 0, id="nothing"),
        pytest.param(0x7FFF << 16 | fw.DMA_SELECT | fw.DMA_READ, 4, bytes(4), 0, id="no such key"),
    ],
)
def test_dma(control: int, length: int, expected: bytes, result: int) -> None:
    pc = loaded()
    item(pc, DATA_KEY, 5)
    assert pc.dma(control, length, 0x1000) == result
    assert pc.ram.data[0x1000:0x1100] == expected.ljust(0x100, b"\xcc")


def test_dma_skip_moves_on() -> None:
    pc = loaded()
    item(pc, DATA_KEY, 5)
    pc.dma(fw.DMA_SKIP, 10, 0)
    assert pc.read(DATA, 1) == CONTENT[15]
    for _ in range(3):
        pc.dma(fw.DMA_SKIP, 0xFFFF_FFFF, 0)
    assert pc.read(DATA, 1) == 0
    assert pc.chip.state.offset <= fw.REACH


@pytest.mark.parametrize(
    ("address", "length", "result"),
    [
        pytest.param(RAM - 2, 4, 0, id="over the end of RAM"),
        pytest.param(0xFFFF_0000, 0x1_0000, 0, id="ROM"),
        pytest.param(0, 0xFFFF_FFFF, 0, id="all there is"),
        pytest.param(0xFFFF_FFFF, 2, fw.DMA_ERROR, id="over 4 GiB"),
        pytest.param(0xFFFF_FFFF_FFFF_FFFF, 2, fw.DMA_ERROR, id="over everything"),
    ],
)
def test_dma_to_anywhere_ends(address: int, length: int, result: int) -> None:
    pc = loaded()
    control = pc.dma(DATA_KEY << 16 | fw.DMA_SELECT | fw.DMA_READ, length, address)
    assert control == result
    assert pc.ram.writes <= 3 + length // len(fw.ZEROS)


def test_dma_block_outside_ram() -> None:
    pc = loaded()
    for high, low in ((0, 0xF0FF_FFFF), (0xFFFF_FFFF, 0xFFFF_FFFF), (0x0100_0000, 0)):
        pc.write(DMA_ADDRESS, 4, high)
        pc.write(DMA_ADDRESS + 4, 4, low)
    assert pc.ram.writes == 1  # the first lies outside RAM, but below 4 GiB


def bzimage(**changes: int) -> bytes:
    """A bzImage of four setup sectors; *changes* are bytes by offset, written as ``at_1f1=0``."""
    image = bytearray(5 * 512 + 4096)
    image[0x1F1] = 4
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x20F)
    struct.pack_into("<I", image, 0x22C, 0x37FF_FFFF)
    struct.pack_into("<I", image, 0x238, 0x7FF)
    image[5 * 512 :] = b"k" * 4096
    for name, value in changes.items():
        image[int(name[3:], 16)] = value
    return bytes(image)


def test_linux() -> None:
    pc = Pc()
    pc.chip.add_linux(bzimage(), b"initrd", b"quiet", 64 << 20, b"rom")
    setup = pc.chip.items[fw.SETUP_DATA]
    assert pc.chip.items[fw.KERNEL_DATA] == b"k" * 4096
    assert pc.chip.items[fw.CMDLINE_DATA] == b"quiet\0"
    assert item(pc, fw.KERNEL_ADDR, 4) == struct.pack("<I", 0x10_0000)
    assert item(pc, fw.SETUP_SIZE, 4) == struct.pack("<I", 5 * 512)
    initrd, size = struct.unpack_from("<II", setup, 0x218)
    assert (initrd, size) == ((64 << 20) - 0x1000, 6)
    assert item(pc, fw.INITRD_ADDR, 8) == struct.pack("<II", initrd, 0)
    assert struct.unpack_from("<I", setup, 0x228)[0] == 0x2_0000
    assert directory(pc).keys() == {"bootorder", "genroms/linuxboot_dma.bin"}


@pytest.mark.parametrize(
    ("image", "initrd", "cmdline", "ram", "message"),
    [
        pytest.param(b"", b"", b"", 64 << 20, "not a bzImage", id="empty"),
        pytest.param(bzimage(at_202=0), b"", b"", 64 << 20, "not a bzImage", id="no header"),
        pytest.param(bzimage(at_206=1), b"", b"", 64 << 20, "older than 2.02", id="protocol 2.01"),
        pytest.param(bzimage(at_1f1=60), b"", b"", 64 << 20, "cut short", id="cut short"),
        pytest.param(bzimage(), b"", b"x" * 0x800, 64 << 20, "command line", id="long command line"),
        pytest.param(bzimage(), bytes(64 << 20), b"", 64 << 20, "do not fit", id="large initrd"),
    ],
)
def test_linux_that_does_not_load(image: bytes, initrd: bytes, cmdline: bytes, ram: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pc().chip.add_linux(image, initrd, cmdline, ram, b"rom")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(st.integers(0x50E, 0x51E), st.just(SELECTOR), st.just(DMA_ADDRESS + 4)),
            st.sampled_from((1, 2, 4)),
            st.one_of(st.integers(0, 0xFFFF_FFFF), st.integers(0, 0x30)),
        ),
        max_size=60,
    )
)
def test_random_traffic(accesses: list[tuple[bool, int, int, int]]) -> None:
    pc = loaded()
    items = dict(pc.chip.items)
    for write, port, size, value in accesses:
        if write:
            pc.write(port, size, value & (1 << 8 * size) - 1)
        assert 0 <= pc.read(port, size) < 1 << 8 * size
    assert pc.chip.items == items
    pc.chip.reset()
    assert pc.chip.state == fw.FwCfgState()
