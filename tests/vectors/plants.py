"""Deliberate faults, one in a rule: what each does wrong, and the instruction of the guest that shows it in a trace.

Emitted rules get a decoded instruction that is slightly another one; a callout's answer is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Final, NamedTuple

import pytest

from translator.decode import Insn
from translator.layout import CF, EAX, FS, GS, ZF
from translator.mode import Mode
from translator.piece import Piece
from translator.rules import rows
from translator.unit import TREATMENTS
from vmm.callouts import HANDLERS
from vmm.vcpu import VCpu

Mutation = Callable[[Insn], None]
Change = Callable[[VCpu, Insn], None]


class Plant(NamedTuple):
    """A fault in the rules of *keys* (opcodes as Intel prints them)."""

    group: str
    keys: tuple[str, ...]
    asm: str
    """The guest's line; several instructions where it needs a state."""
    shown: str
    """What the trace calls the instruction that is wrong."""
    mutation: Mutation | None = None
    change: Change | None = None
    """Done after the handler of a callout."""


def put(name: str, value: int) -> Mutation:
    """The field has another value."""
    return lambda insn: setattr(insn, name, value)


def flip(name: str, bits: int) -> Mutation:
    """Bits of the field are inverted."""
    return lambda insn: setattr(insn, name, getattr(insn, name) ^ bits)


def more(name: str, by: int = 1) -> Mutation:
    """The field is too large."""
    return lambda insn: setattr(insn, name, getattr(insn, name) + by)


def tail(bits: int) -> Mutation:
    """The last byte, which is copied, has inverted bits."""
    return lambda insn: setattr(insn, "tail", insn.tail[:-1] + bytes((insn.tail[-1] ^ bits,)))


def modrm(bits: int) -> Mutation:
    """Another register operand."""

    def mutate(insn: Insn) -> None:
        insn.modrm ^= bits
        insn.reg ^= bits >> 3 & 7
        insn.rm ^= bits & 7

    return mutate


def fs_for_gs(insn: Insn) -> None:
    """FS is loaded instead of GS."""
    if insn.reg == GS:
        insn.reg = FS


def register(n: int, bits: int) -> Change:
    """A register is wrong after the callout."""

    def change(cpu: VCpu, insn: Insn) -> None:
        cpu.gpr[n] ^= bits

    return change


def flags(bits: int) -> Change:
    """Flags are wrong after the callout."""

    def change(cpu: VCpu, insn: Insn) -> None:
        cpu.eflags ^= bits

    return change


def result(cpu: VCpu, insn: Insn) -> None:
    """The register operand is wrong after the callout."""
    cpu.gpr[insn.reg] ^= 1


