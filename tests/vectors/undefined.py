"""What Intel leaves undefined: flags and results that two correct processors may disagree on.

Keyed by the rule table's names.  References: SDM vol. 2, "Flags Affected" of each instruction.
"""

from __future__ import annotations

from typing import Final

from translator.layout import AF, CF, OF, PF, SF, ZF

FLAGS: Final[dict[str, int]] = {
    "AND": AF, "OR": AF, "XOR": AF, "TEST": AF,
    "MUL": SF | ZF | AF | PF, "IMUL": SF | ZF | AF | PF,
    "DIV": CF | OF | SF | ZF | AF | PF, "IDIV": CF | OF | SF | ZF | AF | PF,
    "BSF": CF | OF | SF | AF | PF, "BSR": CF | OF | SF | AF | PF,
    "BT": OF | SF | AF | PF, "BTS": OF | SF | AF | PF, "BTR": OF | SF | AF | PF, "BTC": OF | SF | AF | PF,
    "SHL": AF, "SHR": AF, "SAL": AF, "SAR": AF, "SHLD": AF, "SHRD": AF,
    "AAM": OF | AF | CF, "AAD": OF | AF | CF, "AAA": OF | SF | ZF | PF, "AAS": OF | SF | ZF | PF, "DAA": OF, "DAS": OF,
}  # fmt: skip
"""Arithmetic flags undefined whatever the operands."""

OF_UNLESS_ONE: Final = frozenset(("ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAL", "SAR", "SHLD", "SHRD"))
"""OF is defined for a count of one alone (and unchanged for zero)."""
CF_WITHIN_SIZE: Final = frozenset(("SHL", "SHR", "SAL"))
"""CF is undefined where the count is not less than the operand's size."""

APPROXIMATE: Final = frozenset(("F2XM1..", "FPREM..", "RSQRTPS", "RCPPS"))
"""Results that are approximations: their last bits differ among processors."""

HOST_DIFFERS: Final = {
    "FBSTP": "Unicorn stores +0 where the CPU stores -0",
}
"""Instructions that are copied but that Unicorn itself does otherwise than a CPU: compared with plain Unicorn alone."""

PLAIN_DIFFERS: Final = frozenset(
    ("FUCOMI", "FCOMI", "FUCOMIP", "FCOMIP", "CMPPS", "ENTER", "CMPXCHG8B", "LOOPE", "LOOPNE")
)
"""Instructions that plain Unicorn does wrong and we do right: compared with the real CPU alone."""
PLAIN_DIFFERS_KEYS: Final = frozenset(("F6 /1", "F7 /1", "C2"))

MAKERS_DIFFER: Final = frozenset((("0F 0D", "r"), ("0F 18", "r")))
"""Forms that Intel documents as NOP and AMD raises #UD for."""

SEVERAL_STORES: Final = frozenset(
    (
        "PUSHA",
        "POPA",
        "FNSTENV",
        "FNSAVE",
        "FXSAVE",
        "FSTP",
        "FBSTP",
        "ENTER",
        "MOVUPS",
        "MOVQ",
        "MASKMOVQ",
        "MOVS",
        "STOS",
        "SGDT",
        "SIDT",
    )
)
"""Instructions of which a part may be done when another part faults; they start over."""


def flags(name: str, count: int | None, bits: int) -> int:
    """Flags that instruction *name* leaves undefined; *count* is a shift's, masked to 5 bits, *bits* its operand's."""
    mask = FLAGS.get(name, 0)
    if count is not None:
        if not count:
            return 0
        if name in OF_UNLESS_ONE and count != 1:
            mask |= OF
        if name in CF_WITHIN_SIZE and count >= bits:
            mask |= CF
    return mask


def result(name: str, count: int | None, bits: int, opsize: int) -> bool:
    """Whether the whole result is undefined: a double shift by more than its 16 bits, BSWAP of 16 bits."""
    if name in ("SHLD", "SHRD"):
        return count is not None and count > bits
    return name == "BSWAP" and opsize == 2


def memory(name: str, opsize: int) -> frozenset[int]:
    """Offsets in a memory operand of *name* that are not defined or not tracked: x87 pointers."""
    if name in ("FNSTENV", "FNSAVE"):
        reserved = (2, 3, 6, 7, 10, 11) if opsize == 4 else ()
        return frozenset((*reserved, *(range(12, 28) if opsize == 4 else range(6, 14))))
    if name == "FXSAVE":
        reserved_of_registers = (32 + 16 * n + m for n in range(8) for m in range(10, 16))
        return frozenset((*range(5, 24), *range(28, 32), *reserved_of_registers, *range(288, 512)))
    return frozenset()
