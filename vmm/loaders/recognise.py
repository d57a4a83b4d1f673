"""What an image is, by its content alone."""

from __future__ import annotations

from vmm.loaders import disk, elf, eltorito, linux, multiboot1, multiboot2, rom
from vmm.loaders.image import Image
from vmm.loaders.options import Kind

HEAD = eltorito.PRIMARY_DESCRIPTOR + eltorito.SECTOR


def recognise(image: Image) -> Kind:
    """The kind of *image*; what bears no mark at all is a flat binary.

    A multiboot 1 header wins over a multiboot 2 header in the same file.  A boot sector wins over a multiboot header in
    a later sector: GRUB's own core image has one.  A multiboot header with a wrong checksum in an ELF file or in a file
    without other marks counts, so that the loader can say so.
    """
    head = image.head(HEAD)
    if head.startswith(elf.MAGIC):
        return multiboot_kind(head, any_checksum=True) or Kind.ELF32
    if head[linux.AT_HDRS : linux.AT_HDRS + 4] == linux.HDRS:
        return Kind.LINUX
    if rom.is_option_rom(head, image.size):
        return Kind.OPTION_ROM
    if eltorito.is_iso(head):
        return Kind.ISO
    boots = head[disk.AT_SIGNATURE : disk.SECTOR] == disk.SIGNATURE
    if kind := multiboot_kind(head[: disk.SECTOR] if boots else head, any_checksum=False):
        return kind
    if rom.is_bios(image):
        return Kind.ROM
    if boots:
        return disk.classify(image)
    return multiboot_kind(head, any_checksum=True) or Kind.FLAT


def multiboot_kind(head: bytes, *, any_checksum: bool) -> Kind | None:
    """Which multiboot header the beginning of a file holds; one with a wrong checksum only if *any_checksum*."""
    found = ((Kind.MULTIBOOT1, multiboot1.find(head)), (Kind.MULTIBOOT2, multiboot2.find(head)))
    for kind, header in found:
        if header and header.valid:
            return kind
    if any_checksum:
        for kind, header in found:
            if header:
                return kind
    return None
