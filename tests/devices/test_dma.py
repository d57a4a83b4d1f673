"""8237A pair: registers, transfers against a byte-at-a-time model, random traffic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devices.core import NEVER
from devices.dma import PAGE_OF_CHANNEL, Dma


class Ram:
    """A megabyte and a bit; outside of it reads give ones."""

    def __init__(self, size: int = 0x11_0000) -> None:
        self.data = bytearray(size)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[address : address + size]).ljust(size, b"\xff")

    def write(self, address: int, data: bytes) -> None:
        end = min(address + len(data), len(self.data))
        if address < end:
            self.data[address:end] = data[: end - address]


class Rig:
    def __init__(self) -> None:
        self.ram = Ram()
        self.chip = Dma(self.ram)
        self.handlers = {
            port: ports for ports in self.chip.ports() for port in range(ports.first, ports.first + ports.count)
        }
        self.out(0xD6, 0xC0)
        self.out(0xD4, 0x00)

    def out(self, port: int, *values: int) -> None:
        write = self.handlers[port].write
        assert write is not None
        for value in values:
            write(port, 1, value)

    def inb(self, port: int) -> int:
        read = self.handlers[port].read
        assert read is not None
        return read(port, 1)

    def program(self, n: int, page: int, address: int, count: int, mode: int) -> None:
        """As drivers do: mask, clear the flip-flop, set up, unmask."""
        base, step = (0x00, 1) if n < 4 else (0xC0, 2)
        self.out(base + 0xA * step, 4 | n & 3)
        self.out(base + 0xC * step, 0)
        self.out(base + 0xB * step, mode | n & 3)
        self.out(base + (n & 3) * 2 * step, address & 0xFF, address >> 8)
        self.out(base + ((n & 3) * 2 + 1) * step, count & 0xFF, count >> 8)
        self.out(0x80 | PAGE_OF_CHANNEL[n], page)
        self.out(base + 0xA * step, n & 3)

    def word(self, port: int) -> int:
        self.out(0x0C if port < 0xC0 else 0xD8, 0)
        return self.inb(port) | self.inb(port) << 8


@pytest.fixture
def rig() -> Rig:
    return Rig()


SINGLE_WRITE, SINGLE_READ, SINGLE_VERIFY = 0x44, 0x48, 0x40
AUTO, DOWN = 0x10, 0x20


@pytest.mark.parametrize(
    ("writes", "port", "expected"),
    [
        ([(0x0C, 0), (0x02, 0x34), (0x02, 0x12)], 0x02, 0x34),
        ([(0x0C, 0), (0x02, 0x34), (0x02, 0x12), (0x03, 0)], 0x02, 0x12),  # the flip-flop is shared
        ([(0xD8, 0), (0xC6, 0x34), (0xC6, 0x12)], 0xC6, 0x34),
        ([(0x81, 0x55)], 0x81, 0x55),
        ([(0x87, 0x55)], 0x87, 0x55),
        ([(0x8F, 0x55)], 0x8F, 0x55),
        ([(0x0D, 0)], 0x0F, 0x0F),
        ([(0x0E, 0)], 0x0F, 0x00),
        ([(0x0F, 5)], 0x0F, 0x05),
        ([(0x0E, 0), (0x0A, 6)], 0x0F, 0x04),
        ([(0x0F, 15), (0x0A, 2)], 0x0F, 0x0B),
        ([], 0x08, 0x00),
        ([], 0x0D, 0x00),
        ([], 0x0A, 0xFF),
    ],
)
def test_register(rig: Rig, writes: list[tuple[int, int]], port: int, expected: int) -> None:
    for write in writes:
        rig.out(*write)
    assert expected == rig.inb(port)


@pytest.mark.parametrize(
    ("n", "page", "address", "mode", "data", "at", "stored"),
    [
        (2, 0x01, 0x2345, SINGLE_WRITE, b"abcd", 0x1_2345, b"abcd"),
        (2, 0x01, 0x2345, SINGLE_WRITE | DOWN, b"abcd", 0x1_2342, b"dcba"),
        (1, 0x00, 0xFFFE, SINGLE_WRITE, b"abcd", 0x0_FFFE, b"ab"),
        (1, 0x00, 0xFFFE, SINGLE_WRITE, b"abcd", 0x0_0000, b"cd"),  # wraps within the page
        (1, 0x00, 0x0001, SINGLE_WRITE | DOWN, b"abcd", 0x0_0000, b"ba"),
        (1, 0x00, 0x0001, SINGLE_WRITE | DOWN, b"abcd", 0x0_FFFE, b"dc"),
        (5, 0x03, 0x8001, SINGLE_WRITE, b"abcd", 0x3_0002, b"abcd"),  # words; page bit 0 does not count
        (5, 0x02, 0x0001, SINGLE_WRITE | DOWN, b"abcd", 0x2_0000, b"cdab"),
        (2, 0x01, 0x2345, SINGLE_VERIFY, b"abcd", 0x1_2345, bytes(4)),
        (2, 0xFF, 0xFFFF, SINGLE_WRITE, b"ab", 0x1_0000, bytes(2)),  # beyond RAM
    ],
)
def test_write_to_memory(
    rig: Rig, n: int, page: int, address: int, mode: int, data: bytes, at: int, stored: bytes
) -> None:
    rig.program(n, page, address, 100, mode)
    assert (len(data), False) == rig.chip.channel(n).write(data)
    assert stored == bytes(rig.ram.data[at : at + len(stored)])


@pytest.mark.parametrize(
    ("n", "mode", "size", "expected"),
    [
        (3, SINGLE_READ, 4, b"0123"),
        (3, SINGLE_READ | DOWN, 4, b"0" + bytes(3)),
        (3, SINGLE_VERIFY, 4, b"\xff" * 4),
        (3, SINGLE_WRITE, 4, b"\xff" * 4),
        (6, SINGLE_READ, 4, b"0123"),
        (6, SINGLE_READ, 5, b"0123"),  # no half words
    ],
)
def test_read_from_memory(rig: Rig, n: int, mode: int, size: int, expected: bytes) -> None:
    rig.ram.data[0x2_0100:0x2_0106] = b"012345"
    rig.program(n, 2, 0x100 if n < 4 else 0x80, 50, mode)
    assert (expected, False) == rig.chip.channel(n).read(size)


@pytest.mark.parametrize(("n", "status", "count_port", "unit"), [(2, 0x08, 0x05, 1), (7, 0xD0, 0xCE, 2)])
def test_terminal_count(rig: Rig, n: int, status: int, count_port: int, unit: int) -> None:
    rig.program(n, 1, 0, 3, SINGLE_WRITE)
    channel = rig.chip.channel(n)
    assert (4 * unit, True, 4 * unit) == (channel.remaining, channel.ready, channel.write(bytes(10))[0])
    assert not channel.ready
    assert channel.write(b"abcd") == (0, False)
    assert rig.word(count_port) == 0xFFFF
    bit = 1 << (n & 3)
    assert (bit, 0) == (rig.inb(status), rig.inb(status))


def test_auto_initialise(rig: Rig) -> None:
    rig.program(2, 1, 0x10, 3, SINGLE_WRITE | AUTO)
    channel = rig.chip.channel(2)
    assert channel.write(b"abcdefgh") == (4, True)
    assert channel.write(b"efgh") == (4, True)
    assert bytes(rig.ram.data[0x1_0010:0x1_0014]) == b"efgh"
    assert (rig.word(0x04), rig.word(0x05), rig.inb(0x08)) == (0x10, 3, 0x04)


@pytest.mark.parametrize(
    ("writes", "first", "second"),
    [
        ([], True, True),
        ([(0x0A, 6)], False, True),
        ([(0x08, 4)], False, True),
        ([(0xD0, 4)], False, False),
        ([(0xD4, 4)], False, True),  # the cascade is masked
        ([(0xD6, 0x00)], True, True),  # channel 4 stays the cascade
        ([(0x0B, 0xC2)], False, True),
        ([(0x0D, 0)], False, True),
        ([(0xDA, 0)], False, False),
    ],
)
def test_ready(rig: Rig, writes: list[tuple[int, int]], first: bool, second: bool) -> None:
    rig.program(2, 0, 0, 9, SINGLE_READ)
    rig.program(6, 0, 0, 9, SINGLE_READ)
    for write in writes:
        rig.out(*write)
    assert (first, second) == (rig.chip.channel(2).ready, rig.chip.channel(6).ready)
    assert (10 if first else 0) == len(rig.chip.channel(2).read(99)[0])


def test_request_shows_in_status(rig: Rig) -> None:
    rig.chip.channel(2).request(True)
    rig.chip.channel(5).request(True)
    assert (rig.inb(0x08), rig.inb(0xD0)) == (0x40, 0x20)
    rig.chip.reset()
    rig.chip.channel(2).request(False)
    assert (rig.inb(0x08), rig.inb(0xD0)) == (0x00, 0x20)


@pytest.mark.parametrize(("mode", "stored"), [(0x84, b"\xff"), (0x44, b"\0"), (0x80, b"\0")])
def test_software_request_needs_block_mode(rig: Rig, mode: int, stored: bytes) -> None:
    rig.program(1, 1, 0, 3, mode)
    rig.out(0x09, 0x05)
    assert stored * 4 + b"\0" == bytes(rig.ram.data[0x1_0000:0x1_0005])


def test_channel_4_is_no_ones() -> None:
    with pytest.raises(ValueError, match="cascade"):
        Dma(Ram()).channel(4)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    n=st.sampled_from((0, 1, 2, 3, 5, 6, 7)),
    page=st.integers(0, 15),
    address=st.integers(0, 0xFFFF),
    count=st.integers(0, 300),
    mode=st.sampled_from(
        [kind | auto | down for kind in (0x44, 0x48, 0x40) for auto in (0, AUTO) for down in (0, DOWN)]
    ),
    chunks=st.lists(st.integers(0, 200), max_size=6),
)
def test_bulk_equals_one_unit_at_a_time(
    n: int, page: int, address: int, count: int, mode: int, chunks: list[int]
) -> None:
    bulk, single = Rig(), Rig()
    wide = n >> 2
    for rig in (bulk, single):
        rig.ram.data[:] = bytes((7 * k + (k >> 8)) & 0xFF for k in range(0x1000)) * 0x110
        rig.program(n, page, address, count, mode)
    to_device = mode & 0x0C == 0x08
    for size in chunks:
        size &= ~wide
        got, expected = b"", b""
        if to_device:
            got, terminal = bulk.chip.channel(n).read(size)
            for _ in range(len(got) >> wide):
                piece, one_terminal = single.chip.channel(n).read(1 << wide)
                expected += piece
        else:
            data = bytes(range(size))
            moved, terminal = bulk.chip.channel(n).write(data)
            for k in range(0, moved, 1 << wide):
                done, one_terminal = single.chip.channel(n).write(data[k : k + (1 << wide)])
                assert done == 1 << wide
        assert expected == got
        if terminal:
            assert one_terminal
        assert bulk.chip.state == single.chip.state
    assert bulk.ram.data == single.ram.data


class Traffic(RuleBasedStateMachine):
    """Any port traffic and any transfers: values stay in range, nothing raises."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()

    @rule(port=st.sampled_from([*range(16), *range(0xC0, 0xE0), *range(0x81, 0x90)]), value=st.integers(0, 255))
    def write(self, port: int, value: int) -> None:
        self.rig.out(port, value)

    @rule(port=st.sampled_from([*range(16), *range(0xC0, 0xE0), *range(0x81, 0x90)]))
    def read(self, port: int) -> None:
        assert 0 <= self.rig.inb(port) <= 255

    @rule(n=st.sampled_from((0, 1, 2, 3, 5, 6, 7)), size=st.integers(0, 600))
    def move(self, n: int, size: int) -> None:
        channel = self.rig.chip.channel(n)
        ready, remaining = channel.ready, channel.remaining
        moved, terminal = channel.write(bytes(size))
        assert moved == (min(size & ~(n >> 2), remaining) if ready else 0)
        assert terminal == (ready and moved == remaining)
        assert len(channel.read(size)[0]) <= size

    @rule(n=st.sampled_from((0, 1, 2, 3, 5, 6, 7)), level=st.booleans())
    def request(self, n: int, level: bool) -> None:
        self.rig.chip.channel(n).request(level)

    @invariant()
    def in_range(self) -> None:
        for controller in self.rig.chip.state.controllers:
            assert 0 <= controller.mask <= 15
            for channel in controller.channels:
                assert 0 <= channel.address <= 0xFFFF
                assert 0 <= channel.count <= 0xFFFF
        assert self.rig.chip.next_event() == NEVER


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=50, stateful_step_count=40, deadline=None, derandomize=True)
