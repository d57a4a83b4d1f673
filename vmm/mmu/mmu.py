"""The memory management unit: fills the shadow on hidden faults, and reads and writes guest memory for the VMM.

Every page stands in the shadow as the guest's tables allow it, less what the VMM must see: a page with translated
code is not writable (a trace), a clean page is not writable until its dirty bit is set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from translator import layout
from vmm.alignment import check_alignment
from vmm.breakpoints import Breakpoints
from vmm.errors import GuestFault
from vmm.host import DATA, PAGE, PRESENT, USER, WRITABLE, Host
from vmm.mmu.seen import Seen
from vmm.mmu.shadow import REGION_SHIFT, Shadow, Space
from vmm.mmu.walk import ABOVE, CR4_PAE, LARGE, MASK, Source, Walker
from vmm.physical import DEVICE, EXACT, NOTHING, RAM, ROM, PhysicalMemory
from vmm.vcpu import CR0_PG, VCpu

MAPPED: Final = 0
TRACED: Final = 1
STEP: Final = 2
"""What ``Mmu.fill`` did: mapped the page; found a write to a page with code; found a page to be accessed stepwise."""

FRAME: Final = 0xF_FFFF_F000
"""Host-physical address in a shadow entry."""
PREFILL: Final = 32
"""Neighbours of an unpaged page that are mapped along with it."""
AROUND: Final = 16
"""Pages of a large page that are mapped at once: who wants one of them is likely to go through all."""


class Mmu:
    """Paging for one CPU; it is the ``LinearMemory`` of the VMM.

    ``is_code(page)`` says whether a guest-physical page holds translated code that a trace protects;
    ``code_moved(space, page)`` hears that a linear page of code may be mapped another way now; ``on_remap(first,
    count)`` that guest-physical pages changed what stands behind them.
    """

    def __init__(self, host: Host, physical: PhysicalMemory) -> None:
        self._host = host
        self.physical = physical
        self._ram, self._ram_size = physical.ram, physical.ram_size
        self.walker = Walker(physical)
        self.is_code: Callable[[int], bool] = lambda page: False
        self.code_moved: Callable[[Space, int], None] = lambda space, page: None
        self.on_remap: Callable[[int, int], None] = lambda first, count: None
        self.seen = Seen(host.map_area(layout.SEEN_PAGES, (MASK + 1) >> layout.SEEN_SHIFT))
        self.shadow = Shadow(host, physical, self.seen, lambda space, page: self.code_moved(space, page))
        self.shadow.switch((), 4)
        self.hidden_faults = 0
        self.breakpoints = Breakpoints()
        """Pages with a breakpoint on data are never mapped for what it waits for: ``fill`` says STEP."""
        self.hits = 0
        """Bits of DR6 for breakpoints that the VMM met when it accessed memory."""
        physical.remapped = self._remapped

    def attach(self, cpu: VCpu) -> None:
        """Follow this CPU's control registers."""
        self.walker.cpu = cpu

    @property
    def space(self) -> Space:
        """The current address space."""
        return self.shadow.current

    # The shadow -----------------------------------------------------------------------------------------------

    def fill(self, linear: int, write: bool, user: bool) -> int:
        """Answer a host page fault: map the page as far as the VMM allows.

        Returns MAPPED, TRACED or STEP.  Raises ``GuestFault`` if the fault is the guest's own (a true fault).
        """
        physical, writable, allowed, source = self.walker.translate(linear, write, user)
        number = physical >> 12
        page = self.physical.page(number)
        kind = page.kind
        if kind == EXACT or (write and kind in (ROM, NOTHING)):
            return STEP
        code = kind == RAM and self.is_code(number)
        if write and code:
            return TRACED
        watched = self.breakpoints.pages.get(linear >> 12)
        if watched is not None and (write or watched):
            return STEP
        self.hidden_faults += 1
        rights = DATA if allowed else DATA & ~USER
        own = rights
        if writable and not code and watched is None and kind in (RAM, DEVICE):
            own |= WRITABLE
        self.shadow.set(linear, page.host | own, source, number)
        if not self.walker.cpu.cr0 & CR0_PG:
            self._prefill(linear)
        elif source[0] == LARGE:
            self._spread(linear, number, rights | WRITABLE if writable else rights)
        return MAPPED

    def _spread(self, linear: int, number: int, rights: int) -> None:
        """Map RAM around a page of a large page, guest-physical *number*: there are one entry's *rights* to all."""
        own = linear >> 12
        first = own & ~(AROUND - 1)
        for page in range(first, first + AROUND):
            if not self.shadow.entry(page << 12) & PRESENT:
                beside = self.physical.page(number + page - own)
                if beside.kind == RAM and not self.is_code(number + page - own) and page not in self.breakpoints.pages:
                    self.shadow.spread(page << 12, beside.host | rights, number + page - own)

    def _prefill(self, linear: int) -> None:
        """Map RAM around an unpaged page."""
        table = self.shadow.unpaged_table(linear)
        first = linear >> 12 & ~(PREFILL - 1)
        for number in range(first, first + PREFILL):
            if not table[number & 511] & PRESENT:
                physical = number & self.walker.a20 >> 12
                page = self.physical.page(physical)
                if page.kind == RAM and not self.is_code(physical) and number not in self.breakpoints.pages:
                    table[number & 511] = page.host | DATA | WRITABLE

    def protect(self, number: int) -> None:
        """Take write rights from a guest-physical page that holds code now."""
        shadow = self.shadow
        shadow.protect(number)
        if not self.walker.cpu.cr0 & CR0_PG:
            for page in {number, number | ~self.walker.a20 >> 12 & 0xF_FFFF}:
                if (entry := shadow.entry(page << 12)) & WRITABLE:
                    shadow.unpaged_table(page << 12)[page & 511] = entry & ~WRITABLE
                    shadow.outdate(page << 12)
        shadow.flush_stale()

    def open(self, linear: int, scratch: int) -> Callable[[], None]:
        """Give full access to one page, whatever it is, until the returned function is called.

        A page that cannot be written is a copy in the frame *scratch*, which is thrown away.
        """
        physical, _, allowed, source = self.walker.translate(linear, False, False)
        page = self.physical.page(physical >> 12)
        target = page.host
        if page.kind in (ROM, NOTHING):
            self._host.frame(scratch)[:] = self.physical.read(physical & ~0xFFF, PAGE)
            target = scratch
        shadow = self.shadow
        shadow.set(linear, target | (DATA if allowed else DATA & ~USER) | WRITABLE, source, physical >> 12)
        shadow.outdate(linear)
        shadow.flush_stale()
        table, index = shadow.table(linear), linear >> 12 & 511

        def close() -> None:
            table[index] = 0
            shadow.outdate(linear)
            shadow.flush_stale()

        return close

    def switch(self) -> None:
        """CR3 was loaded: make its address space current."""
        walker = self.walker
        self.shadow.switch(walker.directories(), 8 if walker.cpu.cr4 & CR4_PAE else 4)

    def flush(self) -> None:
        """Forget all address spaces (CR0, CR4 or EFER changed, A20 switched, memory moved)."""
        self.shadow.clear()
        self.switch()

    def invalidate(self, linear: int) -> None:
        """INVLPG."""
        if self.walker.cpu.cr0 & CR0_PG:
            self.shadow.invalidate(linear)

    def set_a20(self, mask: int) -> None:
        """The A20 gate: *mask*, of 32 bits, is ANDed to physical addresses."""
        mask |= ABOVE
        if mask != self.walker.a20:
            self.walker.a20 = mask
            self.flush()

    def _remapped(self, first: int, count: int) -> None:
        if hasattr(self.walker, "cpu"):
            self.flush()
        self.on_remap(first, count)

    # Code ------------------------------------------------------------------------------------------------------

    def code_address(self, linear: int, user: bool) -> int:
        """Guest-physical address of the instruction at *linear*.  Raises ``GuestFault`` (#PF)."""
        code = self.shadow.current.code
        key = linear >> 12 << 1 | user
        page = code.get(key)
        if page is None:
            physical, _, allowed, source = self.walker.translate(linear, False, user, True)
            page = physical >> 12
            if self.walker.cpu.cr0 & CR0_PG:
                self._follow(linear, page, allowed, source)
                if self.walker.is_global:
                    self.shadow.note_global(linear >> 12)
                self.seen.add(linear >> 12)
            code[key] = page
        return page << 12 | linear & 0xFFF

    def is_global(self, page: int) -> bool:
        """Whether linear *page*, which code was fetched from, is mapped by a global entry."""
        return self.shadow.is_global(page)

    def forget_global(self, page: int) -> None:
        """Linear *page* may be mapped another way now."""
        self.shadow.forget_global(page)

    def _follow(self, linear: int, number: int, allowed: bool, source: Source) -> None:
        """Keep an entry of a page of code in the shadow, so that a change of its mapping is noticed."""
        if not self.shadow.entry(linear) & PRESENT:
            page = self.physical.page(number)
            if page.kind != EXACT:
                self.shadow.set(linear, page.host | (DATA if allowed else DATA & ~USER), source, number)

    def plain(self, linear: int, size: int, write: bool, user: bool = False) -> bool:
        """Whether a range inside one page can be copied at once: mapped, and memory or nothing behind it."""
        if linear >> 12 in self.breakpoints.pages or (user and self.walker.cpu.aligns):
            return False
        try:
            physical = self.walker.translate(linear, write, user)[0]
        except GuestFault:
            return False
        return self.physical.page(physical >> 12).kind in (RAM, ROM, NOTHING)

    # LinearMemory ------------------------------------------------------------------------------------------------

    def _mapped(self, linear: int, rights: int) -> int:
        """Where in RAM a linear address stands if the shadow grants *rights*, as a TLB would; else -1.

        Accessed and dirty bits are set, and no trace lies there: the shadow would not grant it otherwise.
        """
        mirror = self.shadow.current.links.get(linear >> REGION_SHIFT)
        if mirror is None:
            return -1
        entry = mirror.entries[linear >> 12 & 511]
        at: int = entry & FRAME
        return at | linear & 0xFFF if entry & rights == rights and at < self._ram_size else -1

    def read(self, linear: int, size: int, user: bool = False) -> bytes:
        """*size* bytes at a linear address, as the CPU would read them.  Raises ``GuestFault`` (#PF)."""
        if self.breakpoints.data:
            self.hits |= self.breakpoints.hit(linear, size, False)
        if (linear & 0xFFF) + size <= PAGE:
            at = self._mapped(linear, PRESENT | USER if user else PRESENT)
            if at >= 0:
                return bytes(self._ram[at : at + size])
            return self.physical.read(self.walker.translate(linear, False, user)[0], size)
        parts = []
        while size > 0:
            chunk = min(size, PAGE - (linear & 0xFFF))
            parts.append(self.physical.read(self.walker.translate(linear, False, user)[0], chunk))
            linear = linear + chunk & MASK
            size -= chunk
        return b"".join(parts)

    def write(self, linear: int, data: bytes, user: bool = False) -> None:
        """Write *data* at a linear address; all or nothing.  Raises ``GuestFault`` (#PF)."""
        size = len(data)
        if self.breakpoints.data:
            self.hits |= self.breakpoints.hit(linear, size, True)
        if (linear & 0xFFF) + size <= PAGE:
            at = self._mapped(linear, PRESENT | WRITABLE | USER if user else PRESENT | WRITABLE)
            if at >= 0:
                self._ram[at : at + size] = data
                return
            self.physical.write(self.walker.translate(linear, True, user)[0], data)
            return
        self.probe_write(linear, size, user)
        at = 0
        while at < size:
            chunk = min(size - at, PAGE - (linear & 0xFFF))
            self.physical.write(self.walker.translate(linear, True, user)[0], data[at : at + chunk])
            linear = linear + chunk & MASK
            at += chunk

    def read_int(self, linear: int, size: int, user: bool = False) -> int:
        """A little-endian integer of *size* bytes.  At CPL 3 it may have to be aligned (#AC)."""
        if user:
            check_alignment(self.walker.cpu, linear, size)
        return int.from_bytes(self.read(linear, size, user), "little")

    def write_int(self, linear: int, size: int, value: int, user: bool = False) -> None:
        """Store a little-endian integer of *size* bytes.  At CPL 3 it may have to be aligned (#AC)."""
        if user:
            check_alignment(self.walker.cpu, linear, size)
        self.write(linear, (value & (1 << 8 * size) - 1).to_bytes(size, "little"), user)

    def probe_write(self, linear: int, size: int, user: bool = False) -> None:
        """Raise the #PF, or #AC, that a write of *size* bytes would raise."""
        if user:
            check_alignment(self.walker.cpu, linear, size)
        end = linear + max(size, 1) - 1
        at = linear
        while True:
            self.walker.translate(at & MASK, True, user)
            at = (at | 0xFFF) + 1
            if at > end:
                return
