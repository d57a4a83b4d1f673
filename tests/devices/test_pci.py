"""PCI bus 0, the i440FX, and the configuration spaces of all functions (also against QEMU's)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.bus import PortBus
from devices.core import Clock, Device, Line, Ports
from devices.i440fx import PAM_REGIONS, SMRAM, I440fx
from devices.pci import (
    BAR0,
    COMMAND,
    CONFIG_ADDRESS,
    CONFIG_DATA,
    ENABLE,
    EXPANSION_ROM,
    INTERRUPT_LINE,
    RC,
    STATUS,
    PciBus,
    PciFunction,
    Region,
    config_space,
    port_mapper,
)
from devices.piix3 import DEVACTB, PMBA, Piix3Ide, Piix3Isa, Piix4Pm
from devices.vga import Vga
from devices.vga.pci import StdVga
from tests.devices.qemu import QEMU, Qemu


class Pc:
    """The functions of QEMU's `pc` machine on a port bus."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.bus = PortBus()
        self.resets = 0
        self.pam: list[tuple[int, int, bool, bool]] = []
        self.smram: list[bool] = []
        mapper = port_mapper(self.bus)
        self.i440fx = I440fx(lambda *row: self.pam.append(row), self.smram.append)
        self.isa = Piix3Isa([Line() for _ in range(16)])
        self.ide = Piix3Ide(Region(0x20, 16, True, lambda offset, size: 0, lambda offset, size, value: None), mapper)
        self.pm = Piix4Pm(self.clock, Line(), mapper=mapper)
        self.vga = StdVga(Vga(self.clock, bytearray(16 << 20)), 2, rom=bytes(65536), mapper=mapper)
        self.functions = (self.i440fx, self.isa, self.ide, self.pm, self.vga)
        self.pci = PciBus(self.functions, self.count_reset)
        self.bus.attach(self.pci)

    def count_reset(self) -> None:
        self.resets += 1

    def read(self, port: int, size: int) -> int:
        return self.bus.read(port, size)

    def write(self, port: int, size: int, value: int) -> None:
        self.bus.write(port, size, value)


def config_read(machine: Pc | Qemu, place: int, offset: int, size: int = 4) -> int:
    machine.write(CONFIG_ADDRESS, 4, ENABLE | place << 8 | offset & 0xFC)
    return machine.read(CONFIG_DATA | offset & 3, size)


def config_write(machine: Pc | Qemu, place: int, offset: int, size: int, value: int) -> None:
    machine.write(CONFIG_ADDRESS, 4, ENABLE | place << 8 | offset & 0xFC)
    machine.write(CONFIG_DATA | offset & 3, size, value)


@pytest.fixture(scope="module")
def qemu() -> Iterator[Qemu]:
    if not QEMU:
        pytest.skip("QEMU is not installed")
    with Qemu("-vga", "std") as oracle:
        yield oracle


PLACES = [
    pytest.param(0x00, id="host bridge"),
    pytest.param(0x08, id="ISA bridge"),
    pytest.param(0x09, id="IDE"),
    pytest.param(0x0A, id="nothing"),
    pytest.param(0x0B, id="power management"),
    pytest.param(0x10, id="VGA"),
]

SMBBA = 0x90
"""The base of the SMBus controller, which we have not."""

DIFFERS = {
    0x00: set(range(SMRAM & ~3, SMRAM + 2)),  # ours has the datasheet's lock
    0x0B: {*range(PMBA, PMBA + 4), *range(0x80, 0x84), *range(SMBBA, SMBBA + 4), *range(0xD0, 0xD4)},
}
"""Registers that random traffic leaves alone."""


@pytest.mark.oracle
@pytest.mark.parametrize("place", PLACES)
def test_config_space_is_qemus(qemu: Qemu, place: int) -> None:
    offsets = [offset for offset in range(0, 256, 4) if (place, offset) != (0x0B, SMBBA)]
    ours = [config_read(Pc(), place, offset) for offset in offsets]
    assert ours == [config_read(qemu, place, offset) for offset in offsets]


