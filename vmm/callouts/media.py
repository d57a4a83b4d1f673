"""FXSAVE, MASKMOVQ and MASKMOVDQU.

Their registers live in the host.  Before it calls one of these handlers (``USES_MEDIA``) the loop stores the host's
FXSAVE image (32-bit form, 512 bytes) at ``layout.FX_AREA`` of the vCPU block.
"""

from __future__ import annotations

from typing import Final

from translator import layout
from translator.decode import Insn
from translator.layout import EDI
from vmm.alignment import check_alignment
from vmm.callouts import operands
from vmm.errors import GuestFault
from vmm.segmentation import VECTOR_GP, VECTOR_UD
from vmm.vcpu import CR0_EM, CR0_TS, VCpu

VECTOR_NM: Final = 7
CR4_OSFXSR: Final = 0x200
USES_MEDIA: Final = frozenset(("fxsave", "maskmov"))
"""The handlers that read the FXSAVE image."""

_ST_AT: Final = 32
_XMM_AT: Final = 160
_SLOT: Final = 16
"""Where ST0/MM0 and XMM0 stand in the image, and the bytes of each (SDM vol. 1, 10.5.1)."""
_SAVED_WITH_SSE: Final = 288
_SAVED_WITHOUT_SSE: Final = 160
"""Bytes that FXSAVE writes outside 64-bit mode, by CR4.OSFXSR; the rest of the 512 is left alone."""


def _register(cpu: VCpu, wide: bool, n: int) -> bytes:
    """MMn (8 bytes) or XMMn (16)."""
    at = layout.FX_AREA + (_XMM_AT if wide else _ST_AT) + n * _SLOT
    return bytes(cpu.block[at : at + (16 if wide else 8)])


def maskmov(cpu: VCpu, insn: Insn) -> None:
    """MASKMOVQ mm, mm and MASKMOVDQU xmm, xmm: selected bytes to DS:(E)DI.  #UD, #NM, #GP(0), #SS(0), #AC, #PF."""
    wide = 0x66 in insn.raw[: insn.prefixes]
    if cpu.cr0 & CR0_EM or (wide and not cpu.cr4 & CR4_OSFXSR):
        raise GuestFault(VECTOR_UD)
    if cpu.cr0 & CR0_TS:
        raise GuestFault(VECTOR_NM)
    data, mask = _register(cpu, wide, insn.reg), _register(cpu, wide, insn.rm)
    offset = cpu.gpr[EDI] & operands.ADDRESS_MASK[insn.adsize]
    address = operands.linear(cpu, insn.seg, offset, len(data), True)
    selected = [n for n, byte in enumerate(mask) if byte & 0x80]
    user = cpu.cpl == 3
    if user:
        check_alignment(cpu, address, 8)  # whatever is selected, and however wide
    for n in selected:
        cpu.memory.probe_write(address + n & operands.ALL_ONES, 1, user)
    for n in selected:
        cpu.memory.write_int(address + n & operands.ALL_ONES, 1, data[n], user)


def fxsave(cpu: VCpu, insn: Insn) -> None:
    """FXSAVE m512: #GP(0) unless aligned to 16 bytes; #NM, #SS(0), #PF."""
    if cpu.cr0 & (CR0_EM | CR0_TS):
        raise GuestFault(VECTOR_NM)
    address = operands.linear(cpu, insn.seg, operands.effective_address(cpu, insn), 512, True)
    if address & 15:
        raise GuestFault(VECTOR_GP, 0)
    size = _SAVED_WITH_SSE if cpu.cr4 & CR4_OSFXSR else _SAVED_WITHOUT_SSE
    cpu.memory.write(address, bytes(cpu.block[layout.FX_AREA : layout.FX_AREA + size]), cpu.cpl == 3)
