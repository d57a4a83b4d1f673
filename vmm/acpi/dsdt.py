"""The DSDT: what the machine has that a guest cannot find by probing, in AML.

Source: ACPI 2.0, 5.3 (name space), 6.2 (_PRT, _CRS and their like), 7.4.2 (\\_S5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from devices.piix3 import PIRQRCA, PIRQS, SLP_TYP_SOFT_OFF
from vmm.acpi import aml

PCI_HOLE = (0xE000_0000, 0xFEBF_FFFF)
"""Memory that the host bridge passes on to PCI, first and last address: SeaBIOS places the BARs there."""
DISPLAY_WINDOW = (0xA_0000, 0xB_FFFF)
LINK_IRQS = (5, 10, 11)
"""IRQs that an operating system may route a PIRQ to."""
SCI_IRQ = 9
PIRQ_DISABLE = 0x80
SLOTS = 32
LINK_REGISTERS = tuple(f"PRQ{letter}" for letter in "ABCD"[:PIRQS])
LINKS = tuple(f"LNK{letter}" for letter in "ABCD"[:PIRQS])


@dataclass(frozen=True, slots=True)
class LegacyDevice:
    """A device on the ISA bus: AML name, Plug and Play identifier, ports as (first, count), IRQ and DMA channel."""

    name: str
    identifier: str
    ports: tuple[tuple[int, int], ...] = ()
    irq: int | None = None
    dma: int | None = None
    uid: int | None = None

    def term(self) -> bytes:
        """The ``Device`` term."""
        descriptors = [aml.io(first, count) for first, count in self.ports]
        if self.irq is not None:
            descriptors.append(aml.irq_no_flags(self.irq))
        if self.dma is not None:
            descriptors.append(aml.dma(self.dma))
        names = [aml.name("_HID", aml.eisa_id(self.identifier))]
        if self.uid is not None:
            names.append(aml.name("_UID", aml.integer(self.uid)))
        return aml.device(self.name, *names, aml.name("_CRS", aml.resources(*descriptors)))


LEGACY_DEVICES = (
    LegacyDevice("KBD", "PNP0303", ((0x60, 1), (0x64, 1)), 1),
    LegacyDevice("MOU", "PNP0F13", (), 12),
    LegacyDevice("RTC", "PNP0B00", ((0x70, 2),), 8),
    LegacyDevice("FDC0", "PNP0700", ((0x3F2, 4), (0x3F7, 1)), 6, 2),
    LegacyDevice("COM1", "PNP0501", ((0x3F8, 8),), 4, uid=1),
)
"""What every machine has."""


def _link(number: int) -> bytes:
    """A PCI interrupt link device: one PIRQ and the register of the ISA bridge that routes it."""
    register = aml.name_string(LINK_REGISTERS[number])
    disabled = aml.bit_and(register, aml.integer(PIRQ_DISABLE))
    irq = aml.name_string("IRQW")
    return aml.device(
        LINKS[number],
        aml.name("_HID", aml.eisa_id("PNP0C0F")),
        aml.name("_UID", aml.integer(number)),
        aml.name("_PRS", aml.resources(aml.interrupt(*LINK_IRQS))),
        aml.method(
            "_STA",
            0,
            aml.if_(disabled, aml.return_(aml.integer(0x09))),
            aml.return_(aml.integer(0x0B)),
        ),
        aml.method("_DIS", 0, aml.bit_or(register, aml.integer(PIRQ_DISABLE), register)),
        aml.method(
            "_CRS",
            0,
            aml.name("BUF0", aml.resources(aml.interrupt(0))),
            aml.create_dword_field(aml.name_string("BUF0"), 5, "IRQW"),
            aml.if_(aml.logical_not(disabled), aml.store(register, irq)),
            aml.return_(aml.name_string("BUF0")),
            serialized=True,
        ),
        aml.method(
            "_SRS",
            1,
            aml.create_dword_field(aml.ARG0, 5, "IRQW"),
            aml.store(irq, register),
            serialized=True,
        ),
    )


def _routes() -> bytes:
    """_PRT: which link every slot's pins go to, turned by one a slot; 00:01.3 has the SCI, fixed at IRQ 9."""
    rows = []
    for slot in range(1, SLOTS):
        for pin in range(4):
            source = [aml.name_string(LINKS[(slot - 1 + pin) % PIRQS]), aml.ZERO]
            if (slot, pin) == (1, 0):
                source = [aml.ZERO, aml.integer(SCI_IRQ)]
            rows.append(aml.package([aml.integer(slot << 16 | 0xFFFF), aml.integer(pin), *source]))
    return aml.package(rows)


def dsdt_body(devices: Iterable[LegacyDevice] = LEGACY_DEVICES) -> bytes:
    """The AML of the DSDT, without the table's header."""
    bridge = aml.device(
        "ISA",
        aml.name("_ADR", aml.integer(0x0001_0000)),
        aml.operation_region("PIRQ", aml.PCI_CONFIG, PIRQRCA, PIRQS),
        *(device.term() for device in devices),
    )
    root = aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.ZERO),
        aml.name(
            "_CRS",
            aml.resources(
                aml.word_bus_number(0, 0xFF),
                aml.io(0xCF8, 8),
                aml.word_io(0x0000, 0x0CF7),
                aml.word_io(0x0D00, 0xFFFF),
                aml.dword_memory(*DISPLAY_WINDOW, cacheable=True),
                aml.dword_memory(*PCI_HOLE),
            ),
        ),
        aml.name("_PRT", _routes()),
        bridge,
    )
    links = [_link(number) for number in range(PIRQS)]
    registers = aml.field("PCI0.ISA.PIRQ", aml.BYTE_ACCESS, [(unit, 8) for unit in LINK_REGISTERS])
    soft_off = aml.package([aml.integer(SLP_TYP_SOFT_OFF), aml.integer(SLP_TYP_SOFT_OFF), aml.ZERO, aml.ZERO])
    return aml.scope("\\_SB", root) + aml.scope("\\_SB", registers, *links) + aml.name("\\_S5", soft_off)
