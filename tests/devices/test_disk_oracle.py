"""ATA, ATAPI and floppy commands against QEMU's own chips.

What QEMU leaves out is masked: DSC, ABRT beside a sense key, and of ST0 everything but how the command ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from devices.bus import PortBus
from devices.core import NEVER, Clock, Line
from devices.dma import Dma
from devices.fdc import Drive, Fdc
from devices.ide import AtaDisk, Cdrom, IdeChannel
from tests.devices.qemu import QEMU, Qemu
from vmm.disks import MemoryDisk

pytestmark = [pytest.mark.oracle, pytest.mark.skipif(not QEMU, reason="QEMU is not installed")]

DISK, CD, DISKETTE = (
    b"".join((n ^ salt).to_bytes(4, "little") * 128 for n in range(size))
    for size, salt in ((2048, 0), (64, 0x500), (2880, 0x9000))
)


class Pc(Protocol):
    """Ports and memory of a machine."""

    def read(self, port: int, size: int) -> int: ...
    def write(self, port: int, size: int, value: int) -> None: ...
    def read_memory(self, address: int, size: int) -> bytes: ...
    def write_memory(self, address: int, data: bytes) -> None: ...


class Ram:
    def __init__(self) -> None:
        self.data = bytearray(0x10_0000)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        self.data[address : address + len(data)] = data


class Ours:
    """Our chips on a bus; every read waits until nothing is due any more."""

    def __init__(self) -> None:
        ram = Ram()
        self.read_memory, self.write_memory = ram.read, ram.write
        self.clock = Clock()
        dma = Dma(ram)
        self.fdc = Fdc(self.clock, Line(), dma.channel(2), [Drive(MemoryDisk(DISKETTE)), Drive()])
        drives = AtaDisk(MemoryDisk(DISK)), Cdrom(MemoryDisk(CD, read_only=True))
        self.bus = PortBus()
        for device in (dma, self.fdc, IdeChannel(Line(), drives)):
            self.bus.attach(device)

    def read(self, port: int, size: int) -> int:
        while (due := self.fdc.next_event()) != NEVER:
            self.clock.now = due
            self.fdc.advance()
        return self.bus.read(port, size)

    def write(self, port: int, size: int, value: int) -> None:
        self.bus.write(port, size, value)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pc, Pc]]:
    """QEMU and we, with the same media and the cascade open."""
    folder: Path = tmp_path_factory.mktemp("media")
    options = []
    for name, data, drive in (
        ("disk", DISK, "if=ide,index=0,snapshot=on"),
        ("cd", CD, "if=ide,index=1,media=cdrom"),
        ("diskette", DISKETTE, "if=floppy,index=0,snapshot=on"),
    ):
        (folder / name).write_bytes(data)
        options += ["-drive", f"file={folder / name},format=raw,{drive}"]
    with Qemu(*options) as qemu:
        pair = (qemu, Ours())
        for pc in pair:
            pc.write(0xD6, 1, 0xC0)
            pc.write(0xD4, 1, 0)
            for _ in range(2):  # the power-on attention
                packet(pc, bytes((0x03, 0, 0, 0, 18)))
        yield pair


def same(machines: tuple[Pc, Pc], run: Callable[[Pc], object]) -> None:
    theirs, ours = (run(pc) for pc in machines)
    assert theirs == ours


# ATA -------------------------------------------------------------------------------------------------
def settle(pc: Pc) -> int:
    """Wait for BSY to fall; QEMU reads its files in the background."""
    for _ in range(10_000):
        if not (status := pc.read(0x3F6, 1)) & 0x80:
            return status
    raise AssertionError("BSY stays")


def ata(pc: Pc, command: int, lba: int, count: int, device: int, features: int = 0) -> list[object]:
    """A command with all its data; what status, error and data were, and the count at the end."""
    ext = command in (0x24, 0x29, 0x34, 0x39, 0x42)
    registers = (device | (0 if ext else lba >> 24), features, count, lba, lba >> 8, lba >> 16)
    if ext:
        for port, value in ((0x1F2, count >> 8), (0x1F3, lba >> 24), (0x1F4, lba >> 32), (0x1F5, lba >> 40)):
            pc.write(port, 1, value & 0xFF)
    for port, value in zip((0x1F6, 0x1F1, 0x1F2, 0x1F3, 0x1F4, 0x1F5), registers, strict=True):
        pc.write(port, 1, value & 0xFF)
    pc.write(0x1F7, 1, command)
    seen: list[object] = []
    for n in range(64):
        status = settle(pc)
        seen.append(status & 0xEF)
        if not status & 8:
            break
        if command & 0xF0 == 0x30 or command == 0xC5:
            for k in range(256):
                pc.write(0x1F0, 2, 0x1234 * n + k & 0xFFFF)
        else:
            seen.append([pc.read(0x1F0, 2) for _ in range(256)])
    return [*seen, pc.read(0x1F1, 1), pc.read(0x1F2, 1)]


@pytest.mark.parametrize(
    ("command", "lba", "count", "device", "features"),
    [
        (0x10, 0, 0, 0xA0, 0),
        (0x20, 0, 3, 0xE0, 0),
        (0x20, 2047, 1, 0xE0, 0),
        (0x20, 0x0101, 2, 0xA0, 0),  # CHS
        (0x24, 100, 3, 0xE0, 0),
        (0x30, 40, 3, 0xE0, 0),
        (0x34, 60, 2, 0xE0, 0),
        (0x20, 40, 24, 0xE0, 0),  # what was written
        (0x70, 5, 0, 0xE0, 0),
        (0x91, 0, 63, 0xAF, 0),
        (0xE7, 0, 0, 0xA0, 0),
        (0xEA, 0, 0, 0xA0, 0),
        (0xE5, 0, 0, 0xA0, 0),
        (0xE0, 0, 0, 0xA0, 0),
        (0xC6, 0, 16, 0xA0, 0),
        (0xC6, 0, 3, 0xA0, 0),
        (0xEF, 0, 0x0C, 0xA0, 3),
        (0xEF, 0, 0, 0xA0, 0x02),
        (0xEF, 0, 0, 0xA0, 0x99),
        (0x08, 0, 0, 0xA0, 0),
        (0xA0, 0, 0, 0xA0, 0),
        (0xA1, 0, 0, 0xA0, 0),
        (0x00, 0, 0, 0xA0, 0),
        (0xFF, 0, 0, 0xA0, 0),
        (0xEC, 0, 0, 0xB0, 0),  # on the CD-ROM drive
        (0x20, 0, 0, 0xB0, 0),
        (0xFF, 0, 0, 0xB0, 0),
        (0x10, 0, 0, 0xB0, 0),
    ],
)
def test_ata(machines: tuple[Pc, Pc], command: int, lba: int, count: int, device: int, features: int) -> None:
    same(machines, lambda pc: ata(pc, command, lba, count, device, features))


@pytest.mark.parametrize("device", [0xA0, 0xB0])
def test_signature_after_software_reset(machines: tuple[Pc, Pc], device: int) -> None:
    def signature(pc: Pc) -> list[int]:
        pc.write(0x3F6, 1, 4)
        pc.write(0x3F6, 1, 0)
        settle(pc)
        pc.write(0x1F6, 1, device)
        return [pc.read(port, 1) for port in (0x1F1, 0x1F2, 0x1F3, 0x1F4, 0x1F5)]

    same(machines, signature)


# ATAPI -----------------------------------------------------------------------------------------------
def packet(pc: Pc, command: bytes, limit: int = 0xFFFE) -> list[object]:
    """A packet command; statuses, interrupt reasons, sizes of blocks, and the data."""
    for port, value in ((0x1F6, 0xB0), (0x1F1, 0), (0x1F4, limit & 0xFF), (0x1F5, limit >> 8), (0x1F7, 0xA0)):
        pc.write(port, 1, value)
    seen: list[object] = [settle(pc) & 0xEF, pc.read(0x1F2, 1)]
    command = command.ljust(12, b"\0")
    for n in range(0, 12, 2):
        pc.write(0x1F0, 2, int.from_bytes(command[n : n + 2], "little"))
    for _ in range(64):
        status = settle(pc)
        seen += [status & 0xEF, pc.read(0x1F2, 1), pc.read(0x1F1, 1) & 0xFB]
        if not status & 8:
            break
        size = pc.read(0x1F4, 1) | pc.read(0x1F5, 1) << 8
        seen.append([pc.read(0x1F0, 2) for _ in range(size // 2)])
    return seen


@pytest.mark.parametrize("limit", [0xFFFE, 2048, 3000])
@pytest.mark.parametrize(
    "command",
    [
        (0x00,),
        (0x12, 0, 0, 0, 6),
        (0x1B, 0, 0, 0, 1),
        (0x25,),
        (0x28, 0, 0, 0, 0, 3, 0, 0, 3),
        (0x28, 0, 0, 0, 0, 3, 0, 0, 0),
        (0x28, 0, 0, 0, 0, 15, 0, 0, 2),
        (0x2B, 0, 0, 0, 0, 1),
        (0x4A, 0),
        (0x51, 0, 0, 0, 0, 0, 0, 0, 99),
        (0xA8, 0, 0, 0, 0, 0, 0, 0, 0, 2),
        (0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8),
        (0xBE, 0, 0, 0, 0, 1, 0, 0, 1, 0x10),
        (0xEE,),
        (0x43, 0, 0, 0, 0, 0, 2, 0, 99),
    ],
)
def test_packet(machines: tuple[Pc, Pc], command: tuple[int, ...], limit: int) -> None:
    same(machines, lambda pc: packet(pc, bytes(command), limit))


def test_data_without_a_byte_count_limit(machines: tuple[Pc, Pc]) -> None:
    same(machines, lambda pc: packet(pc, bytes((0x28, 0, 0, 0, 0, 3, 0, 0, 1)), 0))


# Diskettes -----------------------------------------------------------------------------------------------
def floppy(pc: Pc, *command: int) -> list[int]:
    """A command's results; ST0 without the bits in which QEMU differs."""
    for byte in command:
        assert pc.read(0x3F4, 1) & 0xC0 == 0x80
        pc.write(0x3F5, 1, byte)
    results = []
    while pc.read(0x3F4, 1) & 0xD0 == 0xD0:
        results.append(pc.read(0x3F5, 1))
    if len(results) == 7:
        results[0] &= 0xC3
    return [*results, pc.read(0x3F4, 1)]


