"""Which drive an image goes into, and the media of drives."""

from __future__ import annotations

from dataclasses import replace

from devices.backends import Disk
from vmm import loaders
from vmm.config import Drive, MachineConfig
from vmm.disks import Access, open_cdrom, open_disk, open_floppy
from vmm.errors import UsageError

PLACES = {
    loaders.Kind.FLOPPY: ("floppy", "disk", "a", (0, 1)),
    loaders.Kind.DISK: ("ide", "disk", "c", (0, 1, 2, 3)),
    loaders.Kind.ISO: ("ide", "cdrom", "d", (2, 0, 1, 3)),
}
"""Images that go into a drive: interface, medium, letter of the boot order, and the drives in order of preference."""


def with_medium(config: MachineConfig) -> tuple[MachineConfig, loaders.Kind | None]:
    """The configuration with an image that is a disk, diskette or CD in its drive, and the kind of the image if any.

    Raises ``ImageError`` if it cannot be read, ``UsageError`` if all its drives are taken.
    """
    if config.image is None:
        return config, None
    with loaders.Image.open(config.image) as image:
        kind = loaders.recognise(image)
    if kind not in PLACES:
        return config, kind
    interface, media, letter, places = PLACES[kind]
    taken = {(drive.interface, drive.index) for drive in config.drives}
    index = next((n for n in places if (interface, n) not in taken), None)
    if index is None:
        raise UsageError(f"there is no free drive for {config.image}")
    drive = Drive(config.image, interface, index, media)
    return replace(config, drives=(*config.drives, drive), boot=config.boot or letter), kind


def open_medium(drive: Drive) -> Disk:
    """The medium of a drive.  Raises ``ImageError``."""
    if drive.media == "cdrom":
        return open_cdrom(str(drive.file))
    access = Access.READ_ONLY if drive.read_only else Access.OVERLAY if drive.snapshot else Access.READ_WRITE
    return (open_floppy if drive.interface == "floppy" else open_disk)(str(drive.file), access)
