"""The pair of Intel 8259A interrupt controllers of the PC/AT, as the PIIX3 integrates them.

Sources: Intel 8259A data sheet (order 231468); 82371FB/SB (PIIX, PIIX3) data sheet, section 2.5.3 for
the edge/level control registers.  As in the PIIX3, ICW1's LTIM bit is replaced by ELCR, and the cascade
is wired: the slave sits at IR2 of the master whatever ICW3 says.

An edge-triggered request is withdrawn when its input falls before the acknowledgement, as in the chip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from devices.core import Device, Line, Ports

MASTER, SLAVE = 0x20, 0xA0
"""Port of A0 = 0 (command); A0 = 1 (data) is the next one."""
ELCR1, ELCR2 = 0x4D0, 0x4D1
ELCR1_WRITABLE, ELCR2_WRITABLE = 0xF8, 0xDE
"""IRQ 0, 1, 2, 8 and 13 are always edge-triggered."""

CASCADE = 2
"""The master's input that the slave drives."""
SPURIOUS = 7
"""The level that is reported when the request has gone before the acknowledgement."""

ICW1 = 0x10
ICW1_IC4, ICW1_SNGL = 0x01, 0x02
ICW4_AEOI, ICW4_SFNM = 0x02, 0x10
OCW2_R, OCW2_SL, OCW2_EOI = 0x80, 0x40, 0x20
OCW3 = 0x08
OCW3_ESMM, OCW3_SMM, OCW3_P, OCW3_RR, OCW3_RIS = 0x40, 0x20, 0x04, 0x02, 0x01
POLL_REQUEST = 0x80
"""Bit of the poll word: there is an interrupt."""

READY, WAIT_ICW2, WAIT_ICW3, WAIT_ICW4 = range(4)
"""What a write to the data port is."""


@dataclass
class PicState:
    """One 8259A."""

    levels: int = 0
    """Inputs as they stand."""
    edges: int = 0
    """Latched rising edges of edge-triggered inputs."""
    elcr: int = 0
    """1: level-triggered."""
    imr: int = 0
    isr: int = 0
    base: int = 0
    """ICW2: bits 7..3 of the vectors."""
    icw1: int = 0
    step: int = READY
    lowest: int = 7
    """The level of lowest priority."""
    read_isr: bool = False
    poll: bool = False
    special_mask: bool = False
    auto_eoi: bool = False
    rotate_on_auto_eoi: bool = False
    special_fully_nested: bool = False


