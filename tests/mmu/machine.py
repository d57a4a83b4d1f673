"""An MMU without an engine, page tables to fill, and what the manual says of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmm.errors import GuestFault
from vmm.host import PRESENT, USER, WRITABLE, Host
from vmm.mmu import Mmu
from vmm.mmu.walk import CR4_PAE, CR4_PSE, EFER, EFER_NXE
from vmm.physical import PhysicalMemory
from vmm.vcpu import CR0_PE, CR0_PG, CR0_WP, VCpu

RAM = 4 << 20
PAGE = 0x1000
P, W, U, A, D, PS, G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
NX = 1 << 63
DIRECTORY, TABLE, FRAME = 0x10_0000, 0x11_0000, 0x20_0000
"""Guest-physical addresses: the first page directory (under PAE four, with the pointers behind), table and page."""
POINTERS = DIRECTORY + 4 * PAGE
WINDOW = 0x4000_0000
"""Linear addresses from here on are translated in the tests."""


def page_fault(fault: GuestFault) -> tuple[int, int]:
    """(error code, CR2) of a #PF."""
    return fault.error or 0, fault.cr2 or 0


@dataclass(frozen=True)
class Format:
    """How page tables look and what the processor checks."""

    pae: bool = False
    pse: bool = False
    nxe: bool = False
    wp: bool = True

    @property
    def width(self) -> int:
        """Bytes of an entry."""
        return 8 if self.pae else 4

    @property
    def large(self) -> int:
        """Bytes of a large page."""
        return 2 << 20 if self.pae else 4 << 20


@dataclass
class Paged:
    """A CPU's MMU with paging on."""

    format: Format
    ram: int = RAM
    host: Host = field(init=False)
    mmu: Mmu = field(init=False)
    cpu: VCpu = field(init=False)
    physical: PhysicalMemory = field(init=False)

    def __post_init__(self) -> None:
        self.host = Host(self.ram, 1 << 16)
        self.physical = PhysicalMemory(self.host, self.ram)
        self.mmu = Mmu(self.host, self.physical)
        self.cpu = VCpu(self.host.block, self.mmu)
        self.mmu.attach(self.cpu)
        for n in range(4):
            self.put(POINTERS + 8 * n, DIRECTORY + n * PAGE | P, 8)
        self.cpu.cr0 = CR0_PE | CR0_PG | (CR0_WP if self.format.wp else 0)
        self.cpu.cr4 = (CR4_PAE if self.format.pae else 0) | (CR4_PSE if self.format.pse else 0)
        self.cpu.msr[EFER] = EFER_NXE if self.format.nxe else 0
        self.load(POINTERS if self.format.pae else DIRECTORY)

    def load(self, cr3: int) -> None:
        """MOV CR3."""
        self.cpu.cr3 = cr3
        if self.format.pae:
            self.mmu.walker.load_pdptes()
        self.mmu.switch()

    def put(self, address: int, value: int, size: int = 0) -> None:
        """Write an entry (or *size* bytes) at a guest-physical address."""
        self.physical.write(address, value.to_bytes(size or self.format.width, "little"))

    def get(self, address: int) -> int:
        """The entry at a guest-physical address."""
        return int.from_bytes(self.physical.read(address, self.format.width), "little")

    def upper(self, linear: int) -> int:
        """Where the directory entry of *linear* stands."""
        return DIRECTORY + ((linear >> 21) * 8 if self.format.pae else (linear >> 22) * 4)

    def lower(self, linear: int, table: int = TABLE) -> int:
        """Where the entry of *linear* stands in a page table."""
        return table + ((linear >> 12 & 511) * 8 if self.format.pae else (linear >> 12 & 1023) * 4)

    def map(self, linear: int, page: int, rights: int, upper: int = P | W | U, table: int = TABLE) -> None:
        """Map one page."""
        self.put(self.upper(linear), table | upper)
        self.put(self.lower(linear, table), page | rights)

    def access(self, how: str, linear: int, user: bool) -> int | tuple[int, int]:
        """The physical address that a "read", "write" or "fetch" reaches, or (error code, CR2)."""
        try:
            return self.mmu.walker.translate(linear, how == "write", user, how == "fetch")[0]
        except GuestFault as fault:
            return page_fault(fault)

    def host_entry(self, linear: int) -> tuple[int, bool, bool] | None:
        """(host-physical page, writable, user) of the shadow's entry in the current space."""
        entry = self.mmu.shadow.entry(linear)
        if not entry & PRESENT:
            return None
        return entry & 0xF_FFFF_FFFF_F000, bool(entry & WRITABLE), bool(entry & USER)

    def allowed(self, linear: int) -> tuple[int, bool, bool] | None:
        """What the guest's tables say at most: (physical page, may be written without a fault, user), or None.

        A walk of its own, which changes nothing.  Written without a fault means: dirty already.
        """
        form = self.format
        if form.pae:
            pointer = int.from_bytes(self.physical.read(self.cpu.cr3 + (linear >> 30) * 8, 8), "little")
            if not pointer & P:
                return None
            directory = (pointer & 0xF_FFFF_F000) + (linear >> 21 & 511) * 8
        else:
            directory = self.cpu.cr3 + (linear >> 22) * 4
        rights = W | U
        entry = self.get(directory)
        for level in (2, 1):
            if not entry & P or not entry & A:
                return None
            rights &= entry
            if level == 1 or (entry & PS and (form.pae or form.pse)):
                size = PAGE if level == 1 else form.large
                page = (entry & 0xF_FFFF_F000 & -size) + (linear & (size - 1) & -PAGE)
                writable = bool(rights & W) or not form.wp
                return page, writable and bool(entry & D), bool(rights & U)
            entry = self.get(self.lower(linear, entry & 0xF_FFFF_F000))
        return None
