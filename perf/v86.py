"""v86 in Node.js: ``npm install --prefix build v86`` puts it where it is looked for, besides Node's global folder."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

from perf.peer import Job, PeerError
from perf.whole import Whole
from vmm import guests
from vmm.errors import ImageError

SCRIPT = Path(__file__).with_name("v86.mjs")
LOCAL = Path(__file__).parents[1] / "build" / "node_modules"
BIOS_128K, VGABIOS = "bios.bin", "vgabios-stdvga.bin"
"""Beside the 256 KiB image of SeaBIOS: that one asks QEMU for its tables."""


@cache
def find_v86() -> Path | None:
    """The folder of the npm package, if it is installed."""
    folders = [LOCAL]
    if shutil.which("npm"):
        told = subprocess.run(["npm", "root", "--global"], capture_output=True, text=True, check=False).stdout.strip()
        folders += [Path(told)] if told else []
    return next((folder / "v86" for folder in folders if (folder / "v86/build/libv86.mjs").exists()), None)


class V86(Whole):
    """v86."""

    name = "v86"

    def missing(self) -> str | None:
        if not shutil.which("node"):
            return "Node.js is not installed"
        return None if find_v86() else "the npm package v86 is not installed (npm install --prefix build v86)"

    def command(self, job: Job, folder: Path) -> list[str]:
        found = find_v86()
        try:
            bios, vgabios = guests.path("seabios").with_name(BIOS_128K), guests.path("vgabios").with_name(VGABIOS)
        except ImageError as error:
            raise PeerError(f"{self.name}: {error}") from None
        if found is None:
            raise PeerError(f"{self.name} is not installed")
        settings = {
            "bios": str(bios),
            "vgabios": str(vgabios),
            "memory": job.memory,
            "kernel": str(job.kernel),
            "initrd": str(job.initrd) if job.initrd else "",
            "append": job.append,
            "multiboot": job.multiboot,
            "disk": str(job.disk) if job.disk else "",
        }
        return ["node", str(SCRIPT), str(found), json.dumps(settings)]
