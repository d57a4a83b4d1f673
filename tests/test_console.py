"""The host's end of a serial line: keys, files, and a terminal that is put back after any end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmm.config import Channel
from vmm.console import EscapeKeys, FileLine, NullLine, Terminal, open_line
from vmm.errors import UsageError


@pytest.mark.parametrize(
    ("typed", "data", "commands"),
    [
        ([b"ls\r"], b"ls\r", []),
        ([b"a\x01xb"], b"ab", ["leave"]),
        ([b"\x01", b"x"], b"", ["leave"]),
        ([b"\x01\x01"], b"\x01", []),
        ([b"\x01a"], b"\x01", []),
        ([b"\x01s\x01b"], b"", ["stats", "break"]),
        ([b"\x01?"], b"", ["help"]),
        ([b"\x01Q"], b"", ["help"]),
        ([b"\x03\x1a"], b"\x03\x1a", []),
        ([b"x"], b"x", []),
    ],
)
def test_escape_keys(typed: list[bytes], data: bytes, commands: list[str]) -> None:
    keys = EscapeKeys()
    results = [keys.feed(piece) for piece in typed]
    assert b"".join(part for part, _ in results) == data
    assert [command for _, part in results for command in part] == commands


def test_channels(tmp_path: Path) -> None:
    assert type(open_line(Channel("null"))) is NullLine
    assert type(open_line(Channel("stdio"))) is Terminal
    with open_line(Channel("file", tmp_path / "log")) as line:
        assert type(line) is FileLine
        line.write(b"one ")
        line.write(b"two")
        assert (tmp_path / "log").read_bytes() == b"one two", "written as it is sent"
        assert line.read() == b""


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        open_line(Channel("file", tmp_path / "none" / "log"))


def test_a_pipe_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"\x01x is no command here")
    with Terminal(stdin=reader, stdout=writer) as line:
        assert not line.interactive
        assert (line.read(), line.commands) == (b"\x01x is no command here", [])
        assert (line.read(), line.at_end) == (b"", False)
        os.close(writer)
        assert (line.read(), line.at_end) == (b"", True)
        assert line.read() == b""
    os.close(reader)


def test_standard_input_that_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with Terminal(stdin=reader) as line:
        assert (line.read(), line.at_end) == (b"", True)


def test_nobody_reads_the_output() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with Terminal(stdout=writer) as line, pytest.raises(BrokenPipeError):
        line.write(b"x")
    os.close(writer)


# A real terminal, with a child at its other end --------------------------------------------------------
CHILD = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from vmm.console import Terminal
with Terminal(all_keys={all_keys}) as line:
    line.write(b"ready:")
    while True:
        line.wait(10)
        data = line.read()
        line.write(b"<" + data.hex().encode() + b">")
        if data == b"e":
            raise RuntimeError("on purpose")
        if "leave" in line.commands:
            break
"""


class Child:
    """A process whose terminal is the other end of ``master``."""

    def __init__(self, all_keys: bool) -> None:
        self.master, slave = os.openpty()
        self.before = termios.tcgetattr(self.master)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(all_keys=all_keys)],
            stdin=slave,
            stdout=slave,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=Path(__file__).parents[1],
        )
        self.slave = slave
        self.wait_for(b"ready:")

    def wait_for(self, text: bytes) -> None:
        seen = b""
        while text not in seen:
            assert select.select([self.master], [], [], 20)[0], seen
            seen += os.read(self.master, 100)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def ends(self) -> int:
        """Its exit status, once the terminal has been seen to be as it was."""
        status = self.process.wait(20)
        assert termios.tcgetattr(self.master) == self.before
        return status


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.process.kill()
        child.process.wait()
        os.close(child.master)
        os.close(child.slave)


def start(children: list[Child], all_keys: bool) -> Child:
    children.append(Child(all_keys))
    return children[-1]


def test_keys_arrive_at_once_and_without_echo(children: list[Child]) -> None:
    child = start(children, all_keys=True)
    lflag = termios.tcgetattr(child.master)[3]
    assert not lflag & (termios.ECHO | termios.ICANON | termios.ISIG)
    for key, seen in [(b"a", b"<61>"), (b"\r", b"<0d>"), (b"\x03", b"<03>"), (b"\x1a", b"<1a>")]:
        child.type(key)
        child.wait_for(seen)
    child.type(b"\x01x")
    assert child.ends() == 0


def test_put_back_after_an_exception(children: list[Child]) -> None:
    child = start(children, all_keys=True)
    child.type(b"e")
    assert child.ends() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_put_back_after_a_signal(children: list[Child], number: signal.Signals) -> None:
    child = start(children, all_keys=True)
    child.process.send_signal(number)
    assert child.ends() == -number


def test_control_c_interrupts_unless_all_keys_are_the_guests(children: list[Child]) -> None:
    child = start(children, all_keys=False)
    child.type(b"\x03")
    assert child.ends() == -signal.SIGINT
