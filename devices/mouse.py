"""A PS/2 mouse with a wheel and five buttons: standard, IntelliMouse and IntelliMouse Explorer protocols.

Sources: IBM PS/2 Hardware Interface Technical Reference, "Mouse"; Microsoft, "Windows and the 5-Button
Wheel Mouse", for the sequences of sample rates that switch the wheel on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

ACK, ERROR, BAT_OK = 0xFA, 0xFE, 0xAA

SCALING_1_1, SCALING_2_1, SET_RESOLUTION, STATUS_REQUEST, SET_STREAM, READ_DATA = range(0xE6, 0xEC)
RESET_WRAP, SET_WRAP, SET_REMOTE, READ_ID, SET_SAMPLE_RATE = 0xEC, 0xEE, 0xF0, 0xF2, 0xF3
ENABLE, DISABLE, SET_DEFAULT, RESEND, RESET = 0xF4, 0xF5, 0xF6, 0xFE, 0xFF
TAKES_ARGUMENT = (SET_RESOLUTION, SET_SAMPLE_RATE)

STANDARD, WHEEL, FIVE_BUTTONS = 0, 3, 4
"""The ID, which is also the protocol."""
MAGIC_RATES = {(200, 100, 80): WHEEL, (200, 200, 80): FIVE_BUTTONS}
"""Three sample rates in a row that switch the protocol."""

LEFT, RIGHT, MIDDLE, FOURTH, FIFTH = 1, 2, 4, 8, 16
"""Bits of ``buttons``."""

FARTHEST = 1 << 15
"""Movement that nobody reads is kept up to here, in counts."""


@dataclass
class MouseState:
    """The mouse's processor."""

    replies: list[int] = field(default_factory=list)
    """Bytes that answer the last command; they go before movement."""
    packet: list[int] = field(default_factory=list)
    """What is left of the packet that is being sent."""
    last_reply: list[int] = field(default_factory=list)
    command: int | None = None
    """The command that waits for its argument."""
    enabled: bool = False
    remote: bool = False
    wrap: bool = False
    scaling_2_1: bool = False
    resolution: int = 2
    """4 counts a millimetre."""
    rate: int = 100
    """Samples a second."""
    rates: list[int] = field(default_factory=lambda: [0, 0, 0])
    """The last three rates that were set."""
    protocol: int = STANDARD
    dx: int = 0
    dy: int = 0
    dz: int = 0
    """Movement that was not reported yet, in counts: right, up, towards the user."""
    buttons: int = 0
    reported: int = 0
    """The buttons as last reported."""


def _take(counts: int, least: int, most: int) -> tuple[int, int]:
    """What of *counts* fits a field, and the rest."""
    taken = min(max(counts, least), most)
    return taken, counts - taken


