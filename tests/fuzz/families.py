"""Families of random programs: what their lines may be, in which mode they run, and who judges them.

A program of a family is made from a number alone, so that a seed and a number name it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from tests.fuzz.program import CHANGING, COMPUTING, STEADY, VECTOR, Kind, Line, case, loop_while
from tests.support.state import ENVIRONMENTS, Case

MAX_LINES: Final = 30
MAX_INSNS: Final = 400


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of program."""

    name: str
    mode: str
    kinds: tuple[Kind, ...]
    oracles: tuple[str, ...]
    share: int
    """How many of a hundred programs."""
    media: bool = False
    """x87 and SSE registers are compared."""
    cpu_mode: str = ""
    """The mode that the real CPU runs it in, if it cannot run the family's own: one with the same segments."""


def _without_loops(kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    """Unicorn's own LOOPE and LOOPNE lose flags where ECX becomes zero."""
    return tuple(kind for kind in kinds if kind is not loop_while)


BOTH: Final = ("cpu", "unicorn")
FAMILIES: Final = (
    Family("flat", "flat32u", _without_loops(STEADY), BOTH, 42),
    Family("flat, changing itself", "flat32u", _without_loops(CHANGING), BOTH, 26),
    Family("SSE", "flat32u", _without_loops(VECTOR), BOTH, 4, media=True),
    Family("flat, with media", "flat32", COMPUTING, ("unicorn",), 3, media=True),
    Family("real mode", "real16", _without_loops(STEADY), BOTH, 4, cpu_mode="prot16"),
    Family("real mode, with media", "real16", COMPUTING, ("unicorn",), 1, media=True, cpu_mode="prot16"),
    Family("16 bits", "prot16", STEADY, ("cpu",), 4),
    Family("16 bits, changing itself", "alias16", CHANGING, ("cpu",), 5),
    Family("LOOPE and LOOPNE", "flat32u", STEADY, ("cpu",), 3),
    Family("bases", "based32", STEADY, ("cpu",), 3),
    Family("limits", "limited32", STEADY, ("cpu",), 2),
    Family("limits, 16 bits", "limited16", STEADY, ("cpu",), 1),
    Family("mixed, 16 bits", "mixed16", STEADY, ("cpu",), 1),
    Family("mixed, 32 bits", "mixed32", STEADY, ("cpu",), 1),
)
assert sum(family.share for family in FAMILIES) == 100
_WHEEL: Final = tuple(family for family in FAMILIES for _ in range(family.share))


@dataclass(frozen=True, slots=True)
class Program:
    """A program before it is laid out."""

    family: Family
    lines: tuple[Line, ...]
    seed: int
    """Of the registers."""

    def for_cpu(self, case: Case) -> Case:
        """*case* as the real CPU runs it."""
        mode = self.family.cpu_mode
        return replace(case, environment=ENVIRONMENTS[mode]) if mode else case

    def case(self) -> Case:
        """The program in memory."""
        family = self.family
        found = case(ENVIRONMENTS[family.mode], family.kinds, self.lines, self.seed, MAX_INSNS)
        return found if family.media else replace(found, fx=b"")


def program(seed: int, number: int) -> Program:
    """Program *number* of *seed*."""
    dice = Random(seed << 32 | number)
    family = dice.choice(_WHEEL)
    lines = tuple((dice.randrange(256), dice.randrange(1 << 16)) for _ in range(dice.randint(1, MAX_LINES)))
    return Program(family, lines, dice.randrange(1 << 16))
