"""The 8254 against a model that does one clock pulse at a time, as the data sheet describes each mode."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.core import NEVER, SECOND, Clock, Line
from devices.pit import CONTROL, COUNTER0, PIT_HZ, Counter, Pit, from_bcd, ticks_at, time_of, to_bcd

MODES = range(6)


class PulseModel:
    """One counter, a clock pulse at a time.  ``ce`` is the counting element as it reads."""

    def __init__(self, mode: int, bcd: bool = False) -> None:
        self.mode = mode
        self.modulus = 10_000 if bcd else 65_536
        self.out = mode != 0
        self.ce = 0
        self.cr = 0
        self.odd = False
        self.gate = True
        self.running = self.pending = self.armed = self.strobe = False
        self.written = False

    def write(self, count: int) -> None:
        self.cr = count or self.modulus
        self.written = True
        if self.mode == 0:
            self.out = False
        if self.mode in (0, 4) or (self.mode in (2, 3) and not self.running):
            self.pending = True

    def set_gate(self, level: bool) -> None:
        trigger = level and not self.gate and self.written
        if trigger and (self.mode in (1, 5) or (self.mode in (2, 3) and self.running)):
            self.pending = True
        if not level and self.mode in (2, 3):
            self.out = True
        self.gate = level

    def _load(self) -> None:
        self.running = self.armed = True
        self.odd = self.mode == 3 and self.cr % 2 == 1
        self.ce = self.cr - self.odd
        if self.mode in (2, 3) and self.cr == 1:
            self.running = False
            self.out = True
            self.ce = 1

    def pulse(self) -> None:
        if self.strobe:
            self.strobe = False
            self.out = True
        if self.pending:
            self.pending = False
            self._load()
            if self.mode == 1:
                self.out = False
            return
        if not self.running or (not self.gate and self.mode not in (1, 5)):
            return
        if self.mode == 2:
            self.ce -= 1
            if self.ce == 1:
                self.out = False
            elif self.ce == 0:
                self.out = True
                self._load()
        elif self.mode == 3:
            if self.odd and self.out and self.ce == 0:
                self.out = False
                self._load()
                return
            self.ce -= 2
            if self.ce == 0 and not (self.odd and self.out):
                self.out = not self.out
                self._load()
        else:
            self.ce -= 1
            if self.ce == 0 and self.armed:
                self.armed = False
                self.out = self.mode in (0, 1)
                self.strobe = not self.out
            if self.ce < 0:
                self.ce = self.modulus - 1

    @property
    def count(self) -> int:
        return self.ce % self.modulus


def programmed(mode: int, bcd: bool = False) -> Counter:
    return Counter().programmed(0x30 | mode << 1 | bcd)


def write_count(counter: Counter, count: int) -> None:
    value = to_bcd(count % 10_000) if counter.bcd else count
    counter.write(value & 0xFF)
    counter.write(value >> 8 & 0xFF)


def readable(counter: Counter) -> int:
    return from_bcd(counter.count) if counter.bcd else counter.count


action = st.one_of(
    st.tuples(st.just("run"), st.integers(0, 25)),
    st.tuples(st.just("count"), st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 10, 11])),
    st.tuples(st.just("gate"), st.integers(0, 1)),
)


@pytest.mark.parametrize("bcd", [False, True])
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(actions=st.lists(action, max_size=25))
def test_closed_form_is_pulse_by_pulse(mode: int, bcd: bool, actions: list[tuple[str, int]]) -> None:
    counter, model = programmed(mode, bcd), PulseModel(mode, bcd)
    for kind, value in [*actions, ("run", 60)]:
        if kind == "count":
            write_count(counter, value)
            model.write(value)
        elif kind == "gate":
            counter.set_gate(bool(value))
            model.set_gate(bool(value))
        else:
            edge = counter.next_edge()
            changed_at, rose, before = None, False, model.out
            for n in range(1, value + 1):
                was = model.out
                model.pulse()
                rose = rose or (model.out and not was)
                if changed_at is None and model.out is not before:
                    changed_at = n
            assert changed_at == (edge if edge is not None and edge <= value else None)
            assert counter.run(value) == rose
        assert counter.out == model.out
        if model.running and (model.gate or mode not in (2, 3)):
            assert readable(counter) == model.count


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [0, 2, 3, 0xFFFF])
def test_long_jumps_are_many_pulses(mode: int, count: int) -> None:
    """Over more than one turn of the 16 bits, a jump equals its pulses."""
    jump, model = programmed(mode), PulseModel(mode)
    for counter in (jump, model):
        if isinstance(counter, PulseModel):
            counter.write(count)
        else:
            write_count(counter, count)
        counter.set_gate(False)
        counter.set_gate(True)
    for _ in range(150_001):
        model.pulse()
    jump.run(150_001)
    assert (jump.out, jump.count) == (model.out, model.count)


@pytest.mark.parametrize("mode", [2, 3])
def test_years_pass_in_no_time(mode: int) -> None:
    far, near = programmed(mode), programmed(mode)
    for counter in (far, near):
        write_count(counter, 7)
        counter.run(1)
    far.run(7 * 10**18 + 5)
    near.run(5)
    assert far == near


# What the data sheet's timing diagrams show: OUT after each pulse from the one that loads.
WAVES = [
    (0, 4, "....1111"),
    (1, 3, "...11111"),
    (2, 3, "11.11.11."),
    (2, 2, "1.1.1.1."),
    (2, 1, "11111111"),
    (3, 4, "11..11..11"),
    (3, 5, "111..111..111"),
    (3, 2, "1.1.1.1."),
    (3, 1, "11111111"),
    (4, 3, "111.11111"),
    (5, 3, "111.11111"),
]


@pytest.mark.parametrize(("mode", "count", "wave"), WAVES)
def test_wave(mode: int, count: int, wave: str) -> None:
    counter = programmed(mode)
    write_count(counter, count)
    counter.set_gate(False)
    counter.set_gate(True)
    shown = ""
    for _ in wave:
        counter.run(1)
        shown += "1" if counter.out else "."
    assert shown == wave


@pytest.mark.parametrize(("count", "values"), [(4, [4, 2, 4, 2, 4]), (5, [4, 2, 0, 4, 2, 4, 2, 0, 4, 2])])
def test_mode_3_counts_by_two(count: int, values: list[int]) -> None:
    counter = programmed(3)
    write_count(counter, count)
    seen = []
    for _ in values:
        counter.run(1)
        seen.append(counter.count)
    assert seen == values


# The chip on its ports ---------------------------------------------------------------------------------
class Bench:
    """A Pit with a record of the edges of its IRQ line."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.edges: list[tuple[int, bool]] = []
        self.irq = Line(lambda level: self.edges.append((self.clock.now, level)))
        self.pit = Pit(self.clock, self.irq)
        self.counters, self.control = self.pit.ports()

    def out(self, port: int, *values: int) -> None:
        for value in values:
            ports = self.control if port == CONTROL else self.counters
            assert ports.write
            ports.write(port, 1, value)

    def read(self, n: int) -> int:
        assert self.counters.read
        return self.counters.read(COUNTER0 + n, 1)

    def run_to(self, end: int) -> None:
        """As the run loop does: stop at every event."""
        while (due := self.pit.next_event()) <= end:
            assert due > self.clock.now
            self.clock.now = due
            self.pit.advance()
        self.clock.now = end


