"""ATA disk (ATA/ATAPI-6, T13/1410D), programmed I/O.

Commands take no time: BSY is never seen, and the interrupt comes with the write of the command register.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from devices.backends import SECTOR, Disk
from devices.ide.drive import Drive, identify_string, pack_words
from devices.ide.registers import (
    DEVICE_HEAD,
    DEVICE_LBA,
    ERROR_IDNF,
    ERROR_UNC,
    DriveState,
)

MAX_MULTIPLE = 16
"""Sectors in a DRQ block at most (IDENTIFY word 47)."""
MAX_CYLINDERS = 16_383
LBA28_SECTORS = 0x0FFF_FFFF
POWER_ACTIVE = 0xFF

READ_COMMANDS = (0x20, 0x21, 0x24, 0xC4, 0x29)
"""READ SECTORS (with and without retries), READ SECTORS EXT, READ MULTIPLE, READ MULTIPLE EXT."""
WRITE_COMMANDS = (0x30, 0x31, 0x34, 0xC5, 0x39, 0x3C)
"""The same for writing, and WRITE VERIFY."""
MULTIPLE_COMMANDS = frozenset({0xC4, 0x29, 0xC5, 0x39})
EXT_COMMANDS = frozenset({0x24, 0x27, 0x29, 0x34, 0x39, 0x42, 0xEA})
NO_ACTION = (
    *range(0x10, 0x20),  # RECALIBRATE
    *(0x94, 0xE0, 0x96, 0xE2),  # STANDBY (IMMEDIATE)
    *(0x95, 0xE1, 0x97, 0xE3),  # IDLE (IMMEDIATE)
    *(0x99, 0xE6),  # SLEEP: the next command wakes the drive
)

SUBCOMMANDS_IGNORED = frozenset({0x02, 0x82, 0x55, 0xAA, 0x05, 0x85, 0x66, 0xCC, 0x42, 0xC2})
"""SET FEATURES that change nothing here: write cache, look-ahead, power management, defaults, acoustics."""
SET_TRANSFER_MODE = 0x03
PIO_MODES = frozenset({0x00, 0x01, *range(0x08, 0x0D)})
"""Transfer modes that the drive takes: PIO default, without IORDY, and 0 to 4."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Cylinders, heads (1 to 16) and sectors a track (1 to 63) of a disk."""

    cylinders: int
    heads: int
    sectors: int

    @property
    def size(self) -> int:
        """The sectors that CHS addresses reach."""
        return self.cylinders * self.heads * self.sectors


