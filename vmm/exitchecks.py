"""Unicorn's checks for a request to stop behind every load and store, and how to do without them.

Unicorn calls ``helper_check_exit_request`` after each memory access of translated code, so that a hook on memory can
stop it there.  A call of a helper makes the code generator write all registers back, and load them again after it: half
of the time of most code.  ``uc_struct.no_exit_request`` turns these calls off (Unicorn's own use for it is Arm's IT
blocks); no function of the API sets it.  Where it stands is read off the code of the exported function that
tests it; if that does not look as known, nothing is changed and all runs as before, only slower.  The check at the
start of each block stays, so a stop is late by less than a block.
"""

from __future__ import annotations

import ctypes
import re
from ctypes import CDLL

_PATTERN = re.compile(
    rb"\xf3?(?:\x0f\x1e\xfa)?"  # endbr64, if the compiler was asked for it
    rb"\x48\x8b[\x80-\xbf].{4}"  # mov r64, [TCGContext + offset of uc]
    rb"\x80[\xb8-\xbf](.{4})\x00"  # cmp byte [uc + offset of no_exit_request], 0
    rb"\x74.\xc3",  # je to what makes the call; ret
    re.DOTALL,
)
_FUNCTION = "check_exit_request_x86_64"
_LARGEST_OFFSET = 0x1000


def code_of(library: CDLL, name: str, size: int) -> bytes:
    """The first *size* bytes of code of the function *name* of *library*; none if there is no such function."""
    try:
        function = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    except AttributeError:
        return b""
    return ctypes.string_at(function, size) if function else b""


def flag_offset(library: CDLL) -> int | None:
    """Offset in bytes of ``no_exit_request`` in the ``uc_struct`` of *library*; ``None`` if it is not recognised."""
    found = _PATTERN.match(code_of(library, _FUNCTION, 32))
    if found is None:
        return None
    offset = int.from_bytes(found[1], "little")
    return offset if offset < _LARGEST_OFFSET else None


def turn_off(library: CDLL, engine: int) -> bool:
    """Turn the checks of the engine whose handle is *engine* off; whether that could be done."""
    offset = flag_offset(library)
    if offset is None or ctypes.string_at(engine + offset, 1) != b"\0":
        return False
    ctypes.memset(engine + offset, 1, 1)
    return True
