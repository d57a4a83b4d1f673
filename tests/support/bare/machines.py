"""Oracles: Bochs and QEMU's TCG as bare machines, with a runner of our own in their ROM.

A batch of cases is one process.  Protected and flat cases run at CPL 3, those of real mode in virtual-8086 mode.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from tests.guests.build import GCC_FLAGS
from tests.support import bochs
from tests.support.segments import descriptors
from tests.support.state import Case, Environment, Outcome
from tests.support.wire import backgrounds, pack, unpack, windows

HERE: Final = Path(__file__).parent
_ROM_SIZE, _RUNNER_SIZE, _RESET_SIZE = 2 << 20, 256 << 10, 64 << 10
_ROOM: Final = _ROM_SIZE - _RUNNER_SIZE - _RESET_SIZE
"""Bytes of the ROM for cases."""
_SECONDS: Final = 600
_CPU: Final = "model=p4_willamette, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=0"


@cache
def _programs() -> tuple[bytes, bytes]:
    """The runner and the ROM's end, built once a session.  Raises ``OSError`` where that cannot be done."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        link = ["-Wl,--oformat=binary", "-T", str(HERE / "runner.ld"), "-o", "runner.bin", str(HERE / "runner.c")]
        for command in (["gcc", *GCC_FLAGS, *link], ["nasm", "-f", "bin", str(HERE / "rom.asm"), "-o", "reset.bin"]):
            try:
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
            except subprocess.CalledProcessError as error:
                raise OSError(error.stderr.decode()) from None
        return (folder / "runner.bin").read_bytes(), (folder / "reset.bin").read_bytes()


class BareMachine:
    """What Bochs and QEMU have in common.  Raises ``OSError`` where the machine is not installed."""

    name = ""
    program = ""

    def __init__(self) -> None:
        if shutil.which(self.program) is None:
            raise OSError(f"{self.program} is not installed")
        self._runner, self._reset = _programs()

    def can(self, environment: Environment) -> bool:
        """Whether cases of *environment* can be run."""
        return True

    def run_cases(self, cases: Sequence[Case]) -> list[Outcome]:
        """Run *cases* in one machine.  Raises ``OSError`` if it does not come to the end."""
        if not cases:
            return []
        table = descriptors()
        blob = struct.pack("<I", len(table) // 8) + table + windows() + backgrounds()
        blob += struct.pack("<I", len(cases)) + b"".join(map(pack, cases))
        if len(blob) > _ROOM:
            half = len(cases) // 2
            return self.run_cases(cases[:half]) + self.run_cases(cases[half:])
        with tempfile.TemporaryDirectory() as folder:
            rom = blob.ljust(_ROOM, b"\0") + self._runner.ljust(_RUNNER_SIZE, b"\0") + self._reset
            (Path(folder) / "rom.bin").write_bytes(rom)
            output = self.run(Path(folder))
        return self._read(cases, output)

    def _read(self, cases: Sequence[Case], output: bytes) -> list[Outcome]:
        at = output.find(b"OK") + 2

        def read(size: int) -> bytes:
            nonlocal at
            if at < 2 or at + size > len(output):
                raise OSError(f"{self.name} ended before its last case")
            at += size
            return output[at - size : at]

        found = [unpack(case, read) for case in cases]
        if read(4) != b"DONE":
            raise OSError(f"{self.name}'s answer is not whole")
        return found

    def run(self, folder: Path) -> bytes:
        """Start the machine in *folder*; what it wrote to port E9h."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is left running."""


class Bochs(BareMachine):
    """Bochs: another team's interpreter, with segment limits, rights and an x87 of its own."""

    name = "bochs"
    program = "bochs"

    def run(self, folder: Path) -> bytes:
        return bochs.run(folder, 0xFFE0_0000, _CPU, 128, _SECONDS)


class Qemu(BareMachine):
    """QEMU's TCG, which Unicorn comes from: it checks no limits of data."""

    name = "qemu"
    program = "qemu-system-i386"

    def run(self, folder: Path) -> bytes:
        command = [
            self.program,
            "-M",
            "pc",
            "-cpu",
            "qemu32,-apic",
            "-m",
            "128",
            "-bios",
            "rom.bin",
            "-display",
            "none",
        ]
        command += [
            *("-net", "none"),
            *("-debugcon", "file:out"),
            "-no-reboot",
            "-device",
            "isa-debug-exit,iobase=0xf4",
        ]
        subprocess.run(command, cwd=folder, timeout=_SECONDS, check=False, capture_output=True)
        return (folder / "out").read_bytes()
