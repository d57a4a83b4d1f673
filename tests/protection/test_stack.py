"""Pushes and pops: widths, wraps, limits, and all or nothing."""

from __future__ import annotations

import pytest

from tests.protection.machine import make_cpu, snapshot
from tests.protection.tables import protected_cpu
from translator.layout import ESP, SS
from vmm import stack
from vmm.errors import GuestFault

BIG, SMALL, DOWN, BIG_DOWN = 0x4093, 0x0093, 0x0097, 0x4097


@pytest.mark.parametrize(
    ("offset", "size", "limit", "attr", "expected"),
    [
        (0xFFFE, 2, 0xFFFF, SMALL, False),
        (0xFFFE, 4, 0xFFFF, SMALL, True),
        (0xFFFF_FFFC, 4, 0xFFFF_FFFF, BIG, False),
        (0xFFFF_FFFE, 4, 0xFFFF_FFFF, BIG, True),
        (0x1000, 4, 0xFFF, DOWN, False),
        (0x0FFF, 4, 0xFFF, DOWN, True),
        (0xFFFE, 4, 0xFFF, DOWN, True),
        (0xFFFE, 4, 0xFFF, BIG_DOWN, False),
        (0, 1, 0, SMALL, False),
        (0, 1, 0xFFFF_FFFF, BIG_DOWN, True),
    ],
)
def test_outside(offset: int, size: int, limit: int, attr: int, expected: bool) -> None:
    assert stack.outside(offset, size, limit, attr) is expected


@pytest.mark.parametrize(
    ("attr", "limit", "esp", "values", "size", "new", "bytes_at"),
    [
        (BIG, 0xFFFF_FFFF, 0x1_0000, (1, 2), 4, 0xFFF8, {0xFFF8: "0100000002000000"}),
        (SMALL, 0xFFFF, 0xABCD_0000, (0x1234,), 2, 0xABCD_FFFE, {0xFFFE: "3412"}),
        (SMALL, 0xFFFF, 0x2, (1, 2), 2, 0xFFFE, {0xFFFE: "0100", 0: "0200"}),
        (SMALL, 0x1_FFFF, 0x2, (1, 2), 2, 0xFFFE, {0xFFFE: "0100", 0: "0200"}),
        (DOWN, 0x0FFF, 0x1004, (7,), 4, 0x1000, {0x1000: "07000000"}),
    ],
)
def test_push(
    attr: int, limit: int, esp: int, values: tuple[int, ...], size: int, new: int, bytes_at: dict[int, str]
) -> None:
    cpu, memory = make_cpu()
    cpu.set_segment(SS, 0, 0, limit, attr)
    cpu.gpr[ESP] = esp
    stack.push_frame(cpu, values, size)
    assert cpu.gpr[ESP] == new
    for at, expected in bytes_at.items():
        assert memory.data[at : at + len(expected) // 2].hex() == expected
    assert stack.read_frame(cpu, size, len(values)) == values
    assert stack.pop(cpu, size) == values[0]


@pytest.mark.parametrize(
    ("attr", "limit", "esp"),
    [(SMALL, 0xFFFF, 1), (SMALL, 0xFFFF, 2), (BIG, 0xFF, 0x200), (BIG, 0xFF, 0), (DOWN, 0xFFF, 0x1002)],
)
def test_stack_fault_changes_nothing(attr: int, limit: int, esp: int) -> None:
    cpu, memory = make_cpu()
    cpu.set_segment(SS, 0, 0, limit, attr)
    cpu.gpr[ESP] = esp
    before = snapshot(cpu, memory)
    with pytest.raises(GuestFault) as caught:
        stack.push_frame(cpu, (1, 2, 3), 4)
    assert (caught.value.vector, caught.value.error) == (12, 0)
    assert snapshot(cpu, memory) == before


@pytest.mark.parametrize(("ring", "error"), [(0, 2), (3, 6)])
def test_page_fault_of_a_wrapped_push(ring: int, error: int) -> None:
    cpu, memory = protected_cpu(ring)
    cpu.set_segment(SS, cpu.segments[SS].selector, 0, 0xFFFF, SMALL)
    cpu.gpr[ESP] = 4
    memory.absent.add(0)
    before = snapshot(cpu, memory)
    with pytest.raises(GuestFault) as caught:
        stack.push_frame(cpu, (1, 2, 3), 4)
    assert (caught.value.vector, caught.value.error, caught.value.cr2) == (14, error, 0)
    assert snapshot(cpu, memory) == before
