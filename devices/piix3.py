"""The south bridge's functions at 00:01: ISA bridge, IDE and power management.

As in QEMU's `pc` machine, functions 0 and 1 are the 82371SB's (PIIX3) and function 3 is the 82371AB's (PIIX4),
because only that has ACPI.  Sources: 82371SB datasheet, 2.2 (PIRQRC), 2.3 (IDE); 82371AB datasheet, 7.1 and 7.2
(power management); ACPI 1.0, 4.7 (fixed hardware).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from devices.core import NEVER, SECOND, Clock, Line, Ports
from devices.pci import (
    COMMAND,
    COMMAND_IO,
    MULTIFUNCTION,
    Mapper,
    PciFunction,
    PciState,
    Region,
    config_space,
    unmapped,
)

SLOT = 1

# Function 0: the ISA bridge ---------------------------------------------------------------------
PIRQRCA = 0x60
"""PIRQ route control A; B, C and D follow.  Bit 7: not routed; bits 3..0: the IRQ."""
PIRQ_DISABLE = 0x80
PIRQ_ROUTABLE = 0xDEF8
"""IRQs that a PIRQ may be routed to, a bit each: all but 0, 1, 2, 8 and 13."""
PIRQS = 4


@dataclass
class IsaBridgeState(PciState):
    """The configuration space, which sources hold each PIRQ (a bit a source), and the IRQs held for them."""

    asserted: list[int] = field(default_factory=lambda: [0] * PIRQS)
    held: int = 0


class Piix3Isa(PciFunction):
    """PCI-to-ISA bridge 8086:7000 at 00:01.0.

    Its work is to route PIRQA#..PIRQD# to the ISA IRQs: *irqs* are sixteen lines to the interrupt controller
    (those of IRQs 0, 1, 2, 8 and 13 are never driven).  An IRQ that PIRQs share is the OR of them; a line that no
    PIRQ holds is left alone, because an ISA device may drive it.
    """

    name = "piix3"
    state: IsaBridgeState
    state_type = IsaBridgeState
    config_reset: ClassVar[bytes] = config_space(
        0x8086,
        0x7000,
        0x060100,
        status=0x0200,
        header_type=MULTIFUNCTION,
        registers={
            0x4C: 0x4D,
            0x4E: 0x03,
            PIRQRCA: PIRQ_DISABLE,
            PIRQRCA + 1: PIRQ_DISABLE,
            PIRQRCA + 2: PIRQ_DISABLE,
            PIRQRCA + 3: PIRQ_DISABLE,
            0x69: 0x02,
            0x70: 0x80,
            0x76: 0x0C,
            0x77: 0x0C,
            0x78: 0x02,
            0xA0: 0x08,
            0xA8: 0x0F,
        },
    )

    def __init__(self, irqs: Sequence[Line]) -> None:
        super().__init__(SLOT, 0)
        self.irqs = irqs
        self._sources = 0

    def connect(self, line: Line, slot: int, pin: int = 0) -> None:
        """Wire INTA# (*pin* 0) .. INTD# (3) of the function in *slot* to its PIRQ.

        The board turns the pins by one PIRQ a slot: slot 1's INTA# is PIRQA#, slot 2's PIRQB#.
        """
        pirq = (slot - 1 + pin) % PIRQS
        source = 1 << self._sources
        self._sources += 1

        def drive(level: bool) -> None:
            asserted = self.state.asserted
            asserted[pirq] = asserted[pirq] | source if level else asserted[pirq] & ~source
            self._route()

        line.connect(drive)

    def reset(self) -> None:
        self._hold(0)
        super().reset()

    def config_written(self, before: bytes) -> None:
        self._route()

    def _route(self) -> None:
        levels = 0
        for pirq in range(PIRQS):
            route = self.state.config[PIRQRCA + pirq]
            if self.state.asserted[pirq] and not route & PIRQ_DISABLE:
                levels |= 1 << (route & 0xF)
        self._hold(levels & PIRQ_ROUTABLE)

    def _hold(self, levels: int) -> None:
        changed = levels ^ self.state.held
        self.state.held = levels
        for irq, line in enumerate(self.irqs):
            if changed >> irq & 1:
                line.set(bool(levels >> irq & 1))


# Function 1: IDE ----------------------------------------------------------------------------------
IDETIM = 0x40
"""IDE timing of the primary channel, 16 bits; the secondary's follows.  Bit 15: the channel decodes its ports."""
IDETIM_IDE = 0x8000


