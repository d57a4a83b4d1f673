"""ACPI tables of the PC: built once, delivered to SeaBIOS through fw_cfg or put straight into memory.

Sources: ACPI 1.0, 5.2 (RSDP, RSDT, FADT, FACS, DSDT); ACPI 2.0, 5.2.10.4 (MADT); QEMU's
docs/specs/acpi_bits and SeaBIOS's romfile_loader (the linker script in "etc/table-loader").
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from devices.backends import Memory
from devices.fw_cfg import FwCfg
from devices.piix3 import ACPI_DISABLE, ACPI_ENABLE, APMC, FIRMWARE_PMBA, GPSTS, PMCNTRL, PMSTS, PMTMR
from vmm.acpi.dsdt import LEGACY_DEVICES, LINK_IRQS, SCI_IRQ, LegacyDevice, dsdt_body

OEM_ID = b"BTVMM "
OEM_TABLE_ID = b"PC      "
CREATOR_ID = b"BTVM"
HEADER = struct.Struct("<4sIBB6s8sI4sI")
"""Signature, length, revision, checksum, OEM id, OEM table id, OEM revision, creator id, creator revision."""
CHECKSUM_AT = 9

RSDP_FILE = "etc/acpi/rsdp"
TABLES_FILE = "etc/acpi/tables"
LOADER_FILE = "etc/table-loader"
NAME_SIZE = 56
ENTRY_SIZE = 128
ALLOCATE, ADD_POINTER, ADD_CHECKSUM = 1, 2, 3
ZONE_HIGH, ZONE_FSEG = 1, 2
TABLES_ALIGN = 64
RSDP_ALIGN = 16

RSDP_SIZE = 20
RSDP_CHECKSUM_AT = 8
RSDP_RSDT_AT = 16
FADT_FACS_AT, FADT_DSDT_AT = 36, 40

FADT_FLAGS = 0x0000_0025
"""WBINVD works, C1 on every processor, no sleep button as fixed hardware."""
NO_LATENCY = 0xFFFF
"""A latency above the limit: the state is not there."""
RTC_CENTURY = 0x32

LOCAL_APIC_BASE = 0xFEE0_0000
IO_APIC_BASE = 0xFEC0_0000
PCAT_COMPAT = 1
LEVEL_HIGH = 0x000D
CONFORMS = 0


@dataclass(frozen=True, slots=True)
class Image:
    """The tables as a relocatable image.

    Pointers in *tables* and *rsdp* hold offsets into *tables*; their places, 32 bits each, are in *pointers* and
    RSDP_RSDT_AT.  Checksums are zero until somebody has added the addresses; *checksums* are (start, length) of
    the tables that have one.
    """

    tables: bytes
    rsdp: bytes
    pointers: tuple[int, ...]
    checksums: tuple[tuple[int, int], ...]

    def add_to(self, fw_cfg: FwCfg) -> None:
        """Offer the tables to SeaBIOS, which places and links them."""
        fw_cfg.add_file(TABLES_FILE, self.tables)
        fw_cfg.add_file(RSDP_FILE, self.rsdp)
        fw_cfg.add_file(LOADER_FILE, self.loader_script())

    def loader_script(self) -> bytes:
        """The linker script: allocate both files, add addresses to pointers, then sum up."""
        rsdp, tables = (name.encode("ascii").ljust(NAME_SIZE, b"\0") for name in (RSDP_FILE, TABLES_FILE))
        entries = [
            struct.pack("<I56sIB", ALLOCATE, tables, TABLES_ALIGN, ZONE_HIGH),
            struct.pack("<I56sIB", ALLOCATE, rsdp, RSDP_ALIGN, ZONE_FSEG),
            *(struct.pack("<I56s56sIB", ADD_POINTER, tables, tables, at, 4) for at in self.pointers),
            struct.pack("<I56s56sIB", ADD_POINTER, rsdp, tables, RSDP_RSDT_AT, 4),
            *(
                struct.pack("<I56sIII", ADD_CHECKSUM, tables, start + CHECKSUM_AT, start, length)
                for start, length in self.checksums
            ),
            struct.pack("<I56sIII", ADD_CHECKSUM, rsdp, RSDP_CHECKSUM_AT, 0, RSDP_SIZE),
        ]
        return b"".join(entry.ljust(ENTRY_SIZE, b"\0") for entry in entries)

    def linked(self, address: int) -> tuple[bytes, bytes]:
        """Tables and RSDP as they stand in memory when the tables are at physical *address*.

        Raises ``ValueError`` if *address* is not a multiple of 64 (the FACS is at its start).
        """
        if address % TABLES_ALIGN:
            raise ValueError(f"ACPI tables at {address:#x} are not aligned to {TABLES_ALIGN} bytes")
        tables, rsdp = bytearray(self.tables), bytearray(self.rsdp)
        for data, at in [*((tables, at) for at in self.pointers), (rsdp, RSDP_RSDT_AT)]:
            struct.pack_into("<I", data, at, struct.unpack_from("<I", data, at)[0] + address)
        for start, length in self.checksums:
            tables[start + CHECKSUM_AT] = -sum(tables[start : start + length]) & 0xFF
        rsdp[RSDP_CHECKSUM_AT] = -sum(rsdp) & 0xFF
        return bytes(tables), bytes(rsdp)

    def place(self, memory: Memory, address: int, rsdp_address: int) -> None:
        """Put the tables to *address* and the RSDP to *rsdp_address*, for a guest without firmware.

        A guest looks for the RSDP at multiples of 16 in E0000h..FFFFFh and in the first KiB of the EBDA.
        Raises ``ValueError`` for addresses that are not aligned (64 and 16 bytes).
        """
        if rsdp_address % RSDP_ALIGN:
            raise ValueError(f"an RSDP at {rsdp_address:#x} is not aligned to {RSDP_ALIGN} bytes")
        tables, rsdp = self.linked(address)
        memory.write(address, tables)
        memory.write(rsdp_address, rsdp)


def table(signature: bytes, body: bytes, revision: int = 1) -> bytes:
    """A table with its header; the checksum is zero."""
    size = HEADER.size + len(body)
    return HEADER.pack(signature, size, revision, 0, OEM_ID, OEM_TABLE_ID, 1, CREATOR_ID, 1) + body


def facs() -> bytes:
    """The firmware ACPI control structure: no waking vector, no global lock held."""
    return struct.pack("<4sI", b"FACS", 64).ljust(64, b"\0")


def fadt(pm_base: int, facs_at: int, dsdt_at: int) -> bytes:
    """The fixed ACPI description table, revision 1: where PIIX4's registers are."""
    addresses = struct.pack("<IIBBHI", facs_at, dsdt_at, 0, 0, SCI_IRQ, APMC)
    commands = struct.pack("<BBBB", ACPI_ENABLE, ACPI_DISABLE, 0, 0)
    event, control, timer, general = (pm_base + register for register in (PMSTS, PMCNTRL, PMTMR, GPSTS))
    blocks = struct.pack("<8I", event, 0, control, 0, 0, timer, general, 0)
    lengths = struct.pack("<8B", 4, 2, 0, 4, 4, 0, 0, 0)
    latencies = struct.pack("<HHHH", NO_LATENCY, NO_LATENCY, 0, 0)
    rest = struct.pack("<5B3xI", 0, 0, 0, 0, RTC_CENTURY, FADT_FLAGS)
    return table(b"FACP", addresses + commands + blocks + lengths + latencies + rest)


