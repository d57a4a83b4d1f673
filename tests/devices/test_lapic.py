"""The local APIC: rows by SDM vol. 3, chapter 10."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from devices.core import NEVER, Clock
from devices.lapic import (
    CURRENT_COUNT,
    DFR,
    DIVIDE,
    EOI,
    ESR,
    EXTINT,
    FIXED,
    ICR_HIGH,
    ICR_LOW,
    ID,
    INITIAL_COUNT,
    IRR,
    ISR,
    LDR,
    LOWEST_PRIORITY,
    LVT_ERROR,
    LVT_LEVEL,
    LVT_LINT0,
    LVT_LINT1,
    LVT_MASKED,
    LVT_PERIODIC,
    LVT_REMOTE_IRR,
    LVT_TIMER,
    NMI,
    PPR,
    SVR,
    TICK,
    TMR,
    TPR,
    VERSION,
    LocalApic,
    divider,
)

ENABLED = (SVR, 0x1FF)


@dataclass
class Rig:
    """A local APIC with everything around it; the 8259A's vector is 77h."""

    clock: Clock = field(default_factory=Clock)
    nmis: int = 0
    ended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.apic = LocalApic(self.clock, lambda: 0x77, self._nmi)
        self.apic.on_eoi = self.ended.append

    def _nmi(self) -> None:
        self.nmis += 1

    def out(self, *writes: tuple[int, int]) -> None:
        for register, value in writes:
            self.apic.write(register, 4, value)

    def read(self, register: int) -> int:
        return self.apic.read(register, 4)

    @property
    def intr(self) -> bool:
        return self.apic.intr.level

    def take(self) -> int | None:
        """What a CPU that listens takes."""
        return self.apic.acknowledge() if self.intr else None

    def run_to(self, end: int) -> list[tuple[int, int]]:
        """(time, vector) of what a CPU takes that listens, and ends at once."""
        taken = []
        while (due := self.apic.next_event()) <= end:
            self.clock.now = due
            self.apic.advance()
            while (vector := self.take()) is not None:
                taken.append((due, vector))
                self.out((EOI, 0))
        self.clock.now = end
        return taken


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("writes", "register", "expected"),
    [
        pytest.param([], ID, 0, id="identification"),
        pytest.param([(ID, 0xFFFF_FFFF)], ID, 0xFF00_0000, id="identification's bits"),
        pytest.param([], VERSION, 0x0005_0014, id="version"),
        pytest.param([(VERSION, 0)], VERSION, 0x0005_0014, id="version is read-only"),
        pytest.param([], SVR, 0xFF, id="off after reset"),
        pytest.param([(SVR, 0xFFFF_FFFF)], SVR, 0x1FF, id="SVR's bits"),
        pytest.param([], DFR, 0xFFFF_FFFF, id="flat after reset"),
        pytest.param([(DFR, 0)], DFR, 0x0FFF_FFFF, id="cluster"),
        pytest.param([(LDR, 0x1234_5678)], LDR, 0x1200_0000, id="LDR's bits"),
        pytest.param([(TPR, 0x1FF)], TPR, 0xFF, id="TPR's bits"),
        pytest.param([(TPR, 0x35)], PPR, 0x35, id="the task's priority"),
        pytest.param([], LVT_TIMER, LVT_MASKED, id="masked after reset"),
        pytest.param([], LVT_LINT0, 0x700, id="virtual wire after reset"),
        pytest.param([(LVT_LINT1, 0x400)], LVT_LINT1, 0x1_0400, id="masked while off"),
        pytest.param([ENABLED, (LVT_LINT1, 0x400)], LVT_LINT1, 0x400, id="LINT1"),
        pytest.param([ENABLED, (SVR, 0xFF)], LVT_LINT0, 0x1_0700, id="switched off masks"),
        pytest.param([ENABLED, (LVT_TIMER, 0xFFFF_FFFF)], LVT_TIMER, 0x3_00FF, id="the timer entry's bits"),
        pytest.param([ENABLED, (LVT_LINT0, 0xFFFF_FFFF)], LVT_LINT0, 0x1_A7FF, id="LINT0's bits"),
        pytest.param([ENABLED, (LVT_ERROR, 0xFFFF_FFFF)], LVT_ERROR, 0x1_00FF, id="the error entry's bits"),
        pytest.param([(DIVIDE, 0xFFFF_FFFF)], DIVIDE, 0xB, id="divider's bits"),
        pytest.param([(ICR_HIGH, 0x1234_5678)], ICR_HIGH, 0x1200_0000, id="ICR's destination"),
        pytest.param([(0x3F0, 5)], 0x3F0, 0, id="nothing there"),
        pytest.param([(TPR + 4, 5)], TPR + 4, 0, id="between registers"),
    ],
)
def test_registers(rig: Rig, writes: list[tuple[int, int]], register: int, expected: int) -> None:
    rig.out(*writes)
    assert rig.read(register) == expected


