"""The compiled engine and the same source interpreted are one machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.e2e.cli import own_guest
from tests.guests.build import expected, normalise
from vmm import compiled

NEEDS_COMPILER = pytest.mark.skipif(
    shutil.which("gcc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="a compiler and Python's headers are needed",
)
GUESTS_OF_BOTH = ("rings", "anywhere", "sysenter", "segment_loads", "shared_table")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources alone."""
    if compiled.library() is None:
        pytest.skip("nothing is compiled here: no compiler, no headers, or BTVMM_INTERPRETED")
    folder = tmp_path_factory.mktemp("interpreted")
    for name in (*compiled.FLOORS, "devices"):
        shutil.copytree(compiled.ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return folder


@pytest.mark.guest
@pytest.mark.skipif(not shutil.which("nasm"), reason="nasm makes the guests")
@pytest.mark.parametrize("name", GUESTS_OF_BOTH)
def test_both_are_one_machine(name: str, interpreted: Path, tmp_path: Path) -> None:
    alone = own_guest(name, tmp_path / "interpreted" / "run", interpreted)
    assert normalise(alone.files["-debugcon"].encode("latin-1")) == expected(name)
    assert own_guest(name, tmp_path / "compiled" / "run").deterministic == alone.deterministic


def test_the_sources_alone_run_interpreted(interpreted: Path) -> None:
    look = "from vmm import compiled; print(compiled.ROOT, compiled.library())"
    done = subprocess.run([sys.executable, "-c", look], cwd=interpreted, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(interpreted), "None"]


@NEEDS_COMPILER
@pytest.mark.skipif(bool(os.environ.get("BTVMM_INTERPRETED")), reason="it is asked for that nothing is compiled")
def test_with_a_compiler_the_engine_is_compiled() -> None:
    assert compiled.library() is not None


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The folders that setup.py compiles, with all its modules empty, and what an earlier build left there."""
    shutil.copy(compiled.ROOT / "setup.py", tmp_path)
    for source in (path for floor in compiled.FLOORS for path in (compiled.ROOT / floor).rglob("*.py")):
        path = tmp_path / source.relative_to(compiled.ROOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "vmm" / "gone.cpython-311-x86_64-linux-gnu.so").touch()
    return tmp_path


def compile_(house: Path, **environment: str) -> tuple[list[str], str]:
    """The names of what building in place leaves, and what it says; it ends well, whatever the compiler does."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=house,
        env={**os.environ, "BTVMM_INTERPRETED": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    left = sorted(path.name.partition(".")[0] for path in house.rglob("*.so") if "build" not in path.parts)
    return left, done.stdout + done.stderr


def test_a_compiler_that_fails_leaves_the_source_alone(house: Path) -> None:
    left, said = compile_(house, CC="false")
    assert left == []
    assert "not compiled, so that it runs interpreted" in said


def test_nothing_is_compiled_if_nothing_is_to_be(house: Path) -> None:
    assert compile_(house, BTVMM_INTERPRETED="1") == ([], "")


def test_a_source_that_mypyc_refuses_is_interpreted(house: Path) -> None:
    (house / "cache" / "cache.py").write_text("x: int = 'no'\n")
    left, said = compile_(house)
    assert left == []
    assert "cache/cache.py:1: error: Incompatible types" in said


@NEEDS_COMPILER
def test_what_was_compiled_once_goes(house: Path) -> None:
    left, _ = compile_(house)
    assert {"btvmm__mypyc", "engine", "unit", "cache"} <= set(left)
    assert "gone" not in left


def test_a_source_changed_since_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    built = tmp_path / "library.so"
    for name in ("cache.py", "cache.cpython-311-x86_64-linux-gnu.so", "pairs.py"):
        (folder / name).touch()
        os.utime(folder / name, (0, 100))
    built.touch()
    os.utime(built, (0, 200))
    assert compiled.outdated(built, tmp_path) == []
    for name in ("cache.py", "pairs.py"):
        os.utime(folder / name, (0, 300))
    assert compiled.outdated(built, tmp_path) == [folder / "cache.py"]
