"""Which fragment runs next: by mode, address space and EIP; translated if need be, linked, dropped when stale."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from cache.cache import ANYWHERE, CROWD, Key, Placed, TranslationCache, Way
from translator import layout
from translator.blocks import MAX_INSNS
from translator.decode import MAX_LENGTH, TooLong, Truncated, boundaries
from translator.fragment import Fragment, floats
from translator.layout import CS
from translator.mode import Mode
from translator.recording import Sites
from translator.unit import Translator
from vmm.contexts import Contexts
from vmm.errors import GuestFault
from vmm.host import PAGE, Host
from vmm.memo import Memo
from vmm.mmu import Mmu, Space
from vmm.physical import PhysicalMemory
from vmm.translations import Translations
from vmm.vcpu import VCpu

EXACT: Final = 1 << 24
STEP: Final = 1 << 25
"""Variants of a context: fragments that check the budget at each instruction, for an exact deadline; and of one
instruction, to run alone."""
_CONTEXT: Final = EXACT - 1
_HIGHEST: Final = 0xFFFF_FFFF
MAX_AHEAD: Final = 64
"""Fragments that are made at once because the guest is going to come to them from one that it needs."""
AHEAD_ROOM: Final = 4 << 20
"""Bytes of a translation cache that holds so many without evicting one of them."""
GENERAL_PROTECTION: Final = 13
_EIP: Final = layout.EIP // 8
_DELTA: Final = layout.DELTA // 8


class Fragments:
    """The fragments of one CPU in the translation cache."""

    def __init__(
        self,
        host: Host,
        cpu: VCpu,
        mmu: Mmu,
        physical: PhysicalMemory,
        cache: TranslationCache,
        quads: memoryview,
        store: Translations | None = None,
    ) -> None:
        self._cpu = cpu
        self._mmu = mmu
        self._physical = physical
        self.cache = cache
        self._stopwatch = host.watch
        self._quads = quads
        self._translator = Translator()
        self.contexts = Contexts(host, cpu, mmu, cache.tables, quads)
        self.verified: set[int] = set()
        """Guest-physical pages whose fragments check their source when entered, and that are not traced."""
        self._memo = Memo(store)
        self.recalled = 0
        """Units that needed no translation because their bytes were known, in this run or by the store."""
        self._everywhere: dict[int, dict[Placed, None]] = {}
        """Fragments of global linear pages that other pages lead to, by links or the lookup tables of all spaces."""
        self._moves = 0
        """How often a page of code was mapped another way."""
        self._wanted: deque[tuple[Placed, int, Key, int, bool]] = deque()
        """What fresh fragments lead to and is not in the cache, see ``_want``."""
        cache.watch, cache.unwatch = self._watch, self._unwatch
        mmu.is_code = self.is_traced
        mmu.on_remap = self._on_remap
        mmu.code_moved = self._on_code_moved
        physical.written = self._on_written

    # Pages of code --------------------------------------------------------------------------------------------

    def verify_page(self, page: int) -> None:
        """From now on fragments of this page check their source when entered, and stores go unseen."""
        self.cache.invalidate(page, 0, PAGE, "verify")
        self.verified.add(page)

    def trace_page(self, page: int) -> None:
        """From now on stores to this page are seen again while there are fragments of it."""
        self.cache.invalidate(page, 0, PAGE, "traced")
        self.verified.discard(page)

    def is_traced(self, page: int) -> bool:
        """Whether stores to a guest-physical page must be seen."""
        return page in self._physical.watched and page not in self.verified

    def _watch(self, page: int) -> None:
        self._physical.watched.add(page)
        if page not in self.verified:
            self._mmu.protect(page)

    def _unwatch(self, page: int) -> None:
        self._physical.watched.discard(page)

    def _on_written(self, page: int, first: int, last: int) -> None:
        if page not in self.verified:
            self.cache.invalidate(page, first, last, "written")

    def _on_remap(self, first: int, count: int) -> None:
        for page in (
            range(first, first + count)
            if count < 1024
            else [p for p in self.cache.pages() if first <= p < first + count]
        ):
            self.cache.invalidate(page, 0, PAGE, "remapped")

    def on_breakpoints(self) -> None:
        """Drop the fragments that run over a breakpoint: from now on each begins one, and nothing leads to it."""
        stops = self._mmu.breakpoints.code
        for page in list(self.cache.pages()) if stops else ():
            for placed in list(self.cache.on_page(page)):
                if placed.anywhere or any(placed.linear <= stop < placed.linear + placed.length for stop in stops):
                    self.cache.remove(placed, "breakpoint")

    def record(self, sites: Sites | None) -> None:
        """From now on let fragments record each instruction, with *sites* to number them; None: no longer."""
        self._translator.sites = sites
        self.contexts.recording = sites is not None
        self._cpu.mode_changed = True

    # Finding ----------------------------------------------------------------------------------------------------

    def _on_code_moved(self, space: Space, page: int) -> None:
        """A linear page of code may be mapped another way: nothing may lead to its fragments unchecked."""
        self._moves += 1
        space.code.pop(2 * page, None)
        space.code.pop(2 * page + 1, None)
        self._mmu.forget_global(page)
        tables = self.contexts.unstock(space, page)
        for placed in (*space.fragments.pop(page, ()), *self._everywhere.pop(page, ())):
            if placed.following >= 0:
                self.cache.remove(placed, "moved")
                continue
            self.cache.withdraw_at(placed, page << 12 | placed.linear & PAGE - 1, tables)
            for way in (placed.incoming or ()) if not placed.anywhere else ():
                if way.target is placed and way.placed.linear >> 12 != page:
                    self.cache.unchain(way)

    def _locate(self, variant: int) -> Key:
        """The key of the fragment at EIP.  Raises ``GuestFault``."""
        contexts = self.contexts
        if self._cpu.mode_changed:
            if contexts.full:
                self.cache.flush()
                self._memo.forget()
                contexts.forget()
            contexts.update()
        eip = self._quads[_EIP]
        if eip > contexts.cs_limit:
            raise GuestFault(GENERAL_PROTECTION, 0)
        linear = contexts.cs_base + eip & 0xFFFF_FFFF
        return contexts.number | variant, eip, self._mmu.code_address(linear, contexts.mode.user)

    def find(self) -> Placed:
        """The fragment at EIP, translated if need be, and published to indirect branches."""
        key = self._locate(0)
        step = self.contexts.mode.step
        known = self._cached(key)
        placed = known or self._translate(key, 1 if step else MAX_INSNS, step)
        linear = self.contexts.cs_base + key[1] & 0xFFFF_FFFF
        if not step and linear not in self._mmu.breakpoints.code:
            self._publish(placed, linear)
            if self._wanted:
                self._go_ahead()
        return placed

    def _go_ahead(self) -> None:
        """Make what fresh fragments lead to, and so on, without the VMM being asked each time."""
        wanted, cs_limit = self._wanted, self.contexts.cs_limit
        for _ in range(MAX_AHEAD):
            if not wanted:
                break
            source, index, key, linear, sure = wanted.popleft()
            if linear & PAGE - 1 > PAGE - MAX_LENGTH or key[1] > cs_limit:
                continue
            try:
                placed = self._cached(key) or self._insert(key, MAX_INSNS, False, not sure)
            except GuestFault:
                continue  # the guest's, if it comes there
            if placed is None:
                continue
            if index >= 0 and placed.following < 0 and placed.anywhere is source.anywhere:
                self._link(source, index, placed, linear >> 12)
            else:
                self._publish(placed, linear)
        wanted.clear()

    def entry(self, placed: Placed) -> int:
        """The host address at which the guest goes on at EIP, in *placed*; emitted code hears where that stands."""
        self._quads[_DELTA] = self._quads[_EIP] - placed.eip & 0xFFFF_FFFF
        return placed.entry

    def _publish(self, placed: Placed, linear: int) -> None:
        """Let branches to *linear* find *placed*, and with the first of its page in a space what stands beside it."""
        contexts, page = self.contexts, linear >> 12
        everywhere = contexts.paging and placed.following < 0 and self._mmu.is_global(page) and not placed.anywhere
        family = contexts.number if everywhere else 0
        if not self.cache.publish(contexts.table, placed, linear, family) or not contexts.paging:
            return
        fragments = self._mmu.space.fragments
        if everywhere:
            self._note_everywhere(page, placed)
        else:
            _note(fragments, page, placed)
        if placed.following >= 0:
            _note(fragments, page + 1 & 0xF_FFFF, placed)
        elif not everywhere and not self._mmu.breakpoints.code:
            stocked = contexts.stocked.setdefault(contexts.table, set())
            if page not in stocked:
                stocked.add(page)
                fragments[page] += self.cache.publish_beside(contexts.table, placed, linear)

    def _cached(self, key: Key) -> Placed | None:
        """The fragment of *key*, if it is in the cache and what it runs on into is where it was.

        Raises ``GuestFault``: what runs on into another page is one instruction.
        """
        placed = self.cache.lookup((key[0], ANYWHERE, key[2])) if self._floats(key) else None
        placed = placed or self.cache.lookup(key)
        if placed is None or placed.following < 0:
            return placed
        beyond = (placed.linear | PAGE - 1) + 1 & 0xFFFF_FFFF
        if self._mmu.code_address(beyond, self.contexts.mode.user) >> 12 == placed.following:
            return placed
        self.cache.remove(placed, "moved")
        return None

    def _floats(self, key: Key) -> bool:
        """Whether the fragment of *key* may stand anywhere."""
        contexts = self.contexts
        return key[0] <= _CONTEXT and not self._mmu.breakpoints.code and floats(contexts.mode, contexts.cs_base)

    def remember(self, way: Way, placed: Placed) -> None:
        """The guest went on at *placed* after the callout *way*."""
        if placed.key[0] <= _CONTEXT:
            way.after = placed, self._quads[_EIP], self.contexts.where, self._moves

    def after(self, way: Way) -> Placed | None:
        """Where the guest goes on after the callout *way*, if it is where it did before and nothing has changed."""
        if way.after is None:
            return None
        placed, eip, where, moves = way.after
        same = where == self.contexts.where and moves == self._moves and placed.live and eip == self._quads[_EIP]
        return placed if same and not self._cpu.mode_changed and not self._mmu.breakpoints.code else None

    def find_step(self) -> Placed:
        """A fragment of the one instruction at EIP, which leaves for the VMM after it."""
        key = self._locate(STEP)
        return self._cached(key) or self._translate(key, max_insns=1, single_block=True)

    def find_exact(self) -> Placed:
        """A fragment at EIP that stops where the budget ends."""
        key = self._locate(EXACT)
        step = self.contexts.mode.step
        return self._cached(key) or self._translate(key, 1 if step else MAX_INSNS, step)

    def _translate(self, key: Key, max_insns: int = MAX_INSNS, single_block: bool = False) -> Placed:
        placed = self._insert(key, max_insns, single_block, False)
        assert placed is not None
        return placed

    def _insert(self, key: Key, max_insns: int, single_block: bool, known: bool) -> Placed | None:
        """Translate; only *known*: None if it takes more than to remember.  Raises ``GuestFault``."""
        watch = self._stopwatch
        before = watch.enter(watch.translate)
        try:
            return self._place(key, max_insns, single_block, known)
        finally:
            watch.enter(before)

    def _place(self, key: Key, max_insns: int, single_block: bool, known: bool) -> Placed | None:
        _, eip, physical = key
        cpu, mode, mmu = self._cpu, self.contexts.mode, self._mmu
        if key[0] & STEP:
            mode = mode._replace(bulk=False)
        segment = cpu.segments[CS]
        linear = segment.base + eip & 0xFFFF_FFFF
        room = min(PAGE - (linear & 0xFFF), segment.limit + 1 - eip)
        code = self._physical.read(physical, room)
        page = physical >> 12
        beyond = segment.limit + 1 - eip - room
        following: list[int] = []
        keep_known = True

        def more() -> bytes:
            """What follows the page's end: at most one more instruction."""
            if beyond <= 0:
                raise GuestFault(GENERAL_PROTECTION, 0)
            address = mmu.code_address(linear + room & 0xFFFF_FFFF, mode.user)
            following.append(address >> 12)
            return self._physical.read(address, min(MAX_LENGTH, beyond))

        for stop in mmu.breakpoints.code:
            if linear < stop < linear + room:
                max_insns = min(max_insns, _count_to(code, stop - linear, mode.code32))
                keep_known = False
        verify = page in self.verified
        exact = bool(key[0] & EXACT)
        anywhere = self._floats(key) and not verify and physical <= _HIGHEST
        keep_known &= not verify
        stored = key[0] <= _CONTEXT and not (mode.step or mode.record)
        recalled = None
        if keep_known:
            recalled = self._memo.find(key[0], physical, mode, segment.base, code, anywhere, stored)
        if recalled is not None:
            fragment = recalled.moved(physical if anywhere else eip)
            self.recalled += 1
        elif known:
            return None
        else:
            if anywhere:
                fragment = self._make(code, more, physical, mode, max_insns, single_block, verify, exact, True)
                anywhere = fragment.movable and not following
            if not anywhere:
                following.clear()
                fragment = self._make(code, more, eip, mode, max_insns, single_block, verify, exact)
            if following and following[0] in self.verified and not verify:
                fragment = self._make(code, more, eip, mode, max_insns, single_block, True, exact)
            if keep_known and fragment.movable and not following:
                self._memo.keep(key[0], physical, code, fragment, stored)
        if anywhere:
            key = key[0], ANYWHERE, physical
        straddles = following and (physical & 0xFFF) + fragment.length > PAGE
        placed = self.cache.insert(key, fragment, following[0] if straddles else -1)
        if not key[0] >> 24 and not mode.step and not mmu.breakpoints.code:
            self._chain_ahead(placed, fragment, eip, linear)
        return placed

    def _make(
        self,
        code: bytes,
        more: Callable[[], bytes],
        eip: int,
        mode: Mode,
        max_insns: int,
        single_block: bool,
        verify: bool,
        exact: bool,
        anywhere: bool = False,
    ) -> Fragment:
        base = self._cpu.segments[CS].base
        try:
            return self._translator.translate(
                code, more, eip, mode, base, max_insns, single_block, verify, exact, anywhere
            )
        except (Truncated, TooLong):
            raise GuestFault(GENERAL_PROTECTION, 0) from None

    def _chain_ahead(self, placed: Placed, fragment: Fragment, eip: int, linear: int) -> None:
        """Chain exits of a fresh fragment, which stands at *eip*, to what is in the cache already; want what is not.

        Inside a page a link holds as long as both fragments do.  A user's exits to other pages go by the lookup table.
        """
        context, where, physical = placed.key
        cs_base, paging, user = self.contexts.cs_base, self.contexts.paging, self.contexts.mode.user
        page, code = linear >> 12, self._mmu.space.code
        sure = fragment.leads_on
        if fragment.returns and (linear & PAGE - 1) + fragment.length < PAGE:
            key = context, eip + fragment.length & _HIGHEST, physical + fragment.length
            self._want(placed, -1, key, linear + fragment.length, sure)
        for index, offset, unconditional in fragment.direct:
            target = eip + offset & _HIGHEST
            to = cs_base + target & _HIGHEST
            number = physical >> 12 if to >> 12 == page else code.get(to >> 12 << 1 | user, -1)
            key = context, target, number << 12 | to & PAGE - 1
            if to >> 12 != page and paging and user:
                self.cache.chain_by_lookup(placed, index, fresh=True)
                index = -1
            elif to >> 12 != page and paging and not self._mmu.is_global(to >> 12):
                continue
            elif number >= 0:
                there = self.cache.lookup((context, ANYWHERE, key[2]) if where == ANYWHERE else key)
                if there is not None:
                    if there.following < 0:
                        self._link(placed, index, there, to >> 12)
                    continue
            if number >= 0:
                self._want(placed, index, key, to, unconditional and sure)

    def _link(self, source: Placed, index: int, target: Placed, page: int) -> None:
        """Chain an exit of a fragment that has not run yet to one that stands in linear *page*."""
        self.cache.chain(self.cache.way_of(source, index), target, fresh=True)
        if self.contexts.paging and source.linear >> 12 != target.linear >> 12:
            self._note_everywhere(page, target)

    def _note_everywhere(self, page: int, placed: Placed) -> None:
        """Links or tables lead from elsewhere to *placed* in a global page; now and then the dead among such go."""
        known = self._everywhere.setdefault(page, {})
        if placed not in known and len(known) >= CROWD and not len(known) % CROWD:
            self._everywhere[page] = known = {each: None for each in known if each.live}
        known[placed] = None

    def _want(self, source: Placed, index: int, key: Key, linear: int, sure: bool) -> None:
        """*source* leads to *linear* by exit number *index*, or by the lookup table (-1): *sure*, or only perhaps.

        Code that changes itself would have changed until it is come to.
        """
        some = sure or self._memo.store is not None
        if some and self.cache.capacity >= AHEAD_ROOM and key[2] >> 12 not in self.verified:
            self._wanted.append((source, index, key, linear, sure))

    def chain(self, way: Way, placed: Placed) -> None:
        """Chain a direct exit, if the link holds as long as both fragments do."""
        variant, other = way.placed.key[0] & ~_CONTEXT, placed.key[0] & ~_CONTEXT
        if variant not in (0, EXACT) or variant != other or self.contexts.mode.step:
            return
        if self.contexts.cs_base + self._quads[_EIP] & 0xFFFF_FFFF in self._mmu.breakpoints.code:
            return
        here, there = way.placed.linear >> 12, placed.linear >> 12
        if variant == EXACT and here != there:
            return
        if placed.anywhere or way.placed.anywhere:
            holds = placed.anywhere and way.placed.anywhere and here == there and way.eip == placed.eip
        else:
            holds = not self.contexts.paging or (placed.following < 0 and (here == there or self._mmu.is_global(there)))
        if holds:
            self.cache.chain(way, placed)
        else:
            self.cache.chain_by_lookup(way.placed, way.index)


def _note(registry: dict[int, list[Placed]], page: int, placed: Placed) -> None:
    """Add *placed* to those of *page*; now and then the dead among them go."""
    known = registry.setdefault(page, [])
    if len(known) >= CROWD and not len(known) % CROWD:
        known[:] = [each for each in known if each.live]
    known.append(placed)


def _count_to(code: bytes, offset: int, code32: bool) -> int:
    """How many instructions begin before *offset*."""
    at = count = 0
    for length in boundaries(code, 0, code32):
        if at >= offset:
            break
        at += length
        count += 1
    return max(count, 1)
