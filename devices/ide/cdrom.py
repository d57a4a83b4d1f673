"""ATAPI CD-ROM drive (ATA/ATAPI-6, clause 8.23; packet commands of MMC-5), programmed I/O.

As with disks, commands take no time.
"""

from __future__ import annotations

from collections.abc import Callable

from devices.backends import SECTOR, Disk
from devices.ide.drive import Drive, identify_string, pack_words
from devices.ide.packets import (
    BLOCK,
    EVENT_MEDIA_REMOVAL,
    EVENT_NEW_MEDIA,
    ILLEGAL_REQUEST,
    INVALID_OPERATION,
    MEDIUM_CHANGED,
    MEDIUM_ERROR,
    NO_MEDIUM,
    NOT_READY,
    PACKET_COMMANDS,
    POWER_ON,
    READ_ERROR,
    REQUEST_SENSE,
    TRAY_OPEN,
    UNIT_ATTENTION,
    CheckCondition,
    Medium,
)
from devices.ide.registers import (
    ERROR_ABRT,
    REASON_COMMAND,
    REASON_TO_HOST,
    STATUS_READY,
    DriveState,
    Sense,
    Turn,
)

PACKET = 0xA0
PACKET_SIZE = 12
FEATURES_DMA, FEATURES_OVERLAP = 0x01, 0x02
SET_TRANSFER_MODE = 0x03


