"""Ctrl-C while a machine runs.

An exception in the middle of an emulated instruction would tear it, and one inside an engine's callback is
lost.  So the first SIGINT only asks: it sets a flag, tells the machine to stop at the next instruction boundary,
and wakes whoever sleeps.  A second one before that has happened raises ``KeyboardInterrupt`` where it finds us.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_MANY = 4096


class Interrupts:
    """A context manager: within it, Ctrl-C calls *ask* and sets ``pending``.

    Outside the main thread, and where the program handles SIGINT itself, it does nothing.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._before: Any = None
        self._write = -1
        self.pending = False
        self.wake = -1
        """A descriptor that can be read once Ctrl-C was pressed."""

    def __enter__(self) -> Self:
        self.pending = False
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return self
        try:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        except ValueError:  # not the main thread
            return self
        self.wake, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is None:
            return
        signal.signal(signal.SIGINT, self._before)
        self._before = None
        os.close(self.wake)
        os.close(self._write)
        self.wake = self._write = -1

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            raise KeyboardInterrupt
        self.pending = True
        os.write(self._write, b"\0")
        self._ask()