def program_dma(pc: Pc, mode: int, size: int) -> None:
    count = size - 1
    for port, value in ((0x0A, 6), (0x0C, 0), (0x0B, mode), (4, 0), (4, 0x10), (5, count & 0xFF), (5, count >> 8)):
        pc.write(port, 1, value)
    pc.write(0x81, 1, 0)
    pc.write(0x0A, 1, 2)


@pytest.fixture
def floppies(machines: tuple[Pc, Pc]) -> tuple[Pc, Pc]:
    """After a reset that was told, at 500 kbit/s, the head at cylinder 5."""

    def prepare(pc: Pc) -> list[list[int]]:
        pc.write(0x3F2, 1, 0)
        pc.write(0x3F2, 1, 0x1C)
        told = [floppy(pc, 0x08)[:1] for _ in range(5)]  # the reset takes QEMU's heads to cylinder 0
        pc.write(0x3F7, 1, 0)
        return [*told, *(floppy(pc, *command) for command in ((0x07, 0), (0x08,), (0x0F, 0, 5), (0x08,)))]

    same(machines, prepare)
    return machines


@pytest.mark.parametrize(
    "commands",
    [
        [(0x10,)],
        [(0x1F,)],
        [(0x08,)],
        [(0x04, 0)],
        [(0x04, 4)],
        [(0x94,), (0x14,)],
        [(0x03, 0xDF, 2), (0x13, 0, 0x57, 0)],
        [(0x0F, 0, 0), (0x08,), (0x04, 0)],
        [(0x0F, 4, 9), (0x08,)],
        [(0xCF, 0, 5), (0x08,)],
        [(0x8F, 0, 5), (0x08,), (0x04, 0)],
    ],
)
def test_floppy_control(floppies: tuple[Pc, Pc], commands: list[tuple[int, ...]]) -> None:
    same(floppies, lambda pc: [floppy(pc, *command) for command in commands])
    same(floppies, lambda pc: pc.read(0x3F7, 1) & 0x80)