@pytest.mark.parametrize(("offset", "size", "expected"), [(0, 1, 0x14), (2, 1, 5), (2, 2, 5), (1, 2, 0x500), (4, 4, 0)])
def test_parts_of_a_register_are_read(rig: Rig, offset: int, size: int, expected: int) -> None:
    assert rig.apic.read(VERSION + offset, size) == expected


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0, 2), (1, 1), (4, 4), (0, 8)])
def test_parts_of_a_register_are_not_written(rig: Rig, offset: int, size: int) -> None:
    rig.apic.write(TPR + offset, size, 0x55)
    assert rig.read(TPR) == 0


def place(vector: int) -> tuple[int, int]:
    """The offset of the register of eight that holds a vector, and its bit."""
    return vector >> 5 << 4, 1 << (vector & 31)


@pytest.mark.parametrize("vector", [0x10, 0x1F, 0x20, 0x31, 0xFF])
@pytest.mark.parametrize("mode", [FIXED, LOWEST_PRIORITY])
def test_an_interrupt_goes_from_irr_to_isr_and_ends(rig: Rig, vector: int, mode: int) -> None:
    rig.out(ENABLED)
    assert rig.apic.accept(vector, mode, level=False)
    register, bit = place(vector)
    assert (rig.read(IRR + register), rig.read(ISR + register), rig.read(TMR + register)) == (bit, 0, 0)
    assert rig.take() == vector
    assert (rig.read(IRR + register), rig.read(ISR + register)) == (0, bit)
    assert rig.read(PPR) == vector & 0xF0
    rig.out((EOI, 0))
    assert rig.read(ISR + register) == 0
    assert rig.ended == []


@pytest.mark.parametrize(
    ("tpr", "in_service", "waiting", "interrupts"),
    [
        (0x00, [], [0x31], True),
        (0x30, [], [0x31], False),
        (0x2F, [], [0x31], True),
        (0x40, [], [0x31, 0x51], True),
        (0x00, [0x41], [0x31], False),
        (0x00, [0x41], [0x4F], False),
        (0x00, [0x41], [0x51], True),
        (0x60, [0x41], [0x51], False),
        (0x00, [], [0x12], True),
    ],
)
def test_priorities(rig: Rig, tpr: int, in_service: list[int], waiting: list[int], interrupts: bool) -> None:
    rig.out(ENABLED)
    for vector in in_service:
        rig.apic.accept(vector, FIXED, level=False)
        assert rig.take() == vector
    rig.out((TPR, tpr))
    for vector in waiting:
        rig.apic.accept(vector, FIXED, level=False)
    assert rig.intr is interrupts
    if interrupts:
        assert rig.take() == max(waiting)


def test_interrupts_nest(rig: Rig) -> None:
    rig.out(ENABLED)
    for vector in (0x31, 0x51):
        rig.apic.accept(vector, FIXED, level=False)
        assert rig.take() == vector
    rig.apic.accept(0x41, FIXED, level=False)
    assert not rig.intr
    rig.out((EOI, 0))
    assert rig.take() == 0x41
    rig.out((EOI, 0), (EOI, 0), (EOI, 0))
    assert [rig.read(ISR + 16 * n) for n in range(8)] == [0] * 8


def test_a_request_that_has_gone_is_spurious(rig: Rig) -> None:
    rig.out((SVR, 0x1EF))
    rig.apic.accept(0x31, FIXED, level=False)
    rig.out((TPR, 0xF0))
    assert rig.apic.acknowledge() == 0xEF
    rig.out((TPR, 0))
    assert rig.take() == 0x31


def test_switched_off_it_takes_no_messages(rig: Rig) -> None:
    assert not rig.apic.accept(0x31, FIXED, level=False)
    assert not rig.intr


