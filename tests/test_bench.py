"""The benchmarks' arithmetic, files and statuses, on machines that only pretend to run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from perf import bench, boots, compute, nano, suite
from perf.comparison import Comparison
from perf.kernels.build import BuildError
from perf.operations.build import EMPTY, OPERATIONS, UNROLLED, build
from perf.peer import PeerError, Run
from perf.peers import Qemu
from vmm import cli
from vmm.errors import UsageError
from vmm.loaders import Image, Kind, recognise

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is needed")


@dataclass
class FakePeer:
    """A machine whose runs take what a formula says; images are named OPERATION-COUNT."""

    name: str
    seconds: Callable[[str, int], float] = lambda operation, count: 1.0
    output: str | None = None
    """What it prints, instead of what is right."""
    absent: str | None = None
    fails: bool = False
    exits: int | None = None
    ran: list[str] = field(default_factory=list)

    def missing(self) -> str | None:
        return self.absent

    def run(self, kernel: Path, memory: int = 0) -> Run:
        self.ran.append(kernel.name)
        if self.fails:
            raise PeerError(f"{self.name} ended with status 70")
        operation, _, digits = kernel.name.partition("-")
        count = int(digits or 1)
        right = f"{nano.EXCEPTIONS.get(operation, 0) * count:08x}"
        exits = None if self.exits is None else 50 + (0 if operation == EMPTY else self.exits * count)
        return Run(self.seconds(operation, count), right if self.output is None else self.output, exits)


def image(operation: str, count: int = 1) -> Path:
    return Path(f"{operation}-{count}")


def linear(start: float, loop: float, cost: float) -> Callable[[str, int], float]:
    return lambda operation, count: start + count * (loop + (0 if operation == EMPTY else cost))


@pytest.fixture
def filled() -> Comparison:
    result = Comparison("Title", "seconds", ["vmm", "unicorn", "qemu"])
    for value in (4.0, 1.0, 2.0):
        result.add("a", "vmm", value)
    result.add("a", "qemu", 1.0)
    result.add("a", "unicorn", 8.0)
    result.add("b", "vmm", 1.0)
    result.add("b", "qemu", 8.0)
    return result


def test_medians_and_ratios(filled: Comparison) -> None:
    assert filled.median("a", "vmm") == 2.0
    assert filled.ratio("a", "qemu") == 0.5
    assert filled.ratio("b", "qemu") == 8.0
    assert filled.mean_ratio("qemu") == pytest.approx(2.0)
    assert filled.mean_ratio("unicorn") == pytest.approx(4.0)


def test_what_is_missing_has_no_median_and_no_ratio(filled: Comparison) -> None:
    assert filled.median("b", "unicorn") is None
    assert filled.ratio("b", "unicorn") is None
    assert filled.mean_ratio("bochs") is None


def test_a_negative_difference_has_no_ratio() -> None:
    result = Comparison("Title", "seconds", ["vmm", "qemu"], values={"a": {"vmm": [1.0], "qemu": [-1.0]}})
    assert result.ratio("a", "qemu") is None


def test_without_ours_there_are_no_ratios() -> None:
    assert Comparison("Title", "seconds", ["unicorn", "qemu"]).others == []


def test_the_table(filled: Comparison) -> None:
    text = StringIO()
    filled.errors += ["b: unicorn stopped [x]"] * 3
    filled.show(Console(file=text))
    lines = text.getvalue().splitlines()
    assert [re.split(r"\s*│\s*", line)[1:-1] for line in lines if line.startswith("│")] == [
        ["a", "2.000", "8.000", "1.000", "4.00", "0.50"],
        ["b", "1.000", "-", "8.000", "-", "8.00"],
        ["geometric mean", "", "", "", "4.00", "2.00"],
    ]
    assert lines[-1] == "b: unicorn stopped [x]"
    assert lines[-2].startswith("└")


def test_nanoseconds_are_without_start_and_loop() -> None:
    ours = FakePeer("vmm", linear(0.5, 1e-9, 250e-9), exits=2)
    theirs = FakePeer("qemu", linear(0.1, 2e-9, 50e-9))
    result = nano.compare(["cpuid", "pgfault"], [ours, theirs], 3, builder=image)
    assert result.errors == []
    for operation in ("cpuid", "pgfault"):
        assert result.values[operation]["vmm"] == pytest.approx([250.0] * 3)
        assert result.values[operation]["qemu"] == pytest.approx([50.0] * 3)
        assert result.ratio(operation, "qemu") == pytest.approx(0.2)
    assert result.extra[nano.EXITS] == {"cpuid": 2.0, "pgfault": 2.0}


@pytest.mark.parametrize("cost", [1e-9, 80e-9, 3e-6, 1e-4])
def test_the_count_makes_a_run_of_about_the_target(cost: float) -> None:
    meter = nano.Meter(FakePeer("vmm", linear(0.1, 1e-9, cost)), nano.TARGET, image)
    meter.cost("cpuid")
    count = meter.counts["cpuid"]
    assert nano.TARGET / 2 <= count * cost <= nano.TARGET or count == nano.LAST_COUNT
    assert count & (count - 1) == 0


def test_an_operation_that_costs_nothing_is_counted_to_the_end() -> None:
    meter = nano.Meter(FakePeer("vmm", linear(0.1, 0, 0)), nano.TARGET, image)
    assert meter.cost("cpuid") == (0.0, None)
    assert meter.counts["cpuid"] == nano.LAST_COUNT


def test_an_accident_does_not_end_the_search() -> None:
    slow = iter([True])

    def seconds(operation: str, count: int) -> float:
        return 9.0 if operation != EMPTY and next(slow, False) else linear(0.1, 0, 1e-6)(operation, count)

    meter = nano.Meter(FakePeer("vmm", seconds), nano.TARGET, image)
    meter.cost("cpuid")
    assert meter.counts["cpuid"] == 1 << 18


def test_a_machine_without_exceptions_is_not_asked_for_them() -> None:
    peer = FakePeer("unicorn", linear(0.1, 0, 1e-6))
    result = nano.compare(["syscall", "cpuid"], [peer], 1, builder=image)
    assert result.values["syscall"] == {}
    assert not any(name.startswith("syscall") for name in peer.ran)
    assert result.errors == []


@pytest.mark.parametrize(
    ("peer", "error"),
    [
        (FakePeer("qemu", output="0000000f"), "pgfault: qemu prints '0000000f', not "),
        (FakePeer("qemu", fails=True), "pgfault: qemu ended with status 70"),
    ],
)
def test_failures_of_an_operation(peer: FakePeer, error: str) -> None:
    result = nano.compare(["pgfault"], [peer], 1, builder=image)
    assert result.values == {"pgfault": {}}
    assert result.errors[0].startswith(error)


def test_kernels_must_print_the_same() -> None:
    peers = [FakePeer("vmm", output="x 1"), FakePeer("unicorn", output="x 2"), FakePeer("qemu", fails=True)]
    result = compute.compare(["x"], peers, 2, builder=image)
    assert result.values == {"x": {"vmm": [1.0, 1.0]}}
    assert set(result.errors) == {"x: unicorn prints 'x 2', vmm 'x 1'", "x: qemu ended with status 70"}


def test_machines_take_turns() -> None:
    order: list[str] = []
    peers = [FakePeer(name, ran=order) for name in ("vmm", "qemu")]
    compute.compare(["a", "b"], peers, 2, builder=image)
    assert order == ["a-1", "a-1", "b-1", "b-1"] * 2


@needs_gcc
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_are_multiboot_images(operation: str) -> None:
    with Image.open(build(operation, UNROLLED)) as file:
        assert recognise(file) is Kind.MULTIBOOT1


@pytest.mark.parametrize(("operation", "count"), [("teleport", 4), (EMPTY, 0), (EMPTY, 6)])
def test_images_that_cannot_be_built(operation: str, count: int) -> None:
    with pytest.raises(BuildError):
        build(operation, count)


@needs_gcc
@pytest.mark.oracle
@pytest.mark.skipif(bool(Qemu().missing()), reason="QEMU is needed")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_qemu_and_ours_run_the_operation(operation: str) -> None:
    expected = f"{nano.EXCEPTIONS.get(operation, 0) * 8:08x}"
    assert {peer.run(build(operation, 8)).output for peer in (Qemu(), suite.peers()["vmm"])} == {expected}


# The command.


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakePeer]:
    """The machines that are found, and kernels, operations and boots that need no compiler and no guest."""
    peers = {
        "vmm": FakePeer("vmm", linear(0.0, 0, 1e-4)),
        "unicorn": FakePeer("unicorn", absent="it is not installed"),
        "qemu": FakePeer("qemu", linear(0.0, 0, 2e-4)),
    }
    monkeypatch.setattr(suite, "peers", lambda: peers)
    monkeypatch.setitem(
        bench.SUITES, "compute", lambda found, rounds, quick: compute.compare(["x"], found, rounds, image)
    )
    monkeypatch.setitem(
        bench.SUITES, "nano", lambda found, rounds, quick: nano.compare(["cpuid"], found, rounds, builder=image)
    )
    for name in ("startup", "scale", "boots", "macro"):
        monkeypatch.setitem(
            bench.SUITES,
            name,
            lambda found, rounds, quick, name=name: Comparison(name.title(), "seconds", [peer.name for peer in found]),
        )
    return peers


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--suite", "disk"], "there is no suite 'disk'; there are startup, compute, nano, scale, boots, macro"),
        (["--peers", "vmm,bochs"], "there is no machine 'bochs'; there are vmm, unicorn, qemu"),
        (["--peers", "unicorn"], "none of the machines is installed"),
        (["--rounds", "0"], "--rounds: '0' is not a number from 1 up"),
        (["--rounds", "-1"], "--rounds: '-1' is not a number from 1 up"),
        (["--json", "/nonexistent/x"], "--json: there is no directory /nonexistent"),
        (["--chart", "/nonexistent/x"], "--chart: there is no directory /nonexistent"),
        (["fib"], "vmm bench: one argument too many: 'fib'"),
    ],
)
def test_mistakes(
    arguments: list[str], sentence: str, machines: dict[str, FakePeer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"vmm: {sentence} (status 2)"
    assert all(peer.ran == [] for peer in machines.values())


def test_an_installation_without_the_sources(
    machines: dict[str, FakePeer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "KERNELS", ())
    assert cli.main(["bench"]) == 2
    assert "they are only in a checkout" in capsys.readouterr().err


def test_the_report(machines: dict[str, FakePeer], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert cli.main(["bench", "--rounds", "2", "--json", str(file)]) == 0
    said = capsys.readouterr()
    assert said.err == "unicorn is left out: it is not installed\n"
    titles = ("Startup", "Compute kernels", "Nanobenchmarks", "Scale", "Boots", "Macro")
    assert [title in said.out for title in titles] == [True] * 6
    report = json.loads(file.read_text())
    assert report["rounds"] == 2
    assert list(report["suites"]) == ["startup", "compute", "nano", "scale", "boots", "macro"]
    assert report["suites"]["compute"]["ratios"] == {"qemu": {"x": 2.0}}
    assert report["suites"]["nano"]["nanoseconds"]["cpuid"]["vmm"] == pytest.approx([1e5, 1e5])
    assert report["suites"]["nano"]["geometric_means"]["qemu"] == pytest.approx(2.0)


def test_quick_is_one_round(machines: dict[str, FakePeer]) -> None:
    assert cli.main(["bench", "--quick", "--suite", "compute", "--peers", "qemu,qemu"]) == 0
    assert machines["qemu"].ran == ["x-1"]
    assert machines["vmm"].ran == []


def test_quick_leaves_the_slow_out_unless_they_are_asked_for(
    machines: dict[str, FakePeer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "SLOW", {"qemu"})
    assert [machine.name for machine in suite.machines_of(None, quick=True)] == ["vmm"]
    assert "qemu is left out: --quick" in capsys.readouterr().err
    assert [machine.name for machine in suite.machines_of("qemu", quick=True)] == ["qemu"]


@pytest.mark.parametrize("wrong", [{"output": "something else"}, {"fails": True}])
def test_the_status_of_a_failed_run(wrong: dict[str, object], machines: dict[str, FakePeer]) -> None:
    for name, value in wrong.items():
        setattr(machines["qemu"], name, value)
    assert cli.main(["bench", "--suite", "compute"]) == 12


def test_a_suite_that_cannot_run_is_left_out(
    machines: dict[str, FakePeer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_compiler(*_: object) -> Comparison:
        raise BuildError("gcc is not installed")

    monkeypatch.setitem(bench.SUITES, "compute", no_compiler)
    assert cli.main(["bench", "--suite", "compute,nano"]) == 0
    assert "compute is left out: gcc is not installed" in capsys.readouterr().err
    assert cli.main(["bench", "--suite", "compute"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "vmm: no suite can run here (status 2)"


def test_the_chart(machines: dict[str, FakePeer], tmp_path: Path) -> None:
    Pictures = pytest.importorskip("PIL.Image")
    file = tmp_path / "chart.png"
    assert cli.main(["bench", "--chart", str(file)]) == 0
    with Pictures.open(file) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 16)}
        assert picture.format == "PNG"
    assert (0xC8, 0x55, 0x3D) in colours


def test_a_chart_has_a_line_for_every_ratio(filled: Comparison) -> None:
    Pictures = pytest.importorskip("PIL.Image")
    from io import BytesIO

    from perf.chart import png

    filled.add("c", "qemu", 1.0)  # not ours: no ratio, no line
    before = Pictures.open(BytesIO(png([filled]))).height
    filled.add("c", "vmm", 1e9)
    assert Pictures.open(BytesIO(png([filled]))).height > before


def test_figures_of_a_boot() -> None:
    stats = {
        "guest_insns": 3_000_000,
        "exits_per_million_insns": 7.0,
        "translated_insns": {"ident": 300, "callout": 100},
        "seconds": {"translate": 0.004},
    }
    figures = boots.figures(stats)
    assert figures["us/translated"] == pytest.approx(10.0)
    assert figures["translated"] == 400


@pytest.mark.parametrize(("given", "names"), [("a", ["a"]), ("b,a,b", ["b", "a"])])
def test_pick(given: str, names: list[str]) -> None:
    assert suite.pick(given, ("a", "b"), "thing") == names


def test_pick_refuses() -> None:
    with pytest.raises(UsageError, match="there is no thing 'c'; there are a, b"):
        suite.pick("a,c", ("a", "b"), "thing")