class Cdrom(Drive):
    """A CD-ROM drive; *disk* is the disc's image or ``None``.  Exchange it by ``change_medium``."""

    SIGNATURE = (0x01, 0x01, 0x14, 0xEB)
    RESET_STATUS = 0

    def __init__(self, disk: Disk | None = None, serial: str = "0001", model: str = "BTVMM CD-ROM") -> None:
        self._disk = disk
        self._serial = serial
        self._model = model
        self._commands: dict[int, Callable[[DriveState], None]] = {
            0x08: self._device_reset,
            PACKET: self._packet,
            0xA1: self._identify_packet,
            0x20: self._not_a_disk,  # READ SECTORS
            0xEC: self._not_a_disk,  # IDENTIFY DEVICE
            **dict.fromkeys((0xE0, 0xE1, 0xE2, 0xE3, 0xE6), self.complete),  # power management
            0xE5: self._check_power_mode,
            0xEF: self._set_features,
        }

    def power_on(self, state: DriveState) -> None:
        super().power_on(state)
        state.attention = Sense(UNIT_ATTENTION, *POWER_ON)

    def reset(self, state: DriveState) -> None:
        super().reset(state)
        state.locked = False
        state.sense = Sense()

    def change_medium(self, state: DriveState, disk: Disk | None) -> None:
        """Put *disk* in, or take the disc out, by hand; the next command is told."""
        self._disk = disk
        state.tray_open = False
        state.media_event = EVENT_NEW_MEDIA if disk else EVENT_MEDIA_REMOVAL
        state.attention = Sense(UNIT_ATTENTION, *MEDIUM_CHANGED)

    def execute(self, state: DriveState, command: int) -> None:
        state.command = command
        state.error = 0
        self.end_transfer(state)
        self._commands.get(command, self.fail)(state)

    def block_done(self, state: DriveState) -> None:
        if state.turn is Turn.WRITE:
            self._begin_packet(state, bytes(state.buffer))
        elif state.command != PACKET:
            self.end_transfer(state)  # IDENTIFY PACKET DEVICE
            state.status = STATUS_READY
        elif state.remaining:
            self._next_block(state)
        else:
            self._end_packet(state)

    # Commands that are not packets ---------------------------------------------------------------------
    def _device_reset(self, state: DriveState) -> None:
        """DEVICE RESET raises no interrupt and leaves the drive selected."""
        device = state.device
        self.reset(state)
        state.device = device

    def _not_a_disk(self, state: DriveState) -> None:
        self.sign(state)
        self.fail(state)

    def _check_power_mode(self, state: DriveState) -> None:
        state.count = 0xFF
        self.complete(state)

    def _set_features(self, state: DriveState) -> None:
        if state.features == SET_TRANSFER_MODE and (state.count <= 1 or 0x08 <= state.count <= 0x0C):
            self.complete(state)
        else:
            self.fail(state)

    def _identify_packet(self, state: DriveState) -> None:
        words = {
            0: 0x85C0,  # ATAPI CD-ROM, removable, DRQ within 50 us, 12-byte packets
            49: 0x0A00,  # LBA, IORDY; no DMA
            50: 0x4000,
            53: 0x0002,  # words 64-70 are valid
            64: 0x0003,  # PIO modes 3 and 4
            65: 120,
            66: 120,
            67: 120,
            68: 120,
            80: 0x007E,  # up to ATA/ATAPI-6
            82: 0x4210,  # NOP, DEVICE RESET, PACKET
            83: 0x4000,
            84: 0x4000,
            85: 0x4210,
            87: 0x4000,
        }
        strings = {
            10: identify_string(self._serial, 20),
            23: identify_string("1.0", 8),
            27: identify_string(self._model, 40),
        }
        self.begin_read(state, pack_words(words, strings))

    # Packets -----------------------------------------------------------------------------------------
    def _packet(self, state: DriveState) -> None:
        if state.features & (FEATURES_DMA | FEATURES_OVERLAP):
            self.fail(state)
            return
        limit = state.lba_high << 8 | state.lba_mid
        # FFFFh means as much as fits; an odd limit would tear a word.
        state.limit = max(limit & 0xFFFE, 2) if limit else 0
        state.count = REASON_COMMAND
        self.begin_write(state, PACKET_SIZE, interrupt=False)

    def _medium(self, state: DriveState) -> Medium:
        present = self._disk is not None and not state.tray_open
        return Medium(self._disk.sectors * SECTOR // BLOCK if self._disk and present else 0, present)

    def _begin_packet(self, state: DriveState, packet: bytes) -> None:
        self.end_transfer(state)
        try:
            command = PACKET_COMMANDS.get(packet[0])
            if command is None:
                raise CheckCondition(ILLEGAL_REQUEST, *INVALID_OPERATION)
            if not command.ignores_attention and state.attention.key:
                state.sense, state.attention = state.attention, Sense()
                self._check(state)
                return
            medium = self._medium(state)
            if command.needs_medium and not medium.present:
                raise CheckCondition(NOT_READY, *(TRAY_OPEN if state.tray_open else NO_MEDIUM))
            state.reply = command.run(state, packet, medium)
        except CheckCondition as condition:
            state.sense = Sense(condition.key, condition.asc, condition.ascq)
            self._check(state)
            return
        # A command that reads the medium has set ``remaining``; the others only give a reply.
        state.skip = 0
        state.remaining = state.remaining or len(state.reply)
        if packet[0] != REQUEST_SENSE:
            state.sense = Sense()
        if not state.remaining:
            self._end_packet(state)
        elif not state.limit:
            self.fail(state)  # data, but no leave to send any
        else:
            self._next_block(state)

    def _next_block(self, state: DriveState) -> None:
        """Offer up to ``limit`` bytes."""
        size = min(state.limit, state.remaining)
        if state.reply:
            data, state.reply = state.reply[:size], state.reply[size:]
        else:
            try:
                data = self._read_medium(state, size)
            except OSError:
                state.sense = Sense(MEDIUM_ERROR, *READ_ERROR)
                self._check(state)
                return
        state.remaining -= size
        state.count = REASON_TO_HOST
        state.lba_mid, state.lba_high = size & 0xFF, size >> 8
        self.begin_read(state, data)

    def _read_medium(self, state: DriveState, size: int) -> bytes:
        blocks = -(-(state.skip + size) // BLOCK)
        disk = self._disk
        end = (state.lba + blocks) * BLOCK // SECTOR
        if disk is None or end > disk.sectors:
            raise OSError("the disc was changed")
        data = disk.read(state.lba * BLOCK // SECTOR, blocks * BLOCK // SECTOR)
        data = data[state.skip : state.skip + size]
        state.lba += (state.skip + size) // BLOCK
        state.skip = (state.skip + size) % BLOCK
        return data

    def _end_packet(self, state: DriveState) -> None:
        state.count = REASON_COMMAND | REASON_TO_HOST
        self.complete(state)

    def _check(self, state: DriveState) -> None:
        """CHECK CONDITION: the error register shows the sense key."""
        state.reply = b""
        state.count = REASON_COMMAND | REASON_TO_HOST
        self.fail(state, state.sense.key << 4 | ERROR_ABRT)
