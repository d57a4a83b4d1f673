"""Model-specific registers, in one table (SDM vol. 4, the P6 family and Pentium M).

Values stand in ``VCpu.msr``; a register that was never written has its row's reset value.  A register without a row
raises #GP(0), reserved bits do too.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vmm import cpuid
from vmm.errors import GuestFault
from vmm.segmentation import VECTOR_GP
from vmm.vcpu import VCpu

IA32_TIME_STAMP_COUNTER: Final = 0x10
IA32_PLATFORM_ID: Final = 0x17
IA32_APIC_BASE: Final = 0x1B
EBL_CR_POWERON: Final = 0x2A
IA32_BIOS_UPDT_TRIG: Final = 0x79
IA32_BIOS_SIGN_ID: Final = 0x8B
IA32_MTRRCAP: Final = 0xFE
IA32_SYSENTER_CS: Final = 0x174
IA32_SYSENTER_ESP: Final = 0x175
IA32_SYSENTER_EIP: Final = 0x176
IA32_MCG_CAP: Final = 0x179
IA32_MCG_STATUS: Final = 0x17A
IA32_MISC_ENABLE: Final = 0x1A0
IA32_PAT: Final = 0x277
IA32_MTRR_DEF_TYPE: Final = 0x2FF
IA32_EFER: Final = 0xC000_0080

APIC_BSP: Final = 1 << 8
APIC_ENABLE: Final = 1 << 11
EFER_NXE: Final = 1 << 11
_FAST_STRINGS: Final = 1
_VARIABLE_MTRRS: Final = 8
_MTRRCAP_FIX: Final = 1 << 8
_MTRRCAP_WC: Final = 1 << 10
_PAT_RESET: Final = 0x0007_0406_0007_0406
_PAT_TYPES: Final = frozenset((0, 1, 4, 5, 6, 7))
_ALL: Final = (1 << 64) - 1
_LOW: Final = 0xFFFF_FFFF


class Register(NamedTuple):
    """A row of the table."""

    name: str
    reset: int
    writable: int
    """Bits that may be written; others must be written as they read, else #GP(0)."""


_READ_ONLY: Final = 0

REGISTERS: Final[dict[int, Register]] = {
    IA32_TIME_STAMP_COUNTER: Register("IA32_TIME_STAMP_COUNTER", 0, _ALL),
    IA32_PLATFORM_ID: Register("IA32_PLATFORM_ID", 0, _READ_ONLY),
    IA32_APIC_BASE: Register("IA32_APIC_BASE", 0xFEE0_0000 | APIC_BSP, 0xFFFF_F000 | APIC_ENABLE),
    EBL_CR_POWERON: Register("EBL_CR_POWERON", 0, _LOW),
    IA32_BIOS_UPDT_TRIG: Register("IA32_BIOS_UPDT_TRIG", 0, _LOW),
    IA32_BIOS_SIGN_ID: Register("IA32_BIOS_SIGN_ID", 0, _ALL),
    IA32_MTRRCAP: Register("IA32_MTRRCAP", _VARIABLE_MTRRS | _MTRRCAP_FIX | _MTRRCAP_WC, _READ_ONLY),
    IA32_SYSENTER_CS: Register("IA32_SYSENTER_CS", 0, _LOW),
    IA32_SYSENTER_ESP: Register("IA32_SYSENTER_ESP", 0, _LOW),
    IA32_SYSENTER_EIP: Register("IA32_SYSENTER_EIP", 0, _LOW),
    IA32_MCG_CAP: Register("IA32_MCG_CAP", 0, _READ_ONLY),
    IA32_MCG_STATUS: Register("IA32_MCG_STATUS", 0, 0x7),
    IA32_MISC_ENABLE: Register("IA32_MISC_ENABLE", _FAST_STRINGS, _LOW),
    **{
        0x200 + n: Register(f"IA32_MTRR_PHYS{'MASK' if n & 1 else 'BASE'}{n >> 1}", 0, _ALL)
        for n in range(2 * _VARIABLE_MTRRS)
    },
    0x250: Register("IA32_MTRR_FIX64K_00000", 0, _ALL),
    0x258: Register("IA32_MTRR_FIX16K_80000", 0, _ALL),
    0x259: Register("IA32_MTRR_FIX16K_A0000", 0, _ALL),
    **{0x268 + n: Register(f"IA32_MTRR_FIX4K_{0xC0000 + n * 0x8000:05X}", 0, _ALL) for n in range(8)},
    IA32_PAT: Register("IA32_PAT", _PAT_RESET, _ALL),
    IA32_MTRR_DEF_TYPE: Register("IA32_MTRR_DEF_TYPE", 0, 0xCFF),
}
if cpuid.NX:
    REGISTERS[IA32_EFER] = Register("IA32_EFER", 0, EFER_NXE)


def _row(number: int) -> Register:
    row = REGISTERS.get(number)
    if row is None:
        raise GuestFault(VECTOR_GP, 0)
    return row


def read(cpu: VCpu, number: int) -> int:
    """RDMSR: 64 bits; #GP(0) for a register that does not exist."""
    row = _row(number)
    if number == IA32_TIME_STAMP_COUNTER:
        return cpu.tsc() & _ALL
    return cpu.msr.get(number, row.reset)


def write(cpu: VCpu, number: int, value: int) -> None:
    """WRMSR of 64 bits: #GP(0) for a register that does not exist, reserved bits and memory types of the PAT.

    A local APIC that is disabled stays so until RESET (SDM vol. 3, 10.4.3); so does one that is not there.
    """
    row = _row(number)
    before = cpu.msr.get(number, row.reset)
    if number == IA32_TIME_STAMP_COUNTER:
        cpu.msr[number] = before + value - cpu.tsc() & _ALL
        cpu.on_control_change("tsc")
        return
    if (value ^ before) & ~row.writable:
        raise GuestFault(VECTOR_GP, 0)
    if number == IA32_PAT and not _PAT_TYPES.issuperset(value.to_bytes(8, "little")):
        raise GuestFault(VECTOR_GP, 0)
    if number == IA32_APIC_BASE:
        value &= ~APIC_ENABLE | before
    cpu.msr[number] = value
    if number == IA32_EFER:
        cpu.on_control_change("efer")
    elif number == IA32_APIC_BASE:
        cpu.on_control_change("apic_base")


def apic_enabled(cpu: VCpu) -> bool:
    """Whether there is an enabled local APIC: the board sets IA32_APIC_BASE after RESET if it has one."""
    return bool(cpu.msr.get(IA32_APIC_BASE, 0) & APIC_ENABLE)
