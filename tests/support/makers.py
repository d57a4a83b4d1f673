"""What makers of CPUs do differently where the manual says what to do."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from tests.support.state import Case, Outcome, differences

_REPEATED_COMPARISON: Final = re.compile(
    rb"(?:[\x26\x2e\x36\x3e\x64-\x67]*[\xf2\xf3])+[\x26\x2e\x36\x3e\x64-\x67]*[\xa6\xa7\xae\xaf]"
)
"""REPE or REPNE among the prefixes of CMPS or SCAS."""


def repeated_comparison_faults(case: Case, cpu: Outcome, ours: Outcome) -> bool:
    """Whether all that differs are the flags at the fault of a repeated CMPS or SCAS (SDM vol. 2, REP)."""
    if not isinstance(ours.end, tuple) or differences(case, replace(cpu, flags=ours.flags), ours):
        return False
    at = ours.eip - case.eip
    insn = (
        bytes(ours.memory.get(case.at + n, byte) for n, byte in enumerate(case.code))[at : at + 15] if at >= 0 else b""
    )
    return _REPEATED_COMPARISON.match(insn) is not None


ALIGNED_BY_AMD: Final = {
    "movups xmm0, [ebx]": 16,
    "movups [ebx], xmm0": 16,
    "movdqu xmm0, [ebx]": 16,
    "movdqu [ebx], xmm0": 16,
    "push ds": 4,
    "pop ds": 4,
}
"""Where AMD's CPUs raise #AC and Intel's do not, by instruction, with the alignment in bytes.

How MOVUPS and MOVDQU treat #AC varies among CPUs (SDM vol. 2, MOVUPS); of a pushed selector Intel's access 16 bits.
"""

EIP_VARIES: Final = frozenset(("INT1",))
"""A hypervisor on AMD's CPUs that passes its #DB on names the instruction itself, not the one behind it."""