def default_geometry(sectors: int) -> Geometry:
    """16 heads and 63 sectors a track, as all disks of more than 504 MiB say (ATA-6, annex B)."""
    return Geometry(min(max(sectors // (16 * 63), 1), MAX_CYLINDERS), 16, 63)


class AtaDisk(Drive):
    """A hard disk of *disk*'s size.  *geometry* is what IDENTIFY DEVICE tells as default translation."""

    def __init__(
        self,
        disk: Disk,
        geometry: Geometry | None = None,
        serial: str = "0001",
        model: str = "BTVMM HARDDISK",
    ) -> None:
        self.disk = disk
        self.geometry = geometry or default_geometry(disk.sectors)
        self._serial = serial
        self._model = model
        self.identify_data = b""
        """What IDENTIFY DEVICE gives instead of this drive's own 512 bytes, to pose as another."""
        self._commands: dict[int, Callable[[DriveState], None]] = {
            **dict.fromkeys(NO_ACTION, self.complete),
            **dict.fromkeys(READ_COMMANDS, self._read),
            **dict.fromkeys(WRITE_COMMANDS, self._write),
            **dict.fromkeys((0x40, 0x41, 0x42), self._verify),
            **dict.fromkeys(range(0x70, 0x80), self._seek),
            **dict.fromkeys((0x98, 0xE5), self._check_power_mode),
            **dict.fromkeys((0xE7, 0xEA), self._flush),
            **dict.fromkeys((0xF8, 0x27), self._read_native_max),
            0x91: self._initialize_device_parameters,
            0xC6: self._set_multiple,
            0xE4: self._read_buffer,
            0xE8: self._write_buffer,
            0xEC: self._identify,
            0xEF: self._set_features,
        }
        """What no row names is aborted.  The DMA commands (C8h, CAh, 25h, 35h) are not there: IDENTIFY says so."""
        self._after_block: dict[int, Callable[[DriveState], None]] = {
            **dict.fromkeys(READ_COMMANDS, self._next_read),
            **dict.fromkeys(WRITE_COMMANDS, self._store),
            0xE4: self._end_of_read,
            0xE8: self._store_buffer,
            0xEC: self._end_of_read,
        }

    def reset(self, state: DriveState) -> None:
        super().reset(state)
        state.multiple = 0
        state.heads = state.sectors = 0

    def execute(self, state: DriveState, command: int) -> None:
        state.command = command
        state.error = 0
        self.end_transfer(state)
        self._commands.get(command, self.fail)(state)

    def block_done(self, state: DriveState) -> None:
        self._after_block[state.command](state)

    def _end_of_read(self, state: DriveState) -> None:
        """The host has read the last block: the command ends without another interrupt."""
        interrupt = state.interrupt
        self.complete(state)
        state.interrupt = interrupt

    # Addresses -------------------------------------------------------------------------------------
    def _translation(self, state: DriveState) -> tuple[int, int]:
        return state.heads or self.geometry.heads, state.sectors or self.geometry.sectors

    def _address(self, state: DriveState) -> int:
        """The LBA in the registers; -1 for a CHS address that does not exist."""
        if _is_ext(state.command):
            before = state.lba_high_before << 16 | state.lba_mid_before << 8 | state.lba_low_before
            return before << 24 | state.lba_high << 16 | state.lba_mid << 8 | state.lba_low
        if state.device & DEVICE_LBA:
            head = state.device & DEVICE_HEAD
            return head << 24 | state.lba_high << 16 | state.lba_mid << 8 | state.lba_low
        heads, sectors = self._translation(state)
        head = state.device & DEVICE_HEAD
        if not 1 <= state.lba_low <= sectors or head >= heads:
            return -1
        return ((state.lba_high << 8 | state.lba_mid) * heads + head) * sectors + state.lba_low - 1

    def _set_address(self, state: DriveState, lba: int) -> None:
        """Leave *lba* in the registers, in the terms of the command."""
        if _is_ext(state.command):
            state.lba_low_before, state.lba_mid_before, state.lba_high_before = (lba >> 24).to_bytes(3, "little")
            state.lba_low, state.lba_mid, state.lba_high = (lba & 0xFF_FFFF).to_bytes(3, "little")
        elif state.device & DEVICE_LBA:
            state.lba_low, state.lba_mid, state.lba_high = (lba & 0xFF_FFFF).to_bytes(3, "little")
            state.device = state.device & ~DEVICE_HEAD | lba >> 24 & DEVICE_HEAD
        else:
            heads, sectors = self._translation(state)
            track, sector = divmod(lba, sectors)
            cylinder, head = divmod(track, heads)
            state.lba_low = sector + 1
            state.lba_mid, state.lba_high = cylinder & 0xFF, cylinder >> 8 & 0xFF
            state.device = state.device & ~DEVICE_HEAD | head & DEVICE_HEAD

    def _sector_count(self, state: DriveState) -> int:
        if _is_ext(state.command):
            return (state.count_before << 8 | state.count) or 0x1_0000
        return state.count or 0x100

    def _set_count(self, state: DriveState, count: int) -> None:
        state.count = count & 0xFF
        if _is_ext(state.command):
            state.count_before = count >> 8 & 0xFF

    def _exists(self, lba: int, count: int) -> bool:
        return lba >= 0 and lba + count <= self.disk.sectors

    # Reading and writing -----------------------------------------------------------------------------
    def _prepare(self, state: DriveState) -> bool:
        """Set up ``lba``, ``remaining`` and ``block``; false (and the command is aborted) if MULTIPLE is off."""
        state.block = 1
        if state.command in MULTIPLE_COMMANDS:
            if not state.multiple:
                self.fail(state)
                return False
            state.block = state.multiple
        state.lba = self._address(state)
        state.remaining = self._sector_count(state)
        return True

    def _read(self, state: DriveState) -> None:
        if self._prepare(state):
            self._load(state)

    def _load(self, state: DriveState) -> None:
        """Offer the next DRQ block; the registers tell its last sector."""
        count = min(state.block, state.remaining)
        if not self._exists(state.lba, count):
            self._refuse(state, ERROR_IDNF)
            return
        try:
            data = self.disk.read(state.lba, count)
        except OSError:
            self._refuse(state, ERROR_UNC)
            return
        self._moved(state, count)
        self.begin_read(state, data)

    def _moved(self, state: DriveState, count: int) -> None:
        """*count* sectors are done."""
        state.lba += count
        state.remaining -= count
        self._set_address(state, state.lba - 1)
        self._set_count(state, state.remaining)

    def _refuse(self, state: DriveState, error: int) -> None:
        """An error at the next sector, or past the end: the registers tell it and the number that is left."""
        if state.lba >= 0:
            first = state.lba if error == ERROR_UNC else max(state.lba, self.disk.sectors)
            self._set_address(state, first)
        self._set_count(state, state.remaining)
        self.fail(state, error)

    def _next_read(self, state: DriveState) -> None:
        if state.remaining:
            self._load(state)
        else:
            self._end_of_read(state)

    def _write(self, state: DriveState) -> None:
        if self.disk.read_only:
            self.fail(state)
        elif self._prepare(state):
            self._ask(state, interrupt=False)

    def _ask(self, state: DriveState, interrupt: bool) -> None:
        """Ask for the next DRQ block."""
        count = min(state.block, state.remaining)
        if self._exists(state.lba, count):
            self._set_address(state, state.lba)
            self.begin_write(state, count * SECTOR, interrupt)
        else:
            self._refuse(state, ERROR_IDNF)

    def _store(self, state: DriveState) -> None:
        count = len(state.buffer) // SECTOR
        try:
            self.disk.write(state.lba, bytes(state.buffer))
        except OSError:
            self._refuse(state, ERROR_UNC)
            return
        self._moved(state, count)
        if state.remaining:
            self._ask(state, interrupt=True)
        else:
            self.complete(state)

    def _verify(self, state: DriveState) -> None:
        self._prepare(state)
        count = state.remaining
        if not self._exists(state.lba, count):
            present = max(self.disk.sectors - state.lba, 0) if state.lba >= 0 else 0
            state.remaining -= min(present, count)
            self._refuse(state, ERROR_IDNF)
            return
        self._moved(state, count)
        self.complete(state)

    def _seek(self, state: DriveState) -> None:
        if self._exists(self._address(state), 1):
            self.complete(state)
        else:
            self.fail(state, ERROR_IDNF)

    def _flush(self, state: DriveState) -> None:
        try:
            self.disk.flush()
        except OSError:
            self.fail(state)
            return
        self.complete(state)

    def _read_buffer(self, state: DriveState) -> None:
        self.begin_read(state, bytes(state.scratch) or bytes(SECTOR))

    def _write_buffer(self, state: DriveState) -> None:
        self.begin_write(state, SECTOR, interrupt=False)

    def _store_buffer(self, state: DriveState) -> None:
        state.scratch = bytearray(state.buffer)
        self.complete(state)

    # Settings ----------------------------------------------------------------------------------------
    def _initialize_device_parameters(self, state: DriveState) -> None:
        if not state.count:
            self.fail(state)
            return
        state.sectors = state.count
        state.heads = (state.device & DEVICE_HEAD) + 1
        self.complete(state)

    def _set_multiple(self, state: DriveState) -> None:
        count = state.count
        if count > MAX_MULTIPLE or count & (count - 1):
            state.multiple = 0
            self.fail(state)
            return
        state.multiple = count
        self.complete(state)

    def _set_features(self, state: DriveState) -> None:
        known = state.features in SUBCOMMANDS_IGNORED or (
            state.features == SET_TRANSFER_MODE and state.count in PIO_MODES
        )
        if known:
            self.complete(state)
        else:
            self.fail(state)

    def _read_native_max(self, state: DriveState) -> None:
        if not state.device & DEVICE_LBA:
            self.fail(state)
            return
        last = self.disk.sectors - 1
        self._set_address(state, last if _is_ext(state.command) else min(last, LBA28_SECTORS - 1))
        self.complete(state)

    def _check_power_mode(self, state: DriveState) -> None:
        state.count = POWER_ACTIVE
        self.complete(state)

    def _identify(self, state: DriveState) -> None:
        if self.identify_data:
            self.begin_read(state, self.identify_data)
            return
        heads, sectors = self._translation(state)
        default = self.geometry
        current = Geometry(min(max(self.disk.sectors // (heads * sectors), 1), 0xFFFF), heads, sectors)
        lba28 = min(self.disk.sectors, LBA28_SECTORS)
        words = {
            0: 0x0040,  # a fixed disk
            1: default.cylinders,
            3: default.heads,
            6: default.sectors,
            20: 3,  # buffer with look-ahead
            21: 512,
            22: 4,
            47: 0x8000 | MAX_MULTIPLE,
            48: 1,  # 32 bits at once
            49: 0x0A00,  # LBA, IORDY; no DMA
            50: 0x4000,
            51: 0x0200,
            53: 0x0003,  # words 54-58 and 64-70 are valid
            54: current.cylinders,
            55: heads,
            56: sectors,
            57: current.size & 0xFFFF,
            58: current.size >> 16 & 0xFFFF,
            59: 0x0100 | state.multiple if state.multiple else 0,
            60: lba28 & 0xFFFF,
            61: lba28 >> 16,
            64: 0x0003,  # PIO modes 3 and 4
            65: 120,
            66: 120,
            67: 120,
            68: 120,
            80: 0x007E,  # ATA-1 to ATA/ATAPI-6
            82: 0x7068,  # NOP, READ and WRITE BUFFER, look-ahead, write cache, power management
            83: 0x7400,  # FLUSH CACHE (EXT), 48-bit addresses
            84: 0x4000,
            85: 0x7068,
            86: 0x3400,
            87: 0x4000,
            **{100 + n: self.disk.sectors >> 16 * n & 0xFFFF for n in range(4)},
        }
        strings = {
            10: identify_string(self._serial, 20),
            23: identify_string("1.0", 8),
            27: identify_string(self._model, 40),
        }
        self.begin_read(state, pack_words(words, strings))


def _is_ext(command: int) -> bool:
    """The command takes a 48-bit address and a 16-bit count."""
    return command in EXT_COMMANDS
