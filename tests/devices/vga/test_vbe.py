"""The VBE extensions, also against QEMU's."""

from __future__ import annotations

import pytest

from devices.vga import dispi
from devices.vga.pci import StdVga
from devices.vga.registers import TEXT_MODE_3
from tests.devices.qemu import Qemu
from tests.devices.vga.pc import (
    Pc,
    fetch,
    set_mode,
    vbe,
    vbe_registers,
)

VBE_ROWS = [
    pytest.param([(dispi.XRES, 800), (dispi.YRES, 600), (dispi.BPP, 32), (dispi.ENABLE, 0x41)], id="800x600x32"),
    pytest.param([(dispi.XRES, 640), (dispi.YRES, 480), (dispi.BPP, 4), (dispi.ENABLE, 0x01)], id="640x480x4"),
    pytest.param([(dispi.XRES, 1021), (dispi.YRES, 5), (dispi.BPP, 15), (dispi.ENABLE, 0x41)], id="odd width"),
    pytest.param([(dispi.XRES, 0), (dispi.YRES, 0), (dispi.BPP, 0), (dispi.ENABLE, 0x41)], id="nothing"),
    pytest.param([(dispi.XRES, 65535), (dispi.YRES, 65535), (dispi.BPP, 32), (dispi.ENABLE, 1)], id="too large"),
    pytest.param([(dispi.XRES, 640), (dispi.YRES, 480), (dispi.BPP, 7), (dispi.ENABLE, 1)], id="no such depth"),
    pytest.param(
        [
            (dispi.XRES, 640),
            (dispi.YRES, 480),
            (dispi.BPP, 16),
            (dispi.ENABLE, 0x41),
            (dispi.VIRT_WIDTH, 1000),
            (dispi.X_OFFSET, 8),
            (dispi.Y_OFFSET, 100),
        ],
        id="scrolled",
    ),
    pytest.param(
        [(dispi.XRES, 640), (dispi.YRES, 480), (dispi.BPP, 8), (dispi.ENABLE, 1), (dispi.Y_OFFSET, 60000)],
        id="scrolled too far",
    ),
    pytest.param([(dispi.ENABLE, dispi.GETCAPS)], id="capabilities"),
    pytest.param([(dispi.BANK, 0x1FF), (dispi.ID, 0xB0C2), (dispi.ID, 0x1234)], id="bank and id"),
    pytest.param([(dispi.BANK, 5), (dispi.ENABLE, 0)], id="switched off"),
    pytest.param([(dispi.VIRT_HEIGHT, 5), (99, 7)], id="read-only and none"),
]


@pytest.mark.oracle
@pytest.mark.parametrize("rows", VBE_ROWS)
def test_vbe_registers_are_qemus(qemu: Qemu, rows: list[tuple[int, int]]) -> None:
    seen = []
    for machine in (Pc(), qemu):
        set_mode(machine, TEXT_MODE_3)
        vbe(machine, *((index, 0) for index in (*range(1, 4), *range(5, 10))), (dispi.ID, 0xB0C5))
        vbe(machine, *rows)
        seen.append(vbe_registers(machine))
        seen[-1] += [fetch(machine, 0x3CE, index) for index in range(9)]
        seen[-1] += [fetch(machine, 0x3C4, index) for index in range(5)]
        vbe(machine, (dispi.ENABLE, 0))
    assert seen[0] == seen[1]


@pytest.mark.oracle
def test_vbe_banks_are_qemus(qemu: Qemu) -> None:
    seen = []
    for machine in (Pc(), qemu):
        set_mode(machine, TEXT_MODE_3)
        vbe(machine, (dispi.XRES, 640), (dispi.YRES, 480), (dispi.BPP, 8), (dispi.ENABLE, 1))
        for bank in range(4):
            vbe(machine, (dispi.BANK, bank))
            machine.write_memory(0xA_0010, bytes([bank + 1]) * 4)
        contents = []
        for bank in (3, 1, 0, 2):
            vbe(machine, (dispi.BANK, bank))
            contents.append(machine.read_memory(0xA_000C, 12))
        vbe(machine, (dispi.ENABLE, 0))
        seen.append(contents)
    assert seen[0] == seen[1]


def test_vbe_clears_what_it_shows() -> None:
    pc = Pc(1 << 20)
    pc.vga.memory[:] = b"\xee" * (1 << 20)
    rows = ((dispi.XRES, 640), (dispi.YRES, 480), (dispi.BPP, 8))
    vbe(pc, *rows, (dispi.ENABLE, 0x81), (dispi.ENABLE, 0))
    assert pc.vga.memory[0] == 0xEE
    vbe(pc, *rows, (dispi.ENABLE, 0x41))
    assert pc.vga.memory.count(0xEE) == (1 << 20) - 640 * 480
    assert len(pc.vga.memory) == 1 << 20


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        pytest.param(0x40C, 1, 0x67, id="miscellaneous output"),
        pytest.param(0x404, 2, 0x0300, id="sequencer, a word"),
        pytest.param(0x500, 2, 0xB0C5, id="DISPI id"),
        pytest.param(0x514, 2, 0x100, id="memory size"),
        pytest.param(0x501, 2, 0xFFFF, id="DISPI askew"),
        pytest.param(0x41F, 4, 0xFFFF_FFFF, id="over the end"),
        pytest.param(0x600, 4, 8, id="extended"),
        pytest.param(0x604, 4, 0x1E1E_1E1E, id="little-endian"),
        pytest.param(0x000, 1, 0, id="no EDID"),
        pytest.param(0xFFF, 1, 0xFF, id="nothing"),
    ],
)
def test_registers_by_memory(offset: int, size: int, expected: int) -> None:
    pc = Pc()
    function = StdVga(pc.vga, 2)
    pc.vga.set_text_mode()
    pc.write(0x3C4, 1, 0)
    region = function.regions[1]
    assert region.read
    assert region.write
    region.write(0x405, 1, 0x03)
    region.write(0x502, 2, 640)
    assert region.read(offset, size) == expected
    assert pc.vga.state.dispi.registers[dispi.XRES] == 640
