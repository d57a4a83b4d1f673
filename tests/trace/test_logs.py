"""QEMU's logs, imported and exported, and what is said of bad ones and of a QEMU that will not do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trace.test_lockstep import START, disk, text
from vmm import builtin, cli
from vmm.config import MachineConfig
from vmm.errors import ExitStatus
from vmm.trace import Level, Plan, Trace, record
from vmm.trace.insns import InsnLog
from vmm.trace.oracle import QEMU, find


def script(folder: Path, body: str) -> str:
    """A folder whose ``qemu-system-i386`` is a shell script."""
    path = folder / QEMU
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(folder)


@pytest.fixture
def window(tmp_path: Path) -> Trace:
    kernel = tmp_path / "builtin"
    kernel.write_bytes(builtin.image())
    return record(MachineConfig(kernel=kernel, memory=16 << 20), Plan(Level.INSN, 1, 300, 700))[0]


# Import and export ----------------------------------------------------------------------------------------------------


def test_what_is_exported_can_be_imported(window: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, log, again = (str(tmp_path / name) for name in ("ours", "log", "again"))
    window.write(tmp_path / "ours")
    assert cli.main(["trace", "export", ours, log]) == 0
    assert cli.main(["trace", "import", log, again]) == 0
    records = Trace.read(tmp_path / "again").records
    assert [found.registers for found in records] == [found.registers for found in window.records]
    capsys.readouterr()
    assert cli.main(["trace", "export", ours]) == 0
    assert capsys.readouterr().out == Path(log).read_text()
    assert cli.main(["trace", "diff", again, again]) == 0
    assert cli.main(["trace", "check", again]) == ExitStatus.USAGE
    assert cli.main(["trace", "diff", ours, again]) == ExitStatus.USAGE


@pytest.mark.oracle
@pytest.mark.skipif(not shutil.which(QEMU), reason="QEMU is the oracle")
def test_a_log_of_qemus_own_is_imported(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    image = disk(tmp_path)
    arguments = ["-display", "none", "-nodefaults", "-no-reboot", "-singlestep", "-d", "exec,cpu,nochain", "-D", log]
    with subprocess.Popen([QEMU, *arguments, "-drive", f"file={image},format=raw,if=ide,snapshot=on"]) as qemu:
        try:
            while not log.exists() or log.stat().st_size < 100_000:
                assert qemu.poll() is None
        finally:
            qemu.kill()
    cut = tmp_path / "cut"
    cut.write_bytes(log.read_bytes()[:100_000])
    assert cli.main(["trace", "import", str(cut), str(out)]) == 0
    records = Trace.read(out).records
    assert len(records) > 80
    assert [found.address for found in records[:2]] == ["f000:0000fff0", "f000:0000e05b"]


BAD: dict[str, bytes] = {
    "empty": b"",
    "another file": b"\x7fELF" * 1000,
    "no lines": bytes(1 << 18),
    "a block without registers": text(START).encode() + b"Trace 0: 0x0 [0/0/0/0]\nEAX=0000\n" + text(START).encode(),
    "only the first line": b"Trace 0: 0x7fdc3c000100 [ffff0000/fffffff0/00000040/ff020200] \n",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_logs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_bytes(BAD[name])
    for command in (["import", str(log), str(tmp_path / "out")], ["lockstep", "--log", str(log)]):
        assert cli.main(["trace", *command]) == ExitStatus.BAD_IMAGE
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_log_that_was_cut_has_its_whole_blocks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(3 * text(START) + text(START)[:200])
    assert cli.main(["trace", "import", str(log), str(tmp_path / "out")]) == 0
    assert len(Trace.read(tmp_path / "out").records) == 3


# Traces of instructions ------------------------------------------------------------------------------------------


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut records": lambda data: data[:-3],
    "a site too many": lambda data: data[:-4] + b"\xff\xff\xff\x7f",
    "few bytes": lambda data: data[:9],
    "no control registers": lambda data: data[:8] + bytes(8) + data[16:],
}


@pytest.mark.parametrize("name", CHANGES)
def test_damaged_records_behind_a_right_checksum(
    name: str, window: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(window.records, InsnLog)
    packed = window.records.pack()
    monkeypatch.setattr(type(window.records), "pack", lambda self: CHANGES[name](packed))
    path = tmp_path / "t"
    window.write(path)
    assert cli.main(["trace", "show", str(path)]) == ExitStatus.BAD_IMAGE
    assert capsys.readouterr().err.count("\n") == 1


# QEMU -----------------------------------------------------------------------------------------------------------------

OLD = 'echo "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)"'
NEW = 'case "$*" in *--version*) echo "QEMU emulator version 9.0.0"; exit;; esac'
QEMUS: dict[str, tuple[str, ExitStatus, str]] = {
    "missing": ("", ExitStatus.USAGE, "qemu-system-i386 is not installed"),
    "too old": (OLD, ExitStatus.USAGE, "version 5.2, and 7.2 is needed"),
    "another program": ("echo hello", ExitStatus.USAGE, "does not say which version"),
    "dies": (f"{NEW}; echo 'qemu: no memory' >&2; exit 3", ExitStatus.BAD_IMAGE, "status 3: qemu: no memory"),
    "is killed": (f"{NEW}; kill -9 $$", ExitStatus.BAD_IMAGE, "QEMU ended with status -9"),
}


@pytest.mark.guest
@pytest.mark.parametrize("name", QEMUS)
def test_a_qemu_that_will_not_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body, status, sentence = QEMUS[name]
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", script(folder, body) if body else str(folder))
    assert cli.main(["trace", "lockstep", "-hda", str(disk(tmp_path))]) == status
    shown = capsys.readouterr().err
    assert sentence in shown
    assert shown.count("\n") == 1


def test_a_qemu_that_dies_in_the_midst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmm.trace.oracle import Oracle
    from vmm.trace.qemu import LogError

    log = tmp_path / "log"
    log.write_text(2 * text(START))
    body = f'{NEW}; for word; do last=$word; done; cat {log} > "$last"; echo gone >&2; exit 1'
    monkeypatch.setenv("PATH", f"{script(tmp_path, body)}:/usr/bin:/bin")
    bios = tmp_path / "bios"
    bios.touch()
    with Oracle(MachineConfig(bios=bios)) as oracle:
        theirs = oracle.blocks()
        assert len([next(theirs), next(theirs)]) == 2
        with pytest.raises(LogError, match="ended with status 1 after 2 blocks: gone"):
            next(theirs)


@pytest.mark.skipif(not shutil.which(QEMU), reason="QEMU is not installed, which this looks at")
def test_the_qemu_that_is_installed_will_do() -> None:
    assert find()


@pytest.mark.parametrize(
    "arguments",
    [
        ["import"],
        ["import", "one"],
        ["import", "log", "/nowhere/out"],
        ["export"],
        ["lockstep", "--blocks", "0"],
        ["lockstep", "--blocks", "many"],
        ["lockstep", "--until", "there"],
        ["lockstep", "-kernel", "x"],
    ],
)
def test_mistakes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", *arguments]) == ExitStatus.USAGE
    assert capsys.readouterr().err.count("\n") == 1
