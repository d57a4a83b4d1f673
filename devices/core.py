"""What every chip is made of: a clock to read, lines to drive, ports to answer on.

A device is constructed with its lines and backends.  It knows nothing of the CPU, of IRQ
numbers, of wall time or of the machine: the board (``vmm.board``) wires lines together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

NEVER = 1 << 62
"""A time (in nanoseconds) that no run reaches: "no event is due"."""

SECOND = 1_000_000_000
"""Nanoseconds in a second of guest time."""


class Clock:
    """Guest time.  ``now`` is in nanoseconds since power-on and only ever grows.

    The VMM stores the current time here before a device runs; devices only read it.
    """

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


def _nowhere(level: bool) -> None:
    """The sink of a line that is wired to nothing."""


class Line:
    """One wire.  The driver sets its level; the sink hears of changes only."""

    __slots__ = ("_sink", "level")

    def __init__(self, sink: Callable[[bool], None] = _nowhere) -> None:
        self._sink = sink
        self.level = False

    def set(self, level: bool) -> None:
        """Drive the wire high (true) or low (false)."""
        if level is not self.level:
            self.level = level
            self._sink(level)

    def pulse(self) -> None:
        """A rising and a falling edge."""
        self.set(False)
        self.set(True)
        self.set(False)

    def connect(self, sink: Callable[[bool], None]) -> None:
        """Wire the line to *sink* and tell it the level if that is high."""
        self._sink = sink
        if self.level:
            sink(True)


@dataclass(frozen=True, slots=True)
class Ports:
    """A run of I/O ports that a device decodes.

    ``read(port, size)`` returns a value of *size* bytes; ``write(port, size, value)`` takes one.
    ``widths`` are the sizes in bytes the chip understands: the bus splits a wider access into
    byte accesses and calls with nothing else.  A missing direction floats (reads give all ones).
    ``read_block(count, size)`` and ``write_block(data, size)``, if the device has them, are as many accesses to the
    first port at once, of a size in ``widths``.
    """

    first: int
    count: int
    read: Callable[[int, int], int] | None
    write: Callable[[int, int, int], None] | None
    widths: tuple[int, ...] = (1,)
    names: tuple[str, ...] = ()
    read_block: Callable[[int, int], bytes] | None = None
    write_block: Callable[[bytes, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Mmio:
    """A run of guest-physical addresses that a device decodes.

    ``read(offset, size)`` and ``write(offset, size, value)``; *size* is 1, 2, 4 or 8 bytes.
    """

    base: int
    size: int
    read: Callable[[int, int], int]
    write: Callable[[int, int, int], None]


class Device:
    """The base of all chips.

    ``state`` is one dataclass with defaults that holds everything volatile; reset, snapshot and
    equality come from it.  Wiring and backends are attributes of the device, not of the state.
    """

    name: str = "device"
    """The key of the device in the statistics."""

    state: Any

    def ports(self) -> Sequence[Ports]:
        """The I/O ports the chip decodes, fixed after construction."""
        return ()

    def mmio(self) -> Sequence[Mmio]:
        """The physical addresses the chip decodes, fixed after construction."""
        return ()

    def reset(self) -> None:
        """The RESET pin: the power-on state, lines included."""
        self.state = type(self.state)()

    def next_event(self) -> int:
        """The absolute time in nanoseconds at which ``advance`` has something to do.

        A pure function of the state; ``NEVER`` if nothing is due.
        """
        return NEVER

    def advance(self) -> None:
        """Do all that is due at ``clock.now``: move the state on and drive the lines."""
