"""Disk backends: what opens, what does not and why, overlays against a model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devices.backends import Disk
from devices.ide import Geometry
from vmm.disks import (
    FOREIGN_FORMATS,
    Access,
    MemoryDisk,
    OverlayDisk,
    RawDisk,
    guess_geometry,
    open_cdrom,
    open_disk,
    open_floppy,
)
from vmm.errors import ExitStatus, ImageError


def pattern(sectors: int) -> bytes:
    return b"".join(n.to_bytes(4, "little") * 128 for n in range(sectors))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(20))
    return path


@pytest.mark.parametrize(
    ("access", "read_only", "reaches_host"),
    [(Access.OVERLAY, False, False), (Access.READ_WRITE, False, True), (Access.READ_ONLY, True, False)],
)
def test_access(image: Path, access: Access, read_only: bool, reaches_host: bool) -> None:
    disk = open_disk(str(image), access)
    assert isinstance(disk, Disk)
    assert (disk.sectors, disk.read_only, disk.read(3, 2)) == (20, read_only, pattern(5)[1536:])
    if not read_only:
        disk.write(3, b"x" * 512)
        disk.flush()
        assert disk.read(2, 3) == pattern(3)[1024:] + b"x" * 512 + pattern(5)[2048:]
    assert (image.read_bytes() != pattern(20)) == reaches_host


CONVERT = 'convert it with "qemu-img convert -O raw"'


@pytest.mark.parametrize(("magic", "name"), FOREIGN_FORMATS)
def test_foreign_format(tmp_path: Path, magic: bytes, name: str) -> None:
    path = tmp_path / "foreign.img"
    path.write_bytes(magic.ljust(1024, b"\1"))
    with pytest.raises(ImageError, match=f"it is in {name} format"):
        open_disk(str(path))


@pytest.mark.parametrize(
    ("opener", "content", "sentence"),
    [
        (open_disk, b"", "cannot use {} as a disk image: the file is empty"),
        (open_disk, bytes(513), "cannot use {} as a disk image: its size, 513 bytes, is no multiple of 512"),
        (open_disk, bytes(511), "cannot use {} as a disk image: its size, 511 bytes, is no multiple of 512"),
        (open_floppy, bytes(100), "cannot use {} as a floppy image: its size, 100 bytes, is no multiple of 512"),
        (
            open_floppy,
            bytes(512 * 6241),
            "cannot use {} as a floppy image: 3195392 bytes do not fit on a diskette",
        ),
        (open_cdrom, bytes(512), "cannot use {} as a CD-ROM image: its size, 512 bytes, is no multiple of 2048"),
        (open_cdrom, b"", "cannot use {} as a CD-ROM image: the file is empty"),
        (
            open_disk,
            b"QFI\xfb".ljust(512, b"\0"),
            "cannot use {} as a disk image: it is in qcow2 format, only raw images are supported; " + CONVERT,
        ),
        (
            open_disk,
            b"\x1f\x8b\x08".ljust(500, b"\0"),
            "cannot use {} as a disk image: it is in gzip format, only raw images are supported; unpack it",
        ),
    ],
)
def test_bad_image(tmp_path: Path, opener: type, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.img"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        opener(str(path))
    assert (sentence.format(path), ExitStatus.BAD_IMAGE) == (str(caught.value), caught.value.status)


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "cannot open disk image {}: No such file or directory"),
        ("directory", "cannot use {} as a disk image: it is a directory"),
        ("fifo", "cannot use {} as a disk image: it is not a regular file"),
        ("loop", "cannot open disk image {}: Too many levels of symbolic links"),
        ("below a file", "cannot open disk image {}: Not a directory"),
    ],
)
def test_no_image(tmp_path: Path, access: Access, kind: str, reason: str) -> None:
    path = tmp_path / "image"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "below a file":
        path.write_bytes(b"")
        path /= "image"
    with pytest.raises(ImageError) as caught:
        open_disk(str(path), access)
    assert reason.format(path) == str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize(("mode", "access"), [(0o000, Access.OVERLAY), (0o400, Access.READ_WRITE)])
def test_no_permission(image: Path, mode: int, access: Access) -> None:
    image.chmod(mode)
    with pytest.raises(ImageError, match="Permission denied"):
        open_disk(str(image), access)


@pytest.mark.parametrize(
    ("first", "second", "works"),
    [
        (Access.OVERLAY, Access.READ_ONLY, True),
        (Access.READ_WRITE, Access.OVERLAY, False),
        (Access.OVERLAY, Access.READ_WRITE, False),
        (Access.READ_WRITE, Access.READ_WRITE, False),
    ],
)
def test_one_writer_or_many_readers(image: Path, first: Access, second: Access, works: bool) -> None:
    holder = open_disk(str(image), first)
    if works:
        assert open_disk(str(image), second).sectors == 20
    else:
        with pytest.raises(ImageError, match="another machine is using it"):
            open_disk(str(image), second)
    del holder
    assert open_disk(str(image), second).sectors == 20


def test_file_that_shrinks_is_a_medium_error(image: Path) -> None:
    disk = open_disk(str(image))
    os.truncate(image, 512)
    assert disk.read(0, 1) == pattern(1)
    with pytest.raises(OSError, match="has become shorter"):
        disk.read(0, 2)


def test_closed_file_is_a_medium_error(image: Path) -> None:
    disk = RawDisk(str(image), read_only=True)
    disk.close()
    disk.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.read(0, 1)


def test_cdrom_is_read_only(tmp_path: Path) -> None:
    path = tmp_path / "cd.iso"
    path.write_bytes(pattern(8))
    disk = open_cdrom(str(path))
    assert (disk.read_only, disk.sectors, disk.read(4, 1)) == (True, 8, pattern(5)[2048:])


@pytest.mark.parametrize("sectors", [1, 720, 1440, 2880, 5760, 6240])
def test_floppy_sizes(tmp_path: Path, sectors: int) -> None:
    path = tmp_path / "floppy.img"
    path.write_bytes(bytes(512 * sectors))
    assert sectors == open_floppy(str(path)).sectors


def test_memory_disk_takes_whole_sectors() -> None:
    with pytest.raises(ValueError, match="no whole number of sectors"):
        MemoryDisk(bytes(100))


def boot_sector(*ends: tuple[int, int, int], signature: bytes = b"\x55\xaa") -> bytes:
    """A partition table with (end head, end sector, size) rows."""
    entries = b"".join(
        bytes((0, 1, 1, 0, 0x83, head, sector, 9)) + (63).to_bytes(4, "little") + size.to_bytes(4, "little")
        for head, sector, size in ends
    )
    return bytes(446) + entries.ljust(64, b"\0") + signature


@pytest.mark.parametrize(
    ("first", "sectors", "expected"),
    [
        (bytes(512), 20_160, Geometry(20, 16, 63)),
        (boot_sector((7, 0x3F, 900)), 20_160, Geometry(40, 8, 63)),
        (boot_sector((0, 0, 0), (3, 0xD1, 900)), 20_160, Geometry(296, 4, 17)),
        (boot_sector((254, 0x3F, 900)), 20_160, Geometry(20, 16, 63)),
        (boot_sector((7, 0, 900)), 20_160, Geometry(20, 16, 63)),
        (boot_sector((7, 0x3F, 900), signature=b"\0\0"), 20_160, Geometry(20, 16, 63)),
        (bytes(512), 1, Geometry(1, 16, 63)),
        (bytes(512), 40_000_000, Geometry(16_383, 16, 63)),
    ],
)
def test_geometry(first: bytes, sectors: int, expected: Geometry) -> None:
    class Sparse(MemoryDisk):
        @property
        def sectors(self) -> int:
            return sectors

    assert expected == guess_geometry(Sparse(first))


def test_geometry_of_a_broken_file(image: Path) -> None:
    disk = open_disk(str(image))
    os.truncate(image, 0)
    assert guess_geometry(disk) == Geometry(1, 16, 63)


class Overlay(RuleBasedStateMachine):
    """An overlay behaves as a copy of its base, and leaves the base alone."""

    SECTORS = 21  # the last cluster is a short one

    def __init__(self) -> None:
        super().__init__()
        self.base = MemoryDisk(pattern(self.SECTORS))
        self.overlay = OverlayDisk(self.base)
        self.model = bytearray(pattern(self.SECTORS))

    @rule(lba=st.integers(0, SECTORS - 1), count=st.integers(0, SECTORS), fill=st.integers(0, 255))
    def write(self, lba: int, count: int, fill: int) -> None:
        count = min(count, self.SECTORS - lba)
        data = bytes((fill + n) & 0xFF for n in range(count) for _ in range(512))
        self.overlay.write(lba, data)
        self.model[512 * lba : 512 * (lba + count)] = data

    @rule(lba=st.integers(0, SECTORS - 1), count=st.integers(0, SECTORS))
    def read(self, lba: int, count: int) -> None:
        count = min(count, self.SECTORS - lba)
        assert self.overlay.read(lba, count) == self.model[512 * lba : 512 * (lba + count)]

    @invariant()
    def bounded(self) -> None:
        assert self.overlay.dirty_bytes <= 512 * self.SECTORS
        assert self.base.read(0, self.SECTORS) == pattern(self.SECTORS)


TestOverlay = Overlay.TestCase
TestOverlay.settings = settings(max_examples=60, stateful_step_count=20, deadline=None, derandomize=True)
