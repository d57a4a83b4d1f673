"""One way in for every kind of image."""

from __future__ import annotations

import os
from collections.abc import Callable

from vmm.errors import ImageError
from vmm.loaders import disk, elf, eltorito, flat, linux, multiboot1, multiboot2, rom
from vmm.loaders.entry import EntryState
from vmm.loaders.image import Image
from vmm.loaders.options import Kind, Options, pc_memory_map
from vmm.loaders.placement import MemoryWriter, Placement
from vmm.loaders.recognise import recognise

Loader = Callable[[Image, Placement, Options], EntryState]

LOADERS: dict[Kind, Loader] = {
    Kind.MULTIBOOT1: multiboot1.load,
    Kind.MULTIBOOT2: multiboot2.load,
    Kind.ELF32: elf.load,
    Kind.LINUX: linux.load,
    Kind.FLOPPY: disk.load_floppy,
    Kind.DISK: disk.load_hard_disk,
    Kind.ISO: eltorito.load,
    Kind.ROM: rom.load_bios,
    Kind.OPTION_ROM: rom.load_option_rom,
    Kind.FLAT: flat.load,
}


def load(
    source: Image | str | os.PathLike[str], memory: MemoryWriter, ram_size: int, options: Options | None = None
) -> EntryState:
    """Recognise the image, put it into guest memory and say how the guest starts.

    *ram_size* is in bytes, from address 0.  Raises ``ImageError``, one sentence, if the image cannot be loaded; guest
    memory is then untouched.
    """
    if not isinstance(source, Image):
        with Image.open(source) as image:
            return load(image, memory, ram_size, options)
    options = options or Options()
    memory_map = pc_memory_map(ram_size) if options.memory_map is None else options.memory_map
    placement = Placement(ram_size, memory_map, source.name)
    try:
        state = LOADERS[options.kind or recognise(source)](source, placement, options)
    except MemoryError:
        raise ImageError(f"{source.name}: the image is larger than the host's memory") from None
    placement.commit(memory)
    return state
