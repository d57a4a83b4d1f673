"""Segment registers and descriptors: fetch, checks, loads (SDM vol. 3, chapters 3 and 5).

A descriptor is one 64-bit integer as it stands in the table.  Its *access byte* (bits 40..47) is tested
with the ``ATTR_*`` constants of ``vmm.vcpu``.  Error codes are selectors without RPL, with EXT in bit 0.
"""

from __future__ import annotations

from typing import Final

from translator.layout import CS, DS, ES, FS, GS, LDTR, SS, TR
from vmm.errors import GuestFault
from vmm.vcpu import ATTR_ACCESSED, ATTR_CODE, ATTR_EXPAND_DOWN, ATTR_PRESENT, ATTR_S, ATTR_WRITABLE, CR0_PE, VCpu

VECTOR_DB: Final = 1
VECTOR_UD: Final = 6
VECTOR_DF: Final = 8
VECTOR_TS: Final = 10
VECTOR_NP: Final = 11
VECTOR_SS: Final = 12
VECTOR_GP: Final = 13
VECTOR_PF: Final = 14

CONFORMING: Final = ATTR_CODE | ATTR_EXPAND_DOWN
"""Both set in an access byte: conforming code."""
_V86_ATTR: Final = 0xF3
"""Data, writable, accessed, DPL 3, present: all segments in virtual-8086 mode (SDM vol. 3, 20.2.2)."""
_REAL_ATTR: Final = 0x93
"""Data, writable, accessed, DPL 0, present: what a load in real-address mode makes of a segment."""

# System descriptor types, S included (SDM vol. 3, table 3-2)
TYPE_MASK: Final = 0x1F
TSS16: Final = 1
LDT: Final = 2
TSS16_BUSY: Final = 3
CALL_GATE16: Final = 4
TASK_GATE: Final = 5
INTERRUPT_GATE16: Final = 6
TRAP_GATE16: Final = 7
TSS32: Final = 9
TSS32_BUSY: Final = 11
CALL_GATE32: Final = 12
INTERRUPT_GATE32: Final = 14
TRAP_GATE32: Final = 15
AVAILABLE_TSS: Final = frozenset((TSS16, TSS32))
BUSY_TSS: Final = frozenset((TSS16_BUSY, TSS32_BUSY))
TSS_BUSY: Final = 0x02
"""The bit of the access byte that makes a TSS busy."""
_LSL_TYPES: Final = frozenset((TSS16, LDT, TSS16_BUSY, TSS32, TSS32_BUSY))
_LAR_TYPES: Final = _LSL_TYPES | {CALL_GATE16, TASK_GATE, CALL_GATE32}

_ALL_ONES: Final = 0xFFFF_FFFF


# Descriptors ---------------------------------------------------------------------------------------
def unpack(descriptor: int) -> tuple[int, int, int]:
    """Base, limit in bytes and ``ATTR_*`` of a segment descriptor (SDM vol. 3, 3.4.5)."""
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF_0000
    if descriptor >> 55 & 1:
        limit = limit << 12 | 0xFFF
    return descriptor >> 16 & 0xFF_FFFF | descriptor >> 32 & 0xFF00_0000, limit, descriptor >> 40 & 0xF0FF


def descriptor_address(cpu: VCpu, selector: int) -> int | None:
    """Linear address of the descriptor, or None outside its table (an LDTR of null has limit 0)."""
    index = selector & 0xFFF8
    if selector & 4:
        ldtr = cpu.segments[LDTR]
        return ldtr.base + index & _ALL_ONES if index + 7 <= ldtr.limit else None
    base, limit = cpu.gdtr
    return base + index & _ALL_ONES if index + 7 <= limit else None


def fetch(cpu: VCpu, selector: int, vector: int = VECTOR_GP, ext: int = 0) -> int:
    """The descriptor that *selector* names in the GDT or LDT.

    Outside the table's limit: ``GuestFault(vector, selector | ext)``.  Entry 0 of the GDT is not special
    here; whoever forbids null selectors does so before.
    """
    address = descriptor_address(cpu, selector)
    if address is None:
        raise GuestFault(vector, selector & 0xFFFC | ext)
    return cpu.memory.read_int(address, 8)


def find(cpu: VCpu, selector: int) -> int | None:
    """The descriptor, or None for a null selector and outside the table."""
    address = descriptor_address(cpu, selector) if selector & 0xFFFC else None
    return None if address is None else cpu.memory.read_int(address, 8)


def write_access(cpu: VCpu, selector: int, access: int) -> None:
    """Store the access byte of a descriptor (a TSS's busy bit, a segment's accessed bit)."""
    address = descriptor_address(cpu, selector)
    if address is not None:
        cpu.memory.write_int(address + 5 & _ALL_ONES, 1, access & 0xFF)


