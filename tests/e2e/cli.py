"""Runs the ``vmm`` command as a user does, and keeps what it left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.guests.build import GUESTS, TIMEOUT, build, module_file
from vmm.guests import GuestStore
from vmm.stats import STATISTICS

ROOT = Path(__file__).parents[2]
SECONDS = 120
"""After which a run hangs."""
FEW_INSNS = 8_000_000
"""Enough for the BIOS to start a boot sector that loops for ever."""
GUESTS_OWN = ("guest_insns", "callouts", "true_faults", "interrupts", "port_io", "mmio")
"""Statistics of what the guest does, in which the translation cache and a store of translations have no part."""
EXIT = ("-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-no-reboot", "-display", "none", "-serial", "null")


@dataclass(frozen=True)
class Outcome:
    """One run of ``vmm run``."""

    status: int
    reason: str
    """The last line on stderr, without the status."""
    output: str
    """What the terminal showed."""
    stderr: str
    insns: int
    stats: dict[str, Any]
    files: dict[str, str]
    """What was logged to files, by the option."""

    @property
    def deterministic(self) -> tuple[Any, ...]:
        """All that has to be the same in another run."""
        return self._with(entry.name for entry in STATISTICS if entry.deterministic)

    @property
    def guests(self) -> tuple[Any, ...]:
        """All that has to be the same in a run with other translations."""
        return self._with(GUESTS_OWN)

    def _with(self, statistics: Iterable[str]) -> tuple[Any, ...]:
        return self.status, self.reason, self.output, [self.stats[name] for name in statistics], self.files


def vmm(
    folder: Path,
    *arguments: str | Path,
    logs: tuple[str, ...] = (),
    typed: bytes | None = None,
    home: Path = ROOT,
) -> Outcome:
    """``vmm run`` with *arguments*; *logs* are options (``-debugcon``) whose channel is a file in *folder*.

    *home* has the packages that run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stats = folder / "stats.json"
    command = [sys.executable, "-m", "vmm", "run", *map(str, arguments), "--stats-json", str(stats)]
    for option in logs:
        command += [option, f"file:{folder / option.strip('-')}"]
    standard_input = {"stdin": subprocess.DEVNULL} if typed is None else {"input": typed}
    done = subprocess.run(command, capture_output=True, cwd=home, timeout=SECONDS, check=False, **standard_input)  # type: ignore[call-overload]
    stderr = done.stderr.decode()
    values = json.loads(stats.read_text()) if stats.exists() else {}
    return Outcome(
        status=done.returncode,
        reason=stderr.rstrip().rpartition("\n")[2].removeprefix("vmm: ").rpartition(" (status")[0],
        output=done.stdout.decode(errors="replace").replace("\r", ""),
        stderr=stderr,
        insns=values.get("guest_insns", 0),
        stats=values,
        files={option: (folder / option.strip("-")).read_text("latin-1") for option in logs},
    )


def own_guest(name: str, folder: Path, home: Path = ROOT) -> Outcome:
    """A run of the guest of our own called *name*; translations are kept beside *folder*."""
    row, image = GUESTS[name], build(name)
    boots = {"sector": (image,), "floppy": ("-fda", image), "disk": ("-hda", image), "kernel": ("-kernel", image)}
    arguments = [*boots[row.boot], *row.arguments, *EXIT]
    if row.append:
        arguments += ["-append", row.append]
    if row.module:
        arguments += ["-initrd", module_file(name)]
    arguments += ["--tc-store", folder.parent / "store"]
    limit = ("--max-insns", str(FEW_INSNS)) if row.status == TIMEOUT else ("--timeout", "60")
    return vmm(folder, *arguments, *limit, logs=("-debugcon",), home=home)


def guest(name: str) -> Path:
    """The file of somebody else's guest; the test is skipped where it was not fetched."""
    found = GuestStore().find(name)
    if found is None:
        pytest.skip(f"the guest {name} is not here (vmm guests fetch {name})")
    return found.path
