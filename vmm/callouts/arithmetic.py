"""Instructions that compute or move data and that the VMM does where the TC cannot: LEA, MOV moffs, XLAT, BT..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from translator.decode import Insn
from translator.layout import ARITHMETIC, CF, EAX, EBX
from vmm.callouts import flags, operands
from vmm.callouts.operands import ADDRESS_MASK
from vmm.vcpu import VCpu

_CMP: Final = 7
_BT: Final = 0xA3
_BTS: Final = 0xAB
_BTR: Final = 0xB3
_BTC: Final = 0xBB


def lea(cpu: VCpu, insn: Insn) -> None:
    """LEA r, m: the offset, cut or zero-extended to the operand size."""
    cpu.write_reg(insn.reg, insn.opsize, operands.effective_address(cpu, insn))


def mov_moffs(cpu: VCpu, insn: Insn) -> None:
    """MOV between AL, AX or EAX and an absolute offset."""
    if insn.opcode >= 0xA2:
        operands.store(cpu, insn.seg, insn.imm, insn.size, cpu.read_reg(EAX, insn.size))
    else:
        cpu.write_reg(EAX, insn.size, operands.load(cpu, insn.seg, insn.imm, insn.size))


def xlat(cpu: VCpu, insn: Insn) -> None:
    """XLAT: AL from seg:[(E)BX + AL]."""
    offset = cpu.gpr[EBX] + cpu.read_reg(EAX, 1) & ADDRESS_MASK[insn.adsize]
    cpu.write_reg(EAX, 1, operands.load(cpu, insn.seg, offset, 1))


def bswap(cpu: VCpu, insn: Insn) -> None:
    """BSWAP: the whole register, whatever the operand size (16 bits are undefined)."""
    n = insn.opcode & 7
    cpu.gpr[n] = int.from_bytes(cpu.gpr[n].to_bytes(4, "little"), "big")


def inc_dec(cpu: VCpu, insn: Insn) -> None:
    """INC r and DEC r of one byte: CF stays."""
    n, size = insn.opcode & 7, insn.opsize
    compute = flags.subtract if insn.opcode & 8 else flags.add
    result, computed = compute(cpu.read_reg(n, size), 1, 0, size)
    cpu.write_reg(n, size, result)
    flags.put(cpu, computed, ARITHMETIC & ~CF)


def _logic(compute: Callable[[int, int], int]) -> Callable[[int, int, int], tuple[int, int]]:
    def run(a: int, b: int, carry: int) -> tuple[int, int]:
        result = compute(a, b)
        return result, flags.of_result(result, 1)

    return run


_GROUP1: Final[tuple[Callable[[int, int, int], tuple[int, int]], ...]] = (
    lambda a, b, carry: flags.add(a, b, 0, 1),
    _logic(lambda a, b: a | b),
    lambda a, b, carry: flags.add(a, b, carry, 1),
    lambda a, b, carry: flags.subtract(a, b, carry, 1),
    _logic(lambda a, b: a & b),
    lambda a, b, carry: flags.subtract(a, b, 0, 1),
    _logic(lambda a, b: a ^ b),
    lambda a, b, carry: flags.subtract(a, b, 0, 1),
)
"""ADD OR ADC SBB AND SUB XOR CMP of bytes, by /digit: the result and the flags."""


def alias_80(cpu: VCpu, insn: Insn) -> None:
    """82h: the arithmetic of 80h, r/m8 with imm8."""
    if insn.reg != _CMP:
        operands.probe_rm(cpu, insn, 1)
    carry = cpu.eflags & CF
    result, computed = _GROUP1[insn.reg](operands.read_rm(cpu, insn, 1), insn.imm & 0xFF, carry)
    if insn.reg != _CMP:
        operands.write_rm(cpu, insn, 1, result)
    flags.put(cpu, computed)


_BIT_OPERATIONS: Final[dict[int, Callable[[int, int], int]]] = {
    _BTS: lambda value, bit: value | bit,
    _BTR: lambda value, bit: value & ~bit,
    _BTC: lambda value, bit: value ^ bit,
}


def bt_reg(cpu: VCpu, insn: Insn) -> None:
    """BT BTS BTR BTC r/m, r: in memory the bit offset is signed and reaches beyond the operand; only CF changes."""
    size = insn.opsize
    bits = 8 * size
    index = cpu.read_reg(insn.reg, size)
    bit = 1 << index % bits
    change = _BIT_OPERATIONS.get(insn.opcode)
    if not insn.mem:
        value = cpu.read_reg(insn.rm, size)
        if change:
            cpu.write_reg(insn.rm, size, change(value, bit))
    else:
        signed = index - (1 << bits) if index & flags.SIGN[size] else index
        offset = operands.effective_address(cpu, insn) + signed // bits * size & ADDRESS_MASK[insn.adsize]
        address = operands.linear(cpu, insn.seg, offset, size, change is not None)
        user = cpu.cpl == 3
        if change:
            cpu.memory.probe_write(address, size, user)
        value = cpu.memory.read_int(address, size, user)
        if change:
            cpu.memory.write_int(address, size, change(value, bit), user)
    flags.put(cpu, CF if value & bit else 0, CF)
