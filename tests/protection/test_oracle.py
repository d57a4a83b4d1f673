"""Random cases of every family on Bochs, on QEMU and on ``vmm``: the same machine must come out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.protection import cases
from tests.protection.oracle import (
    Case,
    build,
    differences,
    run_bochs,
    run_ours,
    run_qemu,
    tolerate_bochs,
    tolerate_qemu,
)

COUNT = 80

# Families in which QEMU 7.2 does what the SDM says (it checks few limits, loads neither VIF nor VIP, has no EXT)
QEMU_FAMILIES = (cases.loads, cases.gate_round_trips, cases.flag_loads, cases.nested_returns, cases.ports)


def make(family: Callable[[Random], Case], seed: int) -> list[Case]:
    random = Random(f"{family.__name__} {seed}")
    return [family(random) for _ in range(COUNT)]


def compare(
    batch: list[Case],
    ours: list[bytes],
    theirs: list[bytes],
    tolerate: Callable[[dict[str, int], dict[str, int]], None],
) -> None:
    assert len(theirs) == len(batch)
    assert len(ours) == len(batch)
    wrong = {
        f"{n} {case.name} ring {case.ring}": difference
        for n, (case, one, other) in enumerate(zip(batch, ours, theirs, strict=True))
        if (difference := differences(one, other, tolerate))
    }
    assert wrong == {}


def tools(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.mark.oracle
@tools("nasm", "bochs")
@pytest.mark.parametrize("family", cases.FAMILIES, ids=lambda family: family.__name__)
def test_like_bochs(family: Callable[[Random], Case], tmp_path: Path) -> None:
    batch = make(family, 1)
    rom = build(batch, tmp_path)
    compare(batch, run_ours(rom, len(batch)), run_bochs(rom, tmp_path), tolerate_bochs)


@pytest.mark.oracle
@tools("nasm", "qemu-system-i386")
@pytest.mark.parametrize("family", QEMU_FAMILIES, ids=lambda family: family.__name__)
def test_like_qemu(family: Callable[[Random], Case], tmp_path: Path) -> None:
    batch = make(family, 2)
    rom = build(batch, tmp_path)
    compare(batch, run_ours(rom, len(batch)), run_qemu(rom, tmp_path), tolerate_qemu)
