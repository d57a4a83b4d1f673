"""The tables that the tests of protection use: GDT, LDT, IDT and TSSs at fixed places in low memory."""

from __future__ import annotations

import struct

from tests.protection.machine import FlatMemory, make_cpu
from translator.layout import CS, DS, ES, ESP, FS, GS, SS
from vmm import segmentation
from vmm.vcpu import VCpu

LOW, IDT, GDT, LDT, TSS_A, TSS_B, TSS_MAIN, TSS_DF = 0x1000, 0x1800, 0x2000, 0x2200, 0x2300, 0x2380, 0x2400, 0x2500
TARGET = 0xF1000
"""Code that ends a case, also at linear 1000h: a flat and an F0000h-based segment both find it."""
LOW_CODE = bytes.fromhex("cd60ca0800")
HANDLERS, HANDLERS16 = 0xF4000, 0xF5000

# Selectors
KCODE, KDATA, UCODE, UDATA, TSS_SEL, LDT_SEL, TSS_A_SEL, TSS_B_SEL, TSS_DF_SEL = range(0x08, 0x50, 8)
R1CODE, R1DATA, R2CODE, R2DATA, CONFORMING, KCODE16, KSTACK16, KCODE_F, UCODE16, USTACK16 = range(0x50, 0xA0, 8)
TEST = 0xA0
"""Test slots from here to 138h, empty in the template."""


def descriptor(base: int, limit: int, access: int, flags: int = 0) -> int:
    """A descriptor of a raw 20-bit *limit*; *flags* are bits 52..55 (AVL, L, D/B, G)."""
    return (
        limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | access << 40
        | (limit >> 16 & 0xF) << 48
        | flags << 52
        | (base >> 24) << 56
    )


def gate(selector: int, offset: int, access: int, parameters: int = 0) -> int:
    return offset & 0xFFFF | selector << 16 | parameters << 32 | access << 40 | (offset >> 16) << 48


def tss32(eip: int, selectors: dict[str, int], esp: int, eflags: int = 2) -> bytes:
    """A 32-bit TSS for one of the tests' tasks."""
    image = bytearray(0x68)
    struct.pack_into("<IHxxIHxxIHxx", image, 4, 0x6000, KDATA, 0x7000, R1DATA | 1, 0x8000, R2DATA | 2)
    struct.pack_into("<II8I", image, 0x20, eip, eflags, 0xA1, 0xA2, 0xA3, 0xA4, esp, 0xA6, 0xA7, 0xA8)
    order = ("es", "cs", "ss", "ds", "fs", "gs", "ldt")
    struct.pack_into("<7I", image, 0x48, *(selectors.get(name, 0) for name in order))
    struct.pack_into("<H", image, 0x66, 0x68)
    return bytes(image)


def tss16(ip: int, es: int, cs: int, ss: int, ds: int, ldt: int, sp: int) -> bytes:
    image = bytearray(0x2C)
    struct.pack_into("<HHHHHH", image, 2, 0x6000, KDATA, 0x7000, R1DATA | 1, 0x8000, R2DATA | 2)
    registers = (0xB1, 0xB2, 0xB3, 0xB4, sp, 0xB6, 0xB7, 0xB8)
    struct.pack_into("<HH8H5H", image, 0x0E, ip, 2, *registers, es, cs, ss, ds, ldt)
    return bytes(image)


