"""The VGA: registers, planes, window, text screen, beam and VBE extensions (also against QEMU's)."""

from __future__ import annotations

import itertools
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from devices.bus import PortBus
from devices.core import SECOND, Clock
from devices.vga import Vga, Window, dispi
from devices.vga.core import TEXT_SIZE, WINDOW_BASE, VgaState
from devices.vga.image import picture
from devices.vga.pci import StdVga
from devices.vga.registers import TEXT_MODE_3, TEXT_MODE_3_DAC, Mode
from devices.vga.text import CP437, Cursor, read_screen
from tests.devices.qemu import QEMU, Qemu


class Pc:
    """The chip on a port bus, and its window by the handlers alone."""

    def __init__(self, memory: int = 16 << 20) -> None:
        self.clock = Clock()
        self.windows: list[Window] = []
        self.vga = Vga(self.clock, bytearray(memory), on_window=self.windows.append)
        self.bus = PortBus()
        self.bus.attach(self.vga)
        self.read = self.bus.read
        self.write = self.bus.write
        (self.mmio,) = self.vga.mmio()

    def read_memory(self, address: int, size: int) -> bytes:
        return bytes(self.mmio.read(address + n - self.mmio.base, 1) for n in range(size))

    def write_memory(self, address: int, data: bytes) -> None:
        for n, value in enumerate(data):
            self.mmio.write(address + n - self.mmio.base, 1, value)


Machine = Pc | Qemu


@pytest.fixture(scope="module")
def qemu() -> Iterator[Qemu]:
    if not QEMU:
        pytest.skip("QEMU is not installed")
    with Qemu("-vga", "std") as oracle:
        yield oracle


def indexed(machine: Machine, port: int, index: int, value: int) -> None:
    machine.write(port, 1, index)
    machine.write(port + 1, 1, value)


def fetch(machine: Machine, port: int, index: int) -> int:
    machine.write(port, 1, index)
    return machine.read(port + 1, 1)


def attribute(machine: Machine, index: int, value: int) -> None:
    machine.read(0x3DA, 1)
    machine.write(0x3C0, 1, index)
    machine.write(0x3C0, 1, value)


def vbe(machine: Machine, *rows: tuple[int, int]) -> None:
    for index, value in rows:
        machine.write(dispi.INDEX_PORT, 2, index)
        machine.write(dispi.DATA_PORT, 2, value)


def vbe_registers(machine: Machine) -> list[int]:
    values = []
    for index in range(12):
        machine.write(dispi.INDEX_PORT, 2, index)
        values.append(machine.read(dispi.DATA_PORT, 2))
    if not values[dispi.ENABLE] & dispi.ENABLED:
        values[dispi.VIRT_HEIGHT] = 0  # left over from the mode before
    return values


def set_mode(machine: Machine, mode: Mode) -> None:
    """Program a mode as a video BIOS does: by the ports."""
    vbe(machine, (dispi.ENABLE, 0))
    machine.write(0x3C2, 1, mode.misc)
    for index, value in enumerate(mode.sequencer):
        indexed(machine, 0x3C4, index, value)
    indexed(machine, 0x3D4, 0x11, 0)
    for index, value in enumerate(mode.crtc):
        indexed(machine, 0x3D4, index, value)
    for index, value in enumerate(mode.graphics):
        indexed(machine, 0x3CE, index, value)
    for index, value in enumerate(mode.attribute):
        attribute(machine, index, value)
    machine.read(0x3DA, 1)
    machine.write(0x3C0, 1, 0x20)


