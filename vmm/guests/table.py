"""The table of guests that other people wrote, and where their files come from.

Every file is taken unmodified out of a Debian 12 package.  The versions that were tried are pinned by the
SHA-256 of the file; another version of the same series is taken if Debian no longer has those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package with files of interest."""

    name: str
    versions: Mapping[str, Mapping[str, str]]
    """Pinned versions, newest first: SHA-256 in hex by file (path in the package, without the first slash)."""
    acceptable: str
    """A shell pattern of versions that may stand in for the pinned ones, unverified but for apt's signature."""
    folder: str = ""
    """A folder that is wanted whole; else only the files named in ``versions``."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files whose content is pinned."""
        return tuple(next(iter(self.versions.values())))


@dataclass(frozen=True, slots=True)
class Guest:
    """Something to run in the machine, or that it needs to run."""

    name: str
    help: str
    package: Package
    file: str
    """Path in the package; or the name of the file that ``recipe`` makes."""
    recipe: str = ""
    """How the file is made from the package: a key of ``store.RECIPES``; empty if it is taken as it is."""


_INSTALLER = "usr/lib/debian-installer/images/12/i386/text/debian-installer/i386/"
_GRUB = "usr/lib/grub/i386-pc/"

SEABIOS = Package(
    "seabios",
    {
        "1.16.2-1": {
            "usr/share/seabios/bios-256k.bin": "2da2018c7555e50b660a84a273a14a79cb87b9070fe6a90e9f151a53e357f7e6",
            "usr/share/seabios/vgabios-isavga.bin": "26f5061af797a5537df089025938fa3587c38c2270ec8d77fa384c4563eb834c",
            "usr/share/seabios/vgabios-stdvga.bin": "cc2f735f19b6318922ac3de9506dee498f149a6b75534f7e5c176d4441a7fa4a",
        }
    },
    "1.16.*",
)
IPXE = Package(
    "ipxe",
    {
        "1.0.0+git-20190125.36a4c85-5.1": {
            "boot/ipxe.lkrn": "b00bc0a320b0943c1de39a05a4c5e36ca51a37a6dd9787a50c79d5516040cd3c",
        }
    },
    "1.0.0+git-*",
)
MEMTEST = Package(
    "memtest86+",
    {"6.10-4": {"boot/memtest86+ia32.bin": "9aee6d56888b8a78fa1dd774b341db40ea8049a576417de302e5daed4c91707e"}},
    "6.*",
)
LINUXBOOT = Package(
    "qemu-system-data",
    {
        "1:7.2+dfsg-7+deb12u18": {
            "usr/share/qemu/linuxboot_dma.bin": "388e7e5dc15ac1884cd5a65cccee09ff68837a50da41228f88a0fd45f4f2ff7d",
        }
    },
    "1:7.2+dfsg-7+deb12u*",
)
INSTALLER = Package(
    "debian-installer-12-netboot-i386",
    {
        "20230607+deb12u15": {
            _INSTALLER + "linux": "c77cd9c37609b8b1b1cdfbb91b644a44d606d3d75da8656a0c79635be0b89c21",
            _INSTALLER + "initrd.gz": "c24f8bfb72a45b9231e3e5a4257f108f2ea7f48ce2cf68f614654d0da4463201",
        }
    },
    "20230607+deb12u*",
)
GRUB = Package(
    "grub-pc-bin",
    {
        "2.06-13+deb12u2": {
            _GRUB + "boot.img": "6343b7e9f06388566ea5b6e8a3535fbaec1f695a0b3793caee5386237d4d3450",
            _GRUB + "kernel.img": "26f189da984e3d3a93b92c3be1321e179863e9a7a9c7b31d3012d840ea3bf617",
            _GRUB + "moddep.lst": "2452591d4a37a2d89af7b3722ad3801c13f28c25821a600ed9bd4314a79dfc51",
        }
    },
    "2.06-13+deb12u*",
    folder=_GRUB,
)

GUESTS: Mapping[str, Guest] = {
    guest.name: guest
    for guest in (
        Guest("seabios", "the BIOS", SEABIOS, "usr/share/seabios/bios-256k.bin"),
        Guest("vgabios", "the BIOS of an ISA VGA card", SEABIOS, "usr/share/seabios/vgabios-isavga.bin"),
        Guest("vgabios-std", "the BIOS of a PCI VGA card", SEABIOS, "usr/share/seabios/vgabios-stdvga.bin"),
        Guest(
            "linuxboot", "option ROM that starts -kernel from the BIOS", LINUXBOOT, "usr/share/qemu/linuxboot_dma.bin"
        ),
        Guest("ipxe", "network boot loader, in the format of a Linux kernel", IPXE, "boot/ipxe.lkrn"),
        Guest("memtest86+", "memory test, 32-bit", MEMTEST, "boot/memtest86+ia32.bin"),
        Guest("debian-i386-kernel", "Linux of Debian 12's installer", INSTALLER, _INSTALLER + "linux"),
        Guest("debian-i386-initrd", "initial RAM disk of Debian 12's installer", INSTALLER, _INSTALLER + "initrd.gz"),
        Guest("grub-image", "hard disk with GRUB, prompt on screen and serial port", GRUB, "grub.img", "disk"),
        Guest("grub-iso", "CD-ROM with GRUB, prompt on screen and serial port", GRUB, "grub.iso", "iso"),
    )
}
"""Guests by the name they have on the command line."""
