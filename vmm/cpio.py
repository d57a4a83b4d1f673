"""A builder of small initial RAM disks: cpio archives in the "newc" format, as the Linux kernel unpacks them
(Documentation/driver-api/early-userspace/buffer-format.rst).

::

    archive = Archive()
    archive.directory("dev")
    archive.device("dev/console", "c", 5, 1)
    archive.file("init", data, mode=0o755)
    initrd = archive.build(compress=True)

The result depends on nothing but what was added: no times, no owners, inode numbers in order.
"""

from __future__ import annotations

import gzip
import stat
from dataclasses import dataclass

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
ALIGNMENT = 4
BLOCK = 512
"""An archive is filled up to a multiple of this, as cpio does."""
MAX_SIZE = 0xFFFF_FFFF
"""Sizes have eight hexadecimal digits."""
MAX_NAME = 4096
"""The kernel's PATH_MAX, with the NUL."""

DEVICE_TYPES = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}


@dataclass(frozen=True, slots=True)
class Entry:
    """One archive member; ``mode`` holds type and permissions."""

    name: str
    mode: int
    data: bytes = b""
    major: int = 0
    minor: int = 0


class Archive:
    """Members in the order in which they were added.

    Names are relative to the root, without a leading slash; folders that a name needs are made where they are missing.
    All methods raise ``ValueError`` for a name that is empty, absolute, too long, has ``.`` or ``..`` or empty parts,
    or was used before, and for a mode or device number out of range.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file with these permission bits."""
        if len(data) > MAX_SIZE:
            raise ValueError(f"{name}: {len(data)} bytes are too many for a cpio archive")
        self._add(Entry(name, stat.S_IFREG | permissions(mode), data))

    def directory(self, name: str, mode: int = 0o755) -> None:
        """A folder."""
        self._add(Entry(name, stat.S_IFDIR | permissions(mode)))

    def symlink(self, name: str, target: str) -> None:
        """A symbolic link to *target*."""
        self._add(Entry(name, stat.S_IFLNK | 0o777, target.encode("utf-8", "surrogateescape")))

    def device(self, name: str, kind: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A device node: *kind* is ``c`` (characters) or ``b`` (blocks)."""
        if kind not in DEVICE_TYPES:
            raise ValueError(f"{name}: {kind!r} is neither 'c' nor 'b'")
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise ValueError(f"{name}: there is no device {major}:{minor}")
        self._add(Entry(name, DEVICE_TYPES[kind] | permissions(mode), major=major, minor=minor))

    def _add(self, entry: Entry) -> None:
        parts = entry.name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts) or entry.name == TRAILER:
            raise ValueError(f"{entry.name!r} is no name for a member of an archive")
        if len(entry.name.encode("utf-8", "surrogateescape")) >= MAX_NAME:
            raise ValueError(f"{entry.name[:40]!r}... is too long a name")
        if entry.name in self._entries:
            raise ValueError(f"{entry.name!r} is in the archive already")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            existing = self._entries.setdefault(folder, Entry(folder, stat.S_IFDIR | 0o755))
            if not stat.S_ISDIR(existing.mode):
                raise ValueError(f"{folder!r} is no folder")
        self._entries[entry.name] = entry

    def build(self, compress: bool = False) -> bytes:
        """The archive, gzipped if *compress*."""
        parts = [encode(entry, inode) for inode, entry in enumerate(self._entries.values(), 1)]
        parts.append(encode(Entry(TRAILER, 0), 0))
        archive = b"".join(parts)
        archive += bytes(-len(archive) % BLOCK)
        return gzip.compress(archive, mtime=0) if compress else archive


def permissions(mode: int) -> int:
    """*mode*, checked to hold permission bits only."""
    if mode & ~0o7777:
        raise ValueError(f"{mode:#o} has more than permission bits")
    return mode


def encode(entry: Entry, inode: int) -> bytes:
    """The header, the name with its NUL and the data, each padded to 4 bytes."""
    name = entry.name.encode("utf-8", "surrogateescape") + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, entry.major, entry.minor, len(name), 0)
    header = MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return header + bytes(-len(header) % ALIGNMENT) + entry.data + bytes(-len(entry.data) % ALIGNMENT)
