"""Statistics: one declared list, from which the table, the JSON and the Prometheus text are made.

``Stats`` holds the counters as plain attributes and dictionaries, so that the hot paths say
``stats.evictions += 1`` and ``stats.callouts["cli"] += 1``.  What is computed from others is in
``DERIVED``.  Everything but seconds is the same in every run of the same machine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vmm.files import write_whole
from vmm.stopwatch import PARTS

_PARTS = "; ".join(f"{part}: {what}" for part, what in PARTS.items())

Value = int | float | dict[str, int] | dict[str, float]


@dataclass(frozen=True, slots=True)
class Statistic:
    """The declaration of one statistic."""

    name: str
    unit: str
    label: str
    """What the keys are if the statistic is a family, such as ``kind``; else empty."""
    kind: str
    """``"counter"`` (only grows) or ``"gauge"``."""
    help: str
    deterministic: bool = True
    """The same in every run of the same machine with the same store of translations."""


def _declare(
    unit: str, text: str, label: str = "", kind: str = "counter", deterministic: bool = True
) -> dict[str, str | bool]:
    return {"unit": unit, "help": text, "label": label, "kind": kind, "deterministic": deterministic}


def _scalar(unit: str, text: str, kind: str = "counter") -> Any:
    return field(default=0, metadata=_declare(unit, text, kind=kind))


def _family(unit: str, label: str, text: str) -> Any:
    return field(default_factory=Counter, metadata=_declare(unit, text, label))


def _seconds(label: str, text: str) -> Any:
    return field(default_factory=dict, metadata=_declare("seconds", text, label, deterministic=False))


@dataclass(slots=True)
class Stats:
    """The counters of one run.  A family is a ``Counter``: a key that never came reads as 0."""

    guest_insns: int = _scalar("instructions", "Guest instructions retired, the measure of guest time.")
    tc_fragments: int = _scalar("fragments", "Fragments in the translation cache now.", "gauge")
    tc_bytes: int = _scalar("bytes", "Bytes of the translation cache in use now.", "gauge")
    tc_capacity_bytes: int = _scalar("bytes", "Bytes that the translation cache may use.", "gauge")
    translations: int = _scalar("units", "Translation units turned into fragments, again counted if translated again.")
    recalled: int = field(
        default=0,
        metadata=_declare(
            "units", "Of these, units known by their bytes, from before or from --tc-store.", deterministic=False
        ),
    )
    translated_insns: Counter[str] = _family(
        "instructions", "treatment", "Guest instructions translated, by how the rule table treats them."
    )
    translated_bytes: int = _scalar("bytes", "Bytes of guest code translated.")
    emitted_bytes: int = _scalar("bytes", "Bytes of host code emitted for them.")
    chain_direct: int = _scalar("links", "Exits of fragments that were linked to their successors.")
    chain_indirect_hit: int = _scalar("branches", "Indirect branches that left the cache but found their fragment.")
    chain_indirect_miss: int = _scalar("branches", "Indirect branches whose target had to be translated.")
    evictions: int = _scalar("fragments", "Fragments thrown out to make room.")
    flushes: int = _scalar("flushes", "Times the whole translation cache was emptied.")
    callouts: Counter[str] = _family("callouts", "kind", "Guest instructions emulated by the VMM, by mnemonic.")
    exits: Counter[str] = _family("exits", "reason", "Exits from the translation cache to Python, by reason.")
    invalidations: Counter[str] = _family("fragments", "reason", "Fragments dropped because they went stale, by why.")
    smc_faults: int = _scalar("faults", "Stores to a page with translated code that were caught.")
    hidden_faults: int = _scalar("faults", "Page faults that the guest never sees: a shadow entry was missing.")
    true_faults: int = _scalar("faults", "Page faults delivered to the guest.")
    interrupts: Counter[int] = _family("interrupts", "vector", "Interrupts and exceptions delivered, by vector.")
    port_io: Counter[str] = _family("accesses", "device", "IN and OUT, by the device that answers.")
    mmio: Counter[str] = _family("accesses", "device", "Accesses to memory-mapped registers, by device.")
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(PARTS, 0.0),
        metadata=_declare("seconds", f"Wall time: where it went. {_PARTS}.", label="part", deterministic=False),
    )
    callout_seconds: dict[str, float] = _seconds("kind", "The part callout of seconds, by mnemonic.")
    device_seconds: dict[str, float] = _seconds("device", "The part device of seconds, by device.")
    wall_seconds: float = field(
        default=0.0,
        metadata=_declare(
            "seconds", "Wall time of the machine: its making, its runs, its end, not between.", deterministic=False
        ),
    )

    def as_dict(self, deterministic: bool = False) -> dict[str, Value]:
        """Every statistic by name, derived ones included, families with sorted string keys.

        With *deterministic*, only those that are the same in every run.
        """
        return {
            entry.name: _plain(DERIVED[entry.name][1](self) if entry.name in DERIVED else getattr(self, entry.name))
            for entry in STATISTICS
            if entry.deterministic or not deterministic
        }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


DERIVED: dict[str, tuple[Statistic, Callable[[Stats], float]]] = {
    entry.name: (entry, compute)
    for entry, compute in (
        (
            Statistic(
                "tc_occupancy",
                "ratio",
                "",
                "gauge",
                "How much of all the code that was emitted the TC holds: tc_bytes by emitted_bytes.",
            ),
            lambda stats: _ratio(stats.tc_bytes, stats.emitted_bytes),
        ),
        (
            Statistic("tc_fill", "ratio", "", "gauge", "How full the TC is: tc_bytes by tc_capacity_bytes."),
            lambda stats: _ratio(stats.tc_bytes, stats.tc_capacity_bytes),
        ),
        (
            Statistic("expansion_ratio", "ratio", "", "gauge", "Bytes of host code emitted for a byte of guest code."),
            lambda stats: _ratio(stats.emitted_bytes, stats.translated_bytes),
        ),
        (
            Statistic(
                "exits_per_million_insns", "exits", "", "gauge", "Exits to Python in a million guest instructions."
            ),
            lambda stats: _ratio(1e6 * sum(stats.exits.values()), stats.guest_insns),
        ),
    )
}
"""Statistics that are computed from others when they are read."""

STATISTICS: tuple[Statistic, ...] = (
    *(Statistic(name=entry.name, **entry.metadata) for entry in fields(Stats)),
    *(entry for entry, _ in DERIVED.values()),
)
"""The declared list: every statistic there is."""


def _key(label: object) -> str:
    return f"{label:#04x}" if isinstance(label, int) else str(label)


def _plain(value: Any) -> Value:
    if isinstance(value, Mapping):
        return {_key(label): value[label] for label in sorted(value, key=lambda label: (str(type(label)), label))}
    return round(value, 6) if isinstance(value, float) else int(value)


def to_json(values: Mapping[str, Value]) -> str:
    """What ``Stats.as_dict`` returned, as JSON."""
    return json.dumps(values, indent=2) + "\n"


def to_prometheus(values: Mapping[str, Value], prefix: str = "vmm_") -> str:
    """What ``Stats.as_dict`` returned, in Prometheus' text exposition format 0.0.4."""
    return "".join(
        f"{line}\n" for entry in STATISTICS if entry.name in values for line in _exposition(entry, values, prefix)
    )


