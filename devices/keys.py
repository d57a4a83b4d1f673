"""The keys of a 102-key US keyboard: scan codes of set 2, their translation to set 1, and how text is typed.

Sources: IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-Key)", for scan codes and
the 8042's translation table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

BREAK = 0xF0
"""Prefix of a break code in set 2."""
EXTENDED = 0xE0

SET2_TO_SET1 = bytes.fromhex(
    "ff43413f3d3b3c58644442403e0f295965382a701d10025a66712c1f1e11035b"
    "672e2d201205045c68392f211413065d693130232215075e6a7232241608095f"
    "6b332517180b0a606c34352627190c616d7328741a0d626e3a361c1b752b6376"
    "55567778797a0e7b7c4f7d4b477e7f6f5253504c4d480145574e514a37494654"
) + bytes((0x80, 0x81, 0x82, 0x41, 0x54, *range(0x85, 0x100)))
"""The 8042's table: by the code in set 2.  Replies (FAh, AAh, ...) and prefixes stay as they are."""

PUNCTUATION = "1234567890`-=\\[];',./"

KEYS: dict[str, tuple[int, ...]] = {
    **dict(zip("abcdefghijklmnopqrstuvwxyz", (
        (code,) for code in bytes.fromhex("1c322123242b3433433b424b3a31444d152d1b2c3c2a1d22351a")
    ), strict=True)),
    **dict(zip(PUNCTUATION, (
        (code,) for code in bytes.fromhex("161e26252e363d3e46450e4e555d545b4c5241494a")
    ), strict=True)),
    **{f"f{n}": (code,) for n, code in enumerate(bytes.fromhex("0506040c030b830a01097807"), 1)},
    **{f"kp{n}": (code,) for n, code in enumerate(bytes.fromhex("7069727a6b73746c757d"))},
    "kpdot": (0x71,), "kpplus": (0x79,), "kpminus": (0x7B,), "kpstar": (0x7C,),
    "kpslash": (0xE0, 0x4A), "kpenter": (0xE0, 0x5A),
    "esc": (0x76,), "tab": (0x0D,), "space": (0x29,), "enter": (0x5A,), "backspace": (0x66,),
    "caps": (0x58,), "num": (0x77,), "scroll": (0x7E,), "less": (0x61,),
    "shift": (0x12,), "rshift": (0x59,), "ctrl": (0x14,), "rctrl": (0xE0, 0x14),
    "alt": (0x11,), "ralt": (0xE0, 0x11), "win": (0xE0, 0x1F), "rwin": (0xE0, 0x27), "menu": (0xE0, 0x2F),
    "insert": (0xE0, 0x70), "delete": (0xE0, 0x71), "home": (0xE0, 0x6C), "end": (0xE0, 0x69),
    "pgup": (0xE0, 0x7D), "pgdn": (0xE0, 0x7A),
    "up": (0xE0, 0x75), "down": (0xE0, 0x72), "left": (0xE0, 0x6B), "right": (0xE0, 0x74),
    "print": (0xE0, 0x12, 0xE0, 0x7C),
    "pause": (0xE1, 0x14, 0x77, 0xE1, BREAK, 0x14, BREAK, 0x77),
}  # fmt: skip
"""Make codes in set 2, by the name of the key: what it types unshifted, or a word."""

ALIASES = {"return": "enter", "escape": "esc", "del": "delete", "ins": "insert", "bs": "backspace", "spc": "space",
           "pageup": "pgup", "pagedown": "pgdn", "minus": "-", "control": "ctrl"}  # fmt: skip

CHARACTERS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in KEYS if len(name) == 1},
    **{name.upper(): ("shift", name) for name in "abcdefghijklmnopqrstuvwxyz"},
    **{shifted: ("shift", name) for shifted, name in zip("!@#$%^&*()~_+|{}:\"<>?", PUNCTUATION, strict=True)},
    " ": ("space",), "\n": ("enter",), "\r": ("enter",), "\t": ("tab",), "\b": ("backspace",), "\x1b": ("esc",),
}  # fmt: skip
"""The keys that are held together to type a character."""

_TOKEN = re.compile(r"<([A-Za-z0-9]+(?:-[A-Za-z0-9]+)*)>|(.)", re.DOTALL)


def press_codes(key: str) -> bytes:
    """What the key sends in set 2 when it goes down.  Raises ``KeyError`` for an unknown name."""
    return bytes(KEYS[key])


def release_codes(key: str) -> bytes:
    """What the key sends in set 2 when it goes up: nothing, for Pause."""
    if key == "pause":
        return b""
    parts = [part.removeprefix(b"\xe0") for part in re.findall(rb"\xe0?.", press_codes(key), re.DOTALL)]
    prefix = b"\xe0\xf0" if press_codes(key)[0] == EXTENDED else b"\xf0"
    return b"".join(prefix + part for part in reversed(parts))


def to_set1(codes: Iterable[int]) -> Iterator[int]:
    """Whole scan codes of set 2 as the 8042 translates them."""
    pressed_bit = 0
    for code in codes:
        if code == BREAK:
            pressed_bit = 0x80
        else:
            yield SET2_TO_SET1[code] | pressed_bit
            pressed_bit = 0


def chords(text: str) -> Iterator[tuple[str, ...]]:
    """The keys to hold together, for each character and token of *text*.

    A token is ``<enter>``, ``<f2>``, ``<ctrl-c>``, ``<ctrl-alt-delete>``; ``<lt>`` is the character ``<``.  A
    ``<`` that begins no token stands for itself.  Raises ``ValueError`` for a character that a US keyboard has
    not, and for a token that names no key.
    """
    for token, character in _TOKEN.findall(text):
        if not token:
            if character not in CHARACTERS:
                raise ValueError(f"a US keyboard cannot type {character!r}")
            yield CHARACTERS[character]
        elif token.lower() == "lt":
            yield CHARACTERS["<"]
        else:
            names = tuple(ALIASES.get(name, name) for name in token.lower().split("-"))
            if unknown := [name for name in names if name not in KEYS]:
                raise ValueError(f"there is no key {unknown[0]!r} (a plain '<' before a word is typed as <lt>)")
            yield names