@pytest.mark.oracle
@pytest.mark.parametrize("place", PLACES)
def test_config_writes_are_qemus(qemu: Qemu, place: int) -> None:
    chance = random.Random(place)
    pc = Pc()
    offsets = [offset for offset in range(256) if offset not in DIFFERS.get(place, set())]
    before = {offset: config_read(qemu, place, offset) for offset in range(0, 256, 4)}
    for _ in range(400):
        offset, size = chance.choice(offsets), chance.choice((1, 2, 4))
        offset &= -size
        value = chance.getrandbits(8 * size)
        if COMMAND in range(offset, offset + size):
            value &= ~3 << 8 * (COMMAND - offset)  # QEMU's memory map is slow to change
        for machine in (pc, qemu):
            config_write(machine, place, offset, size, value)
        assert config_read(pc, place, offset & ~3) == config_read(qemu, place, offset & ~3), hex(offset)
    for offset, value in before.items():
        config_write(qemu, place, offset, 4, value)


@pytest.mark.parametrize(
    ("address", "port", "size", "expected"),
    [
        pytest.param(0x8000_0000, CONFIG_DATA, 4, 0x1237_8086, id="vendor and device"),
        pytest.param(0x8000_0003, CONFIG_DATA, 4, 0x1237_8086, id="low bits of the address are not kept"),
        pytest.param(0x8000_0000, CONFIG_DATA + 2, 2, 0x1237, id="word"),
        pytest.param(0x8000_0000, CONFIG_DATA + 1, 1, 0x80, id="byte"),
        pytest.param(0x8000_0000, CONFIG_DATA + 3, 2, 0xFF12, id="over the end of the port range"),
        pytest.param(0x0000_0000, CONFIG_DATA, 4, 0xFFFF_FFFF, id="not enabled"),
        pytest.param(0x8001_0000, CONFIG_DATA, 4, 0xFFFF_FFFF, id="bus 1"),
        pytest.param(0x8000_F800, CONFIG_DATA, 2, 0xFFFF, id="no such device"),
        pytest.param(0x8000_0900, CONFIG_DATA, 4, 0x7010_8086, id="function 1"),
    ],
)
def test_mechanism_1(address: int, port: int, size: int, expected: int) -> None:
    pc = Pc()
    pc.write(CONFIG_ADDRESS, 4, address)
    assert pc.read(port, size) == expected


@pytest.mark.parametrize(
    ("port", "size", "value"), [(CONFIG_ADDRESS, 1, 0x12), (CONFIG_ADDRESS, 2, 0x1234), (CONFIG_ADDRESS + 2, 2, 0x8000)]
)
def test_narrow_writes_to_config_address_are_not_its(port: int, size: int, value: int) -> None:
    pc = Pc()
    pc.write(CONFIG_ADDRESS, 4, 0x8000_0040)
    pc.write(port, size, value)
    assert pc.read(CONFIG_ADDRESS, 4) == 0x8000_0040
    assert pc.read(port, size) == (1 << 8 * size) - 1


@pytest.mark.parametrize(("value", "resets", "kept"), [(0x02, 0, 2), (0x04, 1, 0), (0x06, 1, 2), (0xF9, 0, 0)])
def test_reset_control(value: int, resets: int, kept: int) -> None:
    pc = Pc()
    pc.write(RC, 1, value)
    assert (pc.resets, pc.read(RC, 1)) == (resets, kept)


@pytest.mark.parametrize("row", PAM_REGIONS, ids=lambda row: f"{row[2]:x}")
@pytest.mark.parametrize("attributes", [1, 2, 3])
def test_pam(row: tuple[int, int, int, int], attributes: int) -> None:
    register, shift, address, size = row
    pc = Pc()
    config_write(pc, 0, register, 1, attributes << shift)
    config_write(pc, 0, register, 1, attributes << shift)
    assert pc.pam == [(address, size, bool(attributes & 1), bool(attributes & 2))]
    pc.i440fx.reset()
    assert pc.pam[1:] == [(address, size, False, False)]


