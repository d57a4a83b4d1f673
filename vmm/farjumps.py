"""Unicorn's rule that a jump is chained inside its page only, and how to do without it in the translation cache.

Where a direct jump leads to another page than its block began in, Unicorn's translator ends the block with a look-up of
the target each time it runs: a guest may map that page another way, and nobody would unlink the jump.  The pages of the
translation cache are never mapped another way, and a block that goes is unlinked wherever the jumps to it stand.

No function of the API says so.  The translator compares page numbers by a mask, in three places of its code, and while
an engine of ours runs this mask is 0 there: ``begin`` and ``end`` stand around each run, for the code is every engine's
in the process.  One of somebody else's that runs meanwhile, in another thread or a callback, chains far jumps too: that
is wrong only for a guest that maps its code another way.  Where the masks stand is found between two exported functions
by what surrounds them; if they are not as many as known, or the code cannot be written, nothing is changed and all runs
as before, only slower.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from ctypes import CDLL
from functools import cache
from typing import Final

_FIRST: Final = "do_vmexit_x86_64"
_LAST: Final = "gen_intermediate_code_x86_64"
"""Exported functions before and behind those of target/i386/translate.c that ``gen_goto_tb`` is a part of."""
_LARGEST: Final = 1 << 20
_PLACES: Final = 3
"""gen_jmp_tb, and both ways of a conditional jump."""
_PAGES: Final = b"\x00\xf0\xff\xff"
"""TARGET_PAGE_MASK."""
_ALL_ALIKE: Final = b"\x00\x00\x00\x00"
_PATTERN: Final = re.compile(
    rb"\x48\x8b[\x00-\x3f]"  # mov r64, [tb]: where the block begins
    rb"[\x48-\x4f][\x01\x03]."  # add r64, r64: the base of CS
    rb"\x48\x31."  # xor r64, r64
    rb"\x48\xf7[\xc0-\xc7]" + re.escape(_PAGES),  # test r64, mask
    re.DOTALL,
)
_mprotect: Final = ctypes.CDLL(None).mprotect
_READ, _WRITE, _EXECUTE = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC


def places(library: CDLL) -> list[int]:
    """Where the masks stand in *library*; none if they are not recognised."""
    try:
        first, last = (ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in (_FIRST, _LAST))
    except AttributeError:
        return []
    if not 0 < last - first < _LARGEST:
        return []
    code = ctypes.string_at(first, last - first)
    found = [first + match.end() - len(_PAGES) for match in _PATTERN.finditer(code)]
    return found if len(found) == _PLACES else []


class FarJumps:
    """The masks of one *library*, and how many runs want them to be 0."""

    def __init__(self, library: CDLL) -> None:
        self.places = places(library)
        self._runs = 0

    def begin(self) -> None:
        """An engine of ours begins to run."""
        self._runs += 1
        if self._runs == 1:
            self._write(_ALL_ALIKE)

    def end(self) -> None:
        """It runs no longer."""
        self._runs -= 1
        if not self._runs:
            self._write(_PAGES)

    def _write(self, mask: bytes) -> None:
        known = self.places
        if all(_protect(place, _READ | _WRITE | _EXECUTE) for place in known):
            for place in known:
                ctypes.memmove(place, mask, len(mask))
        else:  # it is not asked again
            self.places = []
        for place in known:
            _protect(place, _READ | _EXECUTE)


def _protect(place: int, rights: int) -> bool:
    """Set the rights of the pages that a mask stands in; whether that could be done."""
    start = place & -mmap.PAGESIZE
    size = place + len(_PAGES) - start
    return bool(_mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), rights) == 0)


@cache
def of_library(library: CDLL) -> FarJumps:
    """The one there is for *library*."""
    return FarJumps(library)