class Piix3Ide(PciFunction):
    """IDE interface 8086:7010 at 00:01.1, its configuration space.

    The channels themselves are the IDE device's, at the legacy ports.  *bus_master* is BAR 4, the sixteen
    bus-master registers; without it the function says that it cannot do bus-master DMA.
    """

    name = "piix3_ide"
    config_reset: ClassVar[bytes] = config_space(0x8086, 0x7010, 0x010180, status=0x0280)
    without_bus_master: ClassVar[bytes] = config_space(0x8086, 0x7010, 0x010100, status=0x0280)

    def __init__(self, bus_master: Region | None = None, mapper: Mapper = unmapped) -> None:
        super().__init__(SLOT, 1, (bus_master,) if bus_master else (), mapper)

    def load_config(self) -> None:
        super().load_config()
        if not self.regions:
            self.state.config[:] = self.without_bus_master


# Function 3: power management ---------------------------------------------------------------------
PMBA = 0x40
"""Power management base address: bits 15..6, and bit 0, which reads as one."""
DEVACTB = 0x58
DEVACTB_APMC_EN = 0x0200_0000
"""A write to APMC raises SMI#.  SeaBIOS takes it, when set, as "SMM is set up, or there is none"."""
PMREGMISC = 0x80
PMREGMISC_PMIOSE = 0x01
"""The power management registers are decoded."""
PM_SIZE = 64

APMC = 0xB2
APMS = 0xB3
ACPI_ENABLE = 0xF1
ACPI_DISABLE = 0xF0
"""What a write to APMC, the SMI command port, does on this board."""

PMSTS, PMEN, PMCNTRL, PMTMR, GPSTS, GPEN = 0x00, 0x02, 0x04, 0x08, 0x0C, 0x0E
"""Offsets from PMBA; GPSTS and GPEN together are ACPI's GPE0 block of four bytes."""

TMROF_STS = 0x0001
GBL_STS = 0x0020
PWRBTN_STS = 0x0100
RTC_STS = 0x0400
WAK_STS = 0x8000
PM1_EVENTS = TMROF_STS | GBL_STS | PWRBTN_STS | RTC_STS
PM1_STS_BITS = PM1_EVENTS | WAK_STS | 0x0010

SCI_EN = 0x0001
SLP_TYP_SHIFT = 10
SLP_EN = 0x2000
PMCNTRL_BITS = 0xDFFF
"""Bits of PMCNTRL that are kept; SLP_EN reads as zero."""

SLP_TYP_SOFT_OFF = 0
"""SLP_TYP of S5, soft off (82371AB datasheet, 7.2.3)."""

PM_TIMER_HZ = 3_579_545
PM_TIMER_MASK = 0xFF_FFFF
PM_TIMER_HALF_SHIFT = 23
"""TMROF_STS is set whenever the timer's top bit, bit 23, changes."""

FIRMWARE_PMBA = 0x600
FIRMWARE_PIRQS = (10, 10, 11, 11)
"""Where SeaBIOS puts the power management registers, and the IRQs it routes PIRQA#..PIRQD# to."""


def pm_ticks(now: int) -> int:
    """Ticks of the PM timer since power-on at *now* (ns)."""
    return now * PM_TIMER_HZ // SECOND


@dataclass
class PmState(PciState):
    """The configuration space, ACPI's registers and the APM latches."""

    status: int = 0
    enable: int = 0
    control: int = 0
    gp_status: int = 0
    gp_enable: int = 0
    halves: int = 0
    """How many times the timer's top bit had changed when that was last looked at."""
    apmc: int = 0
    apms: int = 0


