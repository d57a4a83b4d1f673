"""The small registers of a PC's system board, each a port or two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from devices.backends import CharacterSink
from devices.core import SECOND, Clock, Device, Line, Ports

PORT_B = 0x61
PORT_B_WRITABLE = 0x0F
PORT_B_GATE2 = 0x01
PORT_B_SPEAKER_DATA = 0x02
PORT_B_REFRESH = 0x10
PORT_B_OUT2 = 0x20

REFRESH_HZ = 1_193_182
REFRESH_PULSES = 18
"""Memory is refreshed every 18 pulses of the timer's clock (15.1 us)."""

PORT_A = 0x92
PORT_A_FAST_RESET = 0x01
PORT_A_FAST_A20 = 0x02

POST_PORT = 0x80
POST_CODES = 64
"""How many POST codes are remembered."""

BOCHS_DEBUG, SEABIOS_DEBUG = 0xE9, 0x402
DEBUG_READBACK = 0xE9
"""What a debug console reads as, so that a guest finds it."""

DEBUG_EXIT_BASE, DEBUG_EXIT_SIZE = 0x501, 2
"""Where QEMU puts isa-debug-exit if it is not told otherwise."""


@dataclass
class SystemPortBState:
    """The bits that were written to port 61h."""

    bits: int = 0


class SystemPortB(Device):
    """Port 61h: the gate of counter 2, the speaker, and NMI sources (PIIX3 data sheet, 2.5.5.1).

    *gate2* follows bit 0; bit 5 reads *out2*, bit 4 toggles with every refresh of memory.  No bus error
    ever happens: bits 6 and 7 read 0.
    """

    name = "port61"
    state: SystemPortBState

    def __init__(self, clock: Clock, gate2: Line, out2: Callable[[], bool]) -> None:
        self.state = SystemPortBState()
        self._clock = clock
        self._gate2 = gate2
        self._out2 = out2

    def reset(self) -> None:
        self.state = SystemPortBState()
        self._gate2.set(False)

    @property
    def speaker(self) -> bool:
        """The speaker's membrane: OUT of counter 2 and bit 1."""
        return bool(self.state.bits & PORT_B_SPEAKER_DATA) and self._out2()

    def ports(self) -> Sequence[Ports]:
        return (Ports(PORT_B, 1, self._read, self._write, names=("NMI status and control",)),)

    def _read(self, port: int, size: int) -> int:
        value = self.plain
        if self._clock.now * REFRESH_HZ // (SECOND * REFRESH_PULSES) & 1:
            value |= PORT_B_REFRESH
        return value

    @property
    def plain(self) -> int:
        """What a read gives but for the refresh of memory, until OUT of counter 2 changes."""
        return self.state.bits | PORT_B_OUT2 * self._out2()

    def _write(self, port: int, size: int, value: int) -> None:
        self.state.bits = value & PORT_B_WRITABLE
        self._gate2.set(bool(value & PORT_B_GATE2))


@dataclass
class SystemPortAState:
    """The bits that were written to port 92h."""

    bits: int = 0


class SystemPortA(Device):
    """Port 92h: fast A20 and fast reset (PIIX3 data sheet, 2.5.5.3).

    *a20* follows bit 1; a rise of bit 0 pulses *reset*.  The board decides how the 8042's A20 joins in.
    """

    name = "port92"
    state: SystemPortAState

    def __init__(self, a20: Line, reset: Line) -> None:
        self.state = SystemPortAState()
        self._a20 = a20
        self._reset = reset

    def reset(self) -> None:
        self.state = SystemPortAState()
        self._a20.set(False)

    def ports(self) -> Sequence[Ports]:
        return (Ports(PORT_A, 1, self._read, self._write, names=("fast A20 and reset",)),)

    def _read(self, port: int, size: int) -> int:
        return self.state.bits

    def _write(self, port: int, size: int, value: int) -> None:
        reset = value & ~self.state.bits & PORT_A_FAST_RESET
        self.state.bits = value & (PORT_A_FAST_A20 | PORT_A_FAST_RESET)
        self._a20.set(bool(value & PORT_A_FAST_A20))
        if reset:
            self._reset.pulse()


@dataclass
class PostState:
    """The last codes, oldest first."""

    codes: list[int] = field(default_factory=list)


class PostPort(Device):
    """Port 80h: power-on self-test codes.  Reads give the last one, as the scratch register of the AT does."""

    name = "post"
    state: PostState

    def __init__(self) -> None:
        self.state = PostState()

    def ports(self) -> Sequence[Ports]:
        return (Ports(POST_PORT, 1, self._read, self._write, names=("POST code",)),)

    def _read(self, port: int, size: int) -> int:
        return self.state.codes[-1] if self.state.codes else 0

    def _write(self, port: int, size: int, value: int) -> None:
        self.note((value,))

    def note(self, values: Iterable[int]) -> None:
        """These bytes were written, in this order."""
        codes = self.state.codes
        codes += values
        del codes[:-POST_CODES]


@dataclass
class DebugConsoleState:
    """A debug console keeps nothing."""


class DebugConsole(Device):
    """A port that hands every byte to *sink* and reads as E9h (Bochs at E9h, QEMU's isa-debugcon at 402h)."""

    state: DebugConsoleState

    def __init__(self, port: int, sink: CharacterSink) -> None:
        self.state = DebugConsoleState()
        self.name = f"debugcon{port:x}"
        self._port = port
        self._sink = sink

    def ports(self) -> Sequence[Ports]:
        return (Ports(self._port, 1, self._read, self._write, names=("debug console",)),)

    def _read(self, port: int, size: int) -> int:
        return DEBUG_READBACK

    def _write(self, port: int, size: int, value: int) -> None:
        self._sink(bytes((value,)))


@dataclass
class DebugExitState:
    """isa-debug-exit keeps nothing."""


class DebugExit(Device):
    """QEMU's isa-debug-exit: a write of *v* calls ``on_exit((v << 1) | 1)``.

    *base* and *size* are those of the ports; writes of 1, 2 or 4 bytes that fit are taken whole.
    """

    name = "debugexit"
    state: DebugExitState

    def __init__(
        self, on_exit: Callable[[int], None], base: int = DEBUG_EXIT_BASE, size: int = DEBUG_EXIT_SIZE
    ) -> None:
        self.state = DebugExitState()
        self._on_exit = on_exit
        self._base = base
        self._size = size

    def ports(self) -> Sequence[Ports]:
        return (Ports(self._base, self._size, self._read, self._write, widths=(1, 2, 4), names=("exit",)),)

    def _read(self, port: int, size: int) -> int:
        return 0

    def _write(self, port: int, size: int, value: int) -> None:
        self._on_exit(value << 1 | 1)
