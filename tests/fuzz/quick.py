"""Plain Unicorn without a hook on every instruction: for programs that are known to end.  It counts nothing."""

from __future__ import annotations

from typing import Final

from unicorn import UC_HOOK_INTR, Uc, UcError
from unicorn import x86_const as x86

from tests.support.plain import INTEGER_REGISTERS, VECTORS, PlainUnicorn
from tests.support.state import FLAGS, HLT, WINDOWS, Case, Outcome, changes, initial_memory
from translator.layout import CS

RUNAWAY: Final = 200_000
"""Instructions, each round of REP counted, after which a program does not end."""


class QuickUnicorn(PlainUnicorn):
    """One engine for all programs of a mode: what a fault leaves behind goes with the saved context."""

    def _engine(self) -> Uc:
        uc = super()._engine()
        self._pristine = uc.context_save()
        return uc

    def _hook(self, uc: Uc) -> None:
        uc.hook_add(UC_HOOK_INTR, self._on_interrupt)

    def run_case(self, case: Case) -> Outcome:
        """Run *case*; media registers are not loaded, nor read."""
        uc = self._uc
        before = initial_memory(case)
        for at, data in before.items():
            uc.mem_write(at, data)
        uc.ctl_flush_tb()
        uc.context_restore(self._pristine)
        if self._real:
            self._segments(tuple(s.base >> 4 for s in case.environment.segments))
        for register, value in zip(INTEGER_REGISTERS, case.gpr, strict=True):
            uc.reg_write(register, value)
        uc.reg_write(x86.UC_X86_REG_EFLAGS, case.flags & FLAGS | 0x202)
        self._vector, error = -1, 0
        try:
            uc.emu_start(case.at, 0xFFFF_FFFF, count=RUNAWAY)
        except UcError as failure:
            error = failure.errno
        after = {at: bytes(uc.mem_read(at, size)) for at, size in WINDOWS}
        eip = uc.reg_read(x86.UC_X86_REG_EIP)
        gpr = tuple(uc.reg_read(r) for r in INTEGER_REGISTERS)
        flags = uc.reg_read(x86.UC_X86_REG_EFLAGS)
        if self._vector >= 0:
            end: tuple[int, int] | str = (self._vector, 0)
        elif error:
            end = (VECTORS.get(error, 100 + error), 0)
        else:
            last = eip - 1
            halted = self._is_halt(case.environment.segments[CS].base + last & 0xFFFF_FFFF)
            end, eip = ("halt", last) if halted else ("runaway", eip)
        return Outcome(gpr, flags & FLAGS | 2, eip, end, changes(before, after))

    def _is_halt(self, linear: int) -> bool:
        return any(at <= linear < at + size for at, size in WINDOWS) and self._uc.mem_read(linear, 1) == HLT
