"""IN and OUT in the TC: ports that kernels use all the time, in states in which an access changes nothing else.

The VMM says what such a port reads, and until when, and hears later of what was written (``vmm.quickports``).  In any
other state, or if the deadline is near, or somebody looks on, the access is the VMM's.  Either way the guest cannot
tell: it takes the same time, and the unit ends behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from translator import layout
from translator.decode import Insn
from translator.expand.system import time_in
from translator.operand import Emitter
from translator.piece import ONWARD

QUICK: Final = ("post", "pic", "pit", "port61")
"""The devices that have such ports; there is a count of accesses for each (``layout.PORT_COUNTS``)."""
assert layout.PORT_COUNTS + 8 * len(QUICK) <= layout.POST_RING

PIT_HZ: Final = 1_193_182
SECOND: Final = 1_000_000_000
REFRESH_PULSES: Final = 18
"""Clock pulses of the 8254 between two refreshes of memory, as ``devices.ports`` has it."""

_BELOW: Final = 0x2
_NOT_BELOW: Final = 0x3
_EQUAL: Final = 0x4
_NOT_EQUAL: Final = 0x5
_KEPT: Final = layout.SCRATCH


def _leave_if(e: Emitter, condition: int) -> None:
    """The access is the VMM's; AX holds the flags, r10 holds RAX."""
    e.branch_if(condition, "callout", 0, restore=True)


def _leave_unless_quiet(e: Emitter) -> None:
    e.glue(f"cmp byte ptr [r15+{layout.PIC_QUIET}], 0")
    _leave_if(e, _EQUAL)


def _leave_if_late(e: Emitter, until: int) -> None:
    """Guest time in r8, unless it is that of [r15 + *until*] or later."""
    time_in(e, "r8", layout.NOW_BASE)
    e.glue(f"cmp r8, [r15+{until}]")
    _leave_if(e, _NOT_BELOW)


def _divide(e: Emitter, divisor: int) -> None:
    """r8 becomes r8 * PIT_HZ // *divisor*; r9 changes."""
    e.glue(
        f"mov [r15+{_KEPT}], rax; mov [r15+{_KEPT + 8}], rdx; mov rax, r8; mov r9d, {PIT_HZ}; mul r9;"
        f"movabs r9, {divisor}; div r9; mov r8, rax; mov rax, [r15+{_KEPT}]; mov rdx, [r15+{_KEPT + 8}]"
    )


def _post(e: Emitter) -> None:
    """OUT 80h: a POST code."""
    count = layout.PORT_COUNTS + 8 * QUICK.index("post")
    e.glue(f"mov r9d, [r15+{count}]; and r9d, {layout.POST_CODES - 1}; mov byte ptr [r15+r9+{layout.POST_RING}], r10b")


def _end_of_interrupt(e: Emitter) -> None:
    """OUT 20h: OCW2, an end of interrupt, specific (60h + level) or not (20h); nothing else."""
    _leave_unless_quiet(e)
    e.glue(
        "movzx r8d, r10b; and r8d, 7; xor r9d, r9d; bts r9d, r8d; movzx r8d, r10b; and r8d, 0xf8; cmp r8d, 0x20;"
        f"cmove r9d, dword ptr [r15+{layout.PIC_TOP}]; and r8d, 0xbf; cmp r8d, 0x20"
    )
    _leave_if(e, _NOT_EQUAL)
    e.glue("test r9d, r9d")
    _leave_if(e, _EQUAL)
    e.glue(f"not r9d; and byte ptr [r15+{layout.PIC_ISR}], r9b; mov dword ptr [r15+{layout.PIC_TOP}], 0")


def _mask(e: Emitter) -> None:
    """OUT 21h: OCW1, the interrupt mask; nothing requests an interrupt that it could let through."""
    _leave_unless_quiet(e)
    e.glue(f"mov byte ptr [r15+{layout.PIC_IMR}], r10b")


def _read_mask(e: Emitter) -> None:
    """IN 21h."""
    _leave_unless_quiet(e)
    e.glue(f"movzx r8d, byte ptr [r15+{layout.PIC_IMR}]")


def _read_counter(n: int) -> Callable[[Emitter], None]:
    def read(e: Emitter) -> None:
        """IN 40h..42h: the low and the high byte of a count in turn."""
        high = layout.PIT_HIGH + n
        _leave_if_late(e, layout.PIT_UNTIL + 8 * n)
        _divide(e, SECOND)
        e.glue(
            f"mov r9, [r15+{layout.PIT_COUNT + 8 * n}]; sub r9, r8; mov [r15+{_KEPT}], r9;"
            f"movzx r9d, byte ptr [r15+{high}]; xor byte ptr [r15+{high}], 1;"
            f"movzx r8d, byte ptr [r15+r9+{_KEPT}]"
        )

    return read


def _read_port61(e: Emitter) -> None:
    """IN 61h: what was written, OUT of counter 2, and a bit that every refresh of memory toggles."""
    _leave_if_late(e, layout.PORT61_UNTIL)
    _divide(e, SECOND * REFRESH_PULSES)
    e.glue(f"and r8d, 1; shl r8d, 4; or r8b, byte ptr [r15+{layout.PORT61_BITS}]")


_READS: Final[dict[int, tuple[str, Callable[[Emitter], None]]]] = {
    0x21: ("pic", _read_mask),
    **{0x40 + n: ("pit", _read_counter(n)) for n in range(3)},
    0x61: ("port61", _read_port61),
}
_WRITES: Final[dict[int, tuple[str, Callable[[Emitter], None]]]] = {
    0x20: ("pic", _end_of_interrupt),
    0x21: ("pic", _mask),
    0x80: ("post", _post),
}


def _access(e: Emitter, insn: Insn, table: dict[int, tuple[str, Callable[[Emitter], None]]]) -> int | None:
    mode = e.mode
    found = table.get(insn.imm & 0xFF)
    if found is None or not mode.io or mode.v86 or not mode.tsc or mode.step or mode.record or not mode.bulk:
        return None
    device, emit = found
    e.glue(f"mov r10, rax; lahf; seto al; cmp r14, [r15+{layout.PORT_FLOOR}]")
    _leave_if(e, _BELOW)
    emit(e)
    e.glue("add al, 0x7f; sahf; mov rax, r10")
    if table is _READS:
        e.glue("mov al, r8b")
    e.glue(f"mov r9, [r15+{layout.PORT_TIME}]; lea r14, [r14+r9]")
    for count in (layout.PORT_ACCESSES, layout.PORT_COUNTS + 8 * QUICK.index(device)):
        e.glue(f"mov r9, [r15+{count}]; lea r9, [r9+1]; mov [r15+{count}], r9")
    return ONWARD


def in_imm(e: Emitter, insn: Insn) -> int | None:
    """IN AL, imm8."""
    return _access(e, insn, _READS)


def out_imm(e: Emitter, insn: Insn) -> int | None:
    """OUT imm8, AL."""
    return _access(e, insn, _WRITES)
