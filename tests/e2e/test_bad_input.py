"""What a user can do wrong: one sentence on stderr, the right status, nothing on stdout, never a traceback."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cli import ROOT, vmm
from tests.guests.build import build
from tests.loader_images import bzimage, elf, multiboot1_elf, sector
from vmm import cli

MIB = 1 << 20
HUGE_SIZE = 5 << 30


def sparse(path: Path, size: int, head: bytes = b"\xf4") -> Path:
    path.write_bytes(head)
    os.truncate(path, size)
    return path


def image(data: bytes, *more: str, option: str = "") -> Callable[[Path], list[str]]:
    """Arguments that name a file with these bytes."""

    def arguments(path: Path) -> list[str]:
        path.write_bytes(data)
        return [*([option] if option else []), str(path), *more]

    return arguments


def _with_initrd(path: Path) -> list[str]:
    initrd = sparse(path.with_name("initrd"), HUGE_SIZE)
    return [*image(bzimage(), option="-kernel")(path), "-initrd", str(initrd)]


ROWS = {
    "missing": (lambda path: [str(path)], 4, "image: {path}: No such file or directory"),
    "missing kernel": (lambda path: ["-kernel", str(path)], 4, "-kernel: {path}: No such file or directory"),
    "empty": (image(b""), 4, "image: {path} is empty"),
    "a folder": (lambda path: [str(path.parent)], 4, "image: {folder} is a directory"),
    "a device": (lambda path: ["/dev/zero"], 4, "zero: the image is neither a regular file nor a block device"),
    "truncated ELF": (image(elf()[:40]), 4, "image: the file is truncated: the ELF header"),
    "truncated segment": (image(elf()[:90]), 4, "image: the file is truncated: ELF segment 0"),
    "truncated kernel": (image(bzimage(cut=512)), 4, "image: the kernel is truncated"),
    "oversized": (
        lambda path: ["-m", "1M", str(sparse(path, HUGE_SIZE))],
        4,
        "image: the flat binary (0x7c00 to 0x140007c00) does not fit the guest's RAM of 0x100000",
    ),
    "oversized floppy": (lambda path: ["-fda", str(sparse(path, HUGE_SIZE))], 4, "cannot use {path} as a floppy image"),
    "oversized initrd": (_with_initrd, 4, "initrd: the initrd of 5368709120 bytes does not fit into the guest's RAM"),
    "another machine": (image(elf(machine=40)), 4, "image: the ELF file is for another machine (EM_ARM)"),
    "64 bits": (image(elf(**{"class": 2})), 4, "image: the ELF file is 64-bit, not 32-bit"),
    "wrong checksum": (
        image(multiboot1_elf(checksum=1)),
        4,
        "image: the multiboot header at 0x1000 has a wrong",
    ),
    "outside RAM": (
        image(elf(((0x200_0000, 0x200_0000, 4096, b"x"),), 0x200_0000), "-m", "16M"),
        4,
        "image: ELF segment 0 (0x2000000 to 0x2001000) does not fit the guest's RAM",
    ),
    "no multiple of 512": (
        image(sector(4 * MIB + 5)),
        4,
        "cannot use {path} as a disk image: its size, 4194309",
    ),
    "qcow2": (image(b"QFI\xfb" + bytes(508), option="-hda"), 4, "cannot use {path} as a disk image: it is in qcow2"),
    "a wrong BIOS": (image(bytes(1000), option="-bios"), 4, "-bios: {path} is 1000 bytes long, not a multiple of 64K"),
    "a disk as a kernel": (
        image(sector(4 * MIB), option="-kernel"),
        4,
        "image: the file is a disk image, not a",
    ),
    "no memory": (lambda path: ["-m", "0"], 2, "-m: guest memory must be between 1M and 3G"),
    "too much memory": (lambda path: ["-m", "999G"], 2, "-m: guest memory must be between 1M and 3G"),
    "unknown option": (lambda path: ["--warp"], 2, "unknown option --warp"),
    "bad pattern": (lambda path: ["--expect", "("], 2, "--expect: '(' is not a regular expression"),
    "long command line": (
        image(bzimage(), "-append", "x" * 4000, option="-kernel"),
        2,
        "-append: the command line is longer than 2047 bytes",
    ),
    "no floppy drive left": (
        lambda path: [*image(sector())(path), "-fda", str(path), "-fdb", str(path)],
        2,
        "there is no free drive for {path}",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_mistake(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, status, sentence = ROWS[name]
    path = tmp_path / "image"
    assert cli.main(["run", *arguments(path)]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("vmm: " + sentence.format(path=path, folder=tmp_path))
    assert said.err.endswith(f" (status {status})\n")
    assert said.err.count("\n") == 1


needs_nasm = pytest.mark.skipif(not shutil.which("nasm"), reason="nasm makes the guest")


@pytest.mark.guest
@needs_nasm
@pytest.mark.parametrize("options", [(), ("-display", "none"), ("-nographic",), ("--no-chaining",)])
def test_control_c_ends_a_guest_that_loops_for_ever(options: tuple[str, ...], tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(log)
    command = [sys.executable, "-m", "vmm", "run", str(build("loop")), *options, "-debugcon", f"file:{log}"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    try:
        with log.open("rb") as said:
            assert said.read(1), "the guest says that it is there"
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)  # before the reader goes: it may have more to say
    finally:
        process.kill()
    assert (process.returncode, stderr) == (130, b"vmm: interrupted by Ctrl-C (status 130)\n")


@pytest.mark.guest
@needs_nasm
@pytest.mark.parametrize(("options", "kept"), [((), True), (("snapshot=off",), False), (("readonly=on",), True)])
def test_what_becomes_of_the_users_disk(options: tuple[str, ...], kept: bool, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    shutil.copyfile(build("bios_disk"), disk)
    before = hashlib.sha256(disk.read_bytes()).hexdigest()
    drive = ",".join((f"file={disk}", *options))
    exit_ = ("-device", "isa-debug-exit,iobase=0xf4,iosize=4")
    vmm(tmp_path / "run", "-drive", drive, *exit_, "--timeout", "60", "-display", "none")
    assert (hashlib.sha256(disk.read_bytes()).hexdigest() == before) is kept