def madt(cpus: int) -> bytes:
    """The multiple APIC description table: local APICs, one IO-APIC, and how ISA IRQs reach it."""
    body = struct.pack("<II", LOCAL_APIC_BASE, PCAT_COMPAT)
    body += b"".join(struct.pack("<BBBBI", 0, 8, cpu, cpu, 1) for cpu in range(cpus))
    body += struct.pack("<BBBBII", 1, 12, 0, 0, IO_APIC_BASE, 0)
    overrides = [(0, 2, CONFORMS), *((irq, irq, LEVEL_HIGH) for irq in sorted({SCI_IRQ, *LINK_IRQS}))]
    body += b"".join(struct.pack("<BBBBIH", 2, 10, 0, irq, gsi, flags) for irq, gsi, flags in overrides)
    body += struct.pack("<BBBHB", 4, 6, 0xFF, CONFORMS, 1)  # NMI at LINT1 of every processor
    return table(b"APIC", body)


def build(
    *,
    pm_base: int = FIRMWARE_PMBA,
    cpus: int = 1,
    apic: bool = False,
    devices: Sequence[LegacyDevice] = LEGACY_DEVICES,
) -> Image:
    """The tables of a machine whose power management registers are at port *pm_base*.

    With *apic* there is a MADT; *devices* are those on the ISA bus.
    """
    tables = bytearray(facs())
    pointers: list[int] = []
    checksums: list[tuple[int, int]] = []

    def append(data: bytes) -> int:
        start = len(tables)
        tables.extend(data.ljust(-(-len(data) // 16) * 16, b"\0"))
        checksums.append((start, len(data)))
        return start

    dsdt_at = append(table(b"DSDT", dsdt_body(devices)))
    listed = [append(fadt(pm_base, 0, dsdt_at))]
    pointers += [listed[0] + FADT_FACS_AT, listed[0] + FADT_DSDT_AT]
    if apic:
        listed.append(append(madt(cpus)))
    rsdt_at = append(table(b"RSDT", struct.pack(f"<{len(listed)}I", *listed)))
    pointers += [rsdt_at + HEADER.size + 4 * n for n in range(len(listed))]
    rsdp = struct.pack("<8sB6sBI", b"RSD PTR ", 0, OEM_ID, 0, rsdt_at)
    return Image(bytes(tables), rsdp, tuple(pointers), tuple(checksums))
