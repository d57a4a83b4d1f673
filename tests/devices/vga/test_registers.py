"""The VGA's registers, also against QEMU's, and the time by the beam."""

from __future__ import annotations

import pytest

from devices.core import SECOND
from devices.vga import dispi
from devices.vga.registers import TEXT_MODE_3
from tests.devices.qemu import Qemu
from tests.devices.vga.pc import (
    Pc,
    attribute,
    fetch,
    indexed,
    set_mode,
    vbe,
)


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