@pytest.mark.parametrize(
    ("writes", "changes", "register"),
    [
        pytest.param([0x4A], [True], 0x4A, id="open"),
        pytest.param([0x4A, 0x0A], [True, False], 0x0A, id="open, then closed"),
        pytest.param([0x42], [], 0x42, id="not enabled"),
        pytest.param([0x6A], [], 0x6A, id="closed to data"),
        pytest.param([0x4A, 0x5A], [True, False], 0x1A, id="the lock closes"),
        pytest.param([0x1A, 0x4A], [], 0x1A, id="and stays"),
        pytest.param([0x00], [], 0x02, id="the segment is fixed"),
    ],
)
def test_smram(writes: list[int], changes: list[bool], register: int) -> None:
    pc = Pc()
    for value in writes:
        config_write(pc, 0, SMRAM, 1, value)
    assert (pc.smram, config_read(pc, 0, SMRAM, 1)) == (changes, register)


class Probe(PciFunction):
    """A function with a BAR of each kind."""

    name = "probe"
    config_reset = config_space(0x1234, 0x5678, 0xFF0000)

    def __init__(self, bus: PortBus | None = None) -> None:
        self.moves: list[tuple[int, int | None, int | None]] = []
        self.written: list[tuple[int, int, int]] = []
        ports = port_mapper(bus) if bus else None

        def mapper(function: PciFunction, region: Region, old: int | None, new: int | None) -> None:
            self.moves.append((region.register, old, new))
            if ports:
                ports(function, region, old, new)

        def read(offset: int, size: int) -> int:
            return 0x10 + offset

        def write(offset: int, size: int, value: int) -> None:
            self.written.append((offset, size, value))

        regions = (
            Region(BAR0, 16, True, read, write),
            Region(BAR0 + 4, 0x1000, False),
            Region(BAR0 + 8, 0x100_0000, False, prefetchable=True),
            Region(EXPANSION_ROM, 0x800, False),
        )
        super().__init__(3, 0, regions, mapper)


@pytest.mark.parametrize(
    ("register", "sizing"),
    [
        (BAR0, 0xFFFF_FFF1),
        (BAR0 + 4, 0xFFFF_F000),
        (BAR0 + 8, 0xFF00_0008),
        (BAR0 + 12, 0),
        (EXPANSION_ROM, 0xFFFF_F801),
    ],
)
def test_bar_sizing(register: int, sizing: int) -> None:
    probe = Probe()
    probe.config_write(register, 4, 0xFFFF_FFFF)
    assert probe.config_read(register, 4) == sizing


@pytest.mark.parametrize(
    ("register", "value", "command", "place"),
    [
        pytest.param(BAR0, 0xC000, 1, 0xC000, id="I/O"),
        pytest.param(BAR0, 0xC000, 2, None, id="I/O off"),
        pytest.param(BAR0, 0xFFFF_FFFF, 1, None, id="I/O being sized"),
        pytest.param(BAR0, 0x1_C000, 1, None, id="I/O beyond the ports"),
        pytest.param(BAR0, 0, 1, None, id="I/O at zero"),
        pytest.param(BAR0 + 4, 0xFEB0_0ABC, 2, 0xFEB0_0000, id="memory"),
        pytest.param(BAR0 + 4, 0xFEB0_0000, 5, None, id="memory off"),
        pytest.param(BAR0 + 8, 0xFFFF_FFFF, 2, None, id="memory being sized"),
        pytest.param(EXPANSION_ROM, 0xFEA0_0001, 2, 0xFEA0_0000, id="ROM"),
        pytest.param(EXPANSION_ROM, 0xFEA0_0000, 2, None, id="ROM off"),
    ],
)
def test_regions_follow_the_registers(register: int, value: int, command: int, place: int | None) -> None:
    probe = Probe()
    probe.config_write(register, 4, value)
    assert probe.moves == []
    probe.config_write(COMMAND, 2, command)
    assert probe.moves == ([(register, None, place)] if place is not None else [])
    probe.reset()
    assert probe.moves[1:] == ([(register, place, None)] if place is not None else [])


