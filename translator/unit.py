"""Translation units: a stretch of guest code becomes a fragment.

A unit starts at a guest EIP and runs on in address order over conditional branches, within one guest page,
until control surely leaves it or it is long enough.  ``translator.blocks`` makes host code of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from translator.blocks import MAX_INSNS, Blocks, target_of
from translator.decode import UNDEFINED, Insn, TooLong, Truncated, decoded
from translator.expand import EMITTERS
from translator.expand.copied import ident
from translator.fragment import Fragment
from translator.layout import SS
from translator.lengths import Lengths
from translator.mode import Mode
from translator.operand import Emitter
from translator.piece import BRANCH, CALLOUT, ENDS_UNIT, PLAIN, Piece
from translator.recording import Sites

MEMO_LIMIT: Final = 200_000
"""Remembered translations of single instructions, by bytes, in all modes together."""


def _branch(insn: Insn, mode: Mode) -> Piece:
    return Piece(insn, BRANCH, None, stores=insn.row.how.startswith("call"))


def _callout(insn: Insn, mode: Mode) -> Piece:
    return Piece(insn, CALLOUT, None)


def _emitted(insn: Insn, mode: Mode) -> Piece:
    row, e = insn.row, Emitter(mode)
    how = EMITTERS[row.how] if row.how else ident
    kind = how(e, insn)
    if kind is None:
        return Piece(insn, CALLOUT, None)
    shadow = row.how in ("mov_to_seg", "pop_seg") and (insn.reg == SS if row.modrm else insn.opcode == 0x17)
    stores = row.treatment == "emulate" or (row.stores and insn.mem)
    return Piece(insn, kind, e, shadow or row.how == "sti", stores)


TREATMENTS: Final[dict[str, Callable[[Insn, Mode], Piece]]] = {
    "ident": _emitted,
    "emulate": _emitted,
    "callout": _callout,
    "branch": _branch,
}
"""How one instruction is translated, by its treatment in the rule table."""


class Translator:
    """Translates units.  Holds no state but the memory of what it translated before."""

    def __init__(self) -> None:
        self.sites: Sites | None = None
        """The instructions of fragments that record (``Mode.record``)."""
        self._memo: dict[Mode, dict[bytes, Piece]] = {}
        self._remembered = 0
        self._lengths = {code32: Lengths(code32) for code32 in (False, True)}

    def translate(
        self,
        code: bytes,
        more: Callable[[], bytes],
        eip: int,
        mode: Mode,
        cs_base: int,
        max_insns: int = MAX_INSNS,
        single_block: bool = False,
        verify: bool = False,
        exact: bool = False,
        anywhere: bool = False,
    ) -> Fragment:
        """Translate the unit at *eip*.

        *code* holds the guest's bytes from there to the end of the page (or of the code segment); *more()* gives
        the bytes that follow, for an instruction that straddles the page's end.  *single_block* stops at the first
        branch; *verify* makes the fragment compare its source with memory each time it is entered; *exact* makes each
        instruction check the budget; *anywhere* makes code that serves at other EIPs too, in a mode that ``floats``, if
        the fragment is ``movable``.
        Raises ``Truncated`` if even with *more* the first instruction is not complete, ``TooLong``, and whatever
        *more* raises.
        """
        pieces = self._pieces(code, more, eip, mode, max_insns, single_block or verify, verify)
        unroll = not single_block and not verify and not exact and max_insns == MAX_INSNS
        sites = self.sites if mode.record else None
        return Blocks(pieces, eip, mode, cs_base, verify, unroll, exact, sites, anywhere).build()

    def _pieces(
        self, code: bytes, more: Callable[[], bytes], eip: int, mode: Mode, max_insns: int, single: bool, verify: bool
    ) -> list[tuple[int, Piece]]:
        memo = self._memo.get(mode)
        if memo is None:
            memo = self._memo[mode] = {}
        code32 = mode.code32
        pieces: list[tuple[int, Piece]] = []
        targets: set[int] = set()
        at, size = 0, len(code)
        length_at, known = self._lengths[code32].at, memo.get
        while len(pieces) < max_insns and at < size:
            length = length_at(code, at)
            piece = known(code[at : at + length]) if length else None
            if piece is None:
                piece = self._decode(code, at, more if not pieces else None, mode, memo)
                if piece is None:
                    break
            pieces.append((at, piece))
            at += piece.length
            if piece.kind == PLAIN:
                if verify and piece.stores:
                    break
                continue
            if single and not piece.shadow:
                break
            if piece.kind == BRANCH:
                target = target_of(piece.insn, eip + at) if piece.insn.row.imm and piece.insn.row.how != "ret" else None
                if target is not None:
                    targets.add(target - eip)
                if piece.insn.row.how in ("jcc", "loop"):
                    continue
            elif piece.kind not in ENDS_UNIT:
                continue
            if at not in targets:
                break
        return pieces

    def _decode(
        self, code: bytes, at: int, more: Callable[[], bytes] | None, mode: Mode, memo: dict[bytes, Piece]
    ) -> Piece | None:
        try:
            try:
                insn = decoded(code[at : at + 16], mode.code32)
            except Truncated:
                if more is None:
                    return None
                insn = decoded(code[at:] + more(), mode.code32)
            if insn.row is UNDEFINED:
                return Piece(insn, CALLOUT, None)
        except TooLong:
            if more is None:
                return None
            raise
        piece = TREATMENTS[insn.row.treatment](insn, mode)
        if self._remembered >= MEMO_LIMIT:
            for each in self._memo.values():
                each.clear()
            self._remembered = 0
        memo[insn.raw] = piece
        self._remembered += 1
        return piece
