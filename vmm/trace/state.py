"""The state of a machine's CPU that traces hold."""

from __future__ import annotations

from translator.decode import MAX_LENGTH, TooLong, Truncated, Undefined, decode
from translator.layout import CS
from vmm.engine import Engine
from vmm.errors import GuestFault


def registers(engine: Engine) -> tuple[int, ...]:
    """The values of ``vmm.trace.format.REGISTERS``."""
    cpu = engine.cpu
    selectors = (segment.selector for segment in cpu.segments[:6])
    return (*cpu.gpr, cpu.eip, cpu.eflags, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, *selectors)


def code_at_eip(engine: Engine) -> bytes:
    """The bytes of the instruction at CS:EIP; what can be read of them if it is none."""
    cpu, mmu = engine.cpu, engine.mmu
    linear = cpu.segments[CS].base + cpu.eip
    code = b""
    try:
        while len(code) < MAX_LENGTH:
            at = linear + len(code) & 0xFFFF_FFFF
            room = min(MAX_LENGTH - len(code), 0x1000 - at % 0x1000)
            where = mmu.code_address(at, cpu.cpl == 3)
            code += engine.physical.read(where, room)
            try:
                return code[: decode(code, cpu.segments[CS].big).length]
            except Truncated:
                continue
    except (GuestFault, TooLong, Undefined):
        pass
    return code
