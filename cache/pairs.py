"""Pairs: two fragments in one slot of a lookup table, told apart by a few host instructions.

The low 16 bits of an address choose the slot, so that two targets may want the same.  The slot then holds a stub that
compares the whole address with that of the later one, without a flag being touched, and goes to either; the earlier
one verifies itself, as a fragment alone in its slot does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cache.memory import CodeMemory
from cache.tables import SLOTS, LookupTables
from translator import layout

if TYPE_CHECKING:
    from cache.cache import Placed

SIZE: Final = 43
_SAVE: Final = b"\x49\x89\xc9"  # mov r9, rcx
_RESTORE: Final = b"\x4c\x89\xc9"  # mov rcx, r9
_INDEX: Final = b"\x45\x0f\xb7\xc8"  # movzx r9d, r8w
_STORE_DELTA: Final = b"\x41\xc7\x87" + layout.DELTA.to_bytes(4, "little")  # mov dword ptr [r15 + DELTA], imm32


class Pair:
    """The stub at *offset* in code memory."""

    __slots__ = ("delta", "earlier", "later", "offset")

    def __init__(self, offset: int, later: Placed, delta: int, earlier: Placed) -> None:
        self.offset = offset
        self.later = later
        self.delta = delta
        """What the later one adds to its EIPs; the earlier one's stands in the table."""
        self.earlier = earlier


def stub(address: int, later: Placed, delta: int, earlier: Placed) -> bytes:
    """The stub's code for host *address*: r8d holds the target, r9 its slot, r10 the table."""
    linear = later.linear + delta
    code = _SAVE + b"\x41\x8d\x88" + (-linear & 0xFFFF_FFFF).to_bytes(4, "little")  # lea ecx, [r8 - linear]
    code += b"\xe3\x0c" + _RESTORE + _INDEX  # jrcxz to the second half
    code += b"\xe9" + (earlier.address - address - len(code) - 5).to_bytes(4, "little", signed=True)
    code += _RESTORE + _STORE_DELTA + delta.to_bytes(4, "little")
    return code + b"\xe9" + (later.entry - address - len(code) - 5).to_bytes(4, "little", signed=True)


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

    def leads(self, slot: int, placed: Placed, delta: int) -> bool:
        """Whether *placed* is one of the pair in this slot, and stands where *delta* says."""
        pair = self._of.get(slot)
        if pair is None:
            return False
        later = pair.later is placed and pair.delta == delta
        return later or (pair.earlier is placed and self._tables.delta(slot) == delta)

    def join(self, slot: int, placed: Placed, delta: int, other: Placed | None) -> None:
        """Let the slot lead to *placed*, and still to *other*, or to what last came into the pair that it holds."""
        pair = self._of.get(slot)
        others_delta = self._tables.delta(slot)
        if pair is not None:
            other, others_delta = pair.later, pair.delta
            self._free(slot)
        found = self._memory.allocate(SIZE) if other is not None and other is not placed else None
        if found is None or other is None:
            self._tables.fill(slot, placed.address, delta)
            return
        offset, reused = found
        address = self._base + offset
        if reused:
            self._discard(address, address + SIZE)
        self._code[offset : offset + SIZE] = stub(address, placed, delta, other)
        self._of[slot] = Pair(offset, placed, delta, other)
        self._in_table.setdefault(slot // SLOTS, set()).add(slot)
        self._tables.fill(slot, address, others_delta)

    def leave(self, slot: int, placed: Placed) -> None:
        """Let the slot lead to the other one of its pair only."""
        pair = self._of[slot]
        self._free(slot)
        if pair.later is placed:
            self._tables.fill(slot, pair.earlier.address, self._tables.delta(slot))
        else:
            self._tables.fill(slot, pair.later.address, pair.delta)

    def forget(self, table: int) -> None:
        """The table's slots are about to be overwritten."""
        for slot in sorted(self._in_table.get(table, ())):
            self._free(slot)

    def _free(self, slot: int) -> None:
        pair = self._of.pop(slot)
        self._in_table[slot // SLOTS].discard(slot)
        self._memory.free(pair.offset, SIZE)
