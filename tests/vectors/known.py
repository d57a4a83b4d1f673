"""Why a recorded vector is known to fail: reasons by name.  Each vector that fails bears one, and must fail.

``test_deviations.py`` has the smallest case of each, and those that the generator keeps clear of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.support.state import Outcome
from tests.vectors.vector import Vector

LIMIT_FAULTS: Final = ((12, 0), (13, 0))
"""Faults of segment limits, which we raise for data alone."""
Judge = Callable[[Vector, Outcome, Outcome], bool]


def _names(*names: str) -> Judge:
    return lambda vector, expected, got: vector.row.name in names


KNOWN: Final[dict[str, tuple[str, Judge]]] = {
    "FBSTP": ("Unicorn's FBSTP stores +0 for -0, and other digits for what does not fit", _names("FBSTP")),
}
"""Name: (reason, what it covers).  The first that covers a failure is its reason."""


def reason(vector: Vector, expected: Outcome, got: Outcome) -> str | None:
    """The name of the reason for a failure, if it is a known one."""
    return next((name for name, (_, covers) in KNOWN.items() if covers(vector, expected, got)), None)
