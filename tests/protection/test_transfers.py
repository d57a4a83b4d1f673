"""Far transfers in real mode, restartability, and the rows where the oracle differs from the SDM."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protection.machine import make_cpu, snapshot
from tests.protection.tables import (
    CONFORMING,
    GDT,
    KCODE,
    KCODE16,
    KDATA,
    TEST,
    TSS_MAIN,
    UCODE,
    UDATA,
    descriptor,
    gate,
    protected_cpu,
)
from translator.layout import CS, ESP, IF_FLAG, IOPL, NT, SS, VIF, VIP, VM
from vmm import flags, stack, transfers
from vmm.errors import GuestFault
from vmm.vcpu import VCpu


def test_real_mode_call_and_return() -> None:
    cpu, memory = make_cpu()
    cpu.gpr[ESP] = 0x7000
    cpu.next_eip = 0x105
    transfers.far_call(cpu, 0x2000, 0x1234, 2)
    assert (cpu.segments[CS].selector, cpu.segments[CS].base, cpu.next_eip) == (0x2000, 0x2_0000, 0x1234)
    assert memory.data[0x6FFC:0x7000].hex() == "050100f0"
    transfers.far_ret(cpu, 2, 6)
    assert (cpu.segments[CS].selector, cpu.next_eip, cpu.gpr[ESP]) == (0xF000, 0x105, 0x7006)


def test_real_mode_jump_keeps_limit_and_width() -> None:
    cpu, _ = make_cpu()
    cpu.set_segment(CS, 8, 0, 0xFFFF_FFFF, 0xC09B)
    transfers.far_jmp(cpu, 0x1000, 0x12_3456, 4)
    cs = cpu.segments[CS]
    assert (cs.base, cs.limit, cs.attr, cpu.next_eip) == (0x1_0000, 0xFFFF_FFFF, 0xC09B, 0x12_3456)


@pytest.mark.parametrize(
    ("size", "image", "expected"),
    [(2, 0xFFFF, 0x7FD7), (4, 0xFFFF_FFFF, 0x25_7FD7), (4, 0, 0x18_0002)],
)
def test_real_mode_iret_flags(size: int, image: int, expected: int) -> None:
    cpu, _ = make_cpu()
    cpu.gpr[ESP] = 0x7000
    stack.push_frame(cpu, (0x10, 0x2000, image & (1 << 8 * size) - 1), size)
    if image == 0:
        cpu.eflags = 0x3F_7FD7 & ~VM
    transfers.iret(cpu, size)
    assert cpu.eflags == expected
    assert cpu.gpr[ESP] == 0x7000


@pytest.mark.parametrize(
    "transfer",
    [
        lambda cpu: transfers.far_jmp(cpu, 0x1000, 0x1_0000, 4),
        lambda cpu: transfers.far_call(cpu, 0x1000, 0x1_0000, 4),
        lambda cpu: transfers.far_ret(cpu, 4),
        lambda cpu: transfers.iret(cpu, 4),
    ],
)
@pytest.mark.parametrize("v86", [False, True])
def test_8086_offsets_beyond_64k(transfer: Callable[[VCpu], None], v86: bool) -> None:
    cpu, memory = make_cpu()
    if v86:
        cpu.cr0 |= 1
        cpu.eflags = VM | IOPL
        cpu.cpl = 3
    cpu.gpr[ESP] = 0x7000
    stack.push_frame(cpu, (0x1_0000, 0x1000, 2), 4)
    before = snapshot(cpu, memory)
    with pytest.raises(GuestFault) as caught:
        transfer(cpu)
    assert (caught.value.vector, caught.value.error) == (13, 0)
    assert snapshot(cpu, memory) == before


def test_iret_to_virtual_8086_beyond_64k() -> None:
    cpu, memory = protected_cpu()
    stack.push_frame(cpu, (0x1_0000, 0x1000, VM | 2, 0x100, 0x2000, 1, 2, 3, 4), 4)
    before = snapshot(cpu, memory)
    with pytest.raises(GuestFault) as caught:
        transfers.iret(cpu, 4)
    assert (caught.value.vector, caught.value.error) == (13, 0)
    assert snapshot(cpu, memory) == before


def test_iret_to_virtual_8086() -> None:
    cpu, _ = protected_cpu()
    stack.push_frame(cpu, (0x10, 0x1000, VM | VIF | VIP | NT | IOPL | 2, 0x1_0100, 0x2000, 1, 2, 3, 4), 4)
    transfers.iret(cpu, 4)
    assert cpu.eflags == VM | VIF | VIP | NT | IOPL | 2
    assert [segment.selector for segment in cpu.segments[:6]] == [1, 0x1000, 0x2000, 2, 3, 4]
    assert (cpu.cpl, cpu.next_eip, cpu.gpr[ESP]) == (3, 0x10, 0x1_0100)
    assert {(segment.limit, segment.attr) for segment in cpu.segments[:6]} == {(0xFFFF, 0xF3)}


def test_iret_to_an_absent_stack() -> None:
    cpu, memory = protected_cpu()
    memory.write_int(GDT + TEST, 8, descriptor(0, 0xFFFFF, 0x72, 0xC))
    stack.push_frame(cpu, (0x10, UCODE | 3, 2, 0x9000, TEST | 3), 4)
    with pytest.raises(GuestFault) as caught:
        transfers.iret(cpu, 4)
    assert (caught.value.vector, caught.value.error) == (12, TEST)


def test_return_to_a_16_bit_stack_loads_sp_only() -> None:
    cpu, memory = protected_cpu()
    memory.write_int(GDT + TEST, 8, descriptor(0, 0xFFFF, 0xF2))
    stack.push_frame(cpu, (0x10, UCODE | 3, 2, 0xABCD_9000, TEST | 3), 4)
    transfers.iret(cpu, 4)
    assert cpu.gpr[ESP] == 0x9000
    assert not cpu.segments[SS].big


@pytest.mark.parametrize(
    ("ring", "iopl", "size", "mask"),
    [
        (0, 0, 2, 0x7FD5),
        (0, 0, 4, 0x25_7FD5),
        (3, 0, 2, 0x4DD5),
        (3, 0, 4, 0x25_4DD5),
        (3, 3, 4, 0x25_4FD5),
        (1, 1, 2, 0x4FD5),
        (2, 1, 2, 0x4DD5),
    ],
)
def test_changeable_flags(ring: int, iopl: int, size: int, mask: int) -> None:
    cpu, _ = protected_cpu(ring)
    cpu.eflags = iopl << 12
    assert flags.changeable(cpu, size) == mask


@pytest.mark.parametrize("size", [2, 4])
def test_popf_leaves_if_alone_below_iopl(size: int) -> None:
    cpu, _ = protected_cpu(3)
    cpu.eflags = IF_FLAG
    stack.push(cpu, IOPL, size)
    flags.popf(cpu, size)
    assert cpu.eflags == IF_FLAG | 2


CALL_GATE = TEST


@pytest.mark.parametrize(
    ("name", "ring", "transfer"),
    [
        ("call", 0, lambda cpu: transfers.far_call(cpu, KCODE16, 0x1000, 4)),
        ("jmp", 0, lambda cpu: transfers.far_jmp(cpu, CONFORMING, 0x1000, 4)),
        ("gate", 3, lambda cpu: transfers.far_call(cpu, CALL_GATE | 3, 0, 4)),
        ("retf", 0, lambda cpu: transfers.far_ret(cpu, 4, 4)),
        ("iret", 0, lambda cpu: transfers.iret(cpu, 4)),
        ("popf", 3, lambda cpu: flags.popf(cpu, 4)),
        ("pushf", 3, lambda cpu: flags.pushf(cpu, 4)),
    ],
)
@pytest.mark.parametrize("damage", ["gdt", "gdt read-only", "tss", "stack", "inner stack"])
def test_page_faults_change_nothing(name: str, ring: int, transfer: Callable[[VCpu], None], damage: str) -> None:
    cpu, memory = protected_cpu(ring)
    memory.write_int(GDT + CALL_GATE, 8, gate(KCODE, 0x1000, 0xEC, 2))
    cpu.set_segment(7, 0x28, 0x3000, 0xC8, 0x8B)
    memory.data[0x3000:0x3068] = memory.data[TSS_MAIN : TSS_MAIN + 0x68]
    stack.push_frame(cpu, (0x10, UCODE | 3, 2, 0x9000, UDATA | 3), 4)
    before = snapshot(cpu, memory)
    page = {"gdt": GDT, "gdt read-only": GDT, "tss": 0x3000, "stack": cpu.gpr[ESP], "inner stack": 0x5FF0}[damage] >> 12
    (memory.read_only if damage == "gdt read-only" else memory.absent).add(page)
    if name in SUCCEEDS[damage]:
        transfer(cpu)
        return
    with pytest.raises(GuestFault) as caught:
        transfer(cpu)
    assert caught.value.vector == 14
    # All but memory: what lies below the top of a stack is nobody's.
    assert snapshot(cpu, memory)[:-1] == before[:-1]


SUCCEEDS = {
    "gdt": {"popf", "pushf"},
    "gdt read-only": {"popf", "pushf"},
    "tss": {"call", "jmp", "retf", "iret", "popf", "pushf"},
    "stack": {"jmp"},
    "inner stack": {"call", "jmp", "retf", "iret", "popf", "pushf"},
}
"""What does not touch the damaged page."""


def test_inner_stack_parameters() -> None:
    cpu, memory = protected_cpu(3)
    memory.write_int(GDT + CALL_GATE, 8, gate(KCODE, 0x1000, 0xEC, 2))
    stack.push_frame(cpu, (0xAA, 0xBB, 0xCC), 4)
    cpu.next_eip = 0x77
    transfers.far_call(cpu, CALL_GATE | 3, 0, 4)
    assert (cpu.cpl, cpu.segments[SS].selector, cpu.next_eip) == (0, KDATA, 0x1000)
    assert stack.read_frame(cpu, 4, 6) == (0x77, UCODE | 3, 0xAA, 0xBB, 0x9000 - 12, UDATA | 3)
    transfers.far_ret(cpu, 4, 8)
    assert (cpu.cpl, cpu.next_eip, cpu.gpr[ESP]) == (3, 0x77, 0x9000 - 4)
