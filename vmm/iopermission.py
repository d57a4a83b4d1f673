"""May the guest's current code reach an I/O port?  (SDM vol. 1, 19.5.2)"""

from __future__ import annotations

from typing import Final

from translator.layout import TR
from vmm.errors import GuestFault
from vmm.segmentation import TSS32_BUSY, TYPE_MASK, VECTOR_GP
from vmm.vcpu import CR0_PE, VCpu

_IO_MAP_BASE: Final = 0x66
"""Offset in the 32-bit TSS of the 16-bit offset of the I/O permission bitmap (SDM vol. 3, 7.2.1)."""


def check_port(cpu: VCpu, port: int, size: int) -> None:
    """#GP(0) unless IN, OUT, INS or OUTS may reach *size* bytes (1, 2, 4) of ports from *port* on.

    Real mode may do everything; CPL <= IOPL too, except in virtual-8086 mode, which only asks the bitmap.
    """
    if not cpu.cr0 & CR0_PE or (cpu.cpl <= cpu.iopl and not cpu.v86):
        return
    tr = cpu.segments[TR]
    if tr.attr & TYPE_MASK != TSS32_BUSY or tr.limit < _IO_MAP_BASE + 1:
        raise GuestFault(VECTOR_GP, 0)
    offset = cpu.memory.read_int(tr.base + _IO_MAP_BASE & 0xFFFF_FFFF, 2) + (port >> 3)
    if offset + 1 > tr.limit:  # the CPU always reads two bytes
        raise GuestFault(VECTOR_GP, 0)
    bits = cpu.memory.read_int(tr.base + offset & 0xFFFF_FFFF, 2) >> (port & 7)
    if bits & (1 << size) - 1:
        raise GuestFault(VECTOR_GP, 0)
