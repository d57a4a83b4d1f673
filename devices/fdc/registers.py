"""Registers, status bits, commands and volatile state of the 82077AA (Intel data sheet 290166)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from devices.core import NEVER
from devices.fdc.formats import RATE_250K

# Ports, from the base on
SRA, SRB, DOR, TDR, MSR, FIFO, DIR = 0, 1, 2, 3, 4, 5, 7
DSR, CCR = MSR, DIR
"""The same ports when written."""

DOR_SELECT, DOR_RESET_N, DOR_DMA_GATE = 0x03, 0x04, 0x08
MSR_RQM, MSR_DIO, MSR_NON_DMA, MSR_BUSY = 0x80, 0x40, 0x20, 0x10
DSR_RESET = 0x80
DIR_CHANGE, DIR_FLOATING = 0x80, 0x7F

ST0_ABNORMAL, ST0_INVALID, ST0_READY_CHANGED = 0x40, 0x80, 0xC0
ST0_SEEK_END, ST0_EQUIPMENT_CHECK = 0x20, 0x10
ST1_EN, ST1_DE, ST1_OR, ST1_ND, ST1_NW, ST1_MA = 0x80, 0x20, 0x10, 0x04, 0x02, 0x01
ST2_CM, ST2_DD, ST2_WC = 0x40, 0x20, 0x10
ST3_ALWAYS, ST3_WRITE_PROTECT, ST3_TRACK_0 = 0x28, 0x40, 0x10

# Bits of the first command byte
MT, MFM, SK = 0x80, 0x40, 0x20
# Bits of the parameters
SPECIFY_ND = 0x01
CONFIGURE_EIS, CONFIGURE_EFIFO, CONFIGURE_FIFOTHR = 0x40, 0x20, 0x0F
PERPENDICULAR_OW = 0x80
VERIFY_EC = 0x80
LOCK_LOCK = 0x80
SEEK_RELATIVE, SEEK_IN = 0x80, 0x40

VERSION_ENHANCED = 0x90


class Command(Enum):
    """Commands: low five bits of the first byte, its free bits, length in bytes (data sheet, table 5-1)."""

    READ_TRACK = (0x02, MT | MFM | SK, 9)
    SPECIFY = (0x03, 0, 3)
    SENSE_DRIVE_STATUS = (0x04, 0, 2)
    WRITE_DATA = (0x05, MT | MFM | SK, 9)
    READ_DATA = (0x06, MT | MFM | SK, 9)
    RECALIBRATE = (0x07, 0, 2)
    SENSE_INTERRUPT = (0x08, 0, 1)
    WRITE_DELETED = (0x09, MT | MFM | SK, 9)
    READ_ID = (0x0A, MT | MFM | SK, 2)
    READ_DELETED = (0x0C, MT | MFM | SK, 9)
    FORMAT_TRACK = (0x0D, MT | MFM | SK, 6)
    DUMPREG = (0x0E, 0, 1)
    SEEK = (0x0F, SEEK_RELATIVE | SEEK_IN, 3)
    VERSION = (0x10, 0, 1)
    PERPENDICULAR = (0x12, 0, 2)
    CONFIGURE = (0x13, 0, 4)
    LOCK = (0x14, LOCK_LOCK, 1)
    VERIFY = (0x16, MT | MFM | SK, 9)
    INVALID = (-1, 0, 1)

    @property
    def length(self) -> int:
        return self.value[2]


def decode(first: int) -> Command:
    """The command that the byte *first* begins."""
    return _DECODED[first]


_DECODED = tuple(
    next((c for c in Command if c.value[0] == first & 0x1F and not first & 0xE0 & ~c.value[1]), Command.INVALID)
    for first in range(256)
)

DATA_COMMANDS = frozenset(
    {
        Command.READ_DATA,
        Command.READ_DELETED,
        Command.READ_TRACK,
        Command.VERIFY,
        Command.WRITE_DATA,
        Command.WRITE_DELETED,
        Command.READ_ID,
        Command.FORMAT_TRACK,
    }
)
"""Commands with an execution phase, an interrupt and seven result bytes."""
HOST_WRITES = frozenset({Command.WRITE_DATA, Command.WRITE_DELETED, Command.FORMAT_TRACK})
"""Commands whose data comes from the host."""


class Phase(IntEnum):
    """What the FIFO port is for."""

    COMMAND = 0
    EXECUTION = 1
    RESULT = 2


@dataclass
class DriveState:
    """What the controller and the drive know of the head, and the drive's change line."""

    track: int = 0
    """Where the head is."""
    pcn: int = 0
    """Where the controller believes it is: the present cylinder number."""
    sector: int = 0
    """The sector (from 0) that passed the head last."""
    changed: bool = True
    seek_due: int = NEVER
    seek_status: int = 0
    """ST0 for the seek that ends at ``seek_due``."""


@dataclass
class Transfer:
    """Parameters of a data command, with the address of the sector in hand."""

    opcode: int = 0
    drive: int = 0
    head: int = 0
    """Head selected; HDS of the command, and the other one after a multi-track switch."""
    c: int = 0
    h: int = 0
    r: int = 0
    n: int = 0
    eot: int = 0
    dtl: int = 0
    check: bool = False
    """EC of VERIFY: DTL counts sectors."""
    filler: int = 0
    """D of FORMAT TRACK."""


@dataclass
class FdcState:
    """All that is volatile."""

    dor: int = 0
    tdr: int = 0
    rate: int = RATE_250K
    phase: Phase = Phase.COMMAND
    buffer: bytearray = field(default_factory=bytearray)
    """Bytes of the command so far, of the results left, or of the sector that moves through the FIFO port."""
    position: int = 0
    """Bytes of ``buffer`` that the host has read in the execution phase."""
    wanted: int = 0
    """Bytes that the command has in all, or that the host has to write in the execution phase."""
    host_turn: bool = False
    """Execution phase without DMA: the host is to move bytes."""
    due: int = NEVER
    """When the execution phase goes on (ns)."""
    reset_due: int = NEVER
    """When the reset is over (ns)."""
    interrupt: bool = False
    """INT for the host's turn to move bytes, or for the results of a data command."""
    sense_interrupt: bool = False
    """INT for the end of a seek or a reset."""
    senses: list[int] = field(default_factory=list)
    """ST0 of events that SENSE INTERRUPT STATUS is to tell, at most one for a drive."""
    drives: list[DriveState] = field(default_factory=lambda: [DriveState() for _ in range(4)])
    transfer: Transfer = field(default_factory=Transfer)
    specify: bytearray = field(default_factory=lambda: bytearray(2))
    """SRT and HUT; HLT and ND."""
    sc_eot: int = 0
    config: int = CONFIGURE_EFIFO
    pretrk: int = 0
    perpendicular: int = 0
    lock: bool = False