class Pic:
    """One 8259A.  *slaves* is the mask of inputs that another 8259A drives."""

    def __init__(self, slaves: int = 0, elcr_writable: int = 0xFF) -> None:
        self.state = PicState()
        self.intr = Line()
        """INT: high while a request waits for acknowledgement."""
        self.inputs = tuple(Line(partial(self._input, level)) for level in range(8))
        """IR0..IR7."""
        self.on_change: Callable[[], None] = lambda: None
        """Called behind whatever may change the state."""
        self._slaves = slaves
        self._elcr_writable = elcr_writable

    def reset(self) -> None:
        self.state = PicState(levels=sum(line.level << n for n, line in enumerate(self.inputs)))
        self.intr.set(False)
        self.on_change()

    # Priority ------------------------------------------------------------------------------------
    @property
    def irr(self) -> int:
        """The interrupt request register."""
        state = self.state
        return state.edges | state.levels & state.elcr

    def _input(self, level: int, high: bool) -> None:
        state, bit = self.state, 1 << level
        if high:
            state.levels |= bit
            if not state.elcr & bit:
                state.edges |= bit
        else:
            state.levels &= ~bit
            state.edges &= ~bit
        self._update()

    def _update(self) -> None:
        self.intr.set(self.request() is not None)
        self.on_change()

    def request(self) -> int | None:
        """The level that INTA would find: the highest unmasked request above everything in service."""
        state = self.state
        requests = self.irr & ~state.imr
        if not requests:
            return None
        in_service = state.isr & ~state.imr if state.special_mask else state.isr
        nested = self._slaves if state.special_fully_nested else 0
        for n in range(1, 9):
            level = state.lowest + n & 7
            bit = 1 << level
            if in_service & bit:
                return level if requests & bit & nested else None
            if requests & bit:
                return level
        return None

    def acknowledge(self) -> int | None:
        """INTA: take the highest request into service and return its level; None if it has gone."""
        level = self.request()
        # INT falls at every INTA: the next request is another edge for a master.
        self.intr.set(False)
        if level is not None:
            state, bit = self.state, 1 << level
            state.edges &= ~bit
            if not state.auto_eoi:
                state.isr |= bit
            elif state.rotate_on_auto_eoi:
                state.lowest = level
            self._update()
        return level

    @property
    def quiet(self) -> bool:
        """Nothing requests an interrupt, and reads and writes are those of a chip at work."""
        state = self.state
        return not (state.poll or self.irr) and state.step == READY

    # Command words ----------------------------------------------------------------------------------
    def _icw1(self, value: int) -> None:
        old = self.state
        self.state = PicState(levels=old.levels, elcr=old.elcr, base=old.base, icw1=value, step=WAIT_ICW2)

    def _ocw2(self, value: int) -> None:
        state = self.state
        rotate, specific = bool(value & OCW2_R), bool(value & OCW2_SL)
        if value & OCW2_EOI:
            level = value & 7 if specific else self._highest_in_service()
            if level is not None:
                state.isr &= ~(1 << level)
                if rotate:
                    state.lowest = level
        elif not specific:
            state.rotate_on_auto_eoi = rotate
        elif rotate:
            state.lowest = value & 7

    def _highest_in_service(self) -> int | None:
        state = self.state
        # In special mask mode a non-specific EOI passes over levels that are masked.
        in_service = state.isr & ~state.imr if state.special_mask else state.isr
        order = (state.lowest + n & 7 for n in range(1, 9))
        return next((level for level in order if in_service >> level & 1), None)

    def _ocw3(self, value: int) -> None:
        state = self.state
        if value & OCW3_ESMM:
            state.special_mask = bool(value & OCW3_SMM)
        if value & OCW3_P:
            state.poll = True
        elif value & OCW3_RR:
            state.read_isr = bool(value & OCW3_RIS)

    def _data(self, value: int) -> None:
        state = self.state
        if state.step == WAIT_ICW2:
            state.base = value & 0xF8
            state.step = WAIT_ICW3
            if state.icw1 & ICW1_SNGL:
                self._last_icw()
        elif state.step == WAIT_ICW3:
            self._last_icw()
        elif state.step == WAIT_ICW4:
            state.auto_eoi = bool(value & ICW4_AEOI)
            state.special_fully_nested = bool(value & ICW4_SFNM)
            state.step = READY
        else:
            state.imr = value

    def _last_icw(self) -> None:
        self.state.step = WAIT_ICW4 if self.state.icw1 & ICW1_IC4 else READY

    # Ports ------------------------------------------------------------------------------------------
    def read(self, port: int, size: int) -> int:
        """A0 is bit 0 of *port*."""
        state = self.state
        if state.poll:
            state.poll = False
            level = self.acknowledge()
            self.on_change()
            return 0 if level is None else POLL_REQUEST | level
        if port & 1:
            return state.imr
        return state.isr if state.read_isr else self.irr

    def write(self, port: int, size: int, value: int) -> None:
        """A0 is bit 0 of *port*."""
        if port & 1:
            self._data(value)
        elif value & ICW1:
            self._icw1(value)
        elif value & OCW3:
            self._ocw3(value)
        else:
            self._ocw2(value)
        self._update()

    def read_elcr(self, port: int, size: int) -> int:
        return self.state.elcr

    def write_elcr(self, port: int, size: int, value: int) -> None:
        state = self.state
        state.elcr = value & self._elcr_writable
        state.edges &= ~state.elcr
        self._update()


@dataclass
class PicPairState:
    """Both chips."""

    master: PicState = field(default_factory=PicState)
    slave: PicState = field(default_factory=PicState)


class PicPair(Device):
    """Two 8259A in cascade: IRQ 0..7 are the master's inputs, IRQ 8..15 the slave's."""

    name = "pic"

    def __init__(self) -> None:
        self.master = Pic(1 << CASCADE, ELCR1_WRITABLE)
        self.slave = Pic(0, ELCR2_WRITABLE)
        self.slave.intr.connect(self.master.inputs[CASCADE].set)

    @property
    def intr(self) -> Line:
        """INTR of the CPU: high while a request waits for ``acknowledge``."""
        return self.master.intr

    @property
    def state(self) -> PicPairState:
        return PicPairState(self.master.state, self.slave.state)

    @state.setter
    def state(self, state: PicPairState) -> None:
        self.master.state = state.master
        self.slave.state = state.slave
        self.master.on_change()

    def line(self, irq: int) -> Line:
        """The input for *irq*, 0..15.  Raises ``ValueError`` for IRQ 2, which the cascade takes."""
        if irq == CASCADE or not 0 <= irq < 16:
            raise ValueError(f"there is no input for IRQ {irq}")
        return (self.master, self.slave)[irq >> 3].inputs[irq & 7]

    def acknowledge(self) -> int:
        """Both INTA cycles: the vector (0..255) for the CPU.

        If the request has gone, it is that of level 7 of the chip that was asked: IRQ 7 or IRQ 15 with
        nothing in service there.
        """
        chip = self.master
        level = chip.acknowledge()
        if level == CASCADE:
            chip = self.slave
            level = chip.acknowledge()
        return chip.state.base | (SPURIOUS if level is None else level)

    def ports(self) -> Sequence[Ports]:
        names = ("command", "data")
        return (
            Ports(MASTER, 2, self.master.read, self.master.write, names=names),
            Ports(SLAVE, 2, self.slave.read, self.slave.write, names=names),
            Ports(ELCR1, 1, self.master.read_elcr, self.master.write_elcr, names=("ELCR1",)),
            Ports(ELCR2, 1, self.slave.read_elcr, self.slave.write_elcr, names=("ELCR2",)),
        )

    def reset(self) -> None:
        self.slave.reset()
        self.master.reset()
