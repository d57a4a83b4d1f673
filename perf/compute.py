"""Compute kernels on our machine, plain Unicorn and QEMU's TCG, in one run and in turn.

``python -m perf.compute [--rounds N] [--kernels A,B] [--peers A,B] [--json FILE]`` prints the medians and the ratios:
*n* times a peer's speed means that we need 1/*n* of its seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from perf.comparison import Comparison
from perf.kernels.build import KERNELS, build
from perf.peer import Peer, PeerError
from perf.suite import ROUNDS, choose, finish, in_turn

QUICK = ("fib", "records", "strings")
"""A few kernels of different kinds, for a first impression."""


def compare(
    kernels: Sequence[str], machines: Sequence[Peer], rounds: int, builder: Callable[[str], Path] = build
) -> Comparison:
    """Run every kernel on every machine, in turn, *rounds* times; all must print the same.  Raises ``BuildError``."""
    result = Comparison("Compute kernels", "seconds", [machine.name for machine in machines])
    printed: dict[str, tuple[str, str]] = {}
    for able in in_turn(machines, rounds):
        for kernel in kernels:
            image = builder(kernel)
            result.values.setdefault(kernel, {})
            for machine in able:
                try:
                    run = machine.run(image)
                except PeerError as error:
                    result.errors.append(f"{kernel}: {error}")
                    continue
                first, output = printed.setdefault(kernel, (machine.name, run.output))
                if run.output != output:
                    result.errors.append(f"{kernel}: {machine.name} prints {run.output!r}, {first} {output!r}")
                    continue
                result.add(kernel, machine.name, run.seconds)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed or differed, 2 for a wrong name."""
    parser = argparse.ArgumentParser(prog="python -m perf.compute", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--kernels", default=",".join(KERNELS), help=f"of {', '.join(KERNELS)}")
    parser.add_argument("--peers", help="all that are installed, if not given")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args(arguments)

    def measure() -> Comparison:
        kernels, machines = choose(given.kernels, KERNELS, given.peers, given.rounds)
        return compare(kernels, machines, given.rounds)

    return finish(measure, given.json)


if __name__ == "__main__":
    sys.exit(main())
