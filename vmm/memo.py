"""Translations that may serve again: at another address, after they were evicted, or in another run."""

from __future__ import annotations

from typing import Final

from lru import LRU

from translator.fragment import Fragment
from translator.mode import Mode
from vmm.translations import Translations, kind_of

MAX_KNOWN: Final = 16_384
"""Translations of this run that are remembered."""


class Known:
    """A translation that may serve again."""

    __slots__ = ("fragment", "room", "source")

    def __init__(self, source: bytes, room: int, fragment: Fragment) -> None:
        self.source = source
        """The guest's bytes."""
        self.room = room
        """How many bytes could have been translated: to the end of the page or of the segment."""
        self.fragment = fragment

    def matches(self, code: bytes, cs_base: int, anywhere: bool) -> bool:
        """The same bytes, with as much room, stand there now, and are to be translated in the same way."""
        same = len(code) == self.room and code.startswith(self.source) and self.fragment.cs_base == cs_base
        return same and self.fragment.anywhere is anywhere


class Memo:
    """Movable fragments by context and guest-physical address, and by the *store* of other runs, if there is one."""

    def __init__(self, store: Translations | None) -> None:
        self.store = store
        self._known: LRU[tuple[int, int], Known] = LRU(MAX_KNOWN)
        self._kinds: dict[tuple[int, bool], bytes] = {}
        """What the store calls fragments of a context."""

    def find(
        self, context: int, physical: int, mode: Mode, cs_base: int, code: bytes, anywhere: bool, stored: bool
    ) -> Fragment | None:
        """The translation of *code*, for any EIP, if it is known; *stored* fragments are of a kind that the store has.

        *context* is the number of *mode* and *cs_base*, with the fragment's variant.
        """
        known: Known | None = self._known.get((context, physical))
        if known is not None and known.matches(code, cs_base, anywhere):
            return known.fragment
        if self.store is None or not stored:
            return None
        return self.store.find(self._kind(context, mode, cs_base, anywhere), mode, code)

    def keep(self, context: int, physical: int, code: bytes, fragment: Fragment, stored: bool) -> None:
        """Remember the *fragment* that was made of the start of *code*; *stored*: for other runs too."""
        self._known[context, physical] = Known(code[: fragment.length], len(code), fragment)
        if self.store is not None and stored:
            kind = self._kind(context, fragment.mode, fragment.cs_base, fragment.anywhere)
            self.store.add(kind, code, fragment)

    def forget(self) -> None:
        """The numbers of contexts mean something else from now on."""
        self._known.clear()
        self._kinds.clear()

    def _kind(self, context: int, mode: Mode, cs_base: int, anywhere: bool) -> bytes:
        kind = self._kinds.get((context, anywhere))
        if kind is None:
            kind = self._kinds[context, anywhere] = kind_of(mode, cs_base, anywhere)
        return kind
