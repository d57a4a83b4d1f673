"""Traces: the file, the same run again, a planted difference, and the command."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.guests.build import build
from translator import expand
from vmm import builtin, cli
from vmm.config import Channel, DebugExit, MachineConfig
from vmm.errors import ExitStatus, UsageError
from vmm.trace import Level, Plan, Trace, TraceError, check, compare, record

WAYS: dict[str, dict[str, Any]] = {"as is": {}, "chaining off": {"chaining": False}, "64 KiB": {"tc_size": 64 << 10}}
GUESTS = ("ticks", "rings", "selfmod32", "single_step", "faults")
EVERY = Plan(interval=1000)
WINDOW = Plan(Level.INSN, 1, 4000, 4200)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guest") / "builtin"
    path.write_bytes(builtin.image())
    return path


def machine(kernel: Path, **settings: Any) -> MachineConfig:
    return MachineConfig(kernel=kernel, memory=16 << 20, **settings)


def made(kernel: Path, plan: Plan = EVERY, **settings: Any) -> Trace:
    return record(machine(kernel, **settings), plan)[0]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in one rule: INC r32 is translated as DEC, and DEC as INC."""
    right = expand.EMITTERS["inc_dec"]

    def wrong(e: Any, insn: Any) -> int | None:
        other = copy(insn)
        other.opcode ^= 8
        return right(e, other)

    monkeypatch.setitem(expand.EMITTERS, "inc_dec", wrong)


def test_round_trip(kernel: Path, tmp_path: Path) -> None:
    for plan in (EVERY, WINDOW):
        trace = made(kernel, plan)
        trace.write(tmp_path / "t")
        assert Trace.read(tmp_path / "t") == trace


def test_records_are_at_exact_counts(kernel: Path) -> None:
    counts = [entry.insns for entry in made(kernel).records]
    assert counts[:-1] == list(range(0, counts[-1], 1000))
    counts = [entry.insns for entry in made(kernel, WINDOW).records]
    assert counts == list(range(4000, 4201))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GUESTS)
