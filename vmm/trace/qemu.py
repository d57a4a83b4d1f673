"""QEMU's log of its CPU (``-d exec,cpu,nochain``), read and written.

A block of the log is a line ``Trace N: ...`` and the registers before that block of translated code runs.  With
``-icount`` a block ends behind each access to a device, and runs repeat; with ``-singlestep`` each instruction is one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from vmm.errors import ExitStatus, VmmError
from vmm.trace.records import REGISTERS, Record

_HEX = rb"([0-9a-f]{8})"
_SEGMENTS = (b"ES", b"CS", b"SS", b"DS", b"FS", b"GS")
_BLOCK = re.compile(
    rb"EAX=%s EBX=%s ECX=%s EDX=%s\nESI=%s EDI=%s EBP=%s ESP=%s\nEIP=%s EFL=%s " % ((_HEX,) * 10)
    + rb"[^\n]*\n"
    + b"".join(rb"%s =([0-9a-f]{4}) [^\n]*\n" % name for name in _SEGMENTS)
    + rb"LDT=[^\n]*\nTR =[^\n]*\nGDT=[^\n]*\nIDT=[^\n]*\n"
    + rb"CR0=%s CR2=%s CR3=%s CR4=%s" % ((_HEX,) * 4)
)
_START = b"Trace "
_STOPPED = b"Stopped execution of TB chain before"
_INTERRUPT = re.compile(rb"Servicing hardware INT=0x([0-9a-f]+)")
_VALUES = struct.Struct(">10I6H4I")
_ORDER = (
    *("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "eip", "eflags"),
    *("es", "cs", "ss", "ds", "fs", "gs", "cr0", "cr2", "cr3", "cr4"),
)
_PLACES = tuple(_ORDER.index(name) for name in REGISTERS)
_CHUNK = 1 << 20
LONGEST = 1 << 16
"""Bytes of a log without a block after which it is none."""


class Block(NamedTuple):
    """A block that QEMU ran."""

    registers: tuple[int, ...]
    """The values of ``REGISTERS`` before it."""
    vector: int | None = None
    """It is the first behind a hardware interrupt, of which the log tells with -d int."""


class LogError(VmmError):
    """A log that is none, or not a whole one."""

    status = ExitStatus.BAD_IMAGE


def blocks(log: IO[bytes], name: str) -> Iterator[Block]:
    """The blocks of the log called *name*, in order.

    A block that QEMU turned away from before its first instruction is left out, and so is one that the log's end cut.
    Raises ``LogError`` if there is no block, or something else stands in its place.
    """
    rest = b""
    last: Block | None = None
    vector: int | None = None
    some = False
    while True:
        data = log.read(_CHUNK)
        *whole, rest = (rest + data).split(_START)
        if not data:
            whole.append(rest)
        for text in whole:
            found = _BLOCK.search(text)
            if found is None:
                if data and (some or text.strip()):
                    raise LogError(f"{name} is not a log of QEMU's -d exec,cpu,nochain: a block has no registers")
                continue
            if last is not None:
                yield last
            some = True
            values = _VALUES.unpack(bytes.fromhex(b"".join(found.groups()).decode()))
            last = None
            if _STOPPED not in text:
                last, vector = Block(tuple([values[n] for n in _PLACES]), vector), None
            if (interrupt := _INTERRUPT.search(text)) is not None:
                vector = int(interrupt[1], 16)
        if len(rest) > LONGEST:
            raise LogError(f"{name} is not a log of QEMU's -d exec,cpu,nochain")
        if not data:
            break
    if last is not None:
        yield last
    if not some:
        raise LogError(f"{name} is not a log of QEMU's -d exec,cpu,nochain: it has no block")


_FLAGS = ((0x400, "D"), (0x800, "O"), (0x80, "S"), (0x40, "Z"), (0x10, "A"), (0x4, "P"), (0x1, "C"))


def block(record: Record) -> str:
    """A record as a block of QEMU's log.

    What the trace does not have (segments' bases, limits and rights, descriptor tables) stands there as dashes.
    """
    values = dict(zip(REGISTERS, record.registers, strict=True))
    hexadecimal = {name: f"{value:08x}" for name, value in values.items()}
    flags = "".join(letter if values["eflags"] & bit else "-" for bit, letter in _FLAGS)
    unknown = "-------- -------- --------"
    lines = [
        f"Trace 0: 0x0 [--------/{hexadecimal['eip']}/--------/--------] ",
        " ".join(f"{name.upper()}={hexadecimal[name]}" for name in _ORDER[:4]),
        " ".join(f"{name.upper()}={hexadecimal[name]}" for name in _ORDER[4:8]),
        f"EIP={hexadecimal['eip']} EFL={hexadecimal['eflags']} [{flags}]",
        *(f"{name.upper()} ={values[name]:04x} {unknown}" for name in _ORDER[10:16]),
        f"LDT=---- {unknown}",
        f"TR =---- {unknown}",
        "GDT=     -------- --------",
        "IDT=     -------- --------",
        " ".join(f"{name.upper()}={hexadecimal[name]}" for name in _ORDER[16:]),
    ]
    return "\n".join(lines) + "\n"


def export(records: Sequence[Record]) -> Iterator[str]:
    """Records as QEMU's log has blocks."""
    return map(block, records)
