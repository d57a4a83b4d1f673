"""Exit status and the exceptions that carry it.

::

    Exception
     +-- VmmError          the user's mistake or the run's end: one sentence and an exit status
     |    +-- UsageError   status 2
     |    +-- ImageError   status 4
     |    +-- Unsupported  status 14
     |    +-- TripleFault  status 6: the CPU shut down
     +-- GuestFault        an architectural exception to deliver to the guest; never leaves the VMM
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status of the ``vmm`` command; odd values below 256 are the guest's own (isa-debug-exit)."""

    OK = 0
    USAGE = 2
    BAD_IMAGE = 4
    TRIPLE_FAULT = 6
    FAIL_ON = 8
    HALTED = 10
    DIFFERS = 12
    UNSUPPORTED = 14
    INTERNAL = 70
    TIMEOUT = 124
    INTERRUPTED = 130


class VmmError(Exception):
    """A run that cannot start or go on; ``str()`` is one sentence for the user."""

    status = ExitStatus.INTERNAL


class UsageError(VmmError):
    """The command line or a call's arguments are wrong."""

    status = ExitStatus.USAGE


class ImageError(VmmError):
    """An image (kernel, disk, ROM, initrd) cannot be loaded."""

    status = ExitStatus.BAD_IMAGE


class Unsupported(VmmError):
    """The guest needs an instruction or a device that is not there."""

    status = ExitStatus.UNSUPPORTED


class TripleFault(VmmError):
    """The CPU could not deliver a double fault and shut down (SDM vol. 3, 6.15); a PC's board resets it."""

    status = ExitStatus.TRIPLE_FAULT


class GuestFault(Exception):
    """An exception of the guest's (SDM vol. 3, chapter 6): a vector and, for some, an error code.

    Raised by whatever emulates an instruction before it has changed any guest state; the run loop
    delivers it through the guest's IVT or IDT with CS:EIP of the instruction.
    """

    __slots__ = ("cr2", "error", "vector")

    def __init__(self, vector: int, error: int | None = None, cr2: int | None = None) -> None:
        super().__init__(vector, error)
        self.vector = vector
        self.error = error
        self.cr2 = cr2
