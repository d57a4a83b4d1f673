"""Oracle: plain Unicorn in 32-bit protected mode, with the guest's own page tables.

It is none for fetches: after one that faults it looks the address up again, which raises another fault.
"""

from __future__ import annotations

import ctypes
import struct

from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_32, Uc, UcError
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from tests.mmu.machine import DIRECTORY, PAGE, POINTERS, RAM, TABLE, A, D, Format, P, U, W

CODE = 0x9000
CODE_TABLE = 0x3_0000
"""The table of the first 4 MiB (2 MiB): the code's page, for both rings."""
_SNIPPETS = {
    ("read", 1): b"\x8a\x03",  # mov al, [ebx]
    ("read", 2): b"\x66\x8b\x03",
    ("read", 4): b"\x8b\x03",
    ("write", 1): b"\x88\x03",  # mov [ebx], al
    ("write", 2): b"\x66\x89\x03",
    ("write", 4): b"\x89\x03",
}
PATTERN = 0x5A6B_7C8D
USED = (
    *((0, 0x2000), (CODE_TABLE, PAGE), (DIRECTORY, POINTERS + PAGE - DIRECTORY), (TABLE, 4 * PAGE)),
    *((0x1F_F000, 5 * PAGE), (0x3F_F000, PAGE)),
)
"""(address, size) of the memory that a case reaches."""


class Oracle:
    """One engine; ``access`` runs one access from given tables."""

    def __init__(self, form: Format) -> None:
        self.format = form
        self._uc = uc = Uc(UC_ARCH_X86, UC_MODE_32)
        uc.mem_map(0, RAM)
        self._context = ctypes.c_void_p()
        uclib.uc_context_alloc(uc._uch, ctypes.byref(self._context))
        size = uclib.uc_context_size(uc._uch)
        self._saved = memoryview((ctypes.c_char * size).from_address(self._context.value or 0)).cast("B")
        dr0, rip = self._offset(x86.UC_X86_REG_DR0), self._offset(x86.UC_X86_REG_EIP)
        self._error_at, self._pending_at, self._hflags_at = dr0 - 16, dr0 + 96, rip + 48
        uc.reg_write(x86.UC_X86_REG_CR4, (0x20 if form.pae else 0) | (0x10 if form.pse else 0))
        uc.msr_write(0xC000_0080, 0x800 if form.nxe else 0)
        self._fault: tuple[int, int] | None = None
        uc.hook_add(UC_HOOK_INTR, self._on_interrupt)

    def _offset(self, register: int) -> int:
        uc, sentinel = self._uc, 0x1122_3344
        old = uc.reg_read(register)
        uc.reg_write(register, sentinel)
        uclib.uc_context_save(uc._uch, self._context)
        uc.reg_write(register, old)
        return bytes(self._saved).find(sentinel.to_bytes(8, "little"))

    def _on_interrupt(self, uc: Uc, number: int, data: object) -> None:
        uclib.uc_context_save(uc._uch, self._context)
        (error,) = struct.unpack_from("<I", self._saved, self._error_at)
        if self._fault is None:
            self._fault = (error if number == 14 else -number, uc.reg_read(x86.UC_X86_REG_CR2))
        uc.emu_stop()

    def access(
        self, memory: memoryview, how: str, linear: int, size: int, user: bool
    ) -> tuple[tuple[int, int] | None, int, dict[int, bytes]]:
        """((error code, CR2) or None, the value read, the memory in use afterwards)."""
        uc, form = self._uc, self.format
        for start, length in USED:
            uc.mem_write(start, bytes(memory[start : start + length]))
        uc.reg_write(x86.UC_X86_REG_CR0, 0x11)
        uc.reg_write(x86.UC_X86_REG_CR3, POINTERS if form.pae else DIRECTORY)
        uc.reg_write(x86.UC_X86_REG_CR0, 0x8000_0011 | (0x1_0000 if form.wp else 0))
        uc.reg_write(x86.UC_X86_REG_EAX, PATTERN)
        uc.reg_write(x86.UC_X86_REG_EBX, linear)
        uclib.uc_context_save(uc._uch, self._context)
        self._saved[self._pending_at : self._pending_at + 4] = b"\xff\xff\xff\xff"
        at = self._hflags_at
        self._saved[at] = self._saved[at] & ~3 | (3 if user else 0)
        uclib.uc_context_restore(uc._uch, self._context)
        self._fault = None
        code = _SNIPPETS[how, size]
        uc.mem_write(CODE, code + b"\x90" * 8)
        try:
            uc.emu_start(CODE, CODE + len(code))
        except UcError as failure:
            if self._fault is None:
                raise AssertionError(f"the oracle stopped: {failure}") from failure
        return self._fault, uc.reg_read(x86.UC_X86_REG_EAX), {at: bytes(uc.mem_read(at, size)) for at, size in USED}


def code_tables(form: Format) -> dict[int, int]:
    """Entries (address, value) that map the oracle's code."""
    marks = P | W | U | A
    return {DIRECTORY: CODE_TABLE | marks, CODE_TABLE + (CODE // PAGE) * form.width: CODE | marks | D}
