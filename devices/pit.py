"""The Intel 8254 programmable interval timer of the PC/AT, clocked at 1.193182 MHz.

Source: Intel 8254 data sheet (order 231164); names are its names.  Clock pulse number *n* comes at the
first nanosecond at which ``now * PIT_HZ // SECOND`` is *n*, so nothing drifts.  A counter is brought
up to date when somebody looks at it; what happens in between is computed in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

from devices.core import NEVER, SECOND, Clock, Device, Line, Ports

PIT_HZ = 1_193_182

COUNTER0, CONTROL = 0x40, 0x43
"""Ports: counters 0, 1, 2 and the control word register."""

SC_READ_BACK = 3
RW_LATCH, RW_LSB, RW_MSB, RW_BOTH = range(4)
READ_BACK_NO_COUNT, READ_BACK_NO_STATUS = 0x20, 0x10

MODES = (0, 1, 2, 3, 4, 5, 2, 3)
"""By the control word's M2 M1 M0: M2 does not matter to modes 2 and 3."""
TRIGGERED = (1, 5)
"""Modes in which a rising gate starts the count and its level does not matter."""
PERIODIC = (2, 3)

WEIGHTS = (1, 10, 100, 1000)
"""Of the digits of a BCD count."""


def ticks_at(now: int) -> int:
    """How many clock pulses the chip has had at *now* (ns)."""
    return now * PIT_HZ // SECOND


