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

from tests.e2e.asm import KERNEL, assemble
from tests.e2e.cli import ROOT, guest, vmm
from tests.guests.build import build
from tests.loader_images import bzimage, elf, multiboot1_elf, sector
from vmm import cli
from vmm.config import DebugExit
from vmm.machine import Machine

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


def _kernel(path: Path) -> list[str]:
    return image(bzimage(), option="-kernel")(path)


def _bios(path: Path) -> Path:
    return sparse(path.with_name("bios"), 1 << 17)


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
    "too little RAM": (
        image(bzimage(), "-m", "1M", option="-kernel"),
        4,
        "image: the kernel with the memory it needs to start (0x200000 to 0x",
    ),
    "too little RAM behind a BIOS": (
        lambda path: [*image(bzimage(), "-m", "1M", option="-kernel")(path), "-bios", str(_bios(path))],
        4,
        "image: the kernel with the memory it needs to start (0x200000 to 0x",
    ),
    "an initrd that leaves no room": (
        lambda path: [*_kernel(path), "-m", "16M", "-initrd", str(sparse(path.with_name("initrd"), 15 * MIB))],
        4,
        "image: the initrd of 0xf00000 bytes does not fit the guest's RAM of 0x1000000 bytes",
    ),
    "an initrd that leaves no room behind a BIOS": (
        lambda path: [
            *(*_kernel(path), "-m", "16M", "-initrd", str(sparse(path.with_name("initrd"), 15 * MIB))),
            *("-bios", str(_bios(path))),
        ],
        4,
        "image: kernel and initrd do not fit into the RAM",
    ),
    "a command line that is too long for this kernel": (
        image(bzimage(), "-append", "x" * 256, option="-kernel"),
        4,
        "image: the command line is 256 bytes, the kernel takes 255",
    ),
    "a kernel older than the protocol": (
        image(bzimage(version=0x0201), option="-kernel"),
        4,
        "image: the kernel's boot protocol 2.01 is older than 2.02",
    ),
    "boot parameters that lie": (
        image(bzimage(init_size=0xFFFF_F000), option="-kernel"),
        4,
        "image: the kernel with the memory it needs to start",
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
def test_a_kernel_that_is_damaged_says_so_itself(tmp_path: Path) -> None:
    damaged = bytearray(guest("debian-i386-kernel").read_bytes())
    damaged[2 * MIB : 2 * MIB + 0x1_0000] = bytes(0x1_0000)
    path = tmp_path / "linux"
    path.write_bytes(damaged)
    append = ("-append", "earlyprintk=serial,ttyS0")
    done = vmm(tmp_path / "run", "-m", "64M", "-kernel", path, *append, "-nographic", "--timeout", "100")
    assert (done.status, done.reason) == (10, "the guest halted for ever (HLT with interrupts off)")
    assert "XZ-compressed data is corrupt" in done.output


@pytest.mark.guest
@pytest.mark.parametrize("option", [(), ("-bios", "{bios}")])
def test_a_kernel_that_is_cut_short(option: tuple[str, ...], tmp_path: Path) -> None:
    whole = guest("debian-i386-kernel").read_bytes()
    path = tmp_path / "linux"
    more = [text.format(bios=_bios(path)) for text in option]
    for size in (700, 0x4FFF, 0x5000, MIB, len(whole) - 2048):
        path.write_bytes(whole[:size])
        done = vmm(tmp_path / "run", "-kernel", path, *more)
        assert (done.status, done.reason.partition(":")[0]) == (4, "linux")
        assert "truncated" in done.reason


PAGING = (
    KERNEL
    + """
        mov edi, 0x200000
        mov ecx, 1024
        mov eax, {entry}
        rep stosd
        lidt [idtr]
        mov eax, {cr3}
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        mov al, 1
        out 0xf4, al
        jmp $
idtr:   dw 0, 0, 0
"""
)


@needs_nasm
@pytest.mark.parametrize("apic", [False, True])
@pytest.mark.parametrize(
    ("cr3", "entry"),
    [
        pytest.param(0x20_0000, 0x20_0003, id="a directory whose every entry is itself"),
        pytest.param(0x20_0000, 0xFFFF_F003, id="tables where there is no RAM"),
        pytest.param(0x20_0000, 0xFEE0_0003, id="tables in the local APIC"),
        pytest.param(0xFEE0_0000, 0, id="CR3 in the local APIC"),
        pytest.param(0xFEC0_0000, 0, id="CR3 in the IO-APIC"),
        pytest.param(0xA_0000, 0, id="CR3 in the VGA's planes"),
        pytest.param(0xFFFF_F000, 0, id="CR3 in the BIOS"),
        pytest.param(0xFFFF_FFFF, 0, id="CR3 of ones"),
    ],
)
def test_page_tables_that_are_none(cr3: int, entry: int, apic: bool) -> None:
    """The guest triple-faults, as hardware would; the host loses nothing."""
    source = PAGING.format(cr3=cr3, entry=entry)
    with Machine(
        image=assemble(source), memory="16M", apic=apic, debug_exit=DebugExit(0xF4, 1), timeout=60, max_insns=1_000_000
    ) as vm:
        assert vm.run().status == 6


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
