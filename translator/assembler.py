"""Host instructions as bytes.  Keystone assembles each text of glue once; nothing is assembled twice."""

from __future__ import annotations

from functools import cache

from keystone import KS_ARCH_X86, KS_MODE_64, Ks


@cache
def _engine() -> Ks:
    return Ks(KS_ARCH_X86, KS_MODE_64)


@cache
def asm(source: str) -> bytes:
    """The bytes of 64-bit host *source* (Intel syntax, instructions parted by ``;``)."""
    code, _ = _engine().asm(source.encode(), 0, True)
    return bytes(code)
