"""PIIX3/PIIX4: PIRQ routing, ACPI's fixed hardware and its timer (also against QEMU's)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.bus import PortBus
from devices.core import NEVER, SECOND, Clock, Line
from devices.pci import BAR4, PciBus, Region, port_mapper
from devices.piix3 import (
    ACPI_DISABLE,
    ACPI_ENABLE,
    APMC,
    APMS,
    FIRMWARE_PMBA,
    IDETIM,
    PIRQRCA,
    PM_TIMER_HZ,
    PMBA,
    PMCNTRL,
    PMEN,
    PMREGMISC,
    PMSTS,
    PMTMR,
    PWRBTN_STS,
    RTC_STS,
    TMROF_STS,
    Piix3Ide,
    Piix3Isa,
    Piix4Pm,
    configure,
)
from tests.devices.qemu import QEMU, Qemu

BASE = FIRMWARE_PMBA


class Pc:
    """The three functions, set up as firmware does."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.bus = PortBus()
        self.irqs = [Line() for _ in range(16)]
        self.sci = Line()
        self.sleeps: list[int] = []
        self.isa = Piix3Isa(self.irqs)
        self.ide = Piix3Ide()
        self.pm = Piix4Pm(self.clock, self.sci, self.sleeps.append, port_mapper(self.bus))
        self.bus.attach(PciBus([self.isa, self.ide, self.pm]))
        self.bus.attach(self.pm)
        self.read = self.bus.read
        self.write = self.bus.write
        configure(self.isa, self.ide, self.pm)

    def raised(self) -> list[int]:
        return [n for n, line in enumerate(self.irqs) if line.level]


Machine = Pc | Qemu


@pytest.fixture(scope="module")
def qemu() -> Iterator[Qemu]:
    if not QEMU:
        pytest.skip("QEMU is not installed")
    with Qemu("-machine", "smm=on") as oracle:
        for register, value in ((PMBA, BASE | 1), (PMREGMISC, 1)):
            oracle.write(0xCF8, 4, 0x8000_0B00 | register)
            oracle.write(0xCFC, 4, value)
        yield oracle


def test_configure_is_what_seabios_does() -> None:
    pc = Pc()
    assert [pc.isa.config_read(PIRQRCA + n, 1) for n in range(4)] == [10, 10, 11, 11]
    assert pc.ide.config_read(IDETIM, 4) == 0x8000_8000
    assert pc.bus.owner[BASE] is pc.pm
    assert pc.bus.owner[BASE + 63] is pc.pm
    assert pc.bus.owner[BASE + 64] is None


@pytest.mark.parametrize(
    ("bus_master", "expected"), [(False, 0x0101_0000), (True, 0x0101_8000)], ids=["PIO only", "bus master"]
)
def test_ide_says_what_it_can(bus_master: bool, expected: int) -> None:
    ide = Piix3Ide(Region(BAR4, 16, True) if bus_master else None)
    ide.reset()
    assert ide.config_read(8, 4) == expected
    ide.config_write(BAR4, 4, 0xFFFF_FFFF)
    assert ide.config_read(BAR4, 4) == (0xFFFF_FFF1 if bus_master else 0)


# PIRQ ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slot", "pin", "irq"), [(1, 0, 5), (1, 3, 11), (2, 0, 7), (3, 0, 10), (4, 0, 11), (5, 0, 5), (3, 2, 5)]
)
def test_pins_reach_their_pirq(slot: int, pin: int, irq: int) -> None:
    pc = Pc()
    for n, route in enumerate((5, 7, 10, 11)):
        pc.isa.config_write(PIRQRCA + n, 1, route)
    line = Line()
    pc.isa.connect(line, slot, pin)
    line.set(True)
    assert pc.raised() == [irq]
    line.set(False)
    assert pc.raised() == []


@pytest.mark.parametrize(("route", "irqs"), [(9, [9]), (0x80, []), (0x89, []), (0, []), (2, []), (13, []), (27, [11])])
def test_routes(route: int, irqs: list[int]) -> None:
    pc = Pc()
    line = Line()
    pc.isa.connect(line, 1)
    line.set(True)
    pc.isa.config_write(PIRQRCA, 1, route)
    assert pc.raised() == irqs
    pc.isa.reset()
    assert pc.raised() == []


