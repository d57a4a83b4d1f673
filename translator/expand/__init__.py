"""In-TC emulation: guest instructions that become other host instructions.

Each emitter takes the Emitter and the decoded instruction, and returns the kind of piece it made, or None if
in this mode only the VMM can do it.  Every expansion is restartable: nothing of the guest's state changes
before the last host instruction that can fault, or a fix says how to take the change back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from translator.decode import Insn
from translator.expand import copied, ports, segments, stack, strings, system, transfers
from translator.operand import Emitter

Emit = Callable[[Emitter, Insn], int | None]

EMITTERS: Final[dict[str, Emit]] = {
    emit.__name__: emit
    for emit in (
        *(copied.nop, copied.clflush, copied.cmpxchg8b, copied.alias_80, copied.test_alias, copied.setcc, copied.cmpps),
        *(copied.rotate_carry, copied.compare_real, copied.inc_dec, copied.bswap, copied.lea, copied.mov_moffs),
        *(copied.xlat, copied.bt_reg, copied.maskmov, copied.fxsave),
        *(stack.push_reg, stack.push_imm, stack.push_rm, stack.pop_reg, stack.pop_rm, stack.pusha, stack.popa),
        *(stack.enter, stack.leave),
        *(system.cli, system.sti, system.cld, system.std, system.pushf, system.popf, system.rdtsc, system.mov_from_cr),
        *(system.invlpg, system.mov_from_dr, system.mov_to_dr),
        *(transfers.iret, transfers.sysenter, transfers.sysexit),
        *(segments.push_seg, segments.mov_from_seg, segments.mov_to_seg, segments.pop_seg, segments.verw),
        *(strings.string, ports.in_imm, ports.out_imm),
    )
}
"""Emitters by the name that the rule table gives them."""
