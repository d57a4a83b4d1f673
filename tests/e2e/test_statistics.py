"""The statistics of a SeaBIOS boot: they add up, and a small translation cache changes them but not the guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cli import Outcome, vmm
from vmm.stats import STATISTICS

pytestmark = pytest.mark.guest

NO_DISK = ("-serial", "null", "--expect", "No bootable device", "--timeout", "60")


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return vmm(tmp_path_factory.mktemp("boot"), *NO_DISK, logs=("--bios-log",))


def test_every_statistic_is_there(boot: Outcome) -> None:
    assert set(boot.stats) == {entry.name for entry in STATISTICS}


def test_where_all_exits_went(boot: Outcome) -> None:
    stats = boot.stats
    exits = stats["exits"]
    assert sum(exits.values()) == pytest.approx(stats["exits_per_million_insns"] * stats["guest_insns"] / 1e6)
    assert exits["callout"] == sum(stats["callouts"].values())
    assert exits["hidden_fault"] <= stats["hidden_faults"]
    assert exits["traced_store"] == stats["smc_faults"]
    assert stats["interrupts"]["0x08"] > 0
    ports = stats["port_io"]
    assert {"rtc", "pic", "pit", "pci", "fw_cfg", "vga", "i8042", "debugcon402", "ide0"} <= set(ports)
    single = sum(count for name, count in stats["callouts"].items() if name.startswith(("in_", "out_")))
    assert sum(ports.values()) >= single, "INS and OUTS make more than one access"


def test_where_all_time_went(boot: Outcome) -> None:
    stats, rounding = boot.stats, 1e-4
    assert sum(stats["seconds"].values()) == pytest.approx(stats["wall_seconds"], abs=rounding)
    for part, details in (("callout", "callout_seconds"), ("device", "device_seconds")):
        assert sum(stats[details].values()) == pytest.approx(stats["seconds"][part], abs=rounding)
    assert set(stats["callout_seconds"]) == set(stats["callouts"])
    assert set(stats["port_io"]) <= set(stats["device_seconds"])


def test_the_cache_adds_up(boot: Outcome) -> None:
    stats = boot.stats
    assert stats["tc_fragments"] == stats["translations"] - stats["evictions"] - sum(stats["invalidations"].values())
    assert stats["tc_fill"] == pytest.approx(stats["tc_bytes"] / stats["tc_capacity_bytes"], abs=1e-6)
    assert stats["tc_occupancy"] == pytest.approx(stats["tc_bytes"] / stats["emitted_bytes"], abs=1e-6)
    assert stats["expansion_ratio"] == pytest.approx(stats["emitted_bytes"] / stats["translated_bytes"], abs=1e-6)
    assert (stats["evictions"], stats["flushes"]) == (0, 0)


@pytest.mark.parametrize(("size", "capacity"), [("128K", 128 << 10), ("16K", 16 << 10)])
def test_a_small_cache_is_the_same_to_the_guest(boot: Outcome, size: str, capacity: int, tmp_path: Path) -> None:
    small = vmm(tmp_path, *NO_DISK, "--tc-size", size, logs=("--bios-log",))
    assert (small.status, small.output, small.files, small.insns) == (0, boot.output, boot.files, boot.insns)
    assert small.stats["tc_capacity_bytes"] == capacity
    assert small.stats["tc_bytes"] <= capacity
    assert small.stats["tc_bytes"] < boot.stats["tc_bytes"]
    assert small.stats["tc_fragments"] < boot.stats["tc_fragments"]
    assert small.stats["tc_occupancy"] < boot.stats["tc_occupancy"]
    assert small.stats["evictions"] > 0
    for name in ("port_io", "interrupts", "callouts"):
        assert small.stats[name] == boot.stats[name]


def test_the_guest_does_not_see_how_fragments_are_chained(boot: Outcome, tmp_path: Path) -> None:
    alone = vmm(tmp_path, *NO_DISK, "--no-chaining", logs=("--bios-log",))
    assert (alone.status, alone.output, alone.files, alone.insns) == (0, boot.output, boot.files, boot.insns)
    assert alone.stats["chain_direct"] == 0
    assert sum(alone.stats["exits"].values()) > sum(boot.stats["exits"].values())
