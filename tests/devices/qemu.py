"""QEMU's own chips as an oracle: ports and memory of a stopped `pc` machine, by the qtest protocol."""

from __future__ import annotations

import shutil
import subprocess
from types import TracebackType
from typing import Self

QEMU = shutil.which("qemu-system-i386")
_SUFFIX = {1: "b", 2: "w", 4: "l"}


class Qemu:
    """A `pc` machine of 128 MiB without network; its CPU never runs."""

    def __init__(self, *options: str) -> None:
        assert QEMU
        machine = ["-M", "pc,smm=off", "-m", "128", "-S", "-display", "none", "-nic", "none", "-qtest", "stdio"]
        self._process = subprocess.Popen(
            [QEMU, *machine, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def command(self, line: str) -> list[str]:
        """One command; the words of its answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line + "\n")
        for answer in self._process.stdout:
            if answer.startswith("OK"):
                return answer.split()[1:]
            assert answer.startswith(("[", "IRQ")), answer
        raise AssertionError(f"QEMU ended at {line!r}")

    def read(self, port: int, size: int) -> int:
        """IN."""
        return int(self.command(f"in{_SUFFIX[size]} {port:#x}")[0], 16)

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        self.command(f"out{_SUFFIX[size]} {port:#x} {value:#x}")

    def read_memory(self, address: int, size: int) -> bytes:
        """Physical memory, as the CPU would read it."""
        return bytes.fromhex(self.command(f"read {address:#x} {size:#x}")[0][2:])

    def write_memory(self, address: int, data: bytes) -> None:
        """Physical memory, as the CPU would write it."""
        self.command(f"write {address:#x} {len(data):#x} 0x{data.hex()}")
