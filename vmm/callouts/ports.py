"""IN and OUT (SDM vol. 1, chapter 19), and the accesses to ports that INS and OUTS of ``vmm.callouts.strings`` make."""

from __future__ import annotations

from translator.decode import Insn
from translator.layout import EAX, EDX
from vmm.callouts.operands import element_size
from vmm.iopermission import check_port
from vmm.vcpu import VCpu


def read_port(cpu: VCpu, port: int, size: int) -> int:
    """What *size* ports from *port* on say; the access is allowed."""
    value = cpu.ports.read(port, size)
    if cpu.watched:
        cpu.on_port(port, size)
    return value


def write_port(cpu: VCpu, port: int, size: int, value: int) -> None:
    """Tell *size* ports from *port* on; the access is allowed."""
    cpu.ports.write(port, size, value)
    if cpu.watched:
        cpu.on_port(port, size)


def _in(cpu: VCpu, port: int, size: int) -> None:
    check_port(cpu, port, size)
    cpu.write_reg(EAX, size, read_port(cpu, port, size))


def _out(cpu: VCpu, port: int, size: int) -> None:
    check_port(cpu, port, size)
    write_port(cpu, port, size, cpu.read_reg(EAX, size))


def in_imm(cpu: VCpu, insn: Insn) -> None:
    """IN AL|AX|EAX, imm8: #GP(0)."""
    _in(cpu, insn.imm & 0xFF, element_size(insn))


def in_dx(cpu: VCpu, insn: Insn) -> None:
    """IN AL|AX|EAX, DX: #GP(0)."""
    _in(cpu, cpu.gpr[EDX] & 0xFFFF, element_size(insn))


def out_imm(cpu: VCpu, insn: Insn) -> None:
    """OUT imm8, AL|AX|EAX: #GP(0)."""
    _out(cpu, insn.imm & 0xFF, element_size(insn))


def out_dx(cpu: VCpu, insn: Insn) -> None:
    """OUT DX, AL|AX|EAX: #GP(0)."""
    _out(cpu, cpu.gpr[EDX] & 0xFFFF, element_size(insn))
