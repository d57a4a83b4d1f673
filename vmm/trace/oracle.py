"""QEMU as the other machine: started with our machine's options, asked what it tells its firmware, and its log read.

``-icount`` makes QEMU's runs repeat, and ends a block of its log behind each access to a device.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from vmm import cpuid
from vmm.config import MachineConfig
from vmm.errors import UsageError
from vmm.guests.store import GuestStore
from vmm.trace.qemu import Block, LogError, blocks

QEMU = "qemu-system-i386"
OLDEST = (7, 2)
"""The oldest version that was tried."""
BOOT_SECONDS = 60
"""How long firmware may take to its boot, by the wall's clock."""
_VERSION = re.compile(r"version (\d+)\.(\d+)")
_BOOTED = re.compile(rb"Booting from|No bootable device")
_DIRECTORY, _ENTRY = 0x19, 64
_SELECTOR, _DATA = 0x510, 0x511


@dataclass(frozen=True, slots=True)
class Told:
    """What QEMU's devices tell the firmware in blocks of bytes, which its log does not show."""

    files: dict[str, bytes]
    """The files of fw_cfg, ACPI's tables as they are after PCI was set up."""
    identify: bytes
    """The primary master's answer to IDENTIFY DEVICE; empty if there is none."""


def find(program: str = QEMU) -> tuple[str, tuple[int, int]]:
    """The path of *program* and its version, if it is a QEMU that will do.  Raises ``UsageError``."""
    path = shutil.which(program)
    if path is None:
        raise UsageError(f"{program} is not installed (Debian's package is qemu-system-x86)")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    found = _VERSION.search(done.stdout)
    if found is None:
        raise UsageError(f"{program} does not say which version of QEMU it is")
    version = int(found[1]), int(found[2])
    if version < OLDEST:
        raise UsageError(f"{program} is version {found[1]}.{found[2]}, and {OLDEST[0]}.{OLDEST[1]} is needed")
    return path, version


def _cpu() -> str:
    """A CPU as ours says it is, but for VME, which QEMU's TCG does not have."""
    signature = cpuid.SIGNATURE
    family, model, stepping = signature >> 8 & 15, signature >> 4 & 15, signature & 15
    known = ("vme", "de", "sep", "apic", "mce", "mtrr", "mca", "pat", "pse36", "clfsh")
    names = {"clfsh": "clflush"}
    rows = ((names.get(name, name), cpuid.present(name.upper()) and name != "vme") for name in known)
    features = ",".join(f"{'+' if present else '-'}{name}" for name, present in rows)
    return (
        f"qemu32,family={family},model={model},stepping={stepping},{features},+nx,-pni,-cx16,-hypervisor,tcg-cpuid=off"
    )


def command(config: MachineConfig) -> list[str]:
    """QEMU's options for our machine.  Raises ``UsageError`` for one that has no counterpart here."""
    plain = MachineConfig(drives=config.drives, memory=config.memory, bios=config.bios)
    for name in ("kernel", "initrd", "append", "apic", "boot", "broken_ram", "script", "debug_exit"):
        if getattr(config, name) != getattr(plain, name):
            raise UsageError(
                f"lock-step with QEMU starts from firmware, and knows nothing of -{name.replace('_', '-')}"
            )
    bios = config.bios or GuestStore().path("seabios")
    drives = []
    for drive in config.drives:
        if (drive.interface, drive.index, drive.media, drive.format) != ("ide", 0, "disk", "raw"):
            raise UsageError("lock-step with QEMU knows one drive, a raw image as -hda")
        drives = ["-drive", f"file={str(drive.file).replace(',', ',,')},format=raw,if=ide,snapshot=on"]
    return [
        *("-M", "pc,hpet=off,smm=off", "-m", f"{config.memory >> 20}M", "-cpu", _cpu(), "-bios", str(bios)),
        *("-nodefaults", "-vga", "none", "-device", "isa-vga,vgamem_mb=4", "-display", "none", "-monitor", "none"),
        *("-serial", "null", "-device", "isa-debugcon,iobase=0x402,chardev=bios"),
        *("-rtc", f"base={config.rtc_base:%Y-%m-%dT%H:%M:%S},clock=vm", *drives),
    ]


def _others(hidden: Sequence[range]) -> str:
    """All linear addresses but *hidden*, as -dfilter has them."""
    ordered = sorted(hidden, key=lambda each: each.start)
    starts = [0, *(each.stop for each in ordered)]
    ends = [*(each.start for each in ordered), 1 << 32]
    return ",".join(f"{start:#x}..{end - 1:#x}" for start, end in zip(starts, ends, strict=True))


