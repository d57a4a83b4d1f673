"""The CMOS bytes against QEMU's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from devices.cmos import FLOPPY_1440K, Geometry, pc_cmos, standard_geometry

MIB = 1 << 20
QEMU = shutil.which("qemu-system-i386")


def qemu_cmos(arguments: list[str]) -> dict[int, int]:
    """Bytes 10h..7Fh of a machine that has not run an instruction, by QEMU's test protocol."""
    assert QEMU
    command = [QEMU, "-M", "pc", "-S", "-nodefaults", "-display", "none", "-qtest", "stdio", "-qtest-log", "none"]
    with subprocess.Popen(
        [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        try:

            def ask(line: str) -> list[str]:
                assert process.stdin
                assert process.stdout
                process.stdin.write(line + "\n")
                process.stdin.flush()
                return process.stdout.readline().split()

            bytes_ = {}
            for index in range(0x10, 0x80):
                ask(f"outb 0x70 {index:#x}")
                bytes_[index] = int(ask("inb 0x71")[1], 0)
            return bytes_
        finally:
            process.kill()


@pytest.mark.oracle
@pytest.mark.skipif(QEMU is None, reason="QEMU is not installed")
@pytest.mark.parametrize(
    ("megabytes", "floppies", "disks", "boot"),
    [
        (1, [], [], "c"),
        (16, [FLOPPY_1440K], [], "a"),
        (128, [FLOPPY_1440K], [10 * MIB], "cad"),
        (512, [], [1536 * MIB, None, 3 * MIB, 100 * MIB], "dc"),
        (3000, [FLOPPY_1440K, FLOPPY_1440K], [None, 20000 * MIB], "nda"),
    ],
)
def test_as_qemu(megabytes: int, floppies: list[int], disks: list[int | None], boot: str, tmp_path: Path) -> None:
    arguments = ["-m", str(megabytes), "-boot", f"order={boot}"]
    geometries: list[Geometry | None] = []
    for n, size in enumerate(disks):
        geometries.append(standard_geometry(size // 512) if size else None)
        if size:
            image = tmp_path / f"disk{n}"
            with image.open("wb") as file:
                file.truncate(size)
            arguments += ["-drive", f"file={image},format=raw,if=ide,index={n}"]
    for n, _ in enumerate(floppies):
        image = tmp_path / f"floppy{n}"
        with image.open("wb") as file:
            file.truncate(1440 * 1024)
        arguments += ["-drive", f"file={image},format=raw,if=floppy,index={n}"]
    ours = pc_cmos(megabytes * MIB, floppies, geometries, boot)
    theirs = qemu_cmos(arguments)
    del theirs[0x32], theirs[0x37]  # the century is the clock's
    assert {index: ours.get(index, 0) for index in theirs} == theirs


@pytest.mark.parametrize(
    ("sectors", "geometry"),
    [(0, (2, 16, 63)), (2880, (2, 16, 63)), (204_800, (203, 16, 63)), (1 << 30, (16383, 16, 63))],
)
def test_standard_geometry(sectors: int, geometry: Geometry) -> None:
    assert standard_geometry(sectors) == geometry


@pytest.mark.parametrize(
    ("floppies", "disks", "boot"),
    [([4, 4, 4], [], "c"), ([], [None] * 5, "c"), ([], [], "x"), ([], [], "acdn")],
)
def test_refused(floppies: list[int], disks: list[Geometry | None], boot: str) -> None:
    with pytest.raises(ValueError, match="floppy drives"):
        pc_cmos(MIB, floppies, disks, boot)
