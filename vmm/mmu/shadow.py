"""Shadow page tables: what the host's tables say for each of the guest's address spaces.

A *mirror* is one host page table (2 MiB of linear addresses).  It is made from one guest page table, or from half of
one without PAE, and shared by all address spaces that use that table with the same rights; large pages have mirrors
too.  Mirrors are kept when the guest loads CR3.  What the guest wrote to its tables in between is found when a space
becomes current: each mirror remembers the bytes that it was made from, and entries that changed are dropped.  That is
what the architecture allows: until CR3 is loaded or INVLPG executed, a translation may be stale (SDM vol. 3, 4.10).
So no write to a page table ever faults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lru import LRU

from cache.cache import Placed
from vmm.host import PRESENT, WRITABLE, Host, HostSpace
from vmm.mmu.seen import Seen
from vmm.mmu.walk import LARGE, UNPAGED, Source
from vmm.physical import PhysicalMemory

MAX_SPACES: Final = 48
SPARE_TABLES: Final = 64
"""With fewer host tables left, all spaces but the current one are dropped; one space needs at most 2,048."""
RENEWED: Final = 3
"""Changed entries of a page directory with which it is taken for that of another address space."""
STRIDE: Final = 256
"""Bytes of a table that are compared at once, to find which of its entries have changed."""
FEW: Final = 8
"""So many pages leave the TLB one by one; more, and it is emptied."""
REGION_SHIFT: Final = 21
ENTRIES: Final = 512
_NONE: Final[frozenset[int]] = frozenset()


class Mirror:
    """A host page table and the guest's table that it follows."""

    __slots__ = (
        "address",
        "entries",
        "epoch",
        "filled",
        "key",
        "links",
        "scattered",
        "snapshot",
        "where",
        "window",
        "writable",
    )  # fmt: skip

    def __init__(self, key: Source, address: int, entries: memoryview) -> None:
        self.key = key
        self.address = address
        """Host-physical address of the host's table."""
        self.entries = entries
        self.links: set[tuple[Space, int]] = set()
        """(space, region) that it is linked in."""
        self.scattered = False
        """It was linked in more than one region at a time."""
        self.where = key[0]
        """Guest-physical address of the guest's entries; negative if there are none to follow."""
        self.snapshot = bytearray()
        self.window: memoryview | None = None
        """The guest's entries, if they stand in RAM as they are read."""
        self.epoch = 0
        self.filled: list[int] | None = []
        """The entries that are present, if they are few."""
        self.writable: dict[int, int] = {}
        """Guest-physical page of each entry that was made writable."""

    def enter(self, index: int, entry: int) -> None:
        """Let *entry* stand at *index*, present."""
        if self.filled is not None and index not in self.filled:
            self.filled = [*self.filled, index] if len(self.filled) < FEW else None
        self.entries[index] = entry