@pytest.mark.parametrize("tick", [0, 1, 2, 3, 1193181, 1193182, 1193183, 10**15 + 7])
def test_pulses_and_nanoseconds_agree(tick: int) -> None:
    assert ticks_at(time_of(tick)) == tick
    assert tick == 0 or ticks_at(time_of(tick) - 1) == tick - 1


def test_a_thousand_seconds_of_100_hz_do_not_drift() -> None:
    bench = Bench()
    bench.out(CONTROL, 0x34)
    bench.out(COUNTER0, 11932 & 0xFF, 11932 >> 8)
    start = ticks_at(0) + 1  # the count is loaded by the pulse after the write
    bench.run_to(1000 * SECOND)
    rises = [when for when, level in bench.edges if level][1:]  # the first is the control word's
    assert rises == [time_of(start + 11932 * n) for n in range(1, len(rises) + 1)]
    assert len(rises) == (PIT_HZ * 1000 - 1) // 11932


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 2, 3, 19])
def test_edges_by_events_are_edges_by_nanoseconds(mode: int, count: int) -> None:
    """The event-driven chip raises and lowers its line where one that is asked all the time does."""
    lazy, eager = Bench(), Bench()
    for bench in (lazy, eager):
        bench.out(CONTROL, 0x10 | mode << 1)
        bench.clock.now = 1234
        bench.out(COUNTER0, count)
    lazy.run_to(60_000)
    for eager.clock.now in range(1234, 60_001):
        eager.pit.advance()
    assert lazy.edges == eager.edges


def test_a_late_advance_still_gives_an_edge() -> None:
    bench = Bench()
    bench.out(CONTROL, 0x34)
    bench.out(COUNTER0, 100, 0)
    bench.edges.clear()
    bench.clock.now = SECOND
    bench.pit.advance()
    assert (SECOND, True) in bench.edges


