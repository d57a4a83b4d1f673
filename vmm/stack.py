"""The stack through SS: limit checks, widths, several items at once.

A *frame* is a run of items in memory order, the one on top of the stack (lowest address) first.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from translator.layout import ESP, SS
from vmm.alignment import check_alignment
from vmm.errors import GuestFault
from vmm.segmentation import VECTOR_SS
from vmm.vcpu import ATTR_CODE, ATTR_DB, ATTR_EXPAND_DOWN, VCpu

_ITEMS: Final = 40
"""More than any instruction moves: a call gate's 31 parameters and four more."""
_STRUCTS: Final = {
    2: [Struct(f"<{count}H") for count in range(_ITEMS)],
    4: [Struct(f"<{count}I") for count in range(_ITEMS)],
}
_ALL_ONES: Final = 0xFFFF_FFFF


def outside(offset: int, size: int, limit: int, attr: int) -> bool:
    """Whether *size* bytes at *offset* leave a data segment (SDM vol. 3, 5.3)."""
    if attr & (ATTR_CODE | ATTR_EXPAND_DOWN) == ATTR_EXPAND_DOWN:
        return offset <= limit or offset + size - 1 > (_ALL_ONES if attr & ATTR_DB else 0xFFFF)
    return offset + size - 1 > limit


def check_room(limit: int, attr: int, esp: int, count: int, size: int, error: int = 0) -> None:
    """#SS(*error*) unless *count* items of *size* bytes can be pushed below *esp*."""
    mask = _ALL_ONES if attr & ATTR_DB else 0xFFFF
    for n in range(1, count + 1):
        if outside(esp - n * size & mask, size, limit, attr):
            raise GuestFault(VECTOR_SS, error)


def write_frame(
    cpu: VCpu, span: tuple[int, int, int], esp: int, values: tuple[int, ...], size: int, user: bool, error: int = 0
) -> int:
    """Write *values* (of *size* bytes, in range) below *esp* of the stack segment *span* = (base, limit, attr).

    Returns the new stack pointer under the segment's mask; no register changes.  Raises #SS(*error*) or #PF
    before anything is written.
    """
    base, limit, attr = span
    count = len(values)
    mask = _ALL_ONES if attr & ATTR_DB else 0xFFFF
    new = esp - count * size & mask
    last = new + count * size - 1
    if last <= limit and last <= mask and attr & (ATTR_CODE | ATTR_EXPAND_DOWN) != ATTR_EXPAND_DOWN:
        if user:
            check_alignment(cpu, base + new, size)
        try:
            cpu.memory.write(base + new & _ALL_ONES, _STRUCTS[size][count].pack(*values), user)
        except GuestFault:
            _probe(cpu, [base + new + n * size & _ALL_ONES for n in range(count)], size, user)
            raise
        return new
    check_room(limit, attr, esp, count, size, error)
    places = [base + (new + n * size & mask) & _ALL_ONES for n in range(count)]
    _probe(cpu, places, size, user)
    for place, value in zip(places, values, strict=True):
        cpu.memory.write_int(place, size, value, user)
    return new


def _probe(cpu: VCpu, places: list[int], size: int, user: bool) -> None:
    """Raise the #PF of the first push that would raise one: the highest address is written first, and CR2 shows it."""
    for place in reversed(places):
        cpu.memory.probe_write(place, size, user)


def read_frame(cpu: VCpu, size: int, count: int, skip: int = 0, accessed: int = 0) -> tuple[int, ...]:
    """The *count* items of *size* bytes that lie *skip* bytes above the top of the stack; nothing is popped.

    *accessed* is how many bytes of an item the CPU reads, if not all.
    Raises #SS(0) if one lies outside the segment, #PF, #AC.
    """
    ss = cpu.segments[SS]
    attr = ss.attr
    limit = ss.limit
    mask = _ALL_ONES if attr & ATTR_DB else 0xFFFF
    top = cpu.gpr[ESP] + skip & mask
    last = top + count * size - 1
    user = cpu.cpl == 3
    if last <= limit and last <= mask and attr & (ATTR_CODE | ATTR_EXPAND_DOWN) != ATTR_EXPAND_DOWN:
        if user:
            check_alignment(cpu, ss.base + top, accessed or size)
        return _STRUCTS[size][count].unpack(cpu.memory.read(ss.base + top & _ALL_ONES, count * size, user))
    offsets = [top + n * size & mask for n in range(count)]
    if any(outside(offset, size, limit, attr) for offset in offsets):
        raise GuestFault(VECTOR_SS, 0)
    return tuple(cpu.memory.read_int(ss.base + offset & _ALL_ONES, size, user) for offset in offsets)


def push_frame(cpu: VCpu, values: tuple[int, ...], size: int) -> None:
    """Push *values* (the last of them first) of *size* bytes; #SS(0) or #PF before anything changes."""
    ss = cpu.segments[SS]
    cpu.esp = write_frame(cpu, (ss.base, ss.limit, ss.attr), cpu.gpr[ESP], values, size, cpu.cpl == 3)


def push(cpu: VCpu, value: int, size: int) -> None:
    """Push one item of *size* bytes (2 or 4): #SS(0), #PF."""
    push_frame(cpu, (value & 0xFFFF if size == 2 else value & _ALL_ONES,), size)


def pop(cpu: VCpu, size: int) -> int:
    """Pop one item of *size* bytes (2 or 4): #SS(0), #PF.

    A handler that may still fault afterwards uses ``read_frame`` and ``drop`` instead.
    """
    (value,) = read_frame(cpu, size, 1)
    drop(cpu, size)
    return value


def drop(cpu: VCpu, count: int) -> None:
    """Move the stack pointer up by *count* bytes."""
    cpu.esp = cpu.gpr[ESP] + count
