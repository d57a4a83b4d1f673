"""The guest's paging: from linear to physical addresses by the guest's own tables (SDM vol. 3, chapter 4)."""

from __future__ import annotations

from typing import Final

from vmm.errors import GuestFault
from vmm.physical import PhysicalMemory
from vmm.vcpu import CR0_PG, CR0_WP, VCpu

MASK: Final = 0xFFFF_FFFF
ABOVE: Final = 0xF_0000_0000
"""Physical addresses that PAE reaches beyond 4 GiB, where nothing is."""
CR4_PSE: Final = 0x10
CR4_PAE: Final = 0x20
CR4_PGE: Final = 0x80
PTE_P: Final = 1
PTE_W: Final = 2
PTE_U: Final = 4
PTE_A: Final = 0x20
PTE_D: Final = 0x40
PTE_PS: Final = 0x80
PTE_G: Final = 0x100
PTE_NX: Final = 1 << 63
EFER: Final = 0xC000_0080
EFER_NXE: Final = 0x800
ERROR_P: Final = 1
ERROR_W: Final = 2
ERROR_U: Final = 4
ERROR_RSVD: Final = 8
ERROR_I: Final = 16
PAGE_FAULT: Final = 14

Source = tuple[int, int]
"""What a 2 MiB region of linear addresses is mapped by: (physical address of the guest's table, rights in the entry
above it), or (LARGE, the directory's entry: its address, rights and dirty bit)."""
LARGE: Final = -1
UNPAGED: Final[Source] = (-2, 0)
Translation = tuple[int, bool, bool, Source]
"""(physical address, may be written now, user may access, source)."""


class Walker:
    """Translates linear addresses; ``cpu`` gives the control registers."""

    def __init__(self, physical: PhysicalMemory) -> None:
        self._physical = physical
        self.cpu: VCpu
        self.a20 = MASK | ABOVE
        """Mask of physical addresses: bit 20 is clear while the A20 gate is shut."""
        self._pdptes = (0, 0, 0, 0)
        self.is_global = False
        """The last translation was by a global entry: CR3 loads leave it in a TLB (SDM vol. 3, 4.10.2.4)."""

    def directories(self) -> tuple[int, ...]:
        """Physical addresses of the guest's page directories: one, or one a GiB under PAE (-1: not present)."""
        if not self.cpu.cr0 & CR0_PG:
            return ()
        if self.cpu.cr4 & CR4_PAE:
            return tuple(entry & 0xF_FFFF_F000 & self.a20 if entry & PTE_P else -1 for entry in self._pdptes)
        return (self.cpu.cr3 & 0xFFFF_F000 & self.a20,)

    def translate(self, linear: int, write: bool, user: bool, fetch: bool = False) -> Translation:
        """Where a guest linear address leads.

        Sets the guest's accessed and dirty bits as the access would.  Raises ``GuestFault`` (#PF).
        """
        if not self.cpu.cr0 & CR0_PG:
            return linear & self.a20, True, True, UNPAGED
        if self.cpu.cr4 & CR4_PAE:
            return self._walk_pae(linear, write, user, fetch)
        return self._walk(linear, write, user, fetch)

    def _fault(self, linear: int, code: int, write: bool, user: bool, fetch: bool) -> GuestFault:
        code |= (ERROR_W if write else 0) | (ERROR_U if user else 0)
        if fetch and self.cpu.msr.get(EFER, 0) & EFER_NXE and self.cpu.cr4 & CR4_PAE:
            code |= ERROR_I
        return GuestFault(PAGE_FAULT, code, linear)

    def _entry(self, address: int, size: int) -> int:
        return int.from_bytes(self._physical.read(address & self.a20, size), "little")

    def _mark(self, address: int, entry: int, bits: int, size: int) -> None:
        if entry & bits != bits:
            self._physical.write(address & self.a20, (entry | bits).to_bytes(size, "little"))

    def _walk(self, linear: int, write: bool, user: bool, fetch: bool) -> Translation:
        directory_at = (self.cpu.cr3 & 0xFFFF_F000) + (linear >> 20 & 0xFFC)
        directory = self._entry(directory_at, 4)
        if not directory & PTE_P:
            raise self._fault(linear, 0, write, user, fetch)
        if directory & PTE_PS and self.cpu.cr4 & CR4_PSE:
            if directory & 0x003F_E000:  # bits of a wider address, which there are not without PSE-36
                raise self._fault(linear, ERROR_P | ERROR_RSVD, write, user, fetch)
            writable, allowed = self._rights(linear, directory, directory, write, user, fetch)
            self._mark(directory_at, directory, PTE_A | PTE_D if write else PTE_A, 4)
            physical = directory & 0xFFC0_0000 | linear & 0x003F_FFFF
            dirty = write or bool(directory & PTE_D)
            source = (LARGE, directory & 0xFFC0_0007 | linear & 0x20_0000 | (PTE_D if dirty else 0))
            self.is_global = bool(directory & PTE_G and self.cpu.cr4 & CR4_PGE)
            return physical & self.a20, writable and dirty, allowed, source
        table_at = (directory & 0xFFFF_F000) + (linear >> 10 & 0xFFC)
        entry = self._entry(table_at, 4)
        if not entry & PTE_P:
            raise self._fault(linear, 0, write, user, fetch)
        writable, allowed = self._rights(linear, directory, entry, write, user, fetch)
        self._mark(directory_at, directory, PTE_A, 4)
        self._mark(table_at, entry, PTE_A | PTE_D if write else PTE_A, 4)
        physical = (entry & 0xFFFF_F000 | linear & 0xFFF) & self.a20
        table = (directory & 0xFFFF_F000 & self.a20) + (linear >> 10 & 0x800)
        source = (table, directory & (PTE_W | PTE_U))
        self.is_global = bool(entry & PTE_G and self.cpu.cr4 & CR4_PGE)
        return physical, writable and (write or bool(entry & PTE_D)), allowed, source

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

    def _walk_pae(self, linear: int, write: bool, user: bool, fetch: bool) -> Translation:
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
        self.is_global = bool(entry & PTE_G and self.cpu.cr4 & CR4_PGE)
        if large:
            physical = entry & 0xF_FFE0_0000 | linear & 0x1F_FFFF
            source = (LARGE, entry & 0xF_FFE0_0007 | (PTE_D if write else entry & PTE_D))
        else:
            physical = entry & 0xF_FFFF_F000 | linear & 0xFFF
            source = (directory & 0xF_FFFF_F000 & self.a20, directory & (PTE_W | PTE_U))
        return physical & self.a20, writable and (write or bool(entry & PTE_D)), allowed, source