def mark_accessed(cpu: VCpu, selector: int, descriptor: int) -> int:
    """Set the accessed bit of a code or data descriptor in its table; returns the descriptor with it."""
    if not descriptor >> 40 & ATTR_ACCESSED:
        descriptor |= ATTR_ACCESSED << 40
        write_access(cpu, selector, descriptor >> 40)
    return descriptor


# Checks of selectors and descriptors ------------------------------------------------------------------
def check_stack(cpu: VCpu, selector: int, cpl: int, vector: int = VECTOR_GP, ext: int = 0) -> int:
    """The descriptor of a stack segment fit for privilege level *cpl*.

    Raises *vector* (#GP or #TS) for a null selector, a wrong RPL, DPL or type; #SS if not present.
    """
    error = selector & 0xFFFC | ext
    if not selector & 0xFFFC:
        raise GuestFault(vector, ext)
    descriptor = fetch(cpu, selector, vector, ext)
    access = descriptor >> 40
    if selector & 3 != cpl or access & (ATTR_S | ATTR_CODE | ATTR_WRITABLE) != ATTR_S | ATTR_WRITABLE:
        raise GuestFault(vector, error)
    if access >> 5 & 3 != cpl:
        raise GuestFault(vector, error)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_SS, error)
    return descriptor


def check_data(cpu: VCpu, selector: int, cpl: int, vector: int = VECTOR_GP, ext: int = 0) -> int:
    """The descriptor of a segment that may be read at privilege level *cpl* (the selector is not null).

    Raises *vector* (#GP or #TS) if it is neither data nor readable code or too privileged; #NP if not present.
    """
    error = selector & 0xFFFC | ext
    descriptor = fetch(cpu, selector, vector, ext)
    access = descriptor >> 40
    if not access & ATTR_S or access & (ATTR_CODE | ATTR_WRITABLE) == ATTR_CODE:
        raise GuestFault(vector, error)
    if access & CONFORMING != CONFORMING:
        dpl = access >> 5 & 3
        if selector & 3 > dpl or cpl > dpl:
            raise GuestFault(vector, error)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, error)
    return descriptor


# Loads of segment registers ---------------------------------------------------------------------------
def load_segment(cpu: VCpu, n: int, selector: int) -> None:
    """MOV, POP, LDS...: load ES, SS, DS, FS or GS in the mode the CPU is in.

    Raises #GP, #NP, #SS as SDM vol. 2, MOV.  The handler of MOV SS and POP SS holds interrupts off itself.
    """
    if not cpu.cr0 & CR0_PE:
        load_real(cpu, n, selector)
    elif cpu.v86:
        load_v86(cpu, n, selector)
    elif n == SS:
        descriptor = mark_accessed(cpu, selector, check_stack(cpu, selector, cpu.cpl))
        cpu.set_segment(SS, selector, *unpack(descriptor))
    elif not selector & 0xFFFC:
        cpu.set_segment(n, selector, 0, 0, 0)
    else:
        descriptor = mark_accessed(cpu, selector, check_data(cpu, selector, cpu.cpl))
        cpu.set_segment(n, selector, *unpack(descriptor))


def load_real(cpu: VCpu, n: int, selector: int) -> None:
    """Real-address mode: the base follows the selector; limit and attributes stay ("unreal" mode).

    A segment that a null selector made unusable becomes plain data again, with its limit as it is.
    """
    segment = cpu.segments[n]
    attr = segment.attr if segment.attr & ATTR_PRESENT else _REAL_ATTR
    cpu.set_segment(n, selector, selector << 4, segment.limit, attr)


def load_v86(cpu: VCpu, n: int, selector: int) -> None:
    """Virtual-8086 mode: everything follows from the selector (SDM vol. 3, 20.2.2)."""
    cpu.set_segment(n, selector, selector << 4, 0xFFFF, _V86_ATTR)


def load_code(cpu: VCpu, selector: int, descriptor: int, cpl: int) -> None:
    """Enter a checked code segment at privilege level *cpl*; CS.RPL becomes CPL."""
    cpu.set_segment(CS, selector & 0xFFFC | cpl, *unpack(descriptor))
    cpu.cpl = cpl


def drop_privileged_segments(cpu: VCpu) -> None:
    """After a return to an outer ring: null those of ES, DS, FS, GS that CPL may not use (SDM vol. 3, 5.8.6)."""
    cpl = cpu.cpl
    segments = cpu.segments
    for n in (ES, DS, FS, GS):
        attr = segments[n].attr
        if attr >> 5 & 3 < cpl and attr & CONFORMING != CONFORMING:
            cpu.set_segment(n, 0, 0, 0, 0)


