"""Segment registers, descriptor tables' queries, far transfers, software interrupts, BOUND.

The rules are in ``vmm.segmentation``, ``vmm.transfers`` and ``vmm.interrupts``; here operands are fetched and
results put where the instruction says.
"""

from __future__ import annotations

from typing import Final

from translator import selectors
from translator.decode import Insn
from translator.layout import CS, DS, ES, FS, GS, OF, SS, ZF
from vmm import interrupts, segmentation, transfers
from vmm.callouts import flags
from vmm.callouts.operands import read_memory, read_rm, write_rm
from vmm.errors import GuestFault
from vmm.vcpu import VCpu

VECTOR_BP: Final = 3
VECTOR_OF: Final = 4
VECTOR_BR: Final = 5

_LOADED: Final = {(0, 0xC4): ES, (0, 0xC5): DS, (1, 0xB2): SS, (1, 0xB4): FS, (1, 0xB5): GS}
"""LES LDS LSS LFS LGS by opcode map and opcode."""


def hold_interrupts(cpu: VCpu) -> None:
    """After MOV SS, POP SS and STI no interrupt comes before the end of the next instruction."""
    cpu.shadow = 1


# Segment registers -----------------------------------------------------------------------------------
def mov_from_seg(cpu: VCpu, insn: Insn) -> None:
    """MOV r/m, Sreg: 16 bits to memory; a register of the operand size, zero-extended.  #UD for no such register."""
    if insn.reg > GS:
        raise GuestFault(segmentation.VECTOR_UD)
    _store_selector(cpu, insn, cpu.segments[insn.reg].selector)


def _store_selector(cpu: VCpu, insn: Insn, selector: int) -> None:
    write_rm(cpu, insn, 2 if insn.mem else insn.opsize, selector)


def mov_to_seg(cpu: VCpu, insn: Insn) -> None:
    """MOV Sreg, r/m16: #UD for CS and for no such register; #GP, #NP, #SS."""
    if insn.reg > GS or insn.reg == CS:
        raise GuestFault(segmentation.VECTOR_UD)
    segmentation.load_segment(cpu, insn.reg, read_rm(cpu, insn, 2))
    if insn.reg == SS:
        hold_interrupts(cpu)


def load_far(cpu: VCpu, insn: Insn) -> None:
    """LES LDS LSS LFS LGS: a segment register and a general register from a far pointer."""
    offset = read_memory(cpu, insn, insn.opsize)
    selector = read_memory(cpu, insn, 2, insn.opsize)
    segmentation.load_segment(cpu, _LOADED[insn.map, insn.opcode], selector)
    cpu.write_reg(insn.reg, insn.opsize, offset)


POPPED: Final = {0x07: ES, 0x17: SS, 0x1F: DS, 0xA1: FS, 0xA9: GS}
"""POP Sreg by opcode."""
REPEATED: Final = frozenset(("mov_to_seg", "pop_seg", "verw", "iret"))
"""Handlers whose outcome emitted code can repeat."""


def segment_load(cpu: VCpu, insn: Insn) -> tuple[int, int] | None:
    """(register, selector) of the ``REPEATED`` instruction that has just been done, for ``Contexts.learn``; or None."""
    if insn.row.how == "verw":
        return (selectors.QUERY, read_rm(cpu, insn, 2)) if cpu.eflags & ZF else None
    if insn.row.how == "iret":
        return (CS, cpu.segments[CS].selector) if cpu.protected and cpu.cpl == 0 else None
    register = insn.reg if insn.row.how == "mov_to_seg" else POPPED[insn.opcode]
    return None if register == SS else (register, cpu.segments[register].selector)


# LDTR, TR and queries of descriptors -------------------------------------------------------------------
def lldt(cpu: VCpu, insn: Insn) -> None:
    """LLDT r/m16: #UD, #GP, #NP."""
    _demand_ring0_of_protected(cpu)
    segmentation.lldt(cpu, read_rm(cpu, insn, 2))


def ltr(cpu: VCpu, insn: Insn) -> None:
    """LTR r/m16: #UD, #GP, #NP."""
    _demand_ring0_of_protected(cpu)
    segmentation.ltr(cpu, read_rm(cpu, insn, 2))


def _demand_protected(cpu: VCpu) -> None:
    """#UD comes before the fault of an operand."""
    if not cpu.protected:
        raise GuestFault(segmentation.VECTOR_UD)


def _demand_ring0_of_protected(cpu: VCpu) -> None:
    _demand_protected(cpu)
    if cpu.cpl:
        raise GuestFault(segmentation.VECTOR_GP, 0)


def sldt(cpu: VCpu, insn: Insn) -> None:
    """SLDT r/m: #UD."""
    _store_selector(cpu, insn, segmentation.sldt(cpu))


def store_tr(cpu: VCpu, insn: Insn) -> None:
    """STR r/m: #UD."""
    _store_selector(cpu, insn, segmentation.store_tr(cpu))