def time_of(tick: int) -> int:
    """The nanosecond at which clock pulse *tick* comes."""
    return -(-tick * SECOND // PIT_HZ)


def from_bcd(value: int) -> int:
    """Four decimal digits, 0..9999; digits above 9 carry, modulo 10,000."""
    return sum((value >> 4 * n & 15) * WEIGHTS[n] for n in range(4)) % 10_000


def to_bcd(value: int) -> int:
    """0..9999 as four decimal digits."""
    return sum(value // WEIGHTS[n] % 10 << 4 * n for n in range(4))


@dataclass
class Counter:
    """One counter at clock pulse ``tick``.  Time is in clock pulses."""

    mode: int = 0
    bcd: bool = False
    rw: int = RW_BOTH
    cr: int = 0
    """The count register as written (16 bits)."""
    gate: bool = True
    out: bool = False
    loaded: int = 0
    """The count that the counting element was last loaded with, 1..65536."""
    left: int = 0
    """Pulses to the terminal count; in modes 2 and 3, to the next change of OUT."""
    counting: bool = False
    """The counting element was loaded; it goes on after the terminal count."""
    armed: bool = False
    """The terminal count is still to come."""
    written: bool = False
    """A count was written since the control word."""
    load: bool = False
    """The next pulse loads the counting element."""
    held: bool = False
    """Mode 0: counting stops between the two bytes of a count."""
    strobe: bool = False
    """Modes 4 and 5: OUT is low until the next pulse."""
    null_count: bool = True
    low_byte: int | None = None
    """The first byte of a two-byte count."""
    high_next: bool = False
    """The second byte of a two-byte read is due."""
    count_latch: list[int] = field(default_factory=list)
    """Latched bytes that are still to be read."""
    status_latch: int | None = None
    tick: int = 0

    @property
    def initial(self) -> int:
        """The count in CR, 1..65536; zero is the largest."""
        return from_bcd(self.cr) or 10_000 if self.bcd else self.cr or 0x1_0000

    @property
    def count(self) -> int:
        """The counting element as it reads (16 bits)."""
        value = self.left
        if self.counting and self.mode == 2:
            value = value + 1 if self.out else 1
        elif self.counting and self.mode == 3:
            # It counts by two; of an odd count, the high half begins with an even one and has a pulse at zero.
            value = 2 * (value - (self.loaded & 1 if self.out else 0))
        return to_bcd(value % 10_000) if self.bcd else value & 0xFFFF

    @property
    def plain(self) -> bool:
        """Until OUT changes next, reads give the count, low byte and high byte in turn, one less with each pulse."""
        if self.bcd or self.rw != RW_BOTH or self.count_latch or self.status_latch is not None:
            return False
        steady = self._enabled and self.armed and not (self.load or self.strobe)
        return steady and (self.mode != 3 if self.mode != 2 else self.out)

    @property
    def status(self) -> int:
        """The status byte of the read-back command."""
        return self.out << 7 | self.null_count << 6 | self.rw << 4 | self.mode << 1 | self.bcd

    # Time -------------------------------------------------------------------------------------------
    @property
    def _enabled(self) -> bool:
        return self.counting and not self.held and (self.gate or self.mode in TRIGGERED)

    def run(self, pulses: int) -> bool:
        """Let *pulses* clock pulses pass.  True if OUT rose at one of them."""
        rose = False
        while pulses:
            if self.strobe:
                self.strobe = False
                self.out = rose = True
            if self.load:
                self._load()
                pulses -= 1
            elif not self._enabled:
                break
            elif not self.armed or pulses < self.left:
                self.left -= pulses
                if not self.armed:
                    self.left %= 10_000 if self.bcd else 0x1_0000
                break
            else:
                pulses -= self.left
                if self._terminal_count():
                    rose = True
                    if self.mode in PERIODIC:
                        # A period begins, and all that follow are like it.
                        pulses %= self.loaded
        return rose

    def _load(self) -> None:
        self.load = self.null_count = False
        self.counting = self.armed = True
        self.left = self.loaded = self.initial
        if self.mode == 1:
            self.out = False
        elif self.mode == 2:
            self.left -= 1
        elif self.mode == 3:
            self.left = (self.loaded + 1 if self.out else self.loaded) // 2
        if self.mode in PERIODIC and self.loaded == 1:
            # The data sheet forbids this count; OUT stays high.
            self.out = True
            self.counting = False

    def _terminal_count(self) -> bool:
        """``left`` pulses have passed.  True if OUT rises."""
        before = self.out
        if self.mode == 2 and self.out:
            self.out = False
            self.left = 1
        elif self.mode in PERIODIC:
            self.out = not self.out
            self._load()
        else:
            self.left = 0
            self.armed = False
            self.strobe = self.mode > 3
            self.out = not self.strobe
        return self.out and not before

    def next_edge(self) -> int | None:
        """Pulses until OUT changes; None if it does not before somebody writes or the gate changes."""
        if self.strobe:
            return 1
        if self.load and self.mode in (0, 4):
            return self.initial + 1 if self.gate and not self.held else None
        if self.load:
            ahead = copy(self)
            ahead.run(1)
            edge = ahead.next_edge()
            return 1 if ahead.out is not self.out else None if edge is None else edge + 1
        return self.left if self._enabled and self.armed else None

    def next_rise(self) -> int | None:
        """Pulses until OUT changes, but that a fall that a rise is sure to follow is passed over."""
        edge = self.next_edge()
        if edge is None or not self.out:
            return edge
        if self.mode in (2, 4, 5):
            return edge + 1
        return edge + self.initial // 2 if self.mode == 3 and not self.load and self.initial > 1 else edge

    # Pins and bytes ---------------------------------------------------------------------------------
    def set_gate(self, level: bool) -> None:
        """Drive GATE."""
        if level and not self.gate:
            if self.mode in TRIGGERED:
                self.load = self.written
            elif self.mode in PERIODIC:
                self.load = self.load or self.counting
        elif not level and self.mode in PERIODIC:
            if self.counting and not self.out:
                # OUT rises at once; the element keeps what it reads as, until a trigger loads it again.
                self.left += self.loaded & 1 if self.mode == 3 else -1
            self.out = True
        self.gate = level

    def programmed(self, value: int) -> Counter:
        """The counter after control word *value*: everything starts anew but for the gate and the element's value."""
        mode = MODES[value >> 1 & 7]
        left = from_bcd(self.count) if self.bcd else self.count
        return Counter(mode, bool(value & 1), value >> 4 & 3, gate=self.gate, out=mode != 0, left=left, tick=self.tick)

    def write(self, value: int) -> None:
        """A byte of a count."""
        if self.rw == RW_BOTH and self.low_byte is None:
            self.low_byte = value
            if self.mode == 0:
                self.held = True
                self.out = False
            return
        self.cr = {RW_LSB: value, RW_MSB: value << 8}.get(self.rw, value << 8 | (self.low_byte or 0))
        self.low_byte = None
        self.held = False
        self.written = self.null_count = True
        if self.mode == 0:
            self.out = False
        if self.mode in (0, 4) or (self.mode in PERIODIC and not self.counting):
            self.load = True

    def read(self) -> int:
        """A byte: latched status, latched count, or the count as it stands."""
        if self.status_latch is not None:
            value, self.status_latch = self.status_latch, None
            return value
        if self.count_latch:
            return self.count_latch.pop(0)
        high = self.rw == RW_MSB or (self.rw == RW_BOTH and self.high_next)
        self.high_next = self.rw == RW_BOTH and not high
        return self.count >> 8 if high else self.count & 0xFF

    def latch_count(self) -> None:
        """Counter latch: held until it is read."""
        if not self.count_latch:
            low, high = self.count & 0xFF, self.count >> 8
            self.count_latch = {RW_LSB: [low], RW_MSB: [high]}.get(self.rw, [low, high])

    def latch_status(self) -> None:
        """Status latch: held until it is read."""
        if self.status_latch is None:
            self.status_latch = self.status


@dataclass
class PitState:
    """Three counters, each as it was when somebody last looked at it."""

    counters: list[Counter] = field(default_factory=lambda: [Counter(), Counter(), Counter(gate=False)])


class Pit(Device):
    """The 8254.  *irq* follows OUT of counter 0; the gates of counters 0 and 1 are tied high.

    The chip has no RESET pin; at power-on the counters stand still in mode 0 with OUT low.
    """

    name = "pit"
    state: PitState

    def __init__(self, clock: Clock, irq: Line) -> None:
        self.state = PitState()
        self._clock = clock
        self._irq = irq
        self.waits: Callable[[], bool] = lambda: True
        """Whether the last rise of *irq* has not been answered yet, so that a fall matters."""
        self.gate2 = Line(self._set_gate2)
        """GATE of counter 2."""

    def reset(self) -> None:
        self.state = PitState()
        self.state.counters[2].gate = self.gate2.level
        self._irq.set(False)

    def output(self, n: int) -> bool:
        """OUT of counter *n* now."""
        return self._counter(n).out

    def _set_gate2(self, level: bool) -> None:
        self._counter(2).set_gate(level)

    # Ports ------------------------------------------------------------------------------------------
    def ports(self) -> Sequence[Ports]:
        return (
            Ports(COUNTER0, 3, self._read, self._write, names=("counter 0", "counter 1", "counter 2")),
            Ports(CONTROL, 1, None, self._write_control, names=("control",)),
        )

    def _read(self, port: int, size: int) -> int:
        return self._counter(port - COUNTER0).read()

    def _write(self, port: int, size: int, value: int) -> None:
        self._counter(port - COUNTER0).write(value)
        self._drive()

    def _write_control(self, port: int, size: int, value: int) -> None:
        select = value >> 6
        if select == SC_READ_BACK:
            for n in range(3):
                if value >> 1 + n & 1:
                    counter = self._counter(n)
                    if not value & READ_BACK_NO_COUNT:
                        counter.latch_count()
                    if not value & READ_BACK_NO_STATUS:
                        counter.latch_status()
        elif value >> 4 & 3 == RW_LATCH:
            self._counter(select).latch_count()
        else:
            self.state.counters[select] = self._counter(select).programmed(value)
            self._drive()

    # Time -------------------------------------------------------------------------------------------
    def _counter(self, n: int) -> Counter:
        """Counter *n*, brought up to now."""
        counter = self.state.counters[n]
        tick = ticks_at(self._clock.now)
        pulses, counter.tick = tick - counter.tick, tick
        rose = counter.run(pulses)
        if n == 0:
            if rose:
                self._irq.set(False)
                self._irq.set(True)
            self._drive()
        return counter

    def _drive(self) -> None:
        self._irq.set(self.state.counters[0].out)

    def next_event(self) -> int:
        counter = self.state.counters[0]
        edge = counter.next_edge() if self.waits() else counter.next_rise()
        return NEVER if edge is None else time_of(counter.tick + edge)

    def advance(self) -> None:
        self._counter(0)  # nothing happens outside when the others' outputs change
