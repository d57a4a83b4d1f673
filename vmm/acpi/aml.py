"""A small encoder of AML, the ACPI Machine Language.

Each function returns the bytes of one term; terms nest as arguments.  Source: ACPI 2.0, chapter 16 (encoding) and
6.4 (resource descriptors).  Encodings are named as in the specification's grammar.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

ZERO = b"\x00"
ONE = b"\x01"
ARG0 = b"\x68"

PCI_CONFIG = 2
"""Address space of an operation region."""
BYTE_ACCESS = 1
"""Access type of a field."""


def name_string(path: str) -> bytes:
    """A name: ``\\_SB.PCI0``, ``^LNKA``, ``PRQA``; segments are padded to four characters with ``_``.

    Raises ``ValueError`` for a segment that is empty or longer.
    """
    prefix = path[: len(path) - len(path.lstrip("\\^"))].encode("ascii")
    rest = path[len(prefix) :]
    segments = rest.split(".") if rest else []
    for segment in segments:
        if not 1 <= len(segment) <= 4:
            raise ValueError(f"{segment!r} of {path!r} is no AML name segment")
    encoded = b"".join(segment.ljust(4, "_").encode("ascii") for segment in segments)
    if not segments:
        return prefix + b"\x00"
    if len(segments) == 1:
        return prefix + encoded
    return prefix + (b"\x2e" if len(segments) == 2 else b"\x2f" + bytes((len(segments),))) + encoded


def pkg_length(size: int) -> bytes:
    """The length of a package of *size* bytes, in the form that counts itself (ACPI 2.0, 16.2.4)."""
    if size + 1 < 0x40:
        return bytes((size + 1,))
    for more in (1, 2, 3):
        total = size + 1 + more
        if total < 1 << 4 + 8 * more:
            return bytes((more << 6 | total & 0xF,)) + (total >> 4).to_bytes(more, "little")
    raise ValueError(f"{size} bytes are more than an AML package holds")


def _sized(opcode: bytes, body: bytes) -> bytes:
    return opcode + pkg_length(len(body)) + body


def integer(value: int) -> bytes:
    """An integer constant below 2**32, in its shortest form."""
    if value < 2:
        return bytes((value,))
    for prefix, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4)):
        if value < 1 << 8 * size:
            return bytes((prefix,)) + value.to_bytes(size, "little")
    raise ValueError(f"{value:#x} does not fit into 32 bits")


def string(text: str) -> bytes:
    """An ASCII string constant."""
    return b"\x0d" + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """A compressed EISA identifier such as ``PNP0A03`` (ACPI 2.0, 17.2.2)."""
    letters = [ord(letter) - 0x40 for letter in text[:3]]
    number = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return b"\x0c" + number.to_bytes(4, "big")


def buffer(data: bytes) -> bytes:
    """A constant buffer."""
    return _sized(b"\x11", integer(len(data)) + data)


def package(elements: Sequence[bytes]) -> bytes:
    """A package of at most 255 elements."""
    return _sized(b"\x12", bytes((len(elements),)) + b"".join(elements))


def name(path: str, value: bytes) -> bytes:
    """``Name (path, value)``."""
    return b"\x08" + name_string(path) + value


def scope(path: str, *terms: bytes) -> bytes:
    """``Scope (path) {terms}``."""
    return _sized(b"\x10", name_string(path) + b"".join(terms))


def device(path: str, *terms: bytes) -> bytes:
    """``Device (path) {terms}``."""
    return _sized(b"\x5b\x82", name_string(path) + b"".join(terms))


def method(path: str, arguments: int, *terms: bytes, serialized: bool = False) -> bytes:
    """``Method (path, arguments) {terms}``; one that makes names has to be serialized."""
    return _sized(b"\x14", name_string(path) + bytes((arguments | serialized << 3,)) + b"".join(terms))


def operation_region(path: str, space: int, offset: int, size: int) -> bytes:
    """``OperationRegion (path, space, offset, size)``."""
    return b"\x5b\x80" + name_string(path) + bytes((space,)) + integer(offset) + integer(size)


def field(region: str, access: int, units: Iterable[tuple[str, int]]) -> bytes:
    """``Field (region, access, NoLock, Preserve) {units}``: names of four characters with their bits."""
    body = b"".join(name_string(unit) + bytes((bits,)) for unit, bits in units)
    return _sized(b"\x5b\x81", name_string(region) + bytes((access,)) + body)


def create_dword_field(source: bytes, offset: int, path: str) -> bytes:
    """``CreateDWordField (source, offset, path)``; *offset* is in bytes."""
    return b"\x8a" + source + integer(offset) + name_string(path)


def store(value: bytes, target: bytes) -> bytes:
    """``Store (value, target)``."""
    return b"\x70" + value + target


def bit_and(left: bytes, right: bytes) -> bytes:
    """``And (left, right)``, the result not stored."""
    return b"\x7b" + left + right + ZERO


def bit_or(left: bytes, right: bytes, target: bytes) -> bytes:
    """``Or (left, right, target)``."""
    return b"\x7d" + left + right + target


def logical_not(value: bytes) -> bytes:
    """``LNot (value)``."""
    return b"\x92" + value


def if_(condition: bytes, *terms: bytes) -> bytes:
    """``If (condition) {terms}``."""
    return _sized(b"\xa0", condition + b"".join(terms))


def return_(value: bytes) -> bytes:
    """``Return (value)``."""
    return b"\xa4" + value


# Resource descriptors ------------------------------------------------------------------------------


def resources(*descriptors: bytes) -> bytes:
    """``ResourceTemplate () {descriptors}``, a buffer with the end tag."""
    return buffer(b"".join(descriptors) + b"\x79\x00")


def io(first: int, count: int, align: int = 1) -> bytes:
    """``IO (Decode16, first, first, align, count)``: *count* ports from *first* on."""
    return b"\x47\x01" + struct.pack("<HHBB", first, first, align, count)


def irq_no_flags(*irqs: int) -> bytes:
    """``IRQNoFlags () {irqs}``: edge-triggered, active high."""
    return b"\x22" + sum(1 << irq for irq in irqs).to_bytes(2, "little")


def dma(channel: int) -> bytes:
    """``DMA (Compatibility, NotBusMaster, Transfer8) {channel}``."""
    return b"\x2a" + bytes((1 << channel, 0x00))


def interrupt(*numbers: int) -> bytes:
    """``Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {numbers}``; the first stands at byte 5."""
    body = struct.pack("<BB", 0x09, len(numbers)) + b"".join(number.to_bytes(4, "little") for number in numbers)
    return b"\x89" + len(body).to_bytes(2, "little") + body


_MEMORY, _IO, _BUS = range(3)
_FIXED = 0x0C
"""Minimum and maximum are fixed, positive decode, producer."""


def _address_space(size: int, kind: int, flags: int, first: int, last: int) -> bytes:
    tag, code = {2: (0x88, "H"), 4: (0x87, "I")}[size]
    body = struct.pack("<BBB5" + code, kind, _FIXED, flags, 0, first, last, 0, last - first + 1)
    return bytes((tag,)) + len(body).to_bytes(2, "little") + body


def word_bus_number(first: int, last: int) -> bytes:
    """``WordBusNumber``: the bus numbers that a bridge passes on."""
    return _address_space(2, _BUS, 0, first, last)


def word_io(first: int, last: int) -> bytes:
    """``WordIO (…, EntireRange)``: the ports that a bridge passes on."""
    return _address_space(2, _IO, 0x03, first, last)


def dword_memory(first: int, last: int, *, cacheable: bool = False) -> bytes:
    """``DWordMemory (…, ReadWrite)``: the memory addresses that a bridge passes on."""
    return _address_space(4, _MEMORY, 0x01 | cacheable << 1, first, last)
