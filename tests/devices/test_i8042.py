"""The 8042 as its guests see it, with the keyboard and the mouse behind it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from devices.bus import PortBus
from devices.core import NEVER, Clock, Line
from devices.i8042 import I8042
from devices.keyboard import KEY_INTERVAL, QUEUE_SIZE
from devices.keys import CHARACTERS, KEYS, SET2_TO_SET1, chords, press_codes, release_codes, to_set1
from devices.mouse import LEFT, MIDDLE, RIGHT

OBF, SYS, A2, UNLOCKED, AUX = 0x01, 0x04, 0x08, 0x10, 0x20
MS = 1_000_000


class Bench:
    def __init__(self) -> None:
        self.clock = Clock()
        self.edges: list[str] = []
        self.irq1, self.irq12, self.a20, self.cpu_reset = (
            Line(lambda level, name=name: self.edges.append(name if level else name.lower()))
            for name in ("KBD", "AUX", "A20", "RESET")
        )
        self.chip = I8042(self.clock, self.irq1, self.irq12, self.a20, self.cpu_reset)
        self.chip.reset()
        self.edges.clear()
        self.bus = PortBus()
        self.bus.attach(self.chip)

    def command(self, *values: int) -> None:
        """A controller command, and its bytes at port 60h."""
        self.bus.write(0x64, 1, values[0])
        self.data(*values[1:])

    def data(self, *values: int) -> None:
        for value in values:
            self.bus.write(0x60, 1, value)

    def mouse(self, *values: int) -> list[int]:
        """Commands to the mouse; returns all it says."""
        said = []
        for value in values:
            self.command(0xD4, value)
            said += self.drain()
        return said

    @property
    def status(self) -> int:
        return self.bus.read(0x64, 1)

    def drain(self) -> list[int]:
        """Read until the output buffer is empty."""
        seen = []
        while self.status & OBF:
            seen.append(self.bus.read(0x60, 1))
            assert len(seen) < 100
        return seen

    def run_to(self, end: int) -> None:
        while (due := self.chip.next_event()) <= end:
            self.clock.now = max(due, self.clock.now)
            self.chip.advance()
        self.clock.now = end


# The controller ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ([0x20], [0x03]),
        ([0x60, 0x47, 0x20][:2], []),
        ([0xA4], [0xF1]),
        ([0xA9], [0x00]),
        ([0xAA], [0x55]),
        ([0xAB], [0x00]),
        ([0xC0], [0x80]),
        ([0xD0], [0xCF]),
        ([0xD2, 0x5A], [0x5A]),
        ([0xD3, 0xA5], [0xA5]),
        ([0xE0], [0x01]),
        ([0x3F], [0x00]),
        ([0xF1], []),
        ([0xFF], []),
        ([0x00], []),
        ([0xB5], []),
    ],
)
def test_controller_command(command: list[int], reply: list[int]) -> None:
    bench = Bench()
    bench.command(*command)
    assert bench.drain() == reply
    assert not {"RESET", "A20", "a20"} & set(bench.edges)


@pytest.mark.parametrize(
    ("commands", "byte"),
    [
        ([(0x60, 0x47)], 0x47),
        ([(0x60, 0x00), (0xA7,)], 0x20),
        ([(0x60, 0xFF), (0xA8,)], 0xDF),
        ([(0x60, 0x00), (0xAD,)], 0x10),
        ([(0x60, 0xFF), (0xAE,)], 0xEF),
        ([(0x60, 0x00), (0xAA,)], 0x04),
        ([(0x60, 0x30), (0xD4, 0xF6)], 0x10),  # writing to a device opens its interface
    ],
)
def test_command_byte(commands: list[tuple[int, ...]], byte: int) -> None:
    bench = Bench()
    for command in commands:
        bench.command(*command)
    bench.drain()
    bench.command(0x20)
    assert bench.drain()[-1] == byte


def test_all_of_the_ram_reads_back() -> None:
    bench = Bench()
    for n in range(1, 32):
        bench.command(0x60 + n, 0xA0 ^ n)
    for n in range(1, 32):
        bench.command(0x20 + n)
        assert bench.drain() == [0xA0 ^ n]


@pytest.mark.parametrize(
    ("do", "status"),
    [
        ((), UNLOCKED),
        ((0x64, 0xAA), UNLOCKED | SYS | A2 | OBF),
        ((0x64, 0xD3, 0x60, 1), UNLOCKED | OBF | AUX),
        ((0x64, 0xD2, 0x60, 1), UNLOCKED | OBF),
        ((0x64, 0xA7), UNLOCKED | A2),
    ],
)
def test_status(do: tuple[int, ...], status: int) -> None:
    bench = Bench()
    for port, value in zip(do[::2], do[1::2], strict=True):
        bench.bus.write(port, 1, value)
    assert bench.status == status


@pytest.mark.parametrize(
    ("command", "edges"),
    [
        ((0xFE,), ["RESET", "reset"]),
        ((0xF0,), ["RESET", "reset"]),
        ((0xD1, 0xCF), []),
        ((0xD1, 0xCD), ["a20"]),
        ((0xD1, 0xCE), ["RESET", "reset"]),
        ((0xDD,), ["a20"]),
        ((0xDF,), []),
    ],
)
def test_output_port(command: tuple[int, ...], edges: list[str]) -> None:
    bench = Bench()
    bench.command(*command)
    assert bench.edges == edges


def test_a20_by_the_output_port_reads_back() -> None:
    bench = Bench()
    bench.command(0xDD)
    bench.command(0xD0)
    assert bench.drain() == [0xCD]
    bench.command(0xD1, 0xDF)
    assert bench.a20.level
    bench.chip.keyboard.press("a")
    bench.command(0xD0)
    assert bench.drain() == [0x1C, 0xDF]  # bit 4: the key's byte stood in the buffer


def test_interrupts_follow_the_output_buffer() -> None:
    bench = Bench()
    bench.chip.keyboard.press("a")
    assert bench.edges == ["KBD"]
    bench.chip.keyboard.press("b")
    bench.bus.read(0x60, 1)
    assert bench.edges == ["KBD", "kbd", "KBD"]
    bench.bus.read(0x60, 1)
    assert bench.edges == ["KBD", "kbd", "KBD", "kbd"]
    bench.edges.clear()
    bench.command(0xD3, 0x12)
    bench.drain()
    assert bench.edges == ["AUX", "aux"]


@pytest.mark.parametrize("enabled", [0, 1, 2, 3])
def test_interrupts_can_be_off(enabled: int) -> None:
    bench = Bench()
    bench.command(0x60, enabled)
    bench.command(0xD2, 0)
    bench.drain()
    bench.command(0xD3, 0)
    bench.drain()
    assert ("KBD" in bench.edges, "AUX" in bench.edges) == (bool(enabled & 1), bool(enabled & 2))


def test_a_disabled_keyboard_keeps_its_bytes() -> None:
    bench = Bench()
    bench.command(0xAD)
    bench.chip.keyboard.press("a")
    assert bench.drain() == []
    bench.command(0xAE)
    assert bench.drain() == [0x1C]


def test_controller_replies_are_bounded() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.command(0xAA)
    assert len(bench.drain()) == 17


def test_reading_an_empty_buffer_gives_the_last_byte() -> None:
    bench = Bench()
    bench.command(0xAA)
    bench.drain()
    assert bench.bus.read(0x60, 1) == 0x55


# The keyboard ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("bytes_", "replies"),
    [
        ([0xED, 0x07], [0xFA, 0xFA]),
        ([0xEE], [0xEE]),
        ([0xF0, 0x00], [0xFA, 0xFA, 0x02]),
        ([0xF0, 0x01, 0xF0, 0x00], [0xFA, 0xFA, 0xFA, 0xFA, 0x01]),
        ([0xF0, 0x03], [0xFA, 0xFE]),
        ([0xF2], [0xFA, 0xAB, 0x83]),
        ([0xF3, 0x20], [0xFA, 0xFA]),
        ([0xF4], [0xFA]),
        ([0xF5], [0xFA]),
        ([0xF6], [0xFA]),
        ([0xF9], [0xFA]),
        ([0xFC, 0x1C, 0x1B, 0xF4], [0xFA, 0xFA, 0xFA, 0xFA]),
        ([0xFF], [0xFA, 0xAA]),
        ([0x12], [0xFE]),
        ([0xEE, 0xFE], [0xEE, 0xEE]),
        ([0xED, 0xEE], [0xFA, 0xEE]),  # a command in place of an argument
    ],
)
def test_keyboard_command(bytes_: list[int], replies: list[int]) -> None:
    bench = Bench()
    said = []
    for value in bytes_:
        bench.data(value)
        said += bench.drain()
    assert said == replies


def test_translated_id_is_what_pc_software_expects() -> None:
    bench = Bench()
    bench.command(0x60, 0x43)
    bench.data(0xF2)
    assert bench.drain() == [0xFA, 0xAB, 0x41]


@pytest.mark.parametrize(
    ("key", "set2", "set1"),
    [
        ("a", "1c f01c", "1e 9e"),
        ("f7", "83 f083", "41 c1"),
        ("f12", "07 f007", "58 d8"),
        ("enter", "5a f05a", "1c 9c"),
        ("up", "e075 e0f075", "e048 e0c8"),
        ("rctrl", "e014 e0f014", "e01d e09d"),
        ("print", "e012e07c e0f07ce0f012", "e02ae037 e0b7e0aa"),
        ("pause", "e11477e1f014f077", "e11d45e19dc5"),
        ("less", "61 f061", "56 d6"),
    ],
)
def test_scan_codes(key: str, set2: str, set1: str) -> None:
    for mode, codes in (("2", set2), ("1 by the keyboard", set1), ("1 by the controller", set1)):
        bench = Bench()
        if mode == "1 by the keyboard":
            bench.data(0xF0)
            bench.drain()
            bench.data(0x01)
            bench.drain()
        elif mode == "1 by the controller":
            bench.command(0x60, 0x43)
        bench.chip.keyboard.press(key)
        bench.chip.keyboard.release(key)
        assert bytes(bench.drain()).hex() == codes.replace(" ", ""), mode


def test_the_translation_is_one_to_one() -> None:
    assert len(set(SET2_TO_SET1[:0x80])) == 0x80
    assert SET2_TO_SET1[0x85:] == bytes(range(0x85, 0x100))
    assert len(SET2_TO_SET1) == 256


def test_no_two_keys_are_alike() -> None:
    assert len({press_codes(key) for key in KEYS}) == len(KEYS)
    assert len({bytes(to_set1(press_codes(key))) for key in KEYS}) == len(KEYS)
    assert all(release_codes(key) for key in KEYS if key != "pause")


# Set 1 numbers the keys of the old PC/XT keyboard row by row, from Escape on.
XT_ROWS = "\x1b1234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./"


@pytest.mark.parametrize(("code", "character"), [(n, c) for n, c in enumerate(XT_ROWS, 1) if c != "\0"])
def test_rows_of_the_xt_keyboard(code: int, character: str) -> None:
    (key,) = CHARACTERS[character]
    assert list(to_set1(press_codes(key))) == [code]


def test_a_keyboard_that_nobody_reads_is_bounded() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.chip.keyboard.press("a")
    codes = bench.drain()
    assert codes == [0x1C] * QUEUE_SIZE + [0x00]


def test_a_keyboard_that_does_not_scan_is_silent() -> None:
    bench = Bench()
    bench.data(0xF5)
    bench.drain()
    bench.chip.keyboard.press("a")
    assert bench.drain() == []
    bench.data(0xF4)
    bench.drain()
    bench.chip.keyboard.press("a")
    assert bench.drain() == [0x1C]


def test_keyboard_remembers_what_it_is_told() -> None:
    bench = Bench()
    bench.data(0xED, 0x05, 0xF3, 0x7F)
    assert (bench.chip.keyboard.state.leds, bench.chip.keyboard.state.typematic) == (5, 0x7F)
    bench.data(0xFF)
    assert (bench.chip.keyboard.state.leds, bench.chip.keyboard.state.typematic) == (0, 0x2B)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a", [("a",)]),
        ("A!", [("shift", "a"), ("shift", "1")]),
        ("ls -l\n", [("l",), ("s",), ("space",), ("-",), ("l",), ("enter",)]),
        ("root<enter>", [("r",), ("o",), ("o",), ("t",), ("enter",)]),
        ("<Ctrl-Alt-Del>", [("ctrl", "alt", "delete")]),
        ("<ctrl-c><f10>", [("ctrl", "c"), ("f10",)]),
        ("a < b", [("a",), ("space",), ("shift", ","), ("space",), ("b",)]),
        ("<lt>x>", [("shift", ","), ("x",), ("shift", ".")]),
        ("<<", [("shift", ","), ("shift", ",")]),
        ("", []),
    ],
)
def test_chords(text: str, keys: list[tuple[str, ...]]) -> None:
    assert list(chords(text)) == keys


@pytest.mark.parametrize("text", ["é", "ok<nokey>", "<ctrl-nokey>", "\x00"])
def test_what_cannot_be_typed(text: str) -> None:
    bench = Bench()
    with pytest.raises(ValueError, match=r"US keyboard|no key"):
        bench.chip.keyboard.type(text)
    assert bench.chip.next_event() == NEVER


def test_every_printable_character_can_be_typed() -> None:
    assert all(len(list(chords(chr(code)))) == 1 for code in range(0x20, 0x7F))


def test_typing_takes_guest_time_and_waits_for_the_guest() -> None:
    bench = Bench()
    bench.chip.keyboard.type("hI")
    assert bench.chip.next_event() == KEY_INTERVAL
    bench.run_to(1000 * MS)
    # One code in the output buffer, one in the keyboard, and no more before they are read.
    assert bench.chip.next_event() == NEVER
    times, seen = [], []
    for _ in range(400):
        while bench.status & OBF:
            times.append(bench.clock.now)
            seen.append(bench.bus.read(0x60, 1))
        bench.run_to(bench.clock.now + MS)
    assert bytes(seen).hex() == "33f033" + "12" + "43f043" + "f012"
    # After the first three events, which were late, the codes come at the typist's pace.
    assert [b - a for a, b in pairwise(times) if b != a] == [KEY_INTERVAL] * 3


def test_typing_waits_for_scanning_and_survives_a_reset_of_the_keyboard() -> None:
    bench = Bench()
    bench.data(0xF5)
    bench.drain()
    bench.chip.keyboard.type("a")
    bench.run_to(100 * MS)
    assert bench.drain() == []
    bench.data(0xFF)
    assert bench.drain() == [0xFA, 0xAA]
    seen = []
    for _ in range(100):
        bench.run_to(bench.clock.now + MS)
        seen += bench.drain()
    assert seen == [0x1C, 0xF0, 0x1C]


# The mouse ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("bytes_", "replies"),
    [
        ([0xFF], [0xFA, 0xAA, 0x00]),
        ([0xF2], [0xFA, 0x00]),
        ([0xF3, 40], [0xFA, 0xFA]),
        ([0xE8, 3], [0xFA, 0xFA]),
        ([0xE9], [0xFA, 0x00, 0x02, 100]),
        ([0xF4, 0xE7, 0xE8, 3, 0xF3, 40, 0xE9], [0xFA] * 7 + [0x30, 3, 40]),
        ([0xF0, 0xE9], [0xFA, 0xFA, 0x40, 2, 100]),
        ([0xEB], [0xFA, 0x08, 0, 0]),
        ([0xEE, 0x12, 0xF4, 0xEC], [0xFA, 0x12, 0xF4, 0xFA]),
        ([0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2], [0xFA] * 7 + [3]),
        ([0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF2], [0xFA] * 13 + [4]),
        ([0xF3, 200, 0xF3, 100, 0xF3, 80, 0xFF, 0xF2], [0xFA] * 7 + [0xAA, 0, 0xFA, 0]),
        ([0xF2, 0xFE], [0xFA, 0x00, 0xFA, 0x00]),
        ([0xE1], [0xFE]),
    ],
)
def test_mouse_command(bytes_: list[int], replies: list[int]) -> None:
    assert Bench().mouse(*bytes_) == replies


WHEEL = [0xF3, 200, 0xF3, 100, 0xF3, 80]
FIVE = [0xF3, 200, 0xF3, 200, 0xF3, 80]


@pytest.mark.parametrize(
    ("commands", "move", "buttons", "packets"),
    [
        ([0xF4], (1, 2, 0), 0, "080102"),
        ([0xF4], (-1, -2, 0), 0, "38fffe"),
        ([0xF4], (0, 0, 0), LEFT | MIDDLE, "0d0000"),
        ([0xF4], (300, 0, 0), 0, "08ff00" + "082d00"),
        ([0xF4], (0, -300, 0), RIGHT, "2a0000" + "2a00d4"),
        ([0xF4], (0, 0, 5), 0, "080000"),
        ([*WHEEL, 0xF4], (0, 0, -1), 0, "080000ff"),
        ([*FIVE, 0xF4], (0, 0, 1), 0x18, "08000031"),
        ([], (1, 1, 0), LEFT, ""),
        ([0xF4, 0xF5], (1, 1, 0), LEFT, ""),
        ([0xF4, 0xF0], (1, 1, 0), LEFT, ""),
    ],
)
def test_mouse_packets(commands: list[int], move: tuple[int, int, int], buttons: int, packets: str) -> None:
    bench = Bench()
    bench.mouse(*commands)
    bench.edges.clear()
    bench.chip.mouse.state.buttons = buttons
    bench.chip.mouse.move(*move)
    assert ("AUX" in bench.edges) == bool(packets)
    assert bytes(bench.drain()).hex() == packets


def test_remote_mouse_answers_when_asked() -> None:
    bench = Bench()
    bench.mouse(0xF0)
    bench.chip.mouse.move(3, 4)
    bench.chip.mouse.press(LEFT)
    assert bench.mouse(0xEB) == [0xFA, 0x09, 3, 4]
    assert bench.mouse(0xEB) == [0xFA, 0x09, 0, 0]


def test_mouse_bytes_are_marked_and_translated_by_nobody() -> None:
    bench = Bench()
    bench.command(0x60, 0x43)
    bench.mouse(0xF4)
    bench.chip.mouse.move(0x1C, 0)
    assert bench.status & AUX
    assert bench.drain() == [0x08, 0x1C, 0x00]


def test_movement_that_nobody_reads_is_bounded() -> None:
    bench = Bench()
    bench.mouse(0xF4)
    for _ in range(1000):
        bench.chip.mouse.move(10_000, -10_000, 10_000)
    state = bench.chip.mouse.state
    assert max(abs(state.dx), abs(state.dy), abs(state.dz)) <= 1 << 15


# What firmware and kernels do --------------------------------------------------------------------------
def test_initialisation_as_firmware_does_it() -> None:
    bench = Bench()
    bench.drain()
    bench.command(0xAA)
    assert bench.drain() == [0x55]
    bench.command(0xAB)
    assert bench.drain() == [0x00]
    bench.command(0x60, 0x30)  # both off while the keyboard is set up
    bench.data(0xFF)
    assert bench.drain() == [0xFA, 0xAA]
    bench.data(0xF5)
    assert bench.drain() == [0xFA]
    bench.data(0xF0)
    assert bench.drain() == [0xFA]
    bench.data(0x02)
    assert bench.drain() == [0xFA]
    bench.command(0x60, 0x61)
    bench.data(0xF4)
    assert bench.drain() == [0xFA]
    bench.edges.clear()
    bench.chip.keyboard.press("a")
    assert bench.edges == ["KBD"]
    assert bench.drain() == [0x1E]


def test_linux_probes_the_aux_port() -> None:
    """i8042_check_aux(): the loop command, the test, and that A7h and A8h show in the command byte."""
    bench = Bench()
    bench.command(0x60, 0x30)
    for value in (0x5A, 0xF0, 0x56, 0xA4):
        bench.command(0xD3, value)
        assert bench.status & AUX
        assert bench.drain() == [value]
    bench.command(0xA7)
    bench.command(0x20)
    assert bench.drain() == [0x30]
    bench.command(0xA8)
    bench.command(0x20)
    assert bench.drain() == [0x10]
    bench.edges.clear()
    bench.command(0x60, 0x12)
    bench.command(0xD3, 0xA5)
    assert bench.edges == ["AUX"]
