"""How long starting takes: ``vmm run`` on two instructions, from the start of the process to its end, and imports.

``python -m perf.startup [--rounds N] [--peers A,B] [--quick] [--json FILE]``.  The guest is CLI and HLT, a flat binary;
QEMU, which would wait for ever, gets the empty kernel, which writes to the exit port.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from perf.comparison import Comparison
from perf.kernels.build import EMPTY, build
from perf.peer import Peer, PeerError, run_process
from perf.peers import EXIT_DEVICE, EXIT_STATUS, Ours, Qemu
from perf.suite import command_line, in_turn
from vmm.errors import ExitStatus

RUN = "two instructions"
IMPORTS = ("vmm", "vmm.cli", "vmm.machine")
GUEST = bytes.fromhex("faf4")
"""CLI, HLT: it halts for ever."""
MINIMUM = 9
"""Rounds: each takes less than a second."""


def _imports(module: str) -> float:
    """Wall seconds of an import, by the interpreter that does it.  Raises ``PeerError``."""
    source = f"from time import perf_counter as t; a = t(); import {module}; print(t() - a)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(f"import {module}: {done.stderr.strip().rpartition(chr(10))[2]}")
    return float(done.stdout)


def _start(machine: Peer, folder: Path) -> float | None:
    """Wall seconds of a whole process, or ``None`` for a machine that does not end by itself.  Raises ``PeerError``."""
    quiet = ["-display", "none", "-serial", "null"]
    if isinstance(machine, Ours):
        image = folder / "two.bin"
        image.write_bytes(GUEST)
        return run_process([*machine.vmm(), *quiet, str(image)], machine.name, ExitStatus.HALTED, machine.folder)[0]
    if isinstance(machine, Qemu):
        command = [machine.program, "-accel", "tcg", "-nodefaults", "-no-reboot", *quiet, *EXIT_DEVICE]
        return run_process([*command, "-kernel", str(build(EMPTY))], machine.name, EXIT_STATUS)[0]
    return None


def compare(machines: Sequence[Peer], rounds: int, quick: bool = False) -> Comparison:
    """Seconds, in turn, *rounds* times, at least ``MINIMUM`` unless *quick*.  Raises ``BuildError``."""
    able = [machine for machine in machines if isinstance(machine, Ours | Qemu)]
    result = Comparison("Start", "seconds", [machine.name for machine in able])
    with tempfile.TemporaryDirectory() as folder:
        for turn in in_turn(able, rounds if quick else max(rounds, MINIMUM)):
            for machine in turn:
                try:
                    seconds = _start(machine, Path(folder))
                    if seconds is not None:
                        result.add(RUN, machine.name, seconds)
                    if machine.name == Ours.name:
                        for module in IMPORTS:
                            result.add(f"import {module}", machine.name, _imports(module))
                except PeerError as error:
                    result.errors.append(str(error))
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed or differed, 2 for a wrong command line."""
    return command_line("startup", __doc__, lambda found, given: compare(found, given.rounds, given.quick), arguments)


if __name__ == "__main__":
    sys.exit(main())
