"""Runs the guests under QEMU 7.2 and writes what they print into ``expected/``.

``python tests/guests/qemu.py [NAME...]``.  Where the table says that QEMU is no oracle, the text is the manual's,
written by hand, and stays.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.guests.build import EXPECTED, GUESTS, HALTED, TIMEOUT, TRIPLE_FAULT, build, module_file, normalise

QEMU = "qemu-system-i386"
SECONDS = 60
ENDLESS_SECONDS = 2
"""How long to look at a guest that is never to end."""


def command(name: str, image: Path, log: Path) -> list[str]:
    """The QEMU command line for a guest; its output goes to *log*."""
    guest = GUESTS[name]
    boot = {
        "sector": ["-drive", f"format=raw,if=floppy,file={image}"],
        "floppy": ["-drive", f"format=raw,if=floppy,file={image}"],
        "disk": ["-drive", f"format=raw,if=ide,file={image}"],
        "kernel": ["-kernel", str(image)],
    }[guest.boot]
    if guest.append:
        boot += ["-append", guest.append]
    if guest.cpu:
        boot += ["-cpu", guest.cpu]
    if guest.module:
        boot += ["-initrd", str(module_file(name))]
    devices = ["-debugcon", f"file:{log}", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    return [QEMU, "-m", "32", "-display", "none", "-nic", "none", "-no-reboot", *guest.arguments, *devices, *boot]


def run(name: str) -> tuple[int, str]:
    """(exit status as ``vmm`` would give it, output) of a guest under QEMU."""
    ending = GUESTS[name].status
    endless = ending in (HALTED, TIMEOUT)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image"
        shutil.copyfile(build(name), image)  # the guest may write to its disk
        log = Path(folder) / "log"
        line = command(name, image, log)
        limit = ENDLESS_SECONDS if endless else SECONDS
        try:
            result = subprocess.run(line, timeout=limit, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            status = result.returncode
        except subprocess.TimeoutExpired:
            status = ending if endless else TIMEOUT
        if status == 0 and ending == TRIPLE_FAULT:  # QEMU's status after -no-reboot
            status = TRIPLE_FAULT
        return status, normalise(log.read_bytes())


def main() -> int:
    """Write the expected texts; 1 if a guest ends otherwise than the table says."""
    wrong = 0
    for name in sys.argv[1:] or GUESTS:
        guest = GUESTS[name]
        if not guest.qemu:
            print(f"{name}: by the manual: {guest.why}")
            continue
        status, text = run(name)
        if status != guest.status:
            print(f"{name}: QEMU ends with {status}, not {guest.status}")
            wrong = 1
            continue
        (EXPECTED / f"{name}.txt").write_text(text)
        print(f"{name}: {len(text.splitlines())} lines")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
