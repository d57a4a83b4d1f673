"""The newc builder, against cpio itself where that is installed and against the format's fields where not."""

import gzip
import shutil
import subprocess

import pytest

from vmm.cpio import Archive


def sample() -> Archive:
    archive = Archive()
    archive.device("dev/console", "c", 5, 1)
    archive.file("init", b"#!/bin/sh\n", 0o755)
    archive.file("bin/odd", b"12345")
    archive.symlink("bin/sh", "odd")
    archive.directory("proc", 0o555)
    archive.device("dev/sda1", "b", 8, 1, 0o660)
    return archive


def members(data: bytes) -> list[tuple[str, int, int, tuple[int, int], bytes]]:
    """(name, mode, links, device, data) by reading the format as documented."""
    rows = []
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        _, mode, _, _, links, _, size, _, _, major, minor, length, _ = fields
        name = data[at + 110 : at + 110 + length - 1].decode()
        assert data[at + 110 + length - 1] == 0
        start = at + 110 + length + 3 & -4
        if name == "TRAILER!!!":
            assert not any(data[start:])
            return rows
        rows.append((name, mode, links, (major, minor), data[start : start + size]))
        at = start + size + 3 & -4


def test_members() -> None:
    assert members(sample().build()) == [
        ("dev", 0o040755, 2, (0, 0), b""),
        ("dev/console", 0o020600, 1, (5, 1), b""),
        ("init", 0o100755, 1, (0, 0), b"#!/bin/sh\n"),
        ("bin", 0o040755, 2, (0, 0), b""),
        ("bin/odd", 0o100644, 1, (0, 0), b"12345"),
        ("bin/sh", 0o120777, 1, (0, 0), b"odd"),
        ("proc", 0o040555, 2, (0, 0), b""),
        ("dev/sda1", 0o060660, 1, (8, 1), b""),
    ]


def test_the_same_twice_and_compressed() -> None:
    plain = sample().build()
    assert sample().build() == plain
    assert len(plain) % 512 == 0
    packed = sample().build(compress=True)
    assert gzip.decompress(packed) == plain
    assert sample().build(compress=True) == packed


def test_an_empty_archive_is_a_trailer() -> None:
    assert members(Archive().build()) == []


@pytest.mark.oracle
@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not installed")
def test_cpio_reads_it() -> None:
    result = subprocess.run(["cpio", "-itv"], input=sample().build(), capture_output=True, check=True)
    lines = result.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [
        "drwxr-xr-x",
        "crw-------",
        "-rwxr-xr-x",
        "drwxr-xr-x",
        "-rw-r--r--",
        "lrwxrwxrwx",
        "dr-xr-xr-x",
        "brw-rw----",
    ]


@pytest.mark.parametrize(
    "name", ["", "/init", "a//b", "a/", ".", "a/../b", "a\0b", "TRAILER!!!", "x" * 4096, "a" * 5000]
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Archive().file(name, b"")


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda a: a.file("init", b""), "already"),
        (lambda a: a.directory("bin"), "already"),
        (lambda a: a.file("init/x", b""), "no folder"),
        (lambda a: a.file("x", b"", 0o10644), "permission"),
        (lambda a: a.directory("x", -1), "permission"),
        (lambda a: a.device("x", "p", 1, 1), "neither"),
        (lambda a: a.device("x", "c", -1, 1), "no device"),
        (lambda a: a.device("x", "c", 1, 1 << 20), "no device"),
    ],
)
def test_what_is_refused_changes_nothing(action, message: str) -> None:
    archive = sample()
    with pytest.raises(ValueError, match=message):
        action(archive)
    assert archive.build() == sample().build()
