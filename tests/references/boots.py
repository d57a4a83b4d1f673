"""Boots of other people's guests, recorded once: every later version has to repeat them, instruction for instruction.

``python -m tests.references.boots [NAME ...]`` (``make references``) records them again.  That is for changes of what a
guest can see: a device, a table, an instruction's result.  How fast or by which fragments a guest runs is not in them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from vmm.cli.options import RUN_OPTIONS, Draft
from vmm.cli.parse import parse
from vmm.config import MachineConfig
from vmm.guests.store import GuestStore
from vmm.trace import Plan, record

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot: the guests that it needs, by the option that takes each, and what else ``vmm run`` is told."""

    guests: dict[str, str]
    arguments: tuple[str, ...]
    interval: int
    """Instructions between records."""

    def config(self, found: dict[str, Path]) -> MachineConfig:
        """The machine, with the files of the guests by name."""
        images = [word for option, name in self.guests.items() for word in (option, str(found[name]))]
        draft = Draft()
        operands = parse(RUN_OPTIONS, draft, [*images, "-icount", "shift=3", *self.arguments], "vmm run", operands=0)
        assert not operands
        return draft.config()


BOOTS = {
    "seabios": Boot({"-bios": "seabios"}, ("--max-insns", "12_000_000"), 250_000),
    "ipxe": Boot({"-kernel": "ipxe"}, ("--expect", "Press Ctrl-B", "--timeout", "300"), 2_000_000),
    "grub": Boot({"-hda": "grub-image"}, ("--expect", "grub> ", "--timeout", "300"), 1_000_000),
    "linux": Boot(
        {"-kernel": "debian-i386-kernel", "-initrd": "debian-i386-initrd"},
        ("-append", "console=ttyS0", "--max-insns", "1_600_000_000"),
        10_000_000,
    ),
}


def path(name: str) -> Path:
    """The file of a boot's trace."""
    return FOLDER / f"{name}.trace"


def main() -> None:
    """Record the boots that the command line names, or all."""
    for name in sys.argv[1:] or BOOTS:
        boot = BOOTS[name]
        found = {guest: GuestStore().path(guest) for guest in boot.guests.values()}
        trace, result = record(boot.config(found), Plan(interval=boot.interval))
        trace.write(path(name))
        sys.stdout.write(f"{name}: {len(trace.records)} records to {result.insns} instructions: {result.reason}\n")


if __name__ == "__main__":
    main()
