"""What an image's own headers say, as names and values for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from struct import unpack_from

from vmm.loaders import disk, elf, eltorito, linux, multiboot1, multiboot2, rom
from vmm.loaders.image import Image
from vmm.loaders.options import Kind

Fact = tuple[str, str]
"""A field's name, as its specification has it, and its value."""

_VERSION_POINTER = 0x20E
"""Offset in the setup header of a pointer to the kernel's version, less 200h (boot.rst)."""
_LONGEST_VERSION = 256


def describe(image: Image, kind: Kind) -> list[Fact]:
    """The headers of *image*, taken for *kind*.  Raises ``ImageError`` if they cannot be read."""
    return [("kind", kind.value), ("size", f"{image.size} bytes"), *_DESCRIBERS[kind](image)]


def _text(data: bytes) -> str:
    """Padded text as it stands in a header."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data.rstrip(b"\0 "))


def _elf(image: Image) -> Iterator[Fact]:
    program = elf.parse(image)
    yield "entry", f"{program.entry:#x} (physical)"
    for n, segment in enumerate(program.segments):
        yield f"PT_LOAD {n}", " ".join(f"{name}={value:#x}" for name, value in asdict(segment).items())


def _multiboot1(image: Image) -> Iterator[Fact]:
    header = multiboot1.find(image.head(multiboot1.SEARCH))
    if header is None:
        raise image.error("the file has no multiboot header")
    yield "header", f"at {header.offset:#x}, checksum {'right' if header.valid else 'wrong'}"
    yield "flags", f"{header.flags:#x}"
    if header.flags & multiboot1.ADDRESS_FIELDS:
        data = image.read(header.offset + multiboot1.HEADER_SIZE, 20, "the multiboot address fields")
        names = ("header_addr", "load_addr", "load_end_addr", "bss_end_addr", "entry_addr")
        yield from ((name, f"{value:#x}") for name, value in zip(names, unpack_from("<5I", data), strict=True))
    else:
        yield from _elf(image)


def _multiboot2(image: Image) -> Iterator[Fact]:
    header = multiboot2.find(image.head(multiboot2.SEARCH))
    if header is None:
        raise image.error("the file has no multiboot2 header")
    yield "header", f"at {header.offset:#x}, checksum {'right' if header.valid else 'wrong'}"
    yield "architecture", str(header.architecture)
    tags = list(multiboot2.header_tags(image, header))
    for kind, optional, content in tags:
        yield f"tag {kind}", f"{'optional' if optional else 'required'} {content.hex(' ')}".rstrip()
    if not any(kind == multiboot2.ADDRESS for kind, _, _ in tags):
        yield from _elf(image)


def _linux(image: Image) -> Iterator[Fact]:
    header = linux.parse(image)
    pointer = unpack_from("<H", image.read(_VERSION_POINTER, 2, "the setup header"))[0] + linux.AT_JUMP
    if linux.AT_JUMP < pointer < image.size:
        version = image.read(pointer, min(_LONGEST_VERSION, image.size - pointer), "the kernel's version")
        yield "kernel_version", _text(version.partition(b"\0")[0])
    yield "protocol", f"{header.version >> 8}.{header.version & 0xFF:02}"
    for name, value in asdict(header).items():
        if name != "version":
            yield name, str(value) if isinstance(value, bool) else f"{value:#x}"


def _disk(image: Image) -> Iterator[Fact]:
    sector = image.read(0, disk.SECTOR, "the boot sector")
    sectors = disk.check_size(image)
    yield "sectors", str(sectors)
    if sectors in disk.FLOPPIES:
        yield "geometry", "{} cylinders, {} heads, {} sectors".format(*disk.FLOPPIES[sectors])
    yield "signature", sector[disk.AT_SIGNATURE :].hex(" ")
    yield "OEM name", _text(sector[3:11])
    if disk.has_partitions(sector):
        for n in range(4):
            at = disk.PARTITION_TABLE + n * disk.PARTITION_ENTRY
            status, kind, start, count = unpack_from("<B3xB3xII", sector, at)
            if kind:
                active = ", active" if status & 0x80 else ""
                yield f"partition {n + 1}", f"type {kind:#04x}, {count} sectors from {start} on{active}"


def _iso(image: Image) -> Iterator[Fact]:
    volume = image.read(eltorito.PRIMARY_DESCRIPTOR, eltorito.SECTOR, "the primary volume descriptor")
    yield "volume", _text(volume[40:72])
    record = image.read(eltorito.BOOT_RECORD, eltorito.SECTOR, "the boot record")
    if not record[7:].startswith(eltorito.BOOT_SYSTEM):
        return
    (sector,) = unpack_from("<I", record, eltorito.AT_CATALOG)
    yield "boot catalog", f"sector {sector}"
    entry = image.read(sector * eltorito.SECTOR, 64, "the boot catalog")[32:]
    indicator, media, segment, _, _, count, start = unpack_from("<BBHBBHI", entry)
    bootable = "bootable" if indicator == eltorito.BOOTABLE else "not bootable"
    yield "default entry", f"{bootable}, media type {media & 0xF}, {count} sectors of 512 bytes from sector {start} on"
    yield "load segment", f"{segment or eltorito.DEFAULT_SEGMENT:#x}"


def _bios(image: Image) -> Iterator[Fact]:
    yield "mapped", f"{rom.ROM_END - image.size:#x} to {rom.ROM_END - 1:#x}"
    yield "reset vector", image.read(image.size + rom.RESET_VECTOR, -rom.RESET_VECTOR, "the reset vector").hex(" ")


def _option_rom(image: Image) -> Iterator[Fact]:
    size = image.read(0, rom.OPTION_ENTRY, "the ROM header")[2] * rom.OPTION_UNIT
    right = not sum(image.read(0, size, "the option ROM")) & 0xFF
    yield "initialization size", f"{size} bytes, checksum {'right' if right else 'wrong'}"
    yield "mapped", f"{rom.OPTION_BASE:#x}, entered at offset {rom.OPTION_ENTRY}"


def _flat(image: Image) -> Iterator[Fact]:
    yield "begins", image.head(16).hex(" ")


_DESCRIBERS: dict[Kind, Callable[[Image], Iterator[Fact]]] = {
    Kind.MULTIBOOT1: _multiboot1,
    Kind.MULTIBOOT2: _multiboot2,
    Kind.ELF32: _elf,
    Kind.LINUX: _linux,
    Kind.FLOPPY: _disk,
    Kind.DISK: _disk,
    Kind.ISO: _iso,
    Kind.ROM: _bios,
    Kind.OPTION_ROM: _option_rom,
    Kind.FLAT: _flat,
}
