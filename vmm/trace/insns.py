"""Traces at the level of instructions: a record an instruction, as emitted code wrote it (``translator.recording``)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, overload

from translator.layout import ARITHMETIC, DF
from translator.recording import COUNT_MASK, RECORD, RECORD_SIZE, Site
from vmm.trace.records import MAX_CODE, Record

_COUNTS = struct.Struct("<QQ")
_CONTROL = struct.Struct("<Q4I")
_SITE = struct.Struct(f"<IBB{MAX_CODE}s")
_FLAGS = ARITHMETIC | DF


class Control(NamedTuple):
    """The control registers from one record on."""

    first: int
    """Index of the record."""
    cr0: int
    cr2: int
    cr3: int
    cr4: int


@dataclass(slots=True)
class InsnLog(Sequence[Record]):
    """The records of a window of a run.  An instruction that faults and its handler's first have the same count."""

    raw: bytes
    sites: list[Site]
    controls: list[Control]

    def __len__(self) -> int:
        return len(self.raw) // RECORD_SIZE

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        control = self.controls[bisect_right(self.controls, at, key=lambda control: control.first) - 1]
        return self._record(RECORD.unpack_from(self.raw, at * RECORD_SIZE), control)

    def __iter__(self) -> Iterator[Record]:
        ends = [*(control.first for control in self.controls[1:]), len(self)]
        for control, end in zip(self.controls, ends, strict=True):
            part = memoryview(self.raw)[control.first * RECORD_SIZE : end * RECORD_SIZE]
            for values in RECORD.iter_unpack(part):
                yield self._record(values, control)

    def _record(self, values: tuple[Any, ...], control: Control) -> Record:
        count, *registers, flags, system, es, cs, ss, ds, fs, gs, number = values
        site = self.sites[number]
        _, cr0, cr2, cr3, cr4 = control
        eflags = flags & _FLAGS | 2 | system | (count >> 48) * 2
        state = (*registers, site.eip, eflags, cr0, cr2, cr3, cr4, es, cs, ss, ds, fs, gs)
        return Record(count & COUNT_MASK, state, b"", site.code, site.code32)

    def numbers(self) -> Sequence[int]:
        """The number of each record's site."""
        return memoryview(self.raw).cast("I")[RECORD_SIZE // 4 - 1 :: RECORD_SIZE // 4].tolist()

    def pack(self) -> bytes:
        """As it stands in the file, uncompressed."""
        parts = [_COUNTS.pack(len(self.sites), len(self.controls))]
        parts += (_SITE.pack(site.eip, site.code32, len(site.code), site.code) for site in self.sites)
        parts += (_CONTROL.pack(*control) for control in self.controls)
        return b"".join([*parts, self.raw])

    @classmethod
    def unpack(cls, data: bytes) -> InsnLog:
        """What ``pack`` packed.  Raises ``ValueError`` or ``struct.error``."""
        sites, controls = _COUNTS.unpack_from(data)
        at = _COUNTS.size
        middle, end = at + sites * _SITE.size, at + sites * _SITE.size + controls * _CONTROL.size
        raw = data[end:]
        if len(data) < end or len(raw) % RECORD_SIZE or (raw and not controls):
            raise ValueError("its records are not whole")
        found = [Site(eip, code[:n], bool(c32)) for eip, c32, n, code in _SITE.iter_unpack(data[at:middle])]
        log = cls(raw, found, [Control(*values) for values in _CONTROL.iter_unpack(data[middle:end])])
        if max(log.numbers(), default=-1) >= sites:
            raise ValueError("a record names no instruction")
        if log.controls and (log.controls[0].first or any(a.first > b.first for a, b in pairwise(log.controls))):
            raise ValueError("its control registers are out of order")
        return log


def without_restarts(raw: bytes, sites: list[Site], controls: Sequence[Control]) -> InsnLog:
    """The log of what a ring held: an instruction that began twice, before and after a fault of ours, began once."""
    size, step = RECORD_SIZE, RECORD_SIZE // 8
    counts = memoryview(raw).cast("Q")[::step].tolist()
    again = [n for n, (one, other) in enumerate(pairwise(counts), 1) if not (one ^ other) & COUNT_MASK]
    number = memoryview(raw).cast("I")[size // 4 - 1 :: size // 4]
    dropped = [n for n in again if sites[number[n]] == sites[number[n - 1]]]
    starts = [0, *(n + 1 for n in dropped)]
    ends = [*dropped, len(counts)]
    kept = b"".join(raw[start * size : end * size] for start, end in zip(starts, ends, strict=True))
    moved = [control._replace(first=control.first - bisect_right(dropped, control.first - 1)) for control in controls]
    return InsnLog(kept, sites, moved)
