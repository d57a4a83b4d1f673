"""Snippets of ring 0: system instructions between those that read back what they did, and put it back.

What differs among machines (where tables and page directories stand) is not left in a register or in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Final

from keystone import KS_ARCH_X86, KS_MODE_32, Ks

from tests.support.state import CODE, DATA, DATA_END, STACK, Case, Environment
from tests.vectors.vector import Vector
from translator.assembler import in_hexadecimal
from translator.rules import Row

AT: Final = CODE + 0x100
_MEMORY: Final = DATA + 0x400
_READ_CR0: Final = "mov ecx, cr0"
_PUT_BACK: Final = "push 0x202; popfd"


def _flip(register: str, bit: int) -> str:
    """Flip a bit, read it back into ECX, and flip it again."""
    turn = f"xor eax, {bit}; mov {register}, eax"
    return f"mov eax, {register}; {turn}; mov ecx, {register}; {turn}"


def _flags(value: int) -> str:
    return f"push {value}; popfd; pushfd; pop ecx; {_PUT_BACK}"


def _msr(number: int) -> str:
    back = "xor eax, eax; xor edx, edx; wrmsr"
    return f"mov ecx, {number}; mov edx, 0; wrmsr; xor eax, eax; rdmsr; mov esi, eax; {back}"


def _table(digit: int) -> str:
    """SGDT, SIDT, LGDT or LIDT of 32 bits, which Keystone has with 16 alone."""
    return f".byte 0x0f, 0x01, {5 | digit << 3}; .long {_MEMORY}"


_CONTROL: Final = (
    *("clts; " + _flip("cr0", bit) for bit in (0x2, 0x4, 0x8, 0x20, 0x1_0000, 0x4_0000, 0x4000_0000)),
    "clts; mov eax, cr0; and eax, 0xffffffef; mov cr0, eax; mov ecx, cr0",
    "mov eax, 0x80000010; mov cr0, eax",
    "clts; mov eax, cr0; or eax, 0x20000000; mov cr0, eax",
    "mov cr2, eax; mov ecx, cr2",
    "mov eax, cr3; mov cr3, eax; xor eax, eax",
    *(_flip("cr4", bit) for bit in (0x1, 0x2, 0x4, 0x8, 0x80, 0x100)),
    "mov eax, cr4; or eax, 0x80000000; mov cr4, eax",
    ".byte 0x0f, 0x22, 0xc8",
    ".byte 0x0f, 0x22, 0xe8",
)
_DEBUG: Final = (
    *(f"mov dr{n}, eax; mov ecx, dr{n}; xor eax, eax; mov dr{n}, eax" for n in range(4)),
    "and eax, 0xffff0fff; mov dr6, eax; mov ecx, dr6",
    "and eax, 0xffffd700; mov dr7, eax; mov ecx, dr7; xor eax, eax; mov dr7, eax",
    ".byte 0x0f, 0x23, 0xe0; mov ecx, dr6",
)
_TABLES: Final = "xor eax, eax; mov [{m}], eax; mov [{m} + 4], eax"

SNIPPETS: Final[dict[str, tuple[str, ...]]] = {
    "0F 06": (f"mov eax, cr0; or eax, 8; mov cr0, eax; clts; {_READ_CR0}", f"clts; clts; {_READ_CR0}"),
    "0F 20": ("clts; mov ecx, cr0", "mov ecx, cr4", ".byte 0x0f, 0x20, 0xc8", ".byte 0x0f, 0x20, 0xf8"),
    "0F 22": _CONTROL,
    "0F 21": ("mov ecx, dr7", "mov ecx, dr0", ".byte 0x0f, 0x21, 0xf9"),
    "0F 23": _DEBUG,
    "0F 01 /6": tuple(
        f"clts; mov eax, {value}; lmsw ax; {_READ_CR0}; clts; mov eax, 3; lmsw ax" for value in (0, 1, 2, 4, 8, 0xFFF0)
    ),
    "0F 01 /7 m": ("invlpg [ebx]", f"invlpg [{DATA_END}]", "invlpg [eax + 4]"),
    "0F 01 /0 m": (f"sgdt [{_MEMORY}]; {_TABLES}", f"sgdt [{DATA_END} - 3]"),
    "0F 01 /1 m": (f"sidt [{_MEMORY}]; {_TABLES}", f"sidt [{DATA_END} - 3]"),
    "0F 01 /2 m": (
        f"{_table(0)}; {_table(2)}; {_TABLES}; mov ecx, ds; mov ds, ecx", f"lgdt [{DATA_END} - 3]",
    ),
    "0F 01 /3 m": (f"{_table(1)}; {_table(3)}; {_TABLES}", f"lidt [{DATA_END} - 3]"),
    "0F 01 /4": ("clts; smsw ecx", f"clts; smsw word ptr [{_MEMORY}]"),
    "0F 00 /2": (
        "xor eax, eax; lldt ax; sldt ecx",
        *(f"mov eax, {selector}; lldt ax" for selector in (0x08, 0x10, 0x0C, 0x1000, 0xFFFB)),
        f"lldt word ptr [{DATA_END}]",
    ),
    "0F 00 /3": tuple(f"mov eax, {selector}; ltr ax" for selector in (0x08, 0x10, 0x0C, 0x1000, 0xFFFB)),
    "0F 00 /0": ("xor eax, eax; lldt ax; sldt ecx", f"xor eax, eax; lldt ax; sldt word ptr [{_MEMORY}]"),
    "0F 00 /4": tuple(f"mov eax, {selector}; verr ax" for selector in (0, 8, 9, 0x10, 0x13, 0x1000)),
    "0F 00 /5": tuple(f"mov eax, {selector}; verw ax" for selector in (0, 8, 9, 0x10, 0x13, 0x1000)),
    "0F 02": tuple(f"mov eax, {selector}; lar ecx, eax" for selector in (0, 8, 9, 0x10, 0x13, 0x1000)),
    "0F 03": tuple(f"mov eax, {selector}; lsl ecx, eax" for selector in (0, 8, 9, 0x10, 0x13, 0x1000)),
    "0F 08": ("invd",),
    "0F 09": ("wbinvd",),
    "0F 30": (_msr(0x174), _msr(0x175), _msr(0x176), "mov ecx, 0x12345678; wrmsr"),
    "0F 32": ("mov ecx, 0x175; rdmsr", "mov ecx, 0x12345678; rdmsr"),
    "0F 34": ("sysenter",),
    "0F 35": ("sysexit",),
    "FA": (f"cli; pushfd; pop ecx; {_PUT_BACK}", f"cli; cli; pushfd; pop ecx; {_PUT_BACK}"),
    "FB": ("cli; sti; pushfd; pop ecx", "sti; pushfd; pop ecx"),
    "9C": ("pushfd; pop ecx", ".byte 0x66, 0x9c; pop cx"),
    "9D": tuple(_flags(n) for n in (0, 0x202, 0x8D5, 0x3000, 0x4002, 0x4_0202, 0x20_0202, 0x1_0202, 0x3_7FD5 & ~0x100)),
    "F4": ("hlt", "inc eax; hlt; inc eax"),
    "CF": (
        "pushfd; push 8; push {at} + 32; iretd; " + "nop; " * 32,
        "push 0x3246; push 8; push {at} + 32; iretd; " + "nop; " * 24 + f"pushfd; pop ecx; {_PUT_BACK}",
        "push 0x202; push 0x10; push {at}; iretd",
        "push 0x202; push 0x1000; push {at}; iretd",
    ),
    "CB": ("push 8; push {at} + 16; retf; " + "nop; " * 16, "push 0x10; push {at}; retf", "push 0; push {at}; retf"),
    "EA": (".byte 0xea; .long {at} + 16; .short 8; " + "nop; " * 16, ".byte 0xea; .long {at}; .short 0x10"),
    "9A": (".byte 0x9a; .long {at} + 16; .short 8; " + "nop; " * 16, ".byte 0x9a; .long {at}; .short 0x1000"),
    "8E": tuple(
        f"mov eax, {n}; mov {s}, eax; mov ecx, {s}" for s in ("ds", "ss", "gs") for n in (0, 0x10, 0x11, 8, 0x1000)
    ),
    "8C": ("mov ecx, cs", "mov ecx, ss", f"mov word ptr [{_MEMORY}], ds"),
    "1F": ("push 0x10; .byte 0x1f; mov ecx, ds", "push 0; .byte 0x1f; mov ecx, ds", "push 0x1000; .byte 0x1f"),
    "EC": ("mov edx, 0x9000; in al, dx",),
    "ED": ("mov edx, 0x9000; in eax, dx", "mov edx, 0x9000; in ax, dx"),
    "EE": ("mov edx, 0x80; out dx, al",),
    "E6": ("out 0x80, al",),
    "6C": (f"mov edx, 0x9000; mov edi, {_MEMORY}; mov ecx, 5; rep insb", f"mov edx, 0x9000; mov edi, {DATA_END}; insb"),
    "6D": (f"mov edx, 0x9000; mov edi, {_MEMORY}; mov ecx, 3; rep insd",),
    "6E": (f"mov edx, 0x80; mov esi, {_MEMORY}; mov ecx, 5; rep outsb", f"mov edx, 0x80; mov esi, {DATA_END}; outsb"),
    "0F 0B": ("ud2",),
}  # fmt: skip
"""By the opcode as Intel prints it."""


@cache
def _assembler() -> Ks:
    return Ks(KS_ARCH_X86, KS_MODE_32)


def vectors(row: Row, environment: Environment, count: int) -> Iterator[Vector]:
    """*count* vectors of each snippet of *row*, which differ in their registers."""
    for n, snippet in enumerate(SNIPPETS[row.key]):
        source = snippet.replace("{at}", str(AT)).replace("{m}", str(_MEMORY))
        code = bytes(_assembler().asm(in_hexadecimal(source), AT)[0])
        for turn in range(count):
            dice = Random(f"{row.key} {n} {turn}")
            gpr = [dice.getrandbits(32) for _ in range(8)]
            gpr[4] = STACK + 0x800
            gpr[3] = dice.choice((DATA, DATA + 0xFFF, 0, 0xFFFF_FFFF))
            flags = dice.getrandbits(12) & 0xCD5
            yield Vector(row, Case(code, environment, tuple(gpr), flags, at=AT, max_insns=300), 0, False)
