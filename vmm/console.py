"""The host's end of a serial line: the terminal, a file, or nothing.

A terminal is put into a raw mode while the machine runs and is put back after any end: leaving the ``with``
block, an exception, ``sys.exit``, SIGTERM or SIGHUP; and while Ctrl-Z has stopped us.  Input that is not a terminal is
read as it is.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import termios
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from vmm.config import Channel
from vmm.errors import UsageError

ESCAPE_KEY = 0x01
"""Ctrl-A, as in QEMU: the next key is a command."""
COMMANDS = {ord("x"): "leave", ord("s"): "stats", ord("h"): "help", ord("?"): "help", ord("b"): "break"}
HELP = "Ctrl-A x  leave\r\nCtrl-A s  print the statistics\r\nCtrl-A b  send a break\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n"
_CHUNK = 4096
_FATAL_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_IFLAG, _LFLAG, _CC = 0, 3, 6
"""Places in the list of ``termios.tcgetattr``."""


class EscapeKeys:
    """Takes the commands out of what is typed: Ctrl-A and a key."""

    def __init__(self) -> None:
        self._escaped = False

    def feed(self, typed: bytes) -> tuple[bytes, list[str]]:
        """What is for the guest, and the commands (values of ``COMMANDS``) in *typed*.

        Ctrl-A twice, or "a" after it, is one Ctrl-A for the guest; an unknown key after it asks for help.
        """
        if not self._escaped and ESCAPE_KEY not in typed:
            return typed, []
        data = bytearray()
        commands = []
        for key in typed:
            if not self._escaped:
                if key == ESCAPE_KEY:
                    self._escaped = True
                else:
                    data.append(key)
                continue
            self._escaped = False
            if key in (ESCAPE_KEY, ord("a")):
                data.append(ESCAPE_KEY)
            else:
                commands.append(COMMANDS.get(key, "help"))
        return bytes(data), commands


class CharacterLine(Protocol):
    """The other end of a serial port or debug console.  A context manager; leaving it closes it."""

    commands: list[str]
    """Commands that were typed (values of ``COMMANDS``); whoever acts on one removes it."""

    def write(self, data: bytes) -> None:
        """Take what the guest sends."""

    def read(self) -> bytes:
        """What has been typed since the last call, without waiting."""

    def wait(self, seconds: float, wake: int = -1) -> bool:
        """Wait for input, no longer than *seconds*; True if there is some, or the descriptor *wake* can be read."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class NullLine:
    """A line to nowhere."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def write(self, data: bytes) -> None:
        """Drop it."""

    def read(self) -> bytes:
        """Nothing, ever."""
        return b""

    def wait(self, seconds: float, wake: int = -1) -> bool:
        """Nothing comes but by *wake*: sleep."""
        return bool(select.select([wake] if wake >= 0 else [], [], [], seconds)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to give back."""


class FileLine(NullLine):
    """A line that is logged to a file, from its beginning, as it is sent."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        """Append to the file."""
        self._file.write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Terminal(NullLine):
    """Standard input and output.

    On a terminal: no echo, no line editing, every key at once.  With *all_keys* the keys that send signals
    (Ctrl-C, Ctrl-Z, Ctrl-\\) go to the guest too; without, they do what they do in any program.
    """

    def __init__(self, all_keys: bool = False, stdin: int = 0, stdout: int = 1) -> None:
        super().__init__()
        self._stdin = stdin
        self._stdout = stdout
        self._all_keys = all_keys
        self._keys = EscapeKeys()
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self.at_end = False
        """Standard input has ended."""
        self.interactive = _in_foreground(stdin)
        """Somebody can type."""

    def __enter__(self) -> Self:
        if self.interactive:
            self._saved = termios.tcgetattr(self._stdin)
            atexit.register(self.close)
            self._catch_signals()
            self._make_raw()
        return self

    def _make_raw(self) -> None:
        raw = termios.tcgetattr(self._stdin)
        raw[_IFLAG] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON | termios.ISTRIP)
        raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        if self._all_keys:
            raw[_LFLAG] &= ~termios.ISIG
        raw[_CC][termios.VMIN] = 1
        raw[_CC][termios.VTIME] = 0
        termios.tcsetattr(self._stdin, termios.TCSADRAIN, raw)

    def close(self) -> None:
        """Put the terminal back; more calls do nothing."""
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        with suppress(OSError, termios.error):  # the terminal may have gone
            termios.tcsetattr(self._stdin, termios.TCSADRAIN, saved)
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._handlers.clear()
        atexit.unregister(self.close)

    def write(self, data: bytes) -> None:
        """Print it.  Raises ``BrokenPipeError`` when nobody reads any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._stdout, view) :]
            except BlockingIOError:
                select.select([], [self._stdout], [])

    def read(self) -> bytes:
        """What was typed, at most 4 KiB; commands are taken out into ``commands``."""
        if not self.wait(0):
            return b""
        try:
            typed = os.read(self._stdin, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            typed = b""
        if not typed:
            self.at_end = True
            return b""
        if not self.interactive:
            return typed
        data, commands = self._keys.feed(typed)
        self.commands += commands
        return data

    @property
    def draws(self) -> bool:
        """Output goes to a terminal, which can move its cursor."""
        return os.isatty(self._stdout) and os.environ.get("TERM", "dumb") != "dumb"

    def wait(self, seconds: float, wake: int = -1) -> bool:
        """Wait for a key."""
        if self.at_end:
            return super().wait(seconds, wake) if seconds else False
        try:
            return bool(select.select([self._stdin, wake] if wake >= 0 else [self._stdin], [], [], seconds)[0])
        except OSError:  # standard input is closed
            self.at_end = True
            return False

    def size(self) -> tuple[int, int]:
        """Columns and rows of the window; 80 by 24 if there is none."""
        try:
            size = os.get_terminal_size(self._stdout)
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def _catch_signals(self) -> None:
        handlers = dict.fromkeys(_FATAL_SIGNALS, self._on_signal) | {signal.SIGTSTP: self._on_stop}
        for number, handler in handlers.items():
            try:
                self._handlers[number] = signal.signal(number, handler)
            except ValueError:  # not the main thread: whoever owns it handles its signals
                return

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.close()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: whoever has the terminal meanwhile finds it in order."""
        if self._saved is None:
            return
        termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._saved)
        os.kill(os.getpid(), signal.SIGSTOP)
        if _in_foreground(self._stdin):
            self._make_raw()


def _in_foreground(fd: int) -> bool:
    """*fd* is a terminal, and we may change it (a background process would be stopped)."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


def open_line(channel: Channel) -> CharacterLine:
    """The line that a ``Channel`` of the configuration means."""
    if channel.kind == "stdio":
        return Terminal(channel.all_keys)
    if channel.kind == "file" and channel.path is not None:
        return FileLine(channel.path)
    return NullLine()
