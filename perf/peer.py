"""What a machine is to the benchmarks: something that runs a kernel, and perhaps a whole guest with its serial port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol, runtime_checkable

RAM = 64 << 20
"""What a kernel has."""
SECONDS = 120
"""No kernel takes so long anywhere."""


class PeerError(Exception):
    """A machine did not run the guest to its end."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one kernel."""

    seconds: float
    output: str
    exits: int | None = None
    """Exits from translated code to the monitor, if the machine tells."""
    translations: int | None = None
    """Units translated, if the machine tells."""


class Peer(Protocol):
    """A machine."""

    name: str

    def missing(self) -> str | None:
        """Why the machine cannot run here, or ``None``."""

    def run(self, kernel: Path, memory: int = RAM) -> Run:
        """Run the multiboot image *kernel* with *memory* bytes of RAM.  Raises ``PeerError``."""


@dataclass(frozen=True, slots=True)
class Job:
    """A guest: a Linux kernel, or a multiboot one."""

    kernel: Path
    append: str = ""
    initrd: Path | None = None
    memory: int = 128
    """MiB."""
    multiboot: bool = False
    floppy: bool = False
    """*kernel* is a diskette's image, for the BIOS; not for all machines."""
    disk: Path | None = None
    """The image of the first hard disk; it is not written to."""


def options(job: Job, memory: str) -> list[str]:
    """The options that ours and QEMU share."""
    given = ["-m", memory, "-fda" if job.floppy else "-kernel", str(job.kernel)]
    for option, value in (("-initrd", job.initrd), ("-append", job.append)):
        given += [option, str(value)] if value else []
    return given + (["-drive", f"file={job.disk},format=raw,snapshot=on"] if job.disk else [])


@runtime_checkable
class System(Protocol):
    """A machine that is a process with the guest's first serial port on its standard output."""

    name: str

    def missing(self) -> str | None:
        """As a ``Peer``'s."""

    def command(self, job: Job, folder: Path) -> list[str]:
        """The command that runs *job*; *folder* takes what has to be made for it.  Raises ``PeerError``."""


@dataclass(frozen=True, slots=True)
class Line:
    """What the guest printed, and when."""

    at: float
    """Wall seconds after the start of the process."""
    text: str
    whole: bool = True
    """It has ended."""


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a guest."""

    lines: list[Line]
    memory: int
    """The most that the machine's process had in RAM, in KiB."""


def converse(system: System, job: Job, last: str, folder: Path, seconds: float) -> Session:
    """Run *job* until the guest has printed a line in which the regular expression *last* is found.

    Raises ``PeerError`` if that does not come in *seconds*.
    """
    return listen(system.name, system.command(job, folder), last, folder, seconds)


def listen(name: str, command: Sequence[str], last: str, folder: Path, seconds: float, linger: float = 0.0) -> Session:
    """As ``converse``; the process has *linger* seconds to end by itself after that.

    A line that has not ended yet is looked at too, unless *last* ends in ``$``.
    """
    log = folder / f"{name}.stderr"
    start = perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    timer = threading.Timer(seconds, _kill, (process,))
    timer.start()
    lines: list[Line] = []
    found = False
    assert process.stdout is not None
    try:
        for line in _lines(process.stdout.fileno(), start, not last.endswith("$")):
            if found := bool(re.search(last, line.text)):
                lines.append(line)
                break
            if line.whole:
                lines.append(line)
        if found and linger:
            timer.cancel()
            timer = threading.Timer(linger, _kill, (process,))
            timer.start()
            process.stdout.read()
    finally:
        late = perf_counter() - start >= seconds
        if not linger:
            _kill(process)
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
    if found:
        return Session(lines, usage.ru_maxrss)
    said = (
        [line.text for line in lines if line.text][-1:]
        or log.read_text(errors="replace").splitlines()[-1:]
        or ["nothing"]
    )
    when = f" in {seconds:g} s" if late else ""
    raise PeerError(f"{name} did not print {last!r}{when}; its last line: {said[0]}")


def _lines(descriptor: int, start: float, beginnings: bool) -> Iterator[Line]:
    """Lines as they come, and, with *beginnings*, what has come of one: a prompt ends no line."""
    rest = b""
    while data := os.read(descriptor, 1 << 16):
        at = perf_counter() - start
        *whole, rest = (rest + data).split(b"\n")
        for raw in whole:
            yield Line(at, _text(raw))
        if beginnings and rest:
            yield Line(at, _text(rest), whole=False)
    if rest:
        yield Line(perf_counter() - start, _text(rest))


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace").strip("\r\0")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run_process(command: Sequence[str], name: str, status: int, folder: Path | None = None) -> tuple[float, str]:
    """Wall seconds and standard error of a process that ends with *status*.  Raises ``PeerError``."""
    start = perf_counter()
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"{name} took more than {SECONDS} s") from None
    seconds = perf_counter() - start
    errors = result.stderr.decode(errors="replace").strip()
    if result.returncode != status:
        last = errors.splitlines()[-1] if errors else "it says nothing"
        raise PeerError(f"{name} ended with status {result.returncode}: {last}")
    return seconds, errors
