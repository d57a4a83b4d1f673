"""The translation cache and its code memory against models: random histories, invariants after every step."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from cache.cache import ANYWHERE, Key, Placed, TranslationCache, Way
from cache.memory import ALIGNMENT, CodeMemory
from cache.pairs import SIZE
from cache.tables import SLOTS, LookupTables
from translator import layout
from translator.exits import ExitList, Exits
from translator.fragment import Fragment
from translator.mode import FLAT, Mode
from translator.points import PointList, Points

CAPACITY = 8 << 10
BASE = 0x3_0000_1000
MISS = 0x3_0000_0000
TABLES = 4
MODE = Mode(True, True, True, False, False, True, True, False, (FLAT,) * 6)
BOUNDED = settings(max_examples=60, stateful_step_count=60, deadline=None, database=None, derandomize=True)
EXIT_BYTES = 64
"""Room in a fragment for an exit: number, lookup code, jump."""


class MemoryMachine(RuleBasedStateMachine):
    """``CodeMemory`` against the set of extents that are out."""

    extents = Bundle("extents")

    def __init__(self) -> None:
        super().__init__()
        self.memory = CodeMemory(CAPACITY)
        self.out: dict[int, int] = {}
        self.touched = bytearray(CAPACITY)

    @rule(target=extents, size=st.integers(1, CAPACITY // 2))
    def allocate(self, size: int) -> object:
        found = self.memory.allocate(size)
        if found is None:
            return multiple()
        start, reused = found
        rounded = -(-size // ALIGNMENT) * ALIGNMENT
        assert start % ALIGNMENT == 0
        assert 0 <= start <= start + rounded <= CAPACITY
        assert all(start + rounded <= at or at + length <= start for at, length in self.out.items())
        assert reused or not any(self.touched[start : start + rounded])
        self.touched[start : start + rounded] = b"\1" * rounded
        self.out[start] = rounded
        return start, size

    @rule(extent=consumes(extents))
    def free(self, extent: tuple[int, int]) -> None:
        start, size = extent
        self.memory.free(start, size)
        del self.out[start]

    @rule()
    def everything_fits_once_all_is_free(self) -> None:
        if not self.out:
            found = self.memory.allocate(CAPACITY)
            assert found is not None
            self.memory.free(found[0], CAPACITY)
            self.touched[:] = b"\1" * CAPACITY

    @invariant()
    def counts_what_is_out(self) -> None:
        assert self.memory.used == sum(self.out.values())


TestCodeMemory = MemoryMachine.TestCase
TestCodeMemory.settings = BOUNDED


def fragment(eip: int, size: int, exits: int) -> Fragment:
    """A fragment of *size* bytes, its last ones the exits'."""
    start = size - exits * EXIT_BYTES
    ways = ExitList()
    code = bytearray(b"\x90" * size)
    for n in range(exits):
        at = start + n * EXIT_BYTES
        site = at + 24
        ways.add("direct", 0x9000 + n, at, at + 8, (site,), at + 16, None, 0, 0)
        code[site : site + 4] = (at - site - 4).to_bytes(4, "little", signed=True)
    return Fragment(eip, MODE, 0, code, 16, Exits.listed(ways), Points.listed(PointList()), 3, eip, 20, {"ident": 3})


