"""The conversation with the guest: ``--expect``, ``--send`` and ``--fail-on``.

Everything the guest prints, on whatever serial port or screen, is fed to a ``Conversation``.  Each source
has a window of its latest text, without terminal escape sequences; patterns are searched in it.  Steps are
worked off in order.  A match uses up the text of its source up to its end and the text of all other sources,
so that a prompt that appears on two of them at once counts once.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Callable, Sequence

from vmm.config import Step
from vmm.errors import ExitStatus

WINDOW = 2048
"""Characters of a source's latest text in which a pattern can match."""

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI ... final byte (ECMA-48, 5.4)
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\|(?=\x1b[^\\]))"  # OSC ... BEL or ST, as xterm has it, or cut short by another
    r"|[ -/]+[0-~]"  # nF: character sets
    r"|[0-Z\\^-~]"  # Fp, Fe and Fs without parameters
    r"|(?:\[[0-?]*[ -/]*|[ -/]*)(?=\x1b))"  # cut short by another
)
_DROPPED = {0: None, 13: None}
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[ -/]*)\Z")
_LONGEST_ESCAPE = 256
"""Characters after which an escape sequence that does not end is taken for text."""


class TextFilter:
    """Bytes of a terminal line in, readable text out: UTF-8 decoded, escape sequences, NULs and carriage returns
    removed.

    Works on any division of the input into pieces; what is incomplete waits for the next piece.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""

    def feed(self, data: bytes | str) -> str:
        """The text that *data* completes."""
        text = data if isinstance(data, str) else self._decode(data)
        if not self._held and "\x1b" not in text:
            return text.translate(_DROPPED)
        text = _ESCAPE.sub("", self._held + text)
        unfinished = _UNFINISHED.search(text)
        if unfinished and len(unfinished.group()) <= _LONGEST_ESCAPE:
            self._held = unfinished.group()
            text = text[: unfinished.start()]
        else:
            self._held = ""
        return text.translate(_DROPPED)


class _Source:
    """The latest text of one serial port or screen."""

    __slots__ = ("filter", "text", "used")

    def __init__(self) -> None:
        self.filter = TextFilter()
        self.text = ""
        self.used = 0
        """How much of ``text`` the steps have used up."""

    def trim(self) -> None:
        """Forget all but the last ``WINDOW`` characters."""
        excess = len(self.text) - WINDOW
        if excess > WINDOW // 4:
            self.text = self.text[excess:]
            self.used = max(self.used - excess, 0)


class Conversation:
    """Works off *steps* against what the guest prints.

    ``outcome`` is None while the run goes on, then the exit status and a sentence: ``FAIL_ON`` as soon as
    one of the patterns *fail_on* appears, ``OK`` when the last step is done, if one of them is an "expect".
    A text is typed where the text before it was printed: what answers ``"screen"`` is for the keyboard.

    Patterns are regular expressions with ``re.MULTILINE``; carriage returns are not part of the text.
    """

    def __init__(self, steps: Sequence[Step] = (), fail_on: Sequence[str] = (), source: str = "serial0") -> None:
        self._steps = deque(steps)
        self._fail_on = [re.compile(pattern, re.MULTILINE) for pattern in fail_on]
        self._ends = any(step.kind == "expect" for step in steps)
        self._sources: dict[str, _Source] = {}
        self._pattern: re.Pattern[str] | None = None
        self._last = source
        self._to_send: deque[tuple[str, bytes]] = deque()
        self.outcome: tuple[ExitStatus, str] | None = None
        self._advance()

    @property
    def listening(self) -> bool:
        """``feed`` can have an effect."""
        return self.outcome is None and (self._pattern is not None or bool(self._fail_on))

    @property
    def waiting_for(self) -> str | None:
        """The pattern in hand, for the report of a run that ended without it."""
        return self._pattern.pattern if self._pattern else None

    @property
    def talks_to(self) -> str | None:
        """The source that the next text to type is for; None if there is nothing to type."""
        return self._to_send[0][0] if self._to_send else None

    def feed(self, source: str, data: bytes | str) -> None:
        """The guest printed *data* on *source* (``"serial0"``, ``"screen"``, ...)."""
        if not self.listening:
            return
        entry = self._sources.setdefault(source, _Source())
        text = entry.filter.feed(data)
        if text:
            entry.text += text
            self._search(source, entry)
            entry.trim()

    def deliver(self, source: str, receive: Callable[[bytes], int]) -> None:
        """Type what waits for *source*: ``receive(data)`` returns how many bytes it took."""
        while self._to_send and self._to_send[0][0] == source:
            _, data = self._to_send[0]
            taken = receive(data)
            if taken < len(data):
                self._to_send[0] = (source, data[taken:])
                return
            self._to_send.popleft()
            self._advance()

    def _search(self, source: str, entry: _Source) -> None:
        failures = (match for pattern in self._fail_on if (match := pattern.search(entry.text)))
        failure = min(failures, key=lambda match: match.end(), default=None)
        while self._pattern is not None and (match := self._pattern.search(entry.text, entry.used)):
            if failure is not None and failure.end() <= match.end():
                break
            self._last = source
            for other in self._sources.values():
                other.used = len(other.text)
            entry.used = match.end()
            self._pattern = None
            self._advance()
        if failure is not None and self.outcome is None:
            shown = " ".join(failure.group().split())[:80]
            self.outcome = (ExitStatus.FAIL_ON, f"the guest printed {shown!r}, which --fail-on is for")

    def _advance(self) -> None:
        """Go on to the next step that has to wait: for a text, or for the guest to take one."""
        while self._pattern is None and not self._to_send and self._steps:
            step = self._steps.popleft()
            if step.kind == "expect":
                self._pattern = re.compile(step.text, re.MULTILINE)
            elif step.text:
                self._to_send.append((self._last, step.text.encode()))
        if self._ends and self._pattern is None and not self._to_send and self.outcome is None:
            self.outcome = (ExitStatus.OK, "everything that was expected has come")
