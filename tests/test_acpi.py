"""ACPI tables: the AML encoder by rows, the tables by their layout, and both by ACPICA's own tools."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.fw_cfg import FwCfg
from vmm.acpi import LegacyDevice, aml, build
from vmm.acpi.tables import ADD_CHECKSUM, ADD_POINTER, ALLOCATE, ENTRY_SIZE, LOADER_FILE, RSDP_FILE, TABLES_FILE, Image

IASL, ACPIEXEC = shutil.which("iasl"), shutil.which("acpiexec")

# AML -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        pytest.param(aml.name_string("\\_SB.PCI0"), b"\\\x2e_SB_PCI0", id="two segments"),
        pytest.param(aml.name_string("A.B.C"), b"\x2f\x03A___B___C___", id="three segments"),
        pytest.param(aml.name_string("^^PRQA"), b"^^PRQA", id="parents"),
        pytest.param(aml.name_string("\\"), b"\\\x00", id="root"),
        pytest.param(aml.integer(0), b"\x00", id="zero"),
        pytest.param(aml.integer(1), b"\x01", id="one"),
        pytest.param(aml.integer(2), b"\x0a\x02", id="byte"),
        pytest.param(aml.integer(0x1234), b"\x0b\x34\x12", id="word"),
        pytest.param(aml.integer(0x1FFFF), b"\x0c\xff\xff\x01\x00", id="doubleword"),
        pytest.param(aml.string("hi"), b"\x0dhi\0", id="string"),
        pytest.param(aml.eisa_id("PNP0A03"), b"\x0c\x41\xd0\x0a\x03", id="EISA id"),
        pytest.param(aml.package([aml.ONE, aml.ZERO]), b"\x12\x04\x02\x01\x00", id="package"),
        pytest.param(aml.buffer(b"abc"), b"\x11\x06\x0a\x03abc", id="buffer"),
        pytest.param(aml.method("M", 1, serialized=True), b"\x14\x06M___\x09", id="method"),
        pytest.param(aml.io(0x60, 1), b"\x47\x01\x60\x00\x60\x00\x01\x01", id="ports"),
        pytest.param(aml.irq_no_flags(1, 12), b"\x22\x02\x10", id="IRQs"),
        pytest.param(aml.interrupt(5), b"\x89\x06\x00\x09\x01\x05\x00\x00\x00", id="interrupt"),
    ],
)
def test_encodings(encoded: bytes, expected: bytes) -> None:
    assert encoded == expected


@given(st.integers(0, 1 << 21))
def test_package_length_counts_itself(size: int) -> None:
    encoded = aml.pkg_length(size)
    lead, rest = encoded[0], encoded[1:]
    assert lead >> 6 == len(rest)
    value = lead & 0x3F if not rest else lead & 0xF | int.from_bytes(rest, "little") << 4
    assert value == size + len(encoded)
    assert not rest or not lead & 0x30


@pytest.mark.parametrize("path", ["TOOLONG", "A..B", "\\_SB."])
def test_bad_names(path: str) -> None:
    with pytest.raises(ValueError, match="no AML name segment"):
        aml.name_string(path)


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="32 bits"):
        aml.integer(1 << 32)
    with pytest.raises(ValueError, match="more than an AML package holds"):
        aml.pkg_length(1 << 28)


# Tables ------------------------------------------------------------------------------------------------


class Ram:
    """Memory from 0 on, and nothing else."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.data = bytearray(size)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        self.data[address : address + len(data)] = data

    def table(self, address: int) -> bytes:
        return self.read(address, struct.unpack_from("<I", self.data, address + 4)[0])


def walk(ram: Ram, rsdp_at: int) -> dict[bytes, bytes]:
    """All tables that hang on an RSDP, by signature; checks every checksum on the way."""
    rsdp = ram.read(rsdp_at, 20)
    assert rsdp[:8] == b"RSD PTR "
    assert sum(rsdp) & 0xFF == 0
    rsdt = ram.table(struct.unpack_from("<I", rsdp, 16)[0])
    tables = {b"RSDT": rsdt}
    for at in range(36, len(rsdt), 4):
        table = ram.table(struct.unpack_from("<I", rsdt, at)[0])
        tables[table[:4]] = table
    facs, dsdt = struct.unpack_from("<II", tables[b"FACP"], 36)
    tables[b"DSDT"] = ram.table(dsdt)
    assert all(sum(table) & 0xFF == 0 for table in tables.values())
    tables[b"FACS"] = ram.table(facs)
    assert facs % 64 == 0
    return tables


