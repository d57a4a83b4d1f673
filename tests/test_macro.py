"""The macrobenchmarks: what is read off a guest's lines, the guest's RAM disk, and a short run of all of it."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from perf import boots, macro, scale, startup
from perf.bare.build import build
from perf.comparison import Comparison
from perf.linux.build import APPLETS, members
from perf.peer import Line, PeerError, Run
from perf.peers import Ours, Qemu
from vmm import cpio, guests
from vmm.errors import ImageError
from vmm.loaders import Image, Kind, recognise

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is needed")
needs_qemu = pytest.mark.skipif(bool(Qemu().missing()), reason="QEMU is needed")


def test_a_step_lasts_from_its_line_to_the_next() -> None:
    texts = ["GRUB", "", "@shell:5", "@work:1", "sum 1", "sum 2", "@end"]
    lines = [Line(at, text) for at, text in zip((1, 2, 4, 5, 6, 7, 10), texts, strict=True)]
    assert list(macro.timeline(lines)) == [
        ("boot", 4, []),
        ("shell:5", 1, []),
        ("work:1", 5, ["sum 1", "sum 2"]),
        ("end", 0, []),
    ]


def test_machines_must_print_the_same() -> None:
    result = Comparison("Title", "seconds", ["vmm", "qemu"])
    printed: dict[str, tuple[str, list[str]]] = {}
    macro.take(result, "vmm", [("boot", 3.0, []), ("work:1", 2.0, ["1"]), ("end", 0.0, [])], printed)
    macro.take(result, "qemu", [("boot", 1.0, []), ("work:1", 4.0, ["2"]), ("end", 0.0, [])], printed)
    assert result.values == {"boot": {"vmm": [3.0], "qemu": [1.0]}, "work:1": {"vmm": [2.0]}}
    assert result.errors == ["work:1: qemu prints ['2'], vmm ['1']"]


def test_members_of_an_archive_that_was_built() -> None:
    archive = cpio.Archive()
    archive.file("a/b", b"12345", mode=0o755)
    archive.symlink("c", "a/b")
    assert list(members(archive.build())) == [
        ("a", 0o040755, b""),
        ("a/b", 0o100755, b"12345"),
        ("c", 0o120777, b"a/b"),
    ]
    with pytest.raises(ValueError, match="begins at 0"):
        list(members(b"something else"))


@pytest.mark.guest
def test_debians_initrd_has_what_is_taken_out_of_it() -> None:
    try:
        archive = guests.path("debian-i386-initrd")
    except ImageError as error:
        pytest.skip(str(error))
    found = {name: data for name, _, data in members(gzip.decompress(archive.read_bytes()))}
    assert {name for name in APPLETS if name.encode() + b"\0" not in found["bin/busybox"]} == set()


# Growth.


@dataclass
class Counter:
    """A machine that takes as long as it has RAM, and counts units."""

    name: str
    output: str = "code 1"
    fails: bool = False

    def missing(self) -> str | None:
        return None

    def run(self, kernel: Path, memory: int = 0) -> Run:
        if self.fails:
            raise PeerError(f"{self.name} ended with status 70")
        return Run(memory / 1e6, self.output, translations=7 if self.name == "vmm" else None)


def test_growth() -> None:
    points = [scale.Point("ram 1M", Path("x"), 1_000_000), scale.Point("tc 1M", Path("x"), 2_000_000, "1M")]
    machines = [Counter("vmm"), Counter("qemu"), Counter("v86", "code 2"), Counter("bochs", fails=True)]
    result = scale.compare(machines, 2, measured=lambda quick: iter(points))
    assert result.values == {"ram 1M": {"vmm": [1.0, 1.0], "qemu": [1.0, 1.0]}, "tc 1M": {"vmm": [2.0, 2.0]}}
    assert result.extra == {scale.UNITS: {"ram 1M": 7, "tc 1M": 7}}
    assert set(result.errors) == {
        "ram 1M: v86 prints 'code 2', vmm 'code 1'",
        "ram 1M: bochs ended with status 70",
    }


def test_a_machine_is_not_asked_for_more_ram_than_it_takes() -> None:
    points = [scale.Point("ram", Path("x"), scale.BELOW["v86"]), scale.Point("less", Path("x"), scale.BELOW["v86"] - 1)]
    result = scale.compare([Counter("v86"), Counter("qemu")], 1, measured=lambda quick: iter(points))
    assert {item: set(row) for item, row in result.values.items()} == {"ram": {"qemu"}, "less": {"v86", "qemu"}}


@needs_gcc
def test_quick_growth_is_of_all_kinds() -> None:
    items = {point.item.split()[0] for point in scale.points(quick=True)}
    assert items == {"code", "ram", "tc"}


@needs_gcc
@pytest.mark.oracle
@needs_qemu
@pytest.mark.parametrize(
    ("source", "sizes"),
    [("code.S", {"INSNS": 64, "PASSES": 3}), ("touch.c", {"MEBIBYTES": 8, "PASSES": 2})],
)
def test_ours_and_qemu_compute_the_same(source: str, sizes: dict[str, int]) -> None:
    image = build(source, **sizes)
    with Image.open(image) as file:
        assert recognise(file) is Kind.MULTIBOOT1
    outputs = {machine.run(image).output for machine in (Ours(), Qemu())}
    assert len(outputs) == 1
    assert outputs.pop().startswith(f"{image.name.partition('-')[0]} ")


def test_a_smaller_translation_cache_translates_more() -> None:
    small, large = (
        Ours(options=("--tc-size", size)).run(build("code.S", INSNS=16384, PASSES=3)).translations
        for size in ("64K", "1M")
    )
    assert small is not None
    assert large is not None
    assert small > large


# Start.


def test_starts_and_imports() -> None:
    result = startup.compare([Ours()], 1, quick=True)
    assert result.errors == []
    assert set(result.values) == {startup.RUN, *(f"import {module}" for module in startup.IMPORTS)}


def test_an_import_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "IMPORTS", ("nowhere",))
    assert startup.compare([Ours()], 1, quick=True).errors == [
        "import nowhere: ModuleNotFoundError: No module named 'nowhere'"
    ]


# Whole guests.


@pytest.mark.guest
def test_a_quick_boot() -> None:
    result = boots.compare([Ours()], 1, quick=True)
    assert result.errors == []
    assert set(result.extra) == {"M instructions", "exits/M", "translated", "us/translated", "MiB"}


@pytest.mark.guest
@pytest.mark.oracle
@pytest.mark.slow
@needs_gcc
@needs_qemu
def test_a_quick_run_of_whole_guests() -> None:
    result = macro.compare([Qemu()], 1, quick=True)
    assert result.errors == []
    assert set(result.values) == {"boot", "disk", *macro.QUICK}


@needs_gcc
@pytest.mark.oracle
@needs_qemu
def test_the_disk_reads_the_same_in_ours_and_qemu(tmp_path: Path) -> None:
    job, last = macro.disk(1, tmp_path)
    said = [macro.converse(machine, job, last, tmp_path, 60).lines[-1].text for machine in (Ours(), Qemu())]
    assert said[0] == said[1] != "disk 00000000"
