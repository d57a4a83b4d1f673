"""Broken RAM: the stuck bits are there for every reader, whoever wrote, and nothing else changes."""

from __future__ import annotations

import pytest

from vmm.brokenram import install
from vmm.config import BrokenCell
from vmm.host import Host
from vmm.physical import DEVICE, RAM, PhysicalMemory

RAM_SIZE = 1 << 20
CELLS = (BrokenCell(0x2345, 3, 1), BrokenCell(0x2345, 4, 0), BrokenCell(0x3000, 0, 0), BrokenCell(0x2FFF, 7, 1))


@pytest.fixture
def physical() -> PhysicalMemory:
    memory = PhysicalMemory(Host(RAM_SIZE, 1 << 16), RAM_SIZE)
    install(memory, CELLS)
    return memory


def test_only_their_pages_are_devices(physical: PhysicalMemory) -> None:
    assert [physical.page(n).kind for n in range(1, 5)] == [RAM, DEVICE, DEVICE, RAM]


def test_stuck_at_one_from_the_start(physical: PhysicalMemory) -> None:
    assert physical.read(0x2345, 1) == b"\x08"


@pytest.mark.parametrize(
    ("address", "data", "found"),
    [
        (0x2345, b"\x00", b"\x08"),
        (0x2345, b"\xff", b"\xef"),
        (0x2344, b"\xff\xff", b"\xff\xef"),
        (0x2342, b"\x00\x00\x00\x00", b"\x00\x00\x00\x08"),
        (0x2FFC, b"\x00\x00\x00\x00\xff\xff\xff\xff", b"\x00\x00\x00\x80\xfe\xff\xff\xff"),
        (0x2000, bytes(512), bytes(512)),
        (0x2200, bytes(512), bytes(0x145) + b"\x08" + bytes(512 - 0x146)),
        (0x3001, b"\xff" * 4, b"\xff" * 4),
    ],
)
def test_dma_reads_what_broken_cells_keep(physical: PhysicalMemory, address: int, data: bytes, found: bytes) -> None:
    physical.write(address, data)
    assert physical.read(address, len(data)) == found
