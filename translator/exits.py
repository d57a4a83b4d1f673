"""The ways out of a fragment: a packed table, so that a hundred thousand fragments fit the host's memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from translator import layout
from translator.assembler import asm
from translator.decode import Insn

KINDS: Final = ("direct", "callout", "fault", "undefined", "changed", "shadow")
"""direct: on to a known EIP; shadow: the same, with interrupts held off.  fault: a check in emitted code failed.
changed: the guest's code is not what it was."""
_NUMBERS: Final = {kind: number for number, kind in enumerate(KINDS)}
STUB: Final = asm(f"mov dword ptr [r15+{layout.EXIT_ID}], 0")[:-4]
"""How every stub begins that leaves for the VMM; the exit's number and a jump follow."""
_WORDS: Final = 6
_NOWHERE: Final = 0xFFFF_FFFF


class Exit(NamedTuple):
    """A way out of a fragment."""

    kind: str
    """One of ``KINDS``."""
    offset: int
    """From the unit's EIP, modulo 2**32.  direct, shadow: where the guest goes on.  Others: the instruction's."""
    stub: int
    """Host offset of the stub that leaves for the VMM."""
    number: int
    """Host offset of the 4 bytes that hold the exit's number."""
    sites: tuple[int, ...]
    """Host offsets of the 32-bit displacements of the jumps that lead to this exit; none if the stub stands in line."""
    lookup: int
    """direct: host offset of code that goes to the target by the lookup table; else -1."""
    insn: Insn | None
    """callout: the instruction."""
    vector: int
    """fault: the exception."""
    refund: int
    """Instructions that were taken off the budget but not executed."""


class ExitList:
    """The exits of a fragment that is being made."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.sites: list[int] = []
        self.insns: list[tuple[int, Insn]] = []
        self.direct: list[tuple[int, int, bool]] = []
        """(index, offset, whether no condition leads there) of those of that kind."""

    def add(
        self,
        kind: str,
        offset: int,
        stub: int,
        number: int,
        sites: Sequence[int],
        lookup: int,
        insn: Insn | None,
        vector: int,
        refund: int,
    ) -> None:
        """One more; see ``Exit``."""
        words = self.words
        index = len(words) // _WORDS
        self.sites += sites
        words.append(_NUMBERS[kind] | vector << 8 | refund << 16)
        words.append(offset)
        words.append(stub)
        words.append(number)
        words.append(lookup & _NOWHERE)
        words.append(len(self.sites))
        if insn is not None:
            self.insns.append((index, insn))
        if kind == "direct":
            self.direct.append((index, offset, not sites))


class Exits:
    """The exits of one fragment by their index."""

    __slots__ = ("_insns", "_words", "count")

    def __init__(self, count: int, words: array[int], insns: tuple[tuple[int, Insn], ...]) -> None:
        self.count = count
        self._words = words
        """Six words an exit (the last is how many sites it and those before it have), and the sites."""
        self._insns = insns

    @classmethod
    def listed(cls, exits: ExitList) -> Exits:
        """Those that were listed."""
        return cls(len(exits.words) // _WORDS, array("I", exits.words + exits.sites), tuple(exits.insns))

    def plain(self) -> tuple[int, bytes, tuple[tuple[int, bytes], ...]]:
        """All of it as plain data."""
        return self.count, self._words.tobytes(), tuple((n, insn.raw) for n, insn in self._insns)

    @classmethod
    def restored(
        cls, plain: tuple[int, bytes, tuple[tuple[int, bytes], ...]], decoded: Callable[[bytes], Insn]
    ) -> Exits:
        """Exits from what ``plain`` gave; *decoded* makes an instruction of its bytes."""
        count, words, insns = plain
        return cls(count, array("I", words), tuple([(n, decoded(raw)) for n, raw in insns]) if insns else ())

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, n: int) -> Exit:
        kind, offset, stub, number, lookup, _ = self._words[_WORDS * n : _WORDS * n + _WORDS]
        return Exit(
            KINDS[kind & 0xFF],
            offset,
            stub,
            number,
            tuple(self.sites(n)),
            -1 if lookup == _NOWHERE else lookup,
            self.insn(n),
            kind >> 8 & 0xFF,
            kind >> 16,
        )

    def __iter__(self) -> Iterator[Exit]:
        return map(self.__getitem__, range(self.count))

    # One field each, for those that need no more.

    def kind(self, n: int) -> str:
        return KINDS[self._words[_WORDS * n] & 0xFF]

    def refund(self, n: int) -> int:
        return self._words[_WORDS * n] >> 16

    def offset(self, n: int) -> int:
        return self._words[1 + _WORDS * n]

    def stub(self, n: int) -> int:
        return self._words[2 + _WORDS * n]

    def lookup(self, n: int) -> int:
        return self._words[4 + _WORDS * n]

    def numbers(self) -> array[int]:
        """Host offsets of all exits' numbers."""
        return self._words[3 : _WORDS * self.count : _WORDS]

    def sites(self, n: int) -> array[int]:
        words = self._words
        first = _WORDS * self.count
        return words[first + (words[_WORDS * n - 1] if n else 0) : first + words[_WORDS * n + 5]]

    def insn(self, n: int) -> Insn | None:
        for index, insn in self._insns:
            if index == n:
                return insn
        return None
