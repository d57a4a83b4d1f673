"""Arithmetic flags of results that the VMM computes (SDM vol. 1, 3.4.3.1)."""

from __future__ import annotations

from typing import Final

from translator.layout import AF, ARITHMETIC, CF, OF, PF, SF, ZF
from vmm.vcpu import VCpu

_PARITY: Final = tuple(PF if value.bit_count() % 2 == 0 else 0 for value in range(256))
"""PF by the low byte of a result."""
SIGN: Final = {1: 0x80, 2: 0x8000, 4: 0x8000_0000}
MASK: Final = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF}
"""Sign bit and mask of operands, by their size in bytes."""


def of_result(value: int, size: int) -> int:
    """SF, ZF and PF of *value*, which is in range of its *size*."""
    return _PARITY[value & 0xFF] | (SF if value & SIGN[size] else 0) | (0 if value else ZF)


def add(a: int, b: int, carry: int, size: int) -> tuple[int, int]:
    """a + b + carry: the result and all six flags."""
    total = a + b + carry
    result = total & MASK[size]
    flags = of_result(result, size) | (a ^ b ^ result) & AF
    if total != result:
        flags |= CF
    if (a ^ result) & (b ^ result) & SIGN[size]:
        flags |= OF
    return result, flags


def subtract(a: int, b: int, borrow: int, size: int) -> tuple[int, int]:
    """a - b - borrow: the result and all six flags."""
    result = a - b - borrow & MASK[size]
    flags = of_result(result, size) | (a ^ b ^ result) & AF
    if a < b + borrow:
        flags |= CF
    if (a ^ b) & (a ^ result) & SIGN[size]:
        flags |= OF
    return result, flags


def put(cpu: VCpu, flags: int, mask: int = ARITHMETIC) -> None:
    """Replace the flags of *mask*."""
    cpu.eflags = cpu.eflags & ~mask | flags & mask
