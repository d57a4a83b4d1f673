"""The fixed code of the translation cache: how emitted code and the VMM hand the CPU to each other."""

from __future__ import annotations

from typing import NamedTuple

from translator import layout
from translator.assembler import asm
from vmm.host import EXIT_VECTOR

_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")


class Stubs(NamedTuple):
    """Host addresses of the stubs."""

    exit: int
    """Saves the guest's registers and flags in the vCPU block and calls the VMM."""
    miss: int
    """As ``exit``, for an indirect branch to the linear address in r8d that no fragment answers to."""
    resume: int
    """Loads the guest's registers and flags from the vCPU block and jumps to RESUME."""
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
    code = miss + leave + resume
    return code, Stubs(base + len(miss), base, base + len(miss) + len(leave), len(code))
