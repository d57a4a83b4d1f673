"""Which linear pages INVLPG has anything to do for: those that some address space may have in its host tables.

Emitted INVLPG looks here first (``translator.expand.system.invlpg``) and leaves for the VMM only if the page was seen.
Linux changes its fixed mappings by writing the entry and executing INVLPG, whether anybody has used the page or not.
"""

from __future__ import annotations

from typing import Final

from translator import layout

SLOTS: Final = 1 << 12 - layout.SEEN_SHIFT
"""Bytes of a page: emitted code shifts a linear address by reading it from its second byte on, not by whole pages."""
REGION: Final = 512 * SLOTS
_YES: Final = b"\1" * SLOTS
_NO: Final = bytes(SLOTS)


class Seen:
    """A byte for each 256 bytes of linear addresses: 0 if no host table has the page and no code was fetched there."""

    def __init__(self, area: memoryview) -> None:
        self._area = area
        self._regions: set[int] = set()
        """Regions of 2 MiB with bytes that are not 0."""

    def __contains__(self, page: int) -> bool:
        return bool(self._area[page * SLOTS])

    def add(self, page: int) -> None:
        """Linear *page* is in a host table from now on, or code was fetched from it."""
        at = page * SLOTS
        if not self._area[at]:
            self._area[at : at + SLOTS] = _YES
            self._regions.add(page >> 9)

    def add_region(self, region: int) -> None:
        """All pages of 2 MiB."""
        self._area[region * REGION : (region + 1) * REGION] = b"\1" * REGION
        self._regions.add(region)

    def discard(self, page: int) -> None:
        """Nobody has linear *page*."""
        self._area[page * SLOTS : (page + 1) * SLOTS] = _NO

    def clear(self) -> None:
        """Nobody has anything."""
        for region in self._regions:
            self._area[region * REGION : (region + 1) * REGION] = bytes(REGION)
        self._regions.clear()
