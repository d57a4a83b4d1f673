"""The execution phase of the 82077AA's data commands (data sheet, section 6)."""

from __future__ import annotations

from collections.abc import Sequence

from devices.backends import SECTOR
from devices.core import NEVER, Clock
from devices.dma import DmaChannel
from devices.fdc.formats import Drive, Format
from devices.fdc.registers import (
    CONFIGURE_EIS,
    DOR_DMA_GATE,
    HOST_WRITES,
    MFM,
    MT,
    SK,
    SPECIFY_ND,
    ST0_ABNORMAL,
    ST1_DE,
    ST1_EN,
    ST1_MA,
    ST1_ND,
    ST1_NW,
    ST1_OR,
    ST2_CM,
    ST2_DD,
    ST2_WC,
    VERIFY_EC,
    Command,
    DriveState,
    FdcState,
    Phase,
    Transfer,
    decode,
)

DATA_NS = 100_000
"""From the last command byte to the first sector; then by DMA all the others follow at once."""
SECTOR_NS = 20_000
"""From one sector to the next if the host moves the bytes."""
SECTOR_N = 2
"""N of a 512-byte sector: 128 << N."""

EXPECT_TERMINAL_COUNT = frozenset({Command.READ_DATA, Command.WRITE_DATA, Command.WRITE_DELETED})
"""Commands that end with an error if the cylinder ends before the terminal count."""


class Fault(Exception):
    """The command ends with these bits in ST1 and ST2; never leaves this module."""

    def __init__(self, st1: int, st2: int = 0) -> None:
        super().__init__(st1, st2)
        self.st1 = st1
        self.st2 = st2