def run_loader(image: Image, ram: Ram, addresses: dict[str, int]) -> None:
    """What SeaBIOS does with "etc/table-loader"."""
    fw_cfg = FwCfg(ram)
    image.add_to(fw_cfg)
    script = fw_cfg.files[LOADER_FILE]
    assert len(script) % ENTRY_SIZE == 0
    placed: dict[str, int] = {}

    def text(field: bytes) -> str:
        return field.rstrip(b"\0").decode()

    for at in range(0, len(script), ENTRY_SIZE):
        command, first = struct.unpack_from("<I56s", script, at)
        if command == ALLOCATE:
            align, _zone = struct.unpack_from("<IB", script, at + 60)
            placed[text(first)] = addresses[text(first)]
            assert addresses[text(first)] % align == 0
            ram.write(addresses[text(first)], fw_cfg.files[text(first)])
        elif command == ADD_POINTER:
            second, offset, size = struct.unpack_from("<56sIB", script, at + 60)
            where = placed[text(first)] + offset
            value = int.from_bytes(ram.read(where, size), "little") + placed[text(second)]
            ram.write(where, value.to_bytes(size, "little"))
        else:
            assert command == ADD_CHECKSUM
            offset, start, length = struct.unpack_from("<III", script, at + 60)
            base = placed[text(first)]
            total = sum(ram.read(base + start, length)) & 0xFF
            ram.write(base + offset, bytes([ram.data[base + offset] - total & 0xFF]))


@pytest.mark.parametrize("apic", [False, True])
def test_tables_in_memory(apic: bool) -> None:
    ram = Ram()
    build(apic=apic).place(ram, 0x9_0000, 0xE_0000)
    tables = walk(ram, 0xE_0000)
    assert tables.keys() == {b"RSDT", b"FACP", b"FACS", b"DSDT"} | ({b"APIC"} if apic else set())


@pytest.mark.parametrize("apic", [False, True])
def test_firmware_makes_the_same_of_them(apic: bool) -> None:
    image = build(apic=apic)
    direct, loaded = Ram(), Ram()
    image.place(direct, 0x9_0000, 0xF_0000)
    run_loader(image, loaded, {TABLES_FILE: 0x9_0000, RSDP_FILE: 0xF_0000})
    assert direct.data == loaded.data


@pytest.mark.parametrize(("address", "rsdp", "what"), [(0x9_0020, 0xE_0000, "tables"), (0x9_0000, 0xE_0008, "RSDP")])
def test_alignment(address: int, rsdp: int, what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} at .* not aligned"):
        build().place(Ram(), address, rsdp)


@pytest.mark.parametrize(
    ("offset", "layout", "expected"),
    [
        pytest.param(8, "<B", (1,), id="revision"),
        pytest.param(46, "<HIBB", (9, 0xB2, 0xF1, 0xF0), id="SCI and SMI command"),
        pytest.param(56, "<8I", (0x600, 0, 0x604, 0, 0, 0x608, 0x60C, 0), id="registers"),
        pytest.param(88, "<8B", (4, 2, 0, 4, 4, 0, 0, 0), id="their lengths"),
        pytest.param(96, "<HH", (0xFFFF, 0xFFFF), id="no C2 or C3"),
        pytest.param(108, "<B", (0x32,), id="century"),
        pytest.param(112, "<I", (0x25,), id="flags"),
    ],
)
def test_fadt(offset: int, layout: str, expected: tuple[int, ...]) -> None:
    ram = Ram()
    build().place(ram, 0, 0xE_0000)
    fadt = walk(ram, 0xE_0000)[b"FACP"]
    assert len(fadt) == 116
    assert struct.unpack_from(layout, fadt, offset) == expected


def test_fadt_follows_the_base() -> None:
    ram = Ram()
    build(pm_base=0xB000).place(ram, 0, 0xE_0000)
    assert struct.unpack_from("<I", walk(ram, 0xE_0000)[b"FACP"], 76)[0] == 0xB008


# ACPICA ------------------------------------------------------------------------------------------------


