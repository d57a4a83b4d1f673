"""The disk: commands by row, errors, addresses, identification."""

from __future__ import annotations

import pytest

from devices.ide import AtaDisk
from tests.devices.ide.rig import (
    CONTROL,
    COUNT,
    DATA,
    DEVICE,
    ERROR,
    FEATURES,
    HIGH,
    LBA,
    LOW,
    MID,
    STATUS,
    Image,
    Rig,
)


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
