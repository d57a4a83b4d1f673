"""The CD-ROM drive: packets by row, sense, media, the registers of a packet command."""

from __future__ import annotations

import pytest

from tests.devices.ide.rig import (
    ERROR,
    FEATURES,
    STATUS,
    CdRig,
    Image,
    Rig,
)


@pytest.mark.parametrize(
    ("packet", "size", "start"),
    [
        ((0x12, 0, 0, 0, 36), 36, b"\x05\x80\x00\x21\x1f"),
        ((0x12, 0, 0, 0, 5), 5, b"\x05\x80\x00\x21\x1f"),
        ((0x00,), 0, b""),
        ((0x25,), 8, b"\0\0\0\x0f\0\0\x08\0"),
        ((0x43, 0, 0, 0, 0, 0, 0, 0, 12), 12, b"\0\x12\1\1\0\x14\1\0\0\0\0\0"),
        ((0x43, 0, 0, 0, 0, 0, 0, 0, 99), 20, b"\0\x12\1\1\0\x14\1\0\0\0\0\0\0\x14\xaa\0\0\0\0\x10"),
        ((0x43, 2, 0, 0, 0, 0, 0xAA, 0, 99), 12, b"\0\x0a\1\1\0\x14\xaa\0\0\0\2\x10"),
        ((0x43, 0, 1, 0, 0, 0, 0, 0, 99), 12, b"\0\x0a\1\1\0\x14\1\0\0\0\0\0"),
        ((0x43, 0, 2, 0, 0, 0, 0, 0, 99), 48, b"\0\x2e\1\1\1\x14\0\xa0"),
        ((0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 99), 28, b"\0\x1a\1\0\0\0\0\0\x2a\x12"),
        ((0x5A, 0, 0x3F, 0, 0, 0, 0, 0, 99), 36, b"\0\x22\1\0\0\0\0\0\1\6"),
        ((0x46, 0, 0, 0, 0, 0, 0, 0, 8), 8, b"\0\0\0\x3c\0\0\0\x08"),
        ((0x46, 2, 0, 3, 0, 0, 0, 0, 99), 16, b"\0\0\0\x0c\0\0\0\x08\0\3\3\4"),
        ((0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8), 8, b"\0\6\4\x10\0\2\0\0"),
        ((0x4A, 1, 0, 0, 0x02, 0, 0, 0, 8), 4, b"\0\2\x80\x10"),
        ((0x28, 0, 0, 0, 0, 3, 0, 0, 1), 2048, b"\x0c\0\0\0"),
        ((0x28, 0, 0, 0, 0, 3, 0, 0, 0), 0, b""),
        ((0xA8, 0, 0, 0, 0, 0, 0, 0, 0, 16), 32768, b"\0\0\0\0"),
        ((0xBE, 0, 0, 0, 0, 1, 0, 0, 2, 0x10), 4096, b"\4\0\0\0"),
        ((0x51, 0, 0, 0, 0, 0, 0, 0, 99), 34, b"\0\x20\x0e"),
        ((0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8), 8, b"\0\0"),
        ((0x1B, 0, 0, 0, 1), 0, b""),
        ((0xBB,), 0, b""),
        ((0x2B, 0, 0, 0, 0, 15), 0, b""),
    ],
)
def test_packet(cd: CdRig, packet: tuple[int, ...], size: int, start: bytes) -> None:
    data = cd.packet(*packet)
    assert (size, start) == (len(data), data[: len(start)])
    assert (cd.inb(STATUS), cd.inb(ERROR)) == (0x50, 0)


@pytest.mark.parametrize(
    ("packet", "sense"),
    [
        ((0xEE,), (5, 0x20, 0)),
        ((0x12, 1, 0, 0, 36), (5, 0x24, 0)),
        ((0x28, 0, 0, 0, 0, 16, 0, 0, 1), (5, 0x21, 0)),
        ((0x28, 0, 0, 0, 0, 15, 0, 0, 2), (5, 0x21, 0)),
        ((0xA8, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF), (5, 0x21, 0)),
        ((0xBE, 0, 0, 0, 0, 1, 0, 0, 2, 0xF8), (5, 0x24, 0)),
        ((0x43, 0, 5), (5, 0x24, 0)),
        ((0x43, 0, 0, 0, 0, 0, 2), (5, 0x24, 0)),
        ((0x4A, 0), (5, 0x24, 0)),
        ((0x46, 3), (5, 0x24, 0)),
        ((0x5A, 0, 0x05), (5, 0x24, 0)),
        ((0x5A, 0, 0xEA), (5, 0x39, 0)),
        ((0x2B, 0, 0, 0, 0, 16), (5, 0x21, 0)),
    ],
)
def test_check_condition(cd: CdRig, packet: tuple[int, ...], sense: tuple[int, int, int]) -> None:
    assert cd.packet(*packet) == b""
    assert (cd.inb(STATUS), cd.inb(ERROR)) == (0x51, sense[0] << 4 | 4)
    assert sense == cd.sense()
    assert cd.sense() == (0, 0, 0)


