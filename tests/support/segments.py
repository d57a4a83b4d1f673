"""The LDT that the environments' segments stand in, as a table of descriptors."""

from __future__ import annotations

from tests.support.state import SELECTORS, Segment
from vmm.vcpu import ATTR_G

USER = 0x60
AVAILABLE = 0x1000
"""AVL, which Linux sets in the LDT of a process, and which LAR shows."""


def descriptor(segment: Segment, dpl: int = USER) -> int:
    """The 64-bit descriptor of *segment* (SDM vol. 3, 3.4.5)."""
    limit = segment.limit >> 12 if segment.attr & ATTR_G else segment.limit
    attributes = segment.attr & 0xF0FF | dpl | AVAILABLE
    low = limit & 0xFFFF | (segment.base & 0xFF_FFFF) << 16 | (attributes & 0xFF) << 40
    return low | (limit >> 16) << 48 | (attributes >> 12) << 52 | (segment.base >> 24) << 56


def descriptors() -> bytes:
    """The LDT: a descriptor for each of ``SELECTORS``, in order."""
    return b"".join(descriptor(segment).to_bytes(8, "little") for segment in SELECTORS)
