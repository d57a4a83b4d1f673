"""Conversations with a guest, and the streams that they listen to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm.config import Step
from vmm.errors import ExitStatus
from vmm.expect import WINDOW, Conversation, TextFilter
from vmm.screenlog import ScreenLog

OK, FAIL_ON = ExitStatus.OK, ExitStatus.FAIL_ON


def steps(*texts: str) -> list[Step]:
    """ "?x" expects x, "!x" sends x."""
    return [Step({"?": "expect", "!": "send"}[text[0]], text[1:]) for text in texts]


class Guest:
    """Takes typed bytes, so many at a time."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.typed = b""

    def receive(self, data: bytes) -> int:
        self.typed += data[: self.room]
        return min(self.room, len(data))


@pytest.mark.parametrize(
    ("script", "fail_on", "printed", "status"),
    [
        (["?login:"], [], ["Debian\r\nlogin: "], OK),
        (["?login:"], [], ["lo", "gin", ":"], OK),
        (["?login:"], [], ["logon:"], None),
        (["?a", "?b"], [], ["ab"], OK),
        (["?a", "?b"], [], ["b", "a"], None),
        (["?a", "?a"], [], ["a"], None),
        (["?a", "?a"], [], ["a", "a"], OK),
        (["?^# $"], [], ["x\r\n# "], OK),
        (["?^ok$"], [], ["1\r\nok\r\n2"], OK),
        (["?two\nlines"], [], ["two\r\nlines"], OK),
        (["?grub> "], [], ["\x1b[1;1Hg\x1b[0mrub", ">\x1b[5", "C "], OK),
        (["?né"], [], [b"n\xc3", b"\xa9"], OK),
        (["?end"], ["panic"], ["panic: end"], FAIL_ON),
        (["?end"], ["panic"], ["end panic"], OK),
        (["?end"], ["panic"], ["pa", "nic"], FAIL_ON),
        (["?a", "?end"], ["panic"], ["a panic end"], FAIL_ON),
        ([], ["panic"], ["kernel panic"], FAIL_ON),
        ([], ["panic", "Oops"], ["Oops, panic"], FAIL_ON),
        ([], ["panic"], ["all is well"], None),
        ([], [], ["anything"], None),
        (["!x"], [], ["anything"], None),
        (["?"], [], ["x"], OK),
        (["?a"], [], ["b" * 100_000 + "a"], OK),
        (["?b{3}a"], [], [*["b"] * 10_000, "a"], OK),
    ],
)
def test_outcomes(script: list[str], fail_on: list[str], printed: list[str | bytes], status: ExitStatus | None) -> None:
    talk = Conversation(steps(*script), fail_on)
    for piece in printed:
        talk.feed("serial0", piece)
    assert (talk.outcome and talk.outcome[0]) == status


def test_the_failure_is_quoted() -> None:
    talk = Conversation((), ["BUG.*"])
    talk.feed("screen", "x BUG:  at 12\n")
    assert talk.outcome == (FAIL_ON, "the guest printed 'BUG: at 12', which --fail-on is for")


def test_nothing_changes_an_outcome() -> None:
    talk = Conversation(steps("?a"), ["b"])
    talk.feed("serial0", "a")
    talk.feed("serial0", "b")
    assert talk.outcome is not None
    assert talk.outcome[0] == OK
    assert not talk.listening


def test_a_dialogue() -> None:
    guest = Guest()
    talk = Conversation(steps("?login:", "!root\n", "?# ", "!poweroff\n"))
    talk.deliver("serial0", guest.receive)
    assert guest.typed == b""
    talk.feed("serial0", "login: ")
    assert talk.talks_to == "serial0"
    talk.deliver("serial0", guest.receive)
    assert (guest.typed, talk.waiting_for) == (b"root\n", "# ")
    talk.feed("serial0", "\r\n# ")
    assert talk.outcome is None, "there is still something to send"
    talk.deliver("serial0", guest.receive)
    assert guest.typed == b"root\npoweroff\n"
    assert talk.outcome is not None
    assert talk.outcome[0] == OK


def test_a_guest_that_takes_a_byte_at_a_time() -> None:
    guest = Guest(room=1)
    talk = Conversation(steps("!abc", "?d"))
    for _ in range(3):
        assert talk.waiting_for is None, "the pattern comes after the text"
        talk.deliver("serial0", guest.receive)
    assert (guest.typed, talk.waiting_for) == (b"abc", "d")


def test_a_guest_that_takes_nothing() -> None:
    talk = Conversation(steps("!abc"))
    talk.deliver("serial0", lambda data: 0)
    assert talk.talks_to == "serial0"