@pytest.mark.parametrize(
    ("limit", "blocks"),
    [
        (2048, [2048] * 3),
        (0xFFFE, [6144]),
        (0xFFFF, [6144]),
        (4000, [4000, 2144]),
        (3001, [3000, 3000, 144]),
        (1, [2] * 3072),
    ],
)
def test_byte_count_limit(cd: CdRig, limit: int, blocks: list[int]) -> None:
    data = cd.packet(0x28, 0, 0, 0, 0, 2, 0, 0, 3, limit=limit)
    assert blocks == cd.blocks
    assert data == b"".join(n.to_bytes(4, "little") * 128 for n in range(8, 20))


def test_no_byte_count_limit(cd: CdRig) -> None:
    assert cd.packet(0x28, 0, 0, 0, 0, 2, 0, 0, 1, limit=0, reason=1) == b""
    assert (cd.inb(STATUS), cd.inb(ERROR)) == (0x51, 4)
    assert cd.packet(0x00, limit=0) == b""
    assert cd.inb(STATUS) == 0x50


def test_odd_reply(cd: CdRig) -> None:
    assert (cd.packet(0x12, 0, 0, 0, 7), cd.blocks) == (b"\x05\x80\x00\x21\x1f\0\0", [7])


def test_power_on_attention_is_told_once() -> None:
    rig = CdRig(Image(64), told=False)
    assert len(rig.packet(0x12, 0, 0, 0, 36)) == 36
    rig.packet(0x00)
    assert rig.inb(ERROR) == 0x64
    assert rig.sense() == (6, 0x29, 0)
    rig.packet(0x00)
    assert rig.inb(STATUS) == 0x50


@pytest.mark.parametrize("packet", [(0x00,), (0x25,), (0x28,), (0x43,), (0x51,)])
def test_no_medium(packet: tuple[int, ...]) -> None:
    rig = CdRig(None)
    rig.packet(*packet)
    assert rig.sense() == (2, 0x3A, 1)


def test_medium_change(cd: CdRig) -> None:
    cd.chip.change_medium(0, None)
    cd.packet(0x00)
    assert cd.sense() == (6, 0x28, 0)
    cd.packet(0x00)
    assert cd.sense() == (2, 0x3A, 1)
    cd.chip.change_medium(0, Image(8))
    assert cd.packet(0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)[4:6] == bytes((2, 2))
    assert cd.packet(0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8)[4:6] == bytes((0, 2))
    assert cd.sense() == (6, 0x28, 0)
    assert cd.packet(0x25)[:4] == b"\0\0\0\1"


def test_tray_and_lock(cd: CdRig) -> None:
    cd.packet(0x1E, 0, 0, 0, 1)
    cd.packet(0x1B, 0, 0, 0, 2)
    assert cd.sense() == (5, 0x53, 2)
    cd.packet(0x1E, 0, 0, 0, 0)
    cd.packet(0x1B, 0, 0, 0, 2)
    cd.packet(0x00)
    assert cd.sense() == (2, 0x3A, 2)
    cd.packet(0x1B, 0, 0, 0, 3)
    assert cd.sense() == (6, 0x28, 0)
    cd.packet(0x00)
    assert cd.inb(STATUS) == 0x50


def test_a_disk_has_no_removable_medium(rig: Rig) -> None:
    with pytest.raises(ValueError, match="no removable medium"):
        rig.chip.change_medium(0, None)


def test_medium_error() -> None:
    rig = CdRig(Image(64, bad=9))
    assert len(rig.packet(0x28, 0, 0, 0, 0, 1, 0, 0, 3, limit=2048)) == 2048
    assert rig.inb(ERROR) == 0x34
    assert rig.sense() == (3, 0x11, 0)


@pytest.mark.parametrize("command", [0xEC, 0x20])
def test_disk_commands_show_the_signature(cd: CdRig, command: int) -> None:
    assert cd.command(command, 0x12_3456, 7) == 0x51
    assert (cd.inb(ERROR), cd.address()) == (4, (1, 1, 0x14, 0xEB))


@pytest.mark.parametrize(
    ("command", "features", "count", "status"),
    [
        (0xEF, 3, 0x0C, 0x50),
        (0xEF, 3, 0x45, 0x51),
        (0xE1, 0, 0, 0x50),
        (0xE5, 0, 0, 0x50),
        (0x00, 0, 0, 0x51),
        (0xA0, 1, 0, 0x51),
        (0xA0, 2, 0, 0x51),
        (0x08, 0, 0, 0x00),
    ],
)
def test_other_commands(cd: CdRig, command: int, features: int, count: int, status: int) -> None:
    cd.out((FEATURES, features))
    assert status == cd.command(command, 0, count, 0)
    assert cd.level() == (command != 0x08)


def test_identify_packet(cd: CdRig) -> None:
    cd.command(0xA1)
    assert cd.level()
    cd.inb(STATUS)
    words = cd.words(256)
    assert (words[0], words[49], words[82]) == (0x85C0, 0x0A00, 0x4210)
    assert (cd.inb(STATUS), cd.level()) == (0x50, False)


def test_dvd_profile() -> None:
    rig = CdRig(Image(405_001 * 4))
    assert rig.packet(0x46, 0, 0, 0, 0, 0, 0, 0, 8)[6:] == b"\0\x10"