class Mouse:
    """The mouse.  *on_data* is called when bytes that nobody asked for wait to be ``read``."""

    def __init__(self, on_data: Callable[[], None]) -> None:
        self.state = MouseState()
        self._on_data = on_data

    # What the user does -------------------------------------------------------------------------------
    def move(self, dx: int, dy: int, dz: int = 0) -> None:
        """Move right, up, and turn the wheel towards the user, in counts."""
        state = self.state
        state.dx = _take(state.dx + dx, -FARTHEST, FARTHEST)[0]
        state.dy = _take(state.dy + dy, -FARTHEST, FARTHEST)[0]
        state.dz = _take(state.dz + dz, -FARTHEST, FARTHEST)[0]
        self._on_data()

    def press(self, buttons: int) -> None:
        """Hold the buttons of the mask (``LEFT`` ...) and no others."""
        self.state.buttons = buttons & 0x1F
        self._on_data()

    # The cable ----------------------------------------------------------------------------------------
    def read(self) -> int | None:
        """The next byte for the host, if there is one."""
        state = self.state
        if state.replies:
            return state.replies.pop(0)
        moved = state.dx or state.dy or state.dz or state.buttons != state.reported
        if not state.packet and state.enabled and not state.remote and not state.wrap and moved:
            state.packet = self._report()
        return state.packet.pop(0) if state.packet else None

    def _report(self) -> list[int]:
        state = self.state
        dx, state.dx = _take(state.dx, -256, 255)
        dy, state.dy = _take(state.dy, -256, 255)
        state.reported = state.buttons
        first = (dy < 0) << 5 | (dx < 0) << 4 | 0x08 | state.buttons & (LEFT | RIGHT | MIDDLE)
        packet = [first, dx & 0xFF, dy & 0xFF]
        if state.protocol == STANDARD:
            state.dz = 0
        elif state.protocol == WHEEL:
            dz, state.dz = _take(state.dz, -128, 127)
            packet.append(dz & 0xFF)
        else:
            dz, state.dz = _take(state.dz, -8, 7)
            packet.append(dz & 0x0F | (state.buttons & (FOURTH | FIFTH)) << 1)
        return packet

    def write(self, value: int) -> None:
        """A byte from the host: a command or its argument.  It drops what is left of a reply or packet."""
        state = self.state
        state.replies.clear()
        state.packet.clear()
        command, state.command = state.command, None
        if state.wrap and value not in (RESET_WRAP, RESET):
            state.replies.append(value)
        elif command is not None:
            self._argument(command, value)
        elif value in TAKES_ARGUMENT:
            state.command = value
            state.replies.append(ACK)
        elif value == RESEND:
            state.replies += state.last_reply
        elif handler := _COMMANDS.get(value):
            self.state.replies.append(ACK)
            handler(self)
        else:
            state.replies.append(ERROR)
        self.state.last_reply = list(self.state.replies)

    def _argument(self, command: int, value: int) -> None:
        state = self.state
        state.replies.append(ACK)
        if command == SET_RESOLUTION:
            state.resolution = value & 3
        else:
            state.rate = value
            state.rates = [*state.rates[1:], value]
            first, second, third = state.rates
            state.protocol = MAGIC_RATES.get((first, second, third), state.protocol)

    def _status(self) -> None:
        state = self.state
        held = state.buttons
        # The buttons stand in the other order than in a packet: left, middle, right.
        buttons = bool(held & LEFT) << 2 | bool(held & MIDDLE) << 1 | bool(held & RIGHT)
        flags = state.remote << 6 | state.enabled << 5 | state.scaling_2_1 << 4
        state.replies += [flags | buttons, state.resolution, state.rate]

    def _read_data(self) -> None:
        self.state.replies += self._report()

    def _read_id(self) -> None:
        self.state.replies.append(self.state.protocol)

    def _set(self, **fields: bool) -> None:
        for name, value in fields.items():
            setattr(self.state, name, value)

    def _set_default(self) -> None:
        old = self.state
        self.state = MouseState(
            replies=old.replies, protocol=old.protocol, buttons=old.buttons, reported=old.buttons, remote=False
        )

    def _reset(self) -> None:
        self._set_default()
        self.state.protocol = STANDARD
        self.state.replies += [BAT_OK, STANDARD]


_COMMANDS: dict[int, Callable[[Mouse], None]] = {
    SCALING_1_1: lambda mouse: mouse._set(scaling_2_1=False),
    SCALING_2_1: lambda mouse: mouse._set(scaling_2_1=True),
    STATUS_REQUEST: Mouse._status,
    SET_STREAM: lambda mouse: mouse._set(remote=False),
    READ_DATA: Mouse._read_data,
    RESET_WRAP: lambda mouse: mouse._set(wrap=False),
    SET_WRAP: lambda mouse: mouse._set(wrap=True),
    SET_REMOTE: lambda mouse: mouse._set(remote=True),
    READ_ID: Mouse._read_id,
    ENABLE: lambda mouse: mouse._set(enabled=True),
    DISABLE: lambda mouse: mouse._set(enabled=False),
    SET_DEFAULT: Mouse._set_default,
    RESET: Mouse._reset,
}