GRAPHICS_12 = Mode(
    misc=0xE3,
    sequencer=bytes.fromhex("03 01 0f 00 06"),
    crtc=bytes.fromhex("5f4f508254800b3e 0040000000000000 ea8cdf2800e704e3 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 00 05 0f ff"),
    attribute=bytes.fromhex("0001020304051407 38393a3b3c3d3e3f 01000f0000"),
)
"""Mode 12h: 640 by 480, 16 colours in planes."""
GRAPHICS_4 = Mode(
    misc=0x63,
    sequencer=bytes.fromhex("03 09 03 00 02"),
    crtc=bytes.fromhex("2d2728902b80bf1f 00c1000000000000 9c8e8f140096b9a2 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 30 0f 0f ff"),
    attribute=bytes.fromhex("0013151702040607 1011121314151617 0100030000"),
)
"""Mode 4: the CGA's 320 by 200, 4 colours."""
GRAPHICS_6 = Mode(
    misc=0x63,
    sequencer=bytes.fromhex("03 01 01 00 06"),
    crtc=bytes.fromhex("5f4f50825480bf1f 00c1000000000000 9c8e8f280096b9c2 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 00 0d 0f ff"),
    attribute=bytes.fromhex("0017171717171717 1717171717171717 0100010000"),
)
"""Mode 6: the CGA's 640 by 200, 2 colours."""
GRAPHICS_13 = Mode(
    misc=0x63,
    sequencer=bytes.fromhex("03 01 0f 00 0e"),
    crtc=bytes.fromhex("5f4f50825480bf1f 0041000000000000 9c8e8f284096b9a3 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 40 05 0f ff"),
    attribute=bytes.fromhex("0001020304050607 08090a0b0c0d0e0f 41000f0000"),
)
"""Mode 13h: 320 by 200, 256 colours."""

# Registers -------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize(("port", "indices"), [(0x3C4, 8), (0x3CE, 16), (0x3D4, 32)])
@pytest.mark.parametrize("value", [0xFF, 0x00, 0xA5, 0x5A])
def test_indexed_registers_are_qemus(qemu: Qemu, port: int, indices: int, value: int) -> None:
    seen = []
    for machine in (Pc(), qemu):
        set_mode(machine, TEXT_MODE_3)
        indexed(machine, 0x3D4, 0x11, 0)
        for index in range(indices):
            indexed(machine, port, index, value)
        seen.append([fetch(machine, port, index) for index in range(indices)])
    assert seen[0] == seen[1]


@pytest.mark.oracle
@pytest.mark.parametrize("value", [0xFF, 0x00, 0xA5, 0x5A])
def test_attribute_registers_are_qemus(qemu: Qemu, value: int) -> None:
    seen = []
    for machine in (Pc(), qemu):
        set_mode(machine, TEXT_MODE_3)
        values = []
        for index in range(64):
            attribute(machine, index, value)
            machine.write(0x3C0, 1, index)
            values += [machine.read(0x3C0, 1), machine.read(0x3C1, 1)]
            machine.read(0x3DA, 1)
            values.append(machine.read(0x3C0, 1))
        seen.append(values)
    assert seen[0] == seen[1]


@pytest.mark.oracle
@pytest.mark.parametrize("protect", [0x00, 0x80])
def test_crtc_protection_is_qemus(qemu: Qemu, protect: int) -> None:
    seen = []
    for machine in (Pc(), qemu):
        set_mode(machine, TEXT_MODE_3)
        indexed(machine, 0x3D4, 0x11, protect)
        for index in range(0x11):
            indexed(machine, 0x3D4, index, 0xFF)
        seen.append([fetch(machine, 0x3D4, index) for index in range(0x19)])
    assert seen[0] == seen[1]


@pytest.mark.oracle
@pytest.mark.parametrize("misc", [0x67, 0x66, 0xFF, 0x00])
def test_direct_registers_are_qemus(qemu: Qemu, misc: int) -> None:
    ports = [0x3B4, 0x3B5, 0x3C2, 0x3C4, 0x3C8, 0x3CA, 0x3CC, 0x3CE, 0x3D4, 0x3D5]
    seen = []
    for machine in (Pc(), qemu):
        set_mode(machine, TEXT_MODE_3)
        machine.write(0x3D4, 1, 0x0E)
        machine.write(0x3DA, 1, 0)
        machine.write(0x3C2, 1, misc)
        machine.write(0x3DA, 1, 0xFF)
        seen.append([machine.read(port, 1) for port in ports])
    assert seen[0] == seen[1]


