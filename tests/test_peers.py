"""The machines that the benchmarks run as whole processes: what they print, when, and how they end."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from perf.bochs import Bochs
from perf.kernels.build import KERNELS, build
from perf.peer import Job, PeerError, Run, System, converse, listen, options
from perf.peers import Ours, Qemu, peers
from perf.suite import in_turn
from perf.v86 import V86
from perf.whole import RESULT, Whole

KERNEL = Path("kernel")


@dataclass
class Script:
    """A system that is a Python program."""

    source: str
    name: str = "script"

    def missing(self) -> str | None:
        return None

    def command(self, job: Job, folder: Path) -> list[str]:
        return [sys.executable, "-u", "-c", self.source]


def test_lines_up_to_the_last_and_no_more(tmp_path: Path) -> None:
    script = Script("import time\nfor n in range(3): print('line', n, end='\\r\\n'); time.sleep(0.05)\nwhile 1: pass")
    lines = converse(script, Job(KERNEL), "e 1$", tmp_path, 20).lines
    assert [line.text for line in lines] == ["line 0", "line 1"]
    assert 0 < lines[0].at < lines[1].at


def test_a_prompt_ends_no_line(tmp_path: Path) -> None:
    script = Script("import time\nprint('one\\nlo', end=''); time.sleep(0.1); print('gin: ', end='')\nwhile 1: pass")
    lines = converse(script, Job(KERNEL), "login:", tmp_path, 20).lines
    assert [line.text for line in lines] == ["one", "login: "]


def test_a_pattern_for_a_whole_line_waits_for_it(tmp_path: Path) -> None:
    script = Script("import time\nprint('a1', end=''); time.sleep(0.1); print('b2')\nprint('1')")
    assert [line.text for line in converse(script, Job(KERNEL), "1$", tmp_path, 20).lines] == ["a1b2", "1"]


def test_a_process_may_end_by_itself(tmp_path: Path) -> None:
    source = f"import time\nprint('done', flush=True); time.sleep(0.2); open({str(tmp_path / 'left')!r}, 'w').close()"
    session = listen("script", [sys.executable, "-c", source], "done", tmp_path, 20, linger=20)
    assert (tmp_path / "left").exists()
    assert session.lines[-1].text == "done"
    assert session.memory > 1000


@pytest.mark.parametrize(
    ("source", "seconds", "sentence"),
    [
        ("print('no')", 20, "script did not print 'yes'; its last line: no"),
        ("import sys; sys.exit('cannot start')", 20, "script did not print 'yes'; its last line: cannot start"),
        ("", 20, "script did not print 'yes'; its last line: nothing"),
        ("print('no')\nwhile 1: pass", 1, "script did not print 'yes' in 1 s; its last line: no"),
    ],
)
def test_what_does_not_come(source: str, seconds: float, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=f"^{re.escape(sentence)}$"):
        converse(Script(source), Job(KERNEL), "yes", tmp_path, seconds)


def test_options_that_are_shared() -> None:
    job = Job(KERNEL, append="a b", initrd=Path("initrd"), disk=Path("disk.img"))
    assert options(job, "128M") == [
        *("-m", "128M", "-kernel", "kernel", "-initrd", "initrd", "-append", "a b"),
        *("-drive", "file=disk.img,format=raw,snapshot=on"),
    ]
    assert options(Job(KERNEL), "1") == ["-m", "1", "-kernel", "kernel"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("fib a7a1778e", "fib a7a1778e"),
        ("\x1b[H\x1b[J\x1b[1;1Hfib a7a1778e", "fib a7a1778e"),
        ("\x1b[1;1H00000010", "00000010"),
        ("jmpf 0xf000:e05b          ; ea5be000f0", None),
        ("fib a7a1778e and more", None),
    ],
)
def test_the_line_that_a_kernel_ends_with(line: str, found: str | None) -> None:
    match = re.search(RESULT, line)
    assert (match and match[0]) == found


@dataclass
class Timed(Script, Whole):
    """Takes 0.1 s to start and 0.2 s for the kernel."""

    def __post_init__(self) -> None:
        Whole.__init__(self)

    def command(self, job: Job, folder: Path) -> list[str]:
        seconds = 0.1 if job.kernel.name.startswith("empty") else 0.3
        return [sys.executable, "-c", f"import time; time.sleep({seconds}); print('x 00000001')"]


def test_the_start_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perf.whole.build", Path)
    run = Timed("").run(KERNEL)
    assert run.output == "x 00000001"
    assert run.seconds == pytest.approx(0.2, abs=0.15)


def test_the_slow_run_once() -> None:
    machines = [peers()[name] for name in ("vmm", "bochs")]
    assert [[machine.name for machine in turn] for turn in in_turn(machines, 3)] == [["vmm", "bochs"], ["vmm"], ["vmm"]]


@pytest.mark.oracle
@pytest.mark.parametrize("machine", [Ours(), Qemu(), V86(), Bochs()], ids=lambda machine: machine.name)
def test_a_kernel_on_each(machine: System, tmp_path: Path) -> None:
    if reason := machine.missing():
        pytest.skip(reason)
    job = Job(build("empty"), multiboot=True)
    assert converse(machine, job, RESULT, tmp_path, 60).lines[-1].text.endswith("empty 00000000")


@pytest.mark.oracle
@pytest.mark.skipif(bool(V86().missing()), reason="v86 is needed")
def test_v86_computes_the_checksum() -> None:
    kernel = build(KERNELS[0])
    run = V86().run(kernel)
    assert isinstance(run, Run)
    assert run.output == Qemu().run(kernel).output
