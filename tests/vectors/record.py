"""Records the vectors: ``python -m tests.vectors.record`` (Linux on x86, gcc -m32, nasm, Bochs and QEMU are needed).

Every row of the rule table is instantiated in every mode (``generate``); the real CPU, Bochs, QEMU and plain Unicorn
run each case.  The outcome is that of the most trusted oracle that can judge it; who agrees and who does not is kept.
The engine then runs all of them: one that fails for no known reason is printed, and nothing is written.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Final

from tests.support.engine import BareEngine
from tests.support.oracles import ORACLES, Oracle
from tests.support.state import ENVIRONMENTS, Environment, Outcome, describe
from tests.vectors import known, store, undefined
from tests.vectors.generate import vectors
from tests.vectors.store import Recorded
from tests.vectors.vector import PAGE_FAULT, Vector
from translator.rules import rows

INSTANCES: Final = 3
"""Vectors of each form of each row in each mode."""
TRUSTED: Final = ("cpu", "bochs", "qemu", "unicorn")
"""The oracles, the most trusted first."""
_BY_RING: Final = frozenset(("cli", "sti", "popf", "pushf"))
"""Handlers and emitters that ring 3 does otherwise than ring 0."""
_TRAPS: Final = frozenset(("int3", "int_n", "int1", "into", "iret"))
"""Those that virtual-8086 mode leaves to ring 0, or that take its ring from the stack."""


def can_judge(oracle: Oracle, vector: Vector) -> bool:
    """Whether *oracle* runs the vector as its mode says, or in a way that this row cannot tell from it."""
    environment, row = vector.case.environment, vector.row
    if environment.system:  # QEMU lets CR0.PG be set without PE, and is gone
        return oracle.name == "bochs" or (oracle.name == "qemu" and row.how != "mov_to_cr")
    if oracle.name == "unicorn":  # it knows no ring, nor our descriptors
        refused = row.privileged if not environment.v86 else row.privileged == "P" or row.how in _TRAPS
        return oracle.can(environment) and not (environment.user and refused and row.how not in _BY_RING)
    if oracle.name == "cpu" and (row.how == "sysenter" or (row.key, "m" if vector.memory else "r") in _MAKERS):
        return False
    if not environment.user and (row.privileged == "P" or row.how in _BY_RING):
        return False
    return oracle.can(environment) or environment.name == "flat32"


_MAKERS: Final = undefined.MAKERS_DIFFER


def outcomes(oracle: Oracle, subjects: list[Vector]) -> list[Outcome | None]:
    """What *oracle* says of each; None where it cannot judge."""
    mine = [n for n, vector in enumerate(subjects) if can_judge(oracle, vector)]
    found: list[Outcome | None] = [None] * len(subjects)
    for n, outcome in zip(mine, oracle.run_cases([subjects[n].case for n in mine]), strict=True):
        found[n] = outcome
    return found


def agree(vector: Vector, expected: Outcome, other: Outcome, name: str) -> str:
    """The first difference between two oracles, or nothing."""
    if name == "unicorn":
        if isinstance(other.end, tuple) and isinstance(expected.end, tuple) and other.end[0] == expected.end[0]:
            other.end = expected.end  # it tells no error codes
        lines = vector.differences(expected, other, False)
    else:
        lines = vector.differences(expected, other)
    return lines[0] if lines else ""


def combine(vector: Vector, answers: dict[str, Outcome | None]) -> Recorded | None:
    """The recorded vector; None if nobody can judge it, or if it is about memory that only some machines have."""
    given = {name: outcome for name in TRUSTED if (outcome := answers.get(name)) is not None}
    if not given:
        return None
    first = next(iter(given))
    expected = given.pop(first)
    if not vector.case.environment.paged and isinstance(expected.end, tuple) and expected.end[0] == PAGE_FAULT:
        return None
    found = Recorded(vector, expected, (first,))
    for name, outcome in given.items():
        if line := agree(vector, expected, outcome, name):
            found.disputed[name] = line
        else:
            found.oracles = (*found.oracles, name)
    return found


def record(environment: Environment, oracles: list[Oracle], instances: int) -> list[Recorded]:
    """All vectors of one mode."""
    subjects = [vector for row in rows() for vector in vectors(row, environment, instances)]
    answers = {oracle.name: outcomes(oracle, subjects) for oracle in oracles}
    found = [combine(v, {name: given[n] for name, given in answers.items()}) for n, v in enumerate(subjects)]
    return [each for each in found if each is not None]


def judge(found: list[Recorded]) -> list[str]:
    """Run the engine: marks known deviations, returns a text for each other failure."""
    engine = BareEngine()
    wrong = []
    for each in found:
        got = engine.run_case(each.vector.case)
        lines = each.vector.differences(each.expected, got, False)
        each.deviation = (known.reason(each.vector, each.expected, got) or "") if lines else ""
        if lines and not each.deviation:
            row = each.vector.row
            wrong.append("\n    ".join((f"{row.key} {row.name} {each.oracles}", describe(each.vector.case), *lines)))
    return wrong


def main() -> int:
    """The command.  1: something is wrong, and nothing was written."""
    parser = argparse.ArgumentParser(prog="python -m tests.vectors.record")
    parser.add_argument("--mode", action="append", choices=list(ENVIRONMENTS), help="only these; nothing is written")
    parser.add_argument("--instances", type=int, default=INSTANCES)
    arguments = parser.parse_args()
    oracles = [ORACLES[name]() for name in TRUSTED]
    found: list[Recorded] = []
    try:
        for name in arguments.mode or ENVIRONMENTS:
            made = record(ENVIRONMENTS[name], oracles, arguments.instances)
            by = Counter(len(each.oracles) for each in made)
            print(f"{name}: {len(made)} vectors, confirmed by {dict(sorted(by.items()))} oracles", flush=True)
            found += made
    finally:
        for oracle in oracles:
            oracle.close()
    wrong = judge(found)
    print(*wrong[:40], sep="\n")
    print(f"{len(found)} vectors, {len(wrong)} wrong, {sum(bool(e.deviation) for e in found)} known deviations")
    if wrong:
        return 1
    if not arguments.mode:
        store.write(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
