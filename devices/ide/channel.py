"""An ATA channel: the registers of two drives at one pair of ports (ATA/ATAPI-6, clauses 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

from devices.backends import Disk
from devices.core import Device, Line, Ports
from devices.ide.cdrom import Cdrom
from devices.ide.drive import Drive
from devices.ide.registers import (
    ABSENT,
    CONTROL_HOB,
    CONTROL_NIEN,
    CONTROL_SRST,
    DATA,
    DEVICE,
    DEVICE_DEV,
    ERROR,
    FEATURES,
    LBA_HIGH,
    LBA_LOW,
    LBA_MID,
    SECTOR_COUNT,
    STATUS,
    STATUS_BSY,
    ChannelState,
    DriveState,
    Turn,
)

PRIMARY = (0x1F0, 0x3F6)
SECONDARY = (0x170, 0x376)
"""Ports of the command block and of device control."""

EXECUTE_DEVICE_DIAGNOSTIC = 0x90

LATCHES = {
    FEATURES: "features",
    SECTOR_COUNT: "count",
    LBA_LOW: "lba_low",
    LBA_MID: "lba_mid",
    LBA_HIGH: "lba_high",
}
"""Registers that both drives latch, with the previous content."""


class IdeChannel(Device):
    """One channel with drive 0 and drive 1, either of which may be absent.

    *interrupt* is INTRQ.  The data register may be read and written 16 and 32 bits wide, and in bulk by
    ``read_block`` and ``write_block``.
    """

    def __init__(
        self,
        interrupt: Line,
        drives: tuple[Drive | None, Drive | None],
        ports: tuple[int, int] = PRIMARY,
        name: str = "ide",
    ) -> None:
        self.name = name
        self.data_port, self.control_port = ports
        self.drives = drives
        self._interrupt = interrupt
        self.state: ChannelState = ChannelState()
        self._power_on()

    def _power_on(self) -> None:
        for drive, state in zip(self.drives, self.state.drives, strict=True):
            if drive is not None:
                drive.power_on(state)

    def reset(self) -> None:
        self.state = ChannelState()
        self._power_on()
        self._update()

    def change_medium(self, number: int, disk: Disk | None) -> None:
        """Exchange the disc of the CD-ROM drive *number*; ``ValueError`` if that is none."""
        drive = self.drives[number]
        if not isinstance(drive, Cdrom):
            raise ValueError(f"drive {number} of {self.name} has no removable medium")
        drive.change_medium(self.state.drives[number], disk)

    def ports(self) -> Sequence[Ports]:
        names = ("data", "error/features", "count", "LBA low", "LBA mid", "LBA high", "device", "status/command")
        return (
            Ports(self.data_port, 8, self.read, self.write, (1, 2, 4), names, self.read_block, self.write_block),
            Ports(self.control_port, 1, self._read_control, self._write_control, names=("status/control",)),
        )

    def _update(self) -> None:
        state = self.state
        pending = state.drives[state.selected].interrupt
        self._interrupt.set(pending and not state.control & CONTROL_NIEN)

    # The data register -----------------------------------------------------------------------------
    def read_block(self, count: int, size: int) -> bytes:
        """*count* reads of *size* bytes (1, 2 or 4) from the data register, as REP INS does them.

        A byte read takes a whole word off the drive.  Where the drive has no data, the bus floats.
        """
        if size == 1:
            return self.read_block(count, 2)[::2]
        wanted = count * size
        pieces = []
        drive, state = self._selected()
        while wanted:
            if drive is None or state.turn is not Turn.READ:
                pieces.append(b"\xff" * wanted)
                break
            piece = bytes(state.buffer[state.position : state.position + wanted])
            if len(piece) & 1:
                piece += b"\0"
            pieces.append(piece)
            wanted -= len(piece)
            self._advance(drive, state, len(piece))
        self._update()
        return b"".join(pieces)

    def write_block(self, data: bytes, size: int) -> None:
        """Writes of *size* bytes (1, 2 or 4) to the data register, as REP OUTS does them.

        Bytes that the drive does not wait for are lost.
        """
        if size == 1:
            words = bytearray(2 * len(data))
            words[::2] = data
            data = bytes(words)
        drive, state = self._selected()
        while data and drive is not None and state.turn is Turn.WRITE:
            room = len(state.buffer) - state.position
            piece = data[:room]
            state.buffer[state.position : state.position + len(piece)] = piece
            data = data[room:]
            self._advance(drive, state, len(piece))
        self._update()

    def _advance(self, drive: Drive, state: DriveState, size: int) -> None:
        state.position += size
        if state.position >= len(state.buffer):
            drive.block_done(state)

    # Read ----------------------------------------------------------------------------------------
    def _selected(self) -> tuple[Drive | None, DriveState]:
        selected = self.state.selected
        return self.drives[selected], self.state.drives[selected]

    def read(self, port: int, size: int) -> int:
        """IN from the command block; only the data register is wider than a byte."""
        register = port - self.data_port
        if register == DATA:
            return int.from_bytes(self.read_block(1, size), "little")
        return sum(self._read_register(register + n) << 8 * n for n in range(size))

    def _read_register(self, register: int) -> int:
        drive, state = self._selected()
        if drive is None:
            return 0 if any(self.drives) else ABSENT  # the other drive answers for the absent one
        if register == STATUS:
            status = self._status()
            state.interrupt = False
            self._update()
            return status
        if register == ERROR:
            return state.error
        if register == DEVICE:
            return state.device
        name = LATCHES[register] + ("_before" if self.state.control & CONTROL_HOB else "")
        return int(getattr(state, name))

    def _status(self) -> int:
        drive, state = self._selected()
        if drive is None:
            return 0 if any(self.drives) else ABSENT
        return STATUS_BSY if self.state.control & CONTROL_SRST else state.status

    def _read_control(self, port: int, size: int) -> int:
        """Alternate status: leaves the interrupt pending."""
        return self._status()

    # Write ---------------------------------------------------------------------------------------
    def write(self, port: int, size: int, value: int) -> None:
        """OUT to the command block."""
        register = port - self.data_port
        if register == DATA:
            self.write_block(value.to_bytes(size, "little"), size)
            return
        for n in range(size):
            self._write_register(register + n, value >> 8 * n & 0xFF)

    def _write_register(self, register: int, value: int) -> None:
        state = self.state
        state.control &= ~CONTROL_HOB
        if register == STATUS:
            self._command(value)
            return
        for drive in state.drives:
            if register == DEVICE:
                drive.device = value
            else:
                name = LATCHES[register]
                setattr(drive, name + "_before", getattr(drive, name))
                setattr(drive, name, value)
        if register == DEVICE:
            state.selected = 1 if value & DEVICE_DEV else 0
        self._update()

    def _command(self, command: int) -> None:
        state = self.state
        if state.control & CONTROL_SRST:
            return
        if command == EXECUTE_DEVICE_DIAGNOSTIC:
            self._diagnose()
        else:
            drive, selected = self._selected()
            if drive is not None:
                selected.interrupt = False
                self._update()
                drive.execute(selected, command)
        self._update()

    def _diagnose(self) -> None:
        """Both drives test themselves; drive 0 reports."""
        state = self.state
        state.selected = 0
        for drive, registers in zip(self.drives, state.drives, strict=True):
            if drive is not None:
                drive.diagnose(registers)
        state.drives[0].interrupt = self.drives[0] is not None

    def _write_control(self, port: int, size: int, value: int) -> None:
        state = self.state
        started = value & ~state.control & CONTROL_SRST
        state.control = value & (CONTROL_HOB | CONTROL_SRST | CONTROL_NIEN)
        if started:
            state.selected = 0
            for drive, registers in zip(self.drives, state.drives, strict=True):
                if drive is not None:
                    drive.reset(registers)
        self._update()
