"""How a case travels to a runner in another process, and its outcome back (``silicon.c``, ``bare/runner.c``)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from tests.support.state import (
    BACKGROUND,
    CODE,
    FLAGS,
    HLT,
    INITIAL_FX,
    SELECTORS,
    SYSTEM_SELECTORS,
    WINDOWS,
    Case,
    Outcome,
    initial_memory,
    parse_fx,
)
from translator.layout import AC, CS, IF_FLAG, IOPL, VM

_REQUEST: Final = struct.Struct("<8I2I6II")
_ANSWER: Final = struct.Struct("<8I6I")
_CHUNK: Final = 16
_TIMEOUT: Final = 255
GENERAL_PROTECTION: Final = 13


def windows() -> bytes:
    """The windows and their background, as a runner reads them first."""
    found = struct.pack("<I", len(WINDOWS))
    return found + b"".join(struct.pack("<II", at, size) for at, size in WINDOWS)


def backgrounds() -> bytes:
    """What stands in the windows, in their order."""
    return b"".join(BACKGROUND[at] for at, _ in WINDOWS)


def pack(case: Case) -> bytes:
    """The request to run *case*: at CPL 3 in its LDT's segments or in virtual-8086 mode, or as a system at CPL 0."""
    environment = case.environment
    flags = case.flags & FLAGS | IF_FLAG | 2 | (AC if case.ac else 0)
    if environment.v86 or environment.real:
        selectors = [s.base >> 4 for s in environment.segments]
        flags |= VM | IOPL
    elif environment.system:
        selectors = list(SYSTEM_SELECTORS)
    else:
        selectors = [SELECTORS[s] for s in environment.segments]
    patches = case.patches
    request = _REQUEST.pack(*case.gpr, case.eip, flags, *selectors, len(patches)) + (case.fx or INITIAL_FX)
    return request + b"".join(struct.pack("<II", at, len(data)) + data for at, data in patches)


def unpack(case: Case, read: Callable[[int], bytes]) -> Outcome:
    """The outcome of *case* from the bytes that *read* gives, so many at a time."""
    answer = read(_ANSWER.size + 512)
    *gpr, eip, flags, trap, error, _, count = _ANSWER.unpack_from(answer)
    before = initial_memory(case) if count or trap in (GENERAL_PROTECTION, _TIMEOUT) else {}
    changed: dict[int, int] = {}
    for _ in range(count):
        (at,) = struct.unpack("<I", read(4))
        data = read(_CHUNK)
        start, old = next((a, w) for a, w in before.items() if a <= at < a + len(w))
        changed.update({at + n: b for n, b in enumerate(data) if old[at - start + n] != b})
    end: tuple[int, int] | str = (trap, error)
    if trap == _TIMEOUT:
        end = "timeout"
    if (trap == GENERAL_PROTECTION and not case.environment.system) or (trap == _TIMEOUT and case.environment.system):
        last = eip - (trap == _TIMEOUT)  # in ring 0 the timer ends the halt
        linear = last + case.environment.segments[CS].base & 0xFFFF_FFFF
        offset = linear - CODE
        if 0 <= offset < len(before[CODE]) and changed.get(linear, before[CODE][offset]) == HLT[0]:
            end, eip = "halt", last
    return Outcome(tuple(gpr), flags & FLAGS | 2, eip, end, changed, parse_fx(answer[_ANSWER.size :]))
