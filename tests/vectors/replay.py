"""Recorded vectors on the engine: what fails, and what is known to and does not."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.engine import BareEngine
from tests.support.state import describe
from tests.vectors.known import KNOWN
from tests.vectors.store import Recorded


def failure(engine: BareEngine, recorded: Recorded) -> list[str]:
    """What is wrong, a line each: differences, or that a known deviation is none any more."""
    vector = recorded.vector
    try:
        got = engine.run_case(vector.case)
    except Exception as error:  # it goes on, with the name of the vector
        error.add_note(named(recorded))
        raise
    lines = vector.differences(recorded.expected, got, False)
    if not recorded.deviation:
        return lines
    return (
        []
        if lines
        else [f"passes, but is recorded as deviation {recorded.deviation!r}: {KNOWN[recorded.deviation][0]}"]
    )


def named(recorded: Recorded) -> str:
    """The vector for people: row, who confirmed it, mode, registers and disassembly."""
    row = recorded.vector.row
    return f"{row.key} {row.name} (confirmed by {', '.join(recorded.oracles)}): {describe(recorded.vector.case)}"


def failures(engine: BareEngine, recorded: Iterable[Recorded]) -> list[str]:
    """A text for each vector that fails."""
    pairs = ((each, failure(engine, each)) for each in recorded)
    return ["\n    ".join((named(each), *lines)) for each, lines in pairs if lines]
