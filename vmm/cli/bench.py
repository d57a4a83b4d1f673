"""``vmm bench``: the benchmarks of ``perf/``, ours beside other machines'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmm.cli.parse import Option, parse, print_help
from vmm.errors import UsageError

if TYPE_CHECKING:
    from perf.bench import Settings


def _rounds(settings: Settings, value: str) -> None:
    if not value.isdecimal() or int(value) < 1:
        raise UsageError(f"--rounds: {value!r} is not a number from 1 up")
    settings.rounds = int(value)


def _set(name: str, make: Callable[[str], object] = str) -> Callable[[Settings, str], None]:
    return lambda settings, value: setattr(settings, name, make(value))


_OPTIONS: tuple[Option[Settings], ...] = (
    Option(
        ("suite",), "NAMES", "of startup, compute, nano, scale, boots, macro, separated by commas (all)", _set("suites")
    ),
    Option(("rounds",), "N", "how often each is run; medians are printed (3)", _rounds),
    Option(
        ("peers",),
        "NAMES",
        "of vmm, vmm-all (--technique bt-all), unicorn, qemu, v86, bochs (all that are installed)",
        _set("peers"),
    ),
    Option(("quick",), "", "one round, fewer and shorter runs: less exact", _set("quick", lambda _: True)),
    Option(("json",), "FILE", "write all figures to FILE", _set("json", Path)),
    Option(("chart",), "FILE", "write a bar chart of the ratios to FILE, a PNG", _set("chart", Path)),
)
USAGE = "vmm bench [--suite NAMES] [--rounds N] [--peers NAMES] [--quick] [--json FILE] [--chart FILE]"


def bench(arguments: Sequence[str]) -> int:
    """Run the benchmarks; the exit status."""
    if set(arguments) & {"-h", "-help", "--help"}:
        print_help(USAGE, "Measure speed, ours beside plain Unicorn's, QEMU's, v86's and Bochs's.", _OPTIONS)
        return 0
    try:
        from perf import bench as suites
    except ModuleNotFoundError as error:
        raise UsageError(f"the benchmarks cannot run: {error}") from None
    settings = suites.Settings()
    parse(_OPTIONS, settings, arguments, "vmm bench", operands=0)
    return suites.bench(settings)
