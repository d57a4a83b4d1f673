"""-icount: how long an instruction takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loader_images import elf, multiboot1
from vmm import Machine

APART = 20
"""Instructions from one RDTSC to the next, the second included."""
CODE = bytes.fromhex("0f31 89c3") + b"\x90" * (APART - 2) + bytes.fromhex("0f31 29d8 ebfe")
"""rdtsc; mov ebx, eax; nops; rdtsc; sub eax, ebx; jmp $"""


@pytest.mark.parametrize("icount", [0, 1, 2, 3, 4, 7, 10])
def test_the_time_stamp_counter_and_the_clock_follow(icount: int, tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf(((0x10_0000, 0x10_0000, 0x2000, multiboot1() + CODE),), 0x10_000C))
    with Machine(kernel=kernel, memory="4M", icount=icount) as vm:
        vm.run(max_insns=1_000)
        assert vm.registers.eax == APART << icount
        assert vm.engine.now == 1_000 << icount