@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize(
    ("opcode", "head", "sector", "size"),
    [
        (0x40, 0, 1, 512),
        (0x40, 1, 17, 1024),
        (0xC0, 0, 18, 512),
        (0xC0, 0, 18, 1024),
        (0xC0, 1, 18, 512),
        (0xC0, 0, 1, 36 * 512),
        (0xC0, 0, 9, 20 * 512),
    ],
)
def test_floppy_data(floppies: tuple[Pc, Pc], opcode: int, head: int, sector: int, size: int, writing: bool) -> None:
    def move(pc: Pc) -> tuple[list[int], bytes]:
        pc.write_memory(0x1000, bytes(n * 7 + (n >> 9) & 0xFF for n in range(size)) if writing else bytes(size))
        program_dma(pc, 0x4A if writing else 0x46, size)
        kind = 5 if writing else 6
        return floppy(pc, opcode | kind, head << 2, 5, head, sector, 2, 18, 0x1B, 0xFF), pc.read_memory(0x1000, size)

    def read_back(pc: Pc) -> bytes:
        program_dma(pc, 0x46, 36 * 512)
        floppy(pc, 0xE6, 0, 5, 0, 1, 2, 18, 0x1B, 0xFF)
        return pc.read_memory(0x1000, 36 * 512)

    same(floppies, move)
    same(floppies, read_back)
