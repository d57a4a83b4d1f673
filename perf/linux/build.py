"""Builds the initial RAM disk: the first process (``gcc -m32``), and BusyBox out of Debian's initrd."""

from __future__ import annotations

import gzip
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

from perf.kernels.build import CACHE, compile_program
from vmm import guests
from vmm.cpio import MAGIC, TRAILER, Archive

SOURCES = Path(__file__).parent
FLAGS = ("-m32", "-O2", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-fno-stack-protector")
SCRIPTS = ("loop.sh", "work.sh")
BUSYBOX = "bin/busybox"
LIBRARIES = ("lib/i386-linux-gnu/ld-linux.so.2", "lib/i386-linux-gnu/libc.so.6")
LOADER = ("lib/ld-linux.so.2", "i386-linux-gnu/ld-linux.so.2")
TEXT, TEXT_SIZE = "var/lib/dpkg/info/localechooser.templates", 64 << 10
"""What the scripts work on: the beginning of a file."""
APPLETS = (
    "sh",
    "awk",
    "cat",
    "grep",
    "head",
    "md5sum",
    "rm",
    "sed",
    "sha1sum",
    "sha256sum",
    "sort",
    "tar",
    "uniq",
    "zcat",
)
_HEADER, _ALIGNMENT = 110, 4


def members(archive: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and data of each member of a cpio archive ("newc").  Raises ``ValueError``."""
    at = 0
    while True:
        if archive[at : at + len(MAGIC)] != MAGIC:
            raise ValueError(f"no member of a cpio archive begins at {at}")
        _, mode, _, _, _, _, size, _, _, _, _, name_size, _ = (
            int(archive[at + n : at + n + 8], 16) for n in range(len(MAGIC), _HEADER, 8)
        )
        name = archive[at + _HEADER : at + _HEADER + name_size - 1].decode()
        if name == TRAILER:
            return
        data = _aligned(at + _HEADER + name_size)
        yield name, mode, archive[data : data + size]
        at = _aligned(data + size)


def _aligned(at: int) -> int:
    return -(-at // _ALIGNMENT) * _ALIGNMENT


def initrd() -> Path:
    """The path of the RAM disk, built if its sources changed.  Raises ``BuildError`` and ``ImageError``."""
    program = compile_program("macro-init", FLAGS, [SOURCES / "init.c"])
    debian = guests.path("debian-i386-initrd")
    digest = hashlib.sha256(str(debian).encode())
    for file in (program, Path(__file__), *(SOURCES / name for name in SCRIPTS)):
        digest.update(file.read_bytes())
    target = CACHE / f"macro-{digest.hexdigest()[:16]}.cpio"
    if not target.exists():
        partial = target.with_suffix(".partial")
        partial.write_bytes(_pack(program, gzip.decompress(debian.read_bytes())))
        partial.replace(target)
    return target


def _pack(program: Path, debian: bytes) -> bytes:
    wanted = {BUSYBOX, *LIBRARIES, TEXT}
    found = {name: data for name, mode, data in members(debian) if name in wanted and stat.S_ISREG(mode)}
    archive = Archive()
    archive.device("dev/console", "c", 5, 1)
    archive.device("dev/tty1", "c", 4, 1)
    archive.directory("tmp")
    archive.file("init", program.read_bytes(), mode=0o755)
    for name in (BUSYBOX, *LIBRARIES):
        archive.file(name, found[name], mode=0o755)
    archive.symlink(*LOADER)
    for name in APPLETS:
        archive.symlink(f"bin/{name}", "busybox")
    for name in SCRIPTS:
        archive.file(name, (SOURCES / name).read_bytes())
    archive.file("text.gz", gzip.compress(found[TEXT][:TEXT_SIZE], mtime=0))
    return archive.build()