def test_shared_irq_is_an_or() -> None:
    pc = Pc()
    lines = [Line() for _ in range(3)]
    for line, slot in zip(lines, (1, 1, 2), strict=True):
        pc.isa.connect(line, slot)
        line.set(True)
    seen = []
    for line in lines:
        line.set(False)
        seen.append(pc.raised())
    assert seen == [[10], [10], []]


def test_lines_of_isa_devices_are_left_alone() -> None:
    pc = Pc()
    pc.irqs[4].set(True)
    pc.isa.config_write(PIRQRCA, 1, 7)
    pc.isa.reset()
    assert pc.raised() == [4]


# ACPI ----------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("offset", "size", "value", "look", "look_size"),
    [
        pytest.param(PMCNTRL, 2, 0xDFFF, PMCNTRL, 2, id="control"),
        pytest.param(PMCNTRL, 2, 0x0003, PMCNTRL, 2, id="control, low"),
        pytest.param(PMEN, 2, 0xFFFF, PMEN, 2, id="enable"),
        pytest.param(PMEN, 2, 0x0521, PMSTS, 4, id="status and enable"),
        pytest.param(PMEN, 2, 0, PMEN, 2, id="disable"),
    ],
)
def test_pm_registers_are_qemus(qemu: Qemu, offset: int, size: int, value: int, look: int, look_size: int) -> None:
    seen = []
    for machine in (Pc(), qemu):
        machine.write(BASE + PMSTS, 2, 0xFFFF)
        machine.write(BASE + PMCNTRL, 2, 0)
        machine.write(BASE + offset, size, value)
        seen.append(machine.read(BASE + look, look_size) & ~TMROF_STS)
    assert seen[0] == seen[1]


@pytest.mark.oracle
def test_apm_is_qemus(qemu: Qemu) -> None:
    seen = []
    for machine in (Pc(), qemu):
        values = []
        for value in (ACPI_ENABLE, 0x55, ACPI_DISABLE):
            machine.write(APMS, 1, value ^ 0xFF)
            machine.write(APMC, 1, value)
            values += [machine.read(APMC, 1), machine.read(APMS, 1), machine.read(BASE + PMCNTRL, 2) & 1]
        seen.append(values)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("now", "ticks"),
    [
        (0, 0),
        (SECOND, PM_TIMER_HZ),
        (10 * SECOND, 10 * PM_TIMER_HZ & 0xFF_FFFF),
        (279, 0),
        (280, 1),
        (3600 * SECOND, 1_460_112),
    ],
)
def test_timer_counts(now: int, ticks: int) -> None:
    pc = Pc()
    pc.clock.now = now
    assert pc.read(BASE + PMTMR, 4) == ticks
    assert pc.read(BASE + PMTMR + 1, 1) == ticks >> 8 & 0xFF


def test_timer_event_comes_with_every_change_of_the_top_bit() -> None:
    pc = Pc()
    assert pc.pm.next_event() == NEVER
    pc.write(BASE + PMEN, 2, TMROF_STS)
    pc.write(APMC, 1, ACPI_ENABLE)
    for half in (1, 2, 3):
        due = pc.pm.next_event()
        assert (due - 1) * PM_TIMER_HZ // SECOND < half << 23 <= due * PM_TIMER_HZ // SECOND
        pc.clock.now = due - 1
        pc.pm.advance()
        assert not pc.sci.level
        pc.clock.now = due
        pc.pm.advance()
        assert pc.sci.level
        assert pc.pm.next_event() == NEVER
        pc.write(BASE + PMSTS, 2, TMROF_STS)
        assert not pc.sci.level


def test_timer_status_shows_without_being_enabled() -> None:
    pc = Pc()
    pc.clock.now = 3 * SECOND
    assert pc.read(BASE + PMSTS, 2) == TMROF_STS
    pc.write(BASE + PMSTS, 1, TMROF_STS)
    assert pc.read(BASE + PMSTS, 2) == 0