def tables() -> bytes:
    """IDT, GDT, LDT and TSSs as each case finds them, from LOW to the end of TSS_DF."""
    image = bytearray(0x1600)
    image[: len(LOW_CODE)] = LOW_CODE

    def put(address: int, *descriptors: int) -> None:
        struct.pack_into(f"<{len(descriptors)}Q", image, address - LOW, *descriptors)

    for vector in range(0x70):
        dpl = 3 if vector in (3, 4) or vector >= 0x60 else 0
        put(IDT + 8 * vector, gate(KCODE, HANDLERS + 16 * vector, 0x8E | dpl << 5))
    put(IDT + 8 * 8, gate(TSS_DF_SEL, 0, 0x85))
    put(
        GDT,
        0,
        descriptor(0, 0xFFFFF, 0x9A, 0xC),
        descriptor(0, 0xFFFFF, 0x92, 0xC),
        descriptor(0, 0xFFFFF, 0xFA, 0xC),
        descriptor(0, 0xFFFFF, 0xF2, 0xC),
        descriptor(TSS_MAIN, 0xC8, 0x89),
        descriptor(LDT, 0x7F, 0x82),
        descriptor(TSS_A, 0x67, 0x89),
        descriptor(TSS_B, 0x2B, 0x81),
        descriptor(TSS_DF, 0x67, 0x89),
        descriptor(0, 0xFFFFF, 0xBA, 0xC),
        descriptor(0, 0xFFFFF, 0xB2, 0xC),
        descriptor(0, 0xFFFFF, 0xDA, 0xC),
        descriptor(0, 0xFFFFF, 0xD2, 0xC),
        descriptor(0, 0xFFFFF, 0x9E, 0xC),
        descriptor(0xF0000, 0xFFFF, 0x9A, 0),
        descriptor(0, 0xFFFF, 0x92, 0),
        descriptor(0xF0000, 0xFFFF, 0x9A, 4),
        descriptor(0xF0000, 0xFFFF, 0xFA, 0),
        descriptor(0, 0xFFFF, 0xF2, 0),
    )
    put(LDT, descriptor(0, 0xFFFFF, 0xFA, 0xC), descriptor(0, 0xFFFFF, 0xF2, 0xC), descriptor(0, 0x1F, 0xF0, 4))
    flat = {"cs": KCODE, "ss": KDATA, "ds": KDATA, "es": KDATA}
    main = tss32(0, {}, 0)
    image[TSS_MAIN - LOW : TSS_MAIN - LOW + len(main)] = main
    struct.pack_into("<H", image, TSS_MAIN - LOW + 0x66, 0x88)
    image[TSS_MAIN - LOW + 0xC8] = 0xFF
    image[TSS_MAIN - LOW + 0x88 + 0x0A] = 0x24  # ports 52h and 55h
    for at, data in (
        (TSS_A, tss32(TARGET, flat | {"fs": UDATA | 3, "ldt": LDT_SEL}, 0xA000)),
        (TSS_B, tss16(TARGET - 0xF0000, KDATA, KCODE_F, KSTACK16, KDATA, LDT_SEL, 0xB000)),
        (TSS_DF, tss32(HANDLERS + 16 * 8, flat, 0xD000)),
    ):
        image[at - LOW : at - LOW + len(data)] = data
    return bytes(image)


def protected_cpu(ring: int = 0) -> tuple[VCpu, FlatMemory]:
    """A CPU in these tables, at *ring*, in flat segments: EIP E0000h, ESP 5000h (ring 0) or 9000h."""
    cpu, memory = make_cpu()
    image = tables()
    memory.data[LOW : LOW + len(image)] = image
    cpu.cr0 |= 1
    cpu.gdtr = (GDT, 0x13F)
    cpu.idtr = (IDT, 0x37F)
    segmentation.ltr(cpu, TSS_SEL)
    segmentation.lldt(cpu, LDT_SEL)
    code = (KCODE, R1CODE | 1, R2CODE | 2, UCODE | 3)[ring]
    data = (KDATA, R1DATA | 1, R2DATA | 2, UDATA | 3)[ring]
    cpu.set_segment(CS, code, 0, 0xFFFF_FFFF, 0xC09B | ring << 5)
    cpu.cpl = ring
    for n in (ES, SS, DS, FS, GS):
        segmentation.load_segment(cpu, n, data)
    cpu.gpr[ESP] = 0x9000 if ring else 0x5000
    cpu.eip = cpu.next_eip = 0xE0000
    return cpu, memory
