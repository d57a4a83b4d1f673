"""Oracle: the snippet on plain Unicorn, in real mode or flat 32-bit protected mode."""

from __future__ import annotations

from typing import Final

from unicorn import UC_ARCH_X86, UC_HOOK_CODE, UC_HOOK_INTR, UC_MODE_16, UC_MODE_32, Uc, UcError
from unicorn import unicorn_const as uc_const
from unicorn import x86_const as x86

from tests.support.state import (
    CODE,
    FLAGS,
    HLT,
    INITIAL_FX,
    WINDOWS,
    Case,
    Outcome,
    changes,
    initial_memory,
    parse_fx,
)  # fmt: skip

INTEGER_REGISTERS: Final = tuple(
    getattr(x86, f"UC_X86_REG_{n}") for n in ("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI")
)
_SEGMENTS: Final = tuple(getattr(x86, f"UC_X86_REG_{n}") for n in ("ES", "CS", "SS", "DS", "FS", "GS"))
_AREA: Final = 0x6_0000
"""A page of the harness: FXRSTOR and FXSAVE, and their image at its middle."""
VECTORS: Final = {
    uc_const.UC_ERR_READ_UNMAPPED: 14, uc_const.UC_ERR_WRITE_UNMAPPED: 14, uc_const.UC_ERR_FETCH_UNMAPPED: 14,
    uc_const.UC_ERR_INSN_INVALID: 6,
}  # fmt: skip
DATA_RIGHTS: Final = uc_const.UC_PROT_READ | uc_const.UC_PROT_WRITE
RUNS_DATA: Final = (100 + uc_const.UC_ERR_FETCH_PROT, 0)
"""How a program ends that comes to a window of data: there is no vector for it."""
_PREFIXES: Final = bytes((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_BRANCHES: Final = bytes((*range(0x70, 0x80), *range(0xE0, 0xE4), 0xE8, 0xE9, 0xEB, 0xC2, 0xC3, 0xFF))


class PlainUnicorn:
    """One Unicorn engine of a mode; ``run_case`` as in ``BareEngine``."""

    def __init__(self, real: bool) -> None:
        self._real = real
        self._count = 0
        self._vector = -1
        self._limit = 0
        self._last = -1
        self._uc = self._engine()

    def _engine(self) -> Uc:
        """A new engine.  Unicorn never clears a pending exception, so that each fault needs one."""
        real = self._real
        uc = Uc(UC_ARCH_X86, UC_MODE_16 if real else UC_MODE_32)
        for at, size in WINDOWS:
            uc.mem_map(at, size, uc_const.UC_PROT_ALL if at == CODE else DATA_RIGHTS)
        uc.mem_map(_AREA, 0x1000)
        # In real mode the area is reached by DS = 6000h.
        address = b"\x00\x08" if real else (_AREA + 0x800).to_bytes(4, "little")
        restore, save = (0x0E, 0x06) if real else (0x0D, 0x05)
        uc.mem_write(_AREA, b"\x0f\xae" + bytes((restore,)) + address)
        uc.mem_write(_AREA + 0x10, b"\x0f\xae" + bytes((save,)) + address)
        self._fx_length = 3 + len(address)
        uc.reg_write(x86.UC_X86_REG_CR4, 0x600)
        uc.reg_write(x86.UC_X86_REG_CR0, 0x30 if real else 0x31)
        self._hook(uc)
        return uc

    def _hook(self, uc: Uc) -> None:
        uc.hook_add(UC_HOOK_CODE, self._on_code)
        uc.hook_add(UC_HOOK_INTR, self._on_interrupt)

    def _on_code(self, uc: Uc, address: int, size: int, data: object) -> None:
        if address == self._last and self._repeats(address, size):
            return
        self._last = address
        self._count += 1
        if self._count > self._limit:
            uc.emu_stop()

    def _repeats(self, address: int, size: int) -> bool:
        """The instruction runs again: a round of REP, or begun anew because it stored into its own block."""
        code = bytes(self._uc.mem_read(address, size)).lstrip(_PREFIXES)
        return not (code[:1] in _BRANCHES or (code[:1] == b"\x0f" and 0x80 <= code[1] <= 0x8F))

    def _on_interrupt(self, uc: Uc, number: int, data: object) -> None:
        self._vector = number
        uc.emu_stop()

    def _fx(self, at: int) -> None:
        self._limit = self._count + 10
        self._uc.emu_start(_AREA + at, _AREA + at + self._fx_length)

    def _segments(self, values: tuple[int, ...]) -> None:
        for register, value in zip(_SEGMENTS, values, strict=True):
            self._uc.reg_write(register, value)

    def run_cases(self, cases: list[Case]) -> list[Outcome]:
        return [self.run_case(case) for case in cases]

    def run_case(self, case: Case) -> Outcome:
        uc = self._uc
        before = initial_memory(case)
        for at, data in before.items():
            uc.mem_write(at, data)
        uc.ctl_flush_tb()
        uc.mem_write(_AREA + 0x800, case.fx or INITIAL_FX)
        selectors = tuple(s.base >> 4 for s in case.environment.segments)
        if self._real:
            self._segments((0x6000,) * 6)
        self._fx(0)
        if self._real:
            self._segments(selectors)
        for register, value in zip(INTEGER_REGISTERS, case.gpr, strict=True):
            uc.reg_write(register, value)
        uc.reg_write(x86.UC_X86_REG_EFLAGS, case.flags & FLAGS | (0x3202 if case.environment.v86 else 0x202))
        self._count, self._vector, self._limit, self._last = 0, -1, case.max_insns, -1
        error = 0
        try:
            uc.emu_start(case.at, 0xFFFF_FFFF)
        except UcError as failure:
            error = failure.errno
        count = self._count
        after = {at: bytes(uc.mem_read(at, size)) for at, size in WINDOWS}
        eip = uc.reg_read(x86.UC_X86_REG_EIP)
        gpr = tuple(uc.reg_read(r) for r in INTEGER_REGISTERS)
        flags = uc.reg_read(x86.UC_X86_REG_EFLAGS)
        base = case.environment.segments[1].base
        begun = self._last == base + eip & 0xFFFF_FFFF  # else it could not be fetched
        if self._vector >= 0:
            end: tuple[int, int] | str = (self._vector, 0)
            count -= 1
        elif error:
            end = (VECTORS.get(error, 100 + error), 0)
            count -= begun
        elif count > case.max_insns:
            end = "timeout"
            count -= 1
        else:
            end = "halt"
            last = eip - 1
            at = base + last & 0xFFFF_FFFF
            if any(start <= at < start + size for start, size in WINDOWS) and uc.mem_read(at, 1) == HLT:
                eip, count = last, count - 1
        if self._real:
            self._segments((0x6000,) * 6)
        fx = None
        if end in ("halt", "timeout"):
            self._fx(0x10)
            fx = parse_fx(bytes(uc.mem_read(_AREA + 0x800, 512)))
        else:
            self._uc = self._engine()
        return Outcome(gpr, flags & FLAGS | 2, eip, end, changes(before, after), fx, count)
