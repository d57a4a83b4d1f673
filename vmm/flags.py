"""Which flags PUSHF shows and POPF and IRET may change, by mode, CPL and IOPL (SDM vol. 2, POPF, IRET)."""

from __future__ import annotations

from typing import Final

from translator.layout import AC, ARITHMETIC, DF, ID, IF_FLAG, IOPL, NT, RF, TF, VIF, VIP, VM
from vmm import stack
from vmm.errors import GuestFault
from vmm.segmentation import VECTOR_GP
from vmm.vcpu import CR0_PE, VCpu

CR4_VME: Final = 0x1

_ANYBODY: Final = ARITHMETIC | TF | DF | NT
_UPPER: Final = RF | AC | ID
"""What a 32-bit operand adds for everybody."""
VIRTUAL_INTERRUPT: Final = VIF | VIP
_ALL: Final = _ANYBODY | IF_FLAG | IOPL | _UPPER | VM | VIRTUAL_INTERRUPT


def changeable(cpu: VCpu, size: int) -> int:
    """The flags that an IRET of *size* bytes in the current mode, CPL and IOPL takes from the stack.

    Not VM, which only an IRET to virtual-8086 mode sets, and not VIF and VIP, which CPL 0 may load.
    POPF takes the same without RF.
    """
    mask = _ANYBODY | _UPPER if size == 4 else _ANYBODY
    if not cpu.cr0 & CR0_PE or cpu.cpl == 0:
        return mask | IF_FLAG | IOPL
    return mask | IF_FLAG if cpu.cpl <= cpu.iopl else mask


def load(cpu: VCpu, value: int, mask: int) -> None:
    """Take the flags of *mask* from *value*, keep the others."""
    cpu.eflags = cpu.eflags & ~mask | value & mask


def _virtual_interrupts(cpu: VCpu, size: int) -> bool:
    """Virtual-8086 mode with IOPL < 3: True where VIF stands for IF (CR4.VME, 16-bit operands), else #GP(0)."""
    if not cpu.v86 or cpu.iopl == 3:
        return False
    if size == 4 or not cpu.cr4 & CR4_VME:
        raise GuestFault(VECTOR_GP, 0)
    return True


def load_virtual(cpu: VCpu, value: int) -> None:
    """POPF and IRET with 16-bit operands under VME: IF goes to VIF; #GP(0) for TF, and for IF while VIP is set."""
    flags = cpu.eflags
    if value & TF or (value & IF_FLAG and flags & VIP):
        raise GuestFault(VECTOR_GP, 0)
    mask = _ANYBODY & ~TF
    cpu.eflags = flags & ~(mask | TF | VIF) | value & mask | (VIF if value & IF_FLAG else 0)


def pushf(cpu: VCpu, size: int) -> None:
    """PUSHF (2 bytes), PUSHFD (4): #GP(0) in virtual-8086 mode, #SS(0), #PF."""
    virtual = _virtual_interrupts(cpu, size)
    flags = cpu.eflags
    if virtual:
        flags = flags & ~IF_FLAG | IOPL | (IF_FLAG if flags & VIF else 0)
    stack.push(cpu, flags & ~(VM | RF), size)


def popf(cpu: VCpu, size: int) -> None:
    """POPF (2 bytes), POPFD (4): #GP(0) in virtual-8086 mode, #SS(0), #PF.

    The handler looks at TF, IF and AC afterwards, as after any change of ``cpu.eflags``.
    """
    virtual = _virtual_interrupts(cpu, size)
    (value,) = stack.read_frame(cpu, size, 1)
    if virtual:
        load_virtual(cpu, value)
    else:
        load(cpu, value & ~RF, changeable(cpu, size))
    stack.drop(cpu, size)


def iret_virtual_8086(cpu: VCpu, value: int, size: int) -> None:
    """The flags of an IRET that stays in virtual-8086 mode: #GP(0) where IOPL or VME forbids it."""
    if _virtual_interrupts(cpu, size):
        load_virtual(cpu, value)
    else:
        load(cpu, value, changeable(cpu, size))


def iret_from_ring0(cpu: VCpu, value: int) -> None:
    """The flags of a 32-bit IRET at CPL 0: all of them."""
    load(cpu, value, _ALL)