@pytest.mark.oracle
def test_dac_is_qemus(qemu: Qemu) -> None:
    seen = []
    for machine in (Pc(), qemu):
        machine.write(0x3C8, 1, 250)
        states = [machine.read(0x3C7, 1)]
        for value in range(30):
            machine.write(0x3C9, 1, value)
        machine.write(0x3C8, 1, 3)
        machine.write(0x3C9, 1, 0x11)  # a colour that is not finished is not stored
        machine.write(0x3C7, 1, 249)
        states.append(machine.read(0x3C7, 1))
        seen.append(states + [machine.read(0x3C9, 1) for _ in range(40)])
    assert seen[0] == seen[1]


def test_dac_keeps_six_bits_unless_told() -> None:
    pc = Pc()
    for enable, expected in ((0, 0x3F), (dispi.DAC_8BIT, 0xFF)):
        vbe(pc, (dispi.ENABLE, enable))
        pc.write(0x3C8, 1, 0)
        for _ in range(3):
            pc.write(0x3C9, 1, 0xFF)
        pc.write(0x3C7, 1, 0)
        assert pc.read(0x3C9, 1) == expected


# Memory ----------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("write_mode", [0, 1, 2, 3])
@pytest.mark.parametrize("read_mode", [0, 8])
def test_planes_are_qemus(qemu: Qemu, write_mode: int, read_mode: int) -> None:
    chance = random.Random(write_mode << 4 | read_mode)
    pc = Pc()
    for machine in (pc, qemu):
        set_mode(machine, GRAPHICS_12)
        indexed(machine, 0x3CE, 8, 0xFF)
        for plane in range(4):
            indexed(machine, 0x3C4, 2, 1 << plane)
            machine.write_memory(0xA_0000, random.Random(plane).randbytes(64))
    for _ in range(60):
        registers = [(0x3C4, 2), (0x3CE, 0), (0x3CE, 1), (0x3CE, 2), (0x3CE, 3), (0x3CE, 4), (0x3CE, 7), (0x3CE, 8)]
        rows = [(port, index, chance.getrandbits(8)) for port, index in chance.sample(registers, 3)]
        rows.append((0x3CE, 5, write_mode | read_mode))
        latch, at, value = chance.randrange(64), chance.randrange(64), chance.getrandbits(8)
        seen = []
        for machine in (pc, qemu):
            for row in rows:
                indexed(machine, *row)
            first = machine.read_memory(0xA_0000 + latch, 1)
            machine.write_memory(0xA_0000 + at, bytes([value]))
            seen.append(first + machine.read_memory(0xA_0000 + at, 1))
        assert seen[0] == seen[1], (rows, latch, at, value)
    for plane in range(4):
        for machine in (pc, qemu):
            indexed(machine, 0x3CE, 5, 0)
            indexed(machine, 0x3CE, 4, plane)
        assert pc.read_memory(0xA_0000, 64) == qemu.read_memory(0xA_0000, 64)