def test_the_answer_goes_where_the_question_was() -> None:
    guest = Guest()
    talk = Conversation(steps("?boot:", "!linux\n", "?done"))
    talk.feed("screen", "boot:")
    talk.deliver("serial0", guest.receive)
    assert (guest.typed, talk.talks_to) == (b"", "screen")
    talk.deliver("screen", guest.receive)
    assert guest.typed == b"linux\n"


def test_a_prompt_on_two_sources_counts_once() -> None:
    talk = Conversation(steps("?> ", "?> "))
    for letter in "grub> ":
        talk.feed("serial0", letter)
        talk.feed("screen", letter)
    assert talk.outcome is None
    talk.feed("screen", "\ngrub> ")
    assert talk.outcome is not None


def test_memory_is_bounded() -> None:
    talk = Conversation(steps("?never"))
    for _ in range(100):
        talk.feed("serial0", "x" * 1000)
    assert len(talk._sources["serial0"].text) <= WINDOW * 5 // 4


# The text of a terminal ------------------------------------------------------------------------------
TERMINAL = [
    (b"plain\r\n", "plain\n"),
    (b"a\x1b[31mred\x1b[0m", "ared"),
    (b"\x1b[2J\x1b[1;1Hx", "x"),
    (b"\x1b]0;title\x07x\x1b]0;t\x1b\\y", "xy"),
    (b"\x1b(Bx\x1b7y\x1b8\x1bc", "xy"),
    (b"\x1b[?25hx", "x"),
    (b"\0a\0", "a"),
    (b"\xff", "�"),
    (b"a\x1b\x1b[mb", "ab"),
    (b"a\x1b[1;\x1b[mb", "ab"),
    (b"a\x1b]\x1b \x1b[mb", "ab"),
    (b"a\x1b\nb", "a\x1b\nb"),
]


@pytest.mark.parametrize(("data", "text"), TERMINAL)
def test_escape_sequences_are_taken_out(data: bytes, text: str) -> None:
    terminal = TextFilter()
    assert terminal.feed(data) == text


@pytest.mark.parametrize(("data", "text"), TERMINAL)
def test_pieces_of_one_byte_make_no_difference(data: bytes, text: str) -> None:
    terminal = TextFilter()
    assert "".join(terminal.feed(bytes((byte,))) for byte in data) == text


@given(st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(b"\x1b[]0;m\x07\\( a?"), max_size=40).map(bytes)))
def test_any_bytes_any_pieces(data: bytes) -> None:
    whole, pieces = TextFilter(), TextFilter()
    expected = whole.feed(data)
    assert "".join(pieces.feed(bytes((byte,))) for byte in data) == expected
    assert "\0" not in expected
    assert "\r" not in expected


def test_an_escape_sequence_without_end_does_not_swallow_the_guest() -> None:
    terminal = TextFilter()
    text = "".join(terminal.feed(piece) for piece in ["\x1b]", *["x" * 100] * 5])
    assert text.count("x") >= 400


# The screen as a stream ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("looks", "texts"),
    [
        ([["a", ""], ["a", ""]], ["a", ""]),
        ([["a   ", ""], ["a b", ""]], ["a", " b"]),
        ([["grub>", ""], ["grub> ls", ""], ["grub> ls", "(hd0)"]], ["grub>", " ls", "\n(hd0)"]),
        ([["one", "two"], ["two", "three"]], ["one\ntwo", "\nthree"]),
        ([["one", "two"], ["two and a half", ""]], ["one\ntwo", "\ntwo and a half"]),
        ([["1", "2", "3"], ["3", "4", "5"]], ["1\n2\n3", "\n4\n5"]),
        ([["a", "b"], ["", ""], ["c", ""]], ["a\nb", "", "\nc"]),
        ([["12:00", "x"], ["12:01", "x"]], ["12:00\nx", "\n12:01"]),
        ([["a"], ["a", "b"]], ["a", "\nb"]),
        ([[], ["a"]], ["", "a"]),
    ],
)
def test_screens(looks: list[list[str]], texts: list[str]) -> None:
    log = ScreenLog()
    assert [log.update(look) for look in looks] == texts


@given(st.lists(st.integers(1, 4), min_size=1, max_size=10))
def test_every_line_that_scrolls_by_is_seen_once(steps_at_a_time: list[int]) -> None:
    rows, log, text, lines = 5, ScreenLog(), "", []
    for count in steps_at_a_time:
        lines += [f"line {len(lines) + n}" for n in range(count)]
        shown = lines[-rows:]
        text += log.update(shown + [""] * (rows - len(shown)))
    assert re.findall("line [0-9]+", text) == lines
