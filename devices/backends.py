"""What stands behind a device on the host's side: disks, character streams and guest memory.

A backend is a constructor argument of a device.  It is not volatile state: reset, snapshot and
equality leave it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

SECTOR = 512
"""Bytes in a sector of a ``Disk``."""

CharacterSink = Callable[[bytes], None]
"""Character output: called with one byte or more, in the order the guest sent them."""


@runtime_checkable
class Disk(Protocol):
    """A medium of 512-byte sectors, addressed by LBA from 0.

    The device checks its guest's requests: ``lba >= 0``, ``count >= 0`` and ``lba + count <= sectors`` hold
    in every call.  An error of the host's is raised as ``OSError`` and reported to the guest as a medium error.
    """

    @property
    def sectors(self) -> int:
        """The size in 512-byte sectors."""
        ...

    @property
    def read_only(self) -> bool:
        """Writes are refused: the medium is write-protected."""
        ...

    def read(self, lba: int, count: int) -> bytes:
        """*count* sectors from *lba* on: ``512 * count`` bytes."""
        ...

    def write(self, lba: int, data: bytes) -> None:
        """Store *data*, a whole number of sectors, from *lba* on.  Not called if ``read_only``."""
        ...

    def flush(self) -> None:
        """Make everything written so far durable."""
        ...


@runtime_checkable
class CharacterInput(Protocol):
    """A device that takes characters from the host."""

    def receive(self, data: bytes) -> int:
        """Offer *data*; returns how many bytes were taken, from the front.  The rest is to be offered again later."""
        ...


@runtime_checkable
class Memory(Protocol):
    """Guest-physical memory as a bus master reaches it.

    Outside RAM reads give all ones and writes are ignored; nothing raises.
    """

    def read(self, address: int, size: int) -> bytes:
        """*size* bytes from guest-physical *address*."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store *data* from guest-physical *address* on."""
        ...
