"""The ways out of a fragment: a packed table, so that a hundred thousand fragments fit the host's memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from translator.decode import Insn

KINDS = ("direct", "callout", "fault", "undefined", "changed")
"""direct: on to a known EIP.  fault: a check in emitted code failed.  changed: the guest's code is not what it was."""
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_WORDS = 6
_NOWHERE = 0xFFFF_FFFF


class Exit(NamedTuple):
    """A way out of a fragment."""

    kind: str
    """One of ``KINDS``."""
    offset: int
    """direct: where the guest goes on.  Others: the instruction's own place.  From the unit's EIP, modulo 2**32."""
    stub: int
    """Host offset of the stub that leaves for the VMM."""
    number: int
    """Host offset of the 4 bytes that hold the exit's number."""
    sites: tuple[int, ...]
    """Host offsets of the 32-bit displacements of the jumps that lead to this exit."""
    lookup: int
    """direct: host offset of code that goes to the target by the lookup table; else -1."""
    insn: Insn | None
    """callout: the instruction."""
    vector: int
    """fault: the exception."""
    refund: int
    """Instructions that were taken off the budget but not executed."""


class Exits:
    """The exits of one fragment by their index."""

    __slots__ = ("_insns", "_sites", "_words")

    def __init__(self) -> None:
        self._words = array("I")  # kind | vector << 8 | refund << 16, offset, stub, number, lookup, end in _sites
        self._sites = array("I")
        self._insns: dict[int, Insn] | None = None

    def add(self, exit_: Exit) -> None:
        """Append an exit."""
        if exit_.insn is not None:
            if self._insns is None:
                self._insns = {}
            self._insns[len(self)] = exit_.insn
        self._sites.extend(exit_.sites)
        self._words.extend(
            (
                _NUMBERS[exit_.kind] | exit_.vector << 8 | exit_.refund << 16,
                exit_.offset,
                exit_.stub,
                exit_.number,
                exit_.lookup & _NOWHERE,
                len(self._sites),
            )
        )

    def __len__(self) -> int:
        return len(self._words) // _WORDS

    def __getitem__(self, n: int) -> Exit:
        kind, offset, stub, number, lookup, _ = self._words[_WORDS * n : _WORDS * n + _WORDS]
        lookup = -1 if lookup == _NOWHERE else lookup
        insn = self.insn(n)
        return Exit(
            KINDS[kind & 0xFF], offset, stub, number, tuple(self.sites(n)), lookup, insn, kind >> 8 & 0xFF, kind >> 16
        )

    def __iter__(self) -> Iterator[Exit]:
        return map(self.__getitem__, range(len(self)))

    # One field each, for those that need no more.

    def kind(self, n: int) -> str:
        return KINDS[self._words[_WORDS * n] & 0xFF]

    def vector(self, n: int) -> int:
        return self._words[_WORDS * n] >> 8 & 0xFF

    def refund(self, n: int) -> int:
        return self._words[_WORDS * n] >> 16

    def offset(self, n: int) -> int:
        return self._words[_WORDS * n + 1]

    def stub(self, n: int) -> int:
        return self._words[_WORDS * n + 2]

    def lookup(self, n: int) -> int:
        return self._words[_WORDS * n + 4]

    def numbers(self) -> array[int]:
        """Host offsets of all exits' numbers."""
        return self._words[3::_WORDS]

    def sites(self, n: int) -> array[int]:
        return self._sites[self._words[_WORDS * n - 1] if n else 0 : self._words[_WORDS * n + 5]]

    def insn(self, n: int) -> Insn | None:
        return self._insns.get(n) if self._insns else None
