"""The declared list of statistics and what is printed of it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from vmm.stats import DERIVED, STATISTICS, Stats, rows, to_json, to_prometheus, write_json
from vmm.stopwatch import PARTS

CONVENTIONS = {
    "guest_insns": "",
    "tc_fragments": "",
    "tc_bytes": "",
    "tc_capacity_bytes": "",
    "tc_occupancy": "",
    "translated_insns": "treatment",
    "expansion_ratio": "",
    "chain_direct": "",
    "chain_indirect_hit": "",
    "chain_indirect_miss": "",
    "evictions": "",
    "flushes": "",
    "callouts": "kind",
    "exits": "reason",
    "invalidations": "reason",
    "smc_faults": "",
    "hidden_faults": "",
    "true_faults": "",
    "interrupts": "vector",
    "port_io": "device",
    "mmio": "device",
    "seconds": "part",
    "callout_seconds": "kind",
    "device_seconds": "device",
    "wall_seconds": "",
}
"""Names that users may rely on, and their labels."""


@pytest.fixture
def stats() -> Stats:
    stats = Stats(guest_insns=2_000_000, tc_bytes=25, tc_capacity_bytes=100, translated_bytes=10, emitted_bytes=35)
    stats.callouts.update(cli=3, out=1)
    stats.exits.update({"callout": 8, "budget": 2})
    stats.interrupts.update({0x20: 7, 8: 1})
    stats.port_io['a "quoted" \\ name'] += 1
    stats.seconds["tc"] += 1.5
    return stats


@pytest.mark.parametrize(("name", "label"), CONVENTIONS.items())
def test_promised_statistics_are_declared(name: str, label: str) -> None:
    assert {entry.name: entry.label for entry in STATISTICS}[name] == label


@pytest.mark.parametrize("entry", STATISTICS, ids=lambda entry: entry.name)
def test_every_statistic_is_explained(entry: object) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.name)
    assert re.fullmatch(r"[A-Za-z].*\.", entry.help)
    assert entry.unit
    assert entry.kind in ("counter", "gauge")


def test_names_are_unique() -> None:
    names = [entry.name for entry in STATISTICS]
    assert len(set(names)) == len(names) == len(fields(Stats)) + len(DERIVED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guest_insns", 2_000_000),
        ("tc_fill", 0.25),
        ("expansion_ratio", 3.5),
        ("exits_per_million_insns", 5.0),
        ("interrupts", {"0x08": 1, "0x20": 7}),
        ("callouts", {"cli": 3, "out": 1}),
        ("seconds", dict.fromkeys(PARTS, 0.0) | {"tc": 1.5}),
    ],
)
def test_values(stats: Stats, name: str, value: object) -> None:
    assert stats.as_dict()[name] == value


def test_nothing_ran() -> None:
    values = Stats().as_dict()
    assert values["expansion_ratio"] == values["tc_occupancy"] == values["exits_per_million_insns"] == 0


def test_an_unknown_key_reads_as_zero_and_is_not_kept() -> None:
    stats = Stats()
    assert stats.callouts["hlt"] == 0
    assert stats.as_dict()["callouts"] == {}


def test_wall_time_is_not_deterministic(stats: Stats) -> None:
    assert set(stats.as_dict()) - set(stats.as_dict(deterministic=True)) == {
        "recalled",  # depends on what the store has
        "seconds",
        "callout_seconds",
        "device_seconds",
        "wall_seconds",
    }


def test_json_reads_back(stats: Stats, tmp_path: Path) -> None:
    write_json(tmp_path / "s.json", stats.as_dict())
    assert json.loads((tmp_path / "s.json").read_text()) == stats.as_dict()
    assert to_json(stats.as_dict()) == (tmp_path / "s.json").read_text()
    assert list(tmp_path.iterdir()) == [tmp_path / "s.json"]


def test_prometheus_text(stats: Stats) -> None:
    lines = to_prometheus(stats.as_dict()).splitlines()
    for line in (
        "# TYPE vmm_guest_insns_total counter",
        "vmm_guest_insns_total 2000000",
        "# TYPE vmm_tc_bytes gauge",
        "vmm_tc_bytes 25",
        'vmm_interrupts_total{vector="0x20"} 7',
        r'vmm_port_io_total{device="a \"quoted\" \\ name"} 1',
        "vmm_tc_fill 0.25",
    ):
        assert line in lines
    sample = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{\w+="([^"\\]|\\.)*"\})? [0-9.e+-]+)')
    assert [line for line in lines if not sample.fullmatch(line)] == []


def test_rows_of_a_family_come_largest_first(stats: Stats) -> None:
    table = [(name, value) for name, value, _ in rows(stats.as_dict())]
    assert [row for row in table if row[0].startswith("exits{")] == [("exits{callout}", "8"), ("exits{budget}", "2")]
    assert ("guest_insns", "2,000,000") in table
