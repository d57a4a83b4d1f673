"""The suites one after the other, as tables, JSON and a chart: what ``vmm bench`` runs."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from perf import boots, compute, macro, nano, scale, startup
from perf.comparison import Comparison
from perf.kernels.build import KERNELS, BuildError
from perf.operations.build import OPERATIONS
from perf.peer import Peer
from perf.suite import ROUNDS, machines_of, pick
from vmm.config import check_output
from vmm.errors import ExitStatus, ImageError, UsageError
from vmm.files import write_whole


@dataclass(slots=True)
class Settings:
    """What to measure, and where the figures go."""

    suites: str = ""
    """Names separated by commas; empty: all."""
    peers: str | None = None
    rounds: int | None = None
    """``None``: ``ROUNDS``, or 1 if *quick*."""
    quick: bool = False
    json: Path | None = None
    chart: Path | None = None


Suite = Callable[[Sequence[Peer], int, bool], Comparison]


def _compute(machines: Sequence[Peer], rounds: int, quick: bool) -> Comparison:
    return compute.compare(compute.QUICK if quick else KERNELS, machines, rounds)


def _nano(machines: Sequence[Peer], rounds: int, quick: bool) -> Comparison:
    return nano.compare(OPERATIONS, machines, rounds, nano.QUICK_TARGET if quick else nano.TARGET)


SUITES: dict[str, Suite] = {
    "startup": startup.compare,
    "compute": _compute,
    "nano": _nano,
    "scale": scale.compare,
    "boots": boots.compare,
    "macro": macro.compare,
}


def bench(settings: Settings) -> int:
    """Run the suites; status 0, or ``DIFFERS`` if a run failed or printed something else.

    A suite that lacks something (a compiler, a guest) is named on stderr and left out.  Raises ``UsageError``, also if
    nothing is left.
    """
    if not KERNELS:
        raise UsageError("the benchmarks' sources are not here; they are only in a checkout")
    suites = pick(settings.suites, tuple(SUITES), "suite") if settings.suites else list(SUITES)
    for option, file in (("--json", settings.json), ("--chart", settings.chart)):
        if file:
            check_output(option, file)
    if settings.chart:
        chart_maker()
    rounds = settings.rounds or (1 if settings.quick else ROUNDS)
    machines = machines_of(settings.peers, settings.quick)
    console = Console()
    results: dict[str, Comparison] = {}
    for name in suites:
        try:
            results[name] = SUITES[name](machines, rounds, settings.quick)
        except (BuildError, ImageError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        results[name].show(console)
        write(settings, rounds, results)  # what is there stays, if a later suite is interrupted
    if not results:
        raise UsageError("no suite can run here")
    return int(ExitStatus.DIFFERS) if any(result.errors for result in results.values()) else 0


def write(settings: Settings, rounds: int, results: dict[str, Comparison]) -> None:
    """Write the files that are asked for."""
    report = {
        "host": {"processor": platform.machine(), "processors": os.cpu_count(), "python": platform.python_version()},
        "rounds": rounds,
        "suites": {name: result.as_dict() for name, result in results.items()},
    }
    if settings.json:
        write_whole(settings.json, (json.dumps(report, indent=2) + "\n").encode())
    if settings.chart:
        write_whole(settings.chart, chart_maker()(list(results.values())))


def chart_maker() -> Callable[[Sequence[Comparison]], bytes]:
    """``perf.chart.png``.  Raises ``UsageError`` without Pillow."""
    try:
        from perf.chart import png
    except ImportError:
        raise UsageError("--chart needs the Python package Pillow") from None
    return png
