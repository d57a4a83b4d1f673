"""Delivery beyond what the oracle can show: real mode, hardware interrupts, double and triple faults."""

from __future__ import annotations

import pytest

from tests.protection.machine import FlatMemory, make_cpu, snapshot
from tests.protection.tables import (
    GDT,
    HANDLERS,
    IDT,
    KCODE,
    KDATA,
    TSS_MAIN,
    UCODE,
    UDATA,
    gate,
    protected_cpu,
)
from translator.layout import CS, DS, ESP, IF_FLAG, RF, SS, TF, VM
from vmm import interrupts
from vmm.errors import ExitStatus, GuestFault, TripleFault
from vmm.interrupts import FAULT, HARDWARE, ICEBP, NMI, SOFTWARE, SOFTWARE_EXCEPTION
from vmm.vcpu import VCpu


def words(memory: FlatMemory, at: int, count: int, size: int) -> list[int]:
    return [memory.read_int(at + size * n, size) for n in range(count)]


def real_cpu() -> tuple[VCpu, FlatMemory]:
    cpu, memory = make_cpu()
    cpu.idtr = (0, 0x3FF)
    for vector in range(256):
        memory.write_int(4 * vector, 4, 0x8000_0000 | vector)
    cpu.gpr[ESP] = 0x7000
    cpu.eip, cpu.next_eip = 0x1000, 0x1002
    cpu.eflags = IF_FLAG | TF | RF | 1
    return cpu, memory


@pytest.mark.parametrize(
    ("kind", "error", "back"),
    [
        (HARDWARE, None, 0x1000),
        (NMI, None, 0x1000),
        (FAULT, 0x18, 0x1000),
        (SOFTWARE, None, 0x1002),
        (SOFTWARE_EXCEPTION, None, 0x1002),
        (ICEBP, None, 0x1002),
    ],
)
def test_real_mode(kind: int, error: int | None, back: int) -> None:
    cpu, memory = real_cpu()
    interrupts.deliver(cpu, 13, error, kind)
    assert (cpu.segments[CS].selector, cpu.segments[CS].base, cpu.next_eip) == (0x8000, 0x8_0000, 13)
    assert cpu.gpr[ESP] == 0x6FFA
    assert words(memory, 0x6FFA, 3, 2) == [back, 0xF000, 0x303]
    assert cpu.eflags == 3


def test_ivt_limit() -> None:
    cpu, memory = real_cpu()
    cpu.idtr = (0, 0x7F)
    before = snapshot(cpu, memory)
    with pytest.raises(GuestFault) as caught:
        interrupts.deliver(cpu, 0x20, None, SOFTWARE)
    assert caught.value.vector == 13
    assert snapshot(cpu, memory) == before


def test_real_mode_without_an_ivt_shuts_down() -> None:
    cpu, _ = real_cpu()
    cpu.idtr = (0, 0)
    with pytest.raises(TripleFault) as caught:
        interrupts.deliver(cpu, 6, None, FAULT)
    assert caught.value.status is ExitStatus.TRIPLE_FAULT


@pytest.mark.parametrize("ring", [0, 3])
def test_hardware_interrupt_wakes_the_cpu(ring: int) -> None:
    cpu, memory = protected_cpu(ring)
    cpu.halted, cpu.shadow = True, 1
    cpu.eflags = IF_FLAG | 2
    cpu.next_eip = 0x5555  # left over: the return address is EIP
    interrupts.deliver(cpu, 0x20)
    assert (cpu.halted, cpu.shadow, cpu.cpl, cpu.interrupts_enabled) == (False, 0, 0, False)
    assert cpu.eip == cpu.next_eip == HANDLERS + 0x200
    frame = words(memory, cpu.gpr[ESP], 5, 4)
    assert frame[:3] == [0xE0000, (KCODE, 0, 0, UCODE | 3)[ring], 0x202]
    assert cpu.gpr[ESP] == (0x5000 - 12, 0, 0, 0x6000 - 20)[ring]
    if ring:
        assert frame[3:] == [0x9000, UDATA | 3]
        assert (cpu.segments[SS].selector, cpu.segments[DS].selector) == (KDATA, UDATA | 3)


def broken(memory: FlatMemory, vector: int, how: str) -> None:
    """Make the delivery of *vector* fault: its gate is absent (#NP), or its code's descriptor (#PF)."""
    if how == "absent gate":
        memory.write_int(IDT + 8 * vector, 8, gate(KCODE, HANDLERS, 0x0E))
    else:
        memory.write_int(IDT + 8 * vector, 8, gate(4, HANDLERS, 0x8E))


NP, PF = "absent gate", "absent page"