class Piix4Pm(PciFunction):
    """Power management 8086:7113 at 00:01.3.

    *sci* is the system control interrupt (IRQ 9, level).  *on_sleep* is called with SLP_TYP when the guest sets
    SLP_EN; SLP_TYP_SOFT_OFF is power-off.
    """

    name = "piix4_pm"
    state: PmState
    state_type = PmState
    config_reset: ClassVar[bytes] = config_space(
        0x8086,
        0x7113,
        0x068000,
        revision=3,
        status=0x0280,
        registers={
            0x3D: 0x01,
            PMBA: 0x01,
            DEVACTB + 3: DEVACTB_APMC_EN >> 24,
            0x5F: 0x90,
            0x63: 0x60,
            0x67: 0x08,
            0x90: 0x01,
            0xD2: 0x09,
        },
    )

    def __init__(
        self, clock: Clock, sci: Line, on_sleep: Callable[[int], None] = lambda slp_typ: None, mapper: Mapper = unmapped
    ) -> None:
        self.clock = clock
        self.sci = sci
        self.on_sleep = on_sleep
        super().__init__(SLOT, 3, (Region(PMBA, PM_SIZE, True, self._read, self._write),), mapper)

    def reset(self) -> None:
        super().reset()
        self.state.halves = pm_ticks(self.clock.now) >> PM_TIMER_HALF_SHIFT
        self._drive_sci()

    # Ports ---------------------------------------------------------------------------------------
    def ports(self) -> Sequence[Ports]:
        return (Ports(APMC, 2, self._read_apm, self._write_apm, (1,), ("APMC", "APMS")),)

    def base(self, region: Region) -> int | None:
        if not self.state.config[PMREGMISC] & PMREGMISC_PMIOSE:
            return None
        return self.register(PMBA, 2) & -PM_SIZE or None

    def config_written(self, before: bytes) -> None:
        self.state.config[PMBA] |= 1

    def _read_apm(self, port: int, size: int) -> int:
        return self.state.apmc if port == APMC else self.state.apms

    def _write_apm(self, port: int, size: int, value: int) -> None:
        state = self.state
        if port == APMS:
            state.apms = value
            return
        state.apmc = value
        if value == ACPI_ENABLE:
            state.control |= SCI_EN
        elif value == ACPI_DISABLE:
            state.control &= ~SCI_EN
        self._drive_sci()

    # Read ----------------------------------------------------------------------------------------
    def _read(self, offset: int, size: int) -> int:
        self._catch_up()
        state = self.state
        block = state.status | state.enable << 16 | state.control << 32
        block |= (pm_ticks(self.clock.now) & PM_TIMER_MASK) << 8 * PMTMR
        block |= state.gp_status << 8 * GPSTS | state.gp_enable << 8 * GPEN
        return block >> 8 * offset & (1 << 8 * size) - 1

    # Write ---------------------------------------------------------------------------------------
    def _write(self, offset: int, size: int, value: int) -> None:
        self._catch_up()
        state = self.state
        block = value << 8 * offset
        lanes = (1 << 8 * size) - 1 << 8 * offset

        def merge(register: int, old: int) -> int:
            mask = lanes >> 8 * register & 0xFFFF
            return old & ~mask | block >> 8 * register & mask

        state.status &= ~merge(PMSTS, 0)
        state.enable = merge(PMEN, state.enable)
        state.gp_status &= ~merge(GPSTS, 0)
        state.gp_enable = merge(GPEN, state.gp_enable)
        sleep = merge(PMCNTRL, 0) & SLP_EN
        state.control = merge(PMCNTRL, state.control) & PMCNTRL_BITS
        self._drive_sci()
        if sleep:
            self.on_sleep(state.control >> SLP_TYP_SHIFT & 7)

    # Events from outside ---------------------------------------------------------------------------
    def press_power_button(self) -> None:
        """The power button: PWRBTN_STS."""
        self.state.status |= PWRBTN_STS
        self._drive_sci()

    def set_general_purpose_event(self, bit: int) -> None:
        """Set bit *bit* (0..15) of GPSTS."""
        self.state.gp_status |= 1 << bit & 0xFFFF
        self._drive_sci()

    # Time ----------------------------------------------------------------------------------------
    def _catch_up(self) -> None:
        halves = pm_ticks(self.clock.now) >> PM_TIMER_HALF_SHIFT
        if halves != self.state.halves:
            self.state.halves = halves
            self.state.status |= TMROF_STS
            self._drive_sci()

    def next_event(self) -> int:
        state = self.state
        if not state.enable & TMROF_STS or state.status & TMROF_STS:
            return NEVER
        tick = state.halves + 1 << PM_TIMER_HALF_SHIFT
        return -(-tick * SECOND // PM_TIMER_HZ)

    def advance(self) -> None:
        self._catch_up()

    def _drive_sci(self) -> None:
        state = self.state
        event = state.status & state.enable & PM1_EVENTS or state.gp_status & state.gp_enable
        self.sci.set(bool(event) and bool(state.control & SCI_EN))


def configure(isa: Piix3Isa, ide: Piix3Ide, pm: Piix4Pm) -> None:
    """Set the chips up as SeaBIOS does, for a guest that is started without firmware."""
    for pirq, irq in enumerate(FIRMWARE_PIRQS):
        isa.config_write(PIRQRCA + pirq, 1, irq)
    ide.config_write(COMMAND, 2, COMMAND_IO)
    ide.config_write(IDETIM, 4, IDETIM_IDE << 16 | IDETIM_IDE)
    pm.config_write(PMBA, 4, FIRMWARE_PMBA)
    pm.config_write(PMREGMISC, 1, PMREGMISC_PMIOSE)
