"""The MC146818A: the calendar against datetime, interrupts against a clock that is asked all the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from devices.bus import PortBus
from devices.core import NEVER, SECOND, Clock, Line
from devices.rtc import (
    B_24H,
    B_AIE,
    B_DM,
    B_PIE,
    B_SET,
    B_UIE,
    CENTURY,
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    HOURS,
    HOURS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    MONTH,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    SECONDS,
    SECONDS_ALARM,
    YEAR,
    Rtc,
)

MS = 1_000_000


class Bench:
    def __init__(self, base: datetime = datetime(2020, 1, 1, tzinfo=UTC), cmos: dict[int, int] | None = None) -> None:
        self.clock = Clock()
        self.edges: list[tuple[int, bool]] = []
        self.irq = Line(lambda level: self.edges.append((self.clock.now, level)))
        self.rtc = Rtc(self.clock, self.irq, base, cmos)
        self.bus = PortBus()
        self.bus.attach(self.rtc)

    def get(self, index: int) -> int:
        self.bus.write(0x70, 1, index)
        return self.bus.read(0x71, 1)

    def put(self, index: int, value: int) -> None:
        self.bus.write(0x70, 1, index)
        self.bus.write(0x71, 1, value)

    def run_to(self, end: int) -> None:
        while (due := self.rtc.next_event()) <= end:
            assert due > self.clock.now
            self.clock.now = due
            self.rtc.advance()
        self.clock.now = end

    def shown(self) -> tuple[int, ...]:
        """Century, year, month, day, weekday, hour, minute, second as they read."""
        return tuple(self.get(n) for n in (CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS))


def as_registers(when: datetime, control: int) -> tuple[int, ...]:
    """What the clock shows at *when* in the format of *control*, by another way: text."""
    hour = int(when.strftime("%H" if control & B_24H else "%I"))
    numbers = (when.year // 100, when.year % 100, when.month, when.day, when.isoweekday() % 7 + 1, hour,
               when.minute, when.second)  # fmt: skip
    shown = [n if control & B_DM else int(str(n), 16) for n in numbers]
    if not control & B_24H and when.hour >= 12:
        shown[5] |= 0x80
    return tuple(shown)


@pytest.mark.parametrize("control", [B_24H, B_24H | B_DM, 0, B_DM])
@pytest.mark.parametrize(
    ("base", "seconds"),
    [
        ("2020-01-01 00:00:00", 0),
        ("2020-01-01 00:00:00", 59),
        ("2020-02-28 23:59:59", 1),
        ("2021-02-28 23:59:59", 1),
        ("2000-02-28 23:59:58", 3),
        ("1999-12-31 23:59:59", 1),
        ("2099-12-31 23:59:59", 1),
        ("2100-02-28 12:00:00", 86400),
        ("1980-01-31 11:59:59", 1),
        ("2020-06-15 12:59:59", 1),
        ("2020-06-15 13:00:00", 40 * 366 * 86400),
    ],
)
def test_calendar(base: str, seconds: int, control: int) -> None:
    start = datetime.fromisoformat(base).replace(tzinfo=UTC)
    bench = Bench(start)
    if control != B_24H:
        bench.put(REG_B, B_SET | control)
        registers = (CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS)
        for index, value in zip(registers, as_registers(start, control), strict=True):
            bench.put(index, value)
        bench.put(REG_B, control)
    assert bench.shown() == as_registers(start, control)
    bench.clock.now = seconds * SECOND
    assert bench.shown() == as_registers(start + timedelta(seconds=seconds), control)


@pytest.mark.parametrize("step", [SECOND - 1, SECOND, 7 * SECOND + 3, 86399 * SECOND])
def test_one_jump_is_many_steps(step: int) -> None:
    jump, steps = Bench(datetime(2023, 12, 30, 5, 6, 7, tzinfo=UTC)), Bench(datetime(2023, 12, 30, 5, 6, 7, tzinfo=UTC))
    for _ in range(100):
        steps.clock.now += step
        steps.get(SECONDS)
    jump.clock.now = steps.clock.now
    assert jump.shown() == steps.shown()


@pytest.mark.parametrize("garbage", [0x00, 0xFF, 0x7F, 0x9A])
@pytest.mark.parametrize("control", [B_24H, B_24H | B_DM, 0, B_DM])
def test_impossible_registers_are_counted_back_into_range(garbage: int, control: int) -> None:
    bench = Bench()
    bench.put(REG_B, control)
    for index in (*range(10), CENTURY):
        bench.put(index, garbage)
    bench.clock.now = 3 * 86400 * SECOND
    _, _, month, day, weekday, *_ = bench.shown()
    assert 1 <= month <= 0x12
    assert 1 <= day <= 0x31
    assert 1 <= weekday <= 7


def test_registers_at_power_on() -> None:
    bench = Bench(cmos={0x0F: 0x42, 0x7F: 0x99})
    assert [bench.get(n) for n in (REG_A, REG_B, REG_C, REG_D)] == [0x26, 0x02, 0x00, 0x80]
    assert [bench.get(n) for n in (0x0F, 0x7F, 0xFF)] == [0x42, 0x99, 0x99]
    assert bench.bus.read(0x70, 1) == 0xFF


def test_c_and_d_are_read_only_and_the_rest_is_ram() -> None:
    bench = Bench()
    ram = [n for n in range(14, 128) if n != 0x37]
    for index in ram:
        bench.put(index, index ^ 0x55)
    bench.put(REG_C, 0xFF)
    bench.put(REG_D, 0x12)
    assert [bench.get(n) for n in ram] == [n ^ 0x55 for n in ram]
    assert [bench.get(REG_C), bench.get(REG_D)] == [0, 0x80]


@pytest.mark.parametrize(
    ("when", "uip"),
    [(0, 0), (SECOND - 2_228_001, 0), (SECOND - 2_228_000, 0x80), (SECOND - 1, 0x80), (SECOND, 0)],
)
def test_update_in_progress(when: int, uip: int) -> None:
    bench = Bench()
    bench.clock.now = when
    assert bench.get(REG_A) == 0x26 | uip
    bench.put(REG_B, B_SET | B_24H)
    assert bench.get(REG_A) == 0x26


def test_set_stops_updates_and_clears_uie() -> None:
    bench = Bench()
    bench.put(REG_B, B_SET | B_UIE | B_24H)
    assert bench.get(REG_B) == B_SET | B_24H
    bench.clock.now = 5 * SECOND + 1
    assert bench.get(SECONDS) == 0
    bench.put(REG_B, B_24H)
    assert bench.get(SECONDS) == 0
    bench.clock.now = 6 * SECOND
    assert bench.get(SECONDS) == 1


def test_the_divider_starts_half_a_second_early() -> None:
    bench = Bench()
    bench.clock.now = 5 * SECOND + SECOND // 4
    bench.put(REG_A, 0x76)
    bench.clock.now = 10 * SECOND
    assert bench.get(SECONDS) == 5
    bench.put(REG_A, 0x26)
    bench.clock.now += SECOND // 2 - 1
    assert bench.get(SECONDS) == 5
    bench.clock.now += 1
    assert bench.get(SECONDS) == 6


@pytest.mark.parametrize(
    ("select", "hertz"),
    [(1, 256), (2, 128), (3, 8192), (4, 4096), (6, 1024), (10, 64), (15, 2)],
)
def test_periodic_rate(select: int, hertz: int) -> None:
    bench = Bench()
    bench.put(REG_A, 0x20 | select)
    bench.put(REG_B, B_PIE | B_24H)
    times = []
    for _ in range(20):
        bench.clock.now = bench.rtc.next_event()
        bench.rtc.advance()
        assert bench.irq.level
        assert bench.rtc.next_event() == NEVER
        times.append(bench.clock.now)
        assert bench.get(REG_C) & 0xC0 == 0xC0
        assert not bench.irq.level
    assert times == [-(-n * SECOND // hertz) for n in range(1, 21)]


def test_no_rate_no_periods() -> None:
    bench = Bench()
    bench.put(REG_A, 0x20)
    bench.put(REG_B, B_PIE | B_24H)
    assert bench.rtc.next_event() == NEVER
    bench.clock.now = SECOND // 2
    assert bench.get(REG_C) == 0


def test_flags_stand_without_being_enabled() -> None:
    bench = Bench()
    bench.clock.now = SECOND
    assert bench.get(REG_C) == 0x50
    assert bench.edges == []
    assert bench.rtc.next_event() == NEVER


def test_enabling_a_flag_that_stands_interrupts_at_once() -> None:
    bench = Bench()
    bench.clock.now = SECOND
    bench.put(REG_B, B_UIE | B_24H)
    assert bench.irq.level
    bench.put(REG_B, B_24H)
    assert not bench.irq.level


def test_update_ended() -> None:
    bench = Bench()
    bench.clock.now = 123
    bench.put(REG_B, B_UIE | B_24H)
    for n in (1, 2, 3):
        assert bench.rtc.next_event() == n * SECOND
        bench.run_to(n * SECOND)
        assert bench.get(REG_C) & 0x90 == 0x90


ANY = 0xFF


@pytest.mark.parametrize(
    ("alarm", "base", "after"),
    [
        ((0x07, 0x30, 0x15), "07:30:14", [1]),
        ((0x07, 0x30, 0x15), "07:30:15", [86400]),
        ((ANY, ANY, 0x05), "23:59:58", [7, 67, 127]),
        ((ANY, 0x00, 0x00), "22:59:59", [1, 3601, 7201]),
        ((ANY, ANY, ANY), "12:00:00", [1, 2, 3]),
        ((0xC0, 0xC5, 0x59), "12:00:00", [59, 119]),
        ((0x00, 0x00, 0x00), "23:00:00", [3600, 90000]),
    ],
)
@pytest.mark.parametrize("waited", [False, True])
def test_alarm(alarm: tuple[int, int, int], base: str, after: list[int], waited: bool) -> None:
    """By interrupt, and by a flag that nobody waits for."""
    bench = Bench(datetime.fromisoformat(f"2020-05-05T{base}+00:00"))
    for index, value in zip((HOURS_ALARM, MINUTES_ALARM, SECONDS_ALARM), alarm, strict=True):
        bench.put(index, value)
    if waited:
        bench.put(REG_B, B_AIE | B_24H)
    for seconds in after:
        before = seconds * SECOND - 1
        if waited:
            bench.run_to(before)
            assert not bench.irq.level
            bench.run_to(before + 1)
            assert bench.irq.level
            assert bench.get(REG_C) & 0xA0 == 0xA0
        else:
            bench.clock.now = before
            assert not bench.get(REG_C) & 0x20
            bench.clock.now += 1
            assert bench.get(REG_C) & 0xA0 == 0x20


def test_alarm_in_twelve_hours() -> None:
    bench = Bench(datetime(2020, 1, 1, 10, 59, 59, tzinfo=UTC))
    bench.put(REG_B, 0)
    bench.put(HOURS_ALARM, 0x81)
    bench.clock.now = 2 * 3600 * SECOND
    assert not bench.get(REG_C) & 0x20
    bench.clock.now = (2 * 3600 + 1) * SECOND
    assert bench.get(REG_C) & 0x20


@pytest.mark.parametrize("enabled", [B_PIE, B_AIE, B_UIE, B_PIE | B_AIE | B_UIE])
def test_edges_by_events_are_edges_by_polling(enabled: int) -> None:
    """The interrupt comes when a chip that is asked every 1/8 ms has it, at most that much earlier."""
    step = MS // 8
    lazy, eager = Bench(), Bench()
    for bench in (lazy, eager):
        bench.put(REG_A, 0x2C)
        bench.put(SECONDS_ALARM, 0x02)
        bench.put(MINUTES_ALARM, ANY)
        bench.put(HOURS_ALARM, ANY)
        bench.put(REG_B, enabled | B_24H)
    for end in range(0, 3 * SECOND, 300 * MS):
        lazy.run_to(end)
        for now in range(eager.clock.now, end + 1, step):
            eager.clock.now = now
            eager.rtc.advance()
        eager.clock.now = end
        eager.rtc.advance()
        assert lazy.get(REG_C) == eager.get(REG_C)
    assert len(lazy.edges) == len(eager.edges) > 1
    for (exact, level), (polled, polled_level) in zip(lazy.edges, eager.edges, strict=True):
        assert level == polled_level
        assert 0 <= polled - exact < step


def test_reset_keeps_time_and_ram_and_stops_interrupts() -> None:
    bench = Bench()
    bench.put(0x0F, 5)
    bench.put(REG_B, B_PIE | B_AIE | B_UIE | B_24H)
    bench.run_to(3 * SECOND)
    assert bench.irq.level
    bench.rtc.reset()
    assert not bench.irq.level
    assert [bench.get(n) for n in (REG_B, REG_C, 0x0F, SECONDS)] == [B_24H, 0, 5, 3]


def test_the_century_has_two_addresses() -> None:
    bench = Bench()
    assert bench.get(0x37) == 0x20
    bench.put(0x37, 0x19)
    assert bench.get(0x32) == 0x19


def test_nmi_mask_is_kept() -> None:
    bench = Bench()
    bench.bus.write(0x70, 1, 0x8F)
    assert bench.rtc.state.nmi_masked
    bench.bus.write(0x70, 1, 0x0F)
    assert not bench.rtc.state.nmi_masked
