"""Effective addresses and segment checks."""

from __future__ import annotations

import pytest

from tests.callouts.machine import ALL, Machine
from translator.decode import decode
from translator.layout import CS, DS, SS
from vmm.callouts import operands
from vmm.errors import GuestFault

GP, STACK = 13, 12
DATA, READ_ONLY, DOWN, DOWN32, CODE, EXECUTE_ONLY, ABSENT = 0x93, 0x91, 0x97, 0x4097, 0x9B, 0x99, 0x13

# segment, limit, attributes, offset, size, write, fault
CHECKS = [
    (DS, 0xFFF, DATA, 0xFFF, 1, False, None),
    (DS, 0xFFF, DATA, 0xFFF, 2, False, GP),
    (DS, 0xFFF, DATA, 0xFFC, 4, True, None),
    (DS, 0xFFF, DATA, 0xFFD, 4, True, GP),
    (SS, 0xFFF, DATA, 0xFFD, 4, True, STACK),
    (SS, 0xFFF, DATA, 0x1000, 1, False, STACK),
    (DS, 0xFFFF, READ_ONLY, 0, 4, False, None),
    (DS, 0xFFFF, READ_ONLY, 0, 4, True, GP),
    (SS, 0xFFFF, READ_ONLY, 0, 4, True, STACK),
    (DS, 0xFFFF, CODE, 0, 4, False, None),
    (DS, 0xFFFF, CODE, 0, 4, True, GP),
    (DS, 0xFFFF, EXECUTE_ONLY, 0, 1, False, GP),
    (DS, 0xFFFF, ABSENT, 0, 1, False, GP),
    (DS, 0, 0, 0, 1, False, GP),  # a null selector
    (DS, 0x0FFF, DOWN, 0x0FFF, 1, True, GP),
    (DS, 0x0FFF, DOWN, 0x1000, 1, True, None),
    (DS, 0x0FFF, DOWN, 0xFFFF, 1, True, None),
    (DS, 0x0FFF, DOWN, 0xFFFF, 2, True, GP),
    (DS, 0x0FFF, DOWN32, 0x1_0000, 4, True, None),
    (DS, 0x0FFF, DOWN32, ALL, 2, True, GP),
    (DS, ALL, DATA, ALL, 4, True, None),  # 4 GiB: it may wrap around
    (CS, ALL, CODE, 0x1234, 4, False, None),
]


@pytest.mark.parametrize(("seg", "limit", "attr", "offset", "size", "write", "vector"), CHECKS)
def test_segment_checks(
    seg: int, limit: int, attr: int, offset: int, size: int, write: bool, vector: int | None
) -> None:
    cpu = Machine().flat().cpu
    cpu.set_segment(seg, 0x40, 0x1_0000, limit, attr)
    if vector is None:
        assert operands.linear(cpu, seg, offset, size, write) == 0x1_0000 + offset & ALL
    else:
        with pytest.raises(GuestFault) as fault:
            operands.linear(cpu, seg, offset, size, write)
        assert (fault.value.vector, fault.value.error) == (vector, 0)


@pytest.mark.parametrize(
    ("seg", "offset", "size", "vector"),
    [(CS, 0x10, 2, None), (DS, 0xFFFF, 1, None), (DS, 0xFFFF, 2, GP), (SS, 0xFFFE, 4, STACK), (DS, 0x1_0000, 1, GP)],
)
def test_real_mode_knows_limits_but_no_rights(seg: int, offset: int, size: int, vector: int | None) -> None:
    cpu = Machine().cpu  # CS holds code after RESET, and may be written
    if vector is None:
        assert operands.linear(cpu, seg, offset, size, True) == cpu.segments[seg].base + offset & ALL
    else:
        with pytest.raises(GuestFault) as fault:
            operands.linear(cpu, seg, offset, size, True)
        assert fault.value.vector == vector


# code, 32-bit code, effective address with EAX..EDI = 0x1_1100, 0x1_1101, ... in order of number
ADDRESSES = [
    ("8d 00", True, 0x1_1100),
    ("8d 40 ff", True, 0x1_10FF),
    ("8d 80 00 00 00 80", True, 0x8001_1100),
    ("8d 05 78 56 34 12", True, 0x1234_5678),
    ("8d 04 8d 04 00 00 00", True, 0x1_1101 * 4 + 4),
    ("8d 44 24 08", True, 0x1_110C),
    ("8d 84 f8 00 00 00 f0", True, 0x1_1100 + 0x1_1107 * 8 + 0xF000_0000 & ALL),
    ("67 8d 00", True, 0x1103 + 0x1106),
    ("8d 00", False, 0x1103 + 0x1106),
    ("8d 42 fe", False, 0x1105 + 0x1106 - 2),
    ("8d 06 34 12", False, 0x1234),
    ("8d 87 00 f0", False, 0x0103),
    ("67 8d 00", False, 0x1_1100),
]


@pytest.mark.parametrize(("code", "code32", "expected"), ADDRESSES)
def test_effective_address(code: str, code32: bool, expected: int) -> None:
    machine = Machine()
    for n in range(8):
        machine.cpu.gpr[n] = 0x1_1100 + n
    insn = decode(bytes.fromhex(code), code32)
    assert operands.effective_address(machine.cpu, insn) == expected
