"""Registers, bits and volatile state of an ATA channel and its two drives (ATA/ATAPI-6, T13/1410D)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

# Command block, from the channel's first base on (clause 7)
DATA, FEATURES, SECTOR_COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE, COMMAND = range(8)
ERROR, STATUS = FEATURES, COMMAND
"""The same ports when read."""

STATUS_BSY, STATUS_DRDY, STATUS_DF, STATUS_DSC, STATUS_DRQ, STATUS_ERR = 0x80, 0x40, 0x20, 0x10, 0x08, 0x01
STATUS_READY = STATUS_DRDY | STATUS_DSC
ERROR_UNC, ERROR_IDNF, ERROR_ABRT = 0x40, 0x10, 0x04
DIAGNOSTIC_PASSED = 0x01
DEVICE_LBA, DEVICE_DEV, DEVICE_HEAD = 0x40, 0x10, 0x0F
DEVICE_OBSOLETE = 0xA0
"""Bits that old hosts set; they read back as written."""
CONTROL_HOB, CONTROL_SRST, CONTROL_NIEN = 0x80, 0x04, 0x02

REASON_COMMAND, REASON_TO_HOST = 0x01, 0x02
"""C/D and I/O of the interrupt reason (the sector count register of a PACKET command)."""

ABSENT = 0x7F
"""What the pulled-up data lines give where no drive is: the pull-down on DD7 clears BSY (ATA-6, annex A)."""


class Turn(IntEnum):
    """What the host is to do with the data register."""

    NONE = 0
    READ = 1
    WRITE = 2


@dataclass
class Sense:
    """Sense data of the last ATAPI command (MMC-5, annex F)."""

    key: int = 0
    asc: int = 0
    ascq: int = 0


@dataclass
class DriveState:
    """One drive.  The command block registers are kept twice: what was written last and what was before it."""

    features: int = 0
    error: int = 0
    count: int = 0
    lba_low: int = 0
    lba_mid: int = 0
    lba_high: int = 0
    features_before: int = 0
    count_before: int = 0
    lba_low_before: int = 0
    lba_mid_before: int = 0
    lba_high_before: int = 0
    """"Previous content", which 48-bit commands use and DEVICE CONTROL's HOB shows."""
    device: int = 0
    status: int = 0
    interrupt: bool = False
    """INTRQ, before nIEN."""

    turn: Turn = Turn.NONE
    buffer: bytearray = field(default_factory=bytearray)
    """The DRQ block that moves through the data register."""
    position: int = 0
    """Bytes of ``buffer`` that were moved."""
    command: int = 0
    """The command in execution."""

    lba: int = 0
    """The sector (of a disk) or 2,048-byte block (of a CD) that the next DRQ block begins with."""
    remaining: int = 0
    """Sectors (of a disk's command) or bytes (of a packet's) after the DRQ block in hand."""

    # Disks
    block: int = 0
    """Sectors in a DRQ block of the command in hand."""
    multiple: int = 0
    """Sectors in a DRQ block of READ and WRITE MULTIPLE; 0 if they are off."""
    heads: int = 0
    """Logical heads and sectors a track as INITIALIZE DEVICE PARAMETERS set them; 0 for the default."""
    sectors: int = 0
    scratch: bytearray = field(default_factory=bytearray)
    """The sector buffer of READ BUFFER and WRITE BUFFER."""

    # CD-ROM drives
    reply: bytes = b""
    """What is left of the packet command's data, unless that comes from the medium."""
    skip: int = 0
    """Bytes of the block at ``lba`` that the host has had."""
    limit: int = 0
    """Bytes in a DRQ block at most: the host's byte count limit."""
    sense: Sense = field(default_factory=Sense)
    attention: Sense = field(default_factory=Sense)
    """A unit attention that is to be told to the next command."""
    media_event: int = 0
    """Event code that GET EVENT STATUS NOTIFICATION is to tell."""
    locked: bool = False
    """PREVENT MEDIUM REMOVAL."""
    tray_open: bool = False


@dataclass
class ChannelState:
    """Both drives, and what is common to them."""

    drives: list[DriveState] = field(default_factory=lambda: [DriveState(), DriveState()])
    selected: int = 0
    control: int = 0
