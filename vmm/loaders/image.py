"""An image file: bytes of a known size, read strictly.

Every offset and size that a file controls goes through ``Image.read``, which refuses what lies
outside the file, so no loader can be made to read elsewhere or to allocate more than the file holds.
"""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Self

from vmm.errors import ImageError


class Image:
    """The bytes of an image, from memory or from a file that is read where needed.

    ``name`` is the base name, for messages and command lines; ``size`` is in bytes and never 0.
    Errors are ``ImageError``: the file is missing, empty, unreadable, or neither regular nor a block device.
    """

    def __init__(self, data: bytes, name: str = "image") -> None:
        self._data = data
        self._descriptor: int | None = None
        self.name = name
        self.size = len(data)
        if not data:
            raise self.error("the file is empty")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The image in the file *path*; close it, or use it as a context manager."""
        self = cls.__new__(cls)
        self._data = b""
        self._descriptor = None
        self.name = os.path.basename(os.fspath(path)) or os.fspath(path)
        try:
            # O_NONBLOCK: opening a FIFO must not wait for a writer.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            mode = os.fstat(self._descriptor).st_mode
            if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
                self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
            elif stat.S_ISDIR(mode):
                raise self.error("the image is a directory")
            else:
                raise self.error("the image is neither a regular file nor a block device")
            if not self.size:
                raise self.error("the file is empty")
        except (OSError, ValueError) as error:
            self.close()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise self.error(f"the file cannot be read: {reason.lower()}") from None
        except ImageError:
            self.close()
            raise
        return self

    def error(self, sentence: str) -> ImageError:
        """An ``ImageError`` that names the image."""
        return ImageError(f"{self.name}: {sentence}")

    def read(self, offset: int, size: int, what: str) -> bytes:
        """*size* bytes at *offset*, all of them; *what* names them in the error "truncated"."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self.error(
                f"the file is truncated: {what} needs bytes {offset:#x} to {offset + size:#x} of {self.size:#x}"
            )
        if self._descriptor is None:
            return self._data[offset : offset + size]
        parts = []
        while size:
            try:
                part = os.pread(self._descriptor, min(size, 1 << 26), offset)
            except OSError as error:
                raise self.error(f"the file cannot be read: {(error.strerror or str(error)).lower()}") from None
            if not part:
                raise self.error(f"the file shrank while {what} was read")
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def head(self, size: int) -> bytes:
        """The first *size* bytes, or the whole file if it is shorter."""
        return self.read(0, min(size, self.size), "the beginning")

    def tail(self, offset: int, what: str) -> bytes:
        """Everything from *offset* on."""
        return self.read(offset, self.size - offset, what)

    def close(self) -> None:
        """Release the file; reading is over."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
