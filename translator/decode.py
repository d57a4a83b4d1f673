"""Guest bytes to decoded instructions.

Capstone finds where instructions end (``boundaries``); the rule table says what they are (``decode``).
Where the two disagree on a length the table wins: it is what the translation is made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import capstone

from translator.layout import CS, DS, ES, FS, GS, SS
from translator.rules import MEDIA_SIZES, TABLE, Row, lookup

MAX_LENGTH: Final = 15
"""The longest instruction, in bytes; a longer one raises #GP(0) (SDM vol. 2, 2.3.11)."""

_SEGMENT_OF_PREFIX: Final = {0x26: ES, 0x2E: CS, 0x36: SS, 0x3E: DS, 0x64: FS, 0x65: GS}
_LEGACY_PREFIXES: Final = frozenset((*_SEGMENT_OF_PREFIX, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_SIZES: Final = {"": 0, "b": 1, "w": 2, "d": 4, "q": 8, "o": 16, "t": 10, "s": 6, "x": 512}


class Truncated(Exception):
    """The bytes end inside the instruction: more are needed."""


class Undefined(Exception):
    """No such instruction: #UD.  ``length`` is what was read of it, in bytes."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length


class TooLong(Exception):
    """More than 15 bytes: #GP(0)."""


class Insn:
    """A decoded instruction."""

    __slots__ = (
        "adsize",
        "base",
        "disp",
        "far_selector",
        "imm",
        "index",
        "length",
        "lock",
        "map",
        "mem",
        "mod",
        "modrm",
        "opcode",
        "opsize",
        "prefixes",
        "raw",
        "reg",
        "rep",
        "rm",
        "row",
        "scale",
        "seg",
        "seg_override",
        "size",
        "tail",
    )  # fmt: skip

    raw: bytes
    length: int
    prefixes: int  # bytes of prefixes before the opcode
    row: Row
    map: int
    opcode: int
    opsize: int  # operand size in bytes: 2 or 4
    adsize: int  # address size in bytes: 2 or 4
    lock: bool
    rep: int  # 0, F2h or F3h
    modrm: int
    mod: int
    reg: int
    rm: int
    mem: bool  # it has a ModRM memory operand
    base: int  # of the memory operand: register number, or -1
    index: int  # register number, or -1
    scale: int  # 0..3: the index is shifted left by it
    disp: int  # displacement, sign-extended
    seg: int  # segment of the memory operand (or of a string's source)
    seg_override: int  # segment prefix, or -1
    imm: int  # immediate, sign-extended for "b" and relative ones; far offset; address; RET's count
    far_selector: int  # of a far pointer; ENTER's level
    size: int  # bytes of the memory operand
    tail: bytes  # immediate bytes as they stand

    def __repr__(self) -> str:
        return f"<{self.row.name} {self.raw.hex(' ')}>"


_ADDRESS16: Final = ((3, 6), (3, 7), (5, 6), (5, 7), (6, -1), (7, -1), (5, -1), (3, -1))


def decode(code: bytes, code32: bool) -> Insn:
    """Decode the first instruction of *code*.

    Raises ``Truncated``, ``Undefined`` or ``TooLong``.
    """
    insn = Insn()
    opsize = adsize = 4 if code32 else 2
    rep = 0
    lock = has66 = False
    override = -1
    at = 0
    try:
        byte = code[at]
        while byte in _LEGACY_PREFIXES:
            if byte == 0x66:
                opsize = 2 if code32 else 4
                has66 = True
            elif byte == 0x67:
                adsize = 2 if code32 else 4
            elif byte == 0xF0:
                lock = True
            elif byte >= 0xF2:
                rep = byte
            else:
                override = _SEGMENT_OF_PREFIX[byte]
            at += 1
            if at >= MAX_LENGTH:
                raise TooLong
            byte = code[at]
        prefixes = at
        at += 1
        map_ = 0
        if byte == 0x0F:
            map_ = 1
            byte = code[at]
            at += 1
        entry = TABLE[map_][byte]
        if entry.by_modrm is None:
            raise Undefined(at)
        modrm = 0
        if entry.modrm:
            modrm = code[at]
            at += 1
        mandatory = "3" if rep == 0xF3 else "2" if rep == 0xF2 else "6" if has66 else "."
        row = lookup(map_, byte, modrm, mandatory)
        if row is None or row.treatment == "undefined":
            raise Undefined(at)
        mod, reg, rm = modrm >> 6, modrm >> 3 & 7, modrm & 7
        mem = row.modrm and mod != 3 and not (map_ and 0x20 <= byte <= 0x23)
        base = index = -1
        scale = disp = 0
        seg = DS
        if mem:
            width = 0
            if adsize == 4:
                base = rm
                if rm == 4:
                    sib = code[at]
                    at += 1
                    scale, index, base = sib >> 6, sib >> 3 & 7, sib & 7
                    if index == 4:
                        index = -1
                if base == 5 and mod == 0:
                    base, width = -1, 4
                elif mod:
                    width = 1 if mod == 1 else 4
                if base in (4, 5):
                    seg = SS
            else:
                base, index = _ADDRESS16[rm]
                if rm == 6 and mod == 0:
                    base, width = -1, 2
                elif mod:
                    width = mod
                if base == 5:
                    seg = SS
            if width:
                if at + width > len(code):
                    raise Truncated
                disp = int.from_bytes(code[at : at + width], "little", signed=True)
                at += width
        if override >= 0:
            seg = override
        start = at
        imm = far = 0
        kind = row.imm
        if kind:
            if kind == "b":
                imm, at = int.from_bytes(code[at : at + 1], "little", signed=True), at + 1
            elif kind == "z":
                imm, at = int.from_bytes(code[at : at + opsize], "little", signed=True), at + opsize
            elif kind == "w":
                imm, at = int.from_bytes(code[at : at + 2], "little"), at + 2
            elif kind == "a":
                imm, at = int.from_bytes(code[at : at + adsize], "little"), at + adsize
            elif kind == "p":
                imm = int.from_bytes(code[at : at + opsize], "little")
                far = int.from_bytes(code[at + opsize : at + opsize + 2], "little")
                at += opsize + 2
            else:
                imm = int.from_bytes(code[at : at + 2], "little")
                far = int.from_bytes(code[at + 2 : at + 3], "little")
                at += 3
    except IndexError:
        if len(code) >= MAX_LENGTH:
            raise TooLong from None
        raise Truncated from None
    if at > MAX_LENGTH:
        raise TooLong
    if at > len(code):
        raise Truncated
    if lock and not (row.lock and mem):
        raise Undefined(at)
    insn.raw = code[:at]
    insn.length = at
    insn.prefixes = prefixes
    insn.row = row
    insn.map = map_
    insn.opcode = byte
    insn.opsize = opsize
    insn.adsize = adsize
    insn.lock = lock
    insn.rep = rep
    insn.modrm, insn.mod, insn.reg, insn.rm = modrm, mod, reg, rm
    insn.mem = mem
    insn.base, insn.index, insn.scale, insn.disp = base, index, scale, disp
    insn.seg, insn.seg_override = seg, override
    insn.imm, insn.far_selector = imm, far
    insn.tail = code[start:at]
    size = row.size
    insn.size = _SIZES[size] if size in _SIZES else _sized(size, opsize)
    if map_ and row.prefixes:
        insn.size = MEDIA_SIZES.get((byte, mandatory), insn.size)
    return insn


def _sized(size: str, opsize: int) -> int:
    """Bytes of an operand whose size follows the operand-size attribute."""
    return {"v": opsize, "p": opsize + 2, "a": 2 * opsize, "e": 7 * opsize, "n": 80 + 7 * opsize}[size]


_engines: Final[dict[bool, capstone.Cs]] = {}


def boundaries(code: bytes, address: int, code32: bool, count: int = 0) -> Iterator[int]:
    """Lengths in bytes of the first *count* instructions of *code* (0: of all), as Capstone sees them.

    Ends where Capstone cannot decode or the bytes run out.
    """
    engine = _engines.get(code32)
    if engine is None:
        engine = _engines[code32] = capstone.Cs(
            capstone.CS_ARCH_X86, capstone.CS_MODE_32 if code32 else capstone.CS_MODE_16
        )
    for _, length, _, _ in engine.disasm_lite(code, address, count):
        yield length


def disassemble(code: bytes, address: int, code32: bool) -> list[tuple[int, str]]:
    """(address, text) of each instruction of *code*, for people."""
    mode = capstone.CS_MODE_32 if code32 else capstone.CS_MODE_16
    engine = capstone.Cs(capstone.CS_ARCH_X86, mode)
    return [(at, f"{name} {operands}".rstrip()) for at, _, name, operands in engine.disasm_lite(code, address)]


def disassemble_host(code: bytes) -> list[tuple[int, str]]:
    """(offset, text) of each host instruction of *code*, for people."""
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return [(at, f"{name} {operands}".rstrip()) for at, _, name, operands in engine.disasm_lite(code, 0)]


UNDEFINED: Final = Row(0, 0, None, "", "(undefined)", "undefined", "", False, "", "", "n", False, False, "", "")
"""The row of what has no row: #UD."""


def decoded(code: bytes, code32: bool) -> Insn:
    """The instruction at the start of *code*; what is none has the row ``UNDEFINED``.  ``Truncated``, ``TooLong``."""
    try:
        return decode(code, code32)
    except Undefined as undefined:
        insn = Insn()
        insn.raw = code[: undefined.length]
        insn.length = undefined.length
        insn.row = UNDEFINED
        return insn
