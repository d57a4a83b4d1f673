"""Whole guests: Linux with what a user does with it, and the disk; the same under every machine that can.

``python -m perf.macro [--rounds N] [--steps A,B] [--peers A,B] [--quick] [--json FILE]``.  Each step is timed from the
line that the guest prints on COM1 before it to the next such line, by the wall, outside the machine; "boot" is from the
start of the process to the first line.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from perf.bare.build import build
from perf.comparison import Comparison
from perf.linux.build import initrd
from perf.peer import Job, Line, Peer, PeerError, System, converse
from perf.suite import command_line, in_turn
from perf.whole import RESULT
from vmm import guests

MARK = "@"
END = f"^{MARK}end"
APPEND = "console=ttyS0 quiet loglevel=0 panic=-1 cryptomgr.notests"
STEPS = (
    "forkwait:40000",
    "exec:200",
    "syscall:50000",
    "shell:20000",
    "work:4",
    "screen:2000",
    "ring:4000:2",
    "ring:4000:16",
    "ring:4000:128",
)
"""What the first process is told (``perf/linux/init.c``): how often, and among how many processes."""
QUICK = ("forkwait:200", "syscall:1000", "shell:500", "ring:200:2")
DISK, QUICK_DISK = 16, 1
"""MiB that are read."""
SECONDS = 3600.0
"""No guest takes so long."""


def timeline(lines: Sequence[Line]) -> Iterator[tuple[str, float, list[str]]]:
    """The steps with their seconds and what the guest printed in them; "boot" comes first."""
    name, start, said = "boot", 0.0, list[str]()
    for line in lines:
        if line.text.startswith(MARK):
            yield name, line.at - start, said
            name, start, said = line.text.removeprefix(MARK), line.at, []
        elif name != "boot":
            said.append(line.text)
    yield name, lines[-1].at - start, said


def _linux(steps: Sequence[str]) -> tuple[Job, str]:
    append = " ".join([APPEND, "--", *steps])
    return Job(guests.path("debian-i386-kernel"), append, initrd()), END


def disk(mebibytes: int, folder: Path) -> tuple[Job, str]:
    image = folder / "disk.img"
    image.write_bytes(Random(mebibytes).randbytes(mebibytes << 20))
    return Job(build("disk.c", MEBIBYTES=mebibytes), memory=64, multiboot=True, disk=image), RESULT


def compare(
    machines: Sequence[Peer], rounds: int, quick: bool = False, steps: Sequence[str] | None = None
) -> Comparison:
    """Seconds of every step, in turn, *rounds* times.  Raises ``BuildError`` and ``ImageError``."""
    systems: list[System] = [machine for machine in machines if isinstance(machine, System)]
    result = Comparison("Whole guests", "seconds", [machine.name for machine in systems], digits=2)
    wanted = steps or (QUICK if quick else STEPS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [_linux(wanted)]
        if steps is None:
            jobs.append(disk(QUICK_DISK if quick else DISK, folder))
        printed: dict[str, tuple[str, list[str]]] = {}
        for turn in in_turn(systems, rounds):
            for job, last in jobs:
                for machine in turn:
                    try:
                        found = list(timeline(converse(machine, job, last, folder, SECONDS).lines))
                    except PeerError as error:
                        result.errors.append(str(error))
                        continue
                    take(result, machine.name, found if job.initrd else found[1:], printed)
    return result


def take(
    result: Comparison,
    machine: str,
    found: Sequence[tuple[str, float, list[str]]],
    printed: dict[str, tuple[str, list[str]]],
) -> None:
    """Add a session's figures; all machines must have printed the same."""
    for step, seconds, said in found:
        if step == "end":
            continue
        first, expected = printed.setdefault(step, (machine, said))
        if said != expected:
            result.errors.append(f"{step}: {machine} prints {said}, {first} {expected}")
        else:
            result.add(step, machine, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed or differed, 2 for a wrong command line."""

    def extend(parser: ArgumentParser) -> None:
        parser.add_argument("--steps", help=f"as {','.join(STEPS)}; without the disk")

    def measure(machines: Sequence[Peer], given: Namespace) -> Comparison:
        return compare(machines, given.rounds, given.quick, given.steps.split(",") if given.steps else None)

    return command_line("macro", __doc__, measure, arguments, extend)


if __name__ == "__main__":
    sys.exit(main())
