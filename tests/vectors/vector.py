"""A vector, and the numbers that are worth computing with."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from tests.support.state import FLAGS, Case, Outcome, differences
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

    def differences(self, expected: Outcome, got: Outcome) -> list[str]:
        """What differs although it is defined, a line each."""
        if self.result_undefined:
            same = expected.end == got.end and expected.eip == got.eip
            return [] if same else [f"expected {expected.end} at {expected.eip:#x}, got {got.end} at {got.eip:#x}"]
        if self.memory_undefined:
            for outcome in (expected, got):
                outcome.memory = {at: b for at, b in outcome.memory.items() if at not in self.memory_undefined}
        if self.row.name == "PUSH" and self.row.how == "push_seg":
            for outcome in (expected, got):
                for at in self._above_selector(expected):
                    outcome.memory.pop(at, None)
        return differences(self.case, expected, got, FLAGS & ~self.flags_undefined)

    def _above_selector(self, expected: Outcome) -> tuple[int, ...]:
        """The upper half of a selector pushed as 32 bits: CPUs write zeros there or nothing (SDM vol. 2, PUSH)."""
        environment = self.case.environment
        mask = 0xFFFF_FFFF if environment.stack32 else 0xFFFF
        top = expected.gpr[ESP] & mask
        if (self.case.gpr[ESP] & mask) - top & mask != 4:
            return ()
        base = environment.segments[SS].base
        return tuple(base + (top + n & mask) & 0xFFFF_FFFF for n in (2, 3))


def extended(value: float) -> int:
    """*value* as an 80-bit extended real."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    sign, exponent, fraction = bits >> 63, bits >> 52 & 0x7FF, bits & (1 << 52) - 1
    if exponent == 0x7FF:
        return (sign << 15 | 0x7FFF) << 64 | 1 << 63 | fraction << 11
    if not exponent:
        return sign << 79
    return (sign << 15 | exponent - 1023 + 16383) << 64 | 1 << 63 | fraction << 11