def planes(machine: Machine, size: int) -> list[bytes]:
    """The first *size* bytes of all planes, by read mode 0 at A0000h."""
    rows = ((0x3C4, 4, 6), (0x3CE, 5, 0), (0x3CE, 6, 5), (0x3CE, 8, 0xFF), (0x3CE, 3, 0))
    for row in rows:
        indexed(machine, *row)
    contents = []
    for plane in range(4):
        indexed(machine, 0x3CE, 4, plane)
        contents.append(machine.read_memory(0xA_0000, size))
    return contents


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("mode", "base", "extra"),
    [
        pytest.param(TEXT_MODE_3, 0xB_8000, [], id="text"),
        pytest.param(TEXT_MODE_3, 0xB_0000, [(0x3CE, 6, 0x0A)], id="monochrome text"),
        pytest.param(TEXT_MODE_3, 0xB_8000, [(0x3C4, 2, 1)], id="characters only"),
        pytest.param(TEXT_MODE_3, 0xA_0000, [(0x3C4, 2, 4), (0x3C4, 4, 7), (0x3CE, 5, 0), (0x3CE, 6, 4)], id="font"),
        pytest.param(GRAPHICS_13, 0xA_0000, [], id="mode 13h"),
        pytest.param(GRAPHICS_13, 0xA_0000, [(0x3C4, 2, 5)], id="mode 13h, two planes"),
        pytest.param(GRAPHICS_13, 0xA_0000, [(0x3C4, 4, 6)], id="unchained"),
        pytest.param(GRAPHICS_12, 0xA_0000, [(0x3CE, 6, 1)], id="128 KiB"),
        pytest.param(GRAPHICS_12, 0xB_8000, [], id="beside the window"),
    ],
)
def test_windows_are_qemus(qemu: Qemu, mode: Mode, base: int, extra: list[tuple[int, int, int]]) -> None:
    seen = []
    for machine in (Pc(), qemu):
        set_mode(machine, GRAPHICS_12)
        machine.write_memory(0xA_0000, bytes(512))
        set_mode(machine, mode)
        for row in extra:
            indexed(machine, *row)
        machine.write_memory(base, bytes(range(256)))
        read = machine.read_memory(base, 256)
        seen.append([read, *planes(machine, 512)])
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("mode", "extra", "base", "size", "plain"),
    [
        pytest.param(TEXT_MODE_3, [], 0xB_8000, 0x8000, "text", id="text"),
        pytest.param(TEXT_MODE_3, [(0x3CE, 6, 0x0A)], 0xB_0000, 0x8000, "text", id="monochrome text"),
        pytest.param(TEXT_MODE_3, [(0x3C4, 2, 1)], 0xB_8000, 0x8000, None, id="characters only"),
        pytest.param(TEXT_MODE_3, [(0x3C4, 4, 7)], 0xB_8000, 0x8000, None, id="no odd and even"),
        pytest.param(TEXT_MODE_3, [(0x3CE, 5, 0x11)], 0xB_8000, 0x8000, None, id="text in write mode 1"),
        pytest.param(TEXT_MODE_3, [(0x3CE, 8, 0x7F)], 0xB_8000, 0x8000, None, id="text under a bit mask"),
        pytest.param(TEXT_MODE_3, [(0x3CE, 6, 0x02)], 0xA_0000, 0x2_0000, None, id="text in all of the window"),
        pytest.param(GRAPHICS_12, [], 0xA_0000, 0x1_0000, None, id="mode 12h"),
        pytest.param(GRAPHICS_13, [], 0xA_0000, 0x1_0000, "memory", id="mode 13h"),
        pytest.param(GRAPHICS_13, [(0x3C4, 2, 7)], 0xA_0000, 0x1_0000, None, id="mode 13h, three planes"),
    ],
)
def test_what_the_window_is(
    mode: Mode, extra: list[tuple[int, int, int]], base: int, size: int, plain: str | None
) -> None:
    pc = Pc()
    set_mode(pc, mode)
    for row in extra:
        indexed(pc, *row)
    window = pc.vga.window
    assert (window.base, window.size) == (base, size)
    assert window.memory is (getattr(pc.vga, plain) if plain else None)
    assert pc.windows[-1] is window
    assert not any(one.same(next_one) for one, next_one in zip(pc.windows, pc.windows[1:], strict=False))


@pytest.mark.parametrize(("write_mode", "latched"), [(0, False), (1, True), (2, False), (3, False)])
def test_latches_matter_in_write_mode_1(write_mode: int, latched: bool) -> None:
    pc = Pc()
    set_mode(pc, GRAPHICS_12)
    indexed(pc, 0x3CE, 5, write_mode)
    assert pc.vga.window.latched is latched


def test_without_ram_enable_nothing_is_decoded() -> None:
    pc = Pc()
    set_mode(pc, GRAPHICS_13)
    pc.write_memory(0xA_0000, b"\x12")
    pc.write(0x3C2, 1, 0x61)
    pc.write_memory(0xA_0000, b"\x34")
    assert (pc.vga.window.size, pc.read_memory(0xA_0000, 1), pc.vga.memory[0]) == (0, b"\xff", 0x12)


