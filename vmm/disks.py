"""Disk backends: host files and memory as the media of drives.

Every function that opens an image raises ``ImageError``, one sentence for the user, if it is no image for the
drive.  While the guest runs, errors of the host's are ``OSError``, which drives report to the guest.
"""

from __future__ import annotations

import fcntl
import os
import stat
from enum import Enum

from devices.backends import SECTOR, Disk
from devices.fdc import format_of
from devices.ide import Geometry, default_geometry
from vmm.errors import ImageError

CD_BLOCK = 2048
CLUSTER_SECTORS = 8
"""An overlay keeps what was written in pieces of this many sectors."""

FOREIGN_FORMATS = (
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "VMDK"),
    (b"# Disk DescriptorFile", "VMDK"),
    (b"vhdxfile", "VHDX"),
    (b"conectix", "VHD"),
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
"""First bytes of files that hold an image in another form than sector after sector."""
COMPRESSED = frozenset({"gzip", "xz", "zstd"})

PARTITION_TABLE, PARTITION_ENTRY, PARTITIONS = 0x1BE, 16, 4


class Access(Enum):
    """What becomes of a guest's writes."""

    OVERLAY = "overlay"
    """They are kept in memory and lost at the end; the host's file is not touched."""
    READ_WRITE = "rw"
    """They go to the host's file."""
    READ_ONLY = "ro"
    """The medium is write-protected."""


class MemoryDisk:
    """A medium in memory; *data* is a whole number of sectors."""

    def __init__(self, data: bytes | bytearray, read_only: bool = False) -> None:
        if len(data) % SECTOR:
            raise ValueError(f"{len(data)} bytes are no whole number of sectors")
        self._data = bytearray(data)
        self.read_only = read_only

    @property
    def sectors(self) -> int:
        return len(self._data) // SECTOR

    def read(self, lba: int, count: int) -> bytes:
        return bytes(self._data[lba * SECTOR : (lba + count) * SECTOR])

    def write(self, lba: int, data: bytes) -> None:
        self._data[lba * SECTOR : lba * SECTOR + len(data)] = data

    def flush(self) -> None:
        """Memory keeps nothing."""


