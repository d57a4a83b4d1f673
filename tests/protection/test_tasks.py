"""Task switches: what comes before the point of no return changes nothing; paging, debug registers, T."""

from __future__ import annotations

import pytest

from tests.protection.machine import snapshot
from tests.protection.tables import (
    GDT,
    KCODE,
    KDATA,
    TARGET,
    TSS_A,
    TSS_A_SEL,
    TSS_B_SEL,
    TSS_MAIN,
    TSS_SEL,
    descriptor,
    protected_cpu,
)
from translator.layout import CS, EAX, ESP, LDTR, NT, SS, TR
from vmm import interrupts, stack, transfers
from vmm.errors import GuestFault
from vmm.vcpu import CR0_PG, CR0_TS


def test_call_and_return() -> None:
    cpu, memory = protected_cpu()
    cpu.gpr[EAX] = 0x1234_5678
    cpu.next_eip = 0x99
    transfers.far_call(cpu, TSS_A_SEL, 0, 4)
    assert (cpu.eip, cpu.next_eip, cpu.gpr[EAX], cpu.segments[TR].selector) == (TARGET, TARGET, 0xA1, TSS_A_SEL)
    assert cpu.eflags & NT
    assert cpu.cr0 & CR0_TS
    assert memory.read_int(TSS_A, 2) == TSS_SEL
    assert [memory.data[GDT + selector + 5] for selector in (TSS_SEL, TSS_A_SEL)] == [0x8B, 0x8B]
    transfers.iret(cpu, 4)
    assert (cpu.next_eip, cpu.gpr[EAX], cpu.segments[TR].selector) == (0x99, 0x1234_5678, TSS_SEL)
    assert not cpu.eflags & NT
    assert [memory.data[GDT + selector + 5] for selector in (TSS_SEL, TSS_A_SEL)] == [0x8B, 0x89]


@pytest.mark.parametrize(
    ("absent", "read_only", "cr2"),
    [(0x8, None, 0x8000), (None, 0x8, 0x8000), (None, 0x2, GDT + TSS_SEL + 5), (0x9, None, 0x9000)],
    ids=["new TSS", "new TSS read-only", "GDT read-only", "old TSS"],
)
def test_page_faults_belong_to_the_old_task(absent: int | None, read_only: int | None, cr2: int) -> None:
    cpu, memory = protected_cpu()
    memory.data[0x8000:0x8068] = memory.data[TSS_A : TSS_A + 0x68]
    memory.write_int(GDT + TSS_A_SEL, 8, descriptor(0x8000, 0x67, 0x89))
    cpu.set_segment(TR, TSS_SEL, 0x9000 - 0x20, 0x67, 0x8B)
    before = snapshot(cpu, memory)
    if absent is not None:
        memory.absent.add(absent)
    if read_only is not None:
        memory.read_only.add(read_only)
    transfer = transfers.far_call if read_only == 8 else transfers.far_jmp
    with pytest.raises(GuestFault) as caught:
        transfer(cpu, TSS_A_SEL, 0, 4)
    assert (caught.value.vector, caught.value.cr2) == (14, cr2)
    assert snapshot(cpu, memory) == before


@pytest.mark.parametrize(
    ("new", "old", "error"),
    [((0x66, 0x89), 0xC8, TSS_A_SEL), ((0x2A, 0x81), 0xC8, TSS_A_SEL), ((0x67, 0x89), 0x5E, TSS_SEL)],
)
def test_short_tss(new: tuple[int, int], old: int, error: int) -> None:
    cpu, memory = protected_cpu()
    memory.write_int(GDT + TSS_A_SEL, 8, descriptor(TSS_A, *new))
    cpu.set_segment(TR, TSS_SEL, TSS_MAIN, old, 0x8B)
    before = snapshot(cpu, memory)
    with pytest.raises(GuestFault) as caught:
        transfers.far_jmp(cpu, TSS_A_SEL, 0, 4)
    assert (caught.value.vector, caught.value.error) == (10, error)
    assert snapshot(cpu, memory) == before


def test_paging_and_debug_registers() -> None:
    cpu, memory = protected_cpu()
    memory.write_int(TSS_A + 0x1C, 4, 0x5_5000)
    cpu.cr0 |= CR0_PG
    cpu.dr[7] = 0x4FF
    told: list[str] = []
    cpu.on_control_change = told.append
    transfers.far_jmp(cpu, TSS_A_SEL, 0, 4)
    assert (cpu.cr3, cpu.dr[7]) == (0x5_5000, 0x4AA)
    assert told == ["cr3", "cr0"]


def test_cr3_stays_without_paging() -> None:
    cpu, memory = protected_cpu()
    memory.write_int(TSS_A + 0x1C, 4, 0x5_5000)
    transfers.far_jmp(cpu, TSS_A_SEL, 0, 4)
    assert cpu.cr3 == 0


def test_trap_flag_of_the_tss() -> None:
    cpu, memory = protected_cpu()
    memory.write_int(TSS_A + 0x64, 2, 1)
    with pytest.raises(GuestFault) as caught:
        transfers.far_jmp(cpu, TSS_A_SEL, 0, 4)
    assert caught.value.vector == 1
    assert (cpu.eip, cpu.dr[6] & 0x8000, cpu.segments[CS].selector) == (TARGET, 0x8000, KCODE)


def test_error_code_goes_to_the_new_stack() -> None:
    cpu, _ = protected_cpu(3)
    cpu.eip = 0x4321
    interrupts.deliver(cpu, 8, 0, interrupts.FAULT)  # through a task gate
    assert (cpu.segments[SS].selector, cpu.gpr[ESP]) == (KDATA, 0xCFFC)
    assert stack.read_frame(cpu, 4, 1) == (0,)


def test_fault_in_the_new_task() -> None:
    """The faults of the second half find the new task's registers and a stack from its TSS."""
    cpu, memory = protected_cpu()
    memory.write_int(TSS_A + 0x60, 2, KDATA)  # no LDT
    with pytest.raises(GuestFault) as caught:
        transfers.far_jmp(cpu, TSS_A_SEL, 0, 4)
    assert (caught.value.vector, caught.value.error) == (10, KDATA)
    assert (cpu.eip, cpu.gpr[EAX], cpu.segments[TR].selector, cpu.segments[LDTR].attr) == (TARGET, 0xA1, TSS_A_SEL, 0)
    interrupts.deliver_fault(cpu, caught.value)
    assert (cpu.cpl, cpu.segments[SS].selector, cpu.gpr[ESP]) == (0, KDATA, 0x6000 - 24)


def test_16_bit_task_keeps_upper_halves() -> None:
    cpu, _ = protected_cpu()
    cpu.gpr[EAX] = 0xABCD_0000
    transfers.far_jmp(cpu, TSS_B_SEL, 0, 4)
    assert cpu.gpr[EAX] == 0xABCD_00B1
