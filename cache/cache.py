"""The translation cache proper: fragments by key, chained, linked to the pages they came from, bounded by LRU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from lru import LRU

from cache.memory import CodeMemory
from cache.pairs import Pairs
from cache.tables import LookupTables
from translator.decode import Insn
from translator.exits import STUB, Exit
from translator.fragment import Fragment
from translator.points import Point

PAGE_SHIFT: Final = 12
PAGE: Final = 4096
_JUMP: Final = 5
"""Bytes of JMP rel32."""
CROWD: Final = 32
"""Exits chained to one fragment, from which on those that have left are looked for."""
Key = tuple[int, int, int]
"""(context, EIP or ANYWHERE, guest-physical address)."""
ANYWHERE: Final = -1
"""For the EIP: the fragment serves at all of them.  Its own EIP and linear address are the guest-physical address."""


class Way:
    """An exit of a placed fragment.  ``target`` is the fragment it is chained to, if any.

    ``after`` is whoever answers callouts' own: where the guest went on after the last one.
    """

    __slots__ = ("after", "callout", "index", "number", "placed", "target")

    def __init__(self, number: int, placed: Placed, index: int) -> None:
        self.number = number
        self.placed = placed
        self.index = index
        """Which of the fragment's exits."""
        self.target: Placed | None = None
        self.after: tuple[Placed, int, int, int] | None = None
        insn = placed.exits.insn(index)
        self.callout: tuple[Insn, int, int] | None = None
        """Of a callout: the instruction, its EIP, and how many instructions are to be given back to the budget."""
        if insn is not None and self.kind == "callout":
            self.callout = insn, self.eip, placed.exits.refund(index)

    @property
    def kind(self) -> str:
        """See ``translator.exits.KINDS``."""
        return self.placed.exits.kind(self.index)

    @property
    def eip(self) -> int:
        """The guest EIP that the exit names, less ``layout.DELTA`` where the fragment may stand anywhere."""
        return self.placed.eip + self.placed.exits.offset(self.index) & 0xFFFF_FFFF

    @property
    def exit(self) -> Exit:
        """All there is to know of the exit."""
        return self.placed.exits[self.index]


class Placed:
    """A fragment in code memory.  There may be hundreds of thousands: whatever can be computed is not stored."""

    __slots__ = (
        "address",
        "eip",
        "entry",
        "exits",
        "first_number",
        "following",
        "incoming",
        "insns",
        "key",
        "length",
        "linear",
        "live",
        "points",
        "shared",
        "size",
        "slots",
    )  # fmt: skip

    def __init__(self, key: Key, fragment: Fragment, address: int, following: int) -> None:
        self.key = key
        self.eip = fragment.eip
        self.linear = fragment.start
        self.length = fragment.length
        self.address = address
        """Host address of the entry for indirect branches."""
        self.entry = address + fragment.entry
        """Host address of the entry for chained jumps."""
        self.size = len(fragment.code)
        self.insns = fragment.insns
        self.following = following
        """The guest-physical page that the source runs on into, or -1."""
        self.points = fragment.points
        self.exits = fragment.exits
        self.first_number = 0
        """The exits' numbers begin here."""
        self.incoming: list[Way] | None = None
        """Exits that were chained to it; some may have left since."""
        self.slots: list[int] | None = None
        """Where lookup tables may hold it."""
        self.shared = False
        """New lookup tables hold it from the start."""
        self.live = True

    @property
    def beside(self) -> Key:
        """What it shares with those that indirect branches can find where they find it."""
        page = ANYWHERE if self.anywhere else self.linear >> PAGE_SHIFT
        return self.key[0], page, self.key[2] >> PAGE_SHIFT

    @property
    def anywhere(self) -> bool:
        """It serves wherever its page is mapped."""
        return self.key[1] == ANYWHERE

    @property
    def pages(self) -> tuple[tuple[int, int, int], ...]:
        """(guest-physical page number, first byte, last byte + 1 within it) of the source, one or two."""
        page, first = self.key[2] >> PAGE_SHIFT, self.key[2] & PAGE - 1
        end = first + self.length
        if self.following < 0:
            return ((page, first, min(end, PAGE)),)
        return ((page, first, PAGE), (self.following, 0, end - PAGE))

    def host_pages(self) -> range:
        """Numbers of the host pages that the fragment lies in."""
        return range(self.address >> PAGE_SHIFT, (self.address + self.size - 1 >> PAGE_SHIFT) + 1)

    def point(self, host: int) -> Point:
        """What guest instruction the host address *host* inside this fragment belongs to."""
        return self.points.of(host - self.address)