def _exposition(entry: Statistic, values: Mapping[str, Value], prefix: str) -> Iterator[str]:
    name = f"{prefix}{entry.name}_total" if entry.kind == "counter" else f"{prefix}{entry.name}"
    yield f"# HELP {name} {entry.help}"
    yield f"# TYPE {name} {entry.kind}"
    value = values[entry.name]
    if isinstance(value, dict):
        for label, part in value.items():
            escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            yield f'{name}{{{entry.label}="{escaped}"}} {part}'
    else:
        yield f"{name} {value}"


def rows(values: Mapping[str, Value]) -> Iterator[tuple[str, str, str]]:
    """What ``Stats.as_dict`` returned as lines of a table: name, value and unit; families largest first."""
    for entry in STATISTICS:
        if entry.name not in values:
            continue
        value = values[entry.name]
        if isinstance(value, dict):
            for label, part in sorted(value.items(), key=lambda item: (-item[1], item[0])):
                yield f"{entry.name}{{{label}}}", _number(part), entry.unit
        else:
            yield entry.name, _number(value), entry.unit


def _number(value: int | float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"


def write_json(path: Path, values: Mapping[str, Value]) -> None:
    """Write ``to_json(values)`` to *path*, whole or not at all."""
    write_whole(path, to_json(values).encode())