class CacheMachine(RuleBasedStateMachine):
    """``TranslationCache`` against a dictionary of what was put in and not taken out."""

    def __init__(self) -> None:
        super().__init__()
        self.code = memoryview(bytearray(CAPACITY))
        self.slots = memoryview(bytearray(8 * TABLES * SLOTS)).cast("Q")
        self.deltas = memoryview(bytearray(8 * TABLES * SLOTS)).cast("Q")
        self.written = bytearray(CAPACITY)
        self.watched: set[int] = set()
        self.live: list[Placed] = []
        self.chained: dict[Way, Placed] = {}
        self.by_lookup: set[Way] = set()
        self.cache: TranslationCache

    @initialize(chaining=st.booleans())
    def start(self, chaining: bool) -> None:
        tables = LookupTables(self.slots, self.deltas, 0x6_0000_0000, MISS)
        self.table = tables.table(1)
        self.cache = TranslationCache(
            self.code, BASE, CAPACITY, tables, self.discard, self.watch, self.unwatch, chaining
        )

    def discard(self, start: int, end: int) -> None:
        """The host forgets what it made of these bytes."""
        self.written[start - BASE : end - BASE] = bytes(end - start)

    def watch(self, page: int) -> None:
        assert page not in self.watched
        self.watched.add(page)

    def unwatch(self, page: int) -> None:
        self.watched.remove(page)

    def forget_the_dead(self) -> None:
        self.live = [p for p in self.live if p.live]
        self.chained = {way: to for way, to in self.chained.items() if way.placed.live and to.live}
        self.by_lookup = {way for way in self.by_lookup if way.placed.live}

    # What may happen -----------------------------------------------------------------------------------

    @rule(
        context=st.integers(1, 2),
        eip=st.integers(0, 12),
        bank=st.integers(0, 2),
        size=st.integers(200, 2500),
        exits=st.integers(0, 3),
        pages=st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True),
        anywhere=st.booleans(),
    )
    def insert(
        self, context: int, eip: int, bank: int, size: int, exits: int, pages: list[int], anywhere: bool
    ) -> None:
        at = 4090 if pages[1:] else 16 * eip
        eip |= bank << 16
        key: Key = (context, eip, pages[0] << 12 | at)
        if anywhere and not pages[1:]:
            eip = key[2]
            key = (context, ANYWHERE, eip)
        placed = self.cache.insert(key, fragment(eip, size, exits), pages[1] if pages[1:] else -1)
        assert placed.pages[0] == (pages[0], at, min(at + 20, 4096))
        assert placed.pages[1:] == tuple((page, 0, 14) for page in pages[1:])
        at = placed.address - BASE
        assert not any(self.written[at : at + size]), "the host still has its translation of older code there"
        self.written[at : at + size] = b"\1" * size
        self.forget_the_dead()
        self.live.append(placed)
        assert self.cache.lookup(key) is placed

    @rule(data=st.data())
    def chain(self, data: st.DataObject) -> None:
        ways = [way for placed in self.live for way in self.cache.ways(placed)]
        if ways:
            way, target = data.draw(st.sampled_from(ways)), data.draw(st.sampled_from(self.live))
            self.cache.unchain(way)
            self.chained.pop(way, None)
            self.by_lookup.discard(way)
            self.cache.chain(way, target)
            if self.cache.chaining:
                self.chained[way] = target

    @rule(data=st.data())
    def chain_by_lookup(self, data: st.DataObject) -> None:
        ways = [way for placed in self.live for way in self.cache.ways(placed) if way not in self.chained]
        if ways:
            way = data.draw(st.sampled_from(ways))
            self.cache.chain_by_lookup(way.placed, way.index)
            if self.cache.chaining:
                self.by_lookup.add(way)

    @rule(data=st.data(), family=st.integers(0, 2), page=st.integers(0, 40))
    def publish(self, data: st.DataObject, family: int, page: int) -> None:
        if self.live:
            placed = data.draw(st.sampled_from(self.live))
            linear = page << 12 | placed.linear & 4095 if placed.anywhere else placed.linear
            family = 0 if placed.anywhere else family
            slot = self.table * SLOTS + (linear & SLOTS - 1)
            known = (placed, linear) in self.places(slot)
            assert self.cache.publish(self.table, placed, linear, family) == (self.cache.chaining and not known)
            assert (placed, linear) in self.places(slot) or not self.cache.chaining

    @rule(data=st.data(), page=st.integers(0, 40))
    def publish_beside(self, data: st.DataObject, page: int) -> None:
        alone = [p for p in self.live if p.following < 0]
        if alone:
            placed = data.draw(st.sampled_from(alone))
            linear = page << 12 | placed.linear & 4095 if placed.anywhere else placed.linear
            for each in self.cache.publish_beside(self.table, placed, linear):
                there = linear & ~4095 | each.linear & 4095
                assert self.places(self.table * SLOTS + (there & SLOTS - 1)) == [(each, there)]

    def led_to(self, slot: int) -> list[Placed]:
        """The fragments that branches by a slot can come to."""
        return [placed for placed, _ in self.places(slot)]

    def places(self, slot: int) -> list[tuple[Placed, int]]:
        """The same with the addresses that they are found at, by running a pair's stub in the head."""
        host, delta = self.slots[slot], self.deltas[slot]
        alive = {p.address: p for p in self.live}
        if host in (0, MISS):
            return []
        if host in alive:
            return [(alive[host], alive[host].linear + delta & 0xFFFF_FFFF)]
        code = bytes(self.code[host - BASE : host - BASE + SIZE])
        assert code[:6] == b"\x49\x89\xc9\x41\x8d\x88"
        assert code[10:12] == b"\xe3\x0c"
        assert code[12:20] == b"\x4c\x89\xc9\x45\x0f\xb7\xc8\xe9"
        assert code[24:30] == b"\x4c\x89\xc9\x41\xc7\x87"
        assert int.from_bytes(code[30:34], "little") == layout.DELTA
        linear = -int.from_bytes(code[6:10], "little") & 0xFFFF_FFFF
        other, same = (host + at + 4 + int.from_bytes(code[at : at + 4], "little", signed=True) for at in (20, 39))
        (later,) = (p for p in self.live if p.entry == same)
        assert later.linear + int.from_bytes(code[34:38], "little") & 0xFFFF_FFFF == linear
        return [(later, linear), (alive[other], alive[other].linear + delta & 0xFFFF_FFFF)]

    @rule(context=st.integers(2, 9), family=st.integers(1, 2))
    def another_space(self, context: int, family: int) -> None:
        """Tables other than the first are recycled; a new one holds what the family shares."""
        tables = self.cache.tables
        tables.table(1)
        number = tables.table(context, family)
        assert 0 < number < TABLES
        assert number != self.table

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        if self.live:
            placed = data.draw(st.sampled_from(self.live))
            self.cache.withdraw(placed)
            apart = 4096 if placed.anywhere else SLOTS
            slots = range(placed.linear & apart - 1, TABLES * SLOTS, apart)
            assert not any(placed in self.led_to(slot) for slot in slots)

    @rule(page=st.integers(0, 3), first=st.integers(0, 700), size=st.integers(1, 64))
    def invalidate(self, page: int, first: int, size: int) -> None:
        hit = {p for p in self.live if any(n == page and s < first + size and first < e for n, s, e in p.pages)}
        assert self.cache.invalidate(page, first, first + size, "test") == len(hit)
        assert {p for p in self.live if not p.live} == hit
        self.forget_the_dead()

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.live:
            self.cache.remove(data.draw(st.sampled_from(self.live)))
            self.forget_the_dead()

    @rule()
    def flush(self) -> None:
        self.cache.flush()
        self.forget_the_dead()
        assert not self.live
        assert self.cache.bytes_used == 0

    # What holds ------------------------------------------------------------------------------------------

    @invariant()
    def fragments_do_not_overlap(self) -> None:
        slots = [number * SLOTS + eip for number in range(1, TABLES) for eip in range(13)]
        stubs = {self.slots[slot] for slot in slots} - {p.address for p in self.live} - {0, MISS}
        extents = [(p.address, p.address + p.size) for p in self.live] + [(stub, stub + SIZE) for stub in stubs]
        spans = sorted((start - BASE, end - BASE) for start, end in extents)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert not spans or (spans[0][0] >= 0 and spans[-1][1] <= CAPACITY)

    @invariant()
    def addresses_lead_to_fragments(self) -> None:
        for placed in self.live:
            assert self.cache.at(placed.address) is placed
            assert self.cache.at(placed.address + placed.size - 1) is placed

    @invariant()
    def exits_lead_where_they_were_chained(self) -> None:
        for placed in self.live:
            for way in self.cache.ways(placed):
                assert self.cache.way(way.number) is way
                assert way.placed is placed
                at = placed.address - BASE
                assert (
                    int.from_bytes(self.code[at + way.exit.number : at + way.exit.number + 4], "little") == way.number
                )
                for site in way.exit.sites:
                    jump = int.from_bytes(self.code[at + site : at + site + 4], "little", signed=True)
                    target = placed.address + site + 4 + jump
                    if way in self.chained:
                        assert target == self.chained[way].entry
                    elif way in self.by_lookup:
                        assert target == placed.address + way.exit.lookup
                    else:
                        assert target == placed.address + way.exit.stub

    @invariant()
    def lookup_tables_name_live_fragments(self) -> None:
        for number in range(1, TABLES):
            for eip in range(13):
                assert all(at & 0xFFFF == eip for _, at in self.places(number * SLOTS + eip))

    @invariant()
    def pages_with_fragments_are_watched(self) -> None:
        pages = {page for p in self.live for page, _, _ in p.pages}
        assert self.watched == pages
        if hasattr(self, "cache"):
            assert set(self.cache.pages()) == pages


