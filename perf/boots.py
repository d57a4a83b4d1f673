"""Boots of other people's programs: seconds from the start of the process to a line, and for ours translation, memory.

``python -m perf.boots [--rounds N] [--peers A,B] [--quick] [--json FILE]``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf.comparison import Comparison
from perf.kernels.build import compile_program
from perf.linux.build import FLAGS, SOURCES
from perf.peer import Job, Peer, PeerError, Session, System, converse, listen
from perf.peers import Ours, Qemu
from perf.suite import command_line, in_turn
from vmm import guests
from vmm.cpio import Archive

SECONDS = 1800.0
"""No boot takes so long."""
LINGER = 60.0
"""Seconds that ours has to write its statistics."""
APPEND = "console=ttyS0 panic=-1 quiet"
FIRST_PROCESS = "the first process"
MENU = "Select a language"


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot: what is started, the line that ends it, and who does it."""

    name: str
    job: Job
    last: str
    systems: tuple[type[System], ...] = (System,)
    stored: bool = False
    """Ours has the translations of a run before, which is not measured."""


def boots(folder: Path, quick: bool = False) -> list[Boot]:
    """The boots, or only a short one; *folder* takes what has to be made for them.

    Raises ``ImageError`` and ``BuildError``.
    """
    found = [Boot("SeaBIOS to the boot sector", Job(_boot_sector(folder), floppy=True), "booted", (Ours, Qemu))]
    if not quick:
        kernel = guests.path("debian-i386-kernel")
        first = Job(kernel, APPEND, _initrd(folder))
        menu = Job(kernel, "console=ttyS0 TERM=vt102", guests.path("debian-i386-initrd"), 512)
        found += [
            Boot("Debian's kernel to its first process", first, FIRST_PROCESS),
            Boot("the same, ours with --tc-store", first, FIRST_PROCESS, (Ours, Qemu), stored=True),
            Boot("Debian's installer to its menu", menu, MENU, (Ours, Qemu)),
        ]
    return found


def _boot_sector(folder: Path) -> Path:
    """A diskette whose boot sector prints a word on COM1 and halts."""
    code = b"".join(b"\xba\xf8\x03\xb0" + bytes((letter,)) + b"\xee" for letter in b"booted\n") + b"\xf4"
    path = folder / "floppy.img"
    path.write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1_474_560, b"\0"))
    return path


def _initrd(folder: Path) -> Path:
    archive = Archive()
    archive.device("dev/console", "c", 5, 1)
    archive.file("init", compile_program("first-process", FLAGS, [SOURCES / "first.c"]).read_bytes(), mode=0o755)
    path = folder / "initrd"
    path.write_bytes(archive.build())
    return path


def run(boot: Boot, machine: System, folder: Path) -> tuple[Session, dict[str, Any]]:
    """One run, and the statistics if it is ours.  Raises ``PeerError``."""
    if not isinstance(machine, Ours):
        return converse(machine, boot.job, boot.last, folder, SECONDS), {}
    report = folder / "stats.json"
    command = machine.command(boot.job, folder)
    command += ["--expect", boot.last, "--stats-json", str(report)]
    if boot.stored:
        store = folder / "store"
        command += ["--tc-store", str(store)]
        if not store.exists():
            listen(machine.name, command, boot.last, folder, SECONDS, LINGER)
    session = listen(machine.name, command, boot.last, folder, SECONDS, LINGER)
    return session, json.loads(report.read_text())


def figures(stats: dict[str, Any]) -> dict[str, float]:
    """What the statistics of a run say about its speed."""
    translated = sum(stats["translated_insns"].values())
    return {
        "M instructions": stats["guest_insns"] / 1e6,
        "exits/M": stats["exits_per_million_insns"],
        "translated": translated,
        "us/translated": 1e6 * stats["seconds"]["translate"] / max(translated, 1),
    }


def compare(machines: Sequence[Peer], rounds: int, quick: bool = False) -> Comparison:
    """Seconds of every boot, in turn, *rounds* times.  Raises ``ImageError`` and ``BuildError``."""
    able: list[System] = [machine for machine in machines if isinstance(machine, System)]
    result = Comparison("Boots", "seconds", [machine.name for machine in able], digits=2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = boots(folder, quick)
        for turn in in_turn(able, rounds):
            for boot in wanted:
                result.values.setdefault(boot.name, {})
                for machine in turn:
                    if isinstance(machine, boot.systems):
                        _measure(result, boot, machine, folder)
    return result


def _measure(result: Comparison, boot: Boot, machine: System, folder: Path) -> None:
    try:
        session, stats = run(boot, machine, folder)
    except PeerError as error:
        result.errors.append(f"{boot.name}: {error}")
        return
    result.add(boot.name, machine.name, session.lines[-1].at)
    if stats and machine.name == Ours.name:
        for heading, value in (figures(stats) | {"MiB": session.memory / 1024}).items():
            result.extra.setdefault(heading, {})[boot.name] = value


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed or differed, 2 for a wrong command line."""
    return command_line("boots", __doc__, lambda found, given: compare(found, given.rounds, given.quick), arguments)


if __name__ == "__main__":
    sys.exit(main())
