"""What is typed on its way to the guest: nothing is lost, and a terminal's keys become a keyboard's."""

from __future__ import annotations

import pytest

from devices.core import NEVER, Clock, Line
from devices.keys import chords
from devices.uart import Uart
from vmm.input import RETRY_NS, SerialFeeder, keys_of


def feeder(fifo: bool = False) -> tuple[Clock, Uart, SerialFeeder]:
    clock = Clock()
    uart = Uart(clock, Line(), lambda data: None)
    if fifo:
        uart.write(uart.base + 2, 1, 1)
    return clock, uart, SerialFeeder(clock, uart)


def run(clock: Clock, device: SerialFeeder, until: int) -> None:
    """Let guest time pass, event by event."""
    for _ in range(100_000):
        due = device.next_event()
        if due > until:
            break
        clock.now = max(due, clock.now)
        device.advance()
    clock.now = until


def test_nothing_is_due_without_input() -> None:
    _, _, device = feeder()
    assert device.next_event() == NEVER


@pytest.mark.parametrize(("fifo", "room"), [(False, 1), (True, 16)])
def test_what_the_port_has_no_room_for_is_kept(fifo: bool, room: int) -> None:
    clock, uart, device = feeder(fifo)
    text = bytes(range(0x20, 0x60))
    assert device.put(text) == len(text)
    run(clock, device, 100 * RETRY_NS)
    assert len(uart.state.received) == room
    seen = bytearray()
    while len(seen) < len(text):
        while uart.read(uart.base + 5, 1) & 1:
            seen.append(uart.read(uart.base, 1))
        run(clock, device, clock.now + 2 * RETRY_NS)
    assert seen == text
    assert device.next_event() == NEVER


def test_characters_come_no_faster_than_the_line() -> None:
    clock, uart, device = feeder(fifo=True)
    device.put(b"0123456789")
    run(clock, device, 5 * uart.character_ns + uart.character_ns // 2)
    assert bytes(uart.state.received) == b"01234"


def test_more_is_put_behind() -> None:
    clock, uart, device = feeder(fifo=True)
    device.put(b"ab")
    run(clock, device, uart.character_ns)
    device.put(b"cd")
    run(clock, device, 10 * uart.character_ns)
    assert bytes(uart.state.received) == b"abcd"


def test_a_reset_of_the_machine_is_not_one_of_the_terminal() -> None:
    clock, uart, device = feeder(fifo=True)
    device.put(b"ab")
    device.reset()
    run(clock, device, 10 * uart.character_ns)
    assert bytes(uart.state.received) == b"ab"


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"ls -l\r", "ls -l<enter>"),
        (b"a\nb", "a<enter>b"),
        (b"\x7f\b\t\x1b", "<backspace><backspace><tab><esc>"),
        (b"\x03\x01\x1a", "<ctrl-c><ctrl-a><ctrl-z>"),
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", "<up><down><right><left>"),
        (b"\x1bOA\x1bOH\x1bOF", "<up><home><end>"),
        (b"\x1b[2~\x1b[3~\x1b[5~\x1b[6~", "<insert><delete><pgup><pgdn>"),
        (b"\x1bOP\x1b[15~\x1b[24~", "<f1><f5><f12>"),
        (b"\x1bx\x1b.", "<alt-x><esc>."),
        (b"\x1b[Z", "<shift-tab>"),
        (b"\x1b[99~x", "x"),
        (b"<enter>", "<lt>enter>"),
        ("é€x".encode(), "x"),
        (b"\xff\xfeok", "ok"),
        (b"\x00\x1c", ""),
    ],
)
def test_keys_of_a_terminal(typed: bytes, keys: str) -> None:
    assert keys_of(typed) == keys
    assert all(chords(keys))


@pytest.mark.parametrize("code", range(256))
def test_a_keyboard_can_type_whatever_a_terminal_sends(code: int) -> None:
    for typed in (bytes((code,)), bytes((0x1B, code)), bytes((0x1B, 0x5B, code))):
        list(chords(keys_of(typed)))
