"""Host instructions as bytes.  Keystone assembles each text of glue once; nothing is assembled twice."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from keystone import KS_ARCH_X86, KS_MODE_64, Ks

_DECIMAL: Final = re.compile(r"(?<![\w.])[0-9]{2,}(?![\w.])")


@cache
def _engine() -> Ks:
    return Ks(KS_ARCH_X86, KS_MODE_64)


def in_hexadecimal(source: str) -> str:
    """*source* with its decimal numbers written as 0x...

    Keystone 0.9.2 reads 16 as 0x16 in some processes: the radix of its lexer depends on what its memory held before.
    """
    return _DECIMAL.sub(lambda number: hex(int(number[0])), source)


@cache
def asm(source: str) -> bytes:
    """The bytes of 64-bit host *source* (Intel syntax, instructions parted by ``;``)."""
    code, _ = _engine().asm(in_hexadecimal(source).encode(), 0, True)
    return bytes(code)
