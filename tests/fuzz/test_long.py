"""The long fuzz run in short: it agrees, it finds what is planted, and it passes nothing over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fuzz import families, long
from tests.fuzz.families import FAMILIES, program
from tests.fuzz.judge import Judge, Verdicts
from tests.fuzz.shrink import shrink, text
from tests.support.engine import BareEngine
from tests.support.makers import repeated_comparison_faults
from tests.support.silicon import Silicon
from tests.support.state import DATA, DATA_END, ENVIRONMENTS, HLT, STACK, Case, Outcome
from tests.vectors import plants
from vmm.errors import TripleFault

SEED = 20
COUNT = 400
MANY = 60


@pytest.fixture
def judge(silicon: Silicon) -> Judge:
    return Judge(silicon)


def test_a_number_names_a_program() -> None:
    assert [program(SEED, n).case() for n in range(20)] == [program(SEED, n).case() for n in range(20)]
    assert len({program(SEED, n).case().code for n in range(20)}) == 20
    assert {program(SEED, n).family for n in range(1000)} == set(FAMILIES)
    assert max(len(program(SEED, n).lines) for n in range(1000)) == families.MAX_LINES


@pytest.mark.oracle
def test_no_unexplained_difference(judge: Judge) -> None:
    verdicts = Verdicts()
    for at in range(0, COUNT, long.BATCH):
        judge.run([program(SEED, n) for n in range(at, min(at + long.BATCH, COUNT))], verdicts)
    assert [text(judge, failed, lines) for failed, lines in verdicts.failures] == []
    assert verdicts.counts["programs"] == COUNT
    assert verdicts.counts["judged by 2 oracles"] > COUNT / 2


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["NEG is NOT", "JE is JNE", "REP STOS once"])
def test_a_planted_fault_is_found_and_shrunk(judge: Judge, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plant = plants.PLANTS[name]
    plants.apply(plant, monkeypatch)
    verdicts = Verdicts()
    for at in range(0, 10 * COUNT, MANY):
        judge.run([program(SEED, n) for n in range(at, at + MANY)], verdicts)
        if verdicts.failures:
            break
    failed, lines = verdicts.failures[0]
    small = shrink(judge, failed)
    assert len(small.lines) <= min(len(failed.lines), 4)
    assert any(word in text(judge, failed, lines) for word in (plant.shown.split()[0], plant.shown.split()[-1]))


@pytest.mark.oracle
def test_what_ends_the_engine_is_a_difference(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_case(self: BareEngine, case: Case) -> Outcome:
        raise TripleFault("for the test")

    monkeypatch.setattr(BareEngine, "run_case", run_case)
    verdicts = Verdicts()
    judge.run([program(SEED, 0)], verdicts)
    ((_, lines),) = verdicts.failures
    assert "TripleFault" in "".join(lines)


def test_only_flags_at_the_fault_of_a_repeated_comparison_are_explained() -> None:
    """Intel's CPUs restore them (SDM vol. 2, REP), AMD's keep those of the last comparison."""
    gpr = (1, 9, 2, 3, STACK, 5, DATA, DATA_END - 1)

    def explained(code: str, end: str | tuple[int, int] = (14, 4), **other: Any) -> bool:
        case = Case(bytes.fromhex(code) + HLT, ENVIRONMENTS["flat32u"], gpr, 0x2)
        ours = Outcome(gpr, 0x2, case.eip, end)
        return repeated_comparison_faults(case, replace(ours, **{"flags": 0x97} | other), ours)

    assert all(explained(code) for code in ("f2a6", "f366a7", "64f2ae", "f3f2af"))
    assert not any(explained(code) for code in ("a6", "66a7", "f3a4", "f3aa", "90f2a6"))
    assert not explained("f2a6", end="halt")
    assert not explained("f2a6", gpr=(0, *gpr[1:]))
    assert not explained("f2a6", memory={DATA: 1})
    assert not explained("f2a6", end=(14, 4), eip=0)


@pytest.mark.oracle
def test_the_real_cpu_judges_an_endless_program_up_to_its_loop(judge: Judge) -> None:
    """Plain Unicorn loses flags at a store into the block that runs; the program never ends."""
    verdicts = Verdicts()
    judge.run([program(4711, 215857)], verdicts)
    assert verdicts.failures == []
    assert sum(count for name, count in verdicts.counts.items() if "up to the endless loop" in name) == 1


@pytest.mark.oracle
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert long.main(["--seed", "3", "--count", "40"]) == 0
    printed = capsys.readouterr().out
    assert "seed 3: 40 programs from 0" in printed
    assert "0 unexplained differences" in printed
