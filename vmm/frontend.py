"""Between the guest and its user: terminal, log files, the scripted conversation, screen and keyboard."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from devices.i8042 import CTR_TRANSLATE
from devices.keys import chords
from devices.vga.text import TextScreen, in_text_mode, read_screen
from vmm.board import Board
from vmm.config import Channel, MachineConfig
from vmm.console import HELP, CharacterLine, NullLine, Terminal, open_line
from vmm.display import Display, NoDisplay, ScreenDisplay, StreamDisplay
from vmm.errors import ExitStatus
from vmm.expect import Conversation
from vmm.input import keys_of
from vmm.screenlog import ScreenLog

SET_UP_NS = 5_000_000_000
"""Guest time after which firmware has set the keyboard up if it ever does."""

Sink = Callable[[bytes], None]
Listener = Callable[[str, "bytes | str"], None]
"""Hears what the guest prints: the source (``"serial0"``, ``"debugcon"``, ``"bios"``, ``"screen"``) and the text."""


class Owner(Protocol):
    """The machine, as the front end sees it."""

    def end(self, status: int, reason: str) -> None:
        """End the run."""

    def print_statistics(self) -> None:
        """The user asked for them."""


class Frontend:
    """Carries characters both ways.  ``chores`` is to be called now and then; ``close`` gives everything back."""

    def __init__(self, config: MachineConfig, board: Board, owner: Owner) -> None:
        self._board = board
        self._owner = owner
        self._stack = ExitStack()
        self.conversation = Conversation(config.script, config.fail_on)
        self.listeners: list[Listener] = []
        self.on_serial: dict[int, Sink] = {}
        self._log = ScreenLog()
        self._seen: object = None
        self.screen: TextScreen | None = None
        """The screen at the last look; None in a graphics mode."""
        self._held = ""
        self._terminal: Terminal | None = None
        self._typed_for: int | None = None
        """The serial port that typing is for; None: the keyboard."""
        self._wire(config)

    def _wire(self, config: MachineConfig) -> None:
        board = self._board
        for n, channel in enumerate(config.serial):
            line = self._open(channel, n)
            board.serial_output[n] = self._serial_sink(n, line)
        board.debug_output = self._sink("debugcon", self._open(config.debugcon))
        board.bios_output = self._sink("bios", self._open(config.bios_log))
        self._window: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Columns and rows of the terminal that the screen is drawn on."""
        shared = self._terminal is not None
        if config.display == "none":
            self.display: Display = NoDisplay()
            return
        if self._terminal is None:
            self._terminal = self._stack.enter_context(Terminal())
        write, size = self._terminal.write, self._terminal.size
        drawn = self._terminal.draws and not shared
        self.display = ScreenDisplay(write, size) if drawn else StreamDisplay(write)
        if drawn:
            self._window = size
        self._stack.callback(self.display.close)

    def _open(self, channel: Channel, port: int | None = None) -> CharacterLine:
        line = self._stack.enter_context(open_line(channel))
        if isinstance(line, Terminal):
            self._terminal = line
            self._typed_for = port
        return line

    def _serial_sink(self, n: int, line: CharacterLine) -> Sink:
        heard = self._sink(f"serial{n}", line)

        def sink(data: bytes) -> None:
            heard(data)
            if n in self.on_serial:
                self.on_serial[n](data)

        return sink

    def _sink(self, source: str, line: CharacterLine) -> Sink:
        quiet = type(line) is NullLine

        def sink(data: bytes) -> None:
            if not quiet:
                line.write(data)
            self._heard(source, data)

        return sink

    def close(self) -> None:
        """Put the terminal back, close the logs."""
        self._stack.close()

    # What the guest prints -----------------------------------------------------------------------------------

    def _heard(self, source: str, data: bytes | str) -> None:
        if self.conversation.listening:
            self.conversation.feed(source, data)
            self._check_outcome()
        for listener in self.listeners:
            listener(source, data)

    def _check_outcome(self) -> None:
        if self.conversation.outcome is not None:
            self._owner.end(*self.conversation.outcome)

    def look(self) -> None:
        """Look at the screen, and hear and show what is new on it."""
        vga = self._board.vga
        seen: object = None
        if vga.text_in_window and in_text_mode(vga):
            seen = (bytes(vga.text), bytes(vga.state.crtc), self._window())
            if seen == self._seen:
                return
        self._seen = seen
        screen = self.screen = read_screen(vga)
        text = self._log.update(screen.lines()) if screen is not None else ""
        self.display.show(screen, text)
        if text:
            self._heard("screen", text)

    # What the user types -------------------------------------------------------------------------------------

    @property
    def interactive(self) -> bool:
        """Somebody can type."""
        return self._terminal is not None and self._terminal.interactive

    def wait(self, seconds: float, wake: int) -> bool:
        """Sleep for *seconds*; True as soon as something was typed, or the descriptor *wake* is readable."""
        return (self._terminal or NullLine()).wait(seconds, wake)

    def chores(self) -> None:
        """Look at the screen, take what was typed, go on with the conversation."""
        self.look()
        terminal = self._terminal
        if terminal is not None:
            data = terminal.read()
            if data:
                self.type(self._typed_for, data)
            while terminal.commands:
                self._command(terminal, terminal.commands.pop(0))
        if self._held:
            self._press_held()
        self._send()

    def _command(self, terminal: Terminal, name: str) -> None:
        if name == "leave":
            self._owner.end(ExitStatus.INTERRUPTED, "left by Ctrl-A x")
        elif name == "stats":
            self._owner.print_statistics()
        elif name == "break":
            uart = self._board.uarts[self._typed_for or 0]
            uart.receive_break()
            self._board.scheduler.poll(uart)
        else:
            terminal.write(HELP.encode())

    def type(self, port: int | None, data: bytes) -> None:
        """Type on serial port *port*, or on the keyboard as a terminal does (None)."""
        board = self._board
        if port is None:
            self.press(keys_of(data))
        else:
            board.serial_input[port].put(data)
            board.scheduler.poll(board.serial_input[port])

    def press(self, keys: str) -> None:
        """Type on the keyboard in the notation of ``Keyboard.type``.  Raises ``ValueError`` for what it cannot."""
        for _ in chords(keys):
            """Every key has to be one."""
        self._held += keys
        self._press_held()

    def _press_held(self) -> None:
        """Nobody hears what is typed before the firmware has set the keyboard up: hold it until then."""
        board = self._board
        set_up = board.i8042.state.controller.ram[0] & CTR_TRANSLATE
        if self._held and (set_up or board.clock.now - board.reset_at > SET_UP_NS):
            board.i8042.keyboard.type(self._held)
            board.scheduler.poll(board.i8042)
            self._held = ""

    def _send(self) -> None:
        """Type what the conversation has to say, where it was last spoken to."""
        conversation = self.conversation
        while (target := conversation.talks_to) is not None:
            port = int(target.removeprefix("serial")) if target.startswith("serial") else None

            def receive(data: bytes, port: int | None = port) -> int:
                if port is not None:
                    self.type(port, data)
                else:
                    text = data.decode("utf-8", "replace")
                    try:
                        self.press(text.replace("\r", "\n").replace("\n", "<enter>"))
                    except ValueError as error:
                        self._owner.end(ExitStatus.USAGE, f"--send: {error}")
                return len(data)

            conversation.deliver(target, receive)
        self._check_outcome()
