"""The I/O APIC: rows by the 82093AA data sheet, and together with a local APIC."""

from __future__ import annotations

import pytest

from devices.core import Clock
from devices.ioapic import (
    IOAPICARB,
    IOAPICID,
    IOAPICVER,
    IOREDTBL,
    IOREGSEL,
    IOWIN,
    LEVEL,
    LOGICAL,
    MASKED,
    PINS,
    REMOTE_IRR,
    IoApic,
)
from devices.lapic import EOI, EXTINT, LDR, LVT_LINT0, LVT_MASKED, NMI, SVR, LocalApic

Message = tuple[int, int, bool, int, bool]


class Rig:
    """An I/O APIC whose messages are kept."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.somebody = True
        self.apic = IoApic(self._send)

    def _send(self, *message: object) -> bool:
        self.sent.append(message)  # type: ignore[arg-type]
        return self.somebody

    def out(self, register: int, value: int) -> None:
        self.apic.write(IOREGSEL, 4, register)
        self.apic.write(IOWIN, 4, value)

    def read(self, register: int) -> int:
        self.apic.write(IOREGSEL, 4, register)
        return self.apic.read(IOWIN, 4)

    def entry(self, pin: int, low: int, high: int = 0) -> None:
        self.out(IOREDTBL + 2 * pin + 1, high)
        self.out(IOREDTBL + 2 * pin, low)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("register", "written", "expected"),
    [
        pytest.param(IOAPICVER, None, 0x0017_0011, id="version"),
        pytest.param(IOAPICVER, 0, 0x0017_0011, id="version is read-only"),
        pytest.param(IOAPICID, None, 0, id="identification"),
        pytest.param(IOAPICID, 0xFFFF_FFFF, 0x0F00_0000, id="identification's bits"),
        pytest.param(IOAPICARB, 0xFFFF_FFFF, 0, id="arbitration is read-only"),
        pytest.param(IOREDTBL, None, MASKED, id="masked after reset"),
        pytest.param(IOREDTBL + 1, None, 0, id="no destination after reset"),
        pytest.param(IOREDTBL, 0xFFFF_FFFF, 0x1_AFFF, id="an entry's bits"),
        pytest.param(IOREDTBL + 47, 0xFFFF_FFFF, 0xFF00_0000, id="the last entry's upper half"),
        pytest.param(IOREDTBL + 48, 0xFFFF_FFFF, 0, id="beyond the table"),
        pytest.param(0x03, 0xFFFF_FFFF, 0, id="no such register"),
    ],
)
def test_registers(rig: Rig, register: int, written: int | None, expected: int) -> None:
    if written is not None:
        rig.out(register, written)
    assert rig.read(register) == expected


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(IOREGSEL, 4, 1), (IOREGSEL, 1, 1), (IOWIN, 1, 0x11), (IOWIN + 2, 1, 0x17), (IOWIN, 2, 0x11), (0x20, 4, 0)],
)
def test_parts_are_read(rig: Rig, offset: int, size: int, expected: int) -> None:
    rig.apic.write(IOREGSEL, 1, IOAPICVER)
    assert rig.apic.read(offset, size) == expected


@pytest.mark.parametrize(("offset", "size"), [(IOWIN, 1), (IOWIN, 2), (IOWIN + 1, 1), (0x20, 4)])
def test_parts_are_not_written(rig: Rig, offset: int, size: int) -> None:
    rig.apic.write(IOREGSEL, 4, IOREDTBL)
    rig.apic.write(offset, size, 0x31)
    assert rig.read(IOREDTBL) == MASKED


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0x31, 0, (0x31, 0, False, 0, False)),
        (0x131, 0x0300_0000, (0x31, 1, False, 3, False)),
        (LOGICAL | 0x31, 0xFF00_0000, (0x31, 0, False, 0xFF, True)),
        (NMI << 8, 0, (0, NMI, False, 0, False)),
        (LEVEL | 0x31, 0, (0x31, 0, True, 0, False)),
        (MASKED | 0x31, 0, None),
    ],
)
def test_messages(rig: Rig, low: int, high: int, message: Message | None) -> None:
    rig.entry(5, low, high)
    rig.apic.pins[5].set(True)
    assert rig.sent == ([message] if message else [])


def test_every_pin_has_its_entry(rig: Rig) -> None:
    for pin in range(PINS):
        rig.entry(pin, 0x20 + pin)
    for pin in range(PINS):
        rig.apic.pins[pin].pulse()
    assert [vector for vector, *_ in rig.sent] == [0x20 + pin for pin in range(PINS)]


@pytest.mark.parametrize(("low", "later"), [(0x31, 0), (LEVEL | 0x31, 1)])
def test_what_comes_while_masked(rig: Rig, low: int, later: int) -> None:
    """An edge is lost, a level is still there."""
    rig.entry(5, MASKED | low)
    rig.apic.pins[5].set(True)
    rig.entry(5, low)
    assert len(rig.sent) == later


def test_an_edge_that_nobody_takes_waits(rig: Rig) -> None:
    rig.somebody = False
    rig.entry(5, 0x31)
    rig.apic.pins[5].pulse()
    rig.somebody = True
    rig.entry(5, 0x31)
    rig.entry(5, 0x31)
    assert len(rig.sent) == 2


def test_a_level_asks_once_for_each_end_of_interrupt(rig: Rig) -> None:
    rig.entry(5, LEVEL | 0x31)
    rig.apic.pins[5].set(True)
    assert rig.read(IOREDTBL + 10) == LEVEL | REMOTE_IRR | 0x31
    rig.entry(5, LEVEL | 0x31)
    rig.apic.end_of_interrupt(0x32)
    assert len(rig.sent) == 1
    rig.apic.end_of_interrupt(0x31)
    assert len(rig.sent) == 2
    rig.apic.pins[5].set(False)
    rig.apic.end_of_interrupt(0x31)
    assert len(rig.sent) == 2
    assert rig.read(IOREDTBL + 10) == LEVEL | 0x31


def test_reset_keeps_the_pins(rig: Rig) -> None:
    rig.apic.pins[5].set(True)
    rig.apic.reset()
    rig.entry(5, LEVEL | 0x31)
    assert len(rig.sent) == 1


class Pair:
    """Both kinds of APIC, wired; the 8259A's vector is 77h."""

    def __init__(self) -> None:
        self.local = LocalApic(Clock(), lambda: 0x77)
        self.io = IoApic(self.local.message)
        self.local.on_eoi = self.io.end_of_interrupt
        for register, value in ((SVR, 0x1FF), (LVT_LINT0, LVT_MASKED), (LDR, 0x0100_0000)):
            self.local.write(register, 4, value)

    def entry(self, pin: int, low: int, high: int) -> None:
        for register, value in ((IOREDTBL + 2 * pin + 1, high), (IOREDTBL + 2 * pin, low)):
            self.io.write(IOREGSEL, 4, register)
            self.io.write(IOWIN, 4, value)


@pytest.mark.parametrize(
    ("low", "high", "vector"),
    [
        (0x31, 0, 0x31),
        (0x31, 0x0100_0000, None),
        (LOGICAL | 0x131, 0x0100_0000, 0x31),
        (LOGICAL | 0x131, 0x0200_0000, None),
        (EXTINT << 8, 0, 0x77),
    ],
)
def test_a_pin_interrupts_the_processor(low: int, high: int, vector: int | None) -> None:
    pair = Pair()
    pair.entry(5, low, high)
    pair.io.pins[5].set(True)
    assert pair.local.intr.level is (vector is not None)
    if vector is not None:
        assert pair.local.acknowledge() == vector


def test_a_shared_level_goes_on_until_it_falls() -> None:
    pair = Pair()
    pair.entry(5, LEVEL | 0x31, 0)
    pair.io.pins[5].set(True)
    for _ in range(3):
        assert pair.local.acknowledge() == 0x31
        assert not pair.local.intr.level
        pair.local.write(EOI, 4, 0)
        assert pair.local.intr.level
    assert pair.local.acknowledge() == 0x31
    pair.io.pins[5].set(False)
    pair.local.write(EOI, 4, 0)
    assert not pair.local.intr.level
