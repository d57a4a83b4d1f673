"""The machines: ours, plain Unicorn, QEMU's TCG, v86, Bochs.

``run(kernel)`` gives the seconds that a guest took without the machine's start, and what it printed: on port E9h, or
on COM1 where nobody hears that.

What is timed: of ours, all parts of ``seconds`` in the statistics but the machine's start and sleep;
of Unicorn, ``emu_start``, which translates as well; of the others, the process less a process with the
empty kernel.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from perf.bochs import Bochs
from perf.kernels.build import EMPTY, build
from perf.peer import RAM, SECONDS, Job, Peer, PeerError, Run, options, run_process
from perf.v86 import V86
from vmm import loaders

DEBUG_PORT, EXIT_PORT = 0xE9, 0xF4
LINE_STATUS, TRANSMITTER_EMPTY = 0x3FD, 0x60
EXIT_DEVICE = ("-device", "isa-debug-exit,iobase=0xf4,iosize=4")
EXIT_STATUS = 1
"""(0 << 1) | 1: the kernels write 0."""


NOT_THE_GUEST = {"setup", "idle"}
"""Parts of ``seconds`` in our statistics that are not the guest's work."""


@dataclass
class Ours:
    """The ``vmm`` command of the checkout in *folder* (the current one if ``None``)."""

    name: str = "vmm"
    folder: Path | None = None
    options: tuple[str, ...] = ()
    """More of ``vmm run``."""

    def missing(self) -> str | None:
        return None

    def vmm(self) -> list[str]:
        """The beginning of a command line."""
        return [sys.executable, "-m", "vmm", "run", *self.options]

    def command(self, job: Job, folder: Path) -> list[str]:
        return [*self.vmm(), *options(job, f"{job.memory}M"), "-display", "none", "-serial", "stdio", "-no-reboot"]

    def run(self, kernel: Path, memory: int = RAM) -> Run:
        with tempfile.TemporaryDirectory() as folder:
            report, log = Path(folder) / "stats.json", Path(folder) / "log"
            settings = ["-m", f"{memory >> 20}M", "-display", "none", "-serial", "null", "-no-reboot"]
            outputs = ["-debugcon", f"file:{log}", "--stats-json", str(report)]
            command = [*self.vmm(), *settings, *outputs, *EXIT_DEVICE, "-kernel", str(kernel)]
            run_process(command, self.name, EXIT_STATUS, self.folder)
            stats = json.loads(report.read_text())
            seconds = sum(spent for part, spent in stats["seconds"].items() if part not in NOT_THE_GUEST)
            return Run(seconds, log.read_text().strip(), sum(stats["exits"].values()), stats["translations"])


@dataclass
class Qemu:
    """QEMU's TCG, less its start: the median of a few runs of the empty kernel."""

    name: str = "qemu"
    program: str = "qemu-system-i386"
    starts: list[float] = field(default_factory=list)
    """Seconds of the runs of the empty kernel so far: one more before each run of another."""

    def missing(self) -> str | None:
        return None if shutil.which(self.program) else f"{self.program} is not installed"

    def command(self, job: Job, folder: Path) -> list[str]:
        settings = ("-accel", "tcg", "-M", "pc", "-cpu", "pentium3", "-nodefaults", "-no-reboot", "-snapshot")
        return [
            self.program,
            *settings,
            *options(job, str(job.memory)),
            "-vga",
            "std",
            "-display",
            "none",
            "-serial",
            "stdio",
        ]

    def _wall(self, kernel: Path, memory: int) -> Run:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            settings = ["-accel", "tcg", "-m", str(memory >> 20), "-display", "none", "-nic", "none", "-no-reboot"]
            outputs = ["-serial", "null", "-debugcon", f"file:{log}", *EXIT_DEVICE, "-kernel", str(kernel)]
            seconds, _ = run_process([self.program, *settings, *outputs], self.name, EXIT_STATUS)
            return Run(seconds, log.read_text().strip())

    def run(self, kernel: Path, memory: int = RAM) -> Run:
        self.starts.append(self._wall(build(EMPTY), memory).seconds)
        whole = self._wall(kernel, memory)
        return Run(max(whole.seconds - statistics.median(self.starts), 0.001), whole.output)


class Unicorn:
    """Unicorn as everybody uses it: 32-bit mode, RAM mapped with all rights, hooks for IN and OUT only."""

    name = "unicorn"

    def missing(self) -> str | None:
        return None if find_spec("unicorn") else "the Python package unicorn is not installed"

    def run(self, kernel: Path, memory: int = RAM) -> Run:
        unicorn: Any = import_module("unicorn")  # untyped, and found missing only here
        x86_const: Any = import_module("unicorn.x86_const")
        engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        engine.mem_map(0, memory)
        entry = loaders.load(kernel, UnicornMemory(engine), memory)
        output = bytearray()
        ended = False

        def on_in(uc: Any, port: int, size: int, data: Any) -> int:
            return TRANSMITTER_EMPTY if port == LINE_STATUS else (1 << 8 * size) - 1

        def on_out(uc: Any, port: int, size: int, value: int, data: Any) -> None:
            nonlocal ended
            if port == DEBUG_PORT:
                output.append(value & 0xFF)
            elif port == EXIT_PORT:
                ended = True
                uc.emu_stop()

        engine.hook_add(unicorn.UC_HOOK_INSN, on_in, None, 1, 0, x86_const.UC_X86_INS_IN)
        engine.hook_add(unicorn.UC_HOOK_INSN, on_out, None, 1, 0, x86_const.UC_X86_INS_OUT)
        start = perf_counter()
        try:
            engine.emu_start(entry.eip, 0, timeout=SECONDS * 1_000_000)
        except unicorn.UcError as error:
            raise PeerError(f"{self.name} stopped: {error}") from None
        seconds = perf_counter() - start
        if not ended:
            raise PeerError(f"{self.name} did not reach the kernel's end in {SECONDS} s")
        return Run(seconds, output.decode().strip())


class UnicornMemory:
    """An engine's memory as a loader wants it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def write(self, address: int, data: bytes) -> None:
        self._engine.mem_write(address, data)


def peers() -> dict[str, Peer]:
    """All peers by name."""
    machines: tuple[Peer, ...] = (
        Ours(),
        Ours("vmm-all", options=("--technique", "bt-all")),
        Unicorn(),
        Qemu(),
        V86(),
        Bochs(),
    )
    return {peer.name: peer for peer in machines}