class Space:
    """One address space of the guest's."""

    __slots__ = ("code", "contexts", "directories", "fragments", "host", "links", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.host = HostSpace()
        self.directories: list[tuple[int, bytearray]] = []
        """(guest-physical address, content when last looked at) of the guest's page directories."""
        self.links: dict[int, Mirror] = {}
        """Mirrors by region (linear address >> 21)."""
        self.code: dict[int, int] = {}
        """Guest-physical page of each linear page that code was fetched from, by 2 * page + user."""
        self.fragments: dict[int, list[Placed]] = {}
        """Fragments in the lookup tables of this space, by linear pages that they depend on."""
        self.contexts: set[int] = set()
        """Numbers of contexts that it ran in."""

    def forget_code(self) -> None:
        """Nothing leads to code by this space any more."""
        self.code.clear()
        self.fragments.clear()
        self.contexts.clear()


class Shadow:
    """All mirrors and spaces.

    ``code_moved(space, page)`` hears that linear *page*, from which code was fetched, may be mapped another way now.
    Code of global pages is all spaces': a change in any of them counts, also in one that has not run it.
    """

    def __init__(
        self, host: Host, physical: PhysicalMemory, seen: Seen, code_moved: Callable[[Space, int], None]
    ) -> None:
        self._host = host
        self._seen = seen
        self._physical = physical
        self._code_moved = code_moved
        self._mirrors: dict[Source, Mirror] = {}
        self._spaces: LRU[tuple[int, ...], Space] = LRU(MAX_SPACES + 1)
        self._writable: dict[int, set[tuple[Mirror, int]]] = {}
        """Writable entries by guest-physical page, of paged spaces."""
        self._global_code: dict[int, set[int]] = {}
        """Linear pages that code was fetched from by global entries, by region."""
        self._numbers = 0
        self._epoch = 0
        self.width = 4
        """Bytes of a guest page-table entry."""
        self._stale: list[int] = []
        """Linear pages that the TLB may hold and must not."""
        self._all_stale = True
        self.current = self._make(())
        """The space whose tables the host runs on: the TLB holds nothing but what they say, or ``_stale`` names it."""

    # Spaces -------------------------------------------------------------------------------------------------

    def _make(self, directories: tuple[int, ...]) -> Space:
        if len(self._spaces) >= MAX_SPACES:
            oldest = self._spaces.peek_last_item()
            assert oldest is not None
            self._drop_space(oldest[1])
        if self._host.tables_left < SPARE_TABLES:
            self._drop_others()
        self._numbers += 1
        space = Space(self._numbers)
        self._spaces[directories] = space
        return space

    def _drop_space(self, space: Space) -> None:
        for key, each in self._spaces.items():
            if each is space:
                del self._spaces[key]
                break
        space.forget_code()  # its number will not come again
        for region in list(space.links):
            self._detach(space, region)

    def _drop_others(self) -> None:
        for space in list(self._spaces.values()):
            if space is not self.current:
                self._drop_space(space)

    def switch(self, directories: tuple[int, ...], width: int) -> None:
        """Make the space of these page directories current, brought up to date with the guest's tables."""
        self.width = width
        space = self._spaces.get(directories)
        if space is None:
            space = self._make(directories)
            space.directories = [(at, self._page(at)) for at in directories]
        self._refresh(space)
        self._come_from(self.current, space)
        self.current = space
        self._host.use(space.host)
        self.flush_stale()

    def _come_from(self, before: Space, space: Space) -> None:
        """Share what *before* has by the same entry of a page directory; what else it has leaves the TLB."""
        if before is space:
            return
        there = space.links
        for region, mirror in before.links.items():
            other = there.get(region)
            if other is None and self._same_entry(before, space, region):
                self._follow_table(mirror)
                self._attach(space, region, mirror)
            elif other is not mirror:
                self._outdate_region(region, mirror)

    def _same_entry(self, one: Space, other: Space, region: int) -> bool:
        """Whether the entry of the page directory that covers a region is, and was, the same in two spaces."""
        n, at = self._directory_place(region)
        if n >= len(one.directories) or n >= len(other.directories):
            return False
        entry = one.directories[n][1][at : at + self.width]
        return len(entry) > 0 and entry == other.directories[n][1][at : at + self.width]

    # What the TLB must not hold -------------------------------------------------------------------------------

    def outdate(self, linear: int) -> None:
        """The entry of *linear* has changed: it must leave the TLB before the guest goes on (``flush_stale``)."""
        mirror = self.current.links.get(linear >> REGION_SHIFT)
        if mirror is not None and mirror.scattered:
            self._all_stale = True
        else:
            self._stale.append(linear >> 12)

    def _outdate_entry(self, mirror: Mirror, index: int) -> None:
        for space, region in mirror.links:
            if space is self.current:
                self._stale.append(region * ENTRIES + index)

    def _outdate_region(self, region: int, mirror: Mirror) -> None:
        if mirror.filled is None:
            self._all_stale = True
        else:
            self._stale += [region * ENTRIES + index for index in mirror.filled]

    def flush_stale(self) -> None:
        """Let the TLB forget what has changed."""
        if self._all_stale or len(self._stale) > FEW:
            self._host.flush_tlb()
            self._all_stale = False
        elif self._stale:
            for page in self._stale:
                self._host.flush_page(page << 12)
        else:
            return
        self._stale.clear()

    def _page(self, at: int) -> bytearray:
        return bytearray(self._physical.read(at, 4096)) if at >= 0 else bytearray()

    def _refresh(self, space: Space) -> None:
        self._epoch += 1
        for n, (at, before) in enumerate(space.directories):
            now = self._page(at)
            if now != before:
                changed = _changed(before, now, self.width)
                if len(changed) >= RENEWED:
                    self._renew(space)
                self._unlink_changed(space, n, changed)
                space.directories[n] = (at, now)
        for mirror in list(space.links.values()):
            if mirror.epoch != self._epoch:
                mirror.epoch = self._epoch
                if mirror.window is None or mirror.window.tobytes() != mirror.snapshot:
                    self._follow_table(mirror)

    def _renew(self, space: Space) -> None:
        """The guest has another address space at these directories: it gets a number of its own."""
        self._numbers += 1
        space.number = self._numbers
        space.forget_code()

    def _unlink_changed(self, space: Space, n: int, changed: list[int]) -> None:
        """Unlink what entries of directory *n* covered."""
        regions = 2 if self.width == 4 else 1
        for index in changed:
            first = n * 512 + index * regions
            for region in range(first, first + regions):
                self._unlink(space, region)

    def _follow_table(self, mirror: Mirror) -> None:
        """Drop the entries that the guest has changed since they were made.

        A table that is linked at one more place is new there, whatever may be stale where it was before.
        """
        if mirror.where < 0:
            return
        now = self._physical.read(mirror.where, ENTRIES * self.width)
        if now != mirror.snapshot:
            for index in _changed(mirror.snapshot, now, self.width):
                self._zap(mirror, index)
            mirror.snapshot[:] = now

    # Mirrors --------------------------------------------------------------------------------------------------

    def _link(self, region: int, source: Source) -> Mirror:
        """The mirror of *source*, linked at *region* of the current space."""
        space = self.current
        key = source if source != UNPAGED else (UNPAGED[0], region)
        mirror = self._mirrors.get(key)
        if mirror is None:
            if self._host.tables_left < SPARE_TABLES:
                self._drop_others()
            address = self._host.new_table()
            mirror = self._mirrors[key] = Mirror(key, address, self._host.quads_of(address))
            if source == UNPAGED:
                mirror.filled = None  # it is filled by the dozen
            if mirror.where >= 0:
                size = ENTRIES * self.width
                mirror.snapshot[:] = self._physical.read(mirror.where, size)
                mirror.epoch = self._epoch
                if self._physical.plain(mirror.where, size):
                    mirror.window = self._physical.ram[mirror.where : mirror.where + size]
        if space.links.get(region) is not mirror:
            if mirror.links:
                self._follow_table(mirror)
            if region in space.links:
                self._unlink(space, region)
            self._attach(space, region, mirror)
        return mirror

    def _attach(self, space: Space, region: int, mirror: Mirror) -> None:
        self._see_regions(region, mirror)
        space.links[region] = mirror
        mirror.links.add((space, region))
        self._host.link(space.host, region, mirror.address)

    def _see_regions(self, region: int, mirror: Mirror) -> None:
        """INVLPG concerns all of a large page, and all places where a table stands."""
        if mirror.key[0] == LARGE:
            self._seen.add_region(region)
            if self.width == 4:
                self._seen.add_region(region ^ 1)
        for _, other in mirror.links:
            if other != region:
                mirror.scattered = True
                self._seen.add_region(other)
        if mirror.scattered:
            self._seen.add_region(region)

    def _unlink(self, space: Space, region: int) -> None:
        """What covers a region may be another table now."""
        first = region * ENTRIES
        own = {key >> 1 for key in space.code if first <= key >> 1 < first + ENTRIES}
        for page in sorted(own | self._global_code.get(region, _NONE)):
            self._code_moved(space, page)
        self._detach(space, region)

    def _detach(self, space: Space, region: int) -> None:
        """The space has no mirror for a region."""
        mirror = space.links.pop(region, None)
        if mirror is None:
            return
        if space is self.current:
            self._outdate_region(region, mirror)
        self._host.link(space.host, region, 0)
        mirror.links.discard((space, region))
        if not mirror.links:
            self._free(mirror)

    # Code of global pages ---------------------------------------------------------------------------------------

    def note_global(self, page: int) -> None:
        """Code was fetched from linear *page* by a global entry."""
        self._global_code.setdefault(page // ENTRIES, set()).add(page)

    def is_global(self, page: int) -> bool:
        """Whether code was fetched from linear *page* by a global entry."""
        return page in self._global_code.get(page // ENTRIES, _NONE)

    def forget_global(self, page: int) -> None:
        """Linear *page* may be mapped another way now."""
        self._global_code.get(page // ENTRIES, set()).discard(page)

    def _is_code(self, space: Space, page: int) -> bool:
        return 2 * page in space.code or 2 * page + 1 in space.code or self.is_global(page)

    def _free(self, mirror: Mirror) -> None:
        del self._mirrors[mirror.key]
        for index in list(mirror.writable):
            self._forget_writable(mirror, index)
        self._host.free_table(mirror.address)

    def _zap(self, mirror: Mirror, index: int) -> None:
        """Drop one entry.  Code may have been fetched from a page whose entry went before."""
        if mirror.entries[index] & PRESENT:
            mirror.entries[index] = 0
            self._outdate_entry(mirror, index)
            self._forget_writable(mirror, index)
            if mirror.filled is not None and index in mirror.filled:
                mirror.filled.remove(index)
        for space, region in list(mirror.links):
            page = region * ENTRIES + index
            if self._is_code(space, page):
                self._code_moved(space, page)

    def _note_writable(self, mirror: Mirror, index: int, number: int) -> None:
        mirror.writable[index] = number
        self._writable.setdefault(number, set()).add((mirror, index))

    def _forget_writable(self, mirror: Mirror, index: int) -> None:
        number = mirror.writable.pop(index, -1)
        entries = self._writable.get(number)
        if entries is not None:
            entries.discard((mirror, index))
            if not entries:
                del self._writable[number]

    # Entries ----------------------------------------------------------------------------------------------------

    def entry(self, linear: int) -> int:
        """The host's entry for a linear address of the current space."""
        mirror = self.current.links.get(linear >> REGION_SHIFT)
        return mirror.entries[linear >> 12 & 511] if mirror is not None else 0

    def set(self, linear: int, entry: int, source: Source, number: int) -> None:
        """Map the page of *linear* to host *entry*; *number* is the guest-physical page behind it."""
        index = linear >> 12 & 511
        mirror = self.current.links.get(linear >> REGION_SHIFT)
        if mirror is None or mirror.key != source:
            mirror = self._link(linear >> REGION_SHIFT, source)
        before = mirror.entries[index]
        mirror.enter(index, entry)
        if source == UNPAGED:
            return
        if before & PRESENT and (before & ~entry or (before ^ entry) & ~WRITABLE):
            self._outdate_entry(mirror, index)
        self._seen.add(linear >> 12)
        width = self.width
        directory, at = self._directory_entry(linear)
        now = self._physical.read(directory[0] + at, width)
        if now != directory[1][at : at + width]:
            if width == 4:  # the other half of what the entry covers follows what the entry was
                self._unlink(self.current, linear >> REGION_SHIFT ^ 1)
            directory[1][at : at + width] = now
        if mirror.where >= 0:
            at = index * width
            mirror.snapshot[at : at + width] = self._physical.read(mirror.where + at, width)
        if entry & WRITABLE:
            self._forget_writable(mirror, index)
            self._note_writable(mirror, index, number)
        self.flush_stale()

    def spread(self, linear: int, entry: int, number: int) -> None:
        """Map one more page of a large page, of which the current space has some; it was not present."""
        mirror, index = self.current.links[linear >> REGION_SHIFT], linear >> 12 & 511
        mirror.enter(index, entry)
        self._seen.add(linear >> 12)
        if entry & WRITABLE:
            self._note_writable(mirror, index, number)

    def _directory_place(self, region: int) -> tuple[int, int]:
        """Which of a space's directories covers a region, and the offset of its entry in bytes."""
        return (0, region >> 1 << 2) if self.width == 4 else (region >> 9, (region & 511) << 3)

    def _directory_entry(self, linear: int) -> tuple[tuple[int, bytearray], int]:
        """The directory of the current space that covers *linear*, and the offset of its entry in bytes."""
        n, at = self._directory_place(linear >> REGION_SHIFT)
        return self.current.directories[n], at

    def table(self, linear: int) -> memoryview:
        """The host's table that maps *linear* in the current space; it must be linked."""
        return self.current.links[linear >> REGION_SHIFT].entries

    def unpaged_table(self, linear: int) -> memoryview:
        """The host's entries around an address that is not paged."""
        return self._link(linear >> REGION_SHIFT, UNPAGED).entries

    def invalidate(self, linear: int) -> None:
        """INVLPG: drop the entry of *linear*."""
        self._drop(linear)
        self.flush_stale()
        if not self._is_held(linear >> 12):
            self._seen.discard(linear >> 12)

    def _is_held(self, page: int) -> bool:
        """Whether any space may have linear *page* in its tables, or code from it."""
        if self.is_global(page):
            return True
        region, index = page // ENTRIES, page % ENTRIES
        for space in self._spaces.values():
            mirror = self._covering(space, region)
            if mirror is not None and (mirror.key[0] == LARGE or mirror.scattered or mirror.entries[index] & PRESENT):
                return True
            if 2 * page in space.code or 2 * page + 1 in space.code:
                return True
        return False

    def _covering(self, space: Space, region: int) -> Mirror | None:
        """The mirror of a region, or that of the other half of a page of 4 MiB."""
        mirror = space.links.get(region)
        if mirror is None and self.width == 4:
            other = space.links.get(region ^ 1)
            if other is not None and other.key[0] == LARGE:
                return other
        return mirror

    def _drop(self, linear: int) -> None:
        """Drop the entry of *linear*, and what was made from an entry of the directory that has changed."""
        space, region = self.current, linear >> REGION_SHIFT
        mirror = self._covering(space, region)
        if mirror is None:
            if self.is_global(linear >> 12):
                self._code_moved(space, linear >> 12)
            return
        width = self.width
        directory, at = self._directory_entry(linear)
        now = self._physical.read(directory[0] + at, width) if directory[0] >= 0 else b""
        if now != directory[1][at : at + width]:
            directory[1][at : at + width] = now
            first = region & ~1 if width == 4 else region
            for each in range(first, first + (2 if width == 4 else 1)):
                self._unlink(space, each)
            return
        if mirror.key[0] == LARGE:
            for n in range(ENTRIES):
                self._zap(mirror, n)
            return
        index = linear >> 12 & 511
        at = index * width
        mirror.snapshot[at : at + width] = self._physical.read(mirror.where + at, width)
        self._zap(mirror, index)

    def protect(self, number: int) -> None:
        """Take write rights from all entries for a guest-physical page under paging."""
        for mirror, index in self._writable.pop(number, ()):
            mirror.writable.pop(index, None)
            mirror.entries[index] &= ~WRITABLE
            self._outdate_entry(mirror, index)

    def clear(self) -> None:
        """Forget everything: the physical map or the way of paging changed.

        The current space is unusable until ``switch``.
        """
        for space in list(self._spaces.values()):
            for page in {key >> 1 for key in space.code}.union(*self._global_code.values()):
                self._code_moved(space, page)
            for region in list(space.links):
                self._detach(space, region)
        self._spaces.clear()
        self._all_stale = True
        self._writable.clear()
        self._seen.clear()


def _changed(before: bytes | bytearray, now: bytes | bytearray, width: int) -> list[int]:
    """Indices of entries that differ."""
    found: list[int] = []
    for first in range(0, len(before), STRIDE):
        if before[first : first + STRIDE] != now[first : first + STRIDE]:
            entries = range(first, first + STRIDE, width)
            found += [at // width for at in entries if before[at : at + width] != now[at : at + width]]
    return found
