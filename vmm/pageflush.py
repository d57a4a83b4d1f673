"""How to take one page out of Unicorn's TLB.

Its API empties the TLB or leaves it alone.  The engine's own function for a page is exported by the library and wants
the virtual CPU; where that stands in an engine is read off the code of the function that empties the TLB.  If either is
not as known, nothing is called, and whoever asks has to empty the TLB instead.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from ctypes import CDLL
from functools import partial

from vmm.exitchecks import code_of

_PATTERN = re.compile(
    rb"(?:\xf3\x0f\x1e\xfa)?"  # endbr64, if the compiler was asked for it
    rb"\x48\x8b(?:\xbf(.{4})|\x7f(.))"  # mov rdi, [uc + offset of cpu]
    rb"\xe9",  # jmp tlb_flush
    re.DOTALL,
)
_EMPTY = "tcg_flush_softmmu_tlb_x86_64"
_PAGE = "tlb_flush_page_x86_64"


def cpu_offset(library: CDLL) -> int | None:
    """Offset in bytes of the virtual CPU's address in the ``uc_struct`` of *library*; ``None`` if not recognised."""
    found = _PATTERN.match(code_of(library, _EMPTY, 16))
    if found is None or not code_of(library, _PAGE, 1):
        return None
    return int.from_bytes(found[1] or found[2], "little", signed=True)


def of_engine(library: CDLL, engine: int) -> Callable[[int], object] | None:
    """What takes the page of a linear address out of the TLB of the engine whose handle is *engine*."""
    offset = cpu_offset(library)
    cpu = ctypes.c_uint64.from_address(engine + offset).value if offset is not None else 0
    if not cpu:
        return None
    return partial(ctypes.PYFUNCTYPE(None, ctypes.c_uint64, ctypes.c_uint64)((_PAGE, library)), cpu)