TestTranslationCache = CacheMachine.TestCase
TestTranslationCache.settings = BOUNDED


def test_a_fragment_larger_than_the_cache_is_refused() -> None:
    machine = CacheMachine()
    machine.start(True)
    with pytest.raises(MemoryError):
        machine.cache.insert((1, 0, 0), fragment(0, CAPACITY + 1, 0))


def test_the_least_recently_used_fragment_goes_first() -> None:
    machine = CacheMachine()
    machine.start(True)
    cache = machine.cache
    for n in range(4):
        cache.insert((1, n, n), fragment(n, CAPACITY // 4, 0))
    assert cache.lookup((1, 0, 0)) is not None
    cache.insert((1, 9, 9), fragment(9, CAPACITY // 4, 0))
    assert [cache.lookup((1, n, n)) is not None for n in (0, 1, 2, 3)] == [True, False, True, True]


def test_a_new_space_knows_what_all_spaces_share() -> None:
    machine = CacheMachine()
    machine.start(True)
    cache = machine.cache
    shared, own = (cache.insert((1, eip, eip), fragment(eip, 200, 0)) for eip in (3, 5))
    assert cache.publish(machine.table, shared, shared.linear, family=1)
    assert cache.publish(machine.table, own, own.linear)
    second, stranger = cache.tables.table(2, 1), cache.tables.table(3, 2)
    assert [machine.slots[second * SLOTS + eip] for eip in (3, 5)] == [shared.address, MISS]
    assert machine.slots[stranger * SLOTS + 3] == MISS
    cache.remove(shared)
    assert machine.slots[second * SLOTS + 3] == machine.slots[machine.table * SLOTS + 3] == MISS


def test_two_targets_of_one_slot_are_told_apart() -> None:
    machine = CacheMachine()
    machine.start(True)
    cache = machine.cache
    machine.live = [cache.insert((1, eip, 0), fragment(eip, 200, 0)) for eip in (0x1_0003, 0x2_0003, 0x3_0003)]
    first, second, third = machine.live
    slot = machine.table * SLOTS + 3
    for placed, led_to in ((first, [first]), (second, [second, first]), (third, [third, second])):
        assert cache.publish(machine.table, placed, placed.linear)
        assert machine.led_to(slot) == led_to
        assert not cache.publish(machine.table, placed, placed.linear)
    assert cache.bytes_used == 3 * 208 + 48
    cache.remove(third)
    assert machine.led_to(slot) == [second]
    assert cache.bytes_used == 2 * 208
    assert cache.publish(machine.table, first, first.linear)
    cache.tables.table(9)
    cache.tables.table(10)  # the first table becomes another's
    cache.tables.table(11)
    assert len(cache.pairs) == 0
