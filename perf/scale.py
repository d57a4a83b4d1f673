"""How cost grows: with distinct code, with RAM, and, for ours, with a translation cache that is too small.

``python -m perf.scale [--rounds N] [--peers A,B] [--quick] [--json FILE]``: "code 4K" executes ``EXECUTED``
instructions of 4096 distinct ones, "ram 64M" touches every page of that much twice, "tc 2M" executes ``TC_INSNS``
distinct instructions ``TC_PASSES`` times with that ``--tc-size``.  "units" counts the units that ours translated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perf.bare.build import build
from perf.comparison import Comparison
from perf.peer import RAM, Peer, PeerError
from perf.peers import Ours
from perf.suite import command_line, in_turn

KIBI, MEBI = 1 << 10, 1 << 20
CODE = (1 * KIBI, 4 * KIBI, 16 * KIBI, 64 * KIBI, 256 * KIBI, 1024 * KIBI)
"""Distinct guest instructions."""
EXECUTED = 64 * MEBI
"""Instructions, however many of them are distinct."""
MEMORY = (16, 64, 256, 1024, 2048)
"""MiB of RAM."""
PASSES = 2
TC_INSNS, TC_PASSES = 64 * KIBI, 4
TC_SIZES = ("256K", "512K", "1M", "2M", "4M", "8M", "32M")
QUICK_CODE, QUICK_MEMORY, QUICK_TC_SIZES, QUICK_TC_INSNS = CODE[:2], MEMORY[:1], ("64K", "1M"), 16 * KIBI
UNITS = "units"
BELOW = {"v86": 2048 * MEBI}
"""Machines whose RAM has to be less."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement: what, the image, and what it needs."""

    item: str
    image: Path
    memory: int = RAM
    """Bytes."""
    tc_size: str = ""
    """Ours only, with this ``--tc-size``."""


def points(quick: bool) -> Iterator[Point]:
    """All points.  Raises ``BuildError``."""
    for insns in QUICK_CODE if quick else CODE:
        passes = EXECUTED // insns
        yield Point(f"code {insns // KIBI}K", build("code.S", INSNS=insns, PASSES=passes))
    for size in QUICK_MEMORY if quick else MEMORY:
        yield Point(f"ram {size}M", build("touch.c", MEBIBYTES=size, PASSES=PASSES), memory=size * MEBI)
    image = build("code.S", INSNS=QUICK_TC_INSNS if quick else TC_INSNS, PASSES=TC_PASSES)
    for tc_size in QUICK_TC_SIZES if quick else TC_SIZES:
        yield Point(f"tc {tc_size}", image, tc_size=tc_size)


def compare(
    machines: Sequence[Peer],
    rounds: int,
    quick: bool = False,
    measured: Callable[[bool], Iterator[Point]] = points,
) -> Comparison:
    """Seconds of every point, in turn, *rounds* times.  Raises ``BuildError``."""
    result = Comparison("Growth", "seconds", [machine.name for machine in machines])
    printed: dict[str, tuple[str, str]] = {}
    everything = list(measured(quick))
    for turn in in_turn(machines, rounds):
        for point in everything:
            result.values.setdefault(point.item, {})
            for machine in turn:
                if point.memory >= BELOW.get(machine.name, point.memory + 1):
                    continue
                if point.tc_size and machine.name != Ours.name:
                    continue
                if point.tc_size and isinstance(machine, Ours):
                    machine = Ours(machine.name, machine.folder, ("--tc-size", point.tc_size))
                try:
                    run = machine.run(point.image, point.memory)
                except PeerError as error:
                    result.errors.append(f"{point.item}: {error}")
                    continue
                first, output = printed.setdefault(point.item, (machine.name, run.output))
                if run.output != output:
                    result.errors.append(f"{point.item}: {machine.name} prints {run.output!r}, {first} {output!r}")
                    continue
                result.add(point.item, machine.name, run.seconds)
                if run.translations is not None:
                    result.extra.setdefault(UNITS, {})[point.item] = run.translations
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed or differed, 2 for a wrong command line."""
    return command_line("scale", __doc__, lambda found, given: compare(found, given.rounds, given.quick), arguments)


if __name__ == "__main__":
    sys.exit(main())
