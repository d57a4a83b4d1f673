"""The shadow: what the host's tables say agrees with the guest's whenever the architecture demands it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.mmu.machine import DIRECTORY, FRAME, PAGE, PS, TABLE, WINDOW, A, D, Format, P, Paged, U, W
from vmm.errors import GuestFault
from vmm.host import PRESENT, USER, WRITABLE
from vmm.mmu import MAPPED, TRACED
from vmm.mmu.shadow import MAX_SPACES

RW = P | W | U
TWO, PSE, PAE = Format(), Format(pse=True), Format(pae=True)
OTHER = 0x30_0000
"""A second directory."""


def both_spaces(machine: Paged, upper: int) -> None:
    """The same directory entry for WINDOW in two address spaces."""
    machine.put(machine.upper(WINDOW), upper)
    machine.put(OTHER + (WINDOW >> 22) * 4, upper)


def test_a_mirror_is_shared_by_spaces_and_kept() -> None:
    machine = Paged(TWO)
    machine.put(TABLE, FRAME | RW)
    both_spaces(machine, TABLE | RW)
    machine.mmu.fill(WINDOW, True, True)
    machine.load(OTHER)
    machine.mmu.fill(WINDOW + PAGE - 1, False, True)
    assert machine.host_entry(WINDOW) == (FRAME, True, True)
    machine.load(DIRECTORY)
    assert machine.host_entry(WINDOW) == (FRAME, True, True)


@pytest.mark.parametrize("form", [PSE, PAE])
def test_each_space_has_its_own_dirty_bit_of_a_large_page(form: Format) -> None:
    machine = Paged(form)
    machine.put(machine.upper(WINDOW), PS | P | W)
    other = machine.upper(WINDOW + form.large)
    machine.put(other, PS | P | W)
    first, second = WINDOW, WINDOW + form.large
    machine.mmu.fill(first, True, False)
    machine.mmu.fill(first + PAGE, True, False)
    machine.mmu.fill(second, False, False)
    assert machine.host_entry(second) == (0, False, False)
    entry = machine.host_entry(second + PAGE)
    assert entry is None or not entry[1]  # a write to it must be seen: it sets the dirty bit
    assert machine.get(other) & (A | D) == A


def test_a_page_of_code_beside_one_of_the_same_large_page_is_not_writable() -> None:
    machine = Paged(PSE)
    machine.put(machine.upper(WINDOW), PS | P | W)
    machine.mmu.is_code = lambda page: page == 1
    machine.mmu.fill(WINDOW, True, False)
    assert machine.host_entry(WINDOW + 2 * PAGE) == (2 * PAGE, True, False)
    entry = machine.host_entry(WINDOW + PAGE)
    assert entry is None or not entry[1]


def test_a_table_that_was_rewritten_meanwhile_is_new_where_it_is_linked() -> None:
    """A process dies, its page table's frame serves another: what its old mirror said is nobody's."""
    machine = Paged(TWO)
    machine.put(TABLE, FRAME | RW)
    machine.put(TABLE + 4, FRAME + PAGE | RW)
    machine.put(machine.upper(WINDOW), TABLE | RW)
    machine.mmu.fill(WINDOW, True, True)
    machine.mmu.fill(WINDOW + PAGE, True, True)
    machine.load(OTHER)
    machine.put(TABLE, 0)
    machine.put(TABLE + 4, FRAME + 2 * PAGE | P | U)
    machine.put(OTHER + (WINDOW >> 22) * 4, TABLE | RW)
    with pytest.raises(GuestFault):
        machine.mmu.fill(WINDOW, False, True)
    machine.mmu.fill(WINDOW + PAGE, False, True)
    assert machine.host_entry(WINDOW) is None
    assert machine.host_entry(WINDOW + PAGE) == (FRAME + 2 * PAGE, False, True)


def test_the_other_half_of_a_changed_directory_entry_goes_too() -> None:
    machine = Paged(TWO)
    low, high = WINDOW, WINDOW + (2 << 20)
    machine.put(machine.lower(high), FRAME | RW)
    machine.put(machine.upper(WINDOW), TABLE | RW)
    machine.mmu.fill(high, True, True)
    machine.put(machine.upper(WINDOW), TABLE + PAGE | RW)
    machine.put(machine.lower(low, TABLE + PAGE), FRAME + PAGE | RW)
    machine.mmu.fill(low, True, True)
    machine.load(DIRECTORY)
    assert machine.host_entry(high) is None


def test_code_is_looked_for_again_after_its_page_was_stepped_over() -> None:
    machine = Paged(TWO)
    moved: list[int] = []

    def on_moved(space: object, page: int) -> None:
        moved.append(page)
        machine.mmu.space.code.clear()

    machine.mmu.code_moved = on_moved
    machine.map(WINDOW, FRAME, RW)
    assert machine.mmu.code_address(WINDOW, False) == FRAME
    machine.mmu.open(WINDOW, machine.host.new_frames(PAGE))()
    assert machine.host_entry(WINDOW) is None
    machine.put(machine.lower(WINDOW), FRAME + PAGE | RW)
    machine.mmu.invalidate(WINDOW)
    assert moved == [WINDOW >> 12]
    assert machine.mmu.code_address(WINDOW, False) == FRAME + PAGE


def test_a_page_with_code_is_not_writable_through_any_alias() -> None:
    machine = Paged(TWO)
    for n in range(3):
        machine.map(WINDOW + n * PAGE, FRAME, RW)
        assert machine.mmu.fill(WINDOW + n * PAGE, True, True) == MAPPED
    machine.mmu.is_code = lambda page: page == FRAME >> 12
    machine.mmu.protect(FRAME >> 12)
    for n in range(3):
        assert machine.host_entry(WINDOW + n * PAGE) == (FRAME, False, True)
        assert machine.mmu.fill(WINDOW + n * PAGE, True, True) == TRACED


def test_spaces_without_end() -> None:
    machine = Paged(TWO)
    machine.put(TABLE, FRAME | RW)
    for n in range(3 * MAX_SPACES):
        directory = 0x18_0000 + n * PAGE if n < 0x60 else 0x30_0000 + n * PAGE
        machine.put(directory + (WINDOW >> 22) * 4, TABLE | RW)
        machine.load(directory)
        machine.mmu.fill(WINDOW, True, True)
        assert machine.host_entry(WINDOW) == (FRAME, True, True)


def test_tables_without_end() -> None:
    """Spaces that use all of their 4 GiB ask for more host tables than there are: others are dropped."""
    machine = Paged(TWO)
    for n in range(12):
        directory = 0x30_0000 + n * PAGE
        for at in range(1024):  # tables where nothing is: all ones
            machine.put(directory + 4 * at, 0x8000_0000 + (n << 22) + (at << 12) | P | W)
        machine.load(directory)
        for region in range(2048):
            machine.mmu.fill(region << 21, False, False)
        assert machine.host_entry(5 << 22) is not None
    assert machine.host.tables_left >= 0


def test_invlpg_has_something_to_do_only_where_a_space_has_the_page() -> None:
    machine = Paged(TWO)
    machine.put(TABLE, FRAME | RW)
    machine.put(TABLE + 4, FRAME | RW)
    both_spaces(machine, TABLE | RW)
    page = WINDOW >> 12
    assert page not in machine.mmu.seen
    machine.mmu.fill(WINDOW, True, True)
    assert page in machine.mmu.seen
    assert page + 1 not in machine.mmu.seen
    machine.mmu.invalidate(WINDOW)
    assert page not in machine.mmu.seen
    machine.mmu.fill(WINDOW, True, True)
    machine.load(OTHER)
    machine.mmu.fill(WINDOW + PAGE, False, True)
    machine.mmu.invalidate(WINDOW + PAGE)  # of its neighbour: the first space still has WINDOW
    assert page in machine.mmu.seen
    assert page + 1 not in machine.mmu.seen
    machine.mmu.flush()
    assert page not in machine.mmu.seen


def test_invlpg_of_code_that_was_only_fetched_is_the_vmms() -> None:
    machine = Paged(TWO)
    machine.put(TABLE, FRAME | RW)
    machine.put(machine.upper(WINDOW), TABLE | RW)
    machine.mmu.code_address(WINDOW, True)
    assert WINDOW >> 12 in machine.mmu.seen
    machine.mmu.shadow.table(WINDOW)[WINDOW >> 12 & 511] = 0  # the entry has gone another way
    machine.mmu.invalidate(WINDOW + PAGE)
    assert WINDOW >> 12 in machine.mmu.seen


def test_invlpg_concerns_a_table_wherever_it_stands() -> None:
    machine = Paged(TWO)
    machine.put(TABLE, FRAME | RW)
    second = WINDOW + (4 << 20)
    for linear in (WINDOW, second):
        machine.put(machine.upper(linear), TABLE | RW)
    machine.mmu.fill(WINDOW, True, True)
    machine.mmu.fill(second + PAGE - 1, False, True)  # the same page, and now both places hold it
    machine.mmu.invalidate(second + PAGE)
    assert WINDOW >> 12 in machine.mmu.seen
    assert second >> 12 in machine.mmu.seen


def test_invlpg_in_one_half_of_a_large_page_concerns_the_other() -> None:
    machine = Paged(PSE)
    machine.put(machine.upper(WINDOW), PS | P | W)
    machine.mmu.fill(WINDOW, False, False)
    half = WINDOW + (2 << 20)
    assert half >> 12 in machine.mmu.seen
    machine.put(machine.upper(WINDOW), 0)
    machine.mmu.invalidate(half)
    assert machine.host_entry(WINDOW) is None


# Random guests ------------------------------------------------------------------------------------------------

PAGES = [WINDOW + n * PAGE for n in (0, 1, 2, 511, 512, 513, 1023, 1024, 1025, 1535, 1536, 2048)]
"""Pages in all halves of a few tables."""
TABLES = [TABLE, TABLE + PAGE, TABLE + 2 * PAGE]
FRAMES = [FRAME + n * PAGE for n in range(3)]
RIGHTS = st.sampled_from([0, P, P | W, P | U, RW, RW | A, RW | A | D, P | U | A])
pages, tables = st.sampled_from(PAGES), st.sampled_from(TABLES)


class Guests(RuleBasedStateMachine):
    """A guest that changes its tables as it likes, with and without telling the processor.

    Right after CR3 was loaded nothing in the shadow may say more than the guest's tables do; an address for which
    INVLPG was executed may not either.
    """

    form = TWO

    @initialize()
    def start(self) -> None:
        self.machine = Paged(self.form)
        self.root = self.machine.cpu.cr3
        self.fresh: set[int] = set()
        """Pages that may not be stale."""
        self.tlb: dict[int, int] = {}
        """Entries that the host's TLB may hold, by address: all that ever were the host's, less what it was told."""
        self.flushes = self.machine.host.flushes
        self.machine.host.page_flush = lambda linear: self.tlb.pop(linear, None)
        self.loaded()

    def loaded(self) -> None:
        """Nothing is stale."""
        self.fresh = set(PAGES)

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.machine.host.close()

    def directories(self) -> list[int]:
        return [DIRECTORY, OTHER] if not self.form.pae else [DIRECTORY]

    @rule(linear=pages, frame=st.sampled_from(FRAMES), rights=RIGHTS, table=tables)
    def change_page(self, linear: int, frame: int, rights: int, table: int) -> None:
        at = self.machine.lower(linear, table)
        self.machine.put(at, frame | rights)
        self.fresh -= {page for page in PAGES if page >> 12 & 511 == linear >> 12 & 511}

    @rule(linear=pages, table=tables, rights=RIGHTS, which=st.integers(0, 1), large=st.booleans())
    def change_table(self, linear: int, table: int, rights: int, which: int, large: bool) -> None:
        directories = self.directories()
        base = directories[which % len(directories)]
        at = self.machine.upper(linear) - DIRECTORY + base
        self.machine.put(at, PS | rights if large and (self.form.pse or self.form.pae) else table | rights)
        self.fresh -= {page for page in PAGES if page >> 22 == linear >> 22}

    @rule(linear=pages, write=st.booleans(), user=st.booleans())
    def touch(self, linear: int, write: bool, user: bool) -> None:
        before = self.machine.host_entry(linear)
        if before is not None and (before[1] or not write) and (before[2] or not user):
            return  # the host would not fault
        try:
            self.machine.mmu.fill(linear, write, user)
        except GuestFault:
            assert self.walk(linear, write, user) is None
            return
        self.fresh.add(linear)
        entry = self.machine.host_entry(linear)
        assert entry is not None
        assert entry[1] or not write
        assert entry[2] or not user

    def walk(self, linear: int, write: bool, user: bool) -> int | None:
        try:
            return self.machine.mmu.walker.translate(linear, write, user)[0]
        except GuestFault:
            return None

    @rule(linear=pages)
    def invlpg(self, linear: int) -> None:
        if linear >> 12 in self.machine.mmu.seen:  # as emitted code does
            self.machine.mmu.invalidate(linear)
        self.fresh.add(linear)

    @rule()
    def load_cr3(self) -> None:
        self.machine.load(self.machine.cpu.cr3)
        self.loaded()

    @precondition(lambda self: not self.form.pae)
    @rule()
    def other_space(self) -> None:
        self.machine.load(OTHER if self.machine.cpu.cr3 == DIRECTORY else DIRECTORY)
        self.loaded()

    @invariant()
    def nothing_is_stale_that_may_not_be(self) -> None:
        if not hasattr(self, "machine"):
            return
        for linear in self.fresh:
            entry = self.machine.host_entry(linear)
            if entry is None:
                continue
            allowed = self.machine.allowed(linear)
            assert allowed is not None, hex(linear)
            page, writable, user = allowed
            assert entry[0] == page, hex(linear)
            assert writable or not entry[1], hex(linear)
            assert user or not entry[2], hex(linear)

    @invariant()
    def the_tlb_holds_nothing_but_what_the_tables_say(self) -> None:
        if not hasattr(self, "machine"):
            return
        if self.machine.host.flushes != self.flushes:
            self.flushes = self.machine.host.flushes
            self.tlb.clear()
        for linear, held in self.tlb.items():
            entry = self.machine.mmu.shadow.entry(linear & 0xFFFF_FFFF)
            assert not (entry ^ held) & ~WRITABLE & ~USER, hex(linear)
            assert not held & ~entry, hex(linear)
        for linear in PAGES:
            if (entry := self.machine.mmu.shadow.entry(linear)) & PRESENT:
                self.tlb[linear] = self.tlb[linear + (1 << 32)] = entry


class LargeGuests(Guests):
    """With 4 MiB pages."""

    form = PSE


class WideGuests(Guests):
    """With 64-bit entries."""

    form = PAE


class CarelessGuests(Guests):
    """Without CR0.WP: what the supervisor may write is not for ring 3."""

    form = Format(pse=True, wp=False)


_SETTINGS = settings(
    max_examples=40, stateful_step_count=30, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
TestGuests = Guests.TestCase
TestLargeGuests = LargeGuests.TestCase
TestWideGuests = WideGuests.TestCase
TestCarelessGuests = CarelessGuests.TestCase
for case in (TestGuests, TestLargeGuests, TestWideGuests, TestCarelessGuests):
    case.settings = _SETTINGS