def test_the_same_run_again(name: str, way: str) -> None:
    config = machine(build(name), debug_exit=DebugExit(0xF4, 1), serial=(Channel("null"),))
    trace, _ = record(config, EVERY)
    assert trace.records
    again: dict[str, Any] = {"chaining": True, "tc_size": 32 << 20} | WAYS[way]
    assert check(machine(build(name), debug_exit=config.debug_exit, **again), trace)[0] is None


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda data: data[:-20], "truncated or damaged"),
    "a bit": (lambda data: data[:200] + bytes((data[200] ^ 1,)) + data[201:], "truncated or damaged"),
    "the checksum": (lambda data: data[:-1] + bytes((data[-1] ^ 1,)), "truncated or damaged"),
    "another version": (lambda data: data[:8] + b"\x63\0" + data[10:], "version 99"),
    "a few bytes": (lambda data: data[:9], "not a trace"),
    "no trace": (lambda data: b"\x7fELF" * 30, "not a trace"),
    "empty": (lambda data: b"", "not a trace"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files(damage: str, kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, sentence = DAMAGE[damage]
    path = tmp_path / "t"
    made(kernel).write(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TraceError, match=sentence):
        Trace.read(path)
    for command in (["check", str(path)], ["diff", str(path), str(path)], ["show", str(path)]):
        assert cli.main(["trace", *command]) == ExitStatus.BAD_IMAGE
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("field", [{"level": "all"}, {"interval": 0}, {"machine": 1}])
def test_headers_with_a_right_checksum_and_wrong_values(field: dict[str, Any], kernel: Path, tmp_path: Path) -> None:
    trace = made(kernel)
    trace.header = replace(trace.header, **field)
    trace.write(tmp_path / "t")
    with pytest.raises(TraceError, match="not a trace that this program wrote"):
        Trace.read(tmp_path / "t")


# Differences ---------------------------------------------------------------------------------------------------


def test_a_planted_fault_is_found_and_named(kernel: Path, request: pytest.FixtureRequest) -> None:
    hashes, every = made(kernel), made(kernel, Plan(Level.INSN, 1, 300, 700))
    assert compare(hashes, made(kernel)) is None
    request.getfixturevalue("planted")
    found = check(machine(kernel), hashes)[0]
    assert found is not None
    assert found.window[1] - found.window[0] <= EVERY.interval
    found = compare(every, made(kernel, Plan(Level.INSN, 1, 300, 700)))
    assert found is not None
    assert found == check(machine(kernel), every)[0]
    assert found.window[1] - found.window[0] == 1
    assert found.registers == ("ecx", "eflags")
    assert "'inc ecx'" in found.sentence()


def test_a_run_that_ends_before_or_after_the_reference(kernel: Path) -> None:
    short, whole = made(kernel, max_insns=2500), made(kernel)
    found = compare(short, whole)
    assert found is not None
    assert "the reference ends after 2500 instructions" in found.sentence()
    found = compare(whole, short)
    assert found is not None
    assert "the other run ends after 2500 instructions" in found.sentence()
    assert check(machine(kernel), short)[0] is None


@pytest.mark.parametrize(
    ("plan", "settings", "sentence"),
    [
        (EVERY, {"append": "x"}, "another machine: it differs in append"),
        (EVERY, {"reboot": False}, "another machine: it differs in reboot"),
        (Plan(interval=999), {}, "different counts"),
        (WINDOW, {}, "different counts"),
    ],
)
def test_what_cannot_be_compared(kernel: Path, plan: Plan, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        compare(made(kernel), made(kernel, plan, **settings))


def test_another_image_is_another_machine(kernel: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(kernel.read_bytes() + b"\0")
    with pytest.raises(UsageError, match="another machine: it differs in images"):
        check(machine(other), made(kernel))


# The command ---------------------------------------------------------------------------------------------------


def test_the_command(
    kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    out, options = str(tmp_path / "t"), ["-m", "16M", "-kernel", str(kernel)]
    hashes = str(tmp_path / "hashes")
    assert cli.main(["trace", "record", hashes, "--interval", "1000", *options]) == 0
    window = ["--level", "insn", "--from", "300", "--to", "700"]
    assert cli.main(["trace", "record", out, *window, *options]) == 0
    assert cli.main(["trace", "check", out]) == 0
    assert cli.main(["trace", "check", out, "--no-chaining", *options]) == 0
    assert cli.main(["trace", "check", out, *options, "--append", "x"]) == ExitStatus.USAGE
    capsys.readouterr()
    assert cli.main(["trace", "show", out, "--from", "400", "--to", "401"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    request.getfixturevalue("planted")
    assert cli.main(["trace", "check", out]) == ExitStatus.DIFFERS
    shown = capsys.readouterr()
    assert "<- differs" in shown.out
    assert "'inc ecx'" in shown.err
    assert shown.err.count("\n") == 1
    other = str(tmp_path / "other")
    assert cli.main(["trace", "record", other, *window, *options]) == 0
    capsys.readouterr()
    assert cli.main(["trace", "diff", out, other]) == ExitStatus.DIFFERS
    shown = capsys.readouterr()
    assert re.search(
        r"^ecx was last changed by instruction \d+, 'inc ecx' at .*, in both runs$", shown.out, re.MULTILINE
    )
    assert re.search(r"^-> 41 +'inc ecx' at", shown.out, re.MULTILINE)
    assert cli.main(["trace", "check", hashes]) == ExitStatus.DIFFERS
    shown = capsys.readouterr()
    assert "the runs part between instructions 0 and 1000" in shown.err
    assert re.search(r"^ecx was last changed by instruction \d+, '.*' at .*, in this run$", shown.out, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["play"],
        ["record"],
        ["check"],
        ["show"],
        ["diff", "one"],
        ["record", "/nowhere/t"],
        ["record", "t", "--level", "all"],
        ["record", "t", "--level", "insn"],
        ["record", "t", "--interval", "0"],
        ["record", "t", "--interval", "many"],
        ["record", "t", "--level", "insn", "--to", "100_000_000"],
        ["record", "t", "--from", "2", "--to", "1"],
        ["record", "t", "-realtime", "--max-insns", "1"],
    ],
)
def test_mistakes(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["trace", *arguments]) == ExitStatus.USAGE
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