class DataCommands:
    """Moves sectors between diskettes and the host, by DMA or through the FIFO port."""

    def __init__(self, clock: Clock, channel: DmaChannel, drives: Sequence[Drive]) -> None:
        self._clock = clock
        self._channel = channel
        self._drives = drives

    # Phases ----------------------------------------------------------------------------------------
    def start(self, state: FdcState) -> None:
        """All bytes of the command are in ``state.buffer``: the execution phase begins."""
        code = state.buffer
        first = code[0]
        transfer = Transfer(opcode=first, drive=code[1] & 3, head=code[1] >> 2 & 1)
        command = decode(first)
        if command is Command.FORMAT_TRACK:
            transfer.n, transfer.eot, transfer.filler = code[2], code[3], code[5]
            state.sc_eot = code[3]
        elif command is not Command.READ_ID:
            transfer.c, transfer.h, transfer.r, transfer.n, transfer.eot = code[2:7]
            transfer.dtl = code[8]
            if command is Command.READ_TRACK:
                transfer.r = 1  # in order from the index hole
            transfer.check = command is Command.VERIFY and bool(code[1] & VERIFY_EC)
            state.sc_eot = transfer.eot
            if state.config & CONFIGURE_EIS:
                drive = state.drives[transfer.drive]
                drive.track = drive.pcn = transfer.c
        state.transfer = transfer
        state.buffer = bytearray()
        state.phase = Phase.EXECUTION
        state.due = self._clock.now + DATA_NS
        if not self._by_host(state):
            self._channel.request(True)

    def go_on(self, state: FdcState) -> None:
        """``state.due`` has come."""
        state.due = NEVER
        try:
            self._execute(state, decode(state.transfer.opcode))
        except Fault as fault:
            self._finish(state, fault.st1, fault.st2)
        except OSError:
            self._finish(state, ST1_DE, ST2_DD)

    def host_read(self, state: FdcState) -> int:
        """The host takes a byte of the sector in the buffer."""
        value = state.buffer[state.position]
        state.position += 1
        if state.position == len(state.buffer):
            self._end_turn(state)
            self._next_sector(state)
        return value

    def host_write(self, state: FdcState, value: int) -> None:
        """The host gives a byte."""
        state.buffer.append(value)
        if len(state.buffer) == state.wanted:
            data = bytes(state.buffer)
            self._end_turn(state)
            try:
                self._take(state, data)
            except Fault as fault:
                self._finish(state, fault.st1, fault.st2)
            except OSError:
                self._finish(state, ST1_DE, ST2_DD)

    def _by_host(self, state: FdcState) -> bool:
        return bool(state.specify[1] & SPECIFY_ND)

    def _begin_turn(self, state: FdcState, data: bytes, wanted: int) -> None:
        """Ask the host by interrupt to read *data* or to write *wanted* bytes."""
        state.buffer = bytearray(data)
        state.position = 0
        state.wanted = wanted
        state.host_turn = True
        state.interrupt = True

    def _end_turn(self, state: FdcState) -> None:
        state.buffer = bytearray()
        state.host_turn = False
        state.interrupt = False

    def _finish(self, state: FdcState, st1: int = 0, st2: int = 0, abnormal: bool = True) -> None:
        """The result phase."""
        transfer = state.transfer
        st0 = (ST0_ABNORMAL if abnormal else 0) | transfer.head << 2 | transfer.drive
        state.buffer = bytearray((st0, st1, st2, transfer.c, transfer.h, transfer.r, transfer.n))
        state.phase = Phase.RESULT
        state.host_turn = False
        state.due = NEVER
        state.interrupt = True
        self._channel.request(False)

    # Commands --------------------------------------------------------------------------------------
    def _execute(self, state: FdcState, command: Command) -> None:
        if command is Command.READ_ID:
            self._read_id(state)
        elif command in HOST_WRITES:
            self._write(state, command)
        else:
            self._read(state, command)

    def _read_id(self, state: FdcState) -> None:
        transfer = state.transfer
        drive, form = self._medium(state)
        drive.sector = (drive.sector + 1) % form.sectors
        transfer.c, transfer.h, transfer.r, transfer.n = drive.track, transfer.head, drive.sector + 1, SECTOR_N
        self._finish(state, abnormal=False)

    def _read(self, state: FdcState, command: Command) -> None:
        transfer = state.transfer
        while state.phase == Phase.EXECUTION:
            data = self._read_sector(state, self._find(state))
            if command is Command.VERIFY:
                transfer.dtl = transfer.dtl - 1 & 0xFF
                self._next_sector(state, terminal=transfer.check and not transfer.dtl)
                continue
            if command is Command.READ_DELETED and transfer.opcode & SK:
                self._next_sector(state)  # no sector is a deleted one: all are skipped
                continue
            if self._by_host(state):
                self._begin_turn(state, data, 0)
                return
            self._require_dma(state)
            moved, terminal = self._channel.write(data)
            if moved < SECTOR and not terminal:
                raise Fault(ST1_OR)
            self._next_sector(state, terminal)

    def _write(self, state: FdcState, command: Command) -> None:
        transfer = state.transfer
        while state.phase == Phase.EXECUTION:
            self._medium(state)
            disk = self._drives[transfer.drive].disk
            if disk is None or disk.read_only:
                raise Fault(ST1_NW)
            if command is Command.FORMAT_TRACK:
                size = 4 * transfer.eot
            else:
                self._find(state)
                size = SECTOR
            if self._by_host(state) and size:
                self._begin_turn(state, b"", size)
                return
            data, terminal = b"", False
            if size:
                self._require_dma(state)
                data, terminal = self._channel.read(size)
                if len(data) < size and not terminal:
                    raise Fault(ST1_OR)
            self._take(state, data, terminal)

    def _take(self, state: FdcState, data: bytes, terminal: bool = False) -> None:
        """The host's bytes are there: write the sector or the track."""
        transfer = state.transfer
        if decode(transfer.opcode) is Command.FORMAT_TRACK:
            self._format(state, data)
            return
        disk = self._drives[transfer.drive].disk
        lba = self._find(state)
        if disk is None or lba >= disk.sectors:
            raise Fault(ST1_ND)  # past the end of an image that is shorter than its format
        disk.write(lba, data.ljust(SECTOR, b"\0"))
        self._next_sector(state, terminal)

    def _format(self, state: FdcState, ids: bytes) -> None:
        """Fill the sectors that are named by (C, H, R, N); those that the image cannot hold are not kept."""
        transfer = state.transfer
        drive, form = self._medium(state)
        disk = self._drives[transfer.drive].disk
        for n in range(0, len(ids) - 3, 4):
            c, h, r, size = ids[n : n + 4]
            lba = form.lba(drive.track, transfer.head, r)
            known = (c, h, size) == (drive.track, transfer.head, SECTOR_N) and 1 <= r <= form.sectors
            if known and disk is not None and lba < disk.sectors:
                disk.write(lba, bytes((transfer.filler,)) * SECTOR)
            transfer.c, transfer.h, transfer.r = c, h, r
        self._finish(state, abnormal=False)

    # Sectors ---------------------------------------------------------------------------------------
    def _require_dma(self, state: FdcState) -> None:
        """Bytes that nobody fetches in time are lost."""
        if not (state.dor & DOR_DMA_GATE and self._channel.ready):
            raise Fault(ST1_OR)

    def _medium(self, state: FdcState) -> tuple[DriveState, Format]:
        """The drive and the diskette's format; the track under the head must have readable address marks.

        An empty drive gives no index pulses and the chip would wait for ever; here it finds no address mark.
        """
        transfer = state.transfer
        drive = state.drives[transfer.drive]
        form = self._drives[transfer.drive].format if transfer.drive < len(self._drives) else None
        if form is None or form.rate != state.rate or not transfer.opcode & MFM:
            raise Fault(ST1_MA)
        if drive.track >= form.cylinders or transfer.head >= form.heads:
            raise Fault(ST1_MA)
        return drive, form

    def _find(self, state: FdcState) -> int:
        """The LBA of the sector with the ID (C, H, R, N)."""
        transfer = state.transfer
        drive, form = self._medium(state)
        if transfer.c != drive.track:
            raise Fault(ST1_ND, ST2_WC)
        if (transfer.h, transfer.n) != (transfer.head, SECTOR_N) or not 1 <= transfer.r <= form.sectors:
            raise Fault(ST1_ND)
        return form.lba(drive.track, transfer.head, transfer.r)

    def _read_sector(self, state: FdcState, lba: int) -> bytes:
        disk = self._drives[state.transfer.drive].disk
        return disk.read(lba, 1) if disk is not None and lba < disk.sectors else bytes(SECTOR)

    def _step(self, transfer: Transfer) -> bool:
        """Go to the next sector (data sheet, result phase table); true if that was the cylinder's last."""
        if transfer.r != transfer.eot:
            transfer.r = transfer.r + 1 & 0xFF
            return False
        transfer.r = 1
        if not transfer.opcode & MT:
            transfer.c = transfer.c + 1 & 0xFF
            return True
        transfer.h ^= 1
        transfer.head ^= 1
        if not transfer.head:
            transfer.c = transfer.c + 1 & 0xFF
            return True
        return False

    def _next_sector(self, state: FdcState, terminal: bool = False) -> None:
        """A sector is done: end at the terminal count or at the end of the cylinder, or go on."""
        transfer = state.transfer
        command = decode(transfer.opcode)
        deleted = command is Command.READ_DELETED
        head = transfer.head
        last = self._step(transfer)
        if terminal or last or (deleted and not transfer.opcode & SK):
            transfer.head = head  # ST0 tells the head of the last sector, H that of the next
            overran = last and not terminal and command in EXPECT_TERMINAL_COUNT
            self._finish(state, ST1_EN if overran else 0, ST2_CM if deleted else 0, overran)
        elif self._by_host(state):
            state.due = self._clock.now + SECTOR_NS
