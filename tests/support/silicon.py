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

from tests.support.state import BACKGROUND, SELECTORS, WINDOWS, Case, Environment, Outcome, Segment, describe
from tests.support.wire import pack, unpack
from vmm.vcpu import ATTR_DB, ATTR_G

SOURCE: Final = Path(__file__).with_name("silicon.c")
WIRE: Final = Path(__file__).with_name("wire.h")
_AWAY: Final = "-Wl,-Ttext-segment=0x50000000"
"""Its own memory stands where no bit offset of BT reaches from the windows (256 MiB), nor a base and a small offset."""
_PIPE: Final = 48 << 10
"""So many bytes of requests fit into a pipe, so that neither side waits for the other's reading."""


@cache
def program() -> Path | None:
    """The runner, built once a session; None where that cannot be done."""
    folder = Path(tempfile.gettempdir()) / "btvmm-silicon"
    folder.mkdir(exist_ok=True)
    sources = SOURCE.read_bytes() + WIRE.read_bytes() + _AWAY.encode()
    target = folder / f"silicon-{hashlib.sha256(sources).hexdigest()[:16]}"
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
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._running()

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; a new one if the last one ended."""
        if self._process is not None:
            return self._process
        self._process = process = subprocess.Popen([self._path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        hello = struct.pack("<I", len(SELECTORS))
        hello += b"".join(_user_desc(n >> 3, s) for s, n in SELECTORS.items())
        hello += struct.pack("<I", len(WINDOWS))
        hello += b"".join(struct.pack("<II", at, size) + BACKGROUND[at] for at, size in WINDOWS)
        try:
            self._send(hello)
            self._receive(2)
        except OSError:
            self.close()
            raise OSError(f"the runner does not start here: status {process.returncode}") from None
        return process

    def _send(self, data: bytes) -> None:
        stdin = self._running().stdin
        assert stdin is not None
        stdin.write(data)
        stdin.flush()

    def _receive(self, size: int) -> bytes:
        stdout = self._running().stdout
        assert stdout is not None
        data = stdout.read(size)
        if len(data) != size:
            raise OSError("the runner ended")
        return data

    def can(self, environment: Environment) -> bool:
        """Whether cases of *environment* can be run: ring 3 of protected mode."""
        return environment.user and not environment.v86

    def run_case(self, case: Case) -> Outcome:
        """Run one.  Raises ``OSError`` if it ends the process; the next case has another."""
        return self.run_cases([case])[0]

    def run_cases(self, cases: Sequence[Case]) -> list[Outcome]:
        """Run many, a pipe's fill at a time, which is faster."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(cases):
            batch, requests = [], b""
            for case in cases[len(outcomes) :]:
                request = pack(case)
                if batch and len(requests) + len(request) > _PIPE:
                    break
                batch.append(case)
                requests += request
            outcomes += self._batch(batch, requests)
        return outcomes

    def _batch(self, batch: Sequence[Case], requests: bytes) -> list[Outcome]:
        try:
            self._send(requests)
            return [unpack(case, self._receive) for case in batch]
        except OSError:
            self.close()
            if len(batch) == 1:
                raise OSError(f"the runner ended: {describe(batch[0])}") from None
        except BaseException:
            self.close()  # its answers are of no use any more
            raise
        return [outcome for case in batch for outcome in self._batch([case], pack(case))]

    def has_memory_at(self, linear: int) -> bool:
        """Whether the process has memory of its own there, which a case can reach by mistake."""
        for line in Path(f"/proc/{self._running().pid}/maps").read_text().splitlines():
            start, end = (int(n, 16) for n in line.partition(" ")[0].split("-"))
            if start <= linear < end:
                return not any(at <= linear < at + size for at, size in WINDOWS)
        return False

    def close(self) -> None:
        """End the process; the next case has another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
