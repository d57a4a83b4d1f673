"""The Motorola MC146818A real-time clock with 128 bytes of CMOS RAM, on a 32.768 kHz crystal.

Sources: Motorola MC146818A data sheet (register names are its names); PIIX3 data sheet, 2.5.4, for ports
70h and 71h.  The calendar is counted in the registers themselves, as in the chip; a century byte at 32h
is counted along, as PC chip sets do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import product

from devices.core import NEVER, SECOND, Clock, Device, Line, Ports

ADDRESS, DATA = 0x70, 0x71
ADDRESS_MASK, NMI_MASK = 0x7F, 0x80
CMOS_SIZE = 128

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM = range(6)
DAY_OF_WEEK, DAY_OF_MONTH, MONTH, YEAR, REG_A, REG_B, REG_C, REG_D = range(6, 14)
CENTURY = 0x32
PS2_CENTURY = 0x37
"""The PS/2's place for the century, decoded as 32h."""

A_UIP, A_DV, A_DV_RUN, A_RS = 0x80, 0x70, 0x20, 0x0F
B_SET, B_PIE, B_AIE, B_UIE, B_SQWE, B_DM, B_24H = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02
C_IRQF, C_PF, C_AF, C_UF = 0x80, 0x40, 0x20, 0x10
D_VRT = 0x80
HOUR_PM = 0x80
ALARM_ANY = 0xC0
"""An alarm byte with both these bits set matches everything."""

CRYSTAL_HZ = 32_768
UPDATE_IN_PROGRESS = 244_000 + 1_984_000
"""UIP rises t_BUC = 244 us before an update cycle of t_UC = 1984 us; the registers change at its end."""
DIVIDER_RELEASE = SECOND // 2
"""The first update comes half a second after the divider chain is released."""
DAY = 86_400
GREGORIAN_CYCLE = 400

DEFAULT_BASE = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class RtcState:
    """The clock's registers, battery-backed, and the counters behind them."""

    address: int = 0
    nmi_masked: bool = False
    """Bit 7 of port 70h."""
    cmos: bytearray = field(default_factory=lambda: bytearray(CMOS_SIZE))
    """As read, but for UIP and IRQF, which are computed."""
    divider_start: int | None = 0
    """When the divider chain was at zero (ns); None while it is held in reset."""
    seconds: int = 0
    """Updates that were due since then."""
    periods: int = 0
    """Ticks of the periodic rate since then."""


