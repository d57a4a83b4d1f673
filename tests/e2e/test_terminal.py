"""``vmm run`` on a terminal: who gets the keys, what is shown, how one leaves."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.asm import FLAT, KERNEL, SECTOR_END, assemble, needs_nasm
from tests.e2e.cli import ROOT, vmm

pytestmark = needs_nasm

ECHO = (
    KERNEL
    + """
        mov al, '>'
        call put
next:   mov dx, 0x3fd
        in al, dx
        test al, 1
        jz next
        mov dx, 0x3f8
        in al, dx
        cmp al, 'Q'
        je quit
        call put
        mov ecx, 10000          ; slower than the line
again:  loop again
        jmp next
put:    push eax
        mov dx, 0x3fd
full:   in al, dx
        test al, 0x20
        jz full
        pop eax
        mov dx, 0x3f8
        out dx, al
        ret
quit:   mov dx, 0x604
        mov ax, 0x2000
        out dx, ax
"""
)
"""Sends back what comes on COM1, by polling and without FIFOs; Q switches the machine off."""

KEYS = (
    FLAT
    + """
        mov ax, 0x0e00 + '>'
        int 0x10
next:   xor ah, ah
        int 0x16
        cmp al, 'Q'
        je quit
        mov ah, 0x0e
        int 0x10
        jmp next
quit:   mov dx, 0x604
        mov ax, 0x2000
        out dx, ax
