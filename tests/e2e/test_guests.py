"""The guests of our own: each ends as its row says and prints what QEMU, or the manual, says; twice the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.cli import Outcome, vmm
from tests.guests.build import GUESTS, TIMEOUT, Guest, build, expected, module_file, normalise

FEW_INSNS = 8_000_000
"""Enough for the BIOS to start a boot sector that loops for ever."""
EXIT = ("-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-no-reboot", "-display", "none", "-serial", "null")


def run(name: str, row: Guest, folder: Path) -> Outcome:
    image = build(name)
    boots = {"sector": (image,), "floppy": ("-fda", image), "disk": ("-hda", image), "kernel": ("-kernel", image)}
    arguments = [*boots[row.boot], *row.arguments, *EXIT]
    if row.append:
        arguments += ["-append", row.append]
    if row.module:
        arguments += ["-initrd", module_file(name)]
    arguments += ["--tc-store", folder.parent / "store"]
    limit = ("--max-insns", str(FEW_INSNS)) if row.status == TIMEOUT else ("--timeout", "60")
    return vmm(folder, *arguments, *limit, logs=("-debugcon",))


@pytest.mark.guest
@pytest.mark.skipif(not shutil.which("nasm") or not shutil.which("gcc"), reason="nasm and gcc make the guests")
@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_of_our_own(name: str, tmp_path: Path) -> None:
    row = GUESTS[name]
    first = run(name, row, tmp_path / "first")
    assert first.status == row.status, first.stderr
    assert normalise(first.files["-debugcon"].encode("latin-1")) == expected(name)
    second = run(name, row, tmp_path / "second")
    assert second.deterministic == first.deterministic
    assert second.stats["recalled"] >= first.stats["recalled"]
