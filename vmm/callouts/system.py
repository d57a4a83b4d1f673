"""Privileged and sensitive instructions of the system: control and debug registers, tables, MSRs, HLT, SYSENTER."""

from __future__ import annotations

from typing import Final

from translator.decode import Insn
from translator.layout import CS, EAX, EBX, ECX, EDX, ESP, IF_FLAG, RF, SS, VIF, VIP, VM
from vmm import cpuid as table
from vmm import msr
from vmm.callouts import operands
from vmm.callouts.operands import ALL_ONES, demand_ring0, effective_address
from vmm.callouts.segments import hold_interrupts
from vmm.errors import GuestFault
from vmm.flags import CR4_VME
from vmm.segmentation import VECTOR_DB, VECTOR_GP, VECTOR_UD
from vmm.vcpu import (
    CR0_AM,
    CR0_CD,
    CR0_EM,
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR0_WP,
    CR4_DE,
    VCpu,
)

CR0_DEFINED: Final = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG
"""Other bits read as zero whatever is written."""
_LMSW_BITS: Final = CR0_PE | CR0_MP | CR0_EM | CR0_TS

CR4_PVI: Final = 0x2
CR4_TSD: Final = 0x4
CR4_PCE: Final = 0x100
_CR4_FEATURES: Final = (
    (CR4_VME | CR4_PVI, "VME"),
    (CR4_TSD, "TSC"),
    (CR4_DE, "DE"),
    (0x10, "PSE"),
    (0x20, "PAE"),
    (0x40, "MCE"),
    (0x80, "PGE"),
    (CR4_PCE, "MMX"),  # RDPMC came with MMX
    (0x200, "FXSR"),
    (0x400, "SSE"),
)
"""Bits of CR4 and the CPUID features they belong to (SDM vol. 3, 2.5)."""
CR4_DEFINED: Final = sum(bits for bits, feature in _CR4_FEATURES if table.present(feature))
"""Setting any other bit raises #GP(0)."""

_DR6_BD: Final = 1 << 13
_DR6_WRITABLE: Final = 0x0000_E00F
_DR6_ONES: Final = 0xFFFF_0FF0
_DR7_GD: Final = 1 << 13
_DR7_WRITABLE: Final = 0xFFFF_23FF
_DR7_ONES: Final = 0x400
"""Bits of DR6 and DR7 that can be written, and those that read as ones (SDM vol. 3, 17.2)."""

_COUNTERS: Final = 2
"""Performance counters of the P6 family."""

_FLAT_CODE: Final = 0xC09B
_FLAT_DATA: Final = 0xC093
"""Attributes of what SYSENTER loads: 4 GiB, 32 bits, present, accessed; DPL is added."""


# Descriptor tables ---------------------------------------------------------------------------------------
def _load_table(cpu: VCpu, insn: Insn) -> tuple[int, int]:
    demand_ring0(cpu)
    limit = operands.read_memory(cpu, insn, 2)
    base = operands.read_memory(cpu, insn, 4, 2)
    return base & 0xFF_FFFF if insn.opsize == 2 else base, limit


def _store_table(cpu: VCpu, insn: Insn, register: tuple[int, int]) -> None:
    """All 32 bits of the base, whatever the operand size."""
    base, limit = register
    address = operands.linear(cpu, insn.seg, effective_address(cpu, insn), 6, True)
    cpu.memory.write_int(address, 6, base << 16 | limit, cpu.cpl == 3)


def lgdt(cpu: VCpu, insn: Insn) -> None:
    """LGDT m16&32: a base of 24 bits with 16-bit operands.  #GP(0)."""
    cpu.gdtr = _load_table(cpu, insn)


def lidt(cpu: VCpu, insn: Insn) -> None:
    """LIDT m16&32: a base of 24 bits with 16-bit operands.  #GP(0)."""
    cpu.idtr = _load_table(cpu, insn)


def sgdt(cpu: VCpu, insn: Insn) -> None:
    """SGDT m: not privileged."""
    _store_table(cpu, insn, cpu.gdtr)


def sidt(cpu: VCpu, insn: Insn) -> None:
    """SIDT m: not privileged."""
    _store_table(cpu, insn, cpu.idtr)


# Control registers -----------------------------------------------------------------------------------------
def _set_control(cpu: VCpu, name: str, value: int) -> None:
    """Change CR0, CR3 or CR4; if whoever listens raises a fault, the change is taken back."""
    before = getattr(cpu, name)
    setattr(cpu, name, value)
    try:
        cpu.on_control_change(name)
    except GuestFault:
        setattr(cpu, name, before)
        raise
    cpu.mode_changed = True


def _set_cr0(cpu: VCpu, value: int) -> None:
    value = value & CR0_DEFINED | CR0_ET
    if (value & CR0_PG and not value & CR0_PE) or (value & CR0_NW and not value & CR0_CD):
        raise GuestFault(VECTOR_GP, 0)
    if value != cpu.cr0:
        _set_control(cpu, "cr0", value)


