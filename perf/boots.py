"""Boots of other people's programs, ours and QEMU's TCG in turn: seconds, translation, memory.

``python -m perf.boots [--rounds N] [--json FILE]``.  Seconds are of the wall, from the start of the process to its end.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from vmm import guests
from vmm.cpio import Archive
from vmm.files import write_whole

ROUNDS = 3
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


def boots(folder: Path) -> list[Boot]:
    """The boots; *folder* takes what has to be made for them."""
    found = [Boot("SeaBIOS to the boot sector", ("-fda", str(_floppy(folder))), "booted", qemu=False)]
    if shutil.which("gcc"):
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


def run_ours(boot: Boot, folder: Path) -> dict[str, Any]:
    """Seconds, statistics and peak memory of one run of ours."""
    stats = folder / "stats.json"
    command = [sys.executable, "-m", "vmm", "run", *boot.options, "-display", "none", "-serial", "null"]
    command += ["--stats-json", str(stats), *(("--expect", boot.expect) if boot.expect else ())]
    start = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = perf_counter() - start
    return {"seconds": seconds, "stats": json.loads(stats.read_text())}


def run_qemu(boot: Boot) -> float:
    """Seconds of one run of QEMU's TCG."""
    command = ["qemu-system-i386", "-accel", "tcg", "-M", "pc", "-cpu", "pentium3", *boot.options]
    command += ["-display", "none", "-serial", "null", "-nodefaults", "-no-reboot"]
    start = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - start


def measure(rounds: int) -> list[dict[str, Any]]:
    """A row of medians for each boot."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for boot in boots(folder):
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(run_ours(boot, folder))
                if boot.qemu and shutil.which("qemu-system-i386"):
                    theirs.append(run_qemu(boot))
            stats = ours[-1]["stats"]
            translated = sum(stats["translated_insns"].values())
            seconds = statistics.median(run["seconds"] for run in ours)
            qemu = statistics.median(theirs) if theirs else None
            rows.append(
                {
                    "boot": boot.name,
                    "seconds": round(seconds, 2),
                    "qemu_seconds": round(qemu, 2) if qemu else None,
                    "times_qemu": round(seconds / qemu, 2) if qemu else None,
                    "guest_insns": stats["guest_insns"],
                    "exits_per_million_insns": round(stats["exits_per_million_insns"], 1),
                    "translated_insns": translated,
                    "translation_us_per_insn": round(1e6 * stats["seconds"]["translate"] / translated, 1),
                    "peak_memory_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
                }
            )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; status 0."""
    parser = argparse.ArgumentParser(prog="python -m perf.boots", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="write the figures to a file as well")
    options = parser.parse_args(arguments)
    rows = measure(max(options.rounds, 1))
    table = Table(title="Boots (medians)")
    for key in rows[0]:
        table.add_column(key)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    if options.json:
        write_whole(options.json, (json.dumps(rows, indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
