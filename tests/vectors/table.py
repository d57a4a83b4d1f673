"""All instructions x oracles x modes: ``python -m tests.vectors.table`` runs the recorded vectors, prints what passes.

A line is a row of the rule table.  Under each mode: vectors that pass of those there are; under each oracle: how many
of the row's outcomes it confirmed.  Nothing is left out: rows and modes without vectors say why at the end, with the
outcomes that oracles disagree on and the deviations.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from tests.support.engine import BareEngine
from tests.support.state import ENVIRONMENTS
from tests.vectors import store
from tests.vectors.far import NOT_RECORDED, left_out
from tests.vectors.known import KNOWN
from tests.vectors.record import TRUSTED
from tests.vectors.replay import failure, named
from translator.rules import Row
from vmm.cli.tables import print_table

DEVIATIONS: Final = Path(__file__).with_name("test_deviations.py")


@dataclass(slots=True)
class Tally:
    """What became of one row's vectors."""

    made: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    confirmed: Counter[str] = field(default_factory=Counter)
    disputed: Counter[str] = field(default_factory=Counter)
    deviations: Counter[str] = field(default_factory=Counter)

    def cell(self, mode: str) -> str:
        made, passed = self.made[mode], self.passed[mode]
        return "-" if not made else str(made) if made == passed else f"{passed} of {made}"

    def line(self, row: Row) -> list[str]:
        oracles = [str(self.confirmed[name]) for name in TRUSTED]
        cells = [self.cell(mode) for mode in ENVIRONMENTS]
        return [row.key, row.name, row.treatment, *cells, *oracles, str(sum(self.disputed.values()))]


@dataclass(slots=True)
class Table:
    """All of it."""

    rows: dict[str, Tally]
    failed: list[str]
    """Vectors that fail and are not known to, for people."""

    def total(self) -> Tally:
        found = Tally()
        for tally in self.rows.values():
            for name in Tally.__slots__:
                getattr(found, name).update(getattr(tally, name))
        return found


def measure(recorded: list[store.Recorded]) -> Table:
    """Run the vectors on the engine and count."""
    rows: dict[str, Tally] = {name: Tally() for name in store.ROWS}
    names = {id(row): name for name, row in store.ROWS.items()}
    engine, failed = BareEngine(), []
    for each in recorded:
        tally, mode = rows[names[id(each.vector.row)]], each.vector.case.environment.name
        lines = failure(engine, each)
        tally.made[mode] += 1
        tally.passed[mode] += not lines and not each.deviation
        tally.confirmed.update(each.oracles)
        tally.disputed.update(each.disputed.keys())
        if each.deviation:
            tally.deviations[each.deviation] += 1
        if lines:
            failed.append("\n    ".join((named(each), *lines)))
    return Table(rows, failed)


def without_vectors(table: Table) -> dict[str, list[str]]:
    """Rows without a vector in some mode, by the reason."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, tally in table.rows.items():
        row = store.ROWS[name]
        for mode, environment in ENVIRONMENTS.items():
            if tally.made[mode]:
                continue
            if row.how in NOT_RECORDED:
                reason = f"but in system32, if that has it: {NOT_RECORDED[row.how]}"
            elif left_out(row, environment):
                reason = f"in {mode}: no oracle does there what this mode does, or another mode has it"
            else:
                reason = f"in {mode}: every instance reached memory that only some machines have, or none was found"
            label = f"{row.key} {row.name}"
            if label not in found[reason]:
                found[reason].append(label)
    return found


def strict_xfails() -> list[tuple[str, str]]:
    """(reason, test) of the expected failures of ``test_deviations.py``."""
    found = []
    for node in ast.parse(DEVIATIONS.read_text()).body:
        for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.xfail":
                reason = next(ast.literal_eval(k.value) for k in mark.keywords if k.arg == "reason")
                found.append((reason, node.name))
    return found


def show(table: Table, recorded: list[store.Recorded], file: TextIO) -> None:
    """Print the table and everything that is not in its cells."""
    total = table.total()
    lines = [tally.line(store.ROWS[name]) for name, tally in table.rows.items()]
    lines.append(["", "all", "", *(total.cell(m) for m in ENVIRONMENTS), *(str(total.confirmed[o]) for o in TRUSTED)])
    lines[-1].append(str(sum(total.disputed.values())))
    columns = ("opcode", "instruction", "treatment", *(f"{m}#" for m in ENVIRONMENTS), *(f"{o}#" for o in TRUSTED))
    print_table((*columns, "disputed#"), lines, file)
    by = Counter(len(each.oracles) for each in recorded)
    print(f"\n{len(recorded)} vectors; confirmed by", ", ".join(f"{n}: {by[n]}" for n in sorted(by)), file=file)
    print("\nOne oracle alone, or oracles that disagree (the outcome is the first's):", file=file)
    disputes: Counter[str] = Counter()
    for each in recorded:
        row = each.vector.row
        for oracle, line in each.disputed.items():
            disputes[f"{row.key} {row.name}: {oracle} against {each.oracles[0]}, {line.partition(':')[0]}"] += 1
        if len(each.oracles) + len(each.disputed) == 1:
            disputes[f"{row.key} {row.name}: {each.oracles[0]} alone in {each.vector.case.environment.name}"] += 1
    for text, count in sorted(disputes.items()):
        print(f"  {count:4} {text}", file=file)
    print("\nKnown deviations among the vectors (each must fail, or its test does):", file=file)
    for name, (reason, _) in KNOWN.items():
        print(f"  {total.deviations[name]:4} {name}: {reason}", file=file)
    print("\nStrict xfails (tests/vectors/test_deviations.py):", file=file)
    for reason, test in strict_xfails():
        print(f"       {test}: {reason}", file=file)
    print("\nRows without vectors:", file=file)
    for reason, names in sorted(without_vectors(table).items()):
        print(f"  {reason}: {', '.join(names)}", file=file)
    print(f"\n{len(table.failed)} failures that are not known", *table.failed, sep="\n", file=file)


def main() -> int:
    """The command.  1: a vector fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.vectors.table", description=__doc__)
    parser.add_argument("--mode", choices=list(ENVIRONMENTS), default="", help="the vectors of one mode only")
    recorded = store.read(parser.parse_args().mode)
    table = measure(recorded)
    show(table, recorded, sys.stdout)
    return bool(table.failed)


if __name__ == "__main__":
    sys.exit(main())
