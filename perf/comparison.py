"""Measurements of several things on several machines: medians, and ratios of ours to the others'."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from perf.peers import Ours


@dataclass
class Comparison:
    """What was measured: item -> machine -> one number a round.  What failed is missing."""

    title: str
    unit: str
    """What a number counts, less is faster: "seconds"."""
    machines: list[str]
    """In the order of the columns."""
    digits: int = 3
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    extra: dict[str, dict[str, float]] = field(default_factory=dict)
    """More columns about ours: heading -> item -> number."""
    errors: list[str] = field(default_factory=list)

    def add(self, item: str, machine: str, value: float) -> None:
        """One round's number."""
        self.values.setdefault(item, {}).setdefault(machine, []).append(value)

    @property
    def others(self) -> list[str]:
        """The machines that ours is compared with."""
        return [name for name in self.machines if name != Ours.name] if Ours.name in self.machines else []

    def median(self, item: str, machine: str) -> float | None:
        """The median of the rounds, or ``None`` if there is none."""
        rounds = self.values.get(item, {}).get(machine)
        return statistics.median(rounds) if rounds else None

    def ratio(self, item: str, machine: str) -> float | None:
        """How many times the machine's speed ours is."""
        ours, theirs = self.median(item, Ours.name), self.median(item, machine)
        return theirs / ours if ours and theirs and ours > 0 and theirs > 0 else None

    def mean_ratio(self, machine: str) -> float | None:
        """The geometric mean over the items that both ran."""
        ratios = [ratio for item in self.values if (ratio := self.ratio(item, machine))]
        return statistics.geometric_mean(ratios) if ratios else None

    def show(self, console: Console) -> None:
        """Print the medians, the ratios and the errors."""
        table = Table(title=f"{self.title}: {self.unit} (medians), and our speed as a multiple of the other's")
        table.add_column("", no_wrap=True)
        for name in (*self.machines, *(f"x {name}" for name in self.others), *self.extra):
            table.add_column(name, justify="right")
        for item in self.values:
            table.add_row(
                item,
                *(_number(self.median(item, name), self.digits) for name in self.machines),
                *(_ratio(self.ratio(item, name)) for name in self.others),
                *(_number(column.get(item), 1) for column in self.extra.values()),
            )
        if self.others:
            table.add_section()
            means = [_ratio(self.mean_ratio(name)) for name in self.others]
            table.add_row("geometric mean", *[""] * len(self.machines), *means)
        if not console.is_terminal:
            console.width = 160
        console.print(table)
        for error in dict.fromkeys(self.errors):
            console.print(error, markup=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything measured, for a later reader."""
        return {
            self.unit: self.values,
            "ratios": {name: {item: self.ratio(item, name) for item in self.values} for name in self.others},
            "geometric_means": {name: self.mean_ratio(name) for name in self.others},
            **self.extra,
            "errors": self.errors,
        }


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _ratio(value: float | None) -> str:
    return _number(value, 2 if value is None or value >= 0.1 else 4)
