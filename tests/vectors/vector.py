"""A vector, and the numbers that are worth computing with."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from tests.support.state import FLAGS, Case, Outcome, differences
from tests.vectors import undefined
from translator.layout import ESP, SS
from translator.rules import Row

DOUBLES: Final = (
    0.0,
    -0.0,
    1.0,
    -1.5,
    3.141592653589793,
    1e10,
    -2.5e-7,
    65536.0,
    255.75,
    float("inf"),
    2.0**62,
    -(2.0**31),
)


X87_EXCEPTIONS: Final = 0x82FF
"""Of the status word: the exception flags, stack fault, error summary, busy, and C1, which says how was rounded."""
SSE_EXCEPTIONS: Final = 0x3F
PAGE_FAULT: Final = 14
INSTRUCTION_FETCH: Final = 16
"""Bit of a page fault's error code that only a CPU with execute-disable on sets: with PAE or in a 64-bit system."""
LAR_UNDEFINED: Final = 0xF_0000
"""Bits of LAR's result."""


@dataclass(frozen=True, slots=True)
class Vector:
    """A case of one instruction, and what of its outcome is not defined."""

    row: Row
    case: Case
    flags_undefined: int
    """Flags not to compare."""
    result_undefined: bool
    """Compare nothing but EIP and the end."""
    memory_undefined: frozenset[int] = frozenset()
    """Linear addresses not to compare."""

    memory: bool = False
    """It has a ModRM memory operand."""
    reach: int = 0
    """The last offset of the memory operand: plain Unicorn does not check that it is inside the segment."""

    prelude: int = 0
    """Bytes before the instruction."""

    @property
    def eip(self) -> int:
        """The instruction's EIP."""
        return self.case.eip + self.prelude

    def differences(self, expected: Outcome, got: Outcome, flags_of_media: bool = True) -> list[str]:
        """What differs although it is defined, a line each.

        Without *flags_of_media* the exception flags of x87 and SSE are not compared.
        """
        name = self.row.name
        if self.result_undefined:
            return _same(("end", "eip"), expected, got)
        if isinstance(expected.end, tuple) and name in undefined.SEVERAL_STORES:
            return _same(("end", "eip"), expected, got)
        dropped = set(self.memory_undefined)
        if name == "PUSH" and self.row.how == "push_seg":
            dropped.update(self._above_selector(expected))
        media = name not in undefined.APPROXIMATE
        expected, got = (_masked(o, dropped, media, flags_of_media) for o in (expected, got))
        if name == "LAR":
            expected, got = (replace(o, gpr=tuple(v & ~LAR_UNDEFINED for v in o.gpr)) for o in (expected, got))
        found = differences(self.case, expected, got, FLAGS & ~self.flags_undefined)
        if name == "CMPS" and {expected.end, got.end} == {(12, 0), (13, 0)}:
            found = [line for line in found if not line.startswith("end")]  # CPUs differ in which operand comes first
        return found

    def _above_selector(self, expected: Outcome) -> tuple[int, ...]:
        """The upper half of a selector pushed as 32 bits: CPUs write zeros there or nothing (SDM vol. 2, PUSH)."""
        environment = self.case.environment
        mask = 0xFFFF_FFFF if environment.stack32 else 0xFFFF
        top = expected.gpr[ESP] & mask
        if (self.case.gpr[ESP] & mask) - top & mask != 4:
            return ()
        base = environment.segments[SS].base
        return tuple(base + (top + n & mask) & 0xFFFF_FFFF for n in (2, 3))


def _same(names: tuple[str, ...], expected: Outcome, got: Outcome) -> list[str]:
    pairs = ((name, getattr(expected, name), getattr(got, name)) for name in names)
    return [f"{name}: expected {want}, got {have}" for name, want, have in pairs if want != have]


def _masked(outcome: Outcome, dropped: set[int], media: bool, flags_of_media: bool) -> Outcome:
    """*outcome* without what is not defined."""
    memory = {at: b for at, b in outcome.memory.items() if at not in dropped}
    fx = outcome.fx
    if fx is not None:
        status = fx.fsw & ~X87_EXCEPTIONS if not flags_of_media else fx.fsw
        control = fx.mxcsr & ~SSE_EXCEPTIONS if not flags_of_media else fx.mxcsr
        fx = replace(fx, fsw=status if media else 0, mxcsr=control)
        if not media:
            fx = replace(fx, st=(), xmm=(), ftw=0)
    end = outcome.end
    if isinstance(end, tuple) and end[0] == PAGE_FAULT:
        end = end[0], end[1] & ~INSTRUCTION_FETCH
    return replace(outcome, memory=memory, fx=fx, end=end)


def extended(value: float) -> int:
    """*value* as an 80-bit extended real."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    sign, exponent, fraction = bits >> 63, bits >> 52 & 0x7FF, bits & (1 << 52) - 1
    if exponent == 0x7FF:
        return (sign << 15 | 0x7FFF) << 64 | 1 << 63 | fraction << 11
    if not exponent:
        return sign << 79
    return (sign << 15 | exponent - 1023 + 16383) << 64 | 1 << 63 | fraction << 11
