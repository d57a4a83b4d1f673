"""A record: what the CPU was at an instruction count."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

HASH_SIZE = 8
MAX_CODE = 15
"""Bytes of the longest instruction."""
_STATE = struct.Struct("<Q14I6H")
RECORD = struct.Struct(f"<Q14I6H{HASH_SIZE}sBB{MAX_CODE}s")
CODE32 = 1
"""Flag of a record: the instruction is 32-bit code."""

REGISTERS = (
    *("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"),
    *("eip", "eflags", "cr0", "cr2", "cr3", "cr4"),
    *("es", "cs", "ss", "ds", "fs", "gs"),
)
"""The registers of a record, in their order in the file."""
_CS, _EIP = REGISTERS.index("cs"), REGISTERS.index("eip")


@dataclass(frozen=True, slots=True)
class Record:
    """The CPU after *insns* instructions: what it is before the next one."""

    insns: int
    registers: tuple[int, ...]
    """The values of ``REGISTERS``."""
    chain: bytes
    """The hash over this record's state and the hash of the record before; empty at the instruction level."""
    code: bytes = b""
    """The instruction that comes next, at the instruction level; empty if it could not be read."""
    code32: bool = True

    @classmethod
    def after(
        cls, before: bytes, insns: int, registers: tuple[int, ...], code: bytes = b"", code32: bool = True
    ) -> Record:
        """The record that follows one whose hash is *before*."""
        state = _STATE.pack(insns, *registers)
        return cls(insns, registers, blake2b(before + state, digest_size=HASH_SIZE).digest(), code, code32)

    @property
    def state(self) -> tuple[int, tuple[int, ...], bytes]:
        """What has to agree."""
        return self.insns, self.registers, self.chain

    @property
    def address(self) -> str:
        """CS:EIP as people write it."""
        return f"{self.registers[_CS]:04x}:{self.registers[_EIP]:08x}"

    def pack(self) -> bytes:
        """The record as it stands in the file, uncompressed."""
        flags = CODE32 if self.code32 else 0
        return RECORD.pack(self.insns, *self.registers, self.chain, flags, len(self.code), self.code)

    @classmethod
    def unpack(cls, values: Sequence[Any]) -> Record:
        """What ``pack`` packed."""
        count = len(REGISTERS)
        insns, registers = values[0], tuple(values[1 : count + 1])
        chain, flags, length, code = values[count + 1 :]
        return cls(insns, registers, chain, code[:length], bool(flags & CODE32))
