"""Recording: what a translation stores about the CPU before each instruction, in a ring of records.

A record is ``RECORD_SIZE`` bytes, little-endian::

    u64  instructions retired before this one (48 bits), and IF_WORD
    8u32 EAX ECX EDX EBX ESP EBP ESI EDI
    u32  CF PF AF ZF SF DF OF as in RFLAGS (other bits mean nothing)
    u32  SYSTEM_FLAGS
    6u16 selectors of ES CS SS DS FS GS
    u32  number of the site: which instruction it is

The vCPU block's RING word is where the next record goes.  Behind the ring nothing is mapped, so that a full one is a
page fault at the first store of a record.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from translator import layout
from translator.assembler import asm

RECORD: Final = struct.Struct("<Q8III6HI")
RECORD_SIZE: Final = RECORD.size
COUNT_MASK: Final = (1 << 48) - 1
_GPR: Final = 8
_FLAGS: Final = 40
_SYSTEM: Final = 44
_SELECTORS: Final = 48
_SITE: Final = 60
_REFUND: Final = 0x11
_NUMBER: Final = 0x22334455
"""Where the count's correction and the site's number stand in the template."""
_NAMES: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")


def _template() -> bytes:
    lines = [
        f"mov r9, [r15+{layout.RING}]",
        f"mov r8, [r15+{layout.INSN_BASE}]",
        f"mov r10, r14; not r10; lea r8, [r8+r10+{_REFUND}]; mov [r9], r8",  # INSN_BASE - r14 - refund
        *(f"mov [r9+{_GPR + 4 * n}], {name}" for n, name in enumerate(_NAMES)),
        f"mov r8, rsp; lea rsp, [r9+{_FLAGS + 8}]; pushfq; mov rsp, r8",
        f"mov r8d, [r15+{layout.SYSTEM_FLAGS}]; mov [r9+{_SYSTEM}], r8d",
        f"movzx r8d, word ptr [r15+{layout.IF_WORD}]; mov [r9+6], r8w",
        *(f"movzx r8d, word ptr [r15+{layout.SELECTOR + 8 * n}]; mov [r9+{_SELECTORS + 2 * n}], r8w" for n in range(6)),
        f"mov dword ptr [r9+{_SITE}], {_NUMBER}",
        f"lea r9, [r9+{RECORD_SIZE}]; mov [r15+{layout.RING}], r9",
    ]
    return asm(";".join(lines))


_CODE: Final = _template()
_HEAD: Final = asm(f"mov r9, [r15+{layout.RING}]; mov r8, [r15+{layout.INSN_BASE}]; mov r10, r14; not r10")
_REFUND_AT: Final = len(_HEAD) + len(asm(f"lea r8, [r8+r10+{_REFUND}]")) - 1
_NUMBER_AT: Final = _CODE.index(_NUMBER.to_bytes(4, "little"))
assert _CODE[_REFUND_AT] == _REFUND


def recorder(refund: int, site: int) -> bytes:
    """Code that stores a record; *refund* instructions of the block have not retired.  It changes r8, r9, r10."""
    code = bytearray(_CODE)
    code[_REFUND_AT] = 1 - refund & 0xFF
    code[_NUMBER_AT : _NUMBER_AT + 4] = site.to_bytes(4, "little")
    return bytes(code)


class Site(NamedTuple):
    """An instruction that is recorded."""

    eip: int
    code: bytes
    """Its bytes."""
    code32: bool


class Sites:
    """The instructions that records name, numbered from 0 as they are translated."""

    def __init__(self) -> None:
        self.known: list[Site] = []
        self._numbers: dict[Site, int] = {}

    def number(self, site: Site) -> int:
        """The number of *site*."""
        number = self._numbers.get(site)
        if number is None:
            number = self._numbers[site] = len(self.known)
            self.known.append(site)
        return number
