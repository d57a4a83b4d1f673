"""The system board's small registers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from devices.bus import PortBus
from devices.core import SECOND, Clock, Device, Line
from devices.pit import Pit
from devices.ports import DebugConsole, DebugExit, PostPort, SystemPortA, SystemPortB


def bus_with(*devices: Device) -> PortBus:
    bus = PortBus()
    for device in devices:
        bus.attach(device)
    return bus


class Speaker:
    """Port 61h wired to a timer."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pit = Pit(self.clock, Line())
        self.port = SystemPortB(self.clock, self.pit.gate2, lambda: self.pit.output(2))
        self.bus = bus_with(self.pit, self.port)


@pytest.mark.parametrize(("written", "read"), [(0x00, 0x00), (0x01, 0x01), (0x0F, 0x0F), (0xFF, 0x0F), (0xF0, 0x00)])
def test_port_61_keeps_four_bits(written: int, read: int) -> None:
    speaker = Speaker()
    speaker.bus.write(0x61, 1, written)
    assert speaker.bus.read(0x61, 1) == read
    assert speaker.pit.gate2.level == bool(written & 1)


def test_port_61_refresh_toggles_every_15_microseconds() -> None:
    speaker = Speaker()
    changes, last = [], 0
    for speaker.clock.now in range(0, 200_000, 100):
        bit = speaker.bus.read(0x61, 1) & 0x10
        if bit != last:
            changes.append(speaker.clock.now)
            last = bit
    assert [b - a for a, b in pairwise(changes)] == pytest.approx([15_085] * 12, abs=100)
    assert len(changes) == 13


def test_port_61_times_with_counter_2() -> None:
    """The way kernels calibrate: mode 0, open the gate, wait for bit 5."""
    speaker = Speaker()
    speaker.bus.write(0x43, 1, 0xB0)
    speaker.bus.write(0x42, 1, 11932 & 0xFF)
    speaker.bus.write(0x42, 1, 11932 >> 8)
    speaker.clock.now = SECOND
    assert not speaker.bus.read(0x61, 1) & 0x20
    speaker.bus.write(0x61, 1, 0x01)
    speaker.clock.now = SECOND + 9_999_000
    assert not speaker.bus.read(0x61, 1) & 0x20
    speaker.clock.now = SECOND + 10_002_000
    assert speaker.bus.read(0x61, 1) & 0x20


@pytest.mark.parametrize(("bits", "sounds"), [(0, False), (1, False), (2, True), (3, True)])
def test_the_speaker_needs_its_data_bit(bits: int, sounds: bool) -> None:
    speaker = Speaker()
    speaker.bus.write(0x43, 1, 0xB6)
    speaker.bus.write(0x61, 1, bits)
    assert speaker.port.speaker is sounds


@pytest.mark.parametrize(
    ("writes", "a20", "resets", "read"),
    [
        ([], [], 0, 0),
        ([2], [True], 0, 2),
        ([2, 2, 0, 2], [True, False, True], 0, 2),
        ([1], [], 1, 1),
        ([1, 1, 0, 1], [], 2, 1),
        ([0xFC], [], 0, 0),
        ([3], [True], 1, 3),
    ],
)
def test_port_92(writes: list[int], a20: list[bool], resets: int, read: int) -> None:
    levels: list[bool] = []
    edges: list[bool] = []
    port = SystemPortA(Line(levels.append), Line(edges.append))
    bus = bus_with(port)
    for value in writes:
        bus.write(0x92, 1, value)
    assert levels == a20
    assert edges == [True, False] * resets
    assert bus.read(0x92, 1) == read


def test_reset_of_port_92_lowers_a20() -> None:
    levels: list[bool] = []
    port = SystemPortA(Line(levels.append), Line())
    bus_with(port).write(0x92, 1, 2)
    port.reset()
    assert levels == [True, False]


def test_post_codes_are_the_last_64() -> None:
    post = PostPort()
    bus = bus_with(post)
    assert bus.read(0x80, 1) == 0
    for value in range(100):
        bus.write(0x80, 1, value)
    assert post.state.codes == list(range(36, 100))
    assert bus.read(0x80, 1) == 99


@pytest.mark.parametrize("port", [0xE9, 0x402])
def test_debug_console(port: int) -> None:
    heard: list[bytes] = []
    bus = bus_with(DebugConsole(port, heard.append))
    assert bus.read(port, 1) == 0xE9
    for byte in b"SeaBIOS":
        bus.write(port, 1, byte)
    bus.write(port, 4, 0x41424344)  # three of the bytes go to ports that nobody decodes
    assert b"".join(heard) == b"SeaBIOSD"


@pytest.mark.parametrize(
    ("base", "size", "port", "width", "value", "statuses"),
    [
        (0x501, 2, 0x501, 1, 0x10, [0x21]),
        (0x501, 2, 0x501, 2, 0x1234, [0x2469]),
        (0x501, 2, 0x502, 1, 0, [1]),
        (0xF4, 4, 0xF4, 4, 0, [1]),
        (0xF4, 4, 0xF4, 4, 0x10, [0x21]),
        (0xF4, 4, 0xF4, 1, 0x7F, [0xFF]),
        (0xF4, 1, 0xF5, 1, 0, []),
    ],
)
def test_debug_exit(base: int, size: int, port: int, width: int, value: int, statuses: list[int]) -> None:
    seen: list[int] = []
    bus = bus_with(DebugExit(seen.append, base, size))
    bus.write(port, width, value)
    assert seen == statuses
    assert bus.read(base, 1) == 0
