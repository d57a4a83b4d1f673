"""What the bare engine's CPU has of a system: GDT, LDT, TSS and IDT, so that far transfers and traps of ring 3 work.

An interrupt gate leads to a HLT of its own, where ``leave`` takes the interrupted state off the stack of ring 0.  As
under Linux, ring 3 may use the gates of INT3 and INTO alone.
"""

from __future__ import annotations

import struct
from typing import Final

from tests.support.segments import descriptors
from translator.layout import ESP, LDTR, TR
from vmm.vcpu import VCpu

AT: Final = 0x12_0000
"""Linear and guest-physical address."""
PAGES: Final = range(AT >> 12, (AT >> 12) + 4)
"""Numbers of the pages, which ring 3 cannot reach."""
_LDT, _TSS, _IDT, _HANDLERS, _STACK = AT + 0x100, AT + 0x400, AT + 0x800, AT + 0x1000, AT + 0x4000
_TSS_SIZE: Final = 0x68
_CODE, _DATA, _LDT_SELECTOR, _TSS_SELECTOR = 0x08, 0x10, 0x18, 0x20
_GDT: Final = struct.pack("<3Q", 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
_GATE, _USER_GATE = 0x8E00, 0xEE00
_OPEN: Final = (3, 4)
"""Vectors whose gates ring 3 may use."""


def image() -> bytes:
    """The pages."""
    found = bytearray(len(PAGES) << 12)

    def put(address: int, data: bytes) -> None:
        found[address - AT : address - AT + len(data)] = data

    put(AT, _GDT)
    put(_LDT, descriptors())
    put(_TSS, struct.pack("<3I", 0, _STACK, _DATA).ljust(_TSS_SIZE - 2, b"\0") + _TSS_SIZE.to_bytes(2, "little"))
    put(_HANDLERS, b"\xf4" * 0x1000)
    for vector in range(256):
        handler = _HANDLERS + 16 * vector
        gate = _USER_GATE if vector in _OPEN else _GATE
        put(_IDT + 8 * vector, struct.pack("<HHHH", handler & 0xFFFF, _CODE, gate, handler >> 16))
    return bytes(found)


def load(cpu: VCpu) -> None:
    """Load GDTR, IDTR, LDTR and TR."""
    cpu.gdtr = AT, 0xFF
    cpu.idtr = _IDT, 0x7FF
    cpu.set_segment(LDTR, _LDT_SELECTOR, _LDT, len(descriptors()) - 1, 0x82)
    cpu.set_segment(TR, _TSS_SELECTOR, _TSS, _TSS_SIZE - 1, 0x8B)


def leave(cpu: VCpu) -> int:
    """Put what a gate interrupted back into EIP, ESP and EFLAGS; the vector, by the HLT at EIP."""
    vector = (cpu.eip - 1 - _HANDLERS) // 16
    eip, _, flags, esp, _ = struct.unpack("<5I", cpu.memory.read(cpu.gpr[ESP], 20))
    cpu.eip, cpu.gpr[ESP], cpu.eflags = eip, esp, flags
    return vector