@pytest.mark.parametrize(
    ("vector", "kind", "how", "expected"),
    [
        (0x20, HARDWARE, NP, (11, 0x103)),
        (0x20, HARDWARE, PF, (14, 0)),
        (2, NMI, NP, (11, 0x13)),
        (13, HARDWARE, NP, (11, 0x6B)),
        (6, FAULT, NP, (11, 0x33)),
        (6, FAULT, PF, (14, 0)),
        (1, FAULT, NP, (11, 0x0B)),
        (0, FAULT, NP, (8, 0)),
        (0, FAULT, PF, (14, 0)),
        (10, FAULT, NP, (8, 0)),
        (12, FAULT, NP, (8, 0)),
        (13, FAULT, NP, (8, 0)),
        (13, FAULT, PF, (14, 0)),
        (14, FAULT, NP, (8, 0)),
        (14, FAULT, PF, (8, 0)),
        (17, FAULT, NP, (11, 0x8B)),
        (8, FAULT, NP, None),
        (8, FAULT, PF, None),
    ],
)
def test_second_faults(vector: int, kind: int, how: str, expected: tuple[int, int] | None) -> None:
    """SDM vol. 3, table 6-5."""
    cpu, memory = protected_cpu()
    memory.write_int(IDT + 64, 8, gate(KCODE, HANDLERS + 0x80, 0x8E))
    cpu.set_segment(6, 0x30, 0x7_0000, 0x7F, 0x82)  # the LDT, in a page that is not there
    memory.absent.add(0x70)
    broken(memory, vector, how)
    if expected is None:
        with pytest.raises(TripleFault):
            interrupts.deliver(cpu, vector, 0, kind)
        return
    interrupts.deliver(cpu, vector, 0 if kind == FAULT else None, kind)
    assert (cpu.eip - HANDLERS) >> 4 == expected[0]
    assert words(memory, cpu.gpr[ESP], 3, 4) == [expected[1], 0xE0000, KCODE]
    assert cpu.cr2 == (0x7_0000 if how == PF else 0)


def test_double_fault_without_a_gate_shuts_down() -> None:
    cpu, memory = protected_cpu()
    broken(memory, 13, NP)
    broken(memory, 8, NP)
    with pytest.raises(TripleFault, match="0008:000e0000"):
        interrupts.deliver(cpu, 13, 0, FAULT)


@pytest.mark.parametrize("page", [GDT >> 12, TSS_MAIN >> 12, IDT >> 12, 5])
@pytest.mark.parametrize("ring", [0, 3])
def test_page_fault_in_a_software_interrupt_changes_nothing(page: int, ring: int) -> None:
    cpu, memory = protected_cpu(ring)
    cpu.gpr[ESP] = 0x6000
    before = snapshot(cpu, memory)
    memory.absent.add(page)
    with pytest.raises(GuestFault) as caught:
        interrupts.deliver(cpu, 0x60, None, SOFTWARE)
    assert (caught.value.vector, caught.value.error & 5) == (14, 0)
    assert snapshot(cpu, memory) == before


@pytest.mark.parametrize(
    ("vector", "kind", "rf"),
    [(14, FAULT, RF), (13, FAULT, RF), (1, FAULT, 0), (3, FAULT, 0), (8, FAULT, 0), (0x20, HARDWARE, 0), (2, NMI, 0)],
)
def test_resume_flag_in_the_image(vector: int, kind: int, rf: int) -> None:
    cpu, memory = protected_cpu()
    memory.write_int(IDT + 64, 8, gate(KCODE, HANDLERS + 0x80, 0x8E))
    interrupts.deliver(cpu, vector, None, kind)
    assert words(memory, cpu.gpr[ESP], 3, 4)[2] == 2 | rf
    assert cpu.eflags == 2


def test_debug_exception_clears_general_detect() -> None:
    cpu, _ = protected_cpu()
    cpu.dr[7] |= 0x2000
    interrupts.deliver_fault(cpu, GuestFault(1))
    assert cpu.dr[7] == 0x400


def test_page_fault_sets_cr2() -> None:
    cpu, memory = protected_cpu(3)
    interrupts.deliver_fault(cpu, GuestFault(14, 6, 0xDEAD_BEEF))
    assert cpu.cr2 == 0xDEAD_BEEF
    assert words(memory, cpu.gpr[ESP], 2, 4) == [6, 0xE0000]


def test_from_virtual_8086() -> None:
    cpu, memory = protected_cpu()
    cpu.eflags = VM | 2
    cpu.cpl = 3
    for n in range(6):
        cpu.set_segment(n, 0x1000 + n, 0x1_0000 + 16 * n, 0xFFFF, 0xF3)
    cpu.gpr[ESP] = 0x1234
    cpu.eip = 0x100
    interrupts.deliver(cpu, 13, 0, FAULT)
    assert words(memory, cpu.gpr[ESP], 10, 4) == [
        *(0, 0x100, 0x1001, VM | RF | 2, 0x1234, 0x1002),
        *(0x1000, 0x1003, 0x1004, 0x1005),
    ]
    assert (cpu.v86, cpu.cpl, [cpu.segments[n].selector for n in range(6)]) == (False, 0, [0, KCODE, KDATA, 0, 0, 0])