@pytest.mark.parametrize(
    ("enabled", "sci_enabled", "level"),
    [(PWRBTN_STS, True, True), (PWRBTN_STS, False, False), (RTC_STS, True, False)],
)
def test_power_button(enabled: int, sci_enabled: bool, level: bool) -> None:
    pc = Pc()
    pc.write(BASE + PMEN, 2, enabled)
    if sci_enabled:
        pc.write(APMC, 1, ACPI_ENABLE)
    pc.pm.press_power_button()
    assert pc.sci.level is level
    assert pc.read(BASE + PMSTS, 2) == PWRBTN_STS
    pc.pm.reset()
    assert not pc.sci.level


def test_general_purpose_event() -> None:
    pc = Pc()
    pc.write(APMC, 1, ACPI_ENABLE)
    pc.write(BASE + 0x0E, 2, 0x0102)
    pc.pm.set_general_purpose_event(8)
    assert pc.sci.level
    assert pc.read(BASE + 0x0C, 4) == 0x0102_0100
    pc.write(BASE + 0x0D, 1, 0x01)
    assert not pc.sci.level
    assert pc.read(BASE + 0x0C, 4) == 0x0102_0000


@pytest.mark.parametrize(
    ("size", "offset", "value", "sleeps"),
    [
        pytest.param(2, PMCNTRL, 0x2000, [0], id="soft off"),
        pytest.param(2, PMCNTRL, 0x2401, [1], id="another state"),
        pytest.param(1, PMCNTRL + 1, 0x20, [0], id="upper byte"),
        pytest.param(4, PMCNTRL, 0x3C00, [7], id="doubleword"),
        pytest.param(2, PMCNTRL, 0x1C01, [], id="type only"),
        pytest.param(1, PMCNTRL, 0xFF, [], id="lower byte"),
        pytest.param(4, PMSTS, 0xFFFF_FFFF, [], id="another register"),
    ],
)
def test_sleep(size: int, offset: int, value: int, sleeps: list[int]) -> None:
    pc = Pc()
    pc.write(BASE + offset, size, value)
    assert pc.sleeps == sleeps
    assert not pc.read(BASE + PMCNTRL, 2) & 0x2000


@pytest.mark.parametrize(
    ("register", "size", "value", "base"),
    [(PMBA, 4, 0x4001, 0x4000), (PMBA, 2, 0xB03F, 0xB000), (PMREGMISC, 1, 0, None), (PMBA, 4, 0, None)],
)
def test_registers_move(register: int, size: int, value: int, base: int | None) -> None:
    pc = Pc()
    pc.pm.config_write(register, size, value)
    assert pc.pm.config_read(PMBA, 1) & 1
    owned = [port for port in range(0x1_0000) if pc.bus.owner[port] is pc.pm and port not in (APMC, APMS)]
    assert owned == (list(range(base, base + 64)) if base else [])


SIZES = st.sampled_from((1, 2, 4))
TRAFFIC = st.lists(
    st.one_of(
        st.tuples(st.just("out"), st.integers(BASE - 2, BASE + 66), SIZES, st.integers(0, 2**32 - 1)),
        st.tuples(st.just("in"), st.integers(BASE - 2, BASE + 66), SIZES, st.just(0)),
        st.tuples(st.just("out"), st.sampled_from((APMC, APMS)), st.just(1), st.sampled_from((0xF0, 0xF1, 0x55))),
        st.tuples(st.just("time"), st.just(0), st.just(0), st.integers(0, 5 * SECOND)),
    ),
    max_size=50,
)


@settings(max_examples=80, deadline=None)
@given(TRAFFIC)
def test_random_traffic(traffic: list[tuple[str, int, int, int]]) -> None:
    pc = Pc()
    for what, port, size, value in traffic:
        if what == "out":
            pc.write(port, size, value & (1 << 8 * size) - 1)
        elif what == "in":
            assert 0 <= pc.read(port, size) < 1 << 8 * size
        else:
            end = pc.clock.now + value
            while (due := pc.pm.next_event()) <= end:
                assert due > pc.clock.now
                pc.clock.now = due
                pc.pm.advance()
            pc.clock.now = end
            pc.pm.advance()
        state = pc.pm.state
        wanted = state.status & state.enable & 0x521 or state.gp_status & state.gp_enable
        assert pc.sci.level is (bool(wanted) and bool(state.control & 1))
    pc.pm.reset()
    assert not pc.sci.level
    assert pc.bus.owner[BASE] is None
