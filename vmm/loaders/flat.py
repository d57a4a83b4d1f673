"""Flat binaries: bytes at an address, entered there."""

from __future__ import annotations

from vmm.loaders.entry import EntryState, flat_gdt, flat_mode, real_mode, registers
from vmm.loaders.image import Image
from vmm.loaders.options import HIGH_RAM_BASE, Kind, Mode, Options
from vmm.loaders.placement import Placement, place_low

DEFAULT_ADDRESSES = {Mode.REAL16: 0x7C00, Mode.FLAT32: HIGH_RAM_BASE}


def load(image: Image, placement: Placement, options: Options) -> EntryState:
    """The whole file at ``options.address``.  Raises ``ImageError`` if it, or the entry point, does not fit."""
    address = DEFAULT_ADDRESSES[options.mode] if options.address is None else options.address
    entry = address if options.entry is None else options.entry
    placement.reserve(address, image.size, "the flat binary")
    placement.fill(address, image.tail(0, "the flat binary"))
    if not placement.covers(entry):
        raise image.error(f"the entry point {entry:#x} is outside the flat binary at {address:#x}")
    if options.mode is Mode.FLAT32:
        gdt = place_low(placement, flat_gdt(8, 16), "the GDT")
        return flat_mode(Kind.FLAT, entry, registers(esp=0x7C00), gdt=gdt)
    if entry >= HIGH_RAM_BASE:
        raise image.error(f"the entry point {entry:#x} is out of reach in real mode")
    return real_mode(Kind.FLAT, entry)