@pytest.mark.parametrize(
    ("control", "written", "reads"),
    [
        (0x14, [7], [7]),  # low byte only
        (0x24, [7], [0x00, 0x07, 0x07]),  # high byte only: the first read follows
        (0x34, [0x34, 0x12], [0x34, 0x12, 0x34, 0x12]),
        (0x35, [0x34, 0x12], [0x34, 0x12]),  # BCD
    ],
)
def test_count_reads_back_as_written(control: int, written: list[int], reads: list[int]) -> None:
    bench = Bench()
    bench.out(CONTROL, control)
    bench.out(COUNTER0, *written)
    bench.clock.now = time_of(1)
    if control & 0x30 == 0x20:
        reads = reads[1:]
    assert [bench.read(0) for _ in reads] == reads


def test_latch_holds_until_read_and_ignores_another() -> None:
    bench = Bench()
    bench.out(CONTROL, 0x34)
    bench.out(COUNTER0, 0x00, 0x10)
    bench.clock.now = time_of(0x101)
    bench.out(CONTROL, 0x00)
    bench.clock.now = time_of(0x301)
    bench.out(CONTROL, 0x00)
    assert [bench.read(0), bench.read(0)] == [0x00, 0x0F]
    assert [bench.read(0), bench.read(0)] == [0x00, 0x0D]


def test_read_back_gives_status_then_count() -> None:
    bench = Bench()
    bench.out(CONTROL, 0x34, 0xE2)
    assert bench.read(0) == 0x80 | 0x40 | 0x34  # OUT high, nothing loaded yet
    bench.out(COUNTER0, 0x00, 0x10)
    bench.out(CONTROL, 0xE2)
    assert bench.read(0) == 0xF4
    bench.clock.now = time_of(2)
    bench.out(CONTROL, 0xC2)
    assert [bench.read(0) for _ in range(3)] == [0xB4, 0xFF, 0x0F]


def test_read_back_addresses_all_counters() -> None:
    bench = Bench()
    for n, mode in enumerate((0, 4, 5)):
        bench.out(CONTROL, n << 6 | 0x10 | mode << 1)
    bench.out(CONTROL, 0xEE)
    assert [bench.read(n) for n in range(3)] == [0x50, 0xD8, 0xDA]


def test_counter_2_has_a_gate_and_an_output() -> None:
    bench = Bench()
    bench.out(CONTROL, 0xB0)
    bench.out(COUNTER0 + 2, 10, 0)
    bench.clock.now = time_of(100)
    assert not bench.pit.output(2)
    bench.pit.gate2.set(True)
    bench.clock.now = time_of(109)
    assert not bench.pit.output(2)
    bench.clock.now = time_of(110)
    assert bench.pit.output(2)
    assert bench.pit.next_event() == NEVER


def test_mode_0_first_byte_stops_the_count() -> None:
    bench = Bench()
    bench.out(CONTROL, 0x30)
    bench.out(COUNTER0, 100, 0)
    bench.clock.now = time_of(11)
    bench.out(COUNTER0, 50)
    bench.clock.now = time_of(1000)
    bench.pit.advance()
    assert not bench.irq.level
    bench.out(COUNTER0, 0)
    assert bench.pit.next_event() == time_of(1051)


def test_reset_stops_everything() -> None:
    bench = Bench()
    bench.out(CONTROL, 0x34)
    bench.out(COUNTER0, 0, 0)
    assert bench.irq.level
    bench.pit.reset()
    assert not bench.irq.level
    assert bench.pit.next_event() == NEVER
    assert bench.pit.state == Pit(Clock(), Line()).state


@pytest.mark.parametrize("value", range(0, 10_000, 37))
def test_bcd_is_its_own_inverse(value: int) -> None:
    assert from_bcd(to_bcd(value)) == value
    assert f"{to_bcd(value):x}" == str(value)


@pytest.mark.parametrize("mode", [2, 3, 4, 5])
@pytest.mark.parametrize("count", [2, 3, 5, 1000])
def test_a_fall_that_nobody_waits_for_is_passed_over(mode: int, count: int) -> None:
    """With an answered request the next event is the next rise, and rises come when they came before."""
    rises, events = [], []
    for waits in (True, False):
        bench = Bench()
        bench.pit.waits = lambda waits=waits: waits  # type: ignore[misc]
        bench.out(CONTROL, 0x30 | mode << 1)
        bench.out(COUNTER0, count & 0xFF, count >> 8)
        events.append(0)
        while (due := bench.pit.next_event()) < NEVER and events[-1] < 12:
            bench.clock.now = due
            bench.pit.advance()
            events[-1] += 1
        rises.append([at for at, level in bench.edges if level and at])
    shortest = min(map(len, rises))
    assert rises[0][:shortest] == rises[1][:shortest]
    assert shortest or mode == 5
    if mode in (2, 3):
        assert len(rises[1]) >= 2 * len(rises[0]) - 1
