"""A fault planted in a rule is caught by the recorded vectors, and ``vmm trace diff`` names its instruction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.asm import KERNEL, assemble, needs_nasm
from tests.support.engine import BareEngine
from tests.vectors import plants, store
from tests.vectors.plants import PLANTS
from tests.vectors.replay import failure
from vmm.cli import main
from vmm.config import MachineConfig
from vmm.errors import ExitStatus
from vmm.trace import Level, Plan, Trace, record

SOURCE = (
    KERNEL
    + """        mov eax, cr4
        or eax, 0x600
        mov cr4, eax
        lgdt [gdtr]
        jmp 8:flat
flat:   mov eax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov ebx, 0x12345
        mov esi, 0x6789
        mov edx, 0x8765
{lines}
        cli
        hlt
f:      nop
        ret
f2:     ret 4
stack equ 0x90000
data:   db 0x81, 0x92, 0xa3, 0x34, 0x45, 0x56, 0x67, 0x78
        db 0x11, 0xf2, 0x33, 0xe4, 0x55, 0xc6, 0x77, 0x88
        times 128 db 0
half:   dd 2.75
pointer: dd 0x1234
        dw 16
        align 8
gdt:    dq 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00CF93000000FFFF, 0x00CF93000000FFFF
gdtr:   dw 39
        dd gdt
"""
)
WINDOW = Plan(Level.INSN, 1, 0, 1000)


def lines(asm: str) -> str:
    return "\n".join(asm.split(";")).replace("stack", "0x90000")


@pytest.fixture(scope="module")
def kernel() -> Path:
    return assemble(SOURCE.format(lines="\n".join(lines(plant.asm) for plant in PLANTS.values())))


@pytest.fixture(scope="module")
def vectors() -> dict[str, list[store.Recorded]]:
    """Recorded vectors by opcode."""
    found: dict[str, list[store.Recorded]] = {}
    for each in store.read():
        found.setdefault(each.vector.row.key, []).append(each)
    return found


def traced(kernel: Path) -> Trace:
    trace, result = record(MachineConfig(kernel=kernel, memory=4 << 20, max_insns=900), WINDOW)
    assert result.reason
    return trace


@pytest.fixture(scope="module")
def reference(kernel: Path) -> Trace:
    trace = traced(kernel)
    assert trace.records[-1].insns < WINDOW.end  # the guest came to its end
    return trace


@pytest.fixture
def planted(request: pytest.FixtureRequest) -> Iterator[plants.Plant]:
    with pytest.MonkeyPatch.context() as patch:
        plants.apply(PLANTS[request.param], patch)
        yield PLANTS[request.param]


def test_there_are_enough_in_all_groups() -> None:
    assert len(PLANTS) >= 20
    assert {plant.group for plant in PLANTS.values()} >= {
        *("copy", "memory", "control flow", "stack", "flags", "segment", "strings", "media"),
        *("arithmetic callouts", "privileged callouts"),
    }


@pytest.mark.parametrize("planted", PLANTS, indirect=True)
def test_the_vectors_catch_it(planted: plants.Plant, vectors: dict[str, list[store.Recorded]]) -> None:
    engine = BareEngine()
    mine = [each for key in planted.keys for each in vectors[key]]
    assert any(failure(engine, each) for each in mine), f"{len(mine)} vectors pass"


@needs_nasm
@pytest.mark.parametrize("planted", PLANTS, indirect=True)
def test_trace_diff_names_it(
    planted: plants.Plant,
    reference: Trace,
    kernel: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    traced(kernel).write(tmp_path / "planted")
    reference.write(tmp_path / "reference")
    assert main(["trace", "diff", str(tmp_path / "reference"), str(tmp_path / "planted")]) == ExitStatus.DIFFERS
    printed = capsys.readouterr()
    assert f"'{planted.shown}" in printed.out + printed.err


def test_without_a_fault_they_pass(vectors: dict[str, list[store.Recorded]]) -> None:
    """None is left behind, and none of the vectors fails by itself."""
    engine = BareEngine()
    mine = [each for plant in PLANTS.values() for key in plant.keys for each in vectors[key]]
    assert [failure(engine, each) for each in mine if failure(engine, each)] == []
