"""SYSENTER and SYSEXIT inside the TC: ring crossings that the VMM has answered before.

The vCPU block holds, for either instruction, a small table by context: what the VMM found the state to be, and what it
was behind the instruction.  Emitted code goes to a stub that compares the state, copies the outcome and changes the
host's ring: down by the host's SYSRET, up by a far call through a call gate, for Unicorn's own SYSCALL and SYSENTER do
nothing.  From a state that is not in the table the stub comes back, and the VMM answers.
"""

from __future__ import annotations

from typing import Final

from translator import layout
from translator.layout import CS, ES, GS, SS
from translator.selectors import COPIED

ENTRIES: Final = 8
ENTRY_SIZE: Final = 256
TABLE_SIZE: Final = ENTRIES * ENTRY_SIZE
COMPARED: Final = (
    layout.CONTEXT,
    layout.SEG_KINDS + 8 * GS,
    layout.SYSTEM_FLAGS,
    layout.CR,
    layout.CR + 8 * 4,
)
"""What the context behind the instruction depends on: the one before it, and for SYSEXIT what that does not tell."""
SETS: Final = (
    *(at + 8 * CS for at in COPIED),
    *(at + 8 * SS for at in COPIED),
    layout.CONTEXT,
    layout.SALT,
)
"""What the instruction changes, but for the lookup table, EIP and ESP."""
FIRST_SET: Final = len(COMPARED)
TO_TABLE: Final = FIRST_SET + len(SETS)
"""Where the address of the lookup table stands, in ``layout.CONTEXT_TABLES``."""
EIP: Final = TO_TABLE + 1
ESP: Final = TO_TABLE + 2
"""SYSENTER's.  All of these are numbers of 8-byte words in an entry."""
assert 8 * (ESP + 1) <= ENTRY_SIZE

GATE_SELECTOR: Final = 0x30 + 3
KERNEL_CS: Final = 0x08
USER_BASE: Final = 0x10
"""Selectors in the host's descriptor table: code at CPL 0; what SYSRET's are counted from."""


def place(salt: int) -> int:
    """The number of the entry of a context, by its salt."""
    return salt % ENTRIES


def _look_up(table: int, compared: int) -> str:
    """Find the entry, compare the first *compared* of ``COMPARED``, copy the outcome.

    r8 is where to go if the state is not in the table.  Leaves the entry in r9, the flags in AX and RAX in r10.
    """
    compare = "; ".join(
        f"mov rcx, [r15+{at}]; cmp rcx, [r9+{8 * n}]; jne refuse" for n, at in enumerate(COMPARED[:compared])
    )
    copy = "; ".join(f"mov rcx, [r9+{8 * (FIRST_SET + n)}]; mov [r15+{at}], rcx" for n, at in enumerate(SETS))
    return (
        f"mov r10, rax; lahf; seto al; mov [r15+{layout.SCRATCH}], rcx; mov r9d, [r15+{layout.SALT}];"
        f"and r9d, {ENTRIES - 1}; shl r9d, {ENTRY_SIZE.bit_length() - 1}; lea r9, [r15+r9+{table}]; {compare}; {copy};"
        f"mov rcx, [r9+{8 * TO_TABLE}]; mov rcx, [rcx]; mov [r15+{layout.TABLE}], rcx;"
        f"mov dword ptr [r15+{layout.DELTA}], 0; mov rcx, [r15+{layout.SCRATCH}]"
    )


_REFUSE: Final = f"refuse: mov rcx, [r15+{layout.SCRATCH}]; jmp r8"
_FLAGS: Final = "add al, 0x7f; sahf; mov rax, r10"
_ON: Final = f"mov r12, [r15+{layout.SEG_BASE + 8 * SS}]; movzx r9d, r8w; mov r10, [r15+{layout.TABLE}]; jmp [r10+r9*8]"


def sysenter() -> str:
    """The stub of SYSENTER, at the host's CPL 3."""
    return (
        f"{_look_up(layout.SYSENTERS, 1)}; mov byte ptr [r15+{layout.IF}], 0;"
        f"and dword ptr [r15+{layout.SYSTEM_FLAGS}], {~layout.RF & 0xFFFF_FFFF}; mov r8d, [r9+{8 * EIP}];"
        f"mov r9d, [r9+{8 * ESP}]; {_FLAGS}; mov r10, r9; lcall [r15+{layout.GATE_POINTER}]; {_REFUSE}"
    )


def at_cpl0() -> str:
    """Where the call gate leads to: r8d is EIP, r10 ESP."""
    return f"mov rsp, r10; {_ON}"


def sysexit() -> str:
    """The stub of SYSEXIT, at the host's CPL 0."""
    return (
        f"{_look_up(layout.SYSEXITS, len(COMPARED))}; {_FLAGS}; mov r8d, edx; mov r10d, ecx;"
        f"lea rsp, [r15+{layout.STACK_TOP}]; pushfq; pop r11; mov rsp, r10; mov rcx, [r15+{layout.USER_STUB}]; sysret;"
        f"{_REFUSE}"
    )


def at_cpl3() -> str:
    """Where SYSRET leads to: r8d is EIP, r10 ECX, which is ESP too."""
    return f"mov rcx, r10; mov r11, [r15+{layout.SEG_BASE + 8 * ES}]; {_ON}"