class RawDisk:
    """A host file, sector after sector.  It is locked as long as it is open: one writer or many readers."""

    def __init__(self, path: str, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._fd = -1
        try:
            # A FIFO would block in open(), so look first.
            if not (stat.S_ISREG(mode := os.stat(path).st_mode) or stat.S_ISBLK(mode)):
                kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
                raise ImageError(f"cannot use {path} as a disk image: it is {kind}")
            self._fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
            size = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            raise ImageError(f"cannot open disk image {path}: {error.strerror}") from None
        self.sectors = size // SECTOR
        """Whole sectors; what is left of the last one is out of reach."""
        self.size = size
        """Size of the file in bytes."""
        self._lock()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ImageError(f"cannot open disk image {self.path}: another machine is using it") from None
        except OSError:
            pass  # a file system without locks

    def close(self) -> None:
        """Give the file back; every later access is an ``OSError``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()

    def read(self, lba: int, count: int) -> bytes:
        data = b""
        while len(data) < count * SECTOR:
            piece = os.pread(self._fd, count * SECTOR - len(data), lba * SECTOR + len(data))
            if not piece:
                raise OSError(f"{self.path} has become shorter")
            data += piece
        return data

    def write(self, lba: int, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], lba * SECTOR + done)

    def flush(self) -> None:
        os.fsync(self._fd)


class OverlayDisk:
    """Another disk with the guest's writes kept in memory, at most as many bytes as the medium has."""

    read_only = False

    def __init__(self, base: Disk) -> None:
        self._base = base
        self._clusters: dict[int, bytearray] = {}
        self.sectors = base.sectors

    @property
    def dirty_bytes(self) -> int:
        """Bytes of memory that hold what was written."""
        return sum(map(len, self._clusters.values()))

    def read(self, lba: int, count: int) -> bytes:
        clusters = self._clusters
        if not clusters:
            return self._base.read(lba, count)
        pieces = []
        end = lba + count
        while lba < end:
            number, offset = divmod(lba, CLUSTER_SECTORS)
            here = min(CLUSTER_SECTORS - offset, end - lba)
            cluster = clusters.get(number)
            if cluster is None:
                pieces.append(self._base.read(lba, here))
            else:
                pieces.append(bytes(cluster[offset * SECTOR : (offset + here) * SECTOR]))
            lba += here
        return b"".join(pieces)

    def write(self, lba: int, data: bytes) -> None:
        while data:
            number, offset = divmod(lba, CLUSTER_SECTORS)
            here = data[: (CLUSTER_SECTORS - offset) * SECTOR]
            cluster = self._clusters.get(number)
            if cluster is None:
                first = number * CLUSTER_SECTORS
                size = min(CLUSTER_SECTORS, self.sectors - first)
                whole = len(here) == size * SECTOR
                cluster = bytearray(len(here)) if whole else bytearray(self._base.read(first, size))
                self._clusters[number] = cluster
            cluster[offset * SECTOR : offset * SECTOR + len(here)] = here
            data = data[len(here) :]
            lba += len(here) // SECTOR

    def flush(self) -> None:
        """What is written is not meant to last."""


def open_disk(path: str, access: Access = Access.OVERLAY) -> Disk:
    """A hard disk image: any whole number of sectors."""
    return _open(path, access, SECTOR, "disk")


def open_floppy(path: str, access: Access = Access.OVERLAY) -> Disk:
    """A diskette image: whole sectors, and no more than a diskette holds."""
    disk = _open(path, access, SECTOR, "floppy")
    if format_of(disk.sectors) is None:
        raise ImageError(f"cannot use {path} as a floppy image: {disk.sectors * SECTOR} bytes do not fit on a diskette")
    return disk


def open_cdrom(path: str) -> Disk:
    """A CD or DVD image (ISO 9660): whole blocks of 2,048 bytes; read-only."""
    return _open(path, Access.READ_ONLY, CD_BLOCK, "CD-ROM")


def _open(path: str, access: Access, unit: int, kind: str) -> Disk:
    raw = RawDisk(path, read_only=access is not Access.READ_WRITE)
    try:
        _check(raw, unit, kind)
    except BaseException:
        raw.close()
        raise
    return OverlayDisk(raw) if access is Access.OVERLAY else raw


def _check(raw: RawDisk, unit: int, kind: str) -> None:
    what = f"cannot use {raw.path} as a {kind} image"
    if not raw.size:
        raise ImageError(f"{what}: the file is empty")
    try:
        head = os.pread(raw._fd, SECTOR, 0)
    except OSError as error:
        raise ImageError(f"{what}: {error.strerror}") from None
    for magic, name in FOREIGN_FORMATS:
        if head.startswith(magic):
            remedy = "unpack it" if name in COMPRESSED else 'convert it with "qemu-img convert -O raw"'
            raise ImageError(f"{what}: it is in {name} format, only raw images are supported; {remedy}")
    if raw.size % unit:
        raise ImageError(f"{what}: its size, {raw.size} bytes, is no multiple of {unit}")


def guess_geometry(disk: Disk) -> Geometry:
    """Cylinders, heads and sectors of a hard disk.

    A partition table shows what the partitioner believed in: where partitions end at the end of a cylinder, that
    gives heads and sectors.  If there is none, or it needs more heads than the 16 that ATA has, then 16 and 63.
    """
    try:
        boot = disk.read(0, 1)
    except OSError:
        boot = b""  # the guest will find out
    if boot[510:512] == b"\x55\xaa":
        for n in range(PARTITIONS):
            entry = boot[PARTITION_TABLE + PARTITION_ENTRY * n :][:PARTITION_ENTRY]
            size = int.from_bytes(entry[12:16], "little")
            heads, sectors = entry[5] + 1, entry[6] & 0x3F
            if not size or not sectors or heads > 16 or heads == 1:
                continue
            cylinders = disk.sectors // (heads * sectors)
            if 1 <= cylinders <= 16_383:
                return Geometry(cylinders, heads, sectors)
    return default_geometry(disk.sectors)
