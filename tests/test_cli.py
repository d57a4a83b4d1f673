"""The command line: options, exit statuses, and one sentence for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Self

import pytest

from vmm import cli
from vmm.cli.options import RUN_OPTIONS, Draft, unescape
from vmm.cli.parse import parse, properties
from vmm.config import BrokenCell, Channel, DebugExit, Drive, MachineConfig, Step
from vmm.errors import ExitStatus, ImageError, Unsupported
from vmm.result import RunResult
from vmm.stats import Stats
from vmm.stopwatch import Stopwatch

ROOT = Path(__file__).parents[1]


class FakeMachine:
    """Takes a configuration and ends at once."""

    configs: ClassVar[list[MachineConfig]]
    result = RunResult(0, "the guest powered off", 1234, 0.5)
    raises: BaseException | None = None

    def __init__(self, config: MachineConfig) -> None:
        type(self).configs.append(config)
        self.stats = Stats(guest_insns=1234)
        self.watch = Stopwatch()
        self.on_statistics = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        pass

    def run(self) -> RunResult:
        if self.raises:
            raise self.raises
        return self.result


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeMachine]]:
    fresh = type("Fresh", (FakeMachine,), {"configs": []})  # tests set its other attributes as well
    module = ModuleType("vmm.machine")
    monkeypatch.setattr(module, "Machine", fresh, raising=False)
    monkeypatch.setitem(sys.modules, "vmm.machine", module)
    return fresh


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"\x55\xaa" * 256)
    return path


def configure(*arguments: str) -> MachineConfig:
    draft = Draft()
    operands = parse(RUN_OPTIONS, draft, arguments, "vmm run", 1)
    return draft.config(operands[0] if operands else None)


# What the options mean ---------------------------------------------------------------------------------------
SELF = str(Path(__file__))
FILE = Path(__file__)
OPTIONS = [
    ([], {}),
    (["-m", "64"], {"memory": 64 << 20}),
    (["--m=1G"], {"memory": 1 << 30}),
    (["-m", "size=96M"], {"memory": 96 << 20}),
    ([SELF], {"image": FILE}),
    (["--", SELF], {"image": FILE}),
    (["-kernel", SELF, "-initrd", SELF, "-append", "-v"], {"kernel": FILE, "initrd": FILE, "append": "-v"}),
    (["--kernel", SELF], {"kernel": FILE}),
    (["--kernel=" + SELF, "--append=a=b"], {"kernel": FILE, "append": "a=b"}),
    (["-bios", SELF], {"bios": FILE}),
    (["-device", "VGA,romfile=" + SELF], {"vgabios": FILE}),
    (["-fda", SELF], {"drives": (Drive(FILE, "floppy", 0),)}),
    (["-hdb", SELF], {"drives": (Drive(FILE, "ide", 1),)}),
    (["-cdrom", SELF], {"drives": (Drive(FILE, "ide", 2, "cdrom", read_only=True),)}),
    (["-drive", f"file={SELF},if=floppy,index=1"], {"drives": (Drive(FILE, "floppy", 1),)}),
    (["-drive", f"file={SELF},snapshot=off"], {"drives": (Drive(FILE, snapshot=False),)}),
    (["-drive", f"file={SELF},snapshot=off", "-snapshot"], {"drives": (Drive(FILE),)}),
    (["-drive", f"file={SELF},readonly=on,format=raw"], {"drives": (Drive(FILE, read_only=True),)}),
    (["-drive", f"file={SELF}", "-hda", SELF], {"drives": (Drive(FILE, "ide", 1), Drive(FILE, "ide", 0))}),
    (["-boot", "d"], {"boot": "d"}),
    (["-boot", "order=ca,menu=off"], {"boot": "ca"}),
    (["-serial", "null"], {"serial": (Channel("null"),)}),
    (["-serial", "file:x", "-serial", "stdio"], {"serial": (Channel("file", Path("x")), Channel("stdio"))}),
    (["-serial", "mon:stdio"], {"serial": (Channel("stdio", all_keys=True),)}),
    (["-debugcon", "stdio"], {"debugcon": Channel("stdio"), "serial": (Channel("null"),)}),
    (["-nographic"], {"display": "none", "serial": (Channel("stdio", all_keys=True),)}),
    (["-nographic", "-serial", "null"], {"display": "none", "serial": (Channel("null"),)}),
    (["-display", "none"], {"display": "none"}),
    (["-device", "isa-debug-exit,iobase=0xf4,iosize=4"], {"debug_exit": DebugExit(0xF4, 4)}),
    (["-device", "isa-debug-exit"], {"debug_exit": DebugExit(0x501, 2)}),
    (["-device", "broken-ram,address=0x123456,bit=3,stuck=0"], {"broken_ram": (BrokenCell(0x123456, 3, 0),)}),
    (
        ["-device", "broken-ram,address=1", "-device", "broken-ram,address=2"],
        {"broken_ram": (BrokenCell(1), BrokenCell(2))},
    ),
    (["-rtc", "base=2024-02-29T12:00:00,clock=vm"], {"rtc_base": datetime(2024, 2, 29, 12, tzinfo=UTC)}),
    (["-no-reboot"], {"reboot": False}),
    (["--timeout", "2.5"], {"timeout": 2.5}),
    (["--max-insns", "1_000"], {"max_insns": 1000}),
    (
        ["--expect", "a", "--send", r"b\n", "--expect", "c"],
        {"script": (Step("expect", "a"), Step("send", "b\n"), Step("expect", "c"))},
    ),
    (["--fail-on", "x", "--fail-on", "y"], {"fail_on": ("x", "y")}),
    (["--technique", "bt-all"], {"technique": "bt-all"}),
    (["--tc-size", "64K"], {"tc_size": 64 << 10}),
    (["--no-chaining", "--realtime"], {"chaining": False, "realtime": True}),
    (
        ["-nic", "none", "-machine", "pc,accel=tcg", "-vga", "std", "-monitor", "none", "-nodefaults"],
        {},
    ),
    (["-M", "pc-i440fx-7.2", "-accel", "tcg,thread=single", "-cpu", "qemu32", "-smp", "cpus=1"], {}),
    (["-machine", "type=pc,accel=tcg", "-k", "en-us"], {}),
    (["-icount", "shift=3,sleep=off"], {"icount": 3}),
    (["-icount", "0"], {"icount": 0}),
    (["-parallel", "none", "-audio", "none", "-name", "a guest", "-net", "none", "-no-user-config"], {}),
    (["-display", "curses"], {"display": "text"}),
    (["-curses"], {"display": "text"}),
    (["-drive", f"file={SELF},id=disk,cache=none,aio=threads"], {"drives": (Drive(FILE),)}),
]


@pytest.mark.parametrize(("arguments", "settings"), OPTIONS, ids=lambda value: " ".join(value)[:40] or "nothing")
def test_options(arguments: list[str], settings: dict[str, object]) -> None:
    assert configure(*arguments) == MachineConfig(**({"drives": ()} | settings))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (r"root\n", "root\n"),
        (r"a\\n", r"a\n"),
        (r"\\\n", "\\\n"),
        (r"\x41\x0d", "A\r"),
        (r"\e[A\t\b\0", "\x1b[A\t\b\0"),
        ("a\\", "a\\"),
        ("plain", "plain"),
    ],
)
def test_escapes_of_send(text: str, result: str) -> None:
    assert unescape(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a=1,b=2", {"a": "1", "b": "2"}),
        ("d,b=2", {"first": "d", "b": "2"}),
        ("a=x,,y", {"a": "x,y"}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_properties(text: str, result: dict[str, str]) -> None:
    assert properties(text, "-x", "first") == result


def test_names_of_options_are_unique() -> None:
    names = [name for option in RUN_OPTIONS for name in option.names]
    assert len(set(names)) == len(names)


# Mistakes --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["run", "-m", "0"], 2, "-m: guest memory must be between 1M and 3G"),
        (["run", "-m", "999G"], 2, "-m: guest memory must be between 1M and 3G"),
        (["run", "-m", "much"], 2, "-m: 'much' is not a size (examples: 64K, 128M, 1G)"),
        (["run", "-m", "64M,slots=2"], 2, "-m: there is no property 'slots'; there are size"),
        (["run", "-m"], 2, "-m SIZE: the value is missing"),
        (["run", "--colour"], 2, "unknown option --colour (vmm run --help lists them)"),
        (["run", "-kernl", "x"], 2, "unknown option -kernl, did you mean kernel? (vmm run --help lists them)"),
        (["-kernl=x"], 2, "unknown option -kernl, did you mean kernel? (vmm run --help lists them)"),
        (["run", "---m", "1"], 2, "unknown option ---m, did you mean m? (vmm run --help lists them)"),
        (["run", "-s=x"], 2, "-s takes no value"),
        (["run", SELF, SELF], 2, f"vmm run: one argument too many: {SELF!r}"),
        (["run", "/nonexistent"], 4, "image: /nonexistent: No such file or directory"),
        (["run", "-kernel", "/tmp"], 4, "-kernel: /tmp is a directory"),
        (["run", "-hda", "/dev/null"], 4, "ide drive 0: /dev/null is empty"),
        (["run", "-drive", "if=ide"], 2, "-drive: file= is missing"),
        (["run", "-drive", f"file={SELF},if=virtio"], 2, "-drive: if=virtio is not one of floppy, ide"),
        (["run", "-drive", f"file={SELF},bus=1"], 2, "-drive: there is no property 'bus'; there are aio, cache, "),
        (["run", "-drive", f"file={SELF},snapshot=maybe"], 2, "-drive: snapshot: 'maybe' is neither on nor off"),
        (["run", "-drive", f"file={SELF},file=x"], 2, "-drive: file is given twice"),
        (["run", "-drive", "x"], 2, "-drive: 'x' is not of the form key=value"),
        (["run", "-hda", SELF, "-hda", SELF], 2, "two drives are in the same place, ide 0"),
        (["run", *(["-drive", f"file={SELF}"] * 5)], 2, "there is no place for another ide drive"),
        (["run", "-boot", "n"], 2, "-boot: 'n' is not one of a (floppy), c (hard disk), d (CD-ROM)"),
        (["run", "-serial", "tcp::1"], 2, "-serial: 'tcp::1' is not one of stdio, mon:stdio, file:PATH, null"),
        (["run", "-display", "gtk"], 2, "-display: 'gtk' is not one of text, none"),
        (
            ["run", "-device", "e1000"],
            14,
            "-device: there is no device 'e1000', there are isa-debug-exit, broken-ram and VGA",
        ),
        (["run", "-device", "broken-ram,bit=3"], 2, "-device broken-ram: address= is missing"),
        (["run", "-device", "isa-debug-exit,iobase=x"], 2, "-device isa-debug-exit: iobase: 'x' is not a number"),
        (["run", "-nic", "user"], 14, "-nic: 'user' is not supported, only none"),
        (["run", "-vga", "none"], 14, "-vga: 'none' is not supported, only std"),
        (["run", "-M", "q35,accel=tcg"], 14, "-machine: 'q35,accel=tcg' is not supported, only pc"),
        (["run", "-accel", "kvm"], 14, "-accel: 'kvm' is not supported, only tcg"),
        (["run", "-cpu", "486"], 14, "-cpu: '486' is not supported, only qemu32"),
        (
            ["run", "-icount", "shift=auto"],
            14,
            "-icount: shift=auto is not supported, time is counted in instructions",
        ),
        (["run", "-icount", "shift=11"], 2, "-icount: shift=11 is not a number from 0 to 10"),
        (["run", "-icount", "shift=3,sleep=x"], 2, "-icount: sleep=x is neither on nor off"),
        (["run", "-icount", "sleep=off"], 2, "-icount: shift= is not a number from 0 to 10"),
        (["run", "-smp", "4"], 14, "-smp: '4' is not supported, only 1"),
        (["run", "-rtc", "base=soon"], 2, "-rtc: base=soon is not utc, localtime or a date like "),
        (["run", "-rtc", "clock=host"], 14, "-rtc: clock=vm is the only clock there is"),
        (["run", "--timeout", "x"], 2, "--timeout: 'x' is not a number of seconds"),
        (["run", "--timeout", "-1"], 2, "--timeout: must be a positive number of seconds"),
        (["run", "--max-insns", "many"], 2, "--max-insns: 'many' is not a number of instructions"),
        (["run", "--expect", "("], 2, "--expect: '(' is not a regular expression: "),
        (["run", "--send", r"\q"], 2, "--send: \\q is not one of "),
        (["run", "--tc-size", "1"], 70, ""),
        (["run", "--stats-json", "/nonexistent/x"], 2, "--stats-json: there is no directory /nonexistent"),
        (["run", "-s"], 14, "-gdb and -s: there is no debugger stub yet"),
        (["rum"], 2, "unknown command 'rum', did you mean run? (vmm --help lists them)"),
        ([SELF], 2, f"unknown command {SELF!r}, to run it write: vmm run {SELF} (vmm --help lists them)"),
        (["guests", "lst"], 2, "vmm guests: unknown action 'lst', did you mean list?"),
        (["guests", "path"], 2, "vmm guests path takes one name"),
        (["guests", "path", "dos"], 2, "there is no guest 'dos'; there are seabios, "),
        (["guests", "fetch", "--all"], 2, "vmm guests fetch: unknown option --all"),
        (["rules", "a", "b"], 2, "vmm rules: one argument too many: 'b'"),
        (["doctor", "who"], 2, "vmm doctor takes no arguments"),
        (["stats", "/nonexistent"], 2, "/nonexistent: No such file or directory"),
        (["stats", SELF], 2, f"{SELF}: not a file of statistics"),
        (["stats", "--prometheus"], 2, "vmm stats --prometheus needs a FILE"),
    ],
    ids=lambda value: " ".join(value).replace(SELF, "FILE")[:50] if isinstance(value, list) else None,
)
def test_mistakes(
    arguments: list[str],
    status: int,
    sentence: str,
    machine: type[FakeMachine],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if status == ExitStatus.INTERNAL:
        machine.raises = KeyError("x")
        sentence = "internal error, VMM_TRACEBACK=1 shows where: KeyError: 'x'"
    assert cli.main(arguments) == status
    said = capsys.readouterr()
    assert said.err.startswith(f"vmm: {sentence}")
    assert said.err.endswith(f"(status {status})\n")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert status == ExitStatus.INTERNAL or machine.configs == []


# The end of a run -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("result", "status"),
    [
        (RunResult(0, "the guest powered off"), 0),
        (RunResult(ExitStatus.TRIPLE_FAULT, "triple fault"), 6),
        (RunResult(ExitStatus.TIMEOUT, "time is up"), 124),
        (RunResult(0x21, "the guest chose"), 0x21),
        (RunResult((0x1234 << 1) | 1, "the guest chose"), 0x69),
    ],
)
def test_the_end_of_a_run(
    machine: type[FakeMachine], image: Path, capsys: pytest.CaptureFixture[str], result: RunResult, status: int
) -> None:
    machine.result = result
    assert cli.main(["run", str(image), "--json"]) == status
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == f"vmm: {result.reason} (status {status})"
    assert json.loads(said.out) == {"status": status, "reason": result.reason, "insns": 0, "seconds": 0.0}


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (Unsupported("the guest used a device that is not there"), 14, "the guest used a device that is not there"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 70, "the host has not enough memory"),
        (ValueError("two\nlines"), 70, "internal error, VMM_TRACEBACK=1 shows where: ValueError: two lines"),
        (RecursionError(), 70, "internal error, VMM_TRACEBACK=1 shows where: RecursionError:"),
    ],
)
def test_a_run_that_fails(
    machine: type[FakeMachine],
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    sentence: str,
) -> None:
    machine.raises = error
    assert cli.main(["run", str(image), "--stats-json", str(tmp_path / "s.json")]) == status
    assert capsys.readouterr().err == f"vmm: {sentence} (status {status})\n"
    assert json.loads((tmp_path / "s.json").read_text())["guest_insns"] == 1234, (
        "the statistics are written all the same"
    )


def test_json_of_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--json", "/nonexistent"]) == 4
    assert json.loads(capsys.readouterr().out)["status"] == 4


def test_a_traceback_on_request(
    machine: type[FakeMachine], image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.raises = KeyError("x")
    monkeypatch.setenv("VMM_TRACEBACK", "1")
    assert cli.main(["run", str(image)]) == 70
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].endswith("(status 70)")


def test_statistics_at_the_end(machine: type[FakeMachine], image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", str(image), "--stats"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.split() == ["guest_insns", "1,234", "instructions"] for line in lines)
    assert lines[-1] == "vmm: the guest powered off (status 0)"


def test_a_machine_without_a_sub_command(machine: type[FakeMachine], image: Path) -> None:
    assert cli.main(["-hda", str(image), "-m", "32"]) == 0
    assert machine.configs[0].memory == 32 << 20


# The other commands -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "usage: vmm COMMAND"),
        (["--help"], "usage: vmm COMMAND"),
        (["help"], "guests    list, fetch"),
        (["--version"], "vmm 0."),
        (["run", "--help"], "  --expect REGEX"),
        (["run", "-h"], "exit status:"),
        (["demo", "--help"], "usage: vmm demo"),
        (["guests"], "usage: vmm guests"),
        (["guests", "list"], "debian-i386-kernel"),
        (["rules", "--help"], "usage: vmm rules"),
        (["rules", "sgdt"], "0F 01 /0 mem"),
        (["stats", "--help"], "usage: vmm stats"),
        (["stats"], "Guest instructions retired"),
        (["doctor", "--help"], "usage: vmm doctor"),
    ],
)
def test_what_is_printed(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    said = capsys.readouterr()
    assert text in said.out
    assert said.err == ""


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"usage: vmm {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [option for option in RUN_OPTIONS if option.help], ids=lambda option: option.names[0]
)
def test_every_option_is_in_the_help(option: object, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["run", "--help"])
    assert f"  {option.shown}" in capsys.readouterr().out


def test_statistics_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(Stats(guest_insns=7).as_dict()))
    assert cli.main(["stats", str(path), "--prometheus"]) == 0
    assert "vmm_guest_insns_total 7\n" in capsys.readouterr().out
    assert cli.main(["stats", str(path)]) == 0
    assert "guest_insns" in capsys.readouterr().out


@pytest.mark.parametrize("have_guests", [True, False])
def test_the_demonstration(
    machine: type[FakeMachine],
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    have_guests: bool,
) -> None:
    from vmm.guests import GuestStore

    def path(_: GuestStore, name: str) -> Path:
        if not have_guests:
            raise ImageError("there is no apt-get")
        return image

    monkeypatch.setattr(GuestStore, "path", path)
    assert cli.main(["demo", "-m", "32"]) == 0
    (config,) = machine.configs
    assert config.memory == 32 << 20
    assert (config.initrd == image) == have_guests
    assert config.kernel is not None
    assert ("the built-in guest runs instead" in capsys.readouterr().err) == (not have_guests)


def broken_pipe(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
    finally:
        os.close(writer)


def test_a_reader_that_has_gone() -> None:
    done = broken_pipe([sys.executable, "-m", "vmm", "stats"])
    assert done.returncode == ExitStatus.INTERRUPTED
    assert done.stderr == b"vmm: the reader of the output has gone (status 130)\n"


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "vmm", "run", "-m", "0"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vmm: -m: guest memory must be between 1M and 3G (status 2)\n"
