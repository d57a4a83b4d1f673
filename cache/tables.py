"""Lookup tables of indirect-branch targets: the low 16 bits of the linear address pick a host address.

One table a context (mode, CS base and address space).  An empty slot holds the miss stub; a filled one the entry of a
fragment, which verifies that it is the right one.  What may be shared by all address spaces of a family stands in the
family's template, which a new table starts from.  Behind the tables stands, slot for slot, where fragments are that may
stand anywhere (``translator.layout.DELTAS``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lru import LRU

SLOTS: Final = 0x1_0000
TABLE_BYTES: Final = 8 * SLOTS
MAX_FAMILIES: Final = 8
"""Templates of half a MiB each; further families share nothing."""


class LookupTables:
    """Tables in the memory *quads* (64-bit words), found by context and recycled by LRU; *deltas* is as large."""

    def __init__(self, quads: memoryview, deltas: memoryview, base: int, miss: int) -> None:
        self._quads = quads
        self._deltas = deltas
        self._base = base
        self._miss = miss
        self._empty = memoryview(miss.to_bytes(8, "little") * SLOTS).cast("Q")
        self._templates: dict[int, memoryview] = {}
        self._members: dict[int, dict[int, None]] = {}
        """Tables of each family."""
        self._family: dict[int, int] = {}
        self._count = len(quads) // SLOTS
        self._of: LRU[int, int] = LRU(max(self._count - 1, 1))
        self._used = 1
        self._quads[:SLOTS] = self._empty
        self.recycled: list[Callable[[int, int], None]] = []
        """Called with a context and its table, which is about to become another's."""
        self.never = base
        """Host address of a table that is always empty."""

    def table(self, context: int, family: int = 0) -> int:
        """The number of the context's table; a new one holds what *family* shares."""
        number = self._of.get(context)
        if number is None:
            if self._used < self._count:
                number = self._used
                self._used += 1
            else:
                oldest = self._of.peek_last_item()
                assert oldest is not None
                number = oldest[1]
                del self._of[oldest[0]]
                before = self._family[number]
                del self._members[before][number]
                if not self._members[before]:
                    del self._members[before]
                for call in self.recycled:
                    call(*oldest)
            self._of[context] = number
            self._members.setdefault(family, {})[number] = None
            self._family[number] = family
            self._quads[number * SLOTS : (number + 1) * SLOTS] = self._templates.get(family, self._empty)
        return number

    def number(self, context: int) -> int | None:
        """The number of the context's table if it has one."""
        number: int | None = self._of.get(context)
        return number

    def address(self, number: int) -> int:
        """Host address of table *number*."""
        return self._base + number * TABLE_BYTES

    def slot(self, number: int, linear: int) -> int:
        """The slot of branches to *linear* by table *number*."""
        return number * SLOTS + (linear & SLOTS - 1)

    def held(self, slot: int) -> int:
        """The host address in a slot; 0 if it is empty."""
        held: int = self._quads[slot]
        return 0 if held == self._miss else held

    def delta(self, slot: int) -> int:
        """What the last fragment that came into a slot adds to its EIPs, modulo 2**32."""
        delta: int = self._deltas[slot]
        return delta

    def fill(self, slot: int, host: int, delta: int) -> None:
        """Send branches by this slot to *host*, which adds *delta* to its EIPs if it may stand anywhere."""
        self._quads[slot] = host
        self._deltas[slot] = delta

    def drop(self, slot: int, host: int) -> None:
        """Empty a slot if it still holds *host*."""
        if self._quads[slot] == host:
            self._quads[slot] = self._miss

    def share(self, family: int, linear: int, host: int) -> bool:
        """Let all tables of *family*, also those to come, send branches to *linear* to *host*, where no other does.

        False: it has no template; nothing was done.
        """
        template = self._templates.get(family)
        if template is None:
            if len(self._templates) >= MAX_FAMILIES:
                return False
            template = self._templates[family] = memoryview(bytearray(self._empty)).cast("Q")
        index = linear & SLOTS - 1
        template[index] = host
        quads, miss = self._quads, self._miss
        for number in self._members.get(family, ()):
            if quads[number * SLOTS + index] == miss:
                quads[number * SLOTS + index] = host
        return True

    def unshare(self, linear: int, host: int) -> range:
        """Let templates no longer send branches to *linear* to *host*.  Returns the slots of all tables that may."""
        index = linear & SLOTS - 1
        for template in self._templates.values():
            if template[index] == host:
                template[index] = self._miss
        return range(index, self._used * SLOTS, SLOTS)
