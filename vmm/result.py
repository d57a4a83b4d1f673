"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a run, as the command line reports it."""

    status: int
    """An ``ExitStatus``, or the guest's own odd status ``(v << 1) | 1`` (isa-debug-exit)."""
    reason: str
    """One sentence that says why, without a full stop."""
    insns: int = 0
    """Guest instructions retired."""
    seconds: float = 0.0
    """Wall time of the run."""
