"""What is typed for the guest, on its way to a serial port or to the keyboard."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from devices.core import NEVER, Clock, Device
from devices.keys import CHARACTERS
from devices.uart import Uart

RETRY_NS = 1_000_000
"""When a character that the guest had no room for is offered again."""


@dataclass
class FeederState:
    """Characters under way, and when the next one is complete (ns)."""

    waiting: bytearray = field(default_factory=bytearray)
    due: int = NEVER


class SerialFeeder(Device):
    """The far end of a serial line: it sends no faster than the line is, and keeps what the port has no room for."""

    name = "serial input"
    state: FeederState

    def __init__(self, clock: Clock, uart: Uart) -> None:
        self.state = FeederState()
        self._clock = clock
        self._uart = uart

    def reset(self) -> None:
        """The far end is another computer: it goes on."""

    def put(self, data: bytes) -> int:
        """Send *data* after what is under way; all of it is taken."""
        state = self.state
        if data and not state.waiting:
            state.due = self._clock.now + self._uart.character_ns
        state.waiting += data
        return len(data)

    def next_event(self) -> int:
        return self.state.due

    def advance(self) -> None:
        state = self.state
        if self._clock.now < state.due:
            return
        if self._uart.receive(bytes(state.waiting[:1])):
            del state.waiting[:1]
            pause = self._uart.character_ns
        else:
            pause = max(RETRY_NS, self._uart.character_ns)
        state.due = self._clock.now + pause if state.waiting else NEVER


# Keys ----------------------------------------------------------------------------------------------
_SEQUENCES = {
    **dict(zip(("A", "B", "C", "D", "H", "F"), ("up", "down", "right", "left", "home", "end"), strict=True)),
    **dict(zip(("1~", "2~", "3~", "4~"), ("home", "insert", "delete", "end"), strict=True)),
    **dict(zip(("5~", "6~", "7~", "8~"), ("pgup", "pgdn", "home", "end"), strict=True)),
    **dict(zip(("P", "Q", "R", "S"), ("f1", "f2", "f3", "f4"), strict=True)),
    **{f"{code}~": f"f{n}" for n, code in enumerate((11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24), 1)},
    "Z": "shift-tab",
}
"""What a terminal sends after CSI or SS3 (ECMA-48; xterm, "Control Sequences"), and the key."""
_TYPED = re.compile(r"\x1b(?:\[|O)(\d*[A-Za-z~])|\x1b([!-~])|(.)", re.DOTALL)
_CONTROLS = {
    "\r": "<enter>",
    "\n": "<enter>",
    "\t": "<tab>",
    "\x7f": "<backspace>",
    "\b": "<backspace>",
    "\x1b": "<esc>",
    "<": "<lt>",
}


def keys_of(typed: bytes) -> str:
    """What was typed on a terminal, in the notation of ``Keyboard.type``; what no key makes is left out."""
    parts = []
    for sequence, meta, character in _TYPED.findall(typed.decode("utf-8", "ignore")):
        if sequence:
            name = _SEQUENCES.get(sequence)
            parts.append(f"<{name}>" if name else "")
        elif meta:
            parts.append(f"<alt-{meta.lower()}>" if meta.isalnum() else "<esc>" + _key(meta))
        else:
            parts.append(_key(character))
    return "".join(parts)


def _key(character: str) -> str:
    if character in _CONTROLS:
        return _CONTROLS[character]
    if character < " ":
        letter = chr(ord(character) + 0x60)
        return f"<ctrl-{letter}>" if letter.isalpha() else ""
    return character if character in CHARACTERS else ""
