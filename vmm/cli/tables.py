"""Tables for the terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vmm.stats import Value, rows


class _Console(Console):
    """Leaves a reader that has gone to ``vmm.cli.main``; rich would exit with status 1, which is a guest's."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_table(columns: Sequence[str], lines: Iterable[Sequence[str]], file: TextIO | None = None) -> None:
    """Print a table; a column whose name ends in "#" is of numbers.  Not cut when *file* is no terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.rstrip("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    console = _Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def print_stats(values: Mapping[str, Value], file: TextIO | None = None) -> None:
    """Print statistics (what ``Stats.as_dict`` returned) as a table."""
    print_table(("statistic", "value#", "unit"), rows(values), file)
