"""Fragments: the host code of a unit, and what the cache and the VMM have to know of it."""

from __future__ import annotations

from struct import Struct
from typing import Final

from translator.exits import Exits
from translator.layout import SS
from translator.mode import FLAT, Mode
from translator.points import Points

_load: Final = Struct("<I").unpack_from
_store: Final = Struct("<I").pack_into


class Fragment:
    """Position-independent host code of a unit, but for exit numbers, which whoever places it writes into ``code``."""

    __slots__ = (
        "anywhere",
        "code",
        "cs_base",
        "direct",
        "eip",
        "entry",
        "exits",
        "insns",
        "length",
        "mode",
        "movable",
        "points",
        "relocations",
        "returns",
        "start",
        "treatments",
    )

    def __init__(
        self,
        eip: int,
        mode: Mode,
        cs_base: int,
        code: bytearray,
        entry: int,
        exits: Exits,
        points: Points,
        insns: int,
        start: int,
        length: int,
        treatments: dict[str, int],
        relocations: tuple[int, ...] = (),
        movable: bool = False,
        direct: tuple[tuple[int, int, bool], ...] = (),
        anywhere: bool = False,
        returns: bool = False,
    ) -> None:
        self.eip = eip
        self.mode = mode
        self.cs_base = cs_base
        self.code = code
        self.entry = entry
        """Host offset of the entry for chained jumps; offset 0 is the entry for indirect branches, which verifies
        r8d."""
        self.exits = exits
        self.points = points
        self.insns = insns
        """Guest instructions translated."""
        self.start = start
        """First guest byte, as a linear address."""
        self.length = length
        """Guest bytes from there."""
        self.treatments = treatments
        """How many instructions of each treatment."""
        self.relocations = relocations
        """Host offsets of 32-bit words that move with the unit's EIP; of those that move against it, ~offset."""
        self.movable = movable
        """The same bytes at another EIP have the same translation but for the relocations."""
        self.direct = direct
        """(index, offset, whether no condition leads there) of the exits of that kind."""
        self.anywhere = anywhere
        """The code serves wherever the guest has these bytes mapped: its EIPs are short of ``layout.DELTA``."""
        self.returns = returns
        """It ends in a CALL: what stands behind it comes when that returns."""

    @property
    def leads_on(self) -> bool:
        """No condition leads out of the unit, but what its last instruction decides."""
        return all(unconditional for _, _, unconditional in self.direct)

    def moved(self, eip: int) -> Fragment:
        """The translation of the same bytes at another EIP, with the same CS base; the fragment must be movable."""
        delta = eip - self.eip
        if not delta:
            return self
        code = self.code.copy()
        for at in self.relocations:
            if at >= 0:
                _store(code, at, _load(code, at)[0] + delta & 0xFFFF_FFFF)
            else:
                _store(code, ~at, _load(code, ~at)[0] - delta & 0xFFFF_FFFF)
        return Fragment(
            eip,
            self.mode,
            self.cs_base,
            code,
            self.entry,
            self.exits,
            self.points,
            self.insns,
            self.start + delta & 0xFFFF_FFFF,
            self.length,
            self.treatments,
            self.relocations,
            self.movable,
            self.direct,
            self.anywhere,
            self.returns,
        )


def floats(mode: Mode, cs_base: int) -> bool:
    """Whether fragments of this mode may stand anywhere: the flat 32-bit code of a program under paging."""
    return (
        mode.user
        and mode.code32
        and mode.stack32
        and mode.segments[SS] == FLAT
        and not (cs_base or mode.step or mode.align or mode.record)
    )
