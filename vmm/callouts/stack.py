"""PUSH and POP in all forms, PUSHA, POPA, ENTER, LEAVE, PUSHF, POPF, through a checked SS of either width."""

from __future__ import annotations

from typing import Final

from translator.decode import Insn
from translator.layout import CS, DS, EBP, ES, ESP, FS, GS, SS
from vmm import flags, segmentation, stack
from vmm.callouts import operands
from vmm.callouts.operands import ALL_ONES
from vmm.callouts.segments import POPPED, hold_interrupts
from vmm.errors import GuestFault
from vmm.vcpu import VCpu

_PUSHED: Final = {0x06: ES, 0x0E: CS, 0x16: SS, 0x1E: DS, 0xA0: FS, 0xA8: GS}


def push_reg(cpu: VCpu, insn: Insn) -> None:
    """PUSH r16, r32: PUSH ESP pushes what it was."""
    stack.push(cpu, cpu.gpr[insn.opcode & 7], insn.opsize)


def push_imm(cpu: VCpu, insn: Insn) -> None:
    """PUSH imm8 (sign-extended), imm16, imm32."""
    stack.push(cpu, insn.imm, insn.opsize)


def push_rm(cpu: VCpu, insn: Insn) -> None:
    """PUSH r/m16, r/m32."""
    stack.push(cpu, operands.read_rm(cpu, insn, insn.opsize), insn.opsize)


def push_seg(cpu: VCpu, insn: Insn) -> None:
    """PUSH Sreg: zero-extended to the operand size."""
    stack.push(cpu, cpu.segments[_PUSHED[insn.opcode]].selector, insn.opsize)


def pop_reg(cpu: VCpu, insn: Insn) -> None:
    """POP r16, r32: POP ESP keeps what was popped."""
    value = stack.pop(cpu, insn.opsize)
    cpu.write_reg(insn.opcode & 7, insn.opsize, value)


def pop_rm(cpu: VCpu, insn: Insn) -> None:
    """POP r/m16, r/m32: an address by ESP is computed with ESP as it is after the pop."""
    before = cpu.gpr[ESP]
    value = stack.pop(cpu, insn.opsize)
    try:
        operands.write_rm(cpu, insn, insn.opsize, value)
    except GuestFault:
        cpu.gpr[ESP] = before
        raise


def pop_seg(cpu: VCpu, insn: Insn) -> None:
    """POP Sreg: #GP, #NP, #SS.  POP SS moves the stack pointer by the width of the old SS."""
    n = POPPED[insn.opcode]
    (value,) = stack.read_frame(cpu, insn.opsize, 1, accessed=2)
    mask = cpu.stack_mask
    segmentation.load_segment(cpu, n, value & 0xFFFF)
    esp = cpu.gpr[ESP]
    cpu.gpr[ESP] = esp & ~mask & ALL_ONES | esp + insn.opsize & mask
    if n == SS:
        hold_interrupts(cpu)


def pusha(cpu: VCpu, insn: Insn) -> None:
    """PUSHA, PUSHAD: EAX ECX EDX EBX, ESP as it was, EBP ESI EDI."""
    mask = operands.ADDRESS_MASK[insn.opsize]
    stack.push_frame(cpu, tuple(cpu.gpr[n] & mask for n in range(7, -1, -1)), insn.opsize)


def popa(cpu: VCpu, insn: Insn) -> None:
    """POPA, POPAD: the image of ESP is skipped."""
    size = insn.opsize
    values = stack.read_frame(cpu, size, 8)
    for n, value in zip(range(7, -1, -1), values, strict=True):
        if n != ESP:
            cpu.write_reg(n, size, value)
    stack.drop(cpu, 8 * size)


def enter(cpu: VCpu, insn: Insn) -> None:
    """ENTER imm16, imm8: a frame with up to 31 pointers of enclosing frames.

    Like the hardware it may have written below the stack pointer when a fault comes; registers are untouched then.
    """
    size, level = insn.opsize, insn.far_selector & 31
    mask, value_mask = cpu.stack_mask, operands.ADDRESS_MASK[size]
    ebp, esp = cpu.gpr[EBP], cpu.esp

    def push(value: int) -> None:
        nonlocal esp
        esp = esp - size & mask
        operands.store(cpu, SS, esp, size, value & value_mask)

    push(ebp)
    frame = cpu.gpr[ESP] & ~mask & ALL_ONES | esp
    for n in range(1, level):
        push(operands.load(cpu, SS, ebp - n * size & mask, size))
    if level:
        push(frame)
    esp = esp - insn.imm & mask
    # The final stack pointer must be fit for a write (SDM vol. 2, ENTER).
    cpu.memory.probe_write(operands.linear(cpu, SS, esp, size, True), size, cpu.cpl == 3)
    cpu.write_reg(EBP, size, frame)
    cpu.esp = esp


def leave(cpu: VCpu, insn: Insn) -> None:
    """LEAVE: the stack pointer from EBP, then pop EBP."""
    esp = cpu.gpr[EBP] & cpu.stack_mask
    value = operands.load(cpu, SS, esp, insn.opsize)
    cpu.esp = esp + insn.opsize
    cpu.write_reg(EBP, insn.opsize, value)


def pushf(cpu: VCpu, insn: Insn) -> None:
    """PUSHF, PUSHFD: #GP(0) in virtual-8086 mode below IOPL 3."""
    flags.pushf(cpu, insn.opsize)


def popf(cpu: VCpu, insn: Insn) -> None:
    """POPF, POPFD: #GP(0) in virtual-8086 mode below IOPL 3."""
    flags.popf(cpu, insn.opsize)