@pytest.mark.parametrize(
    ("writes", "passes"),
    [
        ([], True),
        ([ENABLED], True),
        ([ENABLED, (LVT_LINT0, 0x1_0700)], False),
        ([ENABLED, (LVT_LINT0, 0x400)], False),
        ([ENABLED, (LVT_LINT0, 0x1_0700), (LVT_LINT1, 0x700)], False),
        ([ENABLED, (TPR, 0xFF)], True),
    ],
)
def test_the_8259as_interrupt_is_passed_through(rig: Rig, writes: list[tuple[int, int]], passes: bool) -> None:
    rig.out(*writes)
    rig.apic.lint0.set(True)
    assert rig.intr is passes
    if passes:
        assert rig.take() == 0x77
        assert rig.intr
        rig.apic.lint0.set(False)
        assert not rig.intr


def test_disabled_by_the_msr_it_is_a_wire(rig: Rig) -> None:
    rig.out(ENABLED, (LVT_LINT0, LVT_MASKED))
    rig.apic.accept(0x31, FIXED, level=False)
    rig.apic.set_enabled(False)
    assert not rig.intr
    assert not rig.apic.accept(0x31, FIXED, level=False)
    rig.apic.lint0.set(True)
    assert rig.take() == 0x77
    rig.apic.set_enabled(True)
    assert rig.read(SVR) == 0xFF


@pytest.mark.parametrize(("lint", "register"), [("lint0", LVT_LINT0), ("lint1", LVT_LINT1)])
def test_pins_by_edge(rig: Rig, lint: str, register: int) -> None:
    pin = getattr(rig.apic, lint)
    rig.out(ENABLED, (register, LVT_MASKED | 0x31))
    pin.set(True)
    rig.out((register, 0x31))
    assert not rig.intr
    pin.set(False)
    pin.set(True)
    assert rig.take() == 0x31
    rig.out((EOI, 0))
    assert not rig.intr
    rig.out((register, NMI << 8))
    pin.pulse()
    assert rig.nmis == 1


@pytest.mark.parametrize(("lint", "register"), [("lint0", LVT_LINT0), ("lint1", LVT_LINT1)])
def test_pins_by_level(rig: Rig, lint: str, register: int) -> None:
    pin = getattr(rig.apic, lint)
    rig.out(ENABLED, (register, LVT_LEVEL | 0x31))
    pin.set(True)
    assert rig.read(register) == LVT_LEVEL | LVT_REMOTE_IRR | 0x31
    assert rig.take() == 0x31
    assert not rig.intr
    rig.out((EOI, 0))
    assert rig.ended == [0x31]
    assert rig.take() == 0x31
    pin.set(False)
    rig.out((EOI, 0))
    assert not rig.intr
    assert rig.read(register) == LVT_LEVEL | 0x31


@pytest.mark.parametrize(
    ("mode", "taken", "vector", "nmis"), [(FIXED, True, 0x31, 0), (NMI, True, None, 1), (EXTINT, True, 0x77, 0)]
)
def test_messages(rig: Rig, mode: int, taken: bool, vector: int | None, nmis: int) -> None:
    rig.out(ENABLED, (LVT_LINT0, LVT_MASKED))
    assert rig.apic.accept(0x31, mode, level=False) is taken
    assert rig.take() == vector
    assert rig.nmis == nmis
    assert not rig.intr


def test_the_end_of_a_level_triggered_interrupt_is_told(rig: Rig) -> None:
    rig.out(ENABLED)
    rig.apic.accept(0x31, FIXED, level=True)
    rig.apic.accept(0x52, FIXED, level=False)
    assert (rig.read(TMR + 0x10), rig.read(TMR + 0x20)) == (1 << 17, 0)
    assert (rig.take(), rig.take()) == (0x52, None)
    rig.out((EOI, 0))
    assert rig.ended == []
    assert rig.take() == 0x31
    rig.out((EOI, 0))
    assert rig.ended == [0x31]


@pytest.mark.parametrize(
    ("identification", "ldr", "dfr", "destination", "logical", "mine"),
    [
        (0, 0, 0, 0, False, True),
        (0, 0, 0, 1, False, False),
        (3, 0, 0, 3, False, True),
        (3, 0, 0, 0x0F, False, True),
        (3, 0, 0, 0xFF, False, True),
        (0, 0x01, 0xF, 0x01, True, True),
        (0, 0x01, 0xF, 0xFE, True, False),
        (0, 0x80, 0xF, 0xFF, True, True),
        (0, 0x21, 0x0, 0x21, True, True),
        (0, 0x21, 0x0, 0x23, True, True),
        (0, 0x21, 0x0, 0x22, True, False),
        (0, 0x21, 0x0, 0x31, True, False),
        (0, 0x21, 0x0, 0xFF, True, True),
    ],
)
def test_destinations(
    rig: Rig, identification: int, ldr: int, dfr: int, destination: int, logical: bool, mine: bool
) -> None:
    rig.out((ID, identification << 24), (LDR, ldr << 24), (DFR, dfr << 28))
    assert rig.apic.is_destination(destination, logical) is mine


