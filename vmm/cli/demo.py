"""``vmm demo``: the main demonstration, what ``make run`` runs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmm.builtin import LAST_LINE, image
from vmm.cli.run import run
from vmm.errors import ImageError

USAGE = """usage: vmm demo [options of vmm run]

Debian's unmodified SeaBIOS boots a disk with Debian's unmodified GRUB, and a command is typed at its prompt.
Where no Debian package can be had, a built-in guest runs instead."""

GRUB_CONVERSATION = (
    *("--expect", "grub> ", "--send", r"ls\r"),
    *("--expect", r"\(hd0,msdos1\)", "--send", r"echo the exit status is $?\r"),
    *("--expect", "the exit status is 0"),
)


def demo(arguments: Sequence[str]) -> int:
    """Run the demonstration with extra *arguments*; the exit status."""
    if arguments and arguments[0] in ("-h", "-help", "--help"):
        print(USAGE)
        return 0
    common = ["--display", "none", "--stats", "--timeout", "300"]
    try:
        from vmm.guests import GuestStore

        store = GuestStore()
        store.path("seabios")
        disk = store.path("grub-image")
    except ImageError as error:
        print(f"vmm: {error}; the built-in guest runs instead", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="vmm-") as folder:
            kernel = Path(folder, "builtin")
            kernel.write_bytes(image())
            return run(["-kernel", str(kernel), *common, "--expect", LAST_LINE, *arguments])
    return run(["-hda", str(disk), *common, *GRUB_CONVERSATION, *arguments])
