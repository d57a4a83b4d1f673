"""The handlers of all instructions that leave the translation cache.

``HANDLERS`` is keyed by the rule table's *how*: all ``callout`` rows, and all ``emulate`` rows, because an emitter may
leave an instruction to the VMM in some mode.  A handler works in every mode (segments, widths, rings); before the call
``cpu.eip`` is the address of the instruction and ``cpu.next_eip`` the one behind it.  It raises ``GuestFault``, for the
loop to deliver, with registers unchanged; only a repeated string instruction has moved on to the element that faults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from translator.decode import Insn
from vmm.callouts import arithmetic, bcd, media, ports, segments, stack, strings, system
from vmm.callouts.media import USES_MEDIA
from vmm.vcpu import VCpu

__all__ = ["HANDLERS", "USES_MEDIA", "Handler"]

Handler = Callable[[VCpu, Insn], None]

_SAME_NAME: Final[tuple[Handler, ...]] = (
    arithmetic.alias_80, arithmetic.bswap, arithmetic.bt_reg, arithmetic.inc_dec, arithmetic.lea, arithmetic.mov_moffs,
    arithmetic.xlat,
    bcd.aaa, bcd.aad, bcd.aam, bcd.aas, bcd.daa, bcd.das, bcd.salc,
    media.fxsave, media.maskmov,
    ports.in_dx, ports.in_imm, ports.out_dx, ports.out_imm,
    segments.arpl, segments.bound, segments.call_far, segments.call_far_m, segments.int1, segments.int3, segments.int_n,
    segments.into, segments.iret, segments.jmp_far, segments.jmp_far_m, segments.lar, segments.lldt, segments.load_far,
    segments.lsl, segments.ltr, segments.mov_from_seg, segments.mov_to_seg, segments.ret_far, segments.sldt,
    segments.verr, segments.verw,
    stack.enter, stack.leave, stack.pop_reg, stack.pop_rm, stack.pop_seg, stack.popa, stack.popf, stack.push_imm,
    stack.push_reg, stack.push_rm, stack.push_seg, stack.pusha, stack.pushf,
    strings.string,
    system.cli, system.clts, system.cpuid, system.hlt, system.invd, system.invlpg, system.lgdt, system.lidt,
    system.lmsw, system.mov_from_cr, system.mov_from_dr, system.mov_to_cr, system.mov_to_dr, system.rdmsr, system.rdpmc,
    system.rdtsc, system.sgdt, system.sidt, system.smsw, system.sti, system.sysenter, system.sysexit, system.wrmsr,
)  # fmt: skip

HANDLERS: Final[dict[str, Handler]] = {handler.__name__: handler for handler in _SAME_NAME} | {
    "ins": strings.port_string,
    "outs": strings.port_string,
    "str": segments.store_tr,
}
"""By the name in the rule table."""
