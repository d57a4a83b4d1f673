"""MASKMOVQ, MASKMOVDQU and FXSAVE from the FXSAVE image that the loop provides."""

from __future__ import annotations

import pytest
import unicorn
from unicorn import x86_const as x86

from tests.callouts.machine import Machine
from translator import layout
from translator.layout import EBX, EDI

UD, NM, GP, PF = 6, 7, 13, 14
DATA = bytes(range(0x10, 0x20))
MASK = bytes.fromhex("80 00 ff 7f 81 00 00 c0 00 00 80 80 00 01 00 ff")
MASKMOVQ, MASKMOVDQU = b"\x0f\xf7\xca", b"\x66\x0f\xf7\xca"  # register 1 by the mask of register 2


def machine_with_registers() -> Machine:
    machine = Machine().flat()
    block, area = machine.cpu.block, layout.FX_AREA
    for n, value in ((1, DATA), (2, MASK)):
        block[area + 32 + 16 * n : area + 40 + 16 * n] = value[:8]
        block[area + 160 + 16 * n : area + 176 + 16 * n] = value
    machine.cpu.cr4 = 0x200
    machine.cpu.gpr[EDI] = 0x2FF9
    machine.memory.data[:] = b"\xee" * len(machine.memory.data)
    return machine


@pytest.mark.parametrize("code", [MASKMOVQ, MASKMOVDQU])
def test_maskmov(code: bytes) -> None:
    machine = machine_with_registers()
    machine.step(code)
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    uc.mem_map(0, 0x10000)
    uc.mem_write(0, b"\xee" * 0x10000)
    uc.mem_write(0x9000, DATA + MASK)
    # movq mm1, [9000h]; movq mm2, [9010h]; movdqu xmm1, [9000h]; movdqu xmm2, [9010h]
    loads = bytes.fromhex("0f6f0d00900000 0f6f1510900000 f30f6f0d00900000 f30f6f1510900000")
    uc.mem_write(0x8000, loads + code)
    uc.reg_write(x86.UC_X86_REG_EDI, 0x2FF9)
    uc.emu_start(0x8000, 0x8000 + len(loads + code))
    assert machine.memory.data[:0x8000] == uc.mem_read(0, 0x8000)
    assert machine.memory.data[0x2FF9] == 0x10


@pytest.mark.parametrize(
    ("code", "cr0", "cr4", "fault"),
    [
        (MASKMOVQ, 8, 0x200, (NM, None)),
        (MASKMOVQ, 4, 0x200, (UD, None)),
        (MASKMOVDQU, 0, 0, (UD, None)),
        (MASKMOVDQU, 8, 0x200, (NM, None)),
    ],
)
def test_maskmov_not_available(code: bytes, cr0: int, cr4: int, fault: tuple[int, None]) -> None:
    machine = machine_with_registers()
    machine.cpu.cr0 |= cr0
    machine.cpu.cr4 = cr4
    assert machine.fault(code) == fault


def test_maskmov_writes_all_or_nothing() -> None:
    machine = machine_with_registers()
    machine.memory.absent.add(3)
    assert machine.fault(MASKMOVDQU) == (PF, 2)
    assert machine.memory.data[0x2FF9] == 0xEE


@pytest.mark.parametrize(("cr4", "size"), [(0x200, 288), (0, 160)])
def test_fxsave(cr4: int, size: int) -> None:
    machine = machine_with_registers()
    machine.cpu.cr4 = cr4
    machine.cpu.gpr[EBX] = 0x4000
    machine.step(b"\x0f\xae\x03")
    area = layout.FX_AREA
    assert machine.memory.data[0x4000 : 0x4000 + size] == machine.cpu.block[area : area + size]
    assert machine.memory.data[0x4000 + size] == 0xEE
    machine.cpu.gpr[EBX] = 0x4008
    assert machine.fault(b"\x0f\xae\x03") == (GP, 0)
    machine.cpu.cr0 |= 8
    assert machine.fault(b"\x0f\xae\x03") == (NM, None)
