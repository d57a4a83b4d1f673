"""A PS/2 keyboard: the end of the cable that the 8042 talks to.

Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-Key)".  Scan code sets 1
and 2; set 3 is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from devices.core import NEVER, Clock
from devices.keys import chords, press_codes, release_codes, to_set1

ACK, RESEND, ECHO_REPLY, BAT_OK = 0xFA, 0xFE, 0xEE, 0xAA
KEYBOARD_ID = (0xAB, 0x83)
OVERRUN = 0x00
QUEUE_SIZE = 16
"""Bytes of scan codes the keyboard holds; then comes an overrun code and the rest is lost."""

SET_LEDS, ECHO, SCAN_CODE_SET, READ_ID, SET_TYPEMATIC = 0xED, 0xEE, 0xF0, 0xF2, 0xF3
ENABLE, DEFAULT_DISABLE, SET_DEFAULT, RESEND_LAST, RESET = 0xF4, 0xF5, 0xF6, 0xFE, 0xFF
SET_ALL_TYPES = range(0xF7, 0xFB)
SET_KEY_TYPE = range(0xFB, 0xFE)
"""Set 3's key types: acknowledged; there is no set 3."""
TAKES_ARGUMENT = (SET_LEDS, SCAN_CODE_SET, SET_TYPEMATIC, *SET_KEY_TYPE)

DEFAULT_TYPEMATIC = 0x2B
"""500 ms delay, 10.9 characters a second."""

KEY_INTERVAL = 10_000_000
"""Nanoseconds of guest time between the presses and releases of ``type``."""


@dataclass
class KeyboardState:
    """The keyboard's processor, and the text that is being typed on it."""

    replies: list[int] = field(default_factory=list)
    """Bytes that answer the last command; they go before scan codes."""
    queue: list[int] = field(default_factory=list)
    """Scan codes that wait to be sent."""
    last_sent: int = 0
    command: int | None = None
    """The command that waits for its argument."""
    scanning: bool = True
    scan_set: int = 2
    typematic: int = DEFAULT_TYPEMATIC
    leds: int = 0
    """Bits 0..2: Scroll Lock, Num Lock, Caps Lock."""
    typing: list[tuple[str, bool]] = field(default_factory=list)
    """Keys that are still to go down (true) or up."""
    due: int = 0
    """When the next of them may move, in nanoseconds."""


class Keyboard:
    """The keyboard.  *on_data* is called when bytes that nobody asked for wait to be ``read``."""

    def __init__(self, clock: Clock, on_data: Callable[[], None]) -> None:
        self.state = KeyboardState()
        self._clock = clock
        self._on_data = on_data

    # What the user does -------------------------------------------------------------------------------
    def press(self, key: str) -> None:
        """Push *key* down (a name in ``keys.KEYS``).  Raises ``KeyError`` for an unknown name."""
        self._send(press_codes(key))
        self._on_data()

    def release(self, key: str) -> None:
        """Let *key* go.  Raises ``KeyError`` for an unknown name."""
        self._send(release_codes(key))
        self._on_data()

    def type(self, text: str) -> None:
        """Type *text* with the tokens of ``keys.chords``, in guest time, after what is being typed already.

        A key moves every ``KEY_INTERVAL`` at most, and not before the guest has taken the codes of the last one.
        Raises ``ValueError`` for what cannot be typed; nothing is typed then.
        """
        events: list[tuple[str, bool]] = []
        for keys in chords(text):
            events += [(key, True) for key in keys]
            events += [(key, False) for key in reversed(keys)]
        state = self.state
        if not state.typing:
            state.due = max(state.due, self._clock.now + KEY_INTERVAL)
        state.typing += events

    def _send(self, codes: bytes) -> None:
        state = self.state
        if not state.scanning:
            return
        sent = list(to_set1(codes)) if state.scan_set == 1 else list(codes)
        if len(state.queue) + len(sent) < QUEUE_SIZE:
            state.queue += sent
        elif len(state.queue) < QUEUE_SIZE:
            state.queue.append(OVERRUN)

    # The cable ----------------------------------------------------------------------------------------
    def read(self) -> int | None:
        """The next byte for the host, if there is one."""
        state = self.state
        source = state.replies or state.queue
        if not source:
            return None
        state.last_sent = source.pop(0)
        return state.last_sent

    def write(self, value: int) -> None:
        """A byte from the host: a command or its argument.  It drops what is left of the last reply."""
        state = self.state
        # Nobody types into a dialogue with the keyboard itself.
        state.due = max(state.due, self._clock.now + KEY_INTERVAL)
        state.replies.clear()
        command, state.command = state.command, None
        # Arguments are below 80h: a command that comes instead of one is obeyed.
        if command is not None and value < 0x80:
            self._argument(command, value)
        elif value in TAKES_ARGUMENT:
            state.command = value
            state.replies.append(ACK)
        elif handler := _COMMANDS.get(value):
            handler(self)
        elif value in SET_ALL_TYPES:
            state.replies.append(ACK)
        else:
            state.replies.append(RESEND)

    def _argument(self, command: int, value: int) -> None:
        state = self.state
        reply = [ACK]
        if command == SET_LEDS:
            state.leds = value & 7
        elif command == SET_TYPEMATIC:
            state.typematic = value
        elif command == SCAN_CODE_SET:
            if value == 0:
                reply.append(state.scan_set)
            elif value in (1, 2):
                state.scan_set = value
                state.queue.clear()
            else:
                reply = [RESEND]
        elif command in SET_KEY_TYPE:
            # Key after key, until another command comes.
            state.command = command
        state.replies += reply

    def _echo(self) -> None:
        self.state.replies.append(ECHO_REPLY)

    def _read_id(self) -> None:
        self.state.replies += [ACK, *KEYBOARD_ID]

    def _enable(self) -> None:
        self.state.queue.clear()
        self.state.scanning = True
        self.state.replies.append(ACK)

    def _default(self, scanning: bool) -> None:
        state = self.state
        state.queue.clear()
        state.scanning = scanning
        state.scan_set = 2
        state.typematic = DEFAULT_TYPEMATIC
        state.replies.append(ACK)

    def _resend(self) -> None:
        self.state.replies.append(self.state.last_sent)

    def _reset(self) -> None:
        state = self.state
        self.state = KeyboardState(replies=[ACK, BAT_OK], typing=state.typing, due=state.due)

    # Time ---------------------------------------------------------------------------------------------
    def _may_type(self) -> bool:
        state = self.state
        return bool(state.typing) and state.scanning and not state.queue and not state.replies

    def next_event(self) -> int:
        """When the next key of ``type`` moves."""
        return self.state.due if self._may_type() else NEVER

    def run(self) -> None:
        """Move the key that is due."""
        state, now = self.state, self._clock.now
        if state.due <= now and self._may_type():
            key, down = state.typing.pop(0)
            state.due = now + KEY_INTERVAL
            self._send(press_codes(key) if down else release_codes(key))


_COMMANDS: dict[int, Callable[[Keyboard], None]] = {
    ECHO: Keyboard._echo,
    READ_ID: Keyboard._read_id,
    ENABLE: Keyboard._enable,
    DEFAULT_DISABLE: lambda keyboard: keyboard._default(scanning=False),
    SET_DEFAULT: lambda keyboard: keyboard._default(scanning=True),
    RESEND_LAST: Keyboard._resend,
    RESET: Keyboard._reset,
}
