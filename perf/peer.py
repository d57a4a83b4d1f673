"""What a machine is to the benchmarks: something that runs a kernel, and perhaps a whole guest with its serial port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
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


class Peer(Protocol):
    """A machine."""

    name: str

    def missing(self) -> str | None:
        """Why the machine cannot run here, or ``None``."""

    def run(self, kernel: Path) -> Run:
        """Run the multiboot image *kernel*.  Raises ``PeerError``."""


@dataclass(frozen=True, slots=True)
class Job:
    """A guest: a Linux kernel, or a multiboot one."""

    kernel: Path
    append: str = ""
    initrd: Path | None = None
    memory: int = 128
    """MiB."""
    multiboot: bool = False
    disk: Path | None = None
    """The image of the first hard disk; it is not written to."""


def options(job: Job, memory: str) -> list[str]:
    """The options that ours and QEMU share."""
    given = ["-m", memory, "-kernel", str(job.kernel)]
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


def converse(system: System, job: Job, last: str, folder: Path, seconds: float) -> list[Line]:
    """Run *job* until the guest has printed a line in which the regular expression *last* is found; the lines up to it.

    Raises ``PeerError`` if that does not come in *seconds*.
    """
    command = system.command(job, folder)
    log = folder / f"{system.name}.stderr"
    start = perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    timer = threading.Timer(seconds, _kill, (process,))
    timer.start()
    lines: list[Line] = []
    try:
        assert process.stdout is not None
        for raw in process.stdout:
            lines.append(Line(perf_counter() - start, raw.decode(errors="replace").strip("\r\n\0")))
            if re.search(last, lines[-1].text):
                return lines
    finally:
        timer.cancel()
        _kill(process)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    said = [line.text for line in lines[-1:]] or log.read_text(errors="replace").splitlines()[-1:] or ["nothing"]
    late = f" in {seconds:g} s" if perf_counter() - start >= seconds else ""
    raise PeerError(f"{system.name} did not print {last!r}{late}; its last line: {said[0]}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
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
