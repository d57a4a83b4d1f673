"""82077AA: commands by row, media, phases without DMA, random traffic against brute-force time."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devices.core import NEVER, Clock, Line
from devices.dma import Dma
from devices.fdc import FORMATS, Drive, Fdc, format_of

DOR, TDR, MSR, DSR, FIFO, DIR, CCR = 0x3F2, 0x3F3, 0x3F4, 0x3F4, 0x3F5, 0x3F7, 0x3F7
READ, WRITE, FORMAT, READ_ID, VERIFY = 0xE6, 0xC5, 0x4D, 0x4A, 0x56
MEGABYTE = 0x10_0000


class Ram:
    def __init__(self) -> None:
        self.data = bytearray(MEGABYTE)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[address : address + size]).ljust(size, b"\xff")

    def write(self, address: int, data: bytes) -> None:
        end = min(address + len(data), MEGABYTE)
        if address < end:
            self.data[address:end] = data[: end - address]


class Image:
    """A diskette whose sectors begin with their number; a bad one cannot be read or written."""

    def __init__(self, sectors: int, read_only: bool = False, bad: int = -1) -> None:
        self.data = bytearray(b"".join(n.to_bytes(2, "little") * 256 for n in range(sectors)))
        self.sectors = sectors
        self.read_only = read_only
        self.bad = bad

    def read(self, lba: int, count: int) -> bytes:
        assert 0 <= lba <= lba + count <= self.sectors
        if lba <= self.bad < lba + count:
            raise OSError("bad sector")
        return bytes(self.data[512 * lba : 512 * (lba + count)])

    def write(self, lba: int, data: bytes) -> None:
        assert not self.read_only
        assert 0 <= lba <= lba + len(data) // 512 <= self.sectors
        if lba <= self.bad < lba + len(data) // 512:
            raise OSError("bad sector")
        self.data[512 * lba : 512 * lba + len(data)] = data

    def flush(self) -> None: ...


class Rig:
    """A controller out of reset, 500 kbit/s, 1.44M in drive 0."""

    def __init__(self, *images: Image | None, ready: bool = True) -> None:
        self.clock = Clock()
        self.edges: list[bool] = []
        self.line = Line(self.edges.append)
        self.ram = Ram()
        self.dma = Dma(self.ram)
        self._dma_out = {0: self.dma.ports()[0].write, 0xC0: self.dma.ports()[1].write, 0x80: self.dma.ports()[2].write}
        self.dma_out((0xD4, 0))
        self.chip = Fdc(
            self.clock, self.line, self.dma.channel(2), [Drive(image) for image in images or (Image(2880), None)]
        )
        if ready:
            self.chip.write(DOR, 1, 0x1C)
            self.settle()
            for _ in range(4):
                self.command(0x08)
            self.chip.write(CCR, 1, 0)
            self.edges.clear()

    def dma_out(self, *writes: tuple[int, int]) -> None:
        for port, value in writes:
            write = self._dma_out[port & 0xF0 if port < 0xC0 else 0xC0]
            assert write is not None
            write(port, 1, value)

    def program_dma(self, mode: int, size: int, address: int = 0x1000) -> None:
        count = size - 1
        self.dma_out((0x0A, 6), (0x0C, 0), (0x0B, mode | 2), (0x04, address & 0xFF), (0x04, address >> 8 & 0xFF))
        self.dma_out((0x05, count & 0xFF), (0x05, count >> 8), (0x81, address >> 16), (0x0A, 2))

    def inb(self, port: int) -> int:
        return self.chip.read(port, 1)

    def level(self) -> bool:
        return self.line.level

    def settle(self) -> None:
        """Let time run to the next event, and on while there are others."""
        while (due := self.chip.next_event()) != NEVER:
            self.clock.now = due
            self.chip.advance()

    def send(self, *command: int) -> None:
        for byte in command:
            assert self.inb(MSR) & 0xC0 == 0x80
            self.chip.write(FIFO, 1, byte)

    def results(self) -> tuple[int, ...]:
        values = []
        while self.inb(MSR) & 0xD0 == 0xD0:
            values.append(self.inb(FIFO))
        return tuple(values)

    def command(self, *command: int) -> tuple[int, ...]:
        self.send(*command)
        self.settle()
        return self.results()

    def seek(self, track: int, drive: int = 0) -> None:
        self.command(0x0F, drive, track)
        self.command(0x08)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ((0x10,), (0x90,)),  # VERSION: enhanced controller
        ((0x18,), (0x80,)),  # PART ID is the 82078's
        ((0x1F,), (0x80,)),
        ((0x30,), (0x80,)),
        ((0x08,), (0x80,)),  # nothing to sense
        ((0x04, 0x00), (0x38,)),
        ((0x04, 0x04), (0x3C,)),
        ((0x04, 0x02), (0x2A,)),  # no such drive
        ((0x94,), (0x10,)),
        ((0x14,), (0x00,)),
        ((0x03, 0xDF, 0x02), ()),
        ((0x13, 0, 0x57, 0), ()),
        ((0x12, 0x04), ()),
        ((0x0E,), (0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0)),
    ],
)
def test_command_without_data(rig: Rig, command: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert expected == rig.command(*command)
    assert (rig.inb(MSR), rig.level()) == (0x80, False)


def test_dumpreg_shows_what_was_set(rig: Rig) -> None:
    rig.command(0x03, 0xDF, 0x02)
    rig.command(0x13, 0, 0x57, 3)
    rig.command(0x94)
    rig.command(0x12, 0x87)
    rig.seek(7)
    rig.seek(9, drive=1)
    assert rig.command(0x0E) == (7, 9, 0, 0, 0xDF, 0x02, 0, 0x87, 0x57, 3)


@pytest.mark.parametrize(
    ("writes", "ow_result"),
    [((0xBC,), 0x3C), ((0xBC, 0x03), 0x3F), ((0xBC, 0x80), 0x00), ((0x3C,), 0x00)],
)
def test_perpendicular_overwrite_bit(rig: Rig, writes: tuple[int, ...], ow_result: int) -> None:
    for value in writes:
        rig.command(0x12, value)
    assert ow_result == rig.command(0x0E)[7]


@pytest.mark.parametrize(("lock", "config", "pretrk"), [(0x94, 0x07, 9), (0x14, 0x20, 0)])
def test_software_reset_keeps_what_is_locked(rig: Rig, lock: int, config: int, pretrk: int) -> None:
    rig.command(0x13, 0, 0x57, 9)
    rig.command(lock)
    rig.chip.write(DSR, 1, 0x80)
    rig.settle()
    assert (config, pretrk) == rig.command(0x0E)[8:]


@pytest.mark.parametrize("how", ["dor", "dsr"])
def test_reset_interrupts_once_and_tells_four_drives(rig: Rig, how: str) -> None:
    if how == "dor":
        rig.chip.write(DOR, 1, 0x18)
        assert (rig.inb(MSR), rig.level()) == (0, False)
        rig.chip.write(DOR, 1, 0x1C)
    else:
        rig.chip.write(DSR, 1, 0x80)
    assert rig.inb(MSR) == 0
    rig.chip.write(FIFO, 1, 0x10)  # not heard
    rig.settle()
    assert (rig.inb(MSR), rig.edges) == (0x80, [True])
    assert [rig.command(0x08) for _ in range(5)] == [(0xC0, 0), (0xC1, 0), (0xC2, 0), (0xC3, 0), (0x80,)]
    assert rig.edges == [True, False]


def test_reset_status_is_forgotten_by_other_commands() -> None:
    rig = Rig(ready=False)
    rig.chip.write(DOR, 1, 0x0C)
    rig.settle()
    rig.command(0x08)
    rig.command(0x07, 0)
    assert rig.command(0x08) == (0x20, 0)


def test_dma_gate_holds_the_interrupt_back(rig: Rig) -> None:
    rig.chip.write(DOR, 1, 0x14)
    rig.command(0x07, 0)
    assert not rig.level()
    rig.chip.write(DOR, 1, 0x1C)
    assert rig.level()


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([(0x0F, 0, 10)], (0x20, 10)),
        ([(0x0F, 4, 10)], (0x20, 10)),
        ([(0x0F, 0, 10), (0x07, 0)], (0x20, 0)),
        ([(0x0F, 0, 10), (0xCF, 0, 5)], (0x20, 15)),
        ([(0x0F, 0, 10), (0x8F, 0, 5)], (0x20, 5)),
        ([(0x0F, 0, 82), (0x07, 0)], (0x70, 0)),  # 79 steps do not reach track 0
        ([(0x0F, 0, 82), (0x07, 0), (0x07, 0)], (0x20, 0)),
        ([(0x07, 3)], (0x73, 0)),  # no drive, no track 0
        ([(0x07, 0), (0x0F, 1, 3), (0x07, 0)], (0x21, 3)),
    ],
)
def test_seek(rig: Rig, commands: list[tuple[int, ...]], expected: tuple[int, int]) -> None:
    for n, command in enumerate(commands):
        rig.command(*command)
        if n < len(commands) - 1 and command[1] & 3 == commands[n + 1][1] & 3:
            rig.command(0x08)
    assert expected in (rig.command(0x08), rig.command(0x08))


def test_busy_while_seeking(rig: Rig) -> None:
    rig.send(0x0F, 1, 20)
    assert (rig.inb(MSR), rig.level()) == (0x82, False)
    rig.settle()
    assert (rig.inb(MSR), rig.level()) == (0x80, True)


def test_two_seeks_interrupt_twice(rig: Rig) -> None:
    rig.send(0x0F, 0, 20)
    rig.send(0x0F, 1, 30)
    rig.settle()
    assert rig.command(0x08) == (0x20, 20)
    assert rig.level()
    assert rig.command(0x08) == (0x21, 30)
    assert rig.edges == [True, False, True, False]


def test_change_line(rig: Rig) -> None:
    assert rig.inb(DIR) & 0x80
    rig.command(0x07, 0)
    assert rig.inb(DIR) & 0x80  # the head was at track 0: no step pulse
    rig.seek(1)
    assert not rig.inb(DIR) & 0x80
    rig.chip.insert(0, Image(2880))
    assert rig.inb(DIR) & 0x80
    rig.chip.insert(0, None)
    rig.seek(5)
    assert rig.inb(DIR) & 0x80  # an empty drive keeps it
    rig.chip.write(DOR, 1, 0x1E)
    assert not rig.inb(DIR) & 0x80  # nobody drives it


def lba(c: int, h: int, s: int, spt: int = 18) -> int:
    return (c * 2 + h) * spt + s - 1


@pytest.mark.parametrize(
    ("opcode", "chs", "eot", "sectors", "expected"),
    [
        # TC ends the command: status, then where it would go on (data sheet, result phase table)
        (0x46, (0, 0, 1), 18, 1, (0, 0, 0, 0, 0, 2, 2)),
        (0x46, (5, 1, 17), 18, 2, (4, 0, 0, 6, 1, 1, 2)),
        (0xC6, (5, 0, 18), 18, 1, (0, 0, 0, 5, 1, 1, 2)),
        (0xC6, (5, 0, 18), 18, 2, (4, 0, 0, 5, 1, 2, 2)),
        (0xC6, (5, 1, 18), 18, 1, (4, 0, 0, 6, 0, 1, 2)),
        (0xC6, (79, 0, 1), 18, 36, (4, 0, 0, 80, 0, 1, 2)),
        (0xE6, (1, 0, 3), 9, 7, (0, 0, 0, 1, 1, 1, 2)),
    ],
)
def test_read(
    rig: Rig, opcode: int, chs: tuple[int, int, int], eot: int, sectors: int, expected: tuple[int, ...]
) -> None:
    c, h, r = chs
    rig.seek(c)
    rig.edges.clear()
    rig.program_dma(0x46, 512 * sectors)
    rig.send(opcode, h << 2, c, h, r, 2, eot, 0x1B, 0xFF)
    assert (rig.inb(MSR), rig.level()) == (0x10, False)
    rig.settle()
    assert (rig.inb(MSR), rig.level()) == (0xD0, True)
    assert expected == rig.results()
    first = lba(c, h, r) * 512
    image = rig.chip.drives[0].disk
    assert isinstance(image, Image)
    assert image.data[first : first + 512 * sectors] == rig.ram.data[0x1000 : 0x1000 + 512 * sectors]
    assert (rig.edges, rig.inb(MSR)) == ([True, False], 0x80)


@pytest.mark.parametrize(
    ("opcode", "c", "h", "r", "n", "eot", "size", "expected"),
    [
        (0x46, 0, 0, 1, 2, 2, 4096, (0x40, 0x80, 0, 1, 0, 1, 2)),  # the end of the cylinder before TC
        (0xC6, 0, 1, 18, 2, 18, 4096, (0x44, 0x80, 0, 1, 0, 1, 2)),
        (0x46, 0, 0, 19, 2, 19, 512, (0x40, 0x04, 0, 0, 0, 19, 2)),
        (0x46, 0, 0, 0, 2, 18, 512, (0x40, 0x04, 0, 0, 0, 0, 2)),
        (0x46, 0, 0, 1, 3, 18, 512, (0x40, 0x04, 0, 0, 0, 1, 3)),
        (0x46, 3, 0, 1, 2, 18, 512, (0x40, 0x04, 0x10, 3, 0, 1, 2)),  # wrong cylinder
        (0x46, 0, 1, 1, 2, 18, 512, (0x04, 0, 0, 0, 1, 2, 2)),
        (0x06, 0, 0, 1, 2, 18, 512, (0x40, 0x01, 0, 0, 0, 1, 2)),  # FM: no address mark
        (0x46, 0, 0, 5, 2, 18, 512, (0x40, 0x20, 0x20, 0, 0, 5, 2)),  # the host cannot read sector 4
        (0x4C, 0, 0, 1, 2, 18, 512, (0, 0, 0x40, 0, 0, 2, 2)),  # READ DELETED finds a normal sector
        (0x6C, 0, 0, 1, 2, 3, 512, (0, 0, 0x40, 1, 0, 1, 2)),  # and skips all
        (0x56, 0, 0, 1, 2, 3, 512, (0, 0, 0, 1, 0, 1, 2)),  # VERIFY
        (0x42, 0, 0, 9, 2, 2, 4096, (0, 0, 0, 1, 0, 1, 2)),  # READ TRACK from the index hole
        (0x45, 0, 0, 5, 2, 18, 512, (0x40, 0x20, 0x20, 0, 0, 5, 2)),
    ],
)
def test_transfer_status(
    opcode: int, c: int, h: int, r: int, n: int, eot: int, size: int, expected: tuple[int, ...]
) -> None:
    rig = Rig(Image(2880, bad=4))
    rig.program_dma(0x4A if opcode & 0x1F == 5 else 0x46, size)
    assert expected == rig.command(opcode, h << 2, c, h, r, n, eot, 0x1B, 0xFF)


@pytest.mark.parametrize(
    ("command", "st1"),
    [((READ, 0, 0, 0, 1, 2, 18, 0, 255), 0x10), ((WRITE, 0, 0, 0, 1, 2, 18, 0, 255), 0x10)],
)
@pytest.mark.parametrize("why", ["masked", "gate"])
def test_overrun_without_dma(rig: Rig, command: tuple[int, ...], st1: int, why: str) -> None:
    rig.program_dma(0x46, 512)
    if why == "masked":
        rig.dma_out((0x0A, 6))
    else:
        rig.chip.write(DOR, 1, 0x14)
    assert (0x40, st1) == rig.command(*command)[:2]


def test_verify_counts_sectors(rig: Rig) -> None:
    assert rig.command(VERIFY, 0x80, 0, 0, 1, 2, 18, 0x1B, 5) == (0, 0, 0, 0, 0, 6, 2)


@pytest.mark.parametrize(("opcode", "sectors"), [(0x45, 3), (0xC5, 36), (0x49, 1)])
def test_write(rig: Rig, opcode: int, sectors: int) -> None:
    rig.seek(2)
    data = bytes((3 * n + (n >> 8)) & 0xFF for n in range(512 * sectors))
    rig.ram.data[0x1000 : 0x1000 + len(data)] = data
    rig.program_dma(0x4A, len(data))
    assert rig.command(opcode, 0, 2, 0, 1, 2, 18, 0x1B, 0xFF)[:3] in ((0, 0, 0), (4, 0, 0))
    image = rig.chip.drives[0].disk
    assert isinstance(image, Image)
    first = lba(2, 0, 1) * 512
    assert data == image.data[first : first + len(data)]


def test_short_write_is_filled_with_zeros(rig: Rig) -> None:
    rig.ram.data[0x1000:0x1064] = b"x" * 100
    rig.program_dma(0x4A, 100)
    assert rig.command(0x45, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF) == (0, 0, 0, 0, 0, 2, 2)
    image = rig.chip.drives[0].disk
    assert isinstance(image, Image)
    assert image.data[:512] == b"x" * 100 + bytes(412)


@pytest.mark.parametrize("command", [(0x45, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF), (FORMAT, 0, 2, 1, 0x54, 0xF6)])
def test_write_protected(command: tuple[int, ...]) -> None:
    rig = Rig(Image(2880, read_only=True))
    rig.program_dma(0x4A, 512)
    assert rig.command(*command)[:3] == (0x40, 0x02, 0)
    assert rig.command(0x04, 0) == (0x78,)


def test_format(rig: Rig) -> None:
    rig.seek(3)
    ids = b"".join(bytes((3, 1, r, 2)) for r in range(1, 20))  # sector 19 cannot be kept
    rig.ram.data[0x1000 : 0x1000 + len(ids)] = ids
    rig.program_dma(0x4A, len(ids))
    assert rig.command(FORMAT, 4, 2, 19, 0x54, 0xF6) == (4, 0, 0, 3, 1, 19, 2)
    image = rig.chip.drives[0].disk
    assert isinstance(image, Image)
    first, end = lba(3, 1, 1) * 512, lba(3, 1, 18) * 512 + 512
    assert image.data[first:end] == b"\xf6" * (end - first)
    assert image.data[end : end + 2] == lba(4, 0, 1).to_bytes(2, "little")


@pytest.mark.parametrize(
    ("sectors", "rate", "spt", "drive"),
    [(720, 2, 9, 1), (1440, 2, 9, 4), (2400, 0, 15, 2), (2880, 0, 18, 4), (5760, 3, 36, 5), (1, 0, 18, 4)],
)
def test_media(sectors: int, rate: int, spt: int, drive: int) -> None:
    rig = Rig(Image(sectors))
    assert drive == rig.chip.drives[0].type
    for wrong in {0, 1, 2, 3} - {rate}:
        rig.chip.write(CCR, 1, wrong)
        assert rig.command(READ_ID, 0)[:2] == (0x40, 0x01)
    rig.chip.write(CCR, 1, rate)
    seen = [rig.command(READ_ID, 4) for _ in range(spt + 1)]
    assert sorted(id_[5] for id_ in seen[:spt]) == list(range(1, spt + 1))
    assert {(*id_[:5], id_[6]) for id_ in seen} == {(4, 0, 0, 0, 1, 2)}
    assert seen[0] == seen[spt]


@pytest.mark.parametrize(
    ("cmos_type", "sectors", "expected"), [(None, 0, 4), (None, 720, 1), (None, 5760, 5), (2, 720, 2), (2, 0, 2)]
)
def test_drive_type(cmos_type: int | None, sectors: int, expected: int) -> None:
    drive = Drive(cmos_type=cmos_type)
    drive.insert(Image(sectors) if sectors else None)
    assert expected == drive.type


@pytest.mark.parametrize("form", FORMATS)
def test_format_by_size(form: object) -> None:
    size = form.size  # type: ignore[attr-defined]
    assert format_of(size) is form


@pytest.mark.parametrize(
    ("sectors", "spt"), [(1, 18), (721, 18), (2879, 18), (2881, 36), (5761, 39), (6240, 39), (6241, 0)]
)
def test_format_of_other_sizes(sectors: int, spt: int) -> None:
    form = format_of(sectors)
    assert spt == (form.sectors if form else 0)


def test_too_large_an_image_is_the_caller_s_mistake(rig: Rig) -> None:
    with pytest.raises(ValueError, match="no diskette holds 6241 sectors"):
        rig.chip.insert(0, Image(6241))


def test_short_image_reads_zeros_and_takes_no_writes() -> None:
    rig = Rig(Image(2))
    rig.program_dma(0x46, 2048)
    rig.ram.data[0x1000:0x1800] = b"x" * 2048
    assert rig.command(0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF) == (0, 0, 0, 0, 0, 5, 2)
    assert rig.ram.data[0x1000:0x1800] == bytes(512) + b"\1\0" * 256 + bytes(1024)
    rig.program_dma(0x4A, 2048)
    assert rig.command(0x45, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF) == (0x40, 0x04, 0, 0, 0, 3, 2)


def test_empty_drive_has_no_address_marks() -> None:
    rig = Rig(None)
    rig.program_dma(0x46, 512)
    assert rig.command(READ_ID, 0)[:3] == (0x40, 0x01, 0)
    assert rig.command(READ, 3, 0, 0, 1, 2, 18, 0, 255)[:3] == (0x43, 0x01, 0)


def test_implied_seek(rig: Rig) -> None:
    rig.command(0x13, 0, 0x60, 0)
    rig.program_dma(0x46, 512)
    assert rig.command(0x46, 0, 33, 0, 1, 2, 18, 0x1B, 0xFF) == (0, 0, 0, 33, 0, 2, 2)
    assert rig.command(0x0E)[0] == 33


def test_read_without_dma(rig: Rig) -> None:
    rig.command(0x03, 0xDF, 0x03)
    rig.send(0x46, 0, 0, 0, 17, 2, 18, 0x1B, 0xFF)
    assert (rig.inb(MSR), rig.level()) == (0x30, False)
    got = bytearray()
    for _ in range(2):
        rig.settle()
        assert (rig.inb(MSR), rig.level()) == (0xF0, True)
        got += bytes(rig.inb(FIFO) for _ in range(512))
    assert got == (16).to_bytes(2, "little") * 256 + (17).to_bytes(2, "little") * 256
    assert rig.level()
    assert rig.results() == (0x40, 0x80, 0, 1, 0, 1, 2)


def test_write_without_dma(rig: Rig) -> None:
    rig.command(0x03, 0xDF, 0x03)
    rig.send(0x45, 0, 0, 0, 18, 2, 18, 0x1B, 0xFF)
    rig.settle()
    assert (rig.inb(MSR), rig.level()) == (0xB0, True)
    for n in range(512):
        assert rig.inb(FIFO) == 0
        rig.chip.write(FIFO, 1, n & 0xFF)
    assert rig.results() == (0x40, 0x80, 0, 1, 0, 1, 2)
    image = rig.chip.drives[0].disk
    assert isinstance(image, Image)
    assert image.data[17 * 512 : 18 * 512] == bytes(range(256)) * 2


def test_format_without_dma(rig: Rig) -> None:
    rig.command(0x03, 0xDF, 0x03)
    rig.send(FORMAT, 0, 2, 2, 0x54, 0x11)
    rig.settle()
    for byte in (0, 0, 1, 2, 0, 0, 2, 2):
        assert rig.inb(MSR) == 0xB0
        rig.chip.write(FIFO, 1, byte)
    assert rig.results() == (0, 0, 0, 0, 0, 2, 2)


@pytest.mark.parametrize(("port", "expected"), [(0x3F0, 0xFF), (0x3F1, 0xFF), (DOR, 0x1C), (TDR, 0), (MSR, 0x80)])
def test_register(rig: Rig, port: int, expected: int) -> None:
    assert expected == rig.inb(port)


def test_hardware_reset(rig: Rig) -> None:
    rig.command(0x94)
    rig.seek(4)
    rig.command(0x07, 0)
    rig.chip.reset()
    assert (rig.level(), rig.inb(DOR), rig.inb(MSR), rig.chip.next_event()) == (False, 0, 0, NEVER)
    assert not rig.chip.state.drives[0].changed


PORTS = st.sampled_from([0x3F0, 0x3F1, DOR, TDR, MSR, FIFO, FIFO, FIFO, DIR])
OPCODES = st.sampled_from([READ, 0x46, WRITE, FORMAT, READ_ID, VERIFY, 0x42, 0x6C, 0x07, 0x0F, 0x8F, 0x08, 0x03, 0x13])


class Traffic(RuleBasedStateMachine):
    """The same traffic to a chip that is woken when it asks, and to one that is woken all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.lazy, self.eager = (Rig(Image(2880, bad=40), Image(720)) for _ in range(2))
        self.rigs = (self.lazy, self.eager)

    @rule(port=PORTS, value=st.integers(0, 255))
    def write(self, port: int, value: int) -> None:
        for rig in self.rigs:
            rig.chip.write(port, 1, value)

    @rule(port=PORTS, times=st.integers(1, 600))
    def read(self, port: int, times: int) -> None:
        for _ in range(times):
            lazy, eager = (rig.inb(port) for rig in self.rigs)
            assert lazy == eager
            assert 0 <= lazy <= 255

    @rule(opcode=OPCODES, small=st.lists(st.integers(0, 3), min_size=8, max_size=8), eot=st.integers(0, 40))
    def command(self, opcode: int, small: list[int], eot: int) -> None:
        for rig in self.rigs:
            if rig.inb(DOR) & 4 and rig.inb(MSR) & 0x90 == 0x80:
                small[5] = eot
                wanted = len(rig.chip.state.buffer)
                rig.chip.write(FIFO, 1, opcode)
                for value in small:
                    if rig.inb(MSR) & 0xD0 != 0x90:
                        break
                    rig.chip.write(FIFO, 1, value)
                assert wanted == 0

    @rule(mode=st.sampled_from([0x46, 0x4A, 0x42, 0x56]), size=st.integers(1, 0x5000))
    def program_dma(self, mode: int, size: int) -> None:
        for rig in self.rigs:
            rig.program_dma(mode, size)

    @rule(drive=st.integers(0, 1), full=st.booleans())
    def change(self, drive: int, full: bool) -> None:
        for rig in self.rigs:
            rig.chip.insert(drive, Image(1440) if full else None)

    @rule()
    def ready(self) -> None:
        for rig in self.rigs:
            rig.chip.write(DOR, 1, 0x3C)

    @rule(ns=st.integers(1, 300_000))
    def wait(self, ns: int) -> None:
        end = self.lazy.clock.now + ns
        while self.lazy.chip.next_event() <= end:
            self.lazy.clock.now = self.lazy.chip.next_event()
            self.lazy.chip.advance()
        self.lazy.clock.now = end
        step = 10_000
        while self.eager.clock.now < end:
            # Every multiple of the step, and whatever instant an event may fall on.
            now = min(self.eager.clock.now + step, self.eager.chip.next_event(), end)
            self.eager.clock.now = now
            self.eager.chip.advance()

    @invariant()
    def same(self) -> None:
        lazy, eager = self.lazy, self.eager
        assert lazy.chip.state == eager.chip.state
        assert lazy.edges == eager.edges
        assert lazy.ram.data == eager.ram.data
        state = lazy.chip.state
        assert len(state.buffer) <= 1024
        assert len(state.senses) <= 4
        assert lazy.chip.next_event() > lazy.clock.now


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=50, stateful_step_count=40, deadline=None, derandomize=True)
