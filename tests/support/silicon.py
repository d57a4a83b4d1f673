"""Oracle: the snippet on the real CPU, as user code of a 32-bit process with segments in its LDT."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.state import BACKGROUND, SELECTORS, WINDOWS, Case, Environment, Outcome, Segment
from tests.support.wire import pack, unpack
from vmm.vcpu import ATTR_DB, ATTR_G

SOURCE: Final = Path(__file__).with_name("silicon.c")
_AWAY: Final = "-Wl,-Ttext-segment=0x50000000"
"""Its own memory stands where no bit offset of BT reaches from the windows (256 MiB), nor a base and a small offset."""
_BATCH: Final = 32
"""Requests of so many cases fit into a pipe, so that neither side waits for the other's reading."""


@cache
def program() -> Path | None:
    """The runner, built once a session; None where that cannot be done."""
    folder = Path(tempfile.gettempdir()) / "btvmm-silicon"
    folder.mkdir(exist_ok=True)
    target = folder / f"silicon-{hashlib.sha256(SOURCE.read_bytes() + _AWAY.encode()).hexdigest()[:16]}"
    if not target.exists():
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as made:
            pass
        command = ["gcc", "-m32", "-O1", "-static", "-fno-stack-protector", "-mno-sse", _AWAY, "-o", made.name]
        command.append(str(SOURCE))
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        Path(made.name).rename(target)
    return target


def _user_desc(number: int, segment: Segment) -> bytes:
    pages = bool(segment.attr & ATTR_G)
    limit = segment.limit >> 12 if pages else segment.limit
    readable_only = not segment.attr & 2
    bits = bool(segment.attr & ATTR_DB) | (segment.attr >> 2 & 3) << 1 | readable_only << 3 | pages << 4 | 1 << 6
    return struct.pack("<IIII", number, segment.base, limit, bits)


class Silicon:
    """The runner's process; ``run_case`` as in ``BareEngine``.  Raises ``OSError`` if it does not start."""

    name = "cpu"

    def __init__(self) -> None:
        path = program()
        if path is None:
            raise OSError("the runner cannot be built: gcc -m32 is needed")
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        hello = struct.pack("<I", len(SELECTORS))
        hello += b"".join(_user_desc(n >> 3, s) for s, n in SELECTORS.items())
        hello += struct.pack("<I", len(WINDOWS))
        hello += b"".join(struct.pack("<II", at, size) + BACKGROUND[at] for at, size in WINDOWS)
        self._send(hello)
        try:
            self._receive(2)
        except OSError:
            self.close()
            raise OSError(f"the runner does not start here: status {self._process.returncode}") from None

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _receive(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) != size:
            raise OSError("the runner ended")
        return data

    def can(self, environment: Environment) -> bool:
        """Whether cases of *environment* can be run: ring 3 of protected mode."""
        return environment.user and not environment.v86

    def run_case(self, case: Case) -> Outcome:
        self._send(pack(case))
        return unpack(case, self._receive)

    def run_cases(self, cases: Sequence[Case]) -> list[Outcome]:
        """Run many, a pipe's fill at a time, which is faster."""
        outcomes = []
        for start in range(0, len(cases), _BATCH):
            batch = cases[start : start + _BATCH]
            self._send(b"".join(map(pack, batch)))
            outcomes += [unpack(case, self._receive) for case in batch]
        return outcomes

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
