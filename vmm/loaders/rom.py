"""ROM images: a system BIOS, which ends at 4 GiB and is entered at the reset vector, and option ROMs."""

from __future__ import annotations

from dataclasses import replace

from translator.layout import CS
from vmm.cpuid import SIGNATURE
from vmm.loaders.entry import EntryState, SegmentState, real_mode, registers
from vmm.loaders.image import Image
from vmm.loaders.options import HIGH_RAM_BASE, Kind, Options
from vmm.loaders.placement import Placement

BLOCK = 0x1_0000
MAX_SIZE = 16 << 20
"""The PIIX3 decodes no more than this below 4 GiB."""
SHADOW_SIZE = 0x2_0000
"""The last 128 KiB also appear below 1 MiB (82441FX datasheet, 3.2.17, PAM)."""
ROM_END = 1 << 32
RESET_VECTOR = -16
JUMPS = {0xEA, 0xE9, 0xEB}
"""JMP far, near, short: what stands at every BIOS's reset vector."""

OPTION_SIGNATURE = b"\x55\xaa"
OPTION_UNIT = 512
OPTION_BASE = 0xD_0000
"""Behind the VGA BIOS."""
OPTION_ENTRY = 3
"""The offset that the BIOS calls (Plug and Play BIOS specification 1.0A, 3.2)."""


def is_bios(image: Image) -> bool:
    """A multiple of 64 KiB, up to 16 MiB, with a jump at the reset vector?"""
    if image.size % BLOCK or image.size > MAX_SIZE:
        return False
    vector = image.read(image.size + RESET_VECTOR, -RESET_VECTOR, "the reset vector")
    return vector[0] in JUMPS and len(set(vector)) > 2


def is_option_rom(head: bytes, size: int) -> bool:
    """Does the image have an expansion header whose size fits the file?"""
    return head[:2] == OPTION_SIGNATURE and len(head) > OPTION_ENTRY and 0 < head[2] * OPTION_UNIT <= size


def load_bios(image: Image, placement: Placement, options: Options) -> EntryState:
    """The state after RESET: F000:FFF0 with the base FFFF0000h (SDM vol. 3, 9.1.4)."""
    if image.size % BLOCK or image.size > MAX_SIZE:
        raise image.error(f"the ROM image of {image.size:#x} bytes is no multiple of 64 KiB up to 16 MiB")
    data = image.tail(0, "the ROM")
    shadow = data[-SHADOW_SIZE:]
    reset = real_mode(Kind.ROM, 0xFFF0)
    segments = list(reset.segments)
    segments[CS] = SegmentState(0xF000, 0xFFFF_0000, 0xFFFF, 0x9B)
    roms = ((HIGH_RAM_BASE - len(shadow), shadow), (ROM_END - len(data), data))
    return replace(reset, segments=tuple(segments), gpr=registers(edx=SIGNATURE), roms=roms)


def load_option_rom(image: Image, placement: Placement, options: Options) -> EntryState:
    """An option ROM at D000h, entered at offset 3; it counts on a BIOS.  Raises ``ImageError`` for a wrong checksum."""
    size = image.read(0, OPTION_ENTRY, "the ROM header")[2] * OPTION_UNIT
    data = image.read(0, size, "the option ROM")
    if data[:2] != OPTION_SIGNATURE or not size:
        raise image.error("the file is no option ROM")
    if sum(data) & 0xFF:
        raise image.error("the option ROM has a wrong checksum")
    if OPTION_BASE + size > HIGH_RAM_BASE - BLOCK:
        raise image.error(f"the option ROM of {size:#x} bytes does not fit between {OPTION_BASE:#x} and the BIOS")
    state = real_mode(Kind.OPTION_ROM, OPTION_BASE + OPTION_ENTRY, firmware=True)
    return replace(state, roms=((OPTION_BASE, data),))
