"""When a run has to pause."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one run."""

    last_insn: int | None = None
    """Guest instructions since power-on."""
    insns_reason: str = ""
    deadline: float | None = None
    """By ``perf_counter``."""
    deadline_reason: str = ""

    @classmethod
    def of(
        cls, insns: int, max_insns: int | None, timeout: float | None, all_insns: int | None, all_timeout: float | None
    ) -> Limits:
        """The limits of a run that begins now, after *insns* instructions.

        *max_insns* and *timeout* (seconds) are the call's, *all_insns*, since power-on, and *all_timeout* the
        configuration's: the nearer ones count.
        """
        ends = [(insns + max_insns, f"{max_insns} instructions have retired")] if max_insns is not None else []
        if all_insns is not None:
            ends.append((all_insns, f"{all_insns} instructions have retired (--max-insns)"))
        times = [(timeout, f"{timeout:g} seconds have passed")] if timeout is not None else []
        if all_timeout is not None:
            times.append((all_timeout, f"{all_timeout:g} seconds have passed (--timeout)"))
        last, insns_reason = min(ends, default=(None, ""))
        seconds, deadline_reason = min(times, default=(None, ""))
        deadline = None if seconds is None else perf_counter() + seconds
        return cls(last, insns_reason, deadline, deadline_reason)

    def reached(self, insns: int) -> str:
        """Why the run has to pause after *insns* instructions; empty if it has not."""
        if self.last_insn is not None and insns >= self.last_insn:
            return self.insns_reason
        if self.deadline is not None and perf_counter() > self.deadline:
            return self.deadline_reason
        return ""