def test_text_survives_the_loading_of_a_font() -> None:
    pc = Pc()
    set_mode(pc, TEXT_MODE_3)
    pc.vga.text[:] = random.Random(3).randbytes(TEXT_SIZE)
    before = bytes(pc.vga.text)
    for row in ((0x3C4, 2, 4), (0x3C4, 4, 7), (0x3CE, 4, 2), (0x3CE, 5, 0), (0x3CE, 6, 4)):
        indexed(pc, *row)
    assert not pc.vga.text_in_window
    pc.write_memory(0xA_0000, bytes(range(256)) * 32)
    pc.vga.text[:] = bytes(TEXT_SIZE)  # it is not the text's home now
    for row in ((0x3C4, 2, 3), (0x3C4, 4, 3), (0x3CE, 4, 0), (0x3CE, 5, 0x10), (0x3CE, 6, 0x0E)):
        indexed(pc, *row)
    assert pc.vga.text_in_window
    assert pc.vga.text == before
    assert bytes(pc.vga.memory[2 : 4 * 256 : 4]) == bytes(range(256))


def test_wide_accesses_are_bytes_in_order() -> None:
    pc = Pc()
    set_mode(pc, GRAPHICS_12)
    pc.mmio.write(0, 4, 0x4433_2211)
    pc.mmio.write(WINDOW_BASE + 0xFFFE - WINDOW_BASE, 4, 0x8877_6655)
    assert pc.mmio.read(0, 8) == 0x4433_2211
    assert pc.mmio.read(0xFFFE, 4) == 0xFFFF_6655


# VBE -------------------------------------------------------------------------------------------------

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


# Pictures --------------------------------------------------------------------------------------------


def screendump(path: Path, machine: Qemu, monitor: socket.socket) -> Image.Image:
    """QEMU's picture of its screen."""
    command = {"execute": "screendump", "arguments": {"filename": str(path)}}
    with monitor.makefile("rw") as stream:
        stream.write(json.dumps({"execute": "qmp_capabilities"}) + json.dumps(command))
        stream.flush()
        answers = [json.loads(line) for line in itertools.islice(stream, 3)]
    assert "error" not in answers[2], answers
    return Image.open(path).convert("RGB")


@pytest.mark.oracle
@pytest.mark.skipif(not QEMU, reason="QEMU is not installed")
@pytest.mark.parametrize(
    ("mode", "base", "size", "extra"),
    [
        pytest.param(TEXT_MODE_3, 0xB_8000, 4000, [], id="text"),
        pytest.param(TEXT_MODE_3, 0xB_8000, 16384, [(0x3D4, 0x0C, 0x02)], id="scrolled text"),
        pytest.param(TEXT_MODE_3, 0xB_8000, 4000, [(0x3C4, 1, 1)], id="text of eight dots"),
        pytest.param(GRAPHICS_12, 0xA_0000, 0x9600, [], id="mode 12h"),
        pytest.param(GRAPHICS_12, 0xA_0000, 0xFFFF, [(0x3D4, 0x13, 0x30), (0x3D4, 0x0D, 0x55)], id="wide mode 12h"),
        pytest.param(GRAPHICS_13, 0xA_0000, 64000, [], id="mode 13h"),
        pytest.param(GRAPHICS_4, 0xB_8000, 0x4000, [], id="mode 4"),
        pytest.param(GRAPHICS_6, 0xB_8000, 0x4000, [], id="mode 6"),
    ],
)
def test_pictures_are_qemus(
    tmp_path: Path, mode: Mode, base: int, size: int, extra: list[tuple[int, int, int]]
) -> None:
    pc = Pc()
    monitor = tmp_path / "qmp"
    content = random.Random(base).randbytes(size)
    if mode is TEXT_MODE_3:
        # QEMU does not blink, and lets the ninth dot of B0h..BFh join too.
        content = bytes(value & 0x7F if n % 2 or 0xB0 <= value < 0xC0 else value for n, value in enumerate(content))
    with Qemu("-vga", "std", "-qmp", f"unix:{monitor},server=on,wait=off") as oracle:
        for machine in (pc, oracle):
            machine.write(0x3C8, 1, 0)
            for value in random.Random(7).randbytes(768):
                machine.write(0x3C9, 1, value & 0x3F)
            set_mode(machine, TEXT_MODE_3)
            for row in ((0x3C4, 2, 4), (0x3C4, 4, 7), (0x3CE, 4, 2), (0x3CE, 5, 0), (0x3CE, 6, 4)):
                indexed(machine, *row)
            machine.write_memory(0xA_0000, random.Random(9).randbytes(8192))
            set_mode(machine, mode)
            indexed(machine, 0x3D4, 0x0A, 0x20)
            indexed(machine, 0x3D4, 0x11, 0)
            for turn, planes_ in enumerate((1, 2, 4, 8) if mode is GRAPHICS_12 else (mode.sequencer[2],)):
                indexed(machine, 0x3C4, 2, planes_)
                machine.write_memory(base, bytes(value + turn & 0xFF for value in content))
            indexed(machine, 0x3C4, 2, mode.sequencer[2])
            for row in extra:
                indexed(machine, *row)
        oracle.read(0x3DA, 1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(monitor))
            theirs = screendump(tmp_path / "screen.ppm", oracle, client)
    ours = picture(pc.vga).resize(theirs.size, Image.Resampling.NEAREST)
    six_bits = bytes(value & 0xFC for value in range(256))  # the DAC's; the rest is the expander's taste
    assert ours.tobytes().translate(six_bits) == theirs.tobytes().translate(six_bits)