"""
    + SECTOR_END
)
"""A boot sector that prints on the screen what is typed on the keyboard."""

SCREEN = KERNEL + "mov dword [0xb8000], 0x4e4f1f48\n jmp $"
"""Writes HO, white on blue and yellow on red."""

PASTE = bytes(range(0x21, 0x51)) * 6


def test_a_paste_into_a_slow_guest_is_not_lost(tmp_path: Path) -> None:
    done = vmm(tmp_path, "-kernel", assemble(ECHO), "-display", "none", "--timeout", "60", typed=PASTE + b"Q")
    assert (done.status, done.reason) == (0, "the guest switched the machine off")
    assert done.output == ">" + PASTE.decode()


@pytest.mark.guest
@pytest.mark.parametrize("options", [("-serial", "null"), ("-debugcon", "stdio"), ("--bios-log", "stdio")])
def test_without_a_serial_terminal_the_keyboard_is_typed_on(options: tuple[str, ...], tmp_path: Path) -> None:
    done = vmm(tmp_path, "-fda", assemble(KEYS), *options, "--timeout", "60", typed=b"hello <b> World\rQ")
    assert done.status == 0
    assert ">hello <b> World" in done.output


ON_A_TERMINAL = """
import fcntl, sys, termios
from vmm.cli import main
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.exit(main(sys.argv[1:]))
"""


class Terminal:
    """A terminal with ``vmm run`` on it."""

    def __init__(self, *arguments: str | Path, window: tuple[int, int] = (80, 25), script: str = ON_A_TERMINAL) -> None:
        self.master, self.slave = os.openpty()
        self.resize(*window)
        self.before = termios.tcgetattr(self.master)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, "run", *map(str, arguments)],
            stdin=self.slave,
            stdout=self.slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=ROOT,
            env=os.environ | {"TERM": "xterm"},
        )
        self.seen = b""

    def wait_for(self, text: bytes) -> None:
        while text not in self.seen:
            assert select.select([self.master], [], [], 60)[0], self.seen
            self.seen += os.read(self.master, 4096)

    def settle(self) -> None:
        """Read until nothing comes for a while."""
        while select.select([self.master], [], [], 0.3)[0]:
            self.seen += os.read(self.master, 4096)

    def resize(self, columns: int, rows: int) -> None:
        """As the user does with the window."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def processor_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> tuple[int, str]:
        """Exit status and the last line; the terminal is as it was."""
        assert self.process.stderr
        said = self.process.stderr.read().decode()
        status = self.process.wait(60)
        assert termios.tcgetattr(self.master) == self.before
        return status, said.rstrip().rpartition("\n")[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    started: list[Terminal] = []
    yield started
    for terminal in started:
        terminal.close()


def start(terminals: list[Terminal], *arguments: str | Path, **settings: Any) -> Terminal:
    terminals.append(Terminal(*arguments, **settings))
    return terminals[-1]


LEFT = (130, "vmm: left by Ctrl-A x (status 130)")
INTERRUPTED = (130, "vmm: interrupted by Ctrl-C (status 130)")


def test_a_serial_console(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-kernel", assemble(ECHO), "-nographic")
    terminal.wait_for(b">")
    terminal.type(b"ls\x03\x01\x01")
    terminal.wait_for(b">ls\x03\x01")
    terminal.type(b"\x01h")
    terminal.wait_for(b"Ctrl-A x  leave")
    terminal.type(b"\x01x")
    assert terminal.end() == LEFT


def test_control_c_and_the_statistics(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-kernel", assemble(ECHO))
    terminal.wait_for(b">")
    terminal.type(b"\x01sx")
    terminal.wait_for(b"x")
    terminal.type(b"\x03")
    assert terminal.process.stderr
    line = terminal.process.stderr.readline()
    assert line.startswith(b"statistic"), "Ctrl-A s"
    assert terminal.end() == INTERRUPTED


@pytest.mark.guest
def test_the_screen_is_drawn_and_the_keyboard_typed_on(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-fda", assemble(KEYS), "-serial", "null")
    terminal.wait_for(b"SeaBIOS")
    terminal.wait_for(b">")
    terminal.type(b"abc\x7fd")
    terminal.wait_for(b">abd")
    assert b"\x1b[2J" in terminal.seen
    terminal.type(b"\x01x")
    assert terminal.end() == LEFT


def test_colours_on_the_terminal(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-kernel", assemble(SCREEN), "-serial", "null")
    terminal.wait_for(b"\x1b[97;44mH\x1b[93;41mO")
    terminal.type(b"\x03")
    assert terminal.end() == INTERRUPTED


@pytest.mark.guest
def test_an_idle_guest_idles_the_host(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-fda", assemble(KEYS), "-serial", "null")
    terminal.wait_for(b">")
    terminal.settle()
    before = terminal.processor_seconds()
    assert not select.select([terminal.master], [], [], 1.5)[0], "nothing is to be seen"
    assert terminal.processor_seconds() - before < 0.5
    terminal.type(b"Q")
    assert terminal.end() == (0, "vmm: the guest switched the machine off (status 0)")


def test_a_terminal_that_hangs_up(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-kernel", assemble(ECHO), "-nographic")
    terminal.wait_for(b">")
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.process.wait(20) == -signal.SIGHUP
    assert termios.tcgetattr(terminal.master) == terminal.before


TEN = (
    KERNEL
    + "".join(f"mov word [0xb8000 + {160 * row}], 0x{0x1F00 + ord('0') + row:x}\n" for row in range(10))
    + "jmp $"
)
"""Writes a digit at the beginning of each of ten rows."""


def test_the_windows_size_counts(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-kernel", assemble(TEN), "-serial", "null", window=(40, 5))
    terminal.wait_for(b"\x1b[5;1H\x1b[97;44m4")
    assert b"\x1b[6;1H" not in terminal.seen, "there is no sixth row"
    terminal.resize(40, 9)
    terminal.wait_for(b"\x1b[9;1H\x1b[97;44m8")
    assert b"\x1b[10;1H" not in terminal.seen
    terminal.type(b"\x03")
    assert terminal.end() == INTERRUPTED


@pytest.mark.parametrize("options", [("-nographic",), ("-serial", "null")])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130), (signal.SIGHUP, -signal.SIGHUP)]
)
def test_a_signal_leaves_the_terminal_in_order(
    number: signal.Signals, status: int, options: tuple[str, ...], terminals: list[Terminal]
) -> None:
    terminal = start(terminals, "-kernel", assemble(TEN), *options, "--timeout", "60")
    while termios.tcgetattr(terminal.master) == terminal.before:
        assert terminal.process.poll() is None
    terminal.process.send_signal(number)
    assert terminal.end()[0] == status


ENDS = {
    "triple fault": ("lidt [none]\n int3\n none: dw 0, 0, 0", (), 6),
    "halted for ever": ("cli\n hlt", (), 10),
    "power-off": ("mov dx, 0x604\n mov ax, 0x2000\n out dx, ax", (), 0),
    "a limit": ("jmp $", ("--max-insns", "1000"), 124),
    "the guest's own": ("mov al, 4\n out 0xf4, al", ("-device", "isa-debug-exit,iobase=0xf4,iosize=1"), 9),
    "a mistake": ("jmp $", ("--fail-on", "("), 2),
}


@pytest.mark.parametrize("name", ENDS)
def test_any_end_leaves_the_terminal_in_order(name: str, terminals: list[Terminal]) -> None:
    code, options, status = ENDS[name]
    terminal = start(terminals, "-kernel", assemble(KERNEL + code), "-nographic", *options)
    assert terminal.end()[0] == status


CRASH = ON_A_TERMINAL.replace(
    "sys.exit",
    """
from vmm.machine import Machine
def broken(machine):
    raise ZeroDivisionError("a bug of ours")
Machine._chores = broken
sys.exit""",
)


def test_a_bug_of_ours_leaves_the_terminal_in_order(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-kernel", assemble(KERNEL + "jmp $"), "-nographic", script=CRASH)
    status, line = terminal.end()
    assert status == 70
    assert line.endswith("ZeroDivisionError: a bug of ours (status 70)")


def test_control_z_gives_the_terminal_back_for_a_while(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "-kernel", assemble(ECHO))
    terminal.wait_for(b">")
    raw = termios.tcgetattr(terminal.master)
    terminal.type(b"\x1a")
    assert os.WIFSTOPPED(os.waitpid(terminal.process.pid, os.WUNTRACED)[1])
    assert termios.tcgetattr(terminal.master) == terminal.before != raw
    terminal.process.send_signal(signal.SIGCONT)
    while termios.tcgetattr(terminal.master) == terminal.before:
        assert terminal.process.poll() is None
    terminal.type(b"ab")
    terminal.wait_for(b">ab")
    assert termios.tcgetattr(terminal.master) == raw
    terminal.type(b"Q")
    assert terminal.end()[0] == 0
