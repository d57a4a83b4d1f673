"""What the two multiboot protocols share: address fields, modules, memory sizes, the text screen."""

from __future__ import annotations

from dataclasses import dataclass

from vmm.loaders.image import Image
from vmm.loaders.options import HIGH_RAM_BASE, LOW_RAM_END, USABLE, MemoryRange, Module, Options
from vmm.loaders.placement import Placement

BOOT_LOADER_NAME = "vmm"
PAGE = 0x1000
ADDRESS_END = 1 << 32

TEXT_ADDRESS = 0xB_8000
TEXT_COLUMNS = 80
TEXT_ROWS = 25
TEXT_BITS = 16
FRAMEBUFFER_EGA_TEXT = 2
"""The screen is in VGA text mode 3."""


@dataclass(frozen=True, slots=True)
class AddressFields:
    """The address override of a header: where a file that is no ELF (or hides it) goes, all physical."""

    header: int
    load: int
    load_end: int
    """0: to the end of the file."""
    bss_end: int
    """0: no bss."""


def claim_addressed(image: Image, placement: Placement, fields: AddressFields, header_offset: int) -> int:
    """Plan the image by its address fields; returns the load address.

    Raises ``ImageError`` for fields that contradict each other, leave the file or leave RAM.
    """
    load = fields.load
    if fields.header < load:
        raise image.error(f"the multiboot header_addr {fields.header:#x} is below load_addr {load:#x}")
    offset = header_offset - (fields.header - load)
    if offset < 0:
        raise image.error(f"the multiboot load_addr {load:#x} lies before the beginning of the file")
    load_end = fields.load_end or load + image.size - offset
    if load_end < fields.header:
        raise image.error(f"the multiboot load_end_addr {fields.load_end:#x} is below the header at {fields.header:#x}")
    end = fields.bss_end or load_end
    if end < load_end:
        raise image.error(f"the multiboot bss_end_addr {end:#x} is below load_end_addr {load_end:#x}")
    placement.reserve(load, end - load, "the multiboot image")
    placement.fill(load, image.read(offset, load_end - load, "the multiboot image"), end - load)
    return load


def check_entry(image: Image, placement: Placement, entry: int) -> int:
    """Raises ``ImageError`` if the entry point is not in what was loaded."""
    if not placement.covers(entry):
        raise image.error(f"the multiboot entry point {entry:#x} is outside the loaded image")
    return entry


def all_modules(options: Options) -> tuple[Module, ...]:
    """The modules in order; the initrd, if there is one, is the first."""
    return ((Module(options.initrd, "initrd"),) if options.initrd else ()) + options.modules


def place_modules(placement: Placement, modules: tuple[Module, ...]) -> list[tuple[int, int]]:
    """Put the modules on page boundaries after the kernel; returns (start, end) of each."""
    rows = []
    for n, module in enumerate(modules):
        low = max(HIGH_RAM_BASE, placement.end)
        start = placement.place(module.data, f"module {n}", align=PAGE, low=low, high=ADDRESS_END)
        rows.append((start, start + len(module.data)))
    return rows


def memory_sizes(memory_map: tuple[MemoryRange, ...]) -> tuple[int, int]:
    """(mem_lower, mem_upper) in KiB: RAM from 0, and from 1 MiB up to the first hole."""
    lower = upper = 0
    for row in memory_map:
        if row.type == USABLE and row.base == 0:
            lower = min(row.size, LOW_RAM_END) >> 10
        if row.type == USABLE and row.base <= HIGH_RAM_BASE < row.base + row.size:
            upper = row.base + row.size - HIGH_RAM_BASE >> 10
    return lower, upper


def command_line(image: Image, options: Options) -> str:
    """The image's name and the user's arguments, as boot loaders give it."""
    return f"{image.name} {options.append}".strip()