class Counters:
    """What happened to the cache since power-on."""

    __slots__ = (
        "chained",
        "evictions",
        "flushes",
        "fragments_made",
        "guest_bytes",
        "host_bytes",
        "invalidations",
        "translated",
    )

    def __init__(self) -> None:
        self.fragments_made = 0
        self.translated: dict[str, int] = {}
        self.guest_bytes = 0
        self.host_bytes = 0
        self.chained = 0
        self.evictions = 0
        self.flushes = 0
        self.invalidations: dict[str, int] = {}


def _ignore(page: int) -> None:
    """Nobody watches."""


class TranslationCache:
    """Fragments in *code* memory that starts at host address *base*.

    ``discard(start, end)`` is called before bytes that may have run are used again; ``watch(page)`` when the first
    fragment of a guest page appears, ``unwatch(page)`` when the last one goes.
    """

    def __init__(
        self,
        code: memoryview,
        base: int,
        capacity: int,
        tables: LookupTables,
        discard: Callable[[int, int], None],
        watch: Callable[[int], None] = _ignore,
        unwatch: Callable[[int], None] = _ignore,
        chaining: bool = True,
    ) -> None:
        self._code = code
        self.base = base
        self.memory = CodeMemory(capacity)
        self.capacity = capacity
        self.tables = tables
        self.pairs = Pairs(code, base, self.memory, tables, discard)
        tables.recycled.append(lambda context, table: self.pairs.forget(table))
        self._discard = discard
        self.watch = watch
        self.unwatch = unwatch
        self.chaining = chaining
        self._index: LRU[Key, Placed] = LRU(capacity // 32 + 1)
        self._ways: list[Way | Placed | None] = [None]
        """Exits by number, or only whose they are; 0 is the common miss of indirect branches."""
        self._free_numbers: dict[int, list[int]] = {}
        """First numbers of free runs, by their length."""
        self._placed: dict[int, Placed] = {}
        """All fragments by host address, the oldest first."""
        self._in_page: dict[int, list[Placed]] = {}
        """Those that lie in each host page."""
        self._by_page: dict[int, dict[Placed, None]] = {}
        self._beside: dict[Key, list[Placed]] = {}
        """Fragments of one page by context, linear page and guest-physical page."""
        self.counters = Counters()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def bytes_used(self) -> int:
        """Bytes of code memory that fragments occupy."""
        return self.memory.used

    def lookup(self, key: Key) -> Placed | None:
        """The fragment of *key*, which becomes the most recently used."""
        placed: Placed | None = self._index.get(key)
        return placed

    def way(self, number: int) -> Way | None:
        """The exit of that number; None for number 0."""
        found = self._ways[number]
        if type(found) is Placed:
            found = self._ways[number] = Way(number, found, number - found.first_number)
        assert not isinstance(found, Placed)
        return found

    def way_of(self, placed: Placed, index: int) -> Way:
        """One exit of a fragment."""
        way = self.way(placed.first_number + index)
        assert way is not None
        return way

    def ways(self, placed: Placed) -> list[Way]:
        """All exits of a fragment."""
        return [self.way_of(placed, index) for index in range(placed.exits.count)]

    def at(self, host: int) -> Placed | None:
        """The fragment that holds host address *host*."""
        for placed in self._in_page.get(host >> PAGE_SHIFT, ()):
            if placed.address <= host < placed.address + placed.size:
                return placed
        return None

    def pages(self) -> Iterable[int]:
        """Guest-physical pages that fragments came from."""
        return self._by_page.keys()

    def on_page(self, page: int) -> Collection[Placed]:
        """Fragments that came from a guest-physical page, the oldest first."""
        return self._by_page.get(page, {}).keys()

    def insert(self, key: Key, fragment: Fragment, following: int = -1) -> Placed:
        """Place a fragment, evicting the least recently used ones until it fits.

        Its source runs on into the guest-physical page *following*, if that is not negative.
        Raises ``MemoryError`` if it is larger than the whole cache.
        """
        size = len(fragment.code)
        while (found := self.memory.allocate(size)) is None:
            if not self._placed:
                raise MemoryError(f"a fragment of {size} bytes does not fit a translation cache of {self.capacity}")
            self._evict()
        offset, reused = found
        address = self.base + offset
        if reused:
            self._discard(address, address + size)
        placed = Placed(key, fragment, address, following)
        code = fragment.code
        number = placed.first_number = self._take_numbers(placed, fragment.exits.count)
        for at in fragment.exits.numbers():
            code[at : at + 4] = number.to_bytes(4, "little")
            number += 1
        self._code[offset : offset + size] = code
        self._placed[address] = placed
        for host_page in placed.host_pages():
            self._in_page.setdefault(host_page, []).append(placed)
        if (old := self._index.get(key)) is not None:
            self.remove(old, "replaced")
        self._index[key] = placed
        for page in (key[2] >> PAGE_SHIFT, following) if following >= 0 else (key[2] >> PAGE_SHIFT,):
            fragments = self._by_page.get(page)
            if fragments is None:
                fragments = self._by_page[page] = {}
                self.watch(page)
            fragments[placed] = None
        if following < 0:
            self._beside.setdefault(placed.beside, []).append(placed)
        counters = self.counters
        counters.fragments_made += 1
        counters.guest_bytes += fragment.length
        counters.host_bytes += size
        for treatment, count in fragment.treatments.items():
            counters.translated[treatment] = counters.translated.get(treatment, 0) + count
        return placed

    def chain(self, way: Way, target: Placed, fresh: bool = False) -> None:
        """Let a direct exit go to *target* without the VMM; of a *fresh* fragment, which cannot have run yet."""
        if not self.chaining or not way.placed.live or not target.live:
            return
        self._aim(way.placed, way.index, target.entry, fresh)
        way.target = target
        if target.incoming is None:
            target.incoming = []
        elif len(target.incoming) >= CROWD and not len(target.incoming) & CROWD - 1:
            target.incoming = [each for each in target.incoming if each.target is target]
        target.incoming.append(way)
        self.counters.chained += 1

    def chain_by_lookup(self, placed: Placed, index: int, fresh: bool = False) -> None:
        """Let a direct exit go by the lookup table: its target may stand elsewhere after the guest's tables change."""
        if self.chaining and placed.live:
            self._aim(placed, index, placed.address + placed.exits.lookup(index), fresh)
            self.counters.chained += 1

    def unchain(self, way: Way) -> None:
        """Let a chained exit leave for the VMM again."""
        if way.target is not None:
            way.target = None
            self._aim(way.placed, way.index, way.placed.address + way.placed.exits.stub(way.index))

    def _aim(self, placed: Placed, index: int, host: int, fresh: bool = False) -> None:
        """Let the jumps of an exit, or what stands in place of its stub, go to *host*."""
        address, sites = placed.address, placed.exits.sites(index)
        if not sites:
            stub = placed.exits.stub(index)
            at, behind = address - self.base + stub, address + stub + _JUMP
            text = b"\xe9" + (host - behind).to_bytes(4, "little", signed=True)
            if host == address + stub:
                text = (STUB + (placed.first_number + index).to_bytes(4, "little"))[:_JUMP]
            self._code[at : at + _JUMP] = text
            if not fresh:
                self._discard(address + stub, behind)
        for site in sites:
            at = address - self.base + site
            self._code[at : at + 4] = (host - address - site - 4).to_bytes(4, "little", signed=True)
            if not fresh:
                self._discard(address + site, address + site + 4)

    def publish(self, table: int, placed: Placed, linear: int, family: int = 0) -> bool:
        """Let branches to *linear* find *placed* by lookup table number *table*; whether they could not before.

        With a *family*, also by the tables that its address spaces are going to have.
        """
        slot = self.tables.slot(table, linear)
        held = self.tables.held(slot)
        delta = linear - placed.linear & 0xFFFF_FFFF
        if not self.chaining or not placed.live:
            return False
        if held == placed.address and self.tables.delta(slot) == delta:
            return False
        if self.pairs.holds(slot, placed):
            if self.pairs.leads(slot, placed, delta):
                return False
            self.pairs.leave(slot, placed)  # it is mapped twice, with this slot for both
            held = self.tables.held(slot)
        if held and held != placed.address:
            self.pairs.join(slot, placed, delta, self._placed.get(held))
        else:
            self.tables.fill(slot, placed.address, delta)
        self._note_slot(placed, slot)
        if family and self.tables.share(family, placed.linear, placed.address):
            placed.shared = True
        return True

    def publish_beside(self, table: int, placed: Placed, linear: int) -> list[Placed]:
        """Let branches also find what came from the same page and context as *placed*, which stands at *linear*.

        Only where slots are free.  Returns those that could not be found before.
        """
        new = []
        delta = linear - placed.linear & 0xFFFF_FFFF
        for each in self._beside.get(placed.beside, ()) if self.chaining else ():
            slot = self.tables.slot(table, each.linear + delta)
            if not self.tables.held(slot):
                self.tables.fill(slot, each.address, delta)
                self._note_slot(each, slot)
                new.append(each)
        return new

    def _note_slot(self, placed: Placed, slot: int) -> None:
        """A slot of a lookup table holds *placed*; now and then those that hold it no longer are struck off."""
        slots = placed.slots
        if slots is None:
            placed.slots = [slot]
            return
        if len(slots) >= CROWD and not len(slots) % CROWD:
            holds, held, address = self.pairs.holds, self.tables.held, placed.address
            slots[:] = [each for each in dict.fromkeys(slots) if held(each) == address or holds(each, placed)]
        slots.append(slot)

    def withdraw(self, placed: Placed) -> None:
        """Let indirect branches find *placed* no longer."""
        slots: Iterable[int] = placed.slots or ()
        if placed.shared:
            slots = self.tables.unshare(placed.linear, placed.address)
            placed.shared = False
        for slot in slots:
            self._clear(slot, placed)
        placed.slots = None

    def withdraw_at(self, placed: Placed, linear: int, tables: Iterable[int]) -> None:
        """Let branches to *linear* find *placed* no longer by these lookup tables, or, if it is shared, by any."""
        if placed.shared:
            self.withdraw(placed)
            return
        for table in tables:
            self._clear(self.tables.slot(table, linear), placed)

    def _clear(self, slot: int, placed: Placed) -> None:
        if self.pairs.holds(slot, placed):
            self.pairs.leave(slot, placed)
        else:
            self.tables.drop(slot, placed.address)

    def _evict(self) -> None:
        self.counters.evictions += 1
        self.remove(_oldest(self._index))

    def remove(self, placed: Placed, reason: str | None = None) -> None:
        """Take a fragment out: nothing leads to it any more and its memory is free."""
        if not placed.live:
            return
        placed.live = False
        if reason:
            self.counters.invalidations[reason] = self.counters.invalidations.get(reason, 0) + 1
        for way in placed.incoming or ():
            if way.target is placed:
                self.unchain(way)
        placed.incoming = None
        self._give_numbers(placed)
        self.withdraw(placed)
        if self._index.get(placed.key) is placed:
            del self._index[placed.key]
        del self._placed[placed.address]
        for host_page in placed.host_pages():
            self._in_page[host_page].remove(placed)
        for page, _, _ in placed.pages:
            fragments = self._by_page.get(page)
            if fragments is not None:
                fragments.pop(placed, None)
                if not fragments:
                    del self._by_page[page]
                    self.unwatch(page)
        if placed.following < 0:
            beside = self._beside[placed.beside]
            beside.remove(placed)
            if not beside:
                del self._beside[placed.beside]
        self.memory.free(placed.address - self.base, placed.size)

    def _take_numbers(self, placed: Placed, count: int) -> int:
        """The first of *count* numbers for the fragment's exits; 0 if it has none."""
        if not count:
            return 0
        ways, free = self._ways, self._free_numbers.get(count)
        if free:
            first = free.pop()
            ways[first : first + count] = [placed] * count
        else:
            first = len(ways)
            ways += [placed] * count
        return first

    def _give_numbers(self, placed: Placed) -> None:
        first, count, ways = placed.first_number, placed.exits.count, self._ways
        if not count:
            return
        for way in ways[first : first + count]:
            if type(way) is Way:
                if way.target is not None and way.target.incoming is not None and len(way.target.incoming) < CROWD:
                    way.target.incoming.remove(way)
                way.target = way.after = None
        ways[first : first + count] = [None] * count
        self._free_numbers.setdefault(count, []).append(first)

    def invalidate(self, page: int, first: int, last: int, reason: str) -> int:
        """Drop fragments made from bytes [first, last) of a guest-physical page; returns how many."""
        hit = [
            placed
            for placed in self._by_page.get(page, ())
            if any(p == page and start < last and first < end for p, start, end in placed.pages)
        ]
        for placed in hit:
            self.remove(placed, reason)
        return len(hit)

    def flush(self) -> None:
        """Drop everything."""
        for placed in list(self._placed.values()):
            self.remove(placed)
        self.counters.flushes += 1


def _oldest(index: LRU[Key, Placed]) -> Placed:
    """The least recently used entry of an index that is not empty."""
    item: tuple[Key, Placed] | None = index.peek_last_item()
    assert item is not None
    return item[1]