class _Ports:
    """QEMU's ports by its test protocol."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, words: Sequence[str]) -> list[int]:
        """Send commands; their answers, 0 where one has none.  Raises ``LogError``."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        answers = []
        try:
            for start in range(0, len(words), 500):  # as many as fit a pipe
                some = words[start : start + 500]
                stdin.write("".join(f"{word}\n" for word in some).encode())
                stdin.flush()
                for _ in some:
                    answer = stdout.readline().split()
                    if not answer or answer[0] != b"OK":
                        raise LogError("QEMU does not answer its test protocol")
                    answers.append(int(answer[1], 16) if len(answer) > 1 else 0)
        except (OSError, ValueError):
            raise LogError("QEMU ended while it was asked about its devices") from None
        return answers

    def item(self, key: int, size: int) -> bytes:
        """The first bytes of an item of fw_cfg."""
        return bytes(self.ask([f"outw {_SELECTOR} {key}", *([f"inb {_DATA}"] * size)])[1:])

    def files(self) -> dict[str, bytes]:
        """The files of fw_cfg."""
        count = int.from_bytes(self.item(_DIRECTORY, 4), "big")
        directory = self.item(_DIRECTORY, 4 + _ENTRY * count)[4:]
        found = {}
        for at in range(0, len(directory), _ENTRY):
            size, key = int.from_bytes(directory[at : at + 4], "big"), int.from_bytes(directory[at + 4 : at + 6], "big")
            name = directory[at + 8 : at + _ENTRY].partition(b"\0")[0].decode()
            found[name] = self.item(key, size)
        return found

    def identify(self) -> bytes:
        """IDENTIFY DEVICE of the primary master."""
        words = self.ask(["outb 0x1f6 0xa0", "outb 0x1f7 0xec", *(["inw 0x1f0"] * 256)])[2:]
        return b"".join(word.to_bytes(2, "little") for word in words)


class Oracle:
    """QEMU with the machine of *config*.  A context manager: at its end QEMU is ended.  Raises ``UsageError``."""

    def __init__(self, config: MachineConfig, program: str = QEMU) -> None:
        self._command = command(config)
        self._icount = config.icount
        self._program, _ = find(program)
        self._has_disk = bool(config.drives)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="vmm-qemu-")
        self._errors = Path(self._folder.name) / "stderr"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
        self._process = None

    def _complaint(self) -> str:
        lines = [line for line in self._errors.read_text(errors="replace").splitlines() if "warning" not in line]
        return f": {lines[-1]}" if lines else ""

    def ask(self) -> Told:
        """Let QEMU boot, and ask what it told the firmware.  Raises ``LogError``."""
        console = Path(self._folder.name) / "bios"
        console.touch()
        with self._errors.open("wb") as errors:
            options = ["-chardev", f"file,id=bios,path={console}", "-qtest", "stdio", "-qtest-log", "none"]
            process = self._process = subprocess.Popen(
                [self._program, *self._command, *options],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        end = monotonic() + BOOT_SECONDS
        while _BOOTED.search(console.read_bytes()) is None:
            if process.poll() is not None:
                raise LogError(f"QEMU ended with status {process.returncode}{self._complaint()}")
            if monotonic() > end:
                raise LogError(f"QEMU's firmware did not boot within {BOOT_SECONDS} seconds")
            sleep(0.05)
        ports = _Ports(process)
        told = Told(ports.files(), ports.identify() if self._has_disk else b"")
        self._end()
        return told

    def blocks(self, hidden: Sequence[range] = ()) -> Iterator[Block]:
        """The blocks that QEMU runs, from the reset on, but for those at *hidden* linear addresses.

        Raises ``LogError`` if QEMU ends by itself.
        """
        reader, writer = os.pipe()
        options = [
            *("-chardev", "null,id=bios", "-icount", f"shift={self._icount},sleep=off"),
            *("-d", "exec,cpu,nochain,int", "-D", f"/dev/fd/{writer}"),
        ]
        if hidden:
            options += ["-dfilter", _others(hidden)]
        with self._errors.open("wb") as errors:
            process = self._process = subprocess.Popen(
                [self._program, *self._command, *options],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, pass_fds=(writer,),
            )  # fmt: skip
        os.close(writer)
        count = 0
        with open(reader, "rb") as log:
            try:
                for block in blocks(log, "QEMU's log"):
                    count += 1
                    yield block
            except LogError:
                if process.poll() is None:
                    raise
        raise LogError(f"QEMU ended with status {process.wait()} after {count} blocks{self._complaint()}")