@pytest.mark.parametrize(
    ("high", "low", "vector", "errors"),
    [
        pytest.param(0, 0x31, 0x31, 0, id="to its number"),
        pytest.param(1, 0x31, None, 0x04, id="to nobody"),
        pytest.param(0, 0x4_0031, 0x31, 0, id="to itself"),
        pytest.param(0, 0x8_0031, 0x31, 0, id="to all"),
        pytest.param(0, 0xC_0031, None, 0x04, id="to all others"),
        pytest.param(0, 0x4_000F, None, 0x20, id="illegal vector"),
        pytest.param(0, 0x8_0500, None, 0, id="INIT"),
    ],
)
def test_interprocessor_interrupts(rig: Rig, high: int, low: int, vector: int | None, errors: int) -> None:
    rig.out(ENABLED, (ICR_HIGH, high << 24), (ICR_LOW, low))
    assert rig.read(ICR_LOW) == low
    assert rig.take() == vector
    rig.out((ESR, 0))
    assert rig.read(ESR) == errors
    rig.out((ESR, 0))
    assert rig.read(ESR) == 0


def test_errors_interrupt(rig: Rig) -> None:
    rig.out(ENABLED, (LVT_ERROR, 0xFE))
    rig.apic.accept(0x0F, FIXED, level=False)
    assert rig.take() == 0xFE
    rig.out((ESR, 0))
    assert rig.read(ESR) == 0x40


@pytest.mark.parametrize(
    ("divide", "factor"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (0xA, 128), (0xB, 1)]
)
def test_the_divider(divide: int, factor: int) -> None:
    assert divider(divide) == factor


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        pytest.param([(LVT_TIMER, 0x31), (DIVIDE, 0xB), (INITIAL_COUNT, 1000)], [10_000], id="one-shot"),
        pytest.param([(LVT_TIMER, 0x31), (DIVIDE, 3), (INITIAL_COUNT, 100)], [16_000], id="divided"),
        pytest.param(
            [(LVT_TIMER, LVT_PERIODIC | 0x31), (DIVIDE, 0xB), (INITIAL_COUNT, 1000)],
            [10_000, 20_000, 30_000, 40_000],
            id="periodic",
        ),
        pytest.param([(LVT_TIMER, LVT_MASKED | 0x31), (DIVIDE, 0xB), (INITIAL_COUNT, 1000)], [], id="masked"),
        pytest.param([(LVT_TIMER, 0x31), (INITIAL_COUNT, 1000), (INITIAL_COUNT, 0)], [], id="stopped"),
        pytest.param(
            [(DIVIDE, 0xB), (INITIAL_COUNT, 1000), (DIVIDE, 0), (LVT_TIMER, 0x31)], [20_000], id="divided later"
        ),
    ],
)
def test_the_timer(rig: Rig, writes: list[tuple[int, int]], expected: list[int]) -> None:
    rig.out(ENABLED, *writes)
    assert rig.run_to(45_000) == [(time, 0x31) for time in expected]


@pytest.mark.parametrize(
    ("mode", "counts"),
    [(0, [1000, 900, 1, 0, 0]), (LVT_PERIODIC, [1000, 900, 1, 1000, 500])],
)
def test_the_count(rig: Rig, mode: int, counts: list[int]) -> None:
    rig.out(ENABLED, (LVT_TIMER, mode | LVT_MASKED), (DIVIDE, 0xB), (INITIAL_COUNT, 1000))
    seen = []
    for time in (0, 100, 999, 1000, 1500):
        rig.clock.now = time * TICK
        seen.append(rig.read(CURRENT_COUNT))
    assert seen == counts


def test_a_fast_timer_waits_for_its_handler(rig: Rig) -> None:
    """While its vector waits, the timer wakes nobody; afterwards it keeps its phase."""
    rig.out(ENABLED, (TPR, 0xFF), (LVT_TIMER, LVT_PERIODIC | 0x31), (DIVIDE, 0xB), (INITIAL_COUNT, 1))
    rig.clock.now = rig.apic.next_event()
    rig.apic.advance()
    assert rig.apic.next_event() == NEVER
    rig.clock.now = 5_005
    rig.out((TPR, 0))
    assert rig.take() == 0x31
    assert rig.apic.next_event() == 5_010
