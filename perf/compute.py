"""Compute kernels on our machine, plain Unicorn and QEMU's TCG, in one run and in turn.

``python -m perf.compute [--rounds N] [--kernels A,B] [--peers A,B] [--json FILE]`` prints the medians and the ratios:
*n* times a peer's speed means that we need 1/*n* of its seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perf.kernels.build import KERNELS, BuildError, build
from perf.peers import Ours, Peer, PeerError, peers
from vmm.files import write_whole

ROUNDS = 3


@dataclass
class Comparison:
    """Seconds of every run: kernel -> peer -> one number a round.  What failed is missing."""

    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def median(self, kernel: str, peer: str) -> float | None:
        """The median of the rounds, or ``None`` if there is none."""
        runs = self.seconds.get(kernel, {}).get(peer)
        return statistics.median(runs) if runs else None

    def ratio(self, kernel: str, peer: str) -> float | None:
        """How many times the peer's speed ours is."""
        ours, theirs = self.median(kernel, Ours.name), self.median(kernel, peer)
        return theirs / ours if ours and theirs else None

    def mean_ratio(self, peer: str) -> float | None:
        """The geometric mean over the kernels that both ran."""
        ratios = [ratio for kernel in self.seconds if (ratio := self.ratio(kernel, peer))]
        return statistics.geometric_mean(ratios) if ratios else None


def compare(kernels: Sequence[str], machines: Sequence[Peer], rounds: int) -> Comparison:
    """Run every kernel on every machine, in turn, *rounds* times; all must print the same."""
    result = Comparison()
    printed: dict[str, tuple[str, str]] = {}
    for _ in range(rounds):
        for kernel in kernels:
            image = build(kernel)
            rows = result.seconds.setdefault(kernel, {})
            for machine in machines:
                try:
                    run = machine.run(image)
                except PeerError as error:
                    result.errors.append(f"{kernel}: {error}")
                    continue
                first, output = printed.setdefault(kernel, (machine.name, run.output))
                if run.output != output:
                    result.errors.append(f"{kernel}: {machine.name} prints {run.output!r}, {first} {output!r}")
                    continue
                rows.setdefault(machine.name, []).append(run.seconds)
    return result


def show(result: Comparison, names: Sequence[str], console: Console) -> None:
    """The table of medians and ratios."""
    others = [name for name in names if name != Ours.name]
    table = Table(title="Compute kernels: seconds (medians), and our speed as a multiple of the peer's")
    table.add_column("kernel")
    for name in names:
        table.add_column(f"{name} s", justify="right")
    for name in others:
        table.add_column(f"x {name}", justify="right")

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    for kernel in result.seconds:
        medians = [number(result.median(kernel, name), 3) for name in names]
        table.add_row(kernel, *medians, *(number(result.ratio(kernel, name), 2) for name in others))
    if Ours.name in names:
        table.add_section()
        means = [number(result.mean_ratio(name), 2) for name in others]
        table.add_row("geometric mean", *([""] * len(names)), *means)
    console.print(table)
    for error in dict.fromkeys(result.errors):
        console.print(error, markup=False)


def as_json(result: Comparison, names: Sequence[str]) -> str:
    """Everything measured, for a later reader."""
    others = [name for name in names if name != Ours.name]
    report = {
        "seconds": result.seconds,
        "ratios": {name: {kernel: result.ratio(kernel, name) for kernel in result.seconds} for name in others},
        "geometric_means": {name: result.mean_ratio(name) for name in others},
        "errors": result.errors,
    }
    return json.dumps(report, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed or differed, 2 for a wrong name."""
    available = peers()
    parser = argparse.ArgumentParser(prog="python -m perf.compute", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--kernels", default=",".join(KERNELS), help=f"of {', '.join(KERNELS)}")
    parser.add_argument("--peers", default=",".join(available), help=f"of {', '.join(available)}")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args(arguments)
    kernels, names = given.kernels.split(","), given.peers.split(",")
    if given.rounds < 1:
        parser.error("--rounds: at least 1")
    for name, known in (*((name, KERNELS) for name in kernels), *((name, tuple(available)) for name in names)):
        if name not in known:
            parser.error(f"there is no {name!r}; there are {', '.join(known)}")
    console = Console()
    machines = []
    for name in names:
        if reason := available[name].missing():
            console.print(f"{name} is left out: {reason}", markup=False)
        else:
            machines.append(available[name])
    try:
        result = compare(kernels, machines, given.rounds)
    except BuildError as error:
        parser.error(str(error))
    show(result, [machine.name for machine in machines], console)
    if given.json:
        write_whole(given.json, as_json(result, names).encode())
    return 1 if result.errors else 0


if __name__ == "__main__":
    sys.exit(main())
