"""What the command lines of the suites share: the choice of items and machines, the report, the exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from perf.comparison import Comparison
from perf.kernels.build import BuildError
from perf.peer import Peer, System
from perf.peers import peers
from vmm.config import check_output
from vmm.errors import ImageError, UsageError
from vmm.files import write_whole

M = TypeVar("M", Peer, System)

ROUNDS = 3
SLOW = {"bochs"}
"""Machines that run in the first round only: an interpreter's figures take long and are steady."""


def pick(given: str, known: Sequence[str], what: str) -> list[str]:
    """The names in *given*, separated by commas, each once.  Raises ``UsageError`` for one that is not known."""
    names = list(dict.fromkeys(given.split(",")))
    for name in names:
        if name not in known:
            raise UsageError(f"there is no {what} {name!r}; there are {', '.join(known)}")
    return names


def machines_of(given: str | None, quick: bool = False) -> list[Peer]:
    """The machines of that name (all, if ``None``, but the slow ones if *quick*) that are installed.

    Those that are left out are named on stderr.

    Raises ``UsageError`` for a name that is not known, and if none is left.
    """
    available = peers()
    names = list(available) if given is None else pick(given, tuple(available), "machine")
    found = []
    for name in names:
        if reason := "--quick" if quick and given is None and name in SLOW else available[name].missing():
            print(f"{name} is left out: {reason}", file=sys.stderr)
        else:
            found.append(available[name])
    if not found:
        raise UsageError("none of the machines is installed")
    return found


def in_turn(machines: Sequence[M], rounds: int) -> Iterator[list[M]]:
    """The machines of each round, in the order in which they run."""
    for round_ in range(rounds):
        yield [machine for machine in machines if not round_ or machine.name not in SLOW]


def choose(items: str, known: Sequence[str], machines: str | None, rounds: int) -> tuple[list[str], list[Peer]]:
    """The items and machines of a command line.  Raises ``UsageError``."""
    if rounds < 1:
        raise UsageError("--rounds: at least 1")
    return pick(items, known, "benchmark"), machines_of(machines)


def command_line(
    name: str,
    text: str | None,
    measure: Callable[[Sequence[Peer], argparse.Namespace], Comparison],
    arguments: Sequence[str] | None,
    extend: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """``python -m perf.NAME``: *measure* on the machines that are asked for; the exit status, as ``finish`` has it.

    *text* begins with what the suite does; *extend* may add options.
    """
    parser = argparse.ArgumentParser(prog=f"python -m perf.{name}", description=(text or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peers", help="all that are installed, if not given")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--json", type=Path, help="write the figures to a file as well")
    extend(parser)
    given = parser.parse_args(arguments)

    def checked() -> Comparison:
        if given.rounds < 1:
            raise UsageError("--rounds: at least 1")
        return measure(machines_of(given.peers, given.quick), given)

    return finish(checked, given.json)


def finish(measure: Callable[[], Comparison], file: Path | None) -> int:
    """Measure, show, write *file*; status 0, 1 if a run failed or differed, 2 if nothing could be measured."""
    try:
        if file:
            check_output("--json", file)
        result = measure()
    except (BuildError, ImageError, UsageError) as error:
        print(error, file=sys.stderr)
        return 2
    result.show(Console())
    if file:
        write_whole(file, (json.dumps(result.as_dict(), indent=2) + "\n").encode())
    return 1 if result.errors else 0
