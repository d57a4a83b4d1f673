"""Which breakpoints DR0 to DR3 and DR7 ask for, and which accesses meet them."""

from __future__ import annotations

import pytest

from tests.mmu.machine import Format, Paged
from vmm.breakpoints import ACCESS, EXECUTE, PORT, WRITE, Breakpoints
from vmm.vcpu import CR4_DE, VCpu

BYTE, WORD, EIGHT, DWORD = range(4)


@pytest.fixture(scope="module")
def cpu() -> VCpu:
    return Paged(Format()).cpu


def enabled(cpu: VCpu, *wanted: tuple[int, int, int, int]) -> Breakpoints:
    """Breakpoints by (address, R/W, LEN, enable bits)."""
    cpu.dr[7] = 0x400
    for n, (address, kind, length, enable) in enumerate(wanted):
        cpu.dr[n] = address
        cpu.dr[7] |= enable << 2 * n | (kind | length << 2) << 16 + 4 * n
    breakpoints = Breakpoints()
    breakpoints.update(cpu)
    return breakpoints


@pytest.mark.parametrize(
    ("kind", "length", "address", "access", "met"),
    [
        (WRITE, DWORD, 0x1000, (0x1000, 1, True), True),
        (WRITE, DWORD, 0x1000, (0x1003, 1, True), True),
        (WRITE, DWORD, 0x1000, (0x1004, 4, True), False),
        (WRITE, DWORD, 0x1000, (0x0FFD, 4, True), True),
        (WRITE, DWORD, 0x1000, (0x0FFC, 4, True), False),
        (WRITE, DWORD, 0x1000, (0x1000, 4, False), False),
        (ACCESS, DWORD, 0x1000, (0x1000, 4, False), True),
        (ACCESS, WORD, 0x1002, (0x1000, 2, False), False),
        (WRITE, DWORD, 0x1003, (0x1000, 1, True), True),  # the low bits of the address are not looked at
        (WRITE, BYTE, 0x1003, (0x1002, 1, True), False),
        (WRITE, EIGHT, 0x1008, (0x100F, 1, True), True),
        (PORT, BYTE, 0x1000, (0x1000, 1, True), False),
        (EXECUTE, BYTE, 0x1000, (0x1000, 1, True), False),
    ],
)
def test_an_access(cpu: VCpu, kind: int, length: int, address: int, access: tuple[int, int, bool], met: bool) -> None:
    assert enabled(cpu, (address, kind, length, 1)).hit(*access) == met


@pytest.mark.parametrize(
    ("length", "address", "access", "met"),
    [
        (BYTE, 0x60, (0x60, 1), True),
        (BYTE, 0x60, (0x5F, 1), False),
        (BYTE, 0x60, (0x5F, 2), True),
        (BYTE, 0x60, (0x5D, 4), True),
        (BYTE, 0x60, (0x5C, 4), False),
        (WORD, 0x61, (0x60, 1), True),  # the low bits of the address are not looked at
        (DWORD, 0x60, (0x63, 1), True),
        (DWORD, 0x60, (0x64, 1), False),
        (BYTE, 0x1_0060, (0x60, 1), False),  # ports are numbers of 16 bits, extended by zeroes
    ],
)
def test_a_port(cpu: VCpu, length: int, address: int, access: tuple[int, int], met: bool) -> None:
    cpu.cr4 = CR4_DE
    here = enabled(cpu, (0, WRITE, BYTE, 0), (address, PORT, length, 1))
    assert (here.hit_port(*access), here.code, here.data) == (0b10 * met, {}, [])
    cpu.cr4 = 0
    assert here.update(cpu)
    assert not here.active
    cpu.cr4 = CR4_DE
    assert here.update(cpu)
    assert here.hit_port(*access) == 0b10 * met
    cpu.cr4 = 0


@pytest.mark.parametrize(("enable", "found"), [(0, {}), (1, {0x1234: 1}), (2, {0x1234: 1}), (3, {0x1234: 1})])
def test_local_and_global_bits_enable(cpu: VCpu, enable: int, found: dict[int, int]) -> None:
    assert enabled(cpu, (0x1234, EXECUTE, BYTE, enable)).code == found


def test_all_that_are_met_are_told(cpu: VCpu) -> None:
    here = enabled(cpu, (0x10, WRITE, BYTE, 1), (0x13, WRITE, BYTE, 1), (0x10, EXECUTE, 0, 1), (0x10, EXECUTE, 0, 2))
    assert (here.hit(0x10, 4, True), here.code) == (0b11, {0x10: 0b1100})
    assert here.pages == {0: False}


def test_reads_of_a_page_count_if_one_breakpoint_wants_them(cpu: VCpu) -> None:
    assert enabled(cpu, (0x2000, WRITE, BYTE, 1), (0x2800, ACCESS, BYTE, 1)).pages == {2: True}


def test_an_update_tells_whether_something_changed(cpu: VCpu) -> None:
    breakpoints = enabled(cpu, (0x1000, EXECUTE, BYTE, 1))
    assert not breakpoints.update(cpu)
    cpu.dr[3] = 0x5000
    assert breakpoints.update(cpu)
    cpu.dr[7] = 0x400
    assert breakpoints.update(cpu)
    assert (breakpoints.code, breakpoints.data) == ({}, [])
    cpu.dr[0] = 7  # nobody looks at it
    assert not breakpoints.update(cpu)
