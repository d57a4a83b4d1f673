"""QEMU's blocks, some in advance: where the next interrupt comes is known before our machine is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from translator.layout import IF_FLAG
from vmm.trace.qemu import Block
from vmm.trace.records import REGISTERS

STRIDE = 8192
"""Blocks that are known in advance, and with them the instructions that may run between comparisons."""
_EIP, _ESP, _EFLAGS, _SS = (REGISTERS.index(name) for name in ("eip", "esp", "eflags", "ss"))
_FRAME = 6
"""Bytes that a real-mode interrupt pushes."""


class Ahead:
    """QEMU's blocks, as many in advance as are needed."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._known: deque[Block] = deque()
        self._marks: deque[int] = deque()
        self._rounds = self._begun = 0
        self._last = -1
        self._fill()

    def _fill(self) -> None:
        """Know STRIDE blocks of which each has an instruction of its own, or four times as many rounds of a loop."""
        known = self._known
        while self._begun - self._rounds < STRIDE and len(known) < 4 * STRIDE:
            if (block := next(self._blocks, None)) is None:
                break
            eip = block.registers[_EIP]
            self._begun += eip != self._last
            self._last = eip
            if block.vector is not None:
                self._marks.append(self._begun)
            known.append(block)

    @property
    def next(self) -> Block | None:
        """The next block."""
        return self._known[0] if self._known else None

    def drop(self) -> None:
        """Go on to the block after."""
        block = self._known.popleft()
        if block.vector is not None:
            self._marks.popleft()
        if not self._known or self._known[0].registers[_EIP] != block.registers[_EIP]:
            self._rounds += 1
        self._fill()

    @property
    def safe(self) -> int:
        """So many instructions may run before the next interrupt."""
        return max((self._marks[0] if self._marks else self._begun) - self._rounds - 2, 1)

    def interrupted(self) -> tuple[int, ...] | None:
        """Where the next block, an interrupt handler's first, goes back to."""
        first = self._known[0].registers
        for block in self._known:
            found = block.registers
            if found[_ESP] == first[_ESP] + _FRAME and found[_SS] == first[_SS] and found[_EFLAGS] & IF_FLAG:
                return found
        return None
