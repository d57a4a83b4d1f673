"""The I/O ports as the CPU sees them.  Not compiled: whoever answers may be interpreted."""

from __future__ import annotations

from typing import Protocol


class PortSpace(Protocol):
    """The 65,536 I/O ports, as IN and OUT see them: *size* is 1, 2 or 4 bytes."""

    def read(self, port: int, size: int) -> int: ...
    def write(self, port: int, size: int, value: int) -> None: ...

    def read_block(self, port: int, count: int, size: int) -> bytes | None:
        """REP INS: *count* reads at once; ``None``, and nothing is read, if they are to go one by one."""
        return None

    def write_block(self, port: int, data: bytes, size: int) -> bool:
        """REP OUTS: *data* at once; False, and nothing is written, if it is to go one by one."""
        return False


class NoPorts(PortSpace):
    """I/O space without devices: reads float high."""

    def read(self, port: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, port: int, size: int, value: int) -> None:
        """Nobody listens."""