def _put_zf(cpu: VCpu, value: bool) -> None:
    flags.put(cpu, ZF if value else 0, ZF)


def lar(cpu: VCpu, insn: Insn) -> None:
    """LAR r, r/m16: #UD; ZF tells whether the register was written."""
    _demand_protected(cpu)
    rights = segmentation.lar(cpu, read_rm(cpu, insn, 2), insn.opsize)
    if rights is not None:
        cpu.write_reg(insn.reg, insn.opsize, rights)
    _put_zf(cpu, rights is not None)


def lsl(cpu: VCpu, insn: Insn) -> None:
    """LSL r, r/m16: #UD; ZF tells whether the register was written."""
    _demand_protected(cpu)
    limit = segmentation.lsl(cpu, read_rm(cpu, insn, 2))
    if limit is not None:
        cpu.write_reg(insn.reg, insn.opsize, limit)
    _put_zf(cpu, limit is not None)


def verr(cpu: VCpu, insn: Insn) -> None:
    """VERR r/m16: #UD."""
    _demand_protected(cpu)
    _put_zf(cpu, segmentation.verr(cpu, read_rm(cpu, insn, 2)))


def verw(cpu: VCpu, insn: Insn) -> None:
    """VERW r/m16: #UD."""
    _demand_protected(cpu)
    _put_zf(cpu, segmentation.verw(cpu, read_rm(cpu, insn, 2)))


def arpl(cpu: VCpu, insn: Insn) -> None:
    """ARPL r/m16, r16: #UD outside protected mode.  The operand need be writable only if it is adjusted."""
    _demand_protected(cpu)
    adjusted = segmentation.arpl(cpu, read_rm(cpu, insn, 2), cpu.read_reg(insn.reg, 2))
    if adjusted is not None:
        write_rm(cpu, insn, 2, adjusted)
    _put_zf(cpu, adjusted is not None)


# Far transfers -------------------------------------------------------------------------------------------
def jmp_far(cpu: VCpu, insn: Insn) -> None:
    """JMP ptr16:16, ptr16:32."""
    transfers.far_jmp(cpu, insn.far_selector, insn.imm, insn.opsize)


def call_far(cpu: VCpu, insn: Insn) -> None:
    """CALL ptr16:16, ptr16:32."""
    transfers.far_call(cpu, insn.far_selector, insn.imm, insn.opsize)


def jmp_far_m(cpu: VCpu, insn: Insn) -> None:
    """JMP m16:16, m16:32."""
    offset = read_memory(cpu, insn, insn.opsize)
    transfers.far_jmp(cpu, read_memory(cpu, insn, 2, insn.opsize), offset, insn.opsize)


def call_far_m(cpu: VCpu, insn: Insn) -> None:
    """CALL m16:16, m16:32."""
    offset = read_memory(cpu, insn, insn.opsize)
    transfers.far_call(cpu, read_memory(cpu, insn, 2, insn.opsize), offset, insn.opsize)


def ret_far(cpu: VCpu, insn: Insn) -> None:
    """RETF, RETF imm16."""
    transfers.far_ret(cpu, insn.opsize, insn.imm)


def iret(cpu: VCpu, insn: Insn) -> None:
    """IRET, IRETD."""
    transfers.iret(cpu, insn.opsize)


# Software interrupts ---------------------------------------------------------------------------------------
def int_n(cpu: VCpu, insn: Insn) -> None:
    """INT imm8: the gate's DPL counts; IOPL in virtual-8086 mode."""
    interrupts.deliver(cpu, insn.imm & 0xFF, None, interrupts.SOFTWARE)


def int3(cpu: VCpu, insn: Insn) -> None:
    """INT3: #BP."""
    interrupts.deliver(cpu, VECTOR_BP, None, interrupts.SOFTWARE_EXCEPTION)


def int1(cpu: VCpu, insn: Insn) -> None:
    """INT1 (ICEBP): #DB, without a look at the gate's DPL."""
    interrupts.deliver(cpu, segmentation.VECTOR_DB, None, interrupts.ICEBP)


def into(cpu: VCpu, insn: Insn) -> None:
    """INTO: #OF if OF is set."""
    if cpu.eflags & OF:
        interrupts.deliver(cpu, VECTOR_OF, None, interrupts.SOFTWARE_EXCEPTION)


def bound(cpu: VCpu, insn: Insn) -> None:
    """BOUND r, m16&16 or m32&32: #BR unless lower <= r <= upper, signed."""
    size = insn.opsize
    sign = flags.SIGN[size]
    index, lower, upper = (
        (value ^ sign) - sign
        for value in (cpu.read_reg(insn.reg, size), read_memory(cpu, insn, size), read_memory(cpu, insn, size, size))
    )
    if not lower <= index <= upper:
        raise GuestFault(VECTOR_BR)
