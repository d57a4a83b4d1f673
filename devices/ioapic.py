"""The Intel 82093AA I/O APIC.

Source: Intel 82093AA data sheet (order 290566).  A line is asserted or not, whatever polarity the guest programs:
the board's lines have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from devices.core import Device, Line, Mmio
from devices.lapic import MODE_SHIFT

BASE, SIZE = 0xFEC0_0000, 0x1000
IOREGSEL, IOWIN = 0x00, 0x10
IOAPICID, IOAPICVER, IOAPICARB, IOREDTBL = 0x00, 0x01, 0x02, 0x10
PINS = 24
VERSION_VALUE = (PINS - 1) << 16 | 0x11
ID_BITS = 0x0F00_0000

MASKED, LEVEL, REMOTE_IRR, DELIVERY_STATUS, LOGICAL = 0x1_0000, 0x8000, 0x4000, 0x1000, 0x800
WRITABLE_LOW = 0x1_AFFF
WRITABLE_HIGH = 0xFF00_0000

Send = Callable[[int, int, bool, int, bool], bool]
"""(vector, delivery mode, by level, destination, logical destination) -> somebody took the message."""


@dataclass
class IoApicState:
    """The registers and the pins."""

    select: int = 0
    identification: int = 0
    table: list[int] = field(default_factory=lambda: [MASKED] * PINS)
    """Redirection entries, 64 bits."""
    levels: int = 0
    """Pins as they stand."""
    edges: int = 0
    """Edges that no APIC has taken yet."""


class IoApic(Device):
    """The I/O APIC.  ``pins`` are its inputs; messages go out by *send*."""

    name = "ioapic"
    state: IoApicState

    def __init__(self, send: Send) -> None:
        self.state = IoApicState()
        self.pins = tuple(Line(partial(self._pin, n)) for n in range(PINS))
        self._send = send

    def reset(self) -> None:
        self.state = IoApicState(levels=sum(pin.level << n for n, pin in enumerate(self.pins)))

    def mmio(self) -> Sequence[Mmio]:
        return (Mmio(BASE, SIZE, self.read, self.write),)

    # Interrupts -----------------------------------------------------------------------------------
    def _pin(self, number: int, high: bool) -> None:
        state, bit = self.state, 1 << number
        if not high:
            state.levels &= ~bit
            return
        state.levels |= bit
        # An edge on a masked pin is not remembered (data sheet, 3.2.4, Interrupt Mask).
        if not state.table[number] & (MASKED | LEVEL):
            state.edges |= bit
        self._serve(number)

    def _serve(self, number: int) -> None:
        """Send the message of a pin that has one."""
        state, bit = self.state, 1 << number
        entry = state.table[number]
        if entry & MASKED:
            return
        level = bool(entry & LEVEL)
        if not bit & (state.levels if level else state.edges) or (level and entry & REMOTE_IRR):
            return
        mode = entry >> MODE_SHIFT & 7
        if level:
            state.table[number] |= REMOTE_IRR
        taken = self._send(entry & 0xFF, mode, level, entry >> 56, bool(entry & LOGICAL))
        if not taken:
            state.table[number] &= ~REMOTE_IRR
        elif not level:
            state.edges &= ~bit

    def end_of_interrupt(self, vector: int) -> None:
        """A local APIC has finished with *vector*, which was triggered by level; a pin still high asks again."""
        for number, entry in enumerate(self.state.table):
            if entry & REMOTE_IRR and entry & 0xFF == vector:
                self.state.table[number] &= ~REMOTE_IRR
                self._serve(number)

    # Registers --------------------------------------------------------------------------------------
    def read(self, offset: int, size: int) -> int:
        """IOREGSEL and IOWIN, any part of them; the rest reads as zero."""
        register, shift = offset & ~3, 8 * (offset & 3)
        value = self.state.select if register == IOREGSEL else self._window() if register == IOWIN else 0
        return value >> shift & (1 << 8 * size) - 1

    def _window(self) -> int:
        state = self.state
        select = state.select
        if select in (IOAPICID, IOAPICARB):
            return state.identification
        if select == IOAPICVER:
            return VERSION_VALUE
        if 0 <= select - IOREDTBL < 2 * PINS:
            return state.table[select - IOREDTBL >> 1] >> 32 * (select & 1) & 0xFFFF_FFFF
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """IOREGSEL, or all of IOWIN; anything else is lost."""
        state = self.state
        if offset == IOREGSEL:
            state.select = value & 0xFF
        elif offset == IOWIN and size == 4:
            if state.select == IOAPICID:
                state.identification = value & ID_BITS
            elif 0 <= state.select - IOREDTBL < 2 * PINS:
                self._write_entry(state.select - IOREDTBL >> 1, bool(state.select & 1), value)

    def _write_entry(self, number: int, high: bool, value: int) -> None:
        state = self.state
        entry = state.table[number]
        if high:
            entry = entry & 0xFFFF_FFFF | (value & WRITABLE_HIGH) << 32
        else:
            entry = entry & ~WRITABLE_LOW | value & WRITABLE_LOW
            if not entry & LEVEL:
                entry &= ~REMOTE_IRR
        state.table[number] = entry
        if entry & (MASKED | LEVEL):
            state.edges &= ~(1 << number)
        self._serve(number)