def _set_cr2(cpu: VCpu, value: int) -> None:
    cpu.cr2 = value


def _set_cr3(cpu: VCpu, value: int) -> None:
    """Also with the value it has: translations are flushed."""
    _set_control(cpu, "cr3", value)


def _set_cr4(cpu: VCpu, value: int) -> None:
    if value & ~CR4_DEFINED:
        raise GuestFault(VECTOR_GP, 0)
    if value != cpu.cr4:
        _set_control(cpu, "cr4", value)


_CONTROL: Final = {0: ("cr0", _set_cr0), 2: ("cr2", _set_cr2), 3: ("cr3", _set_cr3), 4: ("cr4", _set_cr4)}


def mov_from_cr(cpu: VCpu, insn: Insn) -> None:
    """MOV r32, CR0 CR2 CR3 CR4: #UD for others, #GP(0)."""
    if insn.reg not in _CONTROL:
        raise GuestFault(VECTOR_UD)
    demand_ring0(cpu)
    cpu.gpr[insn.rm] = getattr(cpu, _CONTROL[insn.reg][0])


def mov_to_cr(cpu: VCpu, insn: Insn) -> None:
    """MOV CR0 CR2 CR3 CR4, r32: #UD for others, #GP(0) for what the register must not hold."""
    if insn.reg not in _CONTROL:
        raise GuestFault(VECTOR_UD)
    demand_ring0(cpu)
    _CONTROL[insn.reg][1](cpu, cpu.gpr[insn.rm])


def smsw(cpu: VCpu, insn: Insn) -> None:
    """SMSW r/m: CR0's low half; a 32-bit register gets all of it."""
    if insn.mem:
        operands.write_rm(cpu, insn, 2, cpu.cr0 & 0xFFFF)
    else:
        cpu.write_reg(insn.rm, insn.opsize, cpu.cr0)


def lmsw(cpu: VCpu, insn: Insn) -> None:
    """LMSW r/m16: PE, MP, EM and TS; PE can be set but not cleared.  #GP(0)."""
    demand_ring0(cpu)
    value = operands.read_rm(cpu, insn, 2)
    _set_cr0(cpu, cpu.cr0 & ~(_LMSW_BITS & ~CR0_PE) | value & _LMSW_BITS)


def clts(cpu: VCpu, insn: Insn) -> None:
    """CLTS: #GP(0)."""
    demand_ring0(cpu)
    if cpu.cr0 & CR0_TS:
        cpu.cr0 &= ~CR0_TS
        cpu.on_control_change("cr0")


def invlpg(cpu: VCpu, insn: Insn) -> None:
    """INVLPG m: the address alone, without an access.  #GP(0); #UD with a register (it has no row)."""
    demand_ring0(cpu)
    cpu.on_invlpg(cpu.segments[insn.seg].base + effective_address(cpu, insn) & ALL_ONES)


# Debug registers -------------------------------------------------------------------------------------------
def _debug_register(cpu: VCpu, insn: Insn) -> int:
    """DR0..3, 6 or 7; DR4 and DR5 are DR6 and DR7, or #UD under CR4.DE.  #GP(0); #DB while DR7.GD is set."""
    n = insn.reg
    if n in (4, 5):
        if cpu.cr4 & CR4_DE:
            raise GuestFault(VECTOR_UD)
        n += 2
    demand_ring0(cpu)
    if cpu.dr[7] & _DR7_GD:
        cpu.dr[6] |= _DR6_BD
        raise GuestFault(VECTOR_DB)
    return n


def mov_from_dr(cpu: VCpu, insn: Insn) -> None:
    """MOV r32, DR: #UD, #GP(0), #DB."""
    cpu.gpr[insn.rm] = cpu.dr[_debug_register(cpu, insn)]


def mov_to_dr(cpu: VCpu, insn: Insn) -> None:
    """MOV DR, r32: #UD, #GP(0), #DB."""
    n = _debug_register(cpu, insn)
    value = cpu.gpr[insn.rm]
    if n == 6:
        cpu.dr[6] = value & _DR6_WRITABLE | _DR6_ONES
        return
    cpu.dr[n] = value & _DR7_WRITABLE | _DR7_ONES if n == 7 else value
    cpu.on_control_change("dr7")


# Identification, time, model-specific registers --------------------------------------------------------------
def cpuid(cpu: VCpu, insn: Insn) -> None:
    """CPUID: not privileged."""
    gpr = cpu.gpr
    gpr[EAX], gpr[EBX], gpr[ECX], gpr[EDX] = table.leaf(gpr[EAX], msr.apic_enabled(cpu))


def _put_edx_eax(cpu: VCpu, value: int) -> None:
    cpu.gpr[EAX] = value & ALL_ONES
    cpu.gpr[EDX] = value >> 32 & ALL_ONES


