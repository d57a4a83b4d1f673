"""Where wall time goes: at every moment it belongs to exactly one account, so that the accounts add up to all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

PARTS: Final = {
    "setup": "making the machine, loading images, closing it",
    "tc": "translated code, and Unicorn's own work for it",
    "exit": "taking an exit, finding and chaining the fragment that comes next",
    "translate": "translating",
    "callout": "emulating instructions, without the devices they reach",
    "interrupt": "delivering interrupts and exceptions",
    "fault": "answering page faults: shadow entries, stores into code",
    "device": "devices, their backends and what the guest prints",
    "schedule": "deadlines: which device is due when",
    "chores": "the host's side: screen, input, limits",
    "idle": "sleeping, because guest time would outrun the wall's",
}
"""The parts of ``seconds``."""


class Account:
    """Seconds that belong to one part, and within it to a kind of callout or a device."""

    __slots__ = ("detail", "part", "seconds")

    def __init__(self, part: str, detail: str = "") -> None:
        self.part, self.detail, self.seconds = part, detail, 0.0


class Stopwatch:
    """Charges the time that passes to the account entered last.

    *wall* is a monotonic clock in seconds.  An entry costs one reading of it, about 0.15 µs.
    """

    __slots__ = ("_accounts", "_current", "_mark", "_start", "_wall", "outside", *PARTS)

    def __init__(self, wall: Callable[[], float] = perf_counter) -> None:
        self._wall = wall
        self._accounts: dict[tuple[str, str], Account] = {}
        for part in PARTS:
            setattr(self, part, self.account(part))
        self.outside = Account("outside")
        """Nobody's: what happens between the runs of a machine."""
        self._current = self.setup
        self._start = self._mark = wall()

    setup: Account
    tc: Account
    exit: Account
    translate: Account
    callout: Account
    interrupt: Account
    fault: Account
    device: Account
    schedule: Account
    chores: Account
    idle: Account

    def account(self, part: str, detail: str = "") -> Account:
        """The account of a part of ``PARTS``, or of a detail of it."""
        assert part in PARTS
        return self._accounts.setdefault((part, detail), Account(part, detail))

    def enter(self, account: Account) -> Account:
        """From now on time is charged to *account*; returns the one that it was charged to."""
        now = self._wall()
        before = self._current
        before.seconds += now - self._mark
        self._mark = now
        self._current = account
        return before

    def timed(self, account: Account, call: Callable[P, R]) -> Callable[P, R]:
        """*call*, charged to *account*."""

        def charged(*arguments: P.args, **keywords: P.kwargs) -> R:
            before = self.enter(account)
            try:
                return call(*arguments, **keywords)
            finally:
                self.enter(before)

        return charged

    def began(self, start: float) -> None:
        """Making the machine has begun at *start* by the clock, earlier than this stopwatch."""
        self.setup.seconds += self._start - start
        self._start = start

    @property
    def total(self) -> float:
        """Seconds since the start that are somebody's."""
        self.enter(self._current)
        return self._mark - self._start - self.outside.seconds

    def parts(self) -> dict[str, float]:
        """Seconds by part, up to now."""
        self.enter(self._current)
        sums = dict.fromkeys(PARTS, 0.0)
        for account in self._accounts.values():
            sums[account.part] += account.seconds
        return sums

    def details(self, part: str) -> Iterator[tuple[str, float]]:
        """Details of a part that took any time, and their seconds."""
        for account in self._accounts.values():
            if account.part == part and account.detail and account.seconds:
                yield account.detail, account.seconds
