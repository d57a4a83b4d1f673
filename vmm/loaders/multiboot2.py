"""Multiboot2 Specification 2.0: a header of tags in the first 32 KiB, entered with EAX = 36D76289h and EBX -> tags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import pack, unpack_from

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
from vmm.loaders.options import Kind, Options, encode_text
from vmm.loaders.placement import Placement, place_low

HEADER_MAGIC = 0xE852_50D6
BOOTLOADER_MAGIC = 0x36D7_6289
ARCHITECTURE_I386 = 0
SEARCH = 32768
"""The header lies in the first 32768 bytes, at a multiple of 8 (3.1.1)."""
FIXED_SIZE = 16
TAG_OPTIONAL = 1
LOAD_FROM_START = 0xFFFF_FFFF

# Header tags (3.1.3 to 3.1.13): type -> bytes of content that are read.
HEADER_END, INFORMATION_REQUEST, ADDRESS, ENTRY_ADDRESS, CONSOLE_FLAGS, FRAMEBUFFER_SIZE = range(6)
MODULE_ALIGN, EFI_BOOT_SERVICES, EFI32_ENTRY, EFI64_ENTRY, RELOCATABLE = range(6, 11)
HEADER_TAGS = {
    INFORMATION_REQUEST: 0,
    ADDRESS: 16,
    ENTRY_ADDRESS: 4,
    CONSOLE_FLAGS: 4,
    FRAMEBUFFER_SIZE: 12,
    MODULE_ALIGN: 0,
    EFI_BOOT_SERVICES: 0,
    EFI32_ENTRY: 4,
    EFI64_ENTRY: 4,
    RELOCATABLE: 16,
}

# Information tags (3.6).
INFO_END, INFO_CMDLINE, INFO_LOADER_NAME, INFO_MODULE, INFO_MEMORY = range(5)
INFO_MMAP, INFO_FRAMEBUFFER, INFO_RSDP_OLD, INFO_RSDP_NEW, INFO_LOAD_BASE = 6, 8, 14, 15, 21
RSDP_OLD_SIZE = 20


@dataclass(frozen=True, slots=True)
class Header:
    """A multiboot2 header; ``valid`` tells whether the four fields sum up to 0."""

    offset: int
    architecture: int
    size: int
    valid: bool


def find(head: bytes) -> Header | None:
    """The first header with a right checksum in the beginning of a file, else the first with a wrong one."""
    wrong = None
    magic = pack("<I", HEADER_MAGIC)
    at = head.find(magic, 0, SEARCH)
    while at >= 0:
        if at % 8 == 0 and at + FIXED_SIZE <= min(len(head), SEARCH):
            _, architecture, size, checksum = unpack_from("<4I", head, at)
            if HEADER_MAGIC + architecture + size + checksum & 0xFFFF_FFFF == 0:
                return Header(at, architecture, size, True)
            wrong = wrong or Header(at, architecture, size, False)
        at = head.find(magic, at + 1, SEARCH)
    return wrong


def header_tags(image: Image, header: Header) -> Iterator[tuple[int, bool, bytes]]:
    """(type, optional, content) of each tag up to the end tag.  Raises ``ImageError`` for sizes that lie."""
    if not FIXED_SIZE <= header.size <= SEARCH - header.offset:
        raise image.error(f"the multiboot2 header's length {header.size:#x} is outside the first {SEARCH} bytes")
    data = image.read(header.offset, header.size, "the multiboot2 header")
    at = FIXED_SIZE
    while at + 8 <= len(data):
        kind, flags, size = unpack_from("<HHI", data, at)
        if size < 8 or at + size > len(data):
            raise image.error(f"the multiboot2 header tag at {header.offset + at:#x} has the impossible size {size:#x}")
        if kind == HEADER_END:
            return
        yield kind, bool(flags & TAG_OPTIONAL), data[at + 8 : at + size]
        at += size + 7 & -8
    raise image.error("the multiboot2 header has no end tag")


def read_tags(image: Image, header: Header) -> dict[int, bytes]:
    """The tags that this loader obeys, by type; refuses a required one that it does not know."""
    tags = {}
    for kind, optional, content in header_tags(image, header):
        if kind not in HEADER_TAGS:
            if not optional:
                raise image.error(f"the multiboot2 header requires the unknown tag {kind}")
            continue
        if len(content) < HEADER_TAGS[kind]:
            raise image.error(f"the multiboot2 header tag {kind} is too short")
        if kind == INFORMATION_REQUEST:
            check_requests(image, content, optional)
        tags[kind] = content
    return tags


def check_requests(image: Image, content: bytes, optional: bool) -> None:
    """Refuse a request for information that this loader never has, unless it is optional."""
    given = {INFO_CMDLINE, INFO_LOADER_NAME, INFO_MODULE, INFO_MEMORY, INFO_MMAP, INFO_FRAMEBUFFER, INFO_LOAD_BASE}
    given |= {INFO_RSDP_OLD, INFO_RSDP_NEW}
    requests = unpack_from(f"<{len(content) // 4}I", content)
    if not optional and (unknown := [kind for kind in requests if kind not in given]):
        raise image.error(f"the multiboot2 header requires the information tag {unknown[0]}, which is not there")


def load(image: Image, placement: Placement, options: Options) -> EntryState:
    """Load the kernel and its modules, and build the information tags."""
    header = find(image.head(SEARCH))
    if header is None:
        raise image.error("the file has no multiboot2 header")
    if not header.valid:
        raise image.error(f"the multiboot2 header at {header.offset:#x} has a wrong checksum")
    if header.architecture != ARCHITECTURE_I386:
        raise image.error(f"the multiboot2 header is for another machine (architecture {header.architecture})")
    tags = read_tags(image, header)
    if ADDRESS in tags:
        if ENTRY_ADDRESS not in tags:
            raise image.error("the multiboot2 header has an address tag but no entry address tag")
        header_address, start, end, bss_end = unpack_from("<4I", tags[ADDRESS])
        if start == LOAD_FROM_START:
            start = header_address - header.offset
            if start < 0:
                raise image.error(
                    f"the multiboot2 header_addr {header_address:#x} is below the header's place in the file"
                )
        base = claim_addressed(image, placement, AddressFields(header_address, start, end, bss_end), header.offset)
        entry = 0
    else:
        program = elf.parse(image)
        elf.claim_segments(image, program, placement)
        base = min(segment.physical for segment in program.segments)
        entry = program.entry
    if ENTRY_ADDRESS in tags:
        (entry,) = unpack_from("<I", tags[ENTRY_ADDRESS])
    check_entry(image, placement, entry)
    gdt = place_low(placement, flat_gdt(8, 16), "the GDT")
    information = build_information(image, placement, options, base if RELOCATABLE in tags else None)
    info = place_low(placement, information, "the multiboot2 information")
    return flat_mode(Kind.MULTIBOOT2, entry, registers(eax=BOOTLOADER_MAGIC, ebx=info, esp=0x7C00), gdt=gdt)


def build_information(image: Image, placement: Placement, options: Options, load_base: int | None) -> bytes:
    """All information tags; they hold no pointers to each other, so they can go anywhere."""
    modules = all_modules(options)
    pitch = TEXT_COLUMNS * TEXT_BITS // 8
    screen = (TEXT_ADDRESS, pitch, TEXT_COLUMNS, TEXT_ROWS, TEXT_BITS, FRAMEBUFFER_EGA_TEXT, 0)
    tags = [
        (INFO_CMDLINE, encode_text(command_line(image, options), "the command line")),
        (INFO_LOADER_NAME, encode_text(BOOT_LOADER_NAME, "the boot loader's name")),
        *(
            (INFO_MODULE, pack("<II", start, end) + encode_text(module.command_line, "a module's command line"))
            for module, (start, end) in zip(modules, place_modules(placement, modules), strict=True)
        ),
        (INFO_MEMORY, pack("<II", *memory_sizes(placement.memory_map))),
        (
            INFO_MMAP,
            pack("<II", 24, 0)
            + b"".join(pack("<QQII", row.base, row.size, row.type, 0) for row in placement.memory_map),
        ),
        (INFO_FRAMEBUFFER, pack("<QIIIBBH", *screen)),
    ]
    if options.rsdp_data:
        new = len(options.rsdp_data) > RSDP_OLD_SIZE
        tags.append((INFO_RSDP_NEW if new else INFO_RSDP_OLD, options.rsdp_data))
    if load_base is not None:
        tags.append((INFO_LOAD_BASE, pack("<I", load_base)))
    tags.append((INFO_END, b""))
    body = b""
    for kind, content in tags:
        tag = pack("<II", kind, 8 + len(content)) + content
        body += tag + bytes(-len(tag) % 8)
    return pack("<II", 8 + len(body), 0) + body
