"""Packet commands of a CD-ROM drive: what each answers (MMC-5; SPC-3 for the common ones).

A command is a function of the drive's state, the 12-byte packet and the medium.  It returns its data, or sets
``lba`` and ``remaining`` and returns nothing if the data comes from the medium.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from devices.ide.registers import DriveState, Sense

BLOCK = 2048
"""Bytes in a block of a data track."""
CD_BLOCKS = 405_000
"""Blocks (90 minutes) above which a medium counts as a DVD."""
LEAD_OUT = 0xAA
DATA_TRACK = 0x14
"""ADR and CONTROL of a track with data."""
PROFILE_CD, PROFILE_DVD = 0x0008, 0x0010
MEDIA_CLASS = 4

EVENT_NEW_MEDIA, EVENT_MEDIA_REMOVAL = 2, 3

NOT_READY, MEDIUM_ERROR, ILLEGAL_REQUEST, UNIT_ATTENTION = 0x02, 0x03, 0x05, 0x06
"""Sense keys."""
READ_ERROR = (0x11, 0x00)
INVALID_OPERATION, LBA_OUT_OF_RANGE, INVALID_FIELD = (0x20, 0x00), (0x21, 0x00), (0x24, 0x00)
MEDIUM_CHANGED, POWER_ON = (0x28, 0x00), (0x29, 0x00)
SAVING_NOT_SUPPORTED, REMOVAL_PREVENTED = (0x39, 0x00), (0x53, 0x02)
NO_MEDIUM, TRAY_OPEN = (0x3A, 0x01), (0x3A, 0x02)
"""Additional sense codes with their qualifiers."""
REQUEST_SENSE = 0x03


class CheckCondition(Exception):
    """The command fails with this sense data; never leaves the drive."""

    def __init__(self, key: int, asc: int, ascq: int = 0) -> None:
        super().__init__(key, asc, ascq)
        self.key = key
        self.asc = asc
        self.ascq = ascq


@dataclass(frozen=True, slots=True)
class Medium:
    """The disc in the drive, with its size in 2,048-byte blocks."""

    blocks: int
    present: bool

    @property
    def profile(self) -> int:
        """The current profile; 0 if there is no disc."""
        if not self.present:
            return 0
        return PROFILE_CD if self.blocks <= CD_BLOCKS else PROFILE_DVD


def _word(value: int) -> bytes:
    return (value & 0xFFFF).to_bytes(2, "big")


def _long(value: int) -> bytes:
    return (value & 0xFFFF_FFFF).to_bytes(4, "big")


def _field(packet: bytes, first: int, size: int) -> int:
    return int.from_bytes(packet[first : first + size], "big")


def _sized(data: bytes, packet: bytes) -> bytes:
    """*data* behind its length, cut to the allocation length of a ten-byte command."""
    return (_word(len(data)) + data)[: _field(packet, 7, 2)]


def test_unit_ready(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    return b""


def request_sense(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    """The sense data of the last command, once; a unit attention if there is nothing else."""
    sense = state.sense
    if not sense.key and state.attention.key:
        sense, state.attention = state.attention, Sense()
    state.sense = Sense()
    data = bytes((0x70, 0, sense.key, 0, 0, 0, 0, 10, 0, 0, 0, 0, sense.asc, sense.ascq, 0, 0, 0, 0))
    return data[: packet[4]]


def inquiry(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    if packet[1] & 1:
        raise CheckCondition(ILLEGAL_REQUEST, *INVALID_FIELD)  # no vital product data
    head = bytes((0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0))
    return (head + b"BTVMM   " + b"CD-ROM          " + b"1.0 ")[: packet[4]]


def start_stop(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    """START STOP UNIT: with LoEj, Start says whether the tray goes in or out."""
    if not packet[4] & 2:
        return b""
    opens = not packet[4] & 1
    if opens and state.locked:
        raise CheckCondition(ILLEGAL_REQUEST, *REMOVAL_PREVENTED)
    if opens != state.tray_open:
        state.tray_open = opens
        state.media_event = EVENT_MEDIA_REMOVAL if opens else EVENT_NEW_MEDIA
        if not opens:
            state.attention = Sense(UNIT_ATTENTION, *MEDIUM_CHANGED)
    return b""


def prevent_allow(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    state.locked = bool(packet[4] & 1)
    return b""


def read_capacity(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    return _long(medium.blocks - 1) + _long(BLOCK)


def _read(state: DriveState, lba: int, count: int, medium: Medium) -> bytes:
    if lba + count > medium.blocks:
        raise CheckCondition(ILLEGAL_REQUEST, *LBA_OUT_OF_RANGE)
    state.lba = lba
    state.remaining = count * BLOCK
    return b""


def read_10(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    return _read(state, _field(packet, 2, 4), _field(packet, 7, 2), medium)


def read_12(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    return _read(state, _field(packet, 2, 4), _field(packet, 6, 4), medium)


def read_cd(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    """READ CD of user data; headers and error correction are not in an image of 2,048-byte blocks."""
    parts = packet[9] & 0xF8
    if parts not in (0x00, 0x10) or packet[10] & 7:
        raise CheckCondition(ILLEGAL_REQUEST, *INVALID_FIELD)
    return _read(state, _field(packet, 2, 4), _field(packet, 6, 3) if parts else 0, medium)


def seek(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    if _field(packet, 2, 4) >= medium.blocks:
        raise CheckCondition(ILLEGAL_REQUEST, *LBA_OUT_OF_RANGE)
    return b""


def _address(lba: int, msf: bool) -> bytes:
    if not msf:
        return _long(lba)
    minutes, rest = divmod(lba + 150, 60 * 75)
    return bytes((0, min(minutes, 255), *divmod(rest, 75)))


def read_toc(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    """One session of one data track."""
    msf = bool(packet[1] & 2)
    form = packet[2] & 0x0F or packet[9] >> 6
    first = packet[6]
    end = _address(medium.blocks, msf)
    if form == 0 and (first <= 1 or first == LEAD_OUT):
        track = b"" if first == LEAD_OUT else bytes((0, DATA_TRACK, 1, 0)) + _address(0, msf)
        body = bytes((1, 1)) + track + bytes((0, DATA_TRACK, LEAD_OUT, 0)) + end
    elif form == 1:
        body = bytes((1, 1, 0, DATA_TRACK, 1, 0)) + _address(0, msf)
    elif form == 2:
        end = _address(medium.blocks, msf=True)
        rows = (
            bytes((0xA0, 0, 0, 0, 0, 1, 0, 0)),
            bytes((0xA1, 0, 0, 0, 0, 1, 0, 0)),
            bytes((0xA2, 0, 0, 0)) + end,
            bytes((0x01, 0, 0, 0)) + _address(0, msf=True),
        )
        body = bytes((1, 1)) + b"".join(bytes((1, DATA_TRACK, 0)) + row for row in rows)
    else:
        raise CheckCondition(ILLEGAL_REQUEST, *INVALID_FIELD)
    return _sized(body, packet)


def mode_sense(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    """MODE SENSE (10): error recovery and capabilities."""
    pages = {
        0x01: bytes((0x01, 6, 0, 5, 0, 0, 0, 0)),
        # The tray's lock and state; 4x speed (706 KB/s), 512 KiB of buffer.
        0x2A: bytes((0x2A, 18, 0x08, 0, 0, 0x20, 0x29 | (2 if state.locked else 0), 0))
        + _word(706)
        + _word(2)
        + _word(512)
        + _word(706)
        + bytes(4),
    }
    if packet[2] >> 6 == 3:
        raise CheckCondition(ILLEGAL_REQUEST, *SAVING_NOT_SUPPORTED)
    page = packet[2] & 0x3F
    if page != 0x3F and page not in pages:
        raise CheckCondition(ILLEGAL_REQUEST, *INVALID_FIELD)
    medium_type = 0x01 if medium.present else 0x71 if state.tray_open else 0x70
    data = b"".join(pages.values()) if page == 0x3F else pages[page]
    return _sized(bytes((medium_type, 0, 0, 0, 0, 0)) + data, packet)


def get_configuration(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    present = int(medium.present)
    profile = medium.profile
    features = {
        0x0000: (3, b"".join(_word(p) + bytes((p == profile, 0)) for p in (PROFILE_DVD, PROFILE_CD))),
        0x0001: (3, _long(2)),  # core: ATAPI
        0x0003: (3, bytes((0x29, 0, 0, 0))),  # removable medium: tray, eject, lock
        0x0010: (present, _long(BLOCK) + _word(1) + bytes(2)),  # random readable
        0x001E: (int(profile == PROFILE_CD), bytes(4)),  # CD read
        0x001F: (int(profile == PROFILE_DVD), bytes(4)),  # DVD read
    }
    kind, start = packet[1] & 3, _field(packet, 2, 2)
    chosen = {
        0: [n for n in features if n >= start],
        1: [n for n in features if n >= start and features[n][0] & 1],
        2: [n for n in features if n == start],
    }.get(kind)
    if chosen is None:
        raise CheckCondition(ILLEGAL_REQUEST, *INVALID_FIELD)
    body = b"".join(_word(n) + bytes((features[n][0], len(features[n][1]))) + features[n][1] for n in chosen)
    data = bytes((0, 0)) + _word(profile) + body
    return (_long(len(data)) + data)[: _field(packet, 7, 2)]


def get_event_status(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    """GET EVENT STATUS NOTIFICATION, polled; the only class is media."""
    if not packet[1] & 1:
        raise CheckCondition(ILLEGAL_REQUEST, *INVALID_FIELD)
    if not packet[4] & 1 << MEDIA_CLASS:
        return _sized(bytes((0x80, 1 << MEDIA_CLASS)), packet)
    event, state.media_event = state.media_event, 0
    status = state.tray_open | medium.present << 1
    return _sized(bytes((MEDIA_CLASS, 1 << MEDIA_CLASS, event, status, 0, 0)), packet)


def read_disc_information(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    """A finished disc of one session."""
    return _sized(bytes((0x0E, 1, 1, 1, 1, 0x20)) + bytes(26), packet)


def mechanism_status(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    return bytes((0, 0x10 if state.tray_open else 0, 0, 0, 0, 1, 0, 0))[: _field(packet, 8, 2)]


def set_speed(state: DriveState, packet: bytes, medium: Medium) -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class PacketCommand:
    """A row of the table: what runs, whether it needs a disc, and whether it runs before a unit attention is told."""

    run: Callable[[DriveState, bytes, Medium], bytes]
    needs_medium: bool = False
    ignores_attention: bool = False


PACKET_COMMANDS = {
    0x00: PacketCommand(test_unit_ready, needs_medium=True),
    REQUEST_SENSE: PacketCommand(request_sense, ignores_attention=True),
    0x12: PacketCommand(inquiry, ignores_attention=True),
    0x1B: PacketCommand(start_stop),
    0x1E: PacketCommand(prevent_allow),
    0x25: PacketCommand(read_capacity, needs_medium=True),
    0x28: PacketCommand(read_10, needs_medium=True),
    0x2B: PacketCommand(seek, needs_medium=True),
    0x43: PacketCommand(read_toc, needs_medium=True),
    0x46: PacketCommand(get_configuration, ignores_attention=True),
    0x4A: PacketCommand(get_event_status, ignores_attention=True),
    0x51: PacketCommand(read_disc_information, needs_medium=True),
    0x5A: PacketCommand(mode_sense),
    0xA8: PacketCommand(read_12, needs_medium=True),
    0xBB: PacketCommand(set_speed),
    0xBD: PacketCommand(mechanism_status),
    0xBE: PacketCommand(read_cd, needs_medium=True),
}
"""Packet commands by operation code; the others are ILLEGAL REQUEST."""
