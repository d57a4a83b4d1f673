"""The channel: data in all widths, registers, interrupts, resets, absent drives."""

from __future__ import annotations

import pytest

from devices.ide import AtaDisk, Cdrom, Drive, Geometry, IdeChannel, default_geometry
from tests.devices.ide.rig import (
    ALT,
    COMMAND,
    CONTROL,
    COUNT,
    DATA,
    DEVICE,
    ERROR,
    LOW,
    SLAVE,
    STATUS,
    Image,
    Rig,
)


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
