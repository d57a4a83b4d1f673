"""Boots of other people's programs, ours and QEMU's TCG in turn: seconds, translation, memory.

``python -m perf.boots [--rounds N] [--peers A,B] [--json FILE]``.  Seconds are of the wall, from the start of the
process to its end.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from perf.comparison import Comparison
from perf.peer import Peer, PeerError
from perf.peers import Ours, Qemu
from perf.suite import ROUNDS, finish, machines_of
from vmm import guests
from vmm.cpio import Archive
from vmm.errors import ImageError, UsageError

INIT = r"""
static long call(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory");
    return r;
}
void _start(void) {
    call(4, 1, (long)"the first process\n", 18);
    call(88, 0xfee1dead, 672274793, 0x4321fedc); /* reboot: power off */
    for (;;);
}
"""
"""The first process: a line and the end."""
GCC = ("gcc", "-m32", "-O1", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-fno-stack-protector")


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot: its name and the options that ours and QEMU share."""

    name: str
    options: tuple[str, ...]
    expect: str = ""
    """What ends our run if the guest does not."""
    qemu: bool = True


def boots(folder: Path, quick: bool = False) -> list[Boot]:
    """The boots, or only a short one; *folder* takes what has to be made for them.  Raises ``ImageError``."""
    found = [Boot("SeaBIOS to the boot sector", ("-fda", str(_floppy(folder))), "booted", qemu=False)]
    if shutil.which("gcc") and not quick:
        kernel = guests.path("debian-i386-kernel")
        options = ("-m", "128M", "-kernel", str(kernel), "-initrd", str(_initrd(folder)))
        found.append(
            Boot("Debian's kernel to its first process", (*options, "-append", "console=ttyS0 panic=-1 quiet"))
        )
    return found


def _floppy(folder: Path) -> Path:
    """A diskette whose boot sector prints a word on COM1 and halts."""
    code = b"".join(b"\xba\xf8\x03\xb0" + bytes((letter,)) + b"\xee" for letter in b"booted\n") + b"\xf4"
    path = folder / "floppy.img"
    path.write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1_474_560, b"\0"))
    return path


def _initrd(folder: Path) -> Path:
    source, program, path = folder / "init.c", folder / "init", folder / "initrd"
    source.write_text(INIT)
    subprocess.run([*GCC, "-o", program, source], check=True)
    archive = Archive()
    archive.device("dev/console", "c", 5, 1)
    archive.file("init", program.read_bytes(), mode=0o755)
    path.write_bytes(archive.build())
    return path


def _time(command: list[str], name: str) -> float:
    """Wall seconds of a process that ends with status 0.  Raises ``PeerError``."""
    start = perf_counter()
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    seconds = perf_counter() - start
    if result.returncode:
        last = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise PeerError(f"{name} ended with status {result.returncode}: {last}")
    return seconds


def run_ours(boot: Boot, folder: Path) -> tuple[float, dict[str, Any]]:
    """Seconds and statistics of one run of ours.  Raises ``PeerError``."""
    stats = folder / "stats.json"
    command = [sys.executable, "-m", "vmm", "run", *boot.options, "-display", "none", "-serial", "null"]
    command += ["--stats-json", str(stats), *(("--expect", boot.expect) if boot.expect else ())]
    seconds = _time(command, Ours.name)
    return seconds, json.loads(stats.read_text())


def run_qemu(boot: Boot, qemu: Qemu) -> float:
    """Seconds of one run of QEMU's TCG.  Raises ``PeerError``."""
    command = [qemu.command_name, "-accel", "tcg", "-M", "pc", "-cpu", "pentium3", *boot.options]
    command += ["-display", "none", "-serial", "null", "-nodefaults", "-no-reboot"]
    return _time(command, qemu.name)


def figures(stats: dict[str, Any]) -> dict[str, float]:
    """What the statistics of a run say about its speed."""
    translated = sum(stats["translated_insns"].values())
    return {
        "M instructions": stats["guest_insns"] / 1e6,
        "exits/M": stats["exits_per_million_insns"],
        "translated": translated,
        "us/translated": 1e6 * stats["seconds"]["translate"] / max(translated, 1),
        "MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
    }


def compare(machines: Sequence[Peer], rounds: int, quick: bool = False) -> Comparison:
    """Seconds of every boot, in turn, *rounds* times.  Raises ``ImageError``."""
    able = [machine for machine in machines if isinstance(machine, Ours | Qemu)]
    result = Comparison("Boots", "seconds", [machine.name for machine in able], digits=2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for boot in boots(folder, quick) * rounds:
            result.values.setdefault(boot.name, {})
            for machine in able:
                try:
                    if isinstance(machine, Ours):
                        seconds, stats = run_ours(boot, folder)
                        result.add(boot.name, machine.name, seconds)
                        for heading, value in figures(stats).items():
                            result.extra.setdefault(heading, {})[boot.name] = value
                    elif boot.qemu:
                        result.add(boot.name, machine.name, run_qemu(boot, machine))
                except PeerError as error:
                    result.errors.append(f"{boot.name}: {error}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed, 2 if a guest is missing."""
    parser = argparse.ArgumentParser(prog="python -m perf.boots", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peers", help="all that are installed, if not given")
    parser.add_argument("--json", type=Path, help="write the figures to a file as well")
    given = parser.parse_args(arguments)

    def measure() -> Comparison:
        if given.rounds < 1:
            raise UsageError("--rounds: at least 1")
        try:
            return compare(machines_of(given.peers), given.rounds)
        except ImageError as error:
            raise UsageError(str(error)) from None

    return finish(measure, given.json)


if __name__ == "__main__":
    sys.exit(main())
