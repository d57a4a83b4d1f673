"""The VGA's planes and windows, also against QEMU's."""

from __future__ import annotations

import random

import pytest

from devices.vga.core import TEXT_SIZE, WINDOW_BASE
from devices.vga.registers import TEXT_MODE_3, Mode
from tests.devices.qemu import Qemu
from tests.devices.vga.pc import (
    GRAPHICS_12,
    GRAPHICS_13,
    Pc,
    indexed,
    planes,
    set_mode,
)


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
