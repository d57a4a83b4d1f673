"""The fixed code of the translation cache: how emitted code and the VMM hand the CPU to each other."""

from __future__ import annotations

from itertools import accumulate
from typing import Final, NamedTuple

from translator import crossings, layout
from translator.assembler import asm
from vmm.host import EXIT_VECTOR

_NAMES: Final = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")


class Stubs(NamedTuple):
    """Host addresses of the stubs."""

    exit: int
    """Saves the guest's registers and flags in the vCPU block and calls the VMM."""
    miss: int
    """As ``exit``, for an indirect branch to the linear address in r8d that no fragment answers to."""
    resume: int
    """Loads the guest's registers and flags from the vCPU block and jumps to RESUME."""
    sysenter: int
    sysexit: int
    at_cpl0: int
    at_cpl3: int
    """See ``translator.crossings``."""
    size: int
    """Bytes of all stubs."""


def build(base: int) -> tuple[bytes, Stubs]:
    """The stubs' code for host address *base*, and where each stands."""
    miss = asm(f"mov [r15+{layout.TARGET}], r8; mov dword ptr [r15+{layout.EXIT_ID}], 0")
    save = "; ".join(f"mov [r15+{layout.GPR + 8 * n}], {name}" for n, name in enumerate(_NAMES))
    leave = asm(
        f"{save}; mov [r15+{layout.BUDGET}], r14; lea rsp, [r15+{layout.STACK_TOP}]; pushfq;"
        f"pop qword ptr [r15+{layout.FLAGS}]; int {EXIT_VECTOR}"
    )
    load = "; ".join(f"mov {name}, [r15+{layout.GPR + 8 * n}]" for n, name in enumerate(_NAMES) if name != "rsp")
    bases = "; ".join(
        f"mov {register}, [r15+{layout.SEG_BASE + 8 * n}]"
        for n, register in ((layout.ES, "r11"), (layout.SS, "r12"), (layout.DS, "r13"))
    )
    resume = asm(
        f"lea rsp, [r15+{layout.STACK_TOP}]; push qword ptr [r15+{layout.FLAGS}]; popfq;"
        f"mov r14, [r15+{layout.BUDGET}];"
        f"{bases}; {load}; mov rsp, [r15+{layout.GPR + 8 * layout.ESP}]; jmp [r15+{layout.RESUME}]"
    )
    crossing = (crossings.sysenter(), crossings.sysexit(), crossings.at_cpl0(), crossings.at_cpl3())
    parts = (miss, leave, resume, *map(asm, crossing))
    at_miss, at_leave, at_resume, sysenter, sysexit, at_cpl0, at_cpl3, end = accumulate(map(len, parts), initial=base)
    return b"".join(parts), Stubs(at_leave, at_miss, at_resume, sysenter, sysexit, at_cpl0, at_cpl3, end - base)
