"""Bochs, without a window: GRUB starts the guest from a CD-ROM, since Bochs itself starts nothing but a BIOS."""

from __future__ import annotations

import io
import shutil
import struct
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from perf.peer import Job, PeerError
from perf.whole import Whole
from vmm import guests
from vmm.errors import ImageError
from vmm.guests.iso import BLOCK

SETTINGS = """\
display_library: rfb, options="timeout=0"
config_interface: textconfig
romimage: file={bios}
vgaromimage: file={vgabios}
megs: {memory}
cpu: model=p3_katmai
clock: sync=none
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path={cdrom}, status=inserted
{disk}
boot: cdrom
com1: enabled=1, mode=file, dev=/dev/stdout
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
log: {folder}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""
"""Nobody has to look at the display (timeout); without the dummies a host without sound makes it crash."""
DISK = "ata0-master: type=disk, path={disk}, mode=flat, cylinders=0"
BIOS_128K, VGABIOS = "bios.bin", "vgabios-stdvga.bin"
CONTINUE = "c\n"
"""For a Bochs with its debugger, which waits for a command."""
_CATALOGUE_AT = 17 * BLOCK + 0x47  # El Torito: where the boot record says that the catalogue is
_DEFAULT_ENTRY, _IMAGE_AT, _IMAGE_SIZE_AT = 32, 8, 16
_PADDING = 150 * BLOCK  # GRUB reads ahead


def _grub(cdrom: bytes) -> bytes:
    """The boot image of a CD-ROM, which says itself how long it is (as xorriso's -boot-info-table makes it)."""
    (catalogue,) = struct.unpack_from("<I", cdrom, _CATALOGUE_AT)
    (block,) = struct.unpack_from("<I", cdrom, catalogue * BLOCK + _DEFAULT_ENTRY + _IMAGE_AT)
    (size,) = struct.unpack_from("<I", cdrom, block * BLOCK + _IMAGE_SIZE_AT)
    return cdrom[block * BLOCK : block * BLOCK + size]


def grub_cdrom(job: Job) -> bytes:
    """A CD-ROM that boots *job* by GRUB.  Raises ``ImageError`` if there is no GRUB."""
    pycdlib: Any = import_module("pycdlib")
    grub = _grub(guests.path("grub-iso").read_bytes())
    commands = [f"multiboot /kernel {job.append}"] if job.multiboot else [f"linux /kernel {job.append}"]
    files = {"KERNEL": job.kernel.read_bytes()}
    if job.initrd:
        commands.append("initrd /initrd")
        files["INITRD"] = job.initrd.read_bytes()
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, rock_ridge="1.09")
    for folder in ("boot", "boot/grub"):
        disc.add_directory(f"/{folder.upper()}", rr_name=folder.rpartition("/")[2])
    for name, data in (
        files | {"BOOT/GRUB/GRUB.CFG": "\n".join([*commands, "boot", ""]).encode(), "GRUB.IMG": grub}
    ).items():
        short = name if "." in name else f"{name}."
        disc.add_fp(io.BytesIO(data), len(data), f"/{short};1", rr_name=name.rpartition("/")[2].lower())
    disc.add_eltorito(
        "/GRUB.IMG;1", bootcatfile="/BOOT.CAT;1", rr_bootcatname="boot.cat", boot_load_size=4, boot_info_table=True
    )
    image = io.BytesIO()
    disc.write_fp(image)
    disc.close()
    return image.getvalue() + bytes(_PADDING)


class Bochs(Whole):
    """Bochs."""

    name = "bochs"

    def missing(self) -> str | None:
        if not shutil.which("bochs"):
            return "bochs is not installed"
        return None if find_spec("pycdlib") else "the Python package pycdlib is not installed"

    def command(self, job: Job, folder: Path) -> list[str]:
        try:
            bios, vgabios = guests.path("seabios").with_name(BIOS_128K), guests.path("vgabios").with_name(VGABIOS)
            cdrom = grub_cdrom(job)
        except ImageError as error:
            raise PeerError(f"{self.name}: {error}") from None
        image, settings, commands = folder / "guest.iso", folder / "bochsrc", folder / "commands"
        image.write_bytes(cdrom)
        commands.write_text(CONTINUE)
        settings.write_text(
            SETTINGS.format(
                bios=bios,
                vgabios=vgabios,
                memory=job.memory,
                cdrom=image,
                folder=folder,
                disk=DISK.format(disk=job.disk) if job.disk else "",
            )
        )
        return ["bochs", "-q", "-f", str(settings), "-rc", str(commands)]
