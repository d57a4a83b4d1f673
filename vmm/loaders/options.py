"""What the user asks of a loader, and what the board tells it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from vmm.errors import ImageError
from vmm.loaders.image import Image

LOW_RAM_END = 0xA_0000
"""Conventional memory ends where the VGA's window begins."""
EBDA_BASE = 0x9_FC00
"""The extended BIOS data area: the last KiB of conventional memory, reserved in the memory map."""
BIOS_BASE = 0xF_0000
HIGH_RAM_BASE = 0x10_0000
"""Extended memory."""


class Kind(Enum):
    """What an image is; the value is its name for users."""

    MULTIBOOT1 = "multiboot"
    MULTIBOOT2 = "multiboot2"
    ELF32 = "elf32"
    LINUX = "bzimage"
    FLOPPY = "floppy"
    DISK = "disk"
    ISO = "iso"
    ROM = "rom"
    OPTION_ROM = "option-rom"
    FLAT = "flat"


class Mode(Enum):
    """How the processor stands at the first instruction."""

    REAL16 = "real16"
    """Real mode, segment limits of 64 KiB."""
    FLAT32 = "flat32"
    """Protected mode, ring 0, flat 4 GiB segments, paging off."""


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """A row of the memory map as INT 15h, AX=E820h gives it (ACPI specification, 15.1)."""

    base: int
    size: int
    type: int
    """1 usable, 2 reserved, 3 ACPI reclaimable, 4 ACPI NVS."""


USABLE, RESERVED = 1, 2


def pc_memory_map(ram_size: int) -> tuple[MemoryRange, ...]:
    """The map of a plain PC with *ram_size* bytes of RAM, without ACPI tables."""
    rows = [MemoryRange(0, min(ram_size, EBDA_BASE), USABLE)]
    if ram_size > EBDA_BASE:
        rows.append(MemoryRange(EBDA_BASE, LOW_RAM_END - EBDA_BASE, RESERVED))
    rows.append(MemoryRange(BIOS_BASE, HIGH_RAM_BASE - BIOS_BASE, RESERVED))
    if ram_size > HIGH_RAM_BASE:
        rows.append(MemoryRange(HIGH_RAM_BASE, ram_size - HIGH_RAM_BASE, USABLE))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class Module:
    """A file for a multiboot kernel, with its command line."""

    data: bytes
    command_line: str = ""


def read_modules(text: str) -> tuple[Module, ...]:
    """The modules of an ``-initrd`` argument as QEMU writes it: ``file arguments,file arguments``.

    A comma in a name is doubled.  Raises ``ImageError`` for a file that cannot be read.
    """
    modules = []
    for part in text.replace(",,", "\0").split(","):
        line = part.replace("\0", ",").strip()
        path, _, arguments = line.partition(" ")
        with Image.open(path) as image:
            name = Path(path).name
            modules.append(Module(image.tail(0, "the module"), f"{name} {arguments}".strip()))
    return tuple(modules)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything beside the image.  Defaults suit any image; options that an image does not know are ignored."""

    kind: Kind | None = None
    """Take the image for this; ``None`` recognises it by its content."""
    append: str = ""
    """The kernel's command line."""
    initrd: bytes = b""
    """The initial RAM disk; a multiboot kernel gets it as its first module."""
    modules: tuple[Module, ...] = ()
    """Modules of a multiboot kernel."""
    memory_map: tuple[MemoryRange, ...] | None = None
    """The board's E820 map; ``None`` is ``pc_memory_map``."""
    rsdp: int = 0
    """Physical address of the ACPI RSDP; 0 is none."""
    rsdp_data: bytes = b""
    """A copy of the RSDP (20 or 36 bytes), for the ACPI tag of multiboot 2."""
    mode: Mode = Mode.REAL16
    """How a flat binary is entered."""
    address: int | None = None
    """Where a flat binary is loaded: by default 7C00h in real mode, 1 MiB in protected mode."""
    entry: int | None = None
    """Where a flat binary is entered: by default at its first byte."""


def encode_text(text: str, what: str) -> bytes:
    """*text* as a C string.  Raises ``ImageError`` if it holds a NUL."""
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ImageError(f"{what} holds a NUL character")
    return data + b"\0"
