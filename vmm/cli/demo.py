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

Debian's unmodified i386 kernel boots with the installer's unmodified initial RAM disk to a BusyBox shell, some commands
are typed, and the machine is switched off.  Where no Debian package can be had, a built-in guest runs instead."""

PROMPT = "~ # "
COMMANDS = (
    ("uname -a", r"i686 GNU/Linux"),
    ("mount -t proc proc /proc; cat /proc/cpuinfo", r"model name\s*: .+"),
    ("ls / | wc -l", r"^\d+$"),
    ("sleep 1 & echo in the background; wait; echo awake", r"^awake$"),
    ("a=`cut -d. -f1 /proc/uptime`; sleep 1; expr `cut -d. -f1 /proc/uptime` - $a", r"^[12]$"),
    ("poweroff -f", r"reboot: Power down"),
)
"""What is typed, and what answers it."""
LINUX = ("-m", "512M", "-append", "console=ttyS0 rdinit=/bin/sh cryptomgr.notests")
"""Without the self-tests of the crypto API, which are two thirds of the boot."""


def demo(arguments: Sequence[str]) -> int:
    """Run the demonstration with extra *arguments*; the exit status."""
    if arguments and arguments[0] in ("-h", "-help", "--help"):
        print(USAGE)
        return 0
    common = ["--display", "none", "--stats", "--timeout", "900"]
    try:
        from vmm.guests import GuestStore

        store = GuestStore()
        kernel, initrd = store.path("debian-i386-kernel"), store.path("debian-i386-initrd")
    except ImageError as error:
        print(f"vmm: {error}; the built-in guest runs instead", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="vmm-") as folder:
            builtin = Path(folder, "builtin")
            builtin.write_bytes(image())
            return run(["-kernel", str(builtin), *common, "--expect", LAST_LINE, *arguments])
    conversation: list[str] = []
    for command, answer in COMMANDS:
        conversation += ["--expect", PROMPT, "--send", command + r"\n", "--expect", answer]
    return run(["-kernel", str(kernel), "-initrd", str(initrd), *LINUX, *common, *conversation, *arguments])
