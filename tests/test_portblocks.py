"""REP INS and OUTS on a device that takes many accesses at once: the guest and the clock cannot tell."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from devices.bus import PortBus
from devices.core import Device, Line
from devices.ide import PRIMARY, IdeChannel
from perf.bare.build import build
from vmm.config import Drive
from vmm.machine import Machine

DATA = PRIMARY[0]


def test_only_the_data_register_takes_blocks_in_its_widths() -> None:
    bus = PortBus()
    channel = IdeChannel(Line(), (None, None), PRIMARY, "ide0")
    bus.attach(channel)
    assert {size: bus.blocks(DATA, size) is not None for size in (1, 2, 4)} == {1: True, 2: True, 4: True}
    assert [port for port in range(DATA - 1, DATA + 9) if bus.blocks(port, 2)] == [DATA]
    bus.detach(DATA, 8)
    assert bus.blocks(DATA, 2) is None
    assert isinstance(channel, Device)


def state(machine: Machine) -> tuple[object, ...]:
    stats = machine.stats.as_dict(deterministic=True)
    return machine.engine.now, machine.engine.budget.tsc, stats["port_io"], stats["guest_insns"], stats["interrupts"]


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc makes the guest that reads the disk")
@pytest.mark.parametrize("limit", [None, 10_000_000, 1_000_001], ids=["deadlines", "exact", "in the midst"])
def test_blocks_take_the_time_of_their_elements(limit: int | None, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(Random(1).randbytes(1 << 20))
    seen: list[tuple[object, ...]] = []
    ports: list[int] = []
    for watched in (False, True):
        with Machine(kernel=build("disk.c", MEBIBYTES=1), drives=(Drive(disk, "ide", 0),), memory="16M") as machine:
            if watched:  # who looks on sees every access
                machine.on("port.read", lambda vm, port, size, value: ports.append(port))
            result = machine.run(until=r"disk [0-9a-f]{8}", max_insns=limit)
            seen.append((result.status, result.insns, bytes(machine.serial.output), *state(machine)))
    assert seen[0] == seen[1]
    reads = ports.count(DATA)
    assert reads == 1 << 19 if seen[0][0] == 0 else 0 < reads < 1 << 19