PLANTS: Final[dict[str, Plant]] = {
    "ADD adds the carry": Plant("copy", ("01",), "stc; add eax, ebx", "add eax, ebx", flip("opcode", 0x10)),
    "IMUL of 32 bits with a 16-bit operand": Plant(
        "copy", ("0F AF",), "mov cx, 0x7ff1; imul ecx, ecx", "imul ecx, ecx", put("opsize", 2)
    ),
    "SHL shifts by one more": Plant("copy", ("C1 /4",), "shl eax, 2", "shl eax, 2", tail(1)),
    "NEG is NOT": Plant("copy", ("F7 /3",), "neg edx", "neg edx", modrm(0x08)),
    "XCHG with another register": Plant("copy", ("87",), "xchg ebx, esi", "xchg esi, ebx", modrm(0x01)),
    "BSWAP of the neighbour": Plant("copy", ("0F C8", "0F CA"), "bswap edx", "bswap edx", flip("opcode", 1)),
    "a load from one byte above": Plant("memory", ("8B",), "mov ebx, [data + 4]", "mov ebx", more("disp")),
    "MOVZX extends the sign": Plant("memory", ("0F B6",), "movzx ecx, byte [data]", "movzx ecx", flip("opcode", 8)),
    "LEA with twice the scale": Plant("memory", ("8D m",), "lea eax, [ebx + esi * 2]", "lea eax", flip("scale", 1)),
    "MOV AL, moffs from one byte above": Plant("memory", ("A0",), "mov al, [data+2]", "mov al", more("imm")),
    "XCHG with memory by one byte above": Plant("memory", ("86",), "xchg cl, [data+9]", "xchg byte", more("disp")),
    "JE is JNE": Plant("control flow", ("74",), "cmp eax, eax; je j1; nop; j1: nop", "je", flip("opcode", 1)),
    "JL is JLE": Plant("control flow", ("0F 8C",), "cmp eax, eax; jl near j2; nop; j2: nop", "jl", flip("opcode", 2)),
    "CALL to one byte beyond": Plant("control flow", ("E8",), "call f", "call", more("imm")),
    "RET n takes four bytes more": Plant("control flow", ("C2",), "push 1; call f2", "ret 4", more("imm", 4)),
    "JMP by another register": Plant(
        "control flow", ("FF /4",), "mov eax, j3; mov ecx, j3 + 1; jmp eax; j3: nop; nop", "jmp eax", modrm(0x01)
    ),
    "LOOP is LOOPE": Plant(
        "control flow", ("E2",), "mov ecx, 2; test ecx, ecx; loop j4; nop; j4: nop", "loop", flip("opcode", 3)
    ),
    "PUSH r of 16 bits": Plant("stack", ("53",), "push ebx; lea esp, [esp+4]", "push ebx", put("opsize", 2)),
    "POP of the neighbour": Plant("stack", ("5A",), "push 77; pop edx", "pop edx", flip("opcode", 1)),
    "POPA of 16 bits": Plant("stack", ("61",), "pusha; popa; mov esp, stack", "popal", put("opsize", 2)),
    "LEAVE of 16 bits": Plant(
        "stack", ("C9",), "push 5; mov ebp, esp; leave; mov esp, stack", "leave", put("opsize", 2)
    ),
    "ENTER with a larger frame": Plant("stack", ("C8",), "enter 16, 0; mov esp, stack", "enter", more("imm", 4)),
    "STC is CLC": Plant("flags", ("F9",), "stc", "stc", flip("opcode", 1)),
    "SAHF is LAHF": Plant("flags", ("9E",), "mov ah, 0xd5; sahf", "sahf", flip("opcode", 1)),
    "SETcc of the opposite": Plant("flags", ("0F 92",), "stc; setb dl", "setb dl", flip("opcode", 1)),
    "RCL is RCR": Plant("flags", ("D1 /2",), "stc; mov eax, 1; rcl eax, 1", "rcl eax", modrm(0x08)),
    "POPF of 16 bits": Plant("flags", ("9D",), "push 0x46; popf; mov esp, stack", "popf", put("opsize", 2)),
    "MOV r, Sreg of another": Plant("segment", ("8C",), "mov eax, cs", "mov eax, cs", flip("reg", 2)),
    "PUSH Sreg of 16 bits": Plant("segment", ("1E",), "push ds; mov esp, stack", "push ds", put("opsize", 2)),
    "MOV Sreg into another": Plant("segment", ("8E",), "mov eax, 0x20; mov gs, ax", "mov gs", fs_for_gs),
    "LSL gives one more": Plant("segment", ("0F 03",), "mov ecx, 16; lsl edx, ecx", "lsl edx", change=result),
    "LDS with a wrong offset": Plant("segment", ("C5 m",), "lds esi, [pointer]", "lds esi", change=result),
    "JMP far loses a flag": Plant("segment", ("EA",), "jmp 8:j5; j5: nop", "ljmp", change=flags(CF)),
    "AAD of another base": Plant("arithmetic callouts", ("D5",), "mov eax, 0x305; aad", "aad", change=register(EAX, 1)),
    "DAA without the carry": Plant("arithmetic callouts", ("27",), "mov al, 0x9a; daa", "daa", change=flags(CF)),
    "BT sets the bit": Plant("copy", ("0F A3",), "xor edx, edx; bt edx, ebx", "bt edx", flip("opcode", 0x08)),
    "MOV r, DR is for everybody": Plant(
        "privileged callouts", ("0F 21",), "mov eax, dr4", "mov eax, dr", change=result
    ),
    "IN is for everybody": Plant(
        "privileged callouts", ("EC",), "mov dx, 0x80; in al, dx", "in al", change=register(EAX, 4)
    ),
    "RDMSR is for everybody": Plant(
        "privileged callouts", ("0F 32",), "mov ecx, 0x10; rdmsr", "rdmsr", change=register(EAX, 0x100_0000)
    ),
    "CLTS is for everybody": Plant("privileged callouts", ("0F 06",), "cmp eax, eax; clts", "clts", change=flags(ZF)),
    "LODS of 16 bits": Plant("strings", ("AD",), "mov esi, data; lodsd", "lodsd", put("opsize", 2)),
    "REP STOS once": Plant("strings", ("AB",), "mov ecx, 3; mov edi, data; rep stosd", "rep stosd", put("rep", 0)),
    "CMPS is SCAS": Plant("strings", ("A6",), "mov esi, data; mov edi, data + 8; cmpsb", "cmpsb", flip("opcode", 8)),
    "MOVSB is MOVSD": Plant("strings", ("A4",), "mov esi, data; mov edi, data + 64; movsb", "movsb", flip("opcode", 1)),
    "CVTTSS2SI rounds": Plant("media", ("0F 2C",), "cvttss2si eax, [half]", "cvttss2si", flip("opcode", 1)),
    "UCOMISS of other registers": Plant(
        "media", ("0F 2E",), "movss xmm0, [half]; ucomiss xmm0, xmm1", "ucomiss", modrm(0x09)
    ),
}
"""By what is wrong."""
_FOR_EVERYBODY: Final = "privileged callouts"


def apply(plant: Plant, patch: pytest.MonkeyPatch) -> None:
    """Put the fault in; *patch* takes it out again."""
    if plant.mutation is not None:
        right, mutation = dict(TREATMENTS), plant.mutation

        def make_piece(insn: Insn, mode: Mode) -> Piece:
            if insn.row.key in plant.keys:
                insn = copy(insn)
                mutation(insn)
            return right[insn.row.treatment](insn, mode)

        for treatment in right:
            patch.setitem(TREATMENTS, treatment, make_piece)
        return
    change = plant.change
    assert change is not None
    how = next(row.how for row in rows() if row.key in plant.keys)
    handler = HANDLERS[how]

    def wrong(cpu: VCpu, insn: Insn) -> None:
        ring = cpu.cpl
        if plant.group == _FOR_EVERYBODY:
            cpu.cpl = 0
        try:
            handler(cpu, insn)
        finally:
            if plant.group == _FOR_EVERYBODY:
                cpu.cpl = ring
        if insn.row.key in plant.keys:
            change(cpu, insn)

    patch.setitem(HANDLERS, how, wrong)
