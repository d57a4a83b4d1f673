"""A/B comparison: the statistics on known samples, the turns, the command's statuses."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from perf import compare
from perf.peer import PeerError, Run
from perf.significance import judge

ROOT = Path(__file__).parents[1]


@dataclass
class FakePeer:
    name: str
    seconds: Iterator[float]
    output: str = "x 1"
    order: list[str] = field(default_factory=list)

    def missing(self) -> str | None:
        return None

    def run(self, kernel: Path) -> Run:
        self.order.append(self.name)
        return Run(next(self.seconds), self.output)


def test_equal_times_are_no_difference() -> None:
    verdict = judge({"a": [(1.0, 1.0)] * 7})
    assert (verdict.ratio, verdict.low, verdict.high, verdict.p) == (1.0, 1.0, 1.0, 1.0)


def test_seven_pairs_that_point_one_way() -> None:
    verdict = judge({"a": [(1.0, 1.0 - n / 100) for n in range(7, 14)]})
    assert verdict.ratio == pytest.approx(0.90)
    # The median of a resample is the least of seven only if it is drawn four times or more: 1.1 %, less than 2.5 %.
    assert verdict.low == pytest.approx(0.88)
    assert verdict.high == pytest.approx(0.92)
    assert verdict.p == 2 / 2**7


def test_a_single_pair_proves_nothing() -> None:
    verdict = judge({"a": [(1.0, 3.0)]})
    assert verdict.ratio == verdict.low == verdict.high == pytest.approx(3.0)
    assert verdict.p == 1.0


def test_an_outlier_does_not_move_the_ratio() -> None:
    assert judge({"a": [(1.0, 1.1)] * 6 + [(1.0, 50.0)]}).ratio == pytest.approx(1.1)


def test_kernels_weigh_the_same() -> None:
    assert judge({"a": [(1.0, 2.0)] * 9, "b": [(8.0, 4.0)] * 3}).ratio == pytest.approx(1.0)


def test_exchanging_the_builds_inverts_the_ratio() -> None:
    times = random.Random(5)
    pairs = [(times.uniform(1, 2), times.uniform(1, 3)) for _ in range(9)]
    forth, back = judge({"a": pairs}), judge({"a": [(b, a) for a, b in pairs]})
    assert forth.ratio == pytest.approx(1 / back.ratio)
    assert forth.p == back.p


def test_a_sample_of_the_permutations_where_they_are_too_many() -> None:
    noise = random.Random(7)
    same = judge({"a": [(noise.uniform(1, 2), noise.uniform(1, 2)) for _ in range(40)]})
    other = judge({"a": [(noise.uniform(1, 2), noise.uniform(2, 3)) for _ in range(40)]})
    assert same.p > 0.05
    assert other.p < 0.001
    assert other.low > 1


def test_the_same_times_give_the_same_verdict() -> None:
    noise = random.Random(9)
    pairs = {"a": [(noise.uniform(1, 2), noise.uniform(1, 2)) for _ in range(20)]}
    assert judge(pairs) == judge(pairs)


def test_who_goes_first_alternates() -> None:
    order: list[str] = []
    a = FakePeer("A", itertools.count(1.0), order=order)
    b = FakePeer("B", itertools.count(101.0), order=order)
    pairs = compare.measure(["x", "y"], a, b, 2, Path)
    assert order == ["A", "B", "A", "B", "B", "A", "B", "A"]
    assert pairs == {"x": [(1.0, 101.0), (3.0, 103.0)], "y": [(2.0, 102.0), (4.0, 104.0)]}
    assert list(compare.verdicts(pairs)) == ["x", "y", "all"]


def test_both_must_print_the_same() -> None:
    one = itertools.repeat(1.0)
    with pytest.raises(PeerError, match="x: A prints 'x 1', B 'x 2'"):
        compare.measure(["x"], FakePeer("A", one), FakePeer("B", one, "x 2"), 1, Path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/nonexistent", "."], "/nonexistent: neither a directory nor a git revision"),
        (["/", "."], "/: there is no vmm in this directory"),
        ([".", ".", "--kernels", "doom"], "there is no kernel 'doom'; there are crc32, "),
        ([".", ".", "--rounds", "0"], "--rounds: at least 1"),
        ([".", ".", "--json", "/nonexistent/x"], "--json: there is no directory /nonexistent"),
    ],
)
def test_mistakes(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert compare.main(arguments) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"A": 2.0, "B": 1.0}
    monkeypatch.setattr(compare, "Ours", lambda name, folder: FakePeer(name, itertools.repeat(seconds[name])))
    monkeypatch.setattr(compare.measure, "__defaults__", (Path,))
    file = tmp_path / "figures.json"
    assert compare.main([str(ROOT), str(ROOT), "--kernels", "fib,sieve", "--rounds", "7", "--json", str(file)]) == 0
    assert "0.500" in capsys.readouterr().out
    report = json.loads(file.read_text())
    assert report["seconds"]["fib"] == [[2.0, 1.0]] * 7
    assert report["verdicts"]["all"]["ratio"] == pytest.approx(0.5)


def test_a_compiled_engine_is_not_compared_with_an_interpreted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "vmm").mkdir(parents=True)
        (tmp_path / name / "vmm" / "__main__.py").touch()
    (tmp_path / "b" / "btvmm__mypyc.cpython-311-x86_64-linux-gnu.so").touch()
    monkeypatch.chdir(tmp_path)
    assert compare.main(["a", "b", "--kernels", "fib"]) == 2
    assert "one of the two is compiled" in capsys.readouterr().err


def test_a_revision_is_checked_out_and_gone_afterwards() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not in a git repository")
    with compare.checkout("HEAD") as folder:
        assert (folder / "vmm" / "__main__.py").exists()
        assert folder != ROOT
    assert not folder.exists()
    worktrees = subprocess.run(["git", "-C", ROOT, "worktree", "list"], capture_output=True, text=True, check=True)
    assert str(folder) not in worktrees.stdout
