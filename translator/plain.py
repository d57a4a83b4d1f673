"""Fragments as plain data (numbers, bytes, tuples), to be kept beyond a run."""

from __future__ import annotations

from typing import Any

from translator.decode import Insn, decoded
from translator.exits import Exits
from translator.fragment import Fragment
from translator.mode import Mode
from translator.points import Points

Plain = tuple[Any, ...]
"""The fields of a ``Fragment`` but for its mode."""


def to_plain(fragment: Fragment) -> Plain:
    """*fragment* as plain data."""
    return (
        fragment.eip,
        fragment.cs_base,
        bytes(fragment.code),
        fragment.entry,
        fragment.exits.plain(),
        fragment.points.plain(),
        fragment.insns,
        fragment.start,
        fragment.length,
        tuple(fragment.treatments.items()),
        fragment.relocations,
        fragment.movable,
        fragment.direct,
        fragment.anywhere,
        fragment.returns,
    )


def from_plain(plain: Plain, mode: Mode) -> Fragment:
    """The fragment again, in *mode*."""
    eip, cs_base, code, entry, exits, points, insns, start, length, treatments = plain[:10]
    relocations, movable, direct, anywhere, returns = plain[10:]
    return Fragment(
        eip,
        mode,
        cs_base,
        bytearray(code),
        entry,
        Exits.restored(exits, _decoded_32 if mode.code32 else _decoded_16),
        Points.restored(points),
        insns,
        start,
        length,
        dict(treatments),
        relocations,
        movable,
        direct,
        anywhere,
        returns,
    )


def _decoded_16(raw: bytes) -> Insn:
    return decoded(raw, False)


def _decoded_32(raw: bytes) -> Insn:
    return decoded(raw, True)
