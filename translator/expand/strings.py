"""String instructions: MOVS, CMPS, STOS, LODS and SCAS."""

from __future__ import annotations

from typing import Final

from translator import bulk, layout
from translator.decode import Insn
from translator.layout import ES
from translator.mode import CHECKED, FLAT, WORD
from translator.operand import BASE_REGISTER, Emitter
from translator.piece import PLAIN

_SOURCE: Final = 1
_DESTINATION: Final = 2
_COMPARISONS: Final = (0xA6, 0xAE)
_STRING_USES: Final = {0xA4: 3, 0xA6: 3, 0xAA: 2, 0xAC: 1, 0xAE: 2}


def string(e: Emitter, insn: Insn) -> int | None:
    """MOVS CMPS STOS LODS SCAS.

    In flat segments with 32-bit addresses the host runs them, REP included.  Otherwise a single step is run
    on linear addresses in RSI and RDI, and the offsets are put back; REP is the VMM's.  It is under EFLAGS.TF too:
    the trap comes after each step.
    """
    if (insn.rep and e.mode.step) or (e.mode.align and insn.opcode & 1):
        return None
    uses = _STRING_USES[insn.opcode & 0xFE]
    segments = e.mode.segments
    prefix = (b"\x66" if insn.opsize == 2 and insn.opcode & 1 else b"") + (bytes((insn.rep,)) if insn.rep else b"")
    flat = (not uses & _SOURCE or segments[insn.seg] == FLAT) and (not uses & _DESTINATION or segments[ES] == FLAT)
    if flat and insn.adsize == 4:
        plain = b"\x67" + prefix + bytes((insn.opcode,))
        if insn.rep and e.mode.bulk and bulk.applies(insn):
            bulk.emit(e, insn, plain)
        elif insn.rep and insn.opcode & 0xFE in _COMPARISONS:
            bulk.comparison(e, plain)
        else:
            e.code += plain
        return PLAIN
    if (
        insn.rep
        or (uses & _SOURCE and segments[insn.seg] == CHECKED)
        or (uses & _DESTINATION and segments[ES] == CHECKED)
    ):
        return None
    narrow = insn.adsize == 2
    if not narrow and WORD in (segments[insn.seg], segments[ES]):
        return None
    fixes = []
    moves = []
    for used, low, pointer, saved, seg in (
        (_SOURCE, "si", 6, "r9", insn.seg),
        (_DESTINATION, "di", 7, "r10", ES),
    ):
        if uses & used:
            moves.append((low, pointer, saved, seg))
            fixes.append(f"r{low}={saved}")
    for low, _, saved, _ in moves:
        e.glue(f"mov {saved}, r{low}")
    for low, _, _, seg in moves:
        e.glue(f"movzx r8d, {low}" if narrow else f"mov r8d, e{low}")
        if segments[seg] == FLAT:
            e.glue(f"mov r{low}, r8")
        elif seg in BASE_REGISTER:
            e.glue(f"lea r{low}, [r8+r{BASE_REGISTER[seg]}]")
        else:
            e.glue(f"mov r{low}, [r15+{layout.SEG_BASE + 8 * seg}]; lea r{low}, [r{low}+r8]")
    start = len(e.code)
    e.code += (b"\x66" if insn.opsize == 2 and insn.opcode & 1 else b"") + bytes((insn.opcode,))
    e.fixes.append((start, len(e.code), ",".join(fixes)))
    for low, _, saved, seg in moves:
        e.glue(f"mov r8, [r15+{layout.NEG_BASE + 8 * seg}]; lea r8, [r{low}+r8]")
        e.glue(f"mov r{low}, {saved}; mov {low}, r8w" if narrow else f"mov e{low}, r8d")
    return PLAIN
