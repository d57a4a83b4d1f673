"""Fragments: the host code of a unit, and what the cache and the VMM have to know of it."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from translator.exits import Exits
from translator.layout import SS
from translator.mode import FLAT, Mode
from translator.points import Points

_load: Final = Struct("<I").unpack_from
_store: Final = Struct("<I").pack_into


class Fragment(NamedTuple):
    """Position-independent host code of a unit, but for exit numbers."""

    eip: int
    mode: Mode
    cs_base: int
    code: bytearray
    entry: int
    """Host offset of the entry for chained jumps; offset 0 is the entry for indirect branches, which verifies r8d."""
    exits: Exits
    points: Points
    insns: int
    """Guest instructions translated."""
    start: int
    """First guest byte, as a linear address."""
    length: int
    """Guest bytes from there."""
    treatments: dict[str, int]
    """How many instructions of each treatment."""
    relocations: tuple[tuple[int, int], ...] = ()
    """(host offset, sign) of 32-bit words that move with the unit's EIP or against it."""
    movable: bool = False
    """The same bytes at another EIP have the same translation but for the relocations."""
    direct: tuple[tuple[int, int, bool], ...] = ()
    """(index, offset, whether no condition leads there) of the exits of that kind."""
    anywhere: bool = False
    """The code serves wherever the guest has these bytes mapped: its EIPs are short of ``layout.DELTA``."""
    returns: bool = False
    """It ends in a CALL: what stands behind it comes when that returns."""

    @property
    def leads_on(self) -> bool:
        """No condition leads out of the unit, but what its last instruction decides."""
        return all(unconditional for _, _, unconditional in self.direct)

    def moved(self, eip: int) -> Fragment:
        """The translation of the same bytes at another EIP, with the same CS base; the fragment must be movable."""
        delta = eip - self.eip
        code = self.code.copy()
        for at, sign in self.relocations:
            _store(code, at, _load(code, at)[0] + sign * delta & 0xFFFF_FFFF)
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
            *self[9:],
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
