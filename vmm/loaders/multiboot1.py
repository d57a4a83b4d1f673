"""Multiboot Specification 0.6.96: a header in the first 8 KiB, entered with EAX = 2BADB002h and EBX -> information."""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack, pack_into, unpack_from

from vmm.loaders import elf
from vmm.loaders.entry import EntryState, flat_gdt, flat_mode, registers
from vmm.loaders.image import Image
from vmm.loaders.multiboot_common import (
    BOOT_LOADER_NAME,
    FRAMEBUFFER_EGA_TEXT,
    TEXT_ADDRESS,
    TEXT_BITS,
    TEXT_COLUMNS,
    TEXT_ROWS,
    AddressFields,
    all_modules,
    check_entry,
    claim_addressed,
    command_line,
    memory_sizes,
    place_modules,
)
from vmm.loaders.options import EBDA_BASE, Kind, Options, encode_text
from vmm.loaders.placement import LOW_AREA, Placement, place_low

HEADER_MAGIC = 0x1BAD_B002
BOOTLOADER_MAGIC = 0x2BAD_B002
SEARCH = 8192
"""The header lies in the first 8192 bytes, at a multiple of 4 (3.1.1)."""
HEADER_SIZE = 12
ADDRESSED_HEADER_SIZE = 32

# Header flags (3.1.2); bits 0..15 that a loader does not know forbid loading.
PAGE_ALIGN, MEMORY_INFO, VIDEO_MODE = 1 << 0, 1 << 1, 1 << 2
ADDRESS_FIELDS = 1 << 16
KNOWN_REQUIREMENTS = PAGE_ALIGN | MEMORY_INFO | VIDEO_MODE

# Information flags and offsets (3.3).
INFO_SIZE = 116
INFO_MEMORY, INFO_CMDLINE, INFO_MODULES, INFO_MMAP, INFO_LOADER_NAME, INFO_FRAMEBUFFER = (
    1 << n for n in (0, 2, 3, 6, 9, 12)
)
AT_FLAGS, AT_CMDLINE, AT_MODULES, AT_MMAP, AT_LOADER_NAME, AT_FRAMEBUFFER = 0, 16, 20, 44, 64, 88


@dataclass(frozen=True, slots=True)
class Header:
    """A multiboot header; ``valid`` tells whether magic + flags + checksum is 0."""

    offset: int
    flags: int
    valid: bool


def find(head: bytes) -> Header | None:
    """The first header with a right checksum in the beginning of a file, else the first with a wrong one."""
    wrong = None
    magic = pack("<I", HEADER_MAGIC)
    at = head.find(magic, 0, SEARCH)
    while at >= 0:
        if at % 4 == 0 and at + HEADER_SIZE <= min(len(head), SEARCH):
            _, flags, checksum = unpack_from("<III", head, at)
            if HEADER_MAGIC + flags + checksum & 0xFFFF_FFFF == 0:
                return Header(at, flags, True)
            wrong = wrong or Header(at, flags, False)
        at = head.find(magic, at + 1, SEARCH)
    return wrong


def load(image: Image, placement: Placement, options: Options) -> EntryState:
    """Load the kernel and its modules, and build the information structure."""
    header = find(image.head(SEARCH))
    if header is None:
        raise image.error("the file has no multiboot header")
    if not header.valid:
        raise image.error(f"the multiboot header at {header.offset:#x} has a wrong checksum")
    if unknown := header.flags & 0xFFFF & ~KNOWN_REQUIREMENTS:
        raise image.error(f"the multiboot header requires features that are not there (flags {unknown:#x})")
    if header.flags & ADDRESS_FIELDS:
        fields = unpack_from("<5I", image.read(header.offset + HEADER_SIZE, 20, "the multiboot address fields"))
        claim_addressed(image, placement, AddressFields(*fields[:4]), header.offset)
        entry = fields[4]
    else:
        program = elf.parse(image)
        elf.claim_segments(image, program, placement)
        entry = program.entry
    check_entry(image, placement, entry)
    gdt = place_low(placement, flat_gdt(8, 16), "the GDT")
    info = place_information(image, placement, options)
    return flat_mode(Kind.MULTIBOOT1, entry, registers(eax=BOOTLOADER_MAGIC, ebx=info, esp=0x7C00), gdt=gdt)


def place_information(image: Image, placement: Placement, options: Options) -> int:
    """The information structure with all it points to, in one block; returns its address."""
    modules = all_modules(options)
    ranges = place_modules(placement, modules)
    rows = b"".join(pack("<IQQI", 20, row.base, row.size, row.type) for row in placement.memory_map)
    line = encode_text(command_line(image, options), "the command line")
    name = encode_text(BOOT_LOADER_NAME, "the boot loader's name")
    module_lines = [encode_text(module.command_line, "a module's command line") for module in modules]

    at_modules = INFO_SIZE
    at_rows = at_modules + 16 * len(modules)
    at_line = at_rows + len(rows)
    at_name = at_line + len(line)
    at_module_lines = at_name + len(name)
    size = at_module_lines + sum(map(len, module_lines))
    base = placement.find(size, "the multiboot information", align=16, low=LOW_AREA, high=EBDA_BASE, top=True)

    table = b""
    text = base + at_module_lines
    for (start, end), module_line in zip(ranges, module_lines, strict=True):
        table += pack("<4I", start, end, text, 0)
        text += len(module_line)
    info = bytearray(INFO_SIZE)
    flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MMAP | INFO_LOADER_NAME | INFO_FRAMEBUFFER
    pack_into("<III", info, AT_FLAGS, flags, *memory_sizes(placement.memory_map))
    pack_into("<I", info, AT_CMDLINE, base + at_line)
    pack_into("<II", info, AT_MODULES, len(modules), base + at_modules)
    pack_into("<II", info, AT_MMAP, len(rows), base + at_rows)
    pack_into("<I", info, AT_LOADER_NAME, base + at_name)
    text_screen = (
        TEXT_ADDRESS,
        TEXT_COLUMNS * TEXT_BITS // 8,
        TEXT_COLUMNS,
        TEXT_ROWS,
        TEXT_BITS,
        FRAMEBUFFER_EGA_TEXT,
    )
    pack_into("<QIIIBB", info, AT_FRAMEBUFFER, *text_screen)
    placement.claim(
        base, bytes(info) + table + rows + line + name + b"".join(module_lines), "the multiboot information"
    )
    return base
