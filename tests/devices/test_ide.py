"""ATA channel, disk and CD-ROM drive: commands by row, errors, bulk against single words, random traffic."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from devices.core import NEVER, Line
from devices.ide import AtaDisk, Cdrom, Drive, Geometry, IdeChannel, default_geometry

DATA, FEATURES, COUNT, LOW, MID, HIGH, DEVICE, COMMAND = range(0x1F0, 0x1F8)
ERROR, STATUS = FEATURES, COMMAND
CONTROL = ALT = 0x3F6
LBA, SLAVE = 0x40, 0x10


class Image:
    """A medium whose sectors repeat their number; a bad one cannot be read or written."""

    def __init__(self, sectors: int, read_only: bool = False, bad: int = -1) -> None:
        self.data = bytearray(b"".join(n.to_bytes(4, "little") * 128 for n in range(min(sectors, 4096))))
        self.sectors = sectors
        self.read_only = read_only
        self.bad = bad
        self.flushes = 0

    def read(self, lba: int, count: int) -> bytes:
        assert 0 <= lba <= lba + count <= self.sectors
        if lba <= self.bad < lba + count:
            raise OSError("bad sector")
        return bytes(self.data[512 * lba : 512 * (lba + count)]).ljust(512 * count, b"\0")

    def write(self, lba: int, data: bytes) -> None:
        assert not self.read_only
        assert 0 <= lba <= lba + len(data) // 512 <= self.sectors
        if lba <= self.bad < lba + len(data) // 512:
            raise OSError("bad sector")
        self.data[512 * lba : 512 * lba + len(data)] = data

    def flush(self) -> None:
        if self.bad == -2:
            raise OSError("no space")
        self.flushes += 1


class Rig:
    def __init__(self, *drives: Drive | None) -> None:
        self.edges: list[bool] = []
        self.line = Line(self.edges.append)
        self.image = Image(2048)
        first, second = (*drives, None, None)[:2] if drives else (AtaDisk(self.image, Geometry(4, 8, 63)), None)
        self.chip = IdeChannel(self.line, (first, second))
        self._control = self.chip.ports()[1]

    def out(self, *writes: tuple[int, int]) -> None:
        for port, value in writes:
            if port == CONTROL:
                assert self._control.write
                self._control.write(port, 1, value)
            else:
                self.chip.write(port, 1, value)

    def inb(self, port: int) -> int:
        if port == ALT:
            assert self._control.read
            return self._control.read(port, 1)
        return self.chip.read(port, 1)

    def level(self) -> bool:
        return self.line.level

    def command(self, command: int, lba: int = 0, count: int = 0, device: int = LBA) -> int:
        """A 28-bit command; returns the status without touching the interrupt."""
        self.out((DEVICE, device | lba >> 24), (COUNT, count), (LOW, lba & 0xFF), (MID, lba >> 8 & 0xFF))
        self.out((HIGH, lba >> 16 & 0xFF), (COMMAND, command))
        return self.inb(ALT)

    def command_ext(self, command: int, lba: int, count: int) -> int:
        self.out((DEVICE, LBA), (COUNT, count >> 8), (COUNT, count & 0xFF))
        for port, shift in ((LOW, 0), (MID, 8), (HIGH, 16)):
            self.out((port, lba >> shift + 24 & 0xFF), (port, lba >> shift & 0xFF))
        self.out((COMMAND, command))
        return self.inb(ALT)

    def address(self) -> tuple[int, ...]:
        return tuple(self.inb(port) for port in (COUNT, LOW, MID, HIGH))

    def words(self, count: int) -> list[int]:
        return [self.chip.read(DATA, 2) for _ in range(count)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("command", "lba", "count", "device", "status", "error"),
    [
        (0x10, 0, 0, 0, 0x50, 0),  # RECALIBRATE
        (0x1F, 0, 0, 0, 0x50, 0),
        (0x20, 2047, 1, LBA, 0x58, 0),
        (0x20, 2048, 1, LBA, 0x51, 0x10),
        (0x21, 0, 1, LBA, 0x58, 0),
        (0x30, 2047, 1, LBA, 0x58, 0),
        (0x30, 2048, 1, LBA, 0x51, 0x10),
        (0x40, 2040, 8, LBA, 0x50, 0),
        (0x40, 2040, 9, LBA, 0x51, 0x10),
        (0x70, 2047, 0, LBA, 0x50, 0),
        (0x70, 2048, 0, LBA, 0x51, 0x10),
        (0xC4, 0, 1, LBA, 0x51, 0x04),  # MULTIPLE is off
        (0xC5, 0, 1, LBA, 0x51, 0x04),
        (0xC6, 0, 16, 0, 0x50, 0),
        (0xC6, 0, 3, 0, 0x51, 0x04),
        (0xC6, 0, 32, 0, 0x51, 0x04),
        (0x91, 0, 63, 15, 0x50, 0),
        (0x91, 0, 0, 15, 0x51, 0x04),
        (0xE7, 0, 0, 0, 0x50, 0),
        (0xE0, 0, 0, 0, 0x50, 0),
        (0xE4, 0, 0, 0, 0x58, 0),
        (0xEC, 0, 0, 0, 0x58, 0),
        (0x00, 0, 0, 0, 0x51, 0x04),  # NOP always aborts
        (0x08, 0, 0, 0, 0x51, 0x04),  # DEVICE RESET is for packet devices
        (0xA0, 0, 0, 0, 0x51, 0x04),
        (0xA1, 0, 0, 0, 0x51, 0x04),
        (0xC8, 0, 1, LBA, 0x51, 0x04),  # no DMA
        (0xFF, 0, 0, 0, 0x51, 0x04),
    ],
)
def test_status(rig: Rig, command: int, lba: int, count: int, device: int, status: int, error: int) -> None:
    assert status == rig.command(command, lba, count, device)
    assert error == rig.inb(ERROR)
    asks_for_data = (command, status) == (0x30, 0x58)
    assert rig.level() != asks_for_data
    assert status == rig.inb(STATUS)
    assert not rig.level()


@pytest.mark.parametrize(
    ("features", "count", "error"),
    [(0x03, 0x0C, 0), (0x03, 0x08, 0), (0x03, 0x00, 0), (0x03, 0x45, 4), (0x02, 0, 0), (0x66, 0, 0), (0x99, 0, 4)],
)
def test_set_features(rig: Rig, features: int, count: int, error: int) -> None:
    rig.out((FEATURES, features))
    rig.command(0xEF, 0, count)
    assert error == rig.inb(ERROR)


@pytest.mark.parametrize(
    ("command", "multiple", "count", "interrupts"),
    [(0x20, 0, 5, 5), (0xC4, 4, 5, 2), (0xC4, 16, 16, 1), (0x24, 0, 3, 3), (0x29, 2, 5, 3)],
)
def test_read(rig: Rig, command: int, multiple: int, count: int, interrupts: int) -> None:
    rig.command(0xC6, 0, multiple)
    rig.inb(STATUS)
    rig.edges.clear()
    if command in (0x24, 0x29):
        rig.command_ext(command, 100, count)
    else:
        rig.command(command, 100, count)
    got: list[int] = []
    while rig.inb(STATUS) & 8:
        block = min(multiple or 1, count - len(got) // 256)
        got += rig.words(256 * block)
    assert rig.edges == [True, False] * interrupts
    assert [word for n in range(100, 100 + count) for word in (n, 0) * 128] == got
    assert (0x50, 0, 100 + count - 1) == (rig.inb(STATUS), rig.inb(COUNT), rig.inb(LOW))


@pytest.mark.parametrize(
    ("command", "multiple", "count", "interrupts"),
    [(0x30, 0, 3, 3), (0xC5, 4, 6, 2), (0x34, 0, 2, 2), (0x39, 8, 9, 2), (0x3C, 0, 1, 1)],
)
def test_write(rig: Rig, command: int, multiple: int, count: int, interrupts: int) -> None:
    rig.command(0xC6, 0, multiple)
    rig.inb(STATUS)
    rig.edges.clear()
    if command in (0x34, 0x39):
        rig.command_ext(command, 7, count)
    else:
        rig.command(command, 7, count)
    assert not rig.level()
    sent = 0
    while rig.inb(STATUS) & 8:
        for _ in range(256 * min(multiple or 1, count - sent)):
            rig.chip.write(DATA, 2, 0xBEEF)
        sent += min(multiple or 1, count - sent)
    assert rig.edges == [True, False] * interrupts
    data = rig.image.data
    assert data[7 * 512 : (7 + count) * 512] == b"\xef\xbe" * 256 * count
    assert (data[6 * 512], data[(7 + count) * 512]) == (6, 7 + count)
    assert rig.inb(STATUS) == 0x50


@pytest.mark.parametrize(
    ("command", "bad", "count", "blocks", "expected"),
    [
        (0x20, 5, 4, 1, (3, 5, 0, 0)),
        (0x20, 9, 4, 4, (0, 7, 0, 0)),
        (0x30, 5, 4, 1, (3, 5, 0, 0)),
    ],
)
def test_host_error_is_a_medium_error(
    command: int, bad: int, count: int, blocks: int, expected: tuple[int, ...]
) -> None:
    rig = Rig(AtaDisk(Image(100, bad=bad)))
    rig.command(command, 4, count)
    for _ in range(blocks):
        rig.chip.read_block(256, 2) if command == 0x20 else rig.chip.write_block(bytes(512), 2)
    if command == 0x30:
        rig.chip.write_block(bytes(512), 2)
    assert (0x51 if bad < 8 else 0x50) == rig.inb(STATUS)
    assert (0x40 if bad < 8 else 0) == rig.inb(ERROR)
    assert expected == rig.address()


def test_end_of_the_disk_in_the_middle(rig: Rig) -> None:
    rig.command(0x20, 2046, 4)
    rig.chip.read_block(512, 2)
    assert (rig.inb(STATUS), rig.inb(ERROR), rig.address()) == (0x51, 0x10, (2, 0, 8, 0))


def test_verify_tells_the_first_sector_that_is_not_there(rig: Rig) -> None:
    rig.command(0x40, 2040, 20)
    assert rig.address() == (12, 0, 8, 0)


def test_read_only() -> None:
    rig = Rig(AtaDisk(Image(100, read_only=True)))
    assert (rig.command(0x30, 0, 1), rig.inb(ERROR)) == (0x51, 0x04)


def test_flush() -> None:
    image = Image(10)
    assert (Rig(AtaDisk(image)).command(0xEA), image.flushes) == (0x50, 1)
    assert Rig(AtaDisk(Image(10, bad=-2))).command(0xE7) == 0x51


@pytest.mark.parametrize(
    ("cylinder", "head", "sector", "lba"),
    [
        (0, 0, 1, 0),
        (0, 0, 63, 62),
        (0, 1, 1, 63),
        (1, 0, 1, 504),
        (4, 0, 32, 2047),
        (4, 0, 33, -1),
        (0, 0, 0, -1),
        (0, 0, 64, -1),
        (0, 8, 1, -1),
    ],
)
def test_chs(rig: Rig, cylinder: int, head: int, sector: int, lba: int) -> None:
    status = rig.command(0x20, cylinder << 8 | sector, 1, head)
    assert (0x51 if lba < 0 else 0x58) == status
    if lba >= 0:
        assert [lba, 0] == rig.words(2)
        assert (0, sector, cylinder & 0xFF, cylinder >> 8) == rig.address()


def test_chs_counts_on(rig: Rig) -> None:
    rig.command(0x20, 0x0000_3F, 3, 7)
    rig.chip.read_block(3 * 256, 2)
    assert (rig.address(), rig.inb(DEVICE)) == ((0, 2, 1, 0), 0)


def test_translation_is_settable(rig: Rig) -> None:
    rig.command(0x91, 0, 10, 1)  # 2 heads, 10 sectors
    rig.command(0x20, 1 << 8 | 1, 1, 1)
    assert rig.words(1) == [30]
    rig.command(0xEC)
    words = rig.words(256)
    assert (words[54:59], words[1], words[3], words[6]) == ([102, 2, 10, 2040, 0], 4, 8, 63)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0, 0x40),
        (47, 0x8010),
        (49, 0x0A00),
        (59, 0),
        (60, 2048),
        (61, 0),
        (80, 0x7E),
        (83, 0x7400),
        (88, 0),
        (100, 2048),
        (101, 0),
        (63, 0),
    ],
)
def test_identify(rig: Rig, word: int, expected: int) -> None:
    rig.command(0xEC)
    assert rig.level()
    rig.inb(STATUS)
    words = rig.words(256)
    assert expected == words[word]
    assert not rig.level()  # the end of the data is no event
    assert rig.inb(STATUS) == 0x50


def test_identify_strings() -> None:
    rig = Rig(AtaDisk(Image(10), serial="S123", model="A DISK"))
    rig.command(0xEC)
    text = b"".join(word.to_bytes(2, "big") for word in rig.words(256))
    assert (text[20:40], text[54:94]) == (b"S123".ljust(20), b"A DISK".ljust(40))


@pytest.mark.parametrize("sectors", [0x1000_0000, 0x1_0000_0001])
def test_large_disk(sectors: int) -> None:
    rig = Rig(AtaDisk(Image(sectors)))
    rig.command(0xEC)
    words = rig.words(256)
    assert (words[60] | words[61] << 16, words[100] | words[101] << 16 | words[102] << 32) == (0x0FFF_FFFF, sectors)
    assert rig.command_ext(0x24, sectors - 1, 1) == 0x58
    assert rig.command_ext(0x24, sectors, 1) == 0x51
    rig.command_ext(0x27, 0, 0)
    low = rig.inb(LOW) | rig.inb(MID) << 8 | rig.inb(HIGH) << 16
    rig.out((CONTROL, 0x80))
    high = rig.inb(LOW) | rig.inb(MID) << 8 | rig.inb(HIGH) << 16
    assert sectors - 1 == high << 24 | low
    rig.command(0xF8)
    assert (rig.inb(LOW), rig.inb(DEVICE) & 15) == (0xFE, 15)


@pytest.mark.parametrize("count", [0x100, 0x1_0000])
def test_count_zero_is_the_most(count: int) -> None:
    rig = Rig(AtaDisk(Image(0x2_0000)))
    assert (rig.command(0x40, 0, 0) if count == 0x100 else rig.command_ext(0x42, 0, 0)) == 0x50
    low = rig.inb(LOW) | rig.inb(MID) << 8 | rig.inb(HIGH) << 16
    assert count - 1 == low


def test_buffer(rig: Rig) -> None:
    rig.command(0xE8)
    rig.chip.write_block(bytes(range(256)) * 2, 4)
    rig.command(0xE4)
    assert rig.chip.read_block(128, 4) == bytes(range(256)) * 2


# The channel -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([(2, 3)], [0x0005, 0x0000, 0x0005]),
        ([(4, 2)], [5, 5]),
        ([(1, 3)], [5, 0, 5]),  # a byte takes a word off the drive
        ([(2, 1), (4, 1)], [5, 0x0005_0000]),
    ],
)
def test_data_widths(rig: Rig, reads: list[tuple[int, int]], expected: list[int]) -> None:
    rig.command(0x20, 5, 1)
    assert expected == [rig.chip.read(DATA, size) for size, times in reads for _ in range(times)]


def test_byte_writes_take_a_word(rig: Rig) -> None:
    rig.command(0x30, 0, 1)
    for n in range(256):
        rig.chip.write(DATA, 1, n)
    assert rig.image.data[:512:2] == bytes(range(256))
    assert rig.inb(STATUS) == 0x50


def test_registers_two_at_a_time(rig: Rig) -> None:
    rig.chip.write(COUNT, 2, 0x1234)
    assert (rig.inb(COUNT), rig.inb(LOW), rig.chip.read(COUNT, 2)) == (0x34, 0x12, 0x1234)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_no_data_floats(rig: Rig, size: int) -> None:
    assert rig.chip.read(DATA, size) == (1 << 8 * size) - 1
    rig.chip.write(DATA, size, 0)
    assert rig.chip.read_block(3, size) == b"\xff" * 3 * size
    assert rig.inb(STATUS) == 0x50


def test_bulk_goes_over_sectors_and_past_the_end(rig: Rig) -> None:
    rig.command(0x20, 1, 2)
    data = rig.chip.read_block(300, 4)
    assert data == b"\1\0\0\0" * 128 + b"\2\0\0\0" * 128 + b"\xff" * 176
    rig.command(0x30, 1, 2)
    rig.chip.write_block(b"abcd" * 300, 4)
    assert rig.image.data[512:1536] == b"abcd" * 256
    assert rig.image.data[1536:1540] == b"\3\0\0\0"


def test_hob_shows_previous_content(rig: Rig) -> None:
    rig.out((LOW, 1), (LOW, 2), (CONTROL, 0x80))
    assert rig.inb(LOW) == 1
    rig.out((COUNT, 9))  # clears HOB
    assert rig.inb(LOW) == 2


def test_nien(rig: Rig) -> None:
    rig.out((CONTROL, 2))
    rig.command(0x10)
    assert not rig.level()
    rig.out((CONTROL, 0))
    assert rig.level()
    assert (rig.inb(ALT), rig.level(), rig.inb(STATUS), rig.level()) == (0x50, True, 0x50, False)


def test_software_reset() -> None:
    rig = Rig(AtaDisk(Image(10)), Cdrom(Image(16)))
    rig.out((DEVICE, SLAVE), (CONTROL, 4))
    assert rig.inb(STATUS) == 0x80
    rig.out((CONTROL, 0))
    assert (rig.inb(STATUS), rig.inb(ERROR), rig.address(), rig.inb(DEVICE)) == (0x50, 1, (1, 1, 0, 0), 0)
    rig.out((DEVICE, SLAVE))
    assert (rig.inb(STATUS), rig.inb(ERROR), rig.address()) == (0, 1, (1, 1, 0x14, 0xEB))
    assert not rig.level()


def test_diagnostic() -> None:
    rig = Rig(AtaDisk(Image(10)), Cdrom(Image(16)))
    rig.out((DEVICE, SLAVE), (COMMAND, 0x90))
    assert (rig.level(), rig.inb(STATUS), rig.inb(ERROR), rig.address()) == (True, 0x50, 1, (1, 1, 0, 0))


@pytest.mark.parametrize(
    ("drives", "device", "status", "count"),
    [((None, None), 0, 0x7F, 0x7F), ((AtaDisk(Image(9)), None), SLAVE, 0, 0), ((None, AtaDisk(Image(9))), 0, 0, 0)],
)
def test_absent_drive(drives: tuple[Drive | None, Drive | None], device: int, status: int, count: int) -> None:
    rig = Rig()
    rig.chip = IdeChannel(rig.line, drives)
    rig.out((DEVICE, device), (COUNT, 0x55))
    assert (status, count) == (rig.inb(STATUS), rig.inb(COUNT))
    rig.out((COMMAND, 0xEC))
    assert (rig.inb(STATUS), rig.level()) == (status, False)
    rig.chip.write_block(bytes(4), 2)
    assert rig.chip.read_block(1, 2) == b"\xff\xff"


def test_a_new_command_ends_the_old_one(rig: Rig) -> None:
    rig.command(0x20, 0, 2)
    rig.words(10)
    rig.command(0x30, 3, 1)
    rig.chip.write_block(b"z" * 512, 2)
    assert rig.image.data[1536:2048] == b"z" * 512


def test_default_geometry() -> None:
    assert default_geometry(3) == Geometry(1, 16, 63)
    assert default_geometry(1 << 40) == Geometry(16383, 16, 63)


# The CD-ROM drive --------------------------------------------------------------------------------------
class CdRig(Rig):
    """A CD-ROM drive that has told its power-on attention."""

    def __init__(self, image: Image | None, told: bool = True) -> None:
        super().__init__(Cdrom(image))
        if told:
            self.packet(0x03, 0, 0, 0, 18)

    def packet(self, *packet: int, limit: int = 0xFFFE, reason: int = 3) -> bytes:
        """Send a packet and take its data; ``self.blocks`` has the sizes of the DRQ blocks."""
        self.out((FEATURES, 0), (MID, limit & 0xFF), (HIGH, limit >> 8), (DEVICE, 0), (COMMAND, 0xA0))
        assert (self.inb(ALT), self.inb(COUNT), self.level()) == (0x58, 1, False)
        self.chip.write_block(bytes(packet).ljust(12, b"\0"), 2)
        data = b""
        self.blocks: list[int] = []
        while self.inb(STATUS) & 8:
            assert self.inb(COUNT) == 2
            size = self.inb(MID) | self.inb(HIGH) << 8
            self.blocks.append(size)
            data += self.chip.read_block((size + 1) // 2, 2)[:size]
            assert self.level()
        assert self.inb(COUNT) == reason
        return data

    def sense(self) -> tuple[int, int, int]:
        data = self.packet(0x03, 0, 0, 0, 18)
        return data[2], data[12], data[13]


@pytest.fixture
def cd() -> CdRig:
    return CdRig(Image(64))


@pytest.mark.parametrize(
    ("packet", "size", "start"),
    [
        ((0x12, 0, 0, 0, 36), 36, b"\x05\x80\x00\x21\x1f"),
        ((0x12, 0, 0, 0, 5), 5, b"\x05\x80\x00\x21\x1f"),
        ((0x00,), 0, b""),
        ((0x25,), 8, b"\0\0\0\x0f\0\0\x08\0"),
        ((0x43, 0, 0, 0, 0, 0, 0, 0, 12), 12, b"\0\x12\1\1\0\x14\1\0\0\0\0\0"),
        ((0x43, 0, 0, 0, 0, 0, 0, 0, 99), 20, b"\0\x12\1\1\0\x14\1\0\0\0\0\0\0\x14\xaa\0\0\0\0\x10"),
        ((0x43, 2, 0, 0, 0, 0, 0xAA, 0, 99), 12, b"\0\x0a\1\1\0\x14\xaa\0\0\0\2\x10"),
        ((0x43, 0, 1, 0, 0, 0, 0, 0, 99), 12, b"\0\x0a\1\1\0\x14\1\0\0\0\0\0"),
        ((0x43, 0, 2, 0, 0, 0, 0, 0, 99), 48, b"\0\x2e\1\1\1\x14\0\xa0"),
        ((0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 99), 28, b"\0\x1a\1\0\0\0\0\0\x2a\x12"),
        ((0x5A, 0, 0x3F, 0, 0, 0, 0, 0, 99), 36, b"\0\x22\1\0\0\0\0\0\1\6"),
        ((0x46, 0, 0, 0, 0, 0, 0, 0, 8), 8, b"\0\0\0\x3c\0\0\0\x08"),
        ((0x46, 2, 0, 3, 0, 0, 0, 0, 99), 16, b"\0\0\0\x0c\0\0\0\x08\0\3\3\4"),
        ((0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8), 8, b"\0\6\4\x10\0\2\0\0"),
        ((0x4A, 1, 0, 0, 0x02, 0, 0, 0, 8), 4, b"\0\2\x80\x10"),
        ((0x28, 0, 0, 0, 0, 3, 0, 0, 1), 2048, b"\x0c\0\0\0"),
        ((0x28, 0, 0, 0, 0, 3, 0, 0, 0), 0, b""),
        ((0xA8, 0, 0, 0, 0, 0, 0, 0, 0, 16), 32768, b"\0\0\0\0"),
        ((0xBE, 0, 0, 0, 0, 1, 0, 0, 2, 0x10), 4096, b"\4\0\0\0"),
        ((0x51, 0, 0, 0, 0, 0, 0, 0, 99), 34, b"\0\x20\x0e"),
        ((0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8), 8, b"\0\0"),
        ((0x1B, 0, 0, 0, 1), 0, b""),
        ((0xBB,), 0, b""),
        ((0x2B, 0, 0, 0, 0, 15), 0, b""),
    ],
)
def test_packet(cd: CdRig, packet: tuple[int, ...], size: int, start: bytes) -> None:
    data = cd.packet(*packet)
    assert (size, start) == (len(data), data[: len(start)])
    assert (cd.inb(STATUS), cd.inb(ERROR)) == (0x50, 0)


@pytest.mark.parametrize(
    ("packet", "sense"),
    [
        ((0xEE,), (5, 0x20, 0)),
        ((0x12, 1, 0, 0, 36), (5, 0x24, 0)),
        ((0x28, 0, 0, 0, 0, 16, 0, 0, 1), (5, 0x21, 0)),
        ((0x28, 0, 0, 0, 0, 15, 0, 0, 2), (5, 0x21, 0)),
        ((0xA8, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF), (5, 0x21, 0)),
        ((0xBE, 0, 0, 0, 0, 1, 0, 0, 2, 0xF8), (5, 0x24, 0)),
        ((0x43, 0, 5), (5, 0x24, 0)),
        ((0x43, 0, 0, 0, 0, 0, 2), (5, 0x24, 0)),
        ((0x4A, 0), (5, 0x24, 0)),
        ((0x46, 3), (5, 0x24, 0)),
        ((0x5A, 0, 0x05), (5, 0x24, 0)),
        ((0x5A, 0, 0xEA), (5, 0x39, 0)),
        ((0x2B, 0, 0, 0, 0, 16), (5, 0x21, 0)),
    ],
)
def test_check_condition(cd: CdRig, packet: tuple[int, ...], sense: tuple[int, int, int]) -> None:
    assert cd.packet(*packet) == b""
    assert (cd.inb(STATUS), cd.inb(ERROR)) == (0x51, sense[0] << 4 | 4)
    assert sense == cd.sense()
    assert cd.sense() == (0, 0, 0)


@pytest.mark.parametrize(
    ("limit", "blocks"),
    [
        (2048, [2048] * 3),
        (0xFFFE, [6144]),
        (0xFFFF, [6144]),
        (4000, [4000, 2144]),
        (3001, [3000, 3000, 144]),
        (1, [2] * 3072),
    ],
)
def test_byte_count_limit(cd: CdRig, limit: int, blocks: list[int]) -> None:
    data = cd.packet(0x28, 0, 0, 0, 0, 2, 0, 0, 3, limit=limit)
    assert blocks == cd.blocks
    assert data == b"".join(n.to_bytes(4, "little") * 128 for n in range(8, 20))


def test_no_byte_count_limit(cd: CdRig) -> None:
    assert cd.packet(0x28, 0, 0, 0, 0, 2, 0, 0, 1, limit=0, reason=1) == b""
    assert (cd.inb(STATUS), cd.inb(ERROR)) == (0x51, 4)
    assert cd.packet(0x00, limit=0) == b""
    assert cd.inb(STATUS) == 0x50


def test_odd_reply(cd: CdRig) -> None:
    assert (cd.packet(0x12, 0, 0, 0, 7), cd.blocks) == (b"\x05\x80\x00\x21\x1f\0\0", [7])


def test_power_on_attention_is_told_once() -> None:
    rig = CdRig(Image(64), told=False)
    assert len(rig.packet(0x12, 0, 0, 0, 36)) == 36
    rig.packet(0x00)
    assert rig.inb(ERROR) == 0x64
    assert rig.sense() == (6, 0x29, 0)
    rig.packet(0x00)
    assert rig.inb(STATUS) == 0x50


@pytest.mark.parametrize("packet", [(0x00,), (0x25,), (0x28,), (0x43,), (0x51,)])
def test_no_medium(packet: tuple[int, ...]) -> None:
    rig = CdRig(None)
    rig.packet(*packet)
    assert rig.sense() == (2, 0x3A, 1)


def test_medium_change(cd: CdRig) -> None:
    cd.chip.change_medium(0, None)
    cd.packet(0x00)
    assert cd.sense() == (6, 0x28, 0)
    cd.packet(0x00)
    assert cd.sense() == (2, 0x3A, 1)
    cd.chip.change_medium(0, Image(8))
    assert cd.packet(0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)[4:6] == bytes((2, 2))
    assert cd.packet(0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)[4:6] == bytes((0, 2))
    assert cd.sense() == (6, 0x28, 0)
    assert cd.packet(0x25)[:4] == b"\0\0\0\1"


def test_tray_and_lock(cd: CdRig) -> None:
    cd.packet(0x1E, 0, 0, 0, 1)
    cd.packet(0x1B, 0, 0, 0, 2)
    assert cd.sense() == (5, 0x53, 2)
    cd.packet(0x1E, 0, 0, 0, 0)
    cd.packet(0x1B, 0, 0, 0, 2)
    cd.packet(0x00)
    assert cd.sense() == (2, 0x3A, 2)
    cd.packet(0x1B, 0, 0, 0, 3)
    assert cd.sense() == (6, 0x28, 0)
    cd.packet(0x00)
    assert cd.inb(STATUS) == 0x50


def test_a_disk_has_no_removable_medium(rig: Rig) -> None:
    with pytest.raises(ValueError, match="no removable medium"):
        rig.chip.change_medium(0, None)


def test_medium_error() -> None:
    rig = CdRig(Image(64, bad=9))
    assert len(rig.packet(0x28, 0, 0, 0, 0, 1, 0, 0, 3, limit=2048)) == 2048
    assert rig.inb(ERROR) == 0x34
    assert rig.sense() == (3, 0x11, 0)


@pytest.mark.parametrize("command", [0xEC, 0x20])
def test_disk_commands_show_the_signature(cd: CdRig, command: int) -> None:
    assert cd.command(command, 0x12_3456, 7) == 0x51
    assert (cd.inb(ERROR), cd.address()) == (4, (1, 1, 0x14, 0xEB))


@pytest.mark.parametrize(
    ("command", "features", "count", "status"),
    [
        (0xEF, 3, 0x0C, 0x50),
        (0xEF, 3, 0x45, 0x51),
        (0xE1, 0, 0, 0x50),
        (0xE5, 0, 0, 0x50),
        (0x00, 0, 0, 0x51),
        (0xA0, 1, 0, 0x51),
        (0xA0, 2, 0, 0x51),
        (0x08, 0, 0, 0x00),
    ],
)
def test_other_commands(cd: CdRig, command: int, features: int, count: int, status: int) -> None:
    cd.out((FEATURES, features))
    assert status == cd.command(command, 0, count, 0)
    assert cd.level() == (command != 0x08)


def test_identify_packet(cd: CdRig) -> None:
    cd.command(0xA1)
    assert cd.level()
    cd.inb(STATUS)
    words = cd.words(256)
    assert (words[0], words[49], words[82]) == (0x85C0, 0x0A00, 0x4210)
    assert (cd.inb(STATUS), cd.level()) == (0x50, False)


def test_dvd_profile() -> None:
    rig = CdRig(Image(405_001 * 4))
    assert rig.packet(0x46, 0, 0, 0, 0, 0, 0, 0, 8)[6:] == b"\0\x10"


# Random traffic ------------------------------------------------------------------------------------------
COMMANDS = st.sampled_from(
    [0x20, 0x24, 0x29, 0x30, 0x34, 0xC4, 0xC5, 0xC6, 0x40, 0x70, 0x91, 0x90, 0xEC, 0xEF, 0xA0, 0xA1, 0x08, 0xE4, 0xE8]
)
PACKETS = st.sampled_from([0x00, 0x03, 0x12, 0x1B, 0x1E, 0x25, 0x28, 0x2B, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xA8, 0xBE])


class Traffic(RuleBasedStateMachine):
    """The same traffic in bulk and word by word: the same data, the same state, nothing raises or grows."""

    @initialize(slave=st.booleans())
    def start(self, slave: bool) -> None:
        drives = ((AtaDisk(Image(60, bad=50)), Cdrom(Image(64, bad=30)) if slave else None) for _ in range(2))
        self.bulk, self.single = (Rig(*pair) for pair in drives)
        self.rigs = (self.bulk, self.single)

    @rule(port=st.integers(FEATURES, DEVICE), value=st.integers(0, 255))
    def write(self, port: int, value: int) -> None:
        for rig in self.rigs:
            rig.out((port, value))

    @rule(value=st.sampled_from([0, 0, 0, 2, 4, 6, 0x80]))
    def control(self, value: int) -> None:
        for rig in self.rigs:
            rig.out((CONTROL, value))

    @rule(port=st.sampled_from([FEATURES, COUNT, LOW, MID, HIGH, DEVICE, STATUS, ALT]))
    def read(self, port: int) -> None:
        bulk, single = (rig.inb(port) for rig in self.rigs)
        assert bulk == single
        assert 0 <= bulk <= 255

    @rule(command=st.one_of(COMMANDS, st.integers(0, 255)), lba=st.integers(0, 64), count=st.integers(0, 9))
    def command(self, command: int, lba: int, count: int) -> None:
        for rig in self.rigs:
            rig.command(command, lba, count)

    @rule(command=COMMANDS, slave=st.booleans(), chs=st.booleans())
    def just_command(self, command: int, slave: bool, chs: bool) -> None:
        for rig in self.rigs:
            rig.out((DEVICE, SLAVE * slave | LBA * (not chs)), (COMMAND, command))

    @rule(code=PACKETS, rest=st.lists(st.integers(0, 20), min_size=11, max_size=11), limit=st.integers(0, 0xFFFF))
    def packet(self, code: int, rest: list[int], limit: int) -> None:
        for rig in self.rigs:
            rig.out((DEVICE, SLAVE), (FEATURES, 0), (MID, limit & 0xFF), (HIGH, limit >> 8), (COMMAND, 0xA0))
            rig.chip.write_block(bytes((code, *rest)), 4)

    @rule(count=st.integers(0, 600), size=st.sampled_from([1, 2, 4]))
    def read_data(self, count: int, size: int) -> None:
        data = self.bulk.chip.read_block(count, size)
        words = [self.single.chip.read(DATA, size).to_bytes(size, "little") for _ in range(count)]
        assert data == b"".join(words)

    @rule(count=st.integers(0, 600), size=st.sampled_from([1, 2, 4]))
    def write_data(self, count: int, size: int) -> None:
        data = (bytes(range(256)) * 10)[: count * size]
        self.bulk.chip.write_block(data, size)
        for n in range(0, len(data), size):
            self.single.chip.write(DATA, size, int.from_bytes(data[n : n + size], "little"))

    @rule(full=st.booleans())
    def change(self, full: bool) -> None:
        for rig in self.rigs:
            if rig.chip.drives[1] is not None:
                rig.chip.change_medium(1, Image(32) if full else None)

    @invariant()
    def same(self) -> None:
        assert self.bulk.chip.state == self.single.chip.state
        assert self.bulk.level() == self.single.level()
        for drive in self.bulk.chip.state.drives:
            assert len(drive.buffer) <= 0xFFFE
            assert bool(drive.turn) == bool(drive.buffer) == bool(drive.status & 8)
        assert self.bulk.chip.next_event() == NEVER


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
