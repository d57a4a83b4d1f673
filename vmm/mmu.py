"""The memory management unit: guest paging, and shadow tables that make the host's tables say the same.

Shadow entries are filled on hidden faults.  Every page stands in the shadow as the guest's tables allow it, less
what the VMM must see: a page with translated code is not writable (a trace), a clean page is not writable until
its dirty bit is set.  References: SDM vol. 3, chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable

from vmm.errors import GuestFault
from vmm.host import DATA, PAGE, PRESENT, USER, WRITABLE, Host
from vmm.physical import DEVICE, EXACT, NOTHING, RAM, ROM, PhysicalMemory
from vmm.vcpu import CR0_PG, CR0_WP, VCpu

MASK = 0xFFFF_FFFF
CR4_PSE, CR4_PAE, CR4_PGE = 0x10, 0x20, 0x80
PAGING_CR4 = CR4_PSE | CR4_PAE | CR4_PGE
PTE_P, PTE_W, PTE_U, PTE_A, PTE_D, PTE_PS, PTE_G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
PTE_NX = 1 << 63
EFER = 0xC000_0080
EFER_NXE = 0x800
ERROR_P, ERROR_W, ERROR_U, ERROR_RSVD, ERROR_I = 1, 2, 4, 8, 16
PAGE_FAULT = 14

MAPPED, TRACED, STEP = range(3)
"""What ``Mmu.fill`` did: mapped the page; found a write to a page with code; found a page to be accessed stepwise."""

PREFILL = 32
"""Neighbours of an unpaged page that are mapped along with it."""


class Mmu:
    """Translates linear addresses, fills the shadow, and is the ``LinearMemory`` of the VMM."""

    def __init__(self, host: Host, physical: PhysicalMemory) -> None:
        self._host = host
        self.physical = physical
        self.cpu: VCpu
        self.a20 = MASK
        """Mask of physical addresses: bit 20 is clear while the A20 gate is shut."""
        self._pdptes = (0, 0, 0, 0)
        self._mapped: dict[int, set[int]] = {}
        """Linear pages through which each guest-physical page is writable, under paging."""
        self._codes: dict[int, int] = {}
        """Guest-physical page of each linear page that code was fetched from."""
        self.is_code: Callable[[int], bool] = lambda page: False
        """Whether a guest-physical page holds translated code that a trace protects."""
        self.hidden_faults = 0
        physical.remapped = self._remapped
        self.on_remap: Callable[[int, int], None] = lambda first, count: None

    # Guest paging --------------------------------------------------------------------------------------------

    def translate(self, linear: int, write: bool, user: bool, fetch: bool = False) -> tuple[int, bool, bool]:
        """(physical address, may be written now, user may access) of a guest linear address.

        Sets the guest's accessed and dirty bits as the access would.  Raises ``GuestFault`` (#PF).
        """
        if not self.cpu.cr0 & CR0_PG:
            return linear & self.a20, True, True
        if self.cpu.cr4 & CR4_PAE:
            return self._walk_pae(linear, write, user, fetch)
        return self._walk(linear, write, user, fetch)

    def _fault(self, linear: int, code: int, write: bool, user: bool, fetch: bool) -> GuestFault:
        code |= (ERROR_W if write else 0) | (ERROR_U if user else 0)
        if fetch and self.cpu.msr.get(EFER, 0) & EFER_NXE and self.cpu.cr4 & CR4_PAE:
            code |= ERROR_I
        return GuestFault(PAGE_FAULT, code, linear)

    def _entry(self, address: int, size: int) -> int:
        return int.from_bytes(self.physical.read(address & self.a20, size), "little")

    def _mark(self, address: int, entry: int, bits: int, size: int) -> None:
        if entry & bits != bits:
            self.physical.write(address & self.a20, (entry | bits).to_bytes(size, "little"))

    def _walk(self, linear: int, write: bool, user: bool, fetch: bool) -> tuple[int, bool, bool]:
        directory_at = (self.cpu.cr3 & 0xFFFF_F000) + (linear >> 20 & 0xFFC)
        directory = self._entry(directory_at, 4)
        if not directory & PTE_P:
            raise self._fault(linear, 0, write, user, fetch)
        if directory & PTE_PS and self.cpu.cr4 & CR4_PSE:
            if directory & 0x0020_0000:
                raise self._fault(linear, ERROR_P | ERROR_RSVD, write, user, fetch)
            writable, allowed = self._rights(linear, directory, directory, write, user, fetch)
            self._mark(directory_at, directory, PTE_A | PTE_D if write else PTE_A, 4)
            physical = directory & 0xFFC0_0000 | linear & 0x003F_FFFF
            return physical & self.a20, writable and (write or bool(directory & PTE_D)), allowed
        table_at = (directory & 0xFFFF_F000) + (linear >> 10 & 0xFFC)
        entry = self._entry(table_at, 4)
        if not entry & PTE_P:
            raise self._fault(linear, 0, write, user, fetch)
        writable, allowed = self._rights(linear, directory, entry, write, user, fetch)
        self._mark(directory_at, directory, PTE_A, 4)
        self._mark(table_at, entry, PTE_A | PTE_D if write else PTE_A, 4)
        return (entry & 0xFFFF_F000 | linear & 0xFFF) & self.a20, writable and (write or bool(entry & PTE_D)), allowed

    def _rights(self, linear: int, upper: int, lower: int, write: bool, user: bool, fetch: bool) -> tuple[bool, bool]:
        """(writable, user may access) by both levels; raises #PF if this access is not allowed."""
        both = upper & lower
        allowed, writable = bool(both & PTE_U), bool(both & PTE_W)
        if user:
            if not allowed or (write and not writable):
                raise self._fault(linear, ERROR_P, write, user, fetch)
        elif write and not writable:
            if self.cpu.cr0 & CR0_WP:
                raise self._fault(linear, ERROR_P, write, user, fetch)
            # CR0.WP is clear: the supervisor may write where the user may not; the shadow shows it to the
            # supervisor alone until the user comes.
            return True, False
        return writable, allowed

    def load_pdptes(self) -> None:
        """Load the four PDPTEs, as a move to CR3 under PAE does.  Raises #GP(0) for reserved bits."""
        base = self.cpu.cr3 & 0xFFFF_FFE0
        entries = tuple(self._entry(base + 8 * n, 8) for n in range(4))
        if any(e & PTE_P and e & 0xFFFF_FFF0_0000_01E6 for e in entries):
            raise GuestFault(13, 0)
        self._pdptes = (entries[0], entries[1], entries[2], entries[3])

    def _walk_pae(self, linear: int, write: bool, user: bool, fetch: bool) -> tuple[int, bool, bool]:
        pointer = self._pdptes[linear >> 30]
        if not pointer & PTE_P:
            raise self._fault(linear, 0, write, user, fetch)
        nxe = bool(self.cpu.msr.get(EFER, 0) & EFER_NXE)
        reserved = 0x7FFF_FFF0_0000_0000 | (0 if nxe else PTE_NX)
        directory_at = (pointer & 0xF_FFFF_F000) + (linear >> 18 & 0xFF8)
        directory = self._entry(directory_at, 8)
        if not directory & PTE_P:
            raise self._fault(linear, 0, write, user, fetch)
        large = bool(directory & PTE_PS)
        if directory & (reserved | (0x1F_E000 if large else 0)):
            raise self._fault(linear, ERROR_P | ERROR_RSVD, write, user, fetch)
        if large:
            entry_at, entry = directory_at, directory
        else:
            entry_at = (directory & 0xF_FFFF_F000) + (linear >> 9 & 0xFF8)
            entry = self._entry(entry_at, 8)
            if not entry & PTE_P:
                raise self._fault(linear, 0, write, user, fetch)
            if entry & reserved:
                raise self._fault(linear, ERROR_P | ERROR_RSVD, write, user, fetch)
        if fetch and nxe and (directory | entry) & PTE_NX:
            raise self._fault(linear, ERROR_P, write, user, fetch)
        writable, allowed = self._rights(linear, directory, entry, write, user, fetch)
        if not large:
            self._mark(directory_at, directory, PTE_A, 8)
        self._mark(entry_at, entry, PTE_A | PTE_D if write else PTE_A, 8)
        physical = entry & 0xF_FFE0_0000 | linear & 0x1F_FFFF if large else entry & 0xF_FFFF_F000 | linear & 0xFFF
        return physical & self.a20, writable and (write or bool(entry & PTE_D)), allowed

    # The shadow -----------------------------------------------------------------------------------------------

    def fill(self, linear: int, write: bool, user: bool) -> int:
        """Answer a host page fault: map the page as far as the VMM allows.

        Returns MAPPED, TRACED or STEP.  Raises ``GuestFault`` if the fault is the guest's own (a true fault).
        """
        physical, writable, allowed = self.translate(linear, write, user)
        number = physical >> 12
        page = self.physical.page(number)
        kind = page.kind
        if kind == EXACT or (write and kind in (ROM, NOTHING)):
            return STEP
        code = kind == RAM and self.is_code(number)
        if write and code:
            return TRACED
        self.hidden_faults += 1
        entry = page.host | DATA
        if not allowed:
            entry &= ~USER
        if writable and not code and kind in (RAM, DEVICE):
            entry |= WRITABLE
        linear &= 0xFFFF_F000
        self._host.space.map(linear, entry)
        if self.cpu.cr0 & CR0_PG:
            if entry & WRITABLE:
                self._mapped.setdefault(number, set()).add(linear)
        else:
            self._prefill(linear)
        return MAPPED

    def _prefill(self, linear: int) -> None:
        """Map RAM around an unpaged page."""
        table = self._host.space.table(linear)
        first = linear >> 12 & ~(PREFILL - 1)
        for number in range(first, first + PREFILL):
            if not table[number & 511] & PRESENT:
                physical = number & self.a20 >> 12
                page = self.physical.page(physical)
                if page.kind == RAM and not self.is_code(physical):
                    table[number & 511] = page.host | DATA | WRITABLE

    def protect(self, number: int) -> None:
        """Take write rights from a guest-physical page that holds code now."""
        space = self._host.space
        if self.cpu.cr0 & CR0_PG:
            pages: set[int] = self._mapped.pop(number, set())
        else:
            pages = {number << 12, number << 12 | ~self.a20 & MASK}
        for linear in pages:
            if (entry := space.entry(linear)) & WRITABLE:
                space.map(linear, entry & ~WRITABLE)
        self._host.flush_tlb()

    def open(self, linear: int, scratch: int | None = None) -> Callable[[], None]:
        """Give full access to one page, whatever it is, until the returned function is called.

        With *scratch* (a frame) the page is a copy that is thrown away: for writes that have no effect.
        """
        physical, _, allowed = self.translate(linear, False, False)
        page = self.physical.page(physical >> 12)
        target = page.host
        if page.kind in (ROM, NOTHING) and scratch is not None:
            self._host.frame(scratch)[:] = self.physical.read(physical & ~0xFFF, PAGE)
            target = scratch
        linear &= 0xFFFF_F000
        self._host.space.map(linear, target | (DATA if allowed else DATA & ~USER) | WRITABLE)
        self._host.flush_tlb()

        def close() -> None:
            self._host.space.map(linear, 0)
            self._host.flush_tlb()

        return close

    def flush(self) -> None:
        """Forget all shadow entries (CR3, CR0 or CR4 changed, A20 switched)."""
        self._host.space.clear()
        self._mapped.clear()
        self._codes.clear()
        self._host.flush_tlb()

    def invalidate(self, linear: int) -> None:
        """INVLPG."""
        self._codes.pop(linear >> 12, None)
        if self._host.space.entry(linear):
            self._host.space.map(linear & 0xFFFF_F000, 0)
            self._host.flush_tlb()

    def _remapped(self, first: int, count: int) -> None:
        if hasattr(self, "cpu"):
            self.flush()
        self.on_remap(first, count)

    # Code ------------------------------------------------------------------------------------------------------

    def code_address(self, linear: int, user: bool) -> int:
        """Guest-physical address of the instruction at *linear*.  Raises ``GuestFault`` (#PF)."""
        page = self._codes.get(linear >> 12)
        if page is None or user:
            page = self.translate(linear, False, user, True)[0] >> 12
            self._codes[linear >> 12] = page
        return page << 12 | linear & 0xFFF

    def plain(self, linear: int, size: int, write: bool, user: bool = False) -> bool:
        """Whether a range inside one page can be copied at once: mapped, and memory or nothing behind it."""
        try:
            physical = self.translate(linear, write, user)[0]
        except GuestFault:
            return False
        return self.physical.page(physical >> 12).kind in (RAM, ROM, NOTHING)

    # LinearMemory ------------------------------------------------------------------------------------------------

    def read(self, linear: int, size: int, user: bool = False) -> bytes:
        """*size* bytes at a linear address, as the CPU would read them.  Raises ``GuestFault`` (#PF)."""
        if (linear & 0xFFF) + size <= PAGE:
            return self.physical.read(self.translate(linear, False, user)[0], size)
        parts = []
        while size > 0:
            chunk = min(size, PAGE - (linear & 0xFFF))
            parts.append(self.physical.read(self.translate(linear, False, user)[0], chunk))
            linear = linear + chunk & MASK
            size -= chunk
        return b"".join(parts)

    def write(self, linear: int, data: bytes, user: bool = False) -> None:
        """Write *data* at a linear address; all or nothing.  Raises ``GuestFault`` (#PF)."""
        size = len(data)
        if (linear & 0xFFF) + size <= PAGE:
            self.physical.write(self.translate(linear, True, user)[0], data)
            return
        self.probe_write(linear, size, user)
        at = 0
        while at < size:
            chunk = min(size - at, PAGE - (linear & 0xFFF))
            self.physical.write(self.translate(linear, True, user)[0], data[at : at + chunk])
            linear = linear + chunk & MASK
            at += chunk

    def read_int(self, linear: int, size: int, user: bool = False) -> int:
        """A little-endian integer of *size* bytes."""
        return int.from_bytes(self.read(linear, size, user), "little")

    def write_int(self, linear: int, size: int, value: int, user: bool = False) -> None:
        """Store a little-endian integer of *size* bytes."""
        self.write(linear, (value & (1 << 8 * size) - 1).to_bytes(size, "little"), user)

    def probe_write(self, linear: int, size: int, user: bool = False) -> None:
        """Raise the #PF that a write of *size* bytes would raise."""
        end = linear + max(size, 1) - 1
        at = linear
        while True:
            self.translate(at & MASK, True, user)
            at = (at | 0xFFF) + 1
            if at > end:
                return
