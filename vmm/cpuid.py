"""What the CPU says of itself: CPUID (SDM vol. 2, CPUID).

The table tells the truth about what is emulated: a feature bit is set if a guest that uses the feature is served.
"""

from __future__ import annotations

from typing import Final, NamedTuple

VENDOR: Final = b"GenuineIntel"
SIGNATURE: Final = 0x0000_0695
"""Type, family, model, stepping: family 6, model 9, a Pentium M: the first P6 with SSE2."""
BRAND: Final = b"Binary-translated virtual CPU"
"""At most 47 bytes."""

MAX_LEAF: Final = 2
MAX_EXTENDED_LEAF: Final = 0x8000_0004

_CLFLUSH_LINE: Final = 64
"""Bytes that CLFLUSH flushes; of any effect there is none."""


class Feature(NamedTuple):
    """A bit of leaf 1's EDX."""

    bit: int
    present: bool
    remark: str


FEATURES: Final = {
    "FPU": Feature(0, True, "x87"),
    "VME": Feature(1, True, "virtual interrupt flag in virtual-8086 mode, and PVI"),
    "DE": Feature(2, True, "DR4 and DR5 raise #UD"),
    "PSE": Feature(3, True, "4 MiB pages"),
    "TSC": Feature(4, True, "RDTSC, CR4.TSD"),
    "MSR": Feature(5, True, "RDMSR, WRMSR"),
    "PAE": Feature(6, True, "physical address extension"),
    "MCE": Feature(7, False, "machine checks do not happen"),
    "CX8": Feature(8, True, "CMPXCHG8B"),
    "APIC": Feature(9, False, "set while IA32_APIC_BASE enables a local APIC"),
    "SEP": Feature(11, True, "SYSENTER, SYSEXIT"),
    "MTRR": Feature(12, False, "the registers can be written, but there is no cache"),
    "PGE": Feature(13, True, "global pages"),
    "MCA": Feature(14, False, "no machine-check banks"),
    "CMOV": Feature(15, True, "CMOVcc, FCMOVcc, FCOMI"),
    "PAT": Feature(16, False, "page attributes"),
    "PSE36": Feature(17, False, "36-bit 4 MiB pages"),
    "CLFSH": Feature(19, True, "CLFLUSH"),
    "MMX": Feature(23, True, "MMX"),
    "FXSR": Feature(24, True, "FXSAVE, FXRSTOR"),
    "SSE": Feature(25, True, "SSE"),
    "SSE2": Feature(26, True, "SSE2"),
    "HTT": Feature(28, False, "one logical processor"),
}
"""Leaf 1, EDX.  ECX is zero: no SSE3 and nothing later."""

NX: Final = True
"""Execute-disable under PAE: leaf 80000001h, EDX bit 20, and IA32_EFER.NXE."""

_EDX: Final = sum(1 << feature.bit for feature in FEATURES.values() if feature.present)
_APIC: Final = 1 << FEATURES["APIC"].bit
_NX_BIT: Final = 1 << 20


def present(name: str) -> bool:
    """Whether the feature is in the table and set."""
    return FEATURES[name].present


def _words(text: bytes) -> tuple[int, int, int, int]:
    """Sixteen characters as EAX, EBX, ECX, EDX."""
    a, b, c, d = (int.from_bytes(text[n : n + 4], "little") for n in range(0, 16, 4))
    return a, b, c, d


_BRAND: Final = BRAND.ljust(48, b"\0")
_VENDOR_WORDS: Final = (
    int.from_bytes(VENDOR[0:4], "little"),
    int.from_bytes(VENDOR[8:12], "little"),
    int.from_bytes(VENDOR[4:8], "little"),
)
LEAVES: Final[dict[int, tuple[int, int, int, int]]] = {
    0: (MAX_LEAF, *_VENDOR_WORDS),
    1: (SIGNATURE, _CLFLUSH_LINE // 8 << 8, 0, _EDX),
    2: (0x01, 0, 0, 0),  # one round, and no cache or TLB to describe
    0x8000_0000: (MAX_EXTENDED_LEAF, 0, 0, 0),
    0x8000_0001: (0, 0, 0, _NX_BIT if NX else 0),
    0x8000_0002: _words(_BRAND[0:16]),
    0x8000_0003: _words(_BRAND[16:32]),
    0x8000_0004: _words(_BRAND[32:48]),
}
"""EAX, EBX, ECX, EDX by leaf."""


def leaf(number: int, apic: bool = False) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX of CPUID; a leaf beyond the last basic one reads as that one, as on Intel's processors.

    *apic* says that a local APIC is enabled (its identification is 0).
    """
    a, b, c, d = LEAVES.get(number) or LEAVES[MAX_LEAF]
    return a, b, c, d | _APIC if apic and number == 1 else d