class Lodger(Device):
    """A device that was at the ports first."""

    name = "lodger"

    def ports(self) -> tuple[Ports, ...]:
        return (Ports(0xC004, 4, lambda port, size: 0xAA, None),)


def test_ports_of_a_bar_move_and_keep_clear_of_others() -> None:
    bus = PortBus()
    bus.attach(Lodger())
    probe = Probe(bus)
    probe.config_write(COMMAND, 2, 1)
    probe.config_write(BAR0, 4, 0xC000)
    assert [bus.read(port, 1) for port in range(0xC000, 0xC010)] == [
        0x10,
        0x11,
        0x12,
        0x13,
        *[0xAA] * 4,
        *range(0x18, 0x20),
    ]
    bus.write(0xC00C, 4, 0x1234_5678)
    bus.write(0xC003, 2, 0xBBAA)
    assert probe.written == [(12, 4, 0x1234_5678), (3, 1, 0xAA)]
    probe.config_write(BAR0, 4, 0xD000)
    assert [bus.read(port, 1) for port in (0xC000, 0xC004, 0xC00F, 0xD000, 0xD00F)] == [0xFF, 0xAA, 0xFF, 0x10, 0x1F]


def test_interrupt_pin_obeys_the_command_register() -> None:
    probe = Probe()
    levels: list[bool] = []
    probe.intx.connect(levels.append)
    probe.set_interrupt(True)
    probe.config_write(COMMAND, 2, 0x400)
    assert probe.config_read(STATUS, 1) & 8
    probe.config_write(COMMAND, 2, 0)
    probe.reset()
    assert levels == [True, False, True, False]
    assert not probe.config_read(STATUS, 1) & 8


def test_status_errors_are_cleared_by_ones() -> None:
    probe = Probe()
    probe.state.config[STATUS + 1] = 0xFF
    probe.config_write(STATUS, 2, 0x3000)
    assert probe.config_read(STATUS, 2) == 0xCF00


def test_two_functions_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match=r"00\.0 is there twice"):
        PciBus([I440fx(), I440fx()])


def test_restored_state_moves_the_regions() -> None:
    probe, other = Probe(), Probe()
    other.config_write(COMMAND, 2, 3)
    other.config_write(BAR0 + 4, 4, 0xFEB0_0000)
    probe.state = other.state
    probe.follow()
    assert probe.moves == [(BAR0 + 4, None, 0xFEB0_0000)]


ACCESS = st.tuples(
    st.booleans(),
    st.sampled_from((0x00, 0x08, 0x09, 0x0B, 0x10)),
    st.integers(0, 255),
    st.sampled_from((1, 2, 4)),
    st.integers(0, 0xFFFF_FFFF),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACCESS, max_size=60))
def test_random_traffic(accesses: list[tuple[bool, int, int, int, int]]) -> None:
    pc = Pc()
    for write, place, offset, size, value in accesses:
        if write:
            config_write(pc, place, offset, size, value & (1 << 8 * size) - 1)
        assert 0 <= config_read(pc, place, offset, size) < 1 << 8 * size
    for function in pc.functions:
        fresh = type(function).config_reset
        assert function.state.config[:4] == fresh[:4]
        function.reset()
        assert function.state.config[INTERRUPT_LINE] == 0
    assert pc.pm.state.config[DEVACTB + 3] == 0x02
    assert all(pc.bus.owner[port] in (None, pc.pci) for port in range(0x1_0000))
