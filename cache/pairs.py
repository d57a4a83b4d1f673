"""Pairs: two fragments in one slot of a lookup table, told apart by a few host instructions.

The low 16 bits of an address choose the slot, so that two targets may want the same.  The slot then holds a stub that
compares the whole address with that of the later one, without a flag being touched, and goes to either; the earlier
one verifies itself, as a fragment alone in its slot does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cache.memory import CodeMemory
from cache.tables import SLOTS, LookupTables

if TYPE_CHECKING:
    from cache.cache import Placed

SIZE = 28


class Pair(NamedTuple):
    """The stub at *offset* in code memory."""

    offset: int
    later: Placed
    earlier: Placed


def stub(address: int, later: Placed, earlier: Placed) -> bytes:
    """The stub's code for host *address*: r8d holds the target, r9 is free."""
    code = b"\x49\x89\xc9"  # mov r9, rcx
    code += b"\x41\x8d\x88" + (-later.linear & 0xFFFF_FFFF).to_bytes(4, "little")  # lea ecx, [r8 - linear]
    code += b"\xe3\x08"  # jrcxz to the second half
    for target in (earlier.address, later.entry):
        code += b"\x4c\x89\xc9\xe9"  # mov rcx, r9; jmp
        code += (target - address - len(code) - 4).to_bytes(4, "little", signed=True)
    return code


class Pairs:
    """All pairs by slot."""

    def __init__(
        self,
        code: memoryview,
        base: int,
        memory: CodeMemory,
        tables: LookupTables,
        discard: Callable[[int, int], None],
    ) -> None:
        self._code = code
        self._base = base
        self._memory = memory
        self._tables = tables
        self._discard = discard
        self._of: dict[int, Pair] = {}
        self._in_table: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def holds(self, slot: int, placed: Placed) -> bool:
        """Whether *placed* is one of the pair in this slot."""
        pair = self._of.get(slot)
        return pair is not None and (pair.later is placed or pair.earlier is placed)

    def join(self, slot: int, placed: Placed, other: Placed | None) -> None:
        """Let the slot lead to *placed*, and still to *other*, or to what last came into the pair that it holds."""
        pair = self._of.get(slot)
        if pair is not None:
            other = pair.later
            self._free(slot)
        found = self._memory.allocate(SIZE) if other is not None and other is not placed else None
        if found is None or other is None:
            self._tables.fill(slot, placed.address)
            return
        offset, reused = found
        address = self._base + offset
        if reused:
            self._discard(address, address + SIZE)
        self._code[offset : offset + SIZE] = stub(address, placed, other)
        self._of[slot] = Pair(offset, placed, other)
        self._in_table.setdefault(slot // SLOTS, set()).add(slot)
        self._tables.fill(slot, address)

    def leave(self, slot: int, placed: Placed) -> None:
        """Let the slot lead to the other one of its pair only."""
        pair = self._of[slot]
        self._free(slot)
        self._tables.fill(slot, (pair.earlier if pair.later is placed else pair.later).address)

    def forget(self, table: int) -> None:
        """The table's slots are about to be overwritten."""
        for slot in sorted(self._in_table.get(table, ())):
            self._free(slot)

    def _free(self, slot: int) -> None:
        pair = self._of.pop(slot)
        self._in_table[slot // SLOTS].discard(slot)
        self._memory.free(pair.offset, SIZE)
