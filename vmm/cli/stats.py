"""``vmm stats``: what the statistics mean, or those of a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmm.cli.parse import Option, parse, print_help
from vmm.errors import UsageError
from vmm.stats import STATISTICS, to_prometheus


@dataclass(slots=True)
class _Wanted:
    prometheus: bool = False
    help: bool = False


_OPTIONS: tuple[Option[_Wanted], ...] = (
    Option(("prometheus",), "", "print as Prometheus text", lambda wanted, _: setattr(wanted, "prometheus", True)),
    Option(("help", "h"), "", "print this", lambda wanted, _: setattr(wanted, "help", True)),
)


def stats(arguments: Sequence[str]) -> int:
    """Print the list of statistics, or a file that ``vmm run --stats-json`` wrote; the exit status."""
    wanted = _Wanted()
    files = parse(_OPTIONS, wanted, arguments, "vmm stats", operands=1)
    if wanted.help:
        print_help(
            "vmm stats [--prometheus] [FILE]",
            "Say what each statistic is, or print the statistics that vmm run --stats-json wrote to FILE.",
            _OPTIONS,
        )
        return 0
    from vmm.cli.tables import print_stats, print_table

    if not files:
        if wanted.prometheus:
            raise UsageError("vmm stats --prometheus needs a FILE")
        lines = (
            (f"{entry.name}{{{entry.label}}}" if entry.label else entry.name, entry.unit, entry.help)
            for entry in STATISTICS
        )
        print_table(("statistic", "unit", "what it is"), lines)
        return 0
    try:
        values = json.loads(Path(files[0]).read_text())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a file of statistics"
        raise UsageError(f"{files[0]}: {why}") from None
    if not isinstance(values, dict) or not all(_is_value(value) for value in values.values()):
        raise UsageError(f"{files[0]}: not a file of statistics")
    if wanted.prometheus:
        print(to_prometheus(values), end="")
    else:
        print_stats(values)
    return 0


def _is_value(value: object) -> bool:
    parts = value.values() if isinstance(value, dict) else (value,)
    return all(isinstance(part, int | float) for part in parts)
