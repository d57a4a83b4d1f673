"""What one operation costs: system call, fault, port, privileged instruction, page table change.

``python -m perf.nano [--rounds N] [--operations A,B] [--peers A,B] [--quick] [--json FILE]`` prints nanoseconds an
operation: the seconds of a guest that executes it many times (``perf/operations``), less those of a guest with as
many rounds of an empty loop, by the number.  The number is a power of two, chosen for each machine so that the
operations take about ``TARGET`` seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perf.comparison import Comparison
from perf.operations.build import EMPTY, OPERATIONS, build
from perf.peer import Peer, PeerError, Run
from perf.peers import Ours
from perf.suite import ROUNDS, choose, finish, in_turn

TARGET, QUICK_TARGET = 0.3, 0.08
"""Seconds that the operations of one run should take."""
FIRST_COUNT, LAST_COUNT = 1 << 10, 1 << 28
GROWTH = 1 << 6
"""Greatest step of the count while it is sought: a short time says little."""
EXCEPTIONS = {"syscall": 1, "sysenter": 1, "pgfault": 1, "divzero": 1}
"""Operations that the guest's handlers count, and how often each time."""
WITHOUT_EXCEPTIONS = {"unicorn"}
"""Machines that stop at an exception instead of delivering it to the guest."""
EXITS = "exits"
"""Exits to the monitor for each operation: 0 is emulation inside the translation cache."""

Builder = Callable[[str, int], Path]


@dataclass
class Meter:
    """Measures operations on one machine."""

    machine: Peer
    target: float
    builder: Builder = build
    counts: dict[str, int] = field(default_factory=dict)
    """The count found for each operation."""
    _empty: dict[int, Run] = field(default_factory=dict)
    """This round's run of the empty loop, by count."""

    def next_round(self) -> None:
        """Runs of the empty loop serve for one round, so that a change of the host's speed does not stay."""
        self._empty.clear()

    def cost(self, operation: str) -> tuple[float, float | None]:
        """Seconds and exits (if the machine tells) of one operation.  Raises ``PeerError`` and ``BuildError``."""
        if operation not in self.counts:
            self.counts[operation] = self._find_count(operation)
        count = self.counts[operation]
        run, empty = self._runs(operation, count)
        exits = None if run.exits is None or empty.exits is None else (run.exits - empty.exits) / count
        return (run.seconds - empty.seconds) / count, exits

    def _find_count(self, operation: str) -> int:
        count = FIRST_COUNT
        while count < LAST_COUNT:
            seconds = self._seconds(operation, count)
            if 2 * seconds > self.target:  # if it was no accident
                self._empty.pop(count)
                seconds = min(seconds, self._seconds(operation, count))
            wanted = self.target / max(seconds, 1e-9)
            if wanted < 2:
                break
            count = min(count * min(1 << int(wanted).bit_length() - 1, GROWTH), LAST_COUNT)
        return count

    def _seconds(self, operation: str, count: int) -> float:
        run, empty = self._runs(operation, count)
        return run.seconds - empty.seconds

    def _runs(self, operation: str, count: int) -> tuple[Run, Run]:
        if count not in self._empty:
            self._empty[count] = self.machine.run(self.builder(EMPTY, count))
        run = self.machine.run(self.builder(operation, count))
        expected = f"{EXCEPTIONS.get(operation, 0) * count:08x}"
        if run.output != expected:
            raise PeerError(f"{self.machine.name} prints {run.output!r}, not {expected!r}")
        return run, self._empty[count]


def compare(
    operations: Sequence[str], machines: Sequence[Peer], rounds: int, target: float = TARGET, builder: Builder = build
) -> Comparison:
    """Nanoseconds of every operation on every machine, in turn, *rounds* times.  Raises ``BuildError``."""
    result = Comparison("Nanobenchmarks", "nanoseconds", [machine.name for machine in machines], digits=1)
    meters = {machine.name: Meter(machine, target, builder) for machine in machines}
    for able in in_turn(machines, rounds):
        turn = [meters[machine.name] for machine in able]
        for meter in turn:
            meter.next_round()
        for operation in operations:
            result.values.setdefault(operation, {})
            for meter in turn:
                name = meter.machine.name
                if operation in EXCEPTIONS and name in WITHOUT_EXCEPTIONS:
                    continue
                try:
                    seconds, exits = meter.cost(operation)
                except PeerError as error:
                    result.errors.append(f"{operation}: {error}")
                    continue
                result.add(operation, name, seconds * 1e9)
                if exits is not None and name == Ours.name:
                    result.extra.setdefault(EXITS, {})[operation] = round(exits, 3)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed or differed, 2 for a wrong name."""
    parser = argparse.ArgumentParser(prog="python -m perf.nano", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--operations", default=",".join(OPERATIONS), help=f"of {', '.join(OPERATIONS)}")
    parser.add_argument("--peers", help="all that are installed, if not given")
    parser.add_argument("--quick", action="store_true", help="shorter runs, less exact")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args(arguments)

    def measure() -> Comparison:
        operations, machines = choose(given.operations, OPERATIONS, given.peers, given.rounds)
        return compare(operations, machines, given.rounds, QUICK_TARGET if given.quick else TARGET)

    return finish(measure, given.json)


if __name__ == "__main__":
    sys.exit(main())
