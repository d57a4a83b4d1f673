"""Operands of emulated instructions: effective addresses, checked segments, registers and memory by width."""

from __future__ import annotations

from typing import Final

from translator.decode import Insn
from translator.layout import SS
from vmm import stack
from vmm.errors import GuestFault
from vmm.segmentation import VECTOR_GP, VECTOR_SS
from vmm.vcpu import ATTR_CODE, ATTR_EXPAND_DOWN, ATTR_PRESENT, ATTR_WRITABLE, CR0_PE, VCpu

ADDRESS_MASK: Final = {2: 0xFFFF, 4: 0xFFFF_FFFF}
"""The mask of offsets, by address size in bytes."""
ALL_ONES: Final = 0xFFFF_FFFF


def demand_ring0(cpu: VCpu) -> None:
    """#GP(0) unless CPL is 0; virtual-8086 mode runs at CPL 3."""
    if cpu.cpl:
        raise GuestFault(VECTOR_GP, 0)


def element_size(insn: Insn) -> int:
    """Bytes of an operand whose opcode tells bytes (even) from words and doublewords (odd)."""
    return insn.opsize if insn.opcode & 1 else 1


def effective_address(cpu: VCpu, insn: Insn) -> int:
    """The offset of the ModRM memory operand, wrapped to the address size."""
    offset = insn.disp
    if insn.base >= 0:
        offset += cpu.gpr[insn.base]
    if insn.index >= 0:
        offset += cpu.gpr[insn.index] << insn.scale
    return offset & ADDRESS_MASK[insn.adsize]


def allows(cpu: VCpu, seg: int, offset: int, size: int, write: bool) -> bool:
    """Whether segment *seg* lets *size* bytes at *offset* be read or written (SDM vol. 3, 5.3 and 5.5).

    Rights count in protected mode only.  In a segment of 4 GiB an operand may wrap around, as it does in the TC.
    """
    segment = cpu.segments[seg]
    attr = segment.attr
    if cpu.cr0 & CR0_PE:
        if write:
            if attr & (ATTR_PRESENT | ATTR_CODE | ATTR_WRITABLE) != ATTR_PRESENT | ATTR_WRITABLE:
                return False
        elif not attr & ATTR_PRESENT or attr & (ATTR_CODE | ATTR_WRITABLE) == ATTR_CODE:
            return False
    limit = segment.limit
    if limit == ALL_ONES and attr & (ATTR_CODE | ATTR_EXPAND_DOWN) != ATTR_EXPAND_DOWN:
        return True
    return not stack.outside(offset, size, limit, attr)


def linear(cpu: VCpu, seg: int, offset: int, size: int, write: bool) -> int:
    """The linear address of *size* bytes at *seg*:*offset*; #SS(0) or #GP(0) where the segment forbids the access."""
    if not allows(cpu, seg, offset, size, write):
        raise GuestFault(VECTOR_SS if seg == SS else VECTOR_GP, 0)
    return cpu.segments[seg].base + offset & ALL_ONES


def load(cpu: VCpu, seg: int, offset: int, size: int) -> int:
    """Read an integer of *size* bytes at *seg*:*offset*."""
    return cpu.memory.read_int(linear(cpu, seg, offset, size, False), size, cpu.cpl == 3)


def store(cpu: VCpu, seg: int, offset: int, size: int, value: int) -> None:
    """Write an integer of *size* bytes at *seg*:*offset*; *value* is in range."""
    cpu.memory.write_int(linear(cpu, seg, offset, size, True), size, value, cpu.cpl == 3)


def read_memory(cpu: VCpu, insn: Insn, size: int, displacement: int = 0) -> int:
    """Read *size* bytes of the ModRM memory operand, from *displacement* bytes into it on."""
    offset = effective_address(cpu, insn) + displacement & ADDRESS_MASK[insn.adsize]
    return load(cpu, insn.seg, offset, size)


def read_rm(cpu: VCpu, insn: Insn, size: int) -> int:
    """The r/m operand of *size* bytes."""
    if insn.mem:
        return load(cpu, insn.seg, effective_address(cpu, insn), size)
    return cpu.read_reg(insn.rm, size)


def write_rm(cpu: VCpu, insn: Insn, size: int, value: int) -> None:
    """Store *value* (in range) into the r/m operand of *size* bytes."""
    if insn.mem:
        store(cpu, insn.seg, effective_address(cpu, insn), size, value)
    else:
        cpu.write_reg(insn.rm, size, value)


def probe_rm(cpu: VCpu, insn: Insn, size: int) -> None:
    """Raise what writing the r/m operand of *size* bytes would raise: before a read that is followed by a write."""
    if insn.mem:
        address = linear(cpu, insn.seg, effective_address(cpu, insn), size, True)
        cpu.memory.probe_write(address, size, cpu.cpl == 3)
