"""A piece: the translation of one guest instruction, before it is placed in a fragment."""

from __future__ import annotations

from typing import Final

from translator.decode import Insn
from translator.operand import Branch, Emitter

PLAIN: Final = 0
ENDS: Final = 1
ATTENTION: Final = 2
LEAVES: Final = 3
GONE: Final = 4
CALLOUT: Final = 5
BRANCH: Final = 6
ONWARD: Final = 7
"""What follows a piece in its block:

PLAIN      the next instruction
ENDS       the next instruction, in a block of its own (the budget must be exact here)
ATTENTION  as ENDS, after a look whether an interrupt waits (the guest may have set IF)
LEAVES     what the lookup table has for the EIP in r10d
GONE       nothing: the code goes elsewhere by itself
CALLOUT    the VMM
BRANCH     chained exits
ONWARD     the next instruction, in another unit
"""
ENDS_UNIT: Final = (CALLOUT, LEAVES, GONE, ONWARD)
"""Behind these nothing follows but what a branch goes to."""


class Piece:
    """Code that may stand anywhere, and what to know of it."""

    __slots__ = ("branches", "code", "fixes", "insn", "kind", "length", "shadow", "stores", "treatment")

    def __init__(
        self, insn: Insn, kind: int, emitter: Emitter | None, shadow: bool = False, stores: bool = False
    ) -> None:
        self.insn = insn
        self.kind = kind
        self.length = insn.length
        """Bytes of the guest's instruction."""
        self.treatment = "callout" if kind == CALLOUT else insn.row.treatment
        self.code = bytes(emitter.code) if emitter else b""
        self.fixes: tuple[tuple[int, int, str], ...] = tuple(emitter.fixes) if emitter else ()
        self.branches: tuple[Branch, ...] = tuple(emitter.branches) if emitter else ()
        self.shadow = shadow
        """Interrupts are held off until after the next instruction (STI, MOV SS, POP SS)."""
        self.stores = stores
        """It may write guest memory."""
