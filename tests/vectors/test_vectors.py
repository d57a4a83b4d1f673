"""Every row of the rule table that becomes host code, in every mode, against plain Unicorn or the real CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from tests.support.engine import BareEngine
from tests.support.plain import PlainUnicorn
from tests.support.silicon import Silicon
from tests.support.state import ENVIRONMENTS, Case, Environment, Outcome, describe
from tests.vectors import undefined
from tests.vectors.generate import Vector, vectors
from translator.rules import Row, rows

INSTANCES = 3
"""Vectors of each form of each row in each mode."""
BCD = frozenset(("daa", "das", "aaa", "aas", "aam", "aad", "salc"))
MODES = {name: e for name, e in ENVIRONMENTS.items() if name != "alias16"}
GROUPS = [(0, n) for n in range(16)] + [(1, n) for n in range(16)]
"""Opcode map and high nibble: a test each."""


class Oracle(Protocol):
    def run_cases(self, cases: list[Case]) -> list[Outcome]: ...


@pytest.fixture(scope="module")
def engine() -> BareEngine:
    return BareEngine()


@pytest.fixture(scope="module")
def oracles() -> Iterator[dict[str, Oracle | str]]:
    """The oracle of each environment, or why there is none."""
    try:
        silicon: Silicon | str = Silicon()
    except OSError as reason:
        silicon = str(reason)
    flat, real = PlainUnicorn(False), PlainUnicorn(True)
    plain = {"flat32": flat, "real16": real, "v86": real}
    yield {name: plain.get(name, silicon) for name in MODES}
    if isinstance(silicon, Silicon):
        silicon.close()


def translated(map_: int, nibble: int) -> list[Row]:
    """Rows of a group that the translator turns into host code, and the decimal adjustments.

    Not VERW, which asks descriptor tables, and not MOV from control registers.
    """
    found = [r for r in rows() if r.map == map_ and r.opcode >> 4 == nibble and r.how not in ("verw", "mov_from_cr")]
    return [r for r in found if r.treatment in ("ident", "emulate", "branch") or r.how in BCD]


def judge(vector: Vector, expected: Outcome, got: Outcome, plain: bool) -> list[str]:
    """What is wrong with *got*, a line each."""
    name, environment = vector.row.name, vector.case.environment
    if plain:
        if expected.end == (14, 0):
            return []  # outside the windows: the engine has memory there
        beyond = (
            vector.reach > 0xFFFF
            and environment.segments[0].limit == 0xFFFF
            and vector.row.how not in ("nop", "string")
        )
        refused = got.end in ((12, 0), (13, 0)) and got.eip == vector.eip
        if beyond:  # plain Unicorn checks no limits
            return [] if refused and not got.memory else [f"end: {got.end}"]
        if refused and vector.row.how in ("string", "maskmov") and environment.segmented:
            return []
    found = vector.differences(expected, got)
    if plain and any(vector.case.at <= at < vector.case.at + len(vector.case.code) for at in expected.memory):
        found = [line for line in found if not line.startswith("retired")]  # it counts what it starts over
    if not plain:
        hidden = ("fsw", "mxcsr", *(("st", "xmm", "ftw") if name in undefined.APPROXIMATE else ()))
        found = [line for line in found if not line.startswith(hidden)]  # Unicorn keeps no exception flags
    if name == "CMPS" and {expected.end, got.end} == {(12, 0), (13, 0)}:
        found = [line for line in found if not line.startswith("end")]  # both operands fault: CPUs differ in the order
    if isinstance(expected.end, tuple) and name in undefined.SEVERAL_STORES:
        found = [line for line in found if line.startswith(("end", "eip"))]
    return found


def chosen(row: Row, environment: Environment, plain: bool) -> list[Vector]:
    """Vectors of *row* that this oracle can judge."""
    if plain and (row.name in undefined.PLAIN_DIFFERS or row.key in undefined.PLAIN_DIFFERS_KEYS):
        return []
    if not plain and row.name in undefined.HOST_DIFFERS:
        return []
    found = list(vectors(row, environment, INSTANCES))
    if (row.key, "r") in undefined.MAKERS_DIFFER:
        found = [v for v in found if v.memory]
    if plain and row.name == "NEG":
        found = [v for v in found if 0xF0 not in v.case.code[:6]]  # LOCK NEG leaves wrong flags in Unicorn
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("group", GROUPS, ids=[f"{'0F ' if m else ''}{n:X}x" for m, n in GROUPS])
@pytest.mark.parametrize("environment", list(MODES.values()), ids=list(MODES))
def test_like_the_oracle(
    engine: BareEngine, oracles: dict[str, Oracle | str], environment: Environment, group: tuple[int, int]
) -> None:
    oracle = oracles[environment.name]
    if isinstance(oracle, str):
        pytest.skip(oracle)
    plain = isinstance(oracle, PlainUnicorn)
    found = [v for row in translated(*group) for v in chosen(row, environment, plain)]
    outcomes = oracle.run_cases([v.case for v in found])
    wrong = []
    for vector, expected in zip(found, outcomes, strict=True):
        lines = judge(vector, expected, engine.run_case(vector.case), plain)
        if lines:
            wrong.append("\n    ".join((f"{vector.row.key} {vector.row.name}: {describe(vector.case)}", *lines)))
    assert not wrong, f"{len(wrong)} of {len(found)}\n" + "\n".join(wrong[:5])