# Text ------------------------------------------------------------------------------------------------


def test_text_screen() -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    pc.vga.text[2 * 80 : 2 * 80 + 12] = b"H\x1fi\x2f\x01\x07\xdb\x07\xff\x07!\x07"
    indexed(pc, 0x3D4, 0x0E, 0)
    indexed(pc, 0x3D4, 0x0F, 86)
    screen = read_screen(pc.vga)
    assert screen
    assert (screen.columns, screen.rows, screen.cursor) == (80, 25, Cursor(6, 1, True))
    assert screen.lines() == ["", "Hi☺█ !", *[""] * 23]
    assert (screen.attribute(0, 1), screen.attribute(1, 1), screen.attribute(0, 0)) == (0x1F, 0x2F, 0x07)
    assert screen.text().count("\n") == 25


@pytest.mark.parametrize(
    ("rows", "first", "cursor"),
    [
        pytest.param([(0x0C, 0), (0x0D, 160)], "row 2", Cursor(0, -2, False), id="scrolled by two rows"),
        pytest.param([(0x0C, 0x3F), (0x0D, 0xF0)], " " * 16 + "row 0", None, id="round the end"),
        pytest.param([(0x0A, 0x20)], "row 0", Cursor(0, 0, False), id="cursor off"),
        pytest.param([(0x01, 39), (0x13, 20)], "row 0", None, id="40 columns"),
        pytest.param([(0x13, 0)], "row 0", Cursor(0, 0, True), id="no pitch"),
    ],
)
def test_text_start_and_cursor(rows: list[tuple[int, int]], first: str, cursor: Cursor | None) -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    indexed(pc, 0x3D4, 0x11, 0)
    for row in range(25):
        pc.vga.text[160 * row : 160 * row + 10 : 2] = f"row {row % 10}".encode()
    for row in rows:
        indexed(pc, 0x3D4, *row)
    screen = read_screen(pc.vga)
    assert screen
    assert screen.lines()[0] == first
    assert cursor in (None, screen.cursor)


def test_text_is_read_from_the_planes_too() -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    pc.vga.text[:4] = b"o\x07k\x07"
    indexed(pc, 0x3C4, 2, 7)
    assert not pc.vga.text_in_window
    screen = read_screen(pc.vga)
    assert screen
    assert screen.lines()[0] == "ok"


def test_graphics_are_no_text() -> None:
    pc = Pc()
    set_mode(pc, GRAPHICS_12)
    assert read_screen(pc.vga) is None


def test_code_page() -> None:
    assert len(CP437) == 256
    assert len(set(CP437)) == 254  # three look like spaces
    assert CP437[0x41] == "A"


