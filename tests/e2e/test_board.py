"""The machine around the guest: memory of every size, disks, and the chips as a kernel finds them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.asm import FLAT, KERNEL, assemble, needs_nasm
from tests.e2e.cli import vmm
from vmm import DebugExit, Drive, Machine

STATE = (
    KERNEL
    + """
%macro port 1-2 0xff
        mov edx, %1
        in al, dx
        and al, %2
        call hex
%endmacro
        port 0x21
        port 0xa1
        port 0x4d0
        port 0x4d1
        mov al, 0xe2            ; the status of counter 0
        out 0x43, al
        port 0x40, 0x3f
        mov al, 0x20            ; the keyboard controller's command byte
        call ask
        mov al, 0xd0            ; and its output port, less the clock and data lines
        call ask
        port 0x92
        port 0x61, 0x0f
        mov al, 0x0a
        out 0x70, al
        port 0x71, 0x7f
        mov al, 0x0b
        out 0x70, al
        port 0x71
        port 0xd0, 0x0f
        mov dx, 0xcf8
        mov eax, 0x80000860     ; where PIRQs go
        out dx, eax
        mov dx, 0xcfc
        in eax, dx
        call hex
        shr eax, 8
        call hex
        mov dx, 0xcf8
        mov eax, 0x80000b40     ; the power management registers
        out dx, eax
        mov dx, 0xcfc
        in eax, dx
        call hex
        shr eax, 8
        call hex
        mov al, 0
        out 0xf4, al
ask:    out 0x64, al
full:   in al, 0x64
        test al, 1
        jz full
        in al, 0x60
hex:    push eax
        push eax
        shr al, 4
        call digit
        pop eax
        and al, 15
        call digit
        mov al, ' '
        out 0xe9, al
        pop eax
        ret
digit:  cmp al, 10
        sbb al, 0x69
        das
        out 0xe9, al
        ret
"""
)
"""Prints the registers of the chips on port E9h."""


@pytest.mark.oracle
@needs_nasm
@pytest.mark.skipif(not shutil.which("qemu-system-i386"), reason="QEMU is the oracle")
def test_without_firmware_the_chips_are_as_the_bios_leaves_them(tmp_path: Path) -> None:
    kernel, log = str(assemble(STATE)), tmp_path / "log"
    command = ["qemu-system-i386", "-m", "16", "-display", "none", "-nic", "none", "-kernel", kernel]
    command += ["-debugcon", f"file:{log}", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    subprocess.run(command, timeout=30, check=False)
    printed = []
    with Machine(kernel=kernel, memory="16M", debug_exit=DebugExit(0xF4, 1)) as machine:
        machine.on("output.debugcon", lambda vm, data: printed.append(data.decode()))
        machine.run(max_insns=100_000)
    assert "".join(printed) == log.read_text()


@pytest.mark.guest
@pytest.mark.parametrize("size", ["1M", "2M", "15M", "64M", "640M", "3G"])
def test_memory_sizes(size: str, tmp_path: Path) -> None:
    limits = ("--expect", "No bootable device", "--timeout", "60")
    done = vmm(tmp_path, "-m", size, "-serial", "null", *limits, logs=("--bios-log",))
    assert done.status == 0, done.stderr
    rows = re.findall(r"qemu/e820: addr 0x(\w+) len 0x(\w+) \[RAM\]", done.files["--bios-log"])
    unit = {"M": 20, "G": 30}[size[-1]]
    assert [(int(base, 16), int(length, 16)) for base, length in rows] == [(0, int(size[:-1]) << unit)]


LAST_SECTOR = (
    FLAT
    + """
        mov ah, 8               ; geometry
        mov dl, 0x80
        int 0x13
        mov al, ch              ; cylinders (low byte), heads, sectors
        out 0xe9, al
        mov al, dh
        out 0xe9, al
        mov al, cl
        out 0xe9, al
        mov al, 0
        out 0xf4, al
"""
)


@pytest.mark.guest
@needs_nasm
@pytest.mark.parametrize(
    ("partition", "geometry"),
    [(None, (16, 63)), ((3, 17), (4, 17)), ((15, 32), (16, 32))],
    ids=["no partition", "4 heads, 17 sectors", "16 heads, 32 sectors"],
)
def test_the_geometry_of_a_disk(partition: tuple[int, int] | None, geometry: tuple[int, int], tmp_path: Path) -> None:
    """The firmware believes in the heads and sectors that the partition table was made with."""
    code = assemble(LAST_SECTOR).read_bytes()
    entry = b""
    if partition is not None:
        last_head, sectors = partition
        entry = bytes((0x80, 1, 1, 0, 0x0C, last_head, sectors, 9)) + b"\x3f\0\0\0\0\x10\0\0"
    disk = tmp_path / "disk"
    disk.write_bytes(code.ljust(0x1BE, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa" + bytes((8 << 20) - 512))
    printed = bytearray()
    with Machine(drives=(Drive(disk),), debug_exit=DebugExit(0xF4, 1)) as machine:
        machine.on("output.debugcon", lambda vm, data: printed.extend(data))
        assert machine.run(timeout=60).status == 1
    _, last_head, sectors = printed
    assert (last_head + 1, sectors & 0x3F) == geometry


MODULES = (
    "bits 32\norg 0x100000\nheader: dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000), header, header, 0, 0, start\n"
    """
start:  mov ecx, [ebx + 20]     ; mods_count
        mov esi, [ebx + 24]     ; mods_addr
next:   mov edi, [esi + 8]      ; its command line
char:   mov al, [edi]
        out 0xe9, al
        inc edi
        test al, al
        jnz char
        add esi, 16
        loop next
        cli
        hlt
"""
)


@needs_nasm
@pytest.mark.parametrize(
    ("initrd", "lines"),
    [("one", ["one"]), ("one a b", ["one a b"]), ("one a,two", ["one a", "two"]), ("with space, comma", None)],
)
def test_modules(initrd: str, lines: list[str] | None, tmp_path: Path) -> None:
    """``-initrd`` names modules of a multiboot kernel as QEMU's does; a file with just that name is one module."""
    for name in ("one", "two", "with space, comma"):
        (tmp_path / name).write_bytes(name.encode())
    given = ",".join(str(tmp_path / part) for part in (initrd.split(",") if lines else [initrd]))
    done = vmm(tmp_path / "run", "-kernel", assemble(MODULES), "-initrd", given, logs=("-debugcon",))
    assert done.status == 10, done.stderr
    assert done.files["-debugcon"].split("\0")[:-1] == (lines or [initrd])


def test_modules_that_are_not_there(tmp_path: Path) -> None:
    done = vmm(tmp_path, "-kernel", assemble(MODULES), "-initrd", f"{tmp_path}/one arg")
    assert (done.status, done.reason) == (4, "one: the file cannot be read: no such file or directory")