# LDTR and TR -----------------------------------------------------------------------------------------
def _demand_protected(cpu: VCpu) -> None:
    """#UD in real-address and virtual-8086 mode, where these instructions are not recognised."""
    if not cpu.protected:
        raise GuestFault(VECTOR_UD)


def _system_descriptor(cpu: VCpu, selector: int, types: frozenset[int]) -> int:
    """A descriptor of one of *types* that must be in the GDT and present: #GP, #NP."""
    if selector & 4:
        raise GuestFault(VECTOR_GP, selector & 0xFFFC)
    descriptor = fetch(cpu, selector)
    access = descriptor >> 40
    if access & TYPE_MASK not in types:
        raise GuestFault(VECTOR_GP, selector & 0xFFFC)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, selector & 0xFFFC)
    return descriptor


_LDT_TYPE: Final = frozenset((LDT,))


def lldt(cpu: VCpu, selector: int) -> None:
    """LLDT: load LDTR; a null selector makes it unusable.  #UD, #GP, #NP (SDM vol. 2)."""
    _demand_protected(cpu)
    if cpu.cpl:
        raise GuestFault(VECTOR_GP, 0)
    if not selector & 0xFFFC:
        cpu.set_segment(LDTR, selector, 0, 0, 0)
        return
    cpu.set_segment(LDTR, selector, *unpack(_system_descriptor(cpu, selector, _LDT_TYPE)))


def ltr(cpu: VCpu, selector: int) -> None:
    """LTR: load TR with an available TSS and mark it busy.  #UD, #GP, #NP (SDM vol. 2)."""
    _demand_protected(cpu)
    if cpu.cpl or not selector & 0xFFFC:
        raise GuestFault(VECTOR_GP, 0)
    descriptor = _system_descriptor(cpu, selector, AVAILABLE_TSS) | TSS_BUSY << 40
    write_access(cpu, selector, descriptor >> 40)
    cpu.set_segment(TR, selector, *unpack(descriptor))


def sldt(cpu: VCpu) -> int:
    """SLDT: the selector of LDTR.  #UD outside protected mode."""
    _demand_protected(cpu)
    return cpu.segments[LDTR].selector


def store_tr(cpu: VCpu) -> int:
    """STR: the selector of TR.  #UD outside protected mode."""
    _demand_protected(cpu)
    return cpu.segments[TR].selector


# LAR, LSL, VERR, VERW, ARPL ----------------------------------------------------------------------------
def _visible(cpu: VCpu, selector: int, system_types: frozenset[int]) -> int | None:
    """The descriptor if it is code, data or one of *system_types* and CPL and RPL may see it."""
    _demand_protected(cpu)
    descriptor = find(cpu, selector)
    if descriptor is None:
        return None
    access = descriptor >> 40
    if not access & ATTR_S:
        if access & TYPE_MASK not in system_types:
            return None
    elif access & CONFORMING == CONFORMING:
        return descriptor
    dpl = access >> 5 & 3
    return descriptor if cpu.cpl <= dpl and selector & 3 <= dpl else None


def lar(cpu: VCpu, selector: int, size: int) -> int | None:
    """LAR: access rights for a destination of *size* bytes (the limit's bits read as zero), or None (ZF clear)."""
    descriptor = _visible(cpu, selector, _LAR_TYPES)
    return None if descriptor is None else descriptor >> 32 & (0x00F0_FF00 if size == 4 else 0xFF00)


def lsl(cpu: VCpu, selector: int) -> int | None:
    """LSL: the limit in bytes, or None (ZF clear)."""
    descriptor = _visible(cpu, selector, _LSL_TYPES)
    return None if descriptor is None else unpack(descriptor)[1]


def verr(cpu: VCpu, selector: int) -> bool:
    """VERR: may the segment be read?  The result is ZF."""
    descriptor = _visible(cpu, selector, frozenset())
    return descriptor is not None and descriptor >> 40 & (ATTR_CODE | ATTR_WRITABLE) != ATTR_CODE


def verw(cpu: VCpu, selector: int) -> bool:
    """VERW: may the segment be written?  The result is ZF."""
    descriptor = _visible(cpu, selector, frozenset())
    return descriptor is not None and descriptor >> 40 & (ATTR_CODE | ATTR_WRITABLE) == ATTR_WRITABLE


def arpl(cpu: VCpu, destination: int, source: int) -> int | None:
    """ARPL: *destination* with the RPL of *source* if that is greater (ZF set), or None (ZF clear)."""
    _demand_protected(cpu)
    rpl = source & 3
    return destination & 0xFFFC | rpl if destination & 3 < rpl else None
