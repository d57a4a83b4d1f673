"""How long instructions are: asked of Capstone once for each opcode and ModRM, remembered after that.

The length follows from the opcode, ModRM and SIB, and at most one prefix before them; with more prefixes Capstone is
asked each time.  A wrong answer, as for opcodes that the rule table has not, costs time and nothing else: it is where
the translator looks for an instruction that it has translated before, by all its bytes.
"""

from __future__ import annotations

from typing import Final

from translator.decode import boundaries
from translator.rules import ONE_BYTE, TWO_BYTE, rows

LIMIT: Final = 1 << 16
"""Heads that are remembered."""
LONGEST: Final = 15
_MODRM: Final = {
    map_: frozenset(row.opcode for row in rows() if row.map == map_ and row.modrm) for map_ in (ONE_BYTE, TWO_BYTE)
}
_PREFIXES: Final = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_ESCAPE: Final = 0x0F


_ALONE: Final = 0
_WITH_MODRM: Final = 1
_OTHER: Final = 2
_FIRST: Final = bytes(
    _OTHER if byte in _PREFIXES or byte == _ESCAPE else _WITH_MODRM if byte in _MODRM[ONE_BYTE] else _ALONE
    for byte in range(256)
)
"""What the first byte says of those that decide the length."""
_SIB: Final = bytes(modrm & 7 == 4 and modrm < 0xC0 for modrm in range(256))


class Lengths:
    """The lengths of 16-bit or 32-bit code's instructions."""

    def __init__(self, code32: bool) -> None:
        self._code32 = code32
        self._alone = bytearray(1 << 8)
        """By the first byte, where that decides the length; 0: not asked yet, or it does not."""
        self._pairs = bytearray(1 << 16)
        """By the first two bytes, the first lower."""
        self._known: dict[bytes, int] = {}

    def at(self, code: bytes, at: int) -> int:
        """Bytes of the instruction at *at*; 0 if it is not complete or Capstone does not know it."""
        rest = len(code) - at
        first = code[at]
        length = self._alone[first]
        if not length:
            kind = _FIRST[first]
            if kind == _ALONE:
                length = self._alone[first] = self._ask(code, at)
            elif kind == _WITH_MODRM and rest > 1 and not _SIB[code[at + 1]]:
                pair = first | code[at + 1] << 8
                length = self._pairs[pair]
                if not length:
                    length = self._pairs[pair] = self._ask(code, at)
            else:
                length = self._by_head(code, at)
        return length if length <= rest else 0

    def _by_head(self, code: bytes, at: int) -> int:
        end = _head(code, at)
        head = code[at:end] if end else b""
        length = self._known.get(head, 0)
        if not length:
            length = self._ask(code, at)
            if end:
                if len(self._known) >= LIMIT:
                    self._known.clear()
                self._known[head] = length
        return length

    def _ask(self, code: bytes, at: int) -> int:
        return next(boundaries(code[at : at + LONGEST + 1], 0, self._code32, 1), 0)


def _head(code: bytes, at: int) -> int:
    """Where the bytes that decide the length end; 0 if that cannot be told or they are not all there."""
    try:
        byte = code[at]
        if byte in _PREFIXES:
            at += 1
            byte = code[at]
            if byte in _PREFIXES:
                return 0
        map_ = ONE_BYTE
        if byte == _ESCAPE:
            at += 1
            byte = code[at]
            map_ = TWO_BYTE
        if byte not in _MODRM[map_]:
            return at + 1
        modrm = code[at + 1]
        if not _SIB[modrm]:
            return at + 2
        return at + 3 if at + 3 <= len(code) else 0
    except IndexError:
        return 0
