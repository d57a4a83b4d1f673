"""Whole boots of other people's programs and of our own, each of them twice: both runs are the same in everything."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.cli import Outcome, guest, vmm
from vmm import builtin

FLAT = bytes.fromhex(
    "ba f803"  # mov dx, 3F8h
    "e8 0000 5e 83c611"  # call $+3; pop si; add si, 17: the text
    "2e ac 84c0 7403 ee ebf7"  # next: cs lodsb; test al, al; jz done; out dx, al; jmp next
    "b003 e6f4"  # done: mov al, 3; out F4h, al
) + b"flat\r\n\0"  # fmt: skip
EXIT = ("-device", "isa-debug-exit,iobase=0xf4,iosize=1")
NO_DISK = r"No bootable device"


@dataclass(frozen=True)
class Boot:
    """One boot: ``arguments(folder)`` are those of ``vmm run``, the rest is what it must show."""

    arguments: Callable[[Path], tuple[str | Path, ...]]
    shows: tuple[str, ...]
    """Regular expressions for what the terminal shows, in this order."""
    log: tuple[str, ...] = ()
    """The same for SeaBIOS's log at port 402h."""
    status: int = 0
    marks: tuple[pytest.MarkDecorator, ...] = field(default=(pytest.mark.guest,))


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


BOOTS = {
    "seabios": Boot(
        lambda folder: ("-serial", "null", "--expect", NO_DISK),
        (r"SeaBIOS \(version 1\.16", r"Booting from Hard Disk|Boot failed|No bootable device"),
        (
            r"SeaBIOS \(version 1\.16",
            r"Running option rom at c000:0003",
            r"Scan for VGA option rom|Turning on vga text mode console",
            r"Found 0 cpu|Found 1 cpu|All threads complete",
            r"No bootable device",
        ),
    ),
    "ipxe": Boot(
        lambda folder: (guest("ipxe"), "-serial", "null", "--expect", "Press Ctrl-B"),
        (
            r"SeaBIOS",
            r"iPXE initialising devices\.\.\.ok",
            r"iPXE 1\.0\.0\+git\S* -- Open Source Network Boot Firmware",
            r"Features: DNS HTTP iSCSI NFS TFTP SRP AoE ELF MBOOT PXE bzImage Menu PXEXT",
        ),
        (r"Booting from ROM",),
    ),
    "bzimage": Boot(
        lambda folder: (
            *("-kernel", guest("memtest86+"), "-bios", guest("seabios"), "-m", "16M"),
            *("-serial", "null", "--expect", "to start testing"),
        ),
        (r"SeaBIOS", r"Memtest86\+ v6", r"Memory  :   16MB"),
        (r"Booting from ROM",),
    ),
    "grub-image": Boot(
        lambda folder: ("-hda", guest("grub-image"), *GRUB_CONVERSATION),
        (r"GNU GRUB +version 2\.06", r"grub> ", r"sum 12, status 0"),
        (r"Booting from Hard Disk",),
    ),
    "grub-iso": Boot(
        lambda folder: ("-cdrom", guest("grub-iso"), "-boot", "d", *GRUB_CONVERSATION),
        (r"GNU GRUB +version 2\.06", r"grub> ", r"sum 12, status 0"),
        (r"Booting from DVD/CD",),
    ),
    "multiboot": Boot(
        lambda folder: ("-kernel", _file(folder, "builtin", builtin.image()), "--expect", builtin.LAST_LINE),
        (r"2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59 61 67 71 73 79 83 89 97", r"done"),
        marks=(),
    ),
    "flat": Boot(lambda folder: (_file(folder, "flat", FLAT), *EXIT), (r"^flat$",), status=7, marks=()),
}
GRUB_CONVERSATION = (
    *("--expect", "grub> ", "--send", r"set n=12\r", "--expect", "grub> "),
    *("--send", r"echo sum $n, status $?\r", "--expect", "sum 12, status 0"),
)


def run(name: str, folder: Path) -> Outcome:
    folder.mkdir()
    return vmm(folder, *BOOTS[name].arguments(folder), "--timeout", "100", logs=("--bios-log",))


def in_order(patterns: tuple[str, ...], text: str) -> None:
    """Each pattern matches behind the one before."""
    at = 0
    for pattern in patterns:
        match = re.compile(pattern, re.MULTILINE).search(text, at)
        assert match, f"{pattern!r} is not in {text[at:]!r}"
        at = match.end()


@pytest.mark.parametrize("name", [pytest.param(name, marks=boot.marks) for name, boot in BOOTS.items()])
def test_a_boot(name: str, tmp_path: Path) -> None:
    boot = BOOTS[name]
    first = run(name, tmp_path / "first")
    assert first.status == boot.status, first.stderr
    in_order(boot.shows, first.output)
    in_order(boot.log, first.files["--bios-log"])
    second = run(name, tmp_path / "second")
    assert second.deterministic == first.deterministic
