"""Long REP MOVS, REP STOS and REPE CMPS in flat segments, many bytes at a time.

The host runs one element of a repeated instruction at a time, some 5 ns each.  So when the count is large, DF is clear
and the operands do not overlap within a chunk, a loop works on chunks of 64 (or 32) bytes, and the plain instruction,
which always follows, finds what is left.  Registers move on after each chunk, as an interrupt would find them.  A fault
in the loop that is not the shadow's alone is no fault yet: the VMM goes on at the loop's end, and the plain instruction
takes it at the very element (``"tail"`` among the fixes).
"""

from __future__ import annotations

from typing import Final

from translator import layout
from translator.assembler import asm
from translator.decode import Insn
from translator.operand import Emitter

_CHUNK: Final = {"movs": 64, "stos": 64, "cmps": 32}
_NAMES: Final = {0xA4: "movs", 0xA6: "cmps", 0xAA: "stos"}
_REPE: Final = 0xF3
_SAVE: Final = asm("mov r10, rax; lahf; seto al")
_RESTORE: Final = asm("add al, 0x7f; sahf; mov rax, r10")
_KEEP: Final = asm("mov r8, rax; lahf; seto al; mov r10, rax; mov rax, r8")
"""The flags, as LAHF and SETO give them, in r10."""
_COUNT_BACK: Final = asm("mov rcx, r9")
_DIRECTION: Final = asm(
    f"mov rcx, r9; mov r10, rax; lahf; seto al; mov r8, rsp; lea rsp, [r15+{layout.STACK_TOP}]; pushfq; mov rsp, r8;"
    f"test byte ptr [r15+{layout.STACK_TOP - 7}], 4"
)
"""Flags are saved, and tested for DF."""
_NEAR: Final = asm("mov r8d, edi; sub r8d, esi; add r8d, 63; cmp r8d, 126")
"""Below or equal: the operands lie less than 64 bytes apart."""
_PATTERNS: Final = {
    1: asm("movzx r9d, r10b; movabs r8, 0x0101010101010101; imul r9, r8"),
    2: asm("movzx r9d, r10w; movabs r8, 0x0001000100010001; imul r9, r8"),
    4: asm("mov r9d, r10d; movabs r8, 0x0000000100000001; imul r9, r8"),
}
_BODIES: Final = {
    "movs": asm("".join(f"mov r9, [rsi+{at}]; mov [rdi+{at}], r9;" for at in range(0, 64, 8))),
    "stos": asm("".join(f"mov [rdi+{at}], r9;" for at in range(0, 64, 8))),
    "cmps": asm(
        "mov r9, [rsi]; xor r9, [rdi]; mov r8, [rsi+8]; xor r8, [rdi+8]; or r9, r8; mov r8, [rsi+16];"
        "xor r8, [rdi+16]; or r9, r8; mov r8, [rsi+24]; xor r8, [rdi+24]; or r9, r8"
    ),
}
_JNE: Final = 0x85
_JBE: Final = 0x86
_JAE: Final = 0x83


def applies(insn: Insn) -> bool:
    """Whether the repeated *insn* is one of these."""
    name = _NAMES.get(insn.opcode & 0xFE)
    return name is not None and (name != "cmps" or insn.rep == _REPE)


def comparison(e: Emitter, plain: bytes) -> None:
    """A repeated CMPS or SCAS: a fault leaves the flags as they were before it (SDM vol. 2, REP)."""
    e.code += _KEEP
    start = len(e.code)
    e.code += plain
    e.fixes.append((start, len(e.code), "flags"))


def emit(e: Emitter, insn: Insn, plain: bytes) -> None:
    """The loop over chunks, and then the *plain* instruction."""
    name = _NAMES[insn.opcode & 0xFE]
    size = insn.opsize if insn.opcode & 1 else 1
    chunk = _CHUNK[name]
    elements = chunk // size
    # With fewer than two chunks (one, for MOVS and STOS of bytes) nothing of this pays.  No flag may change yet.
    # So the count is shifted right by memory: SHRX would raise #NM under the guest's CR0.TS in Unicorn.
    shifted = layout.SCRATCH + 8
    e.glue(
        f"lea r8, [rcx*{4 if size == 1 else 8}]; mov [r15+{shifted}], r8; mov r9d, [r15+{shifted + 1}]; xchg rcx, r9"
    )
    small = _forward(e, b"\xe3")
    saved = len(e.code) + len(_COUNT_BACK) + len(_SAVE)
    e.code += _DIRECTION
    tails = [_jcc(e, _JNE)]
    if name == "movs":
        e.code += _NEAR
        tails.append(_jcc(e, _JBE))
    if name == "stos":
        e.code += _PATTERNS[size]
    loop = len(e.code)
    e.code += _BODIES[name]
    if name == "cmps":
        tails.append(_jcc(e, _JNE))
    moves = "add edi, {0};" if name == "stos" else "add esi, {0}; add edi, {0};"
    # REPE CMPS leaves at least one element to the plain instruction, whose flags are those of the last comparison.
    least = elements + (name == "cmps")
    e.glue(f"{moves.format(chunk)} sub ecx, {elements}; cmp ecx, {least}")
    again = _jcc(e, _JAE)
    e.code[again : again + 4] = (loop - again - 4).to_bytes(4, "little", signed=True)
    tail = len(e.code)
    for at in tails:
        e.code[at : at + 4] = (tail - at - 4).to_bytes(4, "little")
    e.code += _RESTORE
    e.fixes += [(loop, tail, "tail"), (saved, len(e.code), "saved")]
    done = _forward(e, b"\xeb")
    _land(e, small)
    e.code += _COUNT_BACK
    _land(e, done)
    if name == "cmps":
        comparison(e, plain)
    else:
        e.code += plain


def _jcc(e: Emitter, opcode: int) -> int:
    """Append Jcc rel32; where its displacement stands."""
    e.code += bytes((0x0F, opcode)) + b"\0\0\0\0"
    return len(e.code) - 4


def _forward(e: Emitter, opcode: bytes) -> int:
    """Append a jump of 8 bits or 32, to be landed: JRCXZ reaches further by a jump behind it."""
    if opcode == b"\xe3":
        e.code += b"\xe3\x02\xeb\x05"  # jrcxz to the jump behind the next
    e.code += b"\xe9\0\0\0\0"
    return len(e.code) - 4


def _land(e: Emitter, at: int) -> None:
    """Let the jump whose displacement stands at *at* lead here."""
    e.code[at : at + 4] = (len(e.code) - at - 4).to_bytes(4, "little")