class Rtc(Device):
    """The MC146818A.  *irq* is its inverted IRQ pin: high while IRQF is set.

    *base* is the time in the clock (naive or any zone: as written) when it is constructed; *cmos* presets
    bytes by index, after the clock's own.
    """

    name = "rtc"
    state: RtcState

    def __init__(
        self, clock: Clock, irq: Line, base: datetime = DEFAULT_BASE, cmos: Mapping[int, int] | None = None
    ) -> None:
        self._clock = clock
        self._irq = irq
        self.state = RtcState(divider_start=clock.now)
        memory = self.state.cmos
        memory[REG_A], memory[REG_B], memory[REG_D] = A_DV_RUN | 6, B_24H, D_VRT
        self._set_time(base.hour, base.minute, base.second)
        self._set_date(base.year, base.month, base.day)
        memory[DAY_OF_WEEK] = base.isoweekday() % 7 + 1
        for index, value in (cmos or {}).items():
            memory[index] = value

    def reset(self) -> None:
        """The RESET pin: interrupts off.  Clock, calendar and RAM are on the battery and stay."""
        self._run()
        memory = self.state.cmos
        memory[REG_B] &= ~(B_PIE | B_AIE | B_UIE | B_SQWE) & 0xFF
        memory[REG_C] = 0
        self.state.address = 0
        self.state.nmi_masked = False
        self._drive()

    # Ports ------------------------------------------------------------------------------------------
    def ports(self) -> Sequence[Ports]:
        return (
            Ports(ADDRESS, 1, None, self._write_address, names=("address",)),
            Ports(DATA, 1, self._read, self._write, names=("data",)),
        )

    def _write_address(self, port: int, size: int, value: int) -> None:
        address = value & ADDRESS_MASK
        self.state.address = CENTURY if address == PS2_CENTURY else address
        self.state.nmi_masked = bool(value & NMI_MASK)

    def _read(self, port: int, size: int) -> int:
        self._run()
        memory, address = self.state.cmos, self.state.address
        value = memory[address]
        if address == REG_A and self._update_in_progress():
            value |= A_UIP
        elif address == REG_C:
            value |= C_IRQF if self._irqf() else 0
            memory[REG_C] = 0
            self._drive()
        return value

    def _write(self, port: int, size: int, value: int) -> None:
        self._run()
        memory, address = self.state.cmos, self.state.address
        if address == REG_A:
            self._write_a(value)
        elif address == REG_B:
            memory[REG_B] = value & ~B_UIE if value & B_SET else value
            self._drive()
        elif address not in (REG_C, REG_D):
            memory[address] = value

    def _write_a(self, value: int) -> None:
        state = self.state
        state.cmos[REG_A] = value & ~A_UIP
        if value & A_DV != A_DV_RUN:
            state.divider_start = None
        elif state.divider_start is None:
            state.divider_start = self._clock.now - DIVIDER_RELEASE
            state.seconds = 0
        state.periods = self._periods_now()

    # Interrupts -------------------------------------------------------------------------------------
    def _irqf(self) -> bool:
        # PF AF UF stand in register C where PIE AIE UIE stand in register B.
        memory = self.state.cmos
        return bool(memory[REG_C] & memory[REG_B] & (C_PF | C_AF | C_UF))

    def _drive(self) -> None:
        self._irq.set(self._irqf())

    # Time -------------------------------------------------------------------------------------------
    def _update_in_progress(self) -> bool:
        state = self.state
        if state.divider_start is None or state.cmos[REG_B] & B_SET:
            return False
        return (self._clock.now - state.divider_start) % SECOND >= SECOND - UPDATE_IN_PROGRESS

    @property
    def _period(self) -> int:
        """The periodic interrupt's period in pulses of the crystal; 0 if there is none."""
        select = self.state.cmos[REG_A] & A_RS
        # The first two selections repeat 256 and 128 Hz.
        return 1 << (select + 7 if select < 3 else select) - 1 if select else 0

    def _periods_now(self) -> int:
        state, period = self.state, self._period
        if state.divider_start is None or not period:
            return 0
        return (self._clock.now - state.divider_start) * CRYSTAL_HZ // (SECOND * period)

    def _run(self) -> None:
        state = self.state
        if state.divider_start is None:
            return
        seconds = (self._clock.now - state.divider_start) // SECOND
        passed, state.seconds = seconds - state.seconds, seconds
        if passed and not state.cmos[REG_B] & B_SET:
            self._update(passed)
        periods = self._periods_now()
        if periods > state.periods:
            state.periods = periods
            state.cmos[REG_C] |= C_PF
        self._drive()

    def next_event(self) -> int:
        state = self.state
        start, enabled, flags = state.divider_start, state.cmos[REG_B], state.cmos[REG_C]
        if start is None:
            return NEVER
        # A flag that is set already changes nothing until it is read.
        waited_for = enabled & ~flags
        due = NEVER
        if waited_for & (B_AIE | B_UIE) and not enabled & B_SET:
            due = start + (state.seconds + 1) * SECOND
        if waited_for & B_PIE and self._period:
            pulses = (state.periods + 1) * self._period
            due = min(due, start - -pulses * SECOND // CRYSTAL_HZ)
        return due

    def advance(self) -> None:
        self._run()

    # The calendar -----------------------------------------------------------------------------------
    def _encode(self, value: int) -> int:
        return value if self.state.cmos[REG_B] & B_DM else value // 10 << 4 | value % 10

    def _decode(self, byte: int) -> int:
        return byte if self.state.cmos[REG_B] & B_DM else (byte >> 4) * 10 + (byte & 15)

    def _encode_hour(self, hour: int) -> int:
        if self.state.cmos[REG_B] & B_24H:
            return self._encode(hour)
        return self._encode((hour + 11) % 12 + 1) | (HOUR_PM if hour >= 12 else 0)

    def _decode_hour(self, byte: int) -> int:
        if self.state.cmos[REG_B] & B_24H:
            return min(self._decode(byte), 23)
        return self._decode(byte & ~HOUR_PM) % 12 + (12 if byte & HOUR_PM else 0)

    def _set_time(self, hour: int, minute: int, second: int) -> None:
        memory = self.state.cmos
        memory[HOURS], memory[MINUTES], memory[SECONDS] = (
            self._encode_hour(hour),
            self._encode(minute),
            self._encode(second),
        )

    def _set_date(self, year: int, month: int, day: int) -> None:
        memory = self.state.cmos
        memory[DAY_OF_MONTH], memory[MONTH] = self._encode(day), self._encode(month)
        memory[YEAR], memory[CENTURY] = self._encode(year % 100), self._encode(year // 100 % 100)

    def _update(self, seconds: int) -> None:
        """Update cycles for *seconds*.  Registers with impossible values are brought into range."""
        memory = self.state.cmos
        hour, minute, second = (
            self._decode_hour(memory[HOURS]),
            min(self._decode(memory[MINUTES]), 59),
            min(self._decode(memory[SECONDS]), 59),
        )
        before = hour * 3600 + minute * 60 + second
        days, after = divmod(before + seconds, DAY)
        self._set_time(after // 3600, after // 60 % 60, after % 60)
        if days:
            self._add_days(days)
        memory[REG_C] |= C_UF
        if self._alarm_between(before, seconds):
            memory[REG_C] |= C_AF

    def _add_days(self, days: int) -> None:
        memory = self.state.cmos
        year = min(self._decode(memory[CENTURY]), 99) * 100 + min(self._decode(memory[YEAR]), 99)
        month = min(max(self._decode(memory[MONTH]), 1), 12)
        day = max(self._decode(memory[DAY_OF_MONTH]), 1)
        # Any year has the calendar of the one 400 years on; this one keeps within what date can hold.
        cycle = 2000 + year % GREGORIAN_CYCLE
        first = date(cycle, month, 1)
        length = (first + timedelta(31)).replace(day=1) - first
        new = first + timedelta(min(day, length.days) - 1 + days)
        self._set_date(year + new.year - cycle, new.month, new.day)
        memory[DAY_OF_WEEK] = self._encode((memory[DAY_OF_WEEK] % 8 - 1 + days) % 7 + 1)

    def _alarm_between(self, before: int, seconds: int) -> bool:
        """Did the alarm match at one of the *seconds* seconds after second *before* of the day?"""
        memory = self.state.cmos
        if seconds == 1:
            return all(
                memory[alarm] & ALARM_ANY == ALARM_ANY or memory[alarm] == memory[alarm - 1]
                for alarm in (SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM)
            )

        def matching(alarm: int, encoded: list[int]) -> list[int]:
            byte = memory[alarm]
            return [n for n, code in enumerate(encoded) if byte & ALARM_ANY == ALARM_ANY or byte == code]

        sixty = [self._encode(n) for n in range(60)]
        hours = matching(HOURS_ALARM, [self._encode_hour(n) for n in range(24)])
        times = product(hours, matching(MINUTES_ALARM, sixty), matching(SECONDS_ALARM, sixty))
        return any((h * 3600 + m * 60 + s - before - 1) % DAY < seconds for h, m, s in times)