def write_tables(folder: Path, image: Image) -> dict[str, Path]:
    """Every table in a file of its own."""
    ram = Ram()
    image.place(ram, 0x9_0000, 0xE_0000)
    paths = {}
    for signature, table in walk(ram, 0xE_0000).items():
        path = paths[signature.decode()] = folder / f"{signature.decode().lower()}.dat"
        path.write_bytes(table)
    return paths


def output(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.oracle
@pytest.mark.skipif(not IASL, reason="iasl is not installed")
@pytest.mark.parametrize("cpus", [1, 4])
def test_iasl_takes_the_tables_apart_and_compiles_them_again(tmp_path: Path, cpus: int) -> None:
    assert IASL
    for name, path in write_tables(tmp_path, build(apic=True, cpus=cpus)).items():
        said = output(IASL, "-d", path)
        assert "Disassembly completed" in said or "Formatted output" in said, (name, said)
        assert not re.search(r"error|invalid|unknown", said, re.IGNORECASE), (name, said)
        compiled = output(IASL, "-vw", "2173", path.with_suffix(".dsl"))
        assert "0 Errors, 0 Warnings" in compiled, (name, compiled)


@pytest.mark.oracle
@pytest.mark.skipif(not IASL, reason="iasl is not installed")
def test_iasl_sees_a_device_of_ours(tmp_path: Path) -> None:
    assert IASL
    lpt = LegacyDevice("LPT1", "PNP0400", ((0x378, 8),), 7)
    path = write_tables(tmp_path, build(devices=[lpt]))["DSDT"]
    output(IASL, "-d", path)
    source = path.with_suffix(".dsl").read_text()
    device = source[source.index("Device (LPT1)") :]
    assert re.search(r'_HID, EisaId \("PNP0400"\)', device)
    assert re.search(r"IO \(Decode16,\s+0x0378,.*\s+0x0378,.*\s+0x01,.*\s+0x08,", device)
    assert re.search(r"IRQNoFlags \(\)\s+\{7\}", device)
    assert "PNP0303" not in source


@pytest.mark.oracle
@pytest.mark.skipif(not IASL, reason="iasl is not installed")
@pytest.mark.parametrize(
    ("address", "pin", "source", "index"),
    [
        ("0x0001FFFF", "Zero", "Zero", "0x09"),
        ("0x0001FFFF", "One", "LNKB", "Zero"),
        ("0x0002FFFF", "Zero", "LNKB", "Zero"),
        ("0x0003FFFF", "0x03", "LNKB", "Zero"),
        ("0x001FFFFF", "0x02", "LNKA", "Zero"),
    ],
)
def test_iasl_sees_the_routes(tmp_path: Path, address: str, pin: str, source: str, index: str) -> None:
    assert IASL
    path = write_tables(tmp_path, build())["DSDT"]
    output(IASL, "-d", path)
    rows = re.findall(
        r"Package \(0x04\)\s*\{\s*(\w+),\s*(\w+),\s*(\w+),\s*(\w+)\s*\}", path.with_suffix(".dsl").read_text()
    )
    assert (address, pin, source, index) in rows
    assert len(rows) == 31 * 4


@pytest.mark.oracle
@pytest.mark.skipif(not ACPIEXEC, reason="acpiexec is not installed")
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        pytest.param("evaluate \\_S5", r"\[Package\].*(\[Integer\] = 0+\s+){4}", id="soft off"),
        pytest.param("evaluate \\_SB.LNKA._STA", r"\[Integer\] = 0+B\b", id="a link that is routed"),
        pytest.param("execute \\_SB.LNKA._DIS; evaluate \\_SB.LNKA._STA", r"\[Integer\] = 0+9\b", id="disabled"),
        pytest.param("evaluate \\_SB.LNKB._CRS", r"89 06 00 09 01 00 00 00", id="its IRQ"),
        pytest.param("evaluate \\_SB.LNKC._PRS", r"89 0E 00 09 03 05 00 00\s.*00 0A 00 00 00 0B 00", id="choice"),
        pytest.param("resources \\_SB.PCI0", r"Address Maximum : FEBFFFFF", id="bridge"),
    ],
)
def test_acpica_evaluates_them(tmp_path: Path, commands: str, expected: str) -> None:
    assert ACPIEXEC
    said = output(ACPIEXEC, "-da", "-b", commands, write_tables(tmp_path, build())["DSDT"])
    assert re.search(expected, said, re.DOTALL), said
