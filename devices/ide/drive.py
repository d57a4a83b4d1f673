"""What ATA disks and ATAPI drives have in common: they obey commands and move DRQ blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod

from devices.ide.registers import (
    DIAGNOSTIC_PASSED,
    ERROR_ABRT,
    STATUS_DRQ,
    STATUS_ERR,
    STATUS_READY,
    DriveState,
    Turn,
)


class Drive(ABC):
    """A drive on a channel.  All that is volatile is in the ``DriveState`` that each method is given."""

    SIGNATURE = (1, 1, 0, 0)
    """Sector count, LBA low, mid and high after a reset (ATA-6, clause 9.12)."""
    RESET_STATUS = STATUS_READY

    def reset(self, state: DriveState) -> None:
        """Power-on, hardware and software reset: diagnostics pass, the signature shows."""
        self.diagnose(state)

    def power_on(self, state: DriveState) -> None:
        """The first reset of all."""
        self.reset(state)

    def diagnose(self, state: DriveState) -> None:
        """EXECUTE DEVICE DIAGNOSTIC: passed."""
        self.end_transfer(state)
        state.error = DIAGNOSTIC_PASSED
        state.status = self.RESET_STATUS
        state.interrupt = False
        state.device = 0
        self.sign(state)

    def sign(self, state: DriveState) -> None:
        """Put the signature into the registers."""
        state.count, state.lba_low, state.lba_mid, state.lba_high = self.SIGNATURE

    @abstractmethod
    def execute(self, state: DriveState, command: int) -> None:
        """The host wrote *command* to the command register."""

    @abstractmethod
    def block_done(self, state: DriveState) -> None:
        """The host has moved all of ``state.buffer``."""

    # For the drives' own use ---------------------------------------------------------------------
    def begin_read(self, state: DriveState, data: bytes, interrupt: bool = True) -> None:
        """A DRQ block for the host to read."""
        state.buffer = bytearray(data)
        state.position = 0
        state.turn = Turn.READ
        state.status = STATUS_READY | STATUS_DRQ
        state.interrupt = interrupt

    def begin_write(self, state: DriveState, size: int, interrupt: bool) -> None:
        """A DRQ block of *size* bytes for the host to write."""
        state.buffer = bytearray(size)
        state.position = 0
        state.turn = Turn.WRITE
        state.status = STATUS_READY | STATUS_DRQ
        state.interrupt = interrupt

    def end_transfer(self, state: DriveState) -> None:
        """No data moves any more."""
        state.buffer = bytearray()
        state.position = 0
        state.turn = Turn.NONE
        state.remaining = 0

    def complete(self, state: DriveState) -> None:
        """The command ends well."""
        self.end_transfer(state)
        state.status = STATUS_READY
        state.error = 0
        state.interrupt = True

    def fail(self, state: DriveState, error: int = ERROR_ABRT) -> None:
        """The command ends with bits of the error register."""
        self.end_transfer(state)
        state.status = STATUS_READY | STATUS_ERR
        state.error = error
        state.interrupt = True


def identify_string(text: str, size: int) -> bytes:
    """*text* as IDENTIFY DEVICE has it: padded with spaces to *size* bytes, the bytes of each word swapped."""
    data = bytearray(text.encode("ascii", "replace")[:size].ljust(size))
    data[0::2], data[1::2] = data[1::2], data[0::2]
    return bytes(data)


def pack_words(words: dict[int, int], strings: dict[int, bytes]) -> bytes:
    """The 512 bytes of IDENTIFY data: *words* by number, *strings* by their first word."""
    data = bytearray(512)
    for number, value in words.items():
        data[2 * number : 2 * number + 2] = value.to_bytes(2, "little")
    for number, text in strings.items():
        data[2 * number : 2 * number + len(text)] = text
    return bytes(data)
