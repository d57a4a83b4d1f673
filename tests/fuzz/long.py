"""The long fuzz run: ``python -m tests.fuzz.long --seed S --count N --jobs J`` (``make fuzz``).

Random programs run by binary translation and by two oracles, plain Unicorn and the real CPU.  The same seed makes the
same programs, whatever the number of jobs; a difference is shrunk and printed as assembly, and the status is then 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from typing import Final

from tests.fuzz.families import program
from tests.fuzz.judge import Judge, Verdicts
from tests.fuzz.shrink import text

BATCH: Final = 128
REPORT_SECONDS: Final = 30.0
SHOWN: Final = 20
"""Failures that are shrunk and printed, a job."""


def run(seed: int, first: int, last: int, name: str = "") -> Verdicts:
    """Judge programs [*first*, *last*) of *seed*, with a line of progress now and then."""
    judge, verdicts = Judge(), Verdicts()
    shown, start = 0, time.monotonic()
    reported = start
    try:
        for at in range(first, last, BATCH):
            end = min(at + BATCH, last)
            programs = [program(seed, n) for n in range(at, end)]
            programs.sort(key=lambda each: each.family.mode)  # a change of mode costs
            judge.run(programs, verdicts)
            for failed, lines in verdicts.failures[shown:SHOWN]:
                print(text(judge, failed, lines), flush=True)
            shown = len(verdicts.failures)
            now = time.monotonic()
            if now - reported > REPORT_SECONDS:
                reported = now
                rate = (end - first) / (now - start)
                print(f"{name}{end - first} programs, {shown} differences, {rate:.0f} a second", flush=True)
    finally:
        judge.close()
    return verdicts


def _job(arguments: tuple[int, int, int, str]) -> Verdicts:
    return run(*arguments)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.long", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first program")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args(argv)
    step = -(-given.count // given.jobs)
    last = given.first + given.count
    parts = [
        (given.seed, at, min(at + step, last), f"job {n}: " if given.jobs > 1 else "")
        for n, at in enumerate(range(given.first, last, step))
    ]
    start = time.monotonic()
    if given.jobs == 1:
        found = [run(*part) for part in parts]
    else:
        with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
            found = pool.map(_job, parts, chunksize=1)
    total = Verdicts()
    for each in found:
        total.counts.update(each.counts)
        total.failures += each.failures
    seconds = time.monotonic() - start
    print(f"seed {given.seed}: {given.count} programs from {given.first} in {seconds:.0f} s")
    for name, count in sorted(total.counts.items()):
        print(f"{count:9} {name}")
    print(f"{len(total.failures):9} unexplained differences")
    return bool(total.failures)


if __name__ == "__main__":
    sys.exit(main())
