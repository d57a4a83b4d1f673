"""Alignment checking of what the VMM accesses for the guest (SDM vol. 3, 6.15, interrupt 17)."""

from __future__ import annotations

from translator.operand import ALIGNMENT, MISALIGNED
from vmm.errors import GuestFault
from vmm.vcpu import VCpu


def check_alignment(cpu: VCpu, linear: int, size: int) -> None:
    """#AC(0) if an access of the program's to *size* bytes has to be aligned, and is not."""
    if cpu.aligns and linear & MISALIGNED.get(size, 0):
        raise GuestFault(ALIGNMENT, 0)
