"""Segment loads where the hidden part shows, and what a page fault leaves behind."""

from __future__ import annotations

import pytest

from tests.protection.machine import make_cpu, snapshot
from tests.protection.tables import (
    CONFORMING,
    GDT,
    KCODE,
    KDATA,
    LDT_SEL,
    R1DATA,
    TEST,
    TSS_A_SEL,
    UCODE,
    UDATA,
    descriptor,
    protected_cpu,
)
from translator.layout import DS, ES, FS, GS, LDTR, SS, TR, VM
from vmm import segmentation
from vmm.errors import GuestFault


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0x00CF_9300_0000_FFFF, (0, 0xFFFF_FFFF, 0xC093)),
        (0x0040_9A0F_0000_FFFF, (0xF_0000, 0xFFFF, 0x409A)),
        (0x1280_9234_5678_0000, (0x1234_5678, 0xFFF, 0x8092)),
        (0x000F_9200_0000_FFFF, (0, 0xF_FFFF, 0x0092)),
        (0x0000_0000_0000_0000, (0, 0, 0)),
    ],
)
def test_unpack(value: int, expected: tuple[int, int, int]) -> None:
    assert segmentation.unpack(value) == expected


def test_real_mode_keeps_limit_and_attributes() -> None:
    cpu, _ = make_cpu()
    cpu.set_segment(DS, 0, 0, 0xFFFF_FFFF, 0xC093)
    segmentation.load_segment(cpu, DS, 0x1234)
    ds = cpu.segments[DS]
    assert (ds.selector, ds.base, ds.limit, ds.attr) == (0x1234, 0x1_2340, 0xFFFF_FFFF, 0xC093)


def test_real_mode_revives_a_null_segment() -> None:
    cpu, _ = protected_cpu()
    segmentation.load_segment(cpu, DS, 0)
    cpu.cr0 &= ~1
    segmentation.load_segment(cpu, DS, 0x10)
    assert (cpu.segments[DS].base, cpu.segments[DS].attr) == (0x100, 0x93)


def test_virtual_8086_load() -> None:
    cpu, _ = protected_cpu()
    cpu.eflags |= VM
    segmentation.load_segment(cpu, SS, 0xFFFF)
    ss = cpu.segments[SS]
    assert (ss.selector, ss.base, ss.limit, ss.attr) == (0xFFFF, 0xF_FFF0, 0xFFFF, 0xF3)


@pytest.mark.parametrize(
    ("ring", "n", "selector", "expected"),
    [
        (0, DS, UDATA, (UDATA, 0, 0xFFFF_FFFF, 0xC0F3)),
        (3, DS, UDATA | 3, (UDATA | 3, 0, 0xFFFF_FFFF, 0xC0F3)),
        (3, ES, CONFORMING | 3, (CONFORMING | 3, 0, 0xFFFF_FFFF, 0xC09F)),
        (0, FS, 3, (3, 0, 0, 0)),
        (0, GS, 0x14, (0x14, 0, 0x1F, 0x40F1)),
    ],
)
def test_protected_load(ring: int, n: int, selector: int, expected: tuple[int, int, int, int]) -> None:
    cpu, _ = protected_cpu(ring)
    segmentation.load_segment(cpu, n, selector)
    segment = cpu.segments[n]
    assert (segment.selector, segment.base, segment.limit, segment.attr) == expected


@pytest.mark.parametrize(
    ("ring", "n", "selector", "fault"),
    [
        (0, SS, 0, (13, 0)),
        (0, SS, KDATA | 1, (13, KDATA)),
        (0, SS, KCODE, (13, KCODE)),
        (0, SS, TEST, (12, TEST)),
        (0, DS, TEST, (11, TEST)),
        (3, DS, KDATA | 3, (13, KDATA)),
        (0, DS, R1DATA | 2, (13, R1DATA)),
        (0, DS, 0x140, (13, 0x140)),
        (0, DS, 0x84, (13, 0x84)),
        (0, DS, LDT_SEL, (13, LDT_SEL)),
    ],
)
def test_faults_change_nothing(ring: int, n: int, selector: int, fault: tuple[int, int]) -> None:
    cpu, memory = protected_cpu(ring)
    memory.write_int(GDT + TEST, 8, descriptor(0, 0xFFFFF, 0x12, 0xC))
    before = snapshot(cpu, memory)
    with pytest.raises(GuestFault) as caught:
        segmentation.load_segment(cpu, n, selector)
    assert (caught.value.vector, caught.value.error) == fault
    assert snapshot(cpu, memory) == before


def test_accessed_bit_in_a_read_only_page() -> None:
    cpu, memory = protected_cpu()
    before = snapshot(cpu, memory)
    memory.read_only.add(GDT >> 12)
    with pytest.raises(GuestFault) as caught:
        segmentation.load_segment(cpu, DS, UDATA)
    assert (caught.value.vector, caught.value.error, caught.value.cr2) == (14, 3, GDT + UDATA + 5)
    assert snapshot(cpu, memory) == before


def test_accessed_bit_is_written_once() -> None:
    cpu, memory = protected_cpu()
    segmentation.load_segment(cpu, DS, UDATA)
    assert memory.data[GDT + UDATA + 5] == 0xF3
    memory.read_only.add(GDT >> 12)
    segmentation.load_segment(cpu, ES, UDATA)
    assert cpu.segments[ES].selector == UDATA


def test_return_to_an_outer_ring_drops_segments() -> None:
    cpu, _ = protected_cpu()
    for n, selector in ((DS, KDATA), (ES, UDATA | 3), (FS, CONFORMING), (GS, 3)):
        segmentation.load_segment(cpu, n, selector)
    cpu.cpl = 3
    segmentation.drop_privileged_segments(cpu)
    assert [cpu.segments[n].selector for n in (DS, ES, FS, GS)] == [0, UDATA | 3, CONFORMING, 0]
    assert (cpu.segments[DS].limit, cpu.segments[DS].attr) == (0, 0)


def test_ltr_marks_the_tss_busy() -> None:
    cpu, memory = protected_cpu()
    segmentation.ltr(cpu, TSS_A_SEL)
    assert cpu.segments[TR].attr & 0x1F == 0x0B
    assert memory.data[GDT + TSS_A_SEL + 5] == 0x8B
    with pytest.raises(GuestFault):
        segmentation.ltr(cpu, TSS_A_SEL)


def test_a_null_ldt_holds_no_descriptor() -> None:
    cpu, _ = protected_cpu()
    segmentation.lldt(cpu, 0)
    assert cpu.segments[LDTR].limit == 0
    with pytest.raises(GuestFault) as caught:
        segmentation.load_segment(cpu, DS, 0x0C)
    assert (caught.value.vector, caught.value.error) == (13, 0x0C)


@pytest.mark.parametrize("call", [segmentation.sldt, segmentation.store_tr, lambda cpu: segmentation.verr(cpu, UCODE)])
def test_not_recognised_in_real_mode(call: object) -> None:
    assert callable(call)
    with pytest.raises(GuestFault) as caught:
        call(make_cpu()[0])
    assert caught.value.vector == 6