def rdtsc(cpu: VCpu, insn: Insn) -> None:
    """RDTSC: #GP(0) outside ring 0 if CR4.TSD is set."""
    if cpu.cpl and cpu.cr4 & CR4_TSD:
        raise GuestFault(VECTOR_GP, 0)
    _put_edx_eax(cpu, cpu.tsc())


def rdpmc(cpu: VCpu, insn: Insn) -> None:
    """RDPMC: the counters never count.  #GP(0) outside ring 0 unless CR4.PCE is set, and for others than 0 and 1."""
    if (cpu.cpl and not cpu.cr4 & CR4_PCE) or cpu.gpr[ECX] >= _COUNTERS:
        raise GuestFault(VECTOR_GP, 0)
    _put_edx_eax(cpu, 0)


def rdmsr(cpu: VCpu, insn: Insn) -> None:
    """RDMSR: #GP(0)."""
    demand_ring0(cpu)
    _put_edx_eax(cpu, msr.read(cpu, cpu.gpr[ECX]))


def wrmsr(cpu: VCpu, insn: Insn) -> None:
    """WRMSR: #GP(0)."""
    demand_ring0(cpu)
    msr.write(cpu, cpu.gpr[ECX], cpu.gpr[EDX] << 32 | cpu.gpr[EAX])


# SYSENTER, SYSEXIT -------------------------------------------------------------------------------------------
def _sysenter_cs(cpu: VCpu) -> int:
    """IA32_SYSENTER_CS; #GP(0) if it is null or the CPU is in real-address mode."""
    selector = msr.read(cpu, msr.IA32_SYSENTER_CS)
    if not cpu.cr0 & CR0_PE or not selector & 0xFFFC:
        raise GuestFault(VECTOR_GP, 0)
    return selector & 0xFFFC


def _enter_flat(cpu: VCpu, selector: int, cpl: int) -> None:
    """CS at *selector* and SS behind it, flat, without a look at the descriptors."""
    dpl = cpl << 5
    cpu.cpl = cpl
    cpu.set_segment(CS, selector & 0xFFFF | cpl, 0, ALL_ONES, _FLAT_CODE | dpl)
    cpu.set_segment(SS, selector + 8 & 0xFFFF | cpl, 0, ALL_ONES, _FLAT_DATA | dpl)


def sysenter(cpu: VCpu, insn: Insn) -> None:
    """SYSENTER: to ring 0 with what the MSRs hold.  #GP(0)."""
    selector = _sysenter_cs(cpu)
    cpu.eflags &= ~(VM | IF_FLAG | RF)
    _enter_flat(cpu, selector, 0)
    cpu.gpr[ESP] = msr.read(cpu, msr.IA32_SYSENTER_ESP)
    cpu.next_eip = msr.read(cpu, msr.IA32_SYSENTER_EIP)


def sysexit(cpu: VCpu, insn: Insn) -> None:
    """SYSEXIT: to ring 3 at EDX with the stack at ECX.  #GP(0)."""
    selector = _sysenter_cs(cpu)
    demand_ring0(cpu)
    _enter_flat(cpu, selector + 16, 3)
    cpu.gpr[ESP] = cpu.gpr[ECX]
    cpu.next_eip = cpu.gpr[EDX]


# HLT, caches, the interrupt flag ---------------------------------------------------------------------------------
def hlt(cpu: VCpu, insn: Insn) -> None:
    """HLT: until an interrupt comes.  #GP(0)."""
    demand_ring0(cpu)
    cpu.halted = True


def invd(cpu: VCpu, insn: Insn) -> None:
    """INVD, WBINVD: there is no cache.  #GP(0)."""
    demand_ring0(cpu)


def _virtual_flag(cpu: VCpu) -> bool:
    """CLI and STI: False if they act on IF, True if on VIF (SDM vol. 3, 20.3 and 20.4); #GP(0) if on neither."""
    if not cpu.cr0 & CR0_PE or cpu.cpl <= cpu.iopl:
        return False
    if not cpu.cr4 & (CR4_VME if cpu.v86 else CR4_PVI) or cpu.cpl != 3:
        raise GuestFault(VECTOR_GP, 0)
    return True


def cli(cpu: VCpu, insn: Insn) -> None:
    """CLI: #GP(0) where CPL > IOPL, unless VME or PVI virtualises it."""
    if _virtual_flag(cpu):
        cpu.eflags &= ~VIF
    else:
        cpu.interrupts_enabled = False


def sti(cpu: VCpu, insn: Insn) -> None:
    """STI: as CLI; #GP(0) too if VIF would be set while VIP is."""
    if _virtual_flag(cpu):
        flags = cpu.eflags
        if flags & VIP:
            raise GuestFault(VECTOR_GP, 0)
        cpu.eflags = flags | VIF
    elif not cpu.interrupts_enabled:
        cpu.interrupts_enabled = True
        hold_interrupts(cpu)
