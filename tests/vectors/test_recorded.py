"""The recorded vectors: every row of the rule table, in every mode, three ways; and the oracles that are here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support import makers
from tests.support.engine import CONFIGURATIONS, BareEngine
from tests.support.oracles import Unicorn
from tests.support.silicon import Silicon
from tests.support.state import ENVIRONMENTS
from tests.vectors import record, store
from tests.vectors.far import NOT_RECORDED
from tests.vectors.known import KNOWN
from tests.vectors.plants import PLANTS
from tests.vectors.replay import failures

SAMPLE = 10
"""Every so many vectors are run again by the oracles that are here."""
AT_LEAST = 20_000
SHOWN = 5


@pytest.mark.parametrize("way", CONFIGURATIONS)
@pytest.mark.parametrize("mode", ENVIRONMENTS)
def test_replay(mode: str, way: str) -> None:
    recorded = store.read(mode)
    assert recorded
    wrong = failures(BareEngine(**CONFIGURATIONS[way]), recorded)
    assert not wrong, f"{len(wrong)} of {len(recorded)}\n" + "\n".join(wrong[:SHOWN])


@pytest.fixture(scope="module")
def everything() -> list[store.Recorded]:
    return store.read()


def test_every_row_is_recorded(everything: list[store.Recorded]) -> None:
    assert len(everything) >= AT_LEAST
    names = {id(each.vector.row) for each in everything}
    assert [f"{r.key} {r.name}" for r in store.ROWS.values() if id(r) not in names and r.how not in NOT_RECORDED] == []


def test_most_have_two_oracles(everything: list[store.Recorded]) -> None:
    by = Counter(len(each.oracles) for each in everything)
    assert by[1] < len(everything) / 50
    assert by[0] == 0
    assert {each.deviation for each in everything} <= {"", *KNOWN}


def test_round_trip(everything: list[store.Recorded], tmp_path: Path) -> None:
    """A vector that is written and read again is the same, and so are the bytes."""
    sample = everything[:: 10 * SAMPLE]
    for name in ("one", "other"):
        store.write(sample, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert store.read(path=tmp_path / "one") == sample


def test_the_document_has_the_numbers(everything: list[store.Recorded]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "oracles.md").read_text()
    by = Counter(len(each.oracles) for each in everything)
    assert f"has {len(everything):,} cases" in text
    assert f"{by[1]:,} have one oracle, {by[2]:,} two, the others more" in text
    assert f"{sum(bool(each.deviation) for each in everything)} do, all FBSTP" in text
    assert f"plants {len(PLANTS)} faults" in text


@pytest.fixture(scope="module")
def unicorn() -> Unicorn:
    return Unicorn()


def again(oracle: record.Oracle, everything: list[store.Recorded]) -> list[str]:
    """Vectors of the sample on which *oracle* does not say now what it said then."""
    mine = [e for e in everything[::SAMPLE] if oracle.name in e.oracles]
    found = record.outcomes(oracle, [each.vector for each in mine])
    wrong = []
    for each, outcome in zip(mine, found, strict=True):
        assert outcome is not None
        if each.vector.row.name in makers.EIP_VARIES and outcome.eip in range(each.expected.eip - 2, each.expected.eip):
            outcome.eip = each.expected.eip
        if line := record.agree(each.vector, each.expected, outcome, oracle.name):
            wrong.append(f"{each.vector.row.key} {each.vector.row.name}: {line}")
    return wrong


@pytest.mark.oracle
def test_the_real_cpu_again(everything: list[store.Recorded], silicon: Silicon) -> None:
    """Whichever it is: results that makers differ in are masked or not recorded."""
    assert again(silicon, everything) == []


def test_plain_unicorn_again(everything: list[store.Recorded], unicorn: Unicorn) -> None:
    assert again(unicorn, everything) == []
