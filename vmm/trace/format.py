"""The file format of traces.

::

    magic       8 bytes   "VMMTRACE"
    version     u16
    length      u32       bytes of the header
    header      JSON      level, interval, start, end, ending, machine, arguments, max_insns
    records     zstd      RECORD each (vmm.trace.records) or an InsnLog (vmm.trace.insns), until the checksum
    checksum    16 bytes  BLAKE2b of everything before it

Numbers are little-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any

from vmm.errors import ExitStatus, UsageError, VmmError
from vmm.files import write_whole
from vmm.trace.insns import InsnLog
from vmm.trace.records import RECORD, Record

MAGIC = b"VMMTRACE"
VERSION = 2
CHECKSUM_SIZE = 16
COMPRESSION = 9
_START = struct.Struct("<8sHI")


class TraceError(VmmError):
    """A file that is no trace, or not a whole one."""

    status = ExitStatus.BAD_IMAGE


class Level(StrEnum):
    """How much a trace has of the run."""

    HASH = "hash"
    """A record every so many instructions."""
    INSN = "insn"
    """A record an instruction, in a window."""
    BLOCK = "block"
    """A record a block of another machine's, whose instructions nobody counted."""


@dataclass(slots=True)
class Header:
    """What is said about the run."""

    level: str
    interval: int
    """Instructions between records."""
    start: int
    """The instruction count of the first record."""
    end: int | None
    """The last one that was asked for; None: to the end of the run."""
    machine: dict[str, Any]
    """All of the machine that its guest can see (``vmm.trace.record.describe``)."""
    arguments: list[str]
    """The run options and the image as they were given."""
    max_insns: int | None
    """The limit of the run."""
    ending: str | None = None
    """How the run ended; the last record is of its end.  None: it was left or interrupted."""


_TYPES: dict[str, tuple[type, ...]] = {
    "level": (str,),
    "interval": (int,),
    "start": (int,),
    "end": (int, type(None)),
    "machine": (dict,),
    "arguments": (list,),
    "max_insns": (int, type(None)),
    "ending": (str, type(None)),
}
"""What the fields of ``Header`` may be."""


@dataclass(slots=True)
class Trace:
    """A trace in memory."""

    header: Header
    records: Sequence[Record]
    """An ``InsnLog`` at the level of instructions."""

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.  Raises ``UsageError``."""
        header = json.dumps(asdict(self.header), sort_keys=True).encode()
        records = self.records
        packed = records.pack() if isinstance(records, InsnLog) else b"".join(record.pack() for record in records)
        body = zstandard().ZstdCompressor(level=COMPRESSION).compress(packed)
        data = _START.pack(MAGIC, VERSION, len(header)) + header + body
        try:
            write_whole(path, data + _checksum(data))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None

    @classmethod
    def read(cls, path: Path) -> Trace:
        """Read a file.  Raises ``TraceError``."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TraceError(f"{path}: {error.strerror}") from None
        if data[: len(MAGIC)] != MAGIC or len(data) < _START.size:
            raise TraceError(f"{path} is not a trace")
        _, version, length = _START.unpack_from(data)
        if version != VERSION:
            raise TraceError(f"{path} is a trace of version {version}, and only version {VERSION} can be read")
        if _checksum(data[:-CHECKSUM_SIZE]) != data[-CHECKSUM_SIZE:]:
            raise TraceError(f"{path} is truncated or damaged: its checksum is wrong")
        try:
            return cls._parse(data, length)
        except (ValueError, TypeError, struct.error, zstandard().ZstdError) as error:
            raise TraceError(f"{path} is not a trace that this program wrote: {error}") from None

    @classmethod
    def _parse(cls, data: bytes, length: int) -> Trace:
        given = json.loads(data[_START.size : _START.size + length])
        if not isinstance(given, dict) or given.keys() != _TYPES.keys():
            raise ValueError("its header has other fields")
        for name, types in _TYPES.items():
            if not isinstance(given[name], types):
                raise ValueError(f"{name} in its header is of another type")
        if Level(given["level"]) and given["interval"] <= 0:
            raise ValueError("its interval is not positive")
        body = data[_START.size + length : -CHECKSUM_SIZE]
        packed = zstandard().ZstdDecompressor().decompress(body)
        header = Header(**given)
        if header.level == Level.INSN:
            return cls(header, InsnLog.unpack(packed))
        return cls(header, [Record.unpack(values) for values in RECORD.iter_unpack(packed)])


assert _TYPES.keys() == {entry.name for entry in fields(Header)}


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=CHECKSUM_SIZE).digest()


def zstandard() -> Any:
    """The library, which is an extra.  Raises ``UsageError`` where it is not installed."""
    try:
        import zstandard
    except ImportError:
        raise UsageError("traces need the package zstandard: pip install 'btvmm[images]'") from None
    return zstandard
