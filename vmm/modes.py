"""The translator's mode of a CPU: what the translation of code depends on in its present state."""

from __future__ import annotations

from typing import Final

from translator import layout
from translator.layout import CS, GS, SS
from translator.mode import CHECKED, WORD, Mode
from vmm.vcpu import ATTR_DB, CR0_PE, CR0_PG, VCpu

CR4_TSD: Final = 0x4
DR7_ARMED: Final = 0x20FF
"""GD, and the enable bits of all breakpoints."""
_DATA_SEGMENTS: Final = range(6)


def mode_of(cpu: VCpu) -> Mode:
    """What the translation of code depends on in the CPU's present state.

    A 32-bit kernel has its own data by FS and finds in GS whatever its processes have there, null or a thread's data:
    one class for both, the one that is always right, keeps its translations from being made twice.
    """
    segments = cpu.segments
    protected = cpu.protected
    classes = []
    for n in _DATA_SEGMENTS:
        kinds = segments[n].kinds
        classes.append(kinds >> 4 if protected else kinds & 0xF)
    cpl, cr0 = cpu.cpl, cpu.cr0
    if protected and not cpl:
        classes[GS] = CHECKED
    if classes[SS] == WORD and segments[SS].attr & ATTR_DB:
        classes[SS] = CHECKED
    return Mode(
        code32=bool(segments[CS].attr & ATTR_DB),
        stack32=bool(segments[SS].attr & ATTR_DB),
        protected=protected,
        v86=cpu.v86,
        user=cpl == 3 and bool(cr0 & CR0_PG),
        io=not cr0 & CR0_PE or cpl <= cpu.iopl,
        supervisor=cpl == 0,
        step=bool(cpu.eflags & layout.TF),
        align=cpu.aligns,
        armed=bool(cpu.dr[7] & DR7_ARMED),
        tsc=1 << cpu.icount if cpl == 0 or not cpu.cr4 & CR4_TSD else 0,
        segments=(classes[0], classes[1], classes[2], classes[3], classes[4], classes[5]),
    )