def test_set_text_mode_is_what_the_ports_would_set() -> None:
    direct, programmed = Pc(), Pc()
    direct.vga.set_text_mode()
    set_mode(programmed, TEXT_MODE_3)
    programmed.write(0x3C8, 1, 0)
    for value in TEXT_MODE_3_DAC:
        programmed.write(0x3C9, 1, value)
    for name in ("misc", "sequencer", "crtc", "graphics", "attribute", "dac"):
        assert getattr(direct.vga.state, name) == getattr(programmed.vga.state, name)
    assert direct.vga.window.memory is direct.vga.text


# Time ------------------------------------------------------------------------------------------------


def test_beam() -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    line = 900 * SECOND // 28_322_000
    samples = []
    for n in range(449):
        pc.clock.now = n * line + n * 900 % 28_322_000 // 28_322 + 2000
        samples.append(pc.read(0x3DA, 1))
    assert samples.count(0) == 400
    assert samples.count(9) == 2
    assert samples.count(1) == 47
    assert samples[412:414] == [9, 9]


def test_beam_in_a_line() -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    seen = []
    for dots in range(0, 900, 9):
        pc.clock.now = (dots + 5) * SECOND // 28_322_000
        seen.append(pc.read(0x3DA, 1))
    assert seen == [0] * 80 + [1] * 20


def test_status_resets_the_flip_flop() -> None:
    pc = Pc()
    pc.vga.set_text_mode()
    pc.write(0x3C0, 1, 0x10)
    pc.read(0x3DA, 1)
    pc.write(0x3C0, 1, 0x20)
    assert (pc.vga.state.attribute[0x10], pc.vga.state.attribute_index) == (TEXT_MODE_3.attribute[0x10], 0x20)


# Anything --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1 << 17, (1 << 20) + 1, 3 << 20, 32 << 20])
def test_bad_memory_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="display memory"):
        Vga(Clock(), bytearray(size))


def test_bad_text_size() -> None:
    with pytest.raises(ValueError, match="text window"):
        Vga(Clock(), text=bytearray(100))


PORTS = st.one_of(st.integers(0x3B0, 0x3DF), st.integers(0x1CE, 0x1D1), st.sampled_from((0x3C4, 0x3CE, 0x3D4, 0x3C0)))
TRAFFIC = st.lists(
    st.one_of(
        st.tuples(st.just("out"), PORTS, st.sampled_from((1, 2, 2, 4)), st.integers(0, 0xFFFF_FFFF)),
        st.tuples(st.just("in"), PORTS, st.sampled_from((1, 2, 4)), st.just(0)),
        st.tuples(
            st.just("store"), st.integers(0, 0x1_FFFF), st.sampled_from((1, 2, 4, 8)), st.integers(0, (1 << 64) - 1)
        ),
        st.tuples(st.just("load"), st.integers(0, 0x1_FFFF), st.sampled_from((1, 2, 4, 8)), st.just(0)),
        st.tuples(st.just("time"), st.integers(0, SECOND), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@settings(max_examples=80, deadline=None)
@given(TRAFFIC, st.booleans())
def test_random_traffic(traffic: list[tuple[str, int, int, int]], text: bool) -> None:
    pc = Pc(1 << 18)
    if text:
        pc.vga.set_text_mode()
    for what, at, size, value in traffic:
        if what == "out":
            pc.write(at, size, value & (1 << 8 * size) - 1)
        elif what == "in":
            assert 0 <= pc.read(at, size) < 1 << 8 * size
        elif what == "store":
            pc.mmio.write(at, size, value & (1 << 8 * size) - 1)
        elif what == "load":
            assert 0 <= pc.mmio.read(at, size) < 1 << 8 * size
        else:
            pc.clock.now += at
        window = pc.vga.window
        if window.memory is not None:
            assert window.offset + window.size <= len(window.memory)
    screen = read_screen(pc.vga)
    assert screen is None or len(screen.codes) == screen.columns * screen.rows
    assert len(pc.vga.memory) == 1 << 18
    pc.vga.reset()
    assert pc.vga.state == VgaState()
    assert pc.vga.window.size == 0
