"""Decimal arithmetic, and SALC (SDM vol. 2, DAA DAS AAA AAS AAM AAD; SALC is undocumented).

Flags that the manual leaves undefined are as QEMU's: the reference of the traces.
"""

from __future__ import annotations

from typing import Final

from translator.decode import Insn
from translator.layout import AF, CF, EAX
from vmm.callouts import flags
from vmm.errors import GuestFault
from vmm.vcpu import VCpu

VECTOR_DE: Final = 0


def daa(cpu: VCpu, insn: Insn) -> None:
    """DAA: AL after an addition of packed BCD."""
    old, before = cpu.read_reg(EAX, 1), cpu.eflags
    value, result = old, 0
    if old & 0xF > 9 or before & AF:
        value += 6
        result |= AF
    if old > 0x99 or before & CF:
        value += 0x60
        result |= CF
    value &= 0xFF
    cpu.write_reg(EAX, 1, value)
    flags.put(cpu, result | flags.of_result(value, 1))


def das(cpu: VCpu, insn: Insn) -> None:
    """DAS: AL after a subtraction of packed BCD."""
    old, before = cpu.read_reg(EAX, 1), cpu.eflags
    value, result = old, 0
    if old & 0xF > 9 or before & AF:
        value -= 6
        result |= AF
        if old < 6 or before & CF:
            result |= CF
    if old > 0x99 or before & CF:
        value -= 0x60
        result |= CF
    value &= 0xFF
    cpu.write_reg(EAX, 1, value)
    flags.put(cpu, result | flags.of_result(value, 1))


def _adjust(cpu: VCpu, sign: int) -> None:
    """AAA and AAS: add or subtract 106h where AL is no digit; AX carries over from AL to AH."""
    ax = cpu.read_reg(EAX, 2)
    result = 0
    if ax & 0xF > 9 or cpu.eflags & AF:
        ax += sign * 0x106
        result = AF | CF
    cpu.write_reg(EAX, 2, ax & 0xFF0F)
    flags.put(cpu, result, AF | CF)


def aaa(cpu: VCpu, insn: Insn) -> None:
    """AAA: AX after an addition of unpacked BCD."""
    _adjust(cpu, 1)


def aas(cpu: VCpu, insn: Insn) -> None:
    """AAS: AX after a subtraction of unpacked BCD."""
    _adjust(cpu, -1)


def aam(cpu: VCpu, insn: Insn) -> None:
    """AAM imm8: AH and AL become quotient and remainder of AL; #DE by zero."""
    base = insn.imm & 0xFF
    if not base:
        raise GuestFault(VECTOR_DE)
    high, low = divmod(cpu.read_reg(EAX, 1), base)
    cpu.write_reg(EAX, 2, high << 8 | low)
    flags.put(cpu, flags.of_result(low, 1))


def aad(cpu: VCpu, insn: Insn) -> None:
    """AAD imm8: AL becomes AH * imm8 + AL, AH zero."""
    ax = cpu.read_reg(EAX, 2)
    value = (ax >> 8) * insn.imm + ax & 0xFF
    cpu.write_reg(EAX, 2, value)
    flags.put(cpu, flags.of_result(value, 1))


def salc(cpu: VCpu, insn: Insn) -> None:
    """SALC: AL becomes FFh or 0 by CF; no flags."""
    cpu.write_reg(EAX, 1, 0xFF if cpu.eflags & CF else 0)
