"""The translator's mode of a CPU: what the translation of code depends on in its present state."""

from __future__ import annotations

from translator import layout
from translator.layout import CS, SS
from translator.mode import BASED, CHECKED, FLAT, WORD, Mode
from vmm.vcpu import ATTR_CODE, ATTR_EXPAND_DOWN, ATTR_PRESENT, ATTR_WRITABLE, CR0_PE, CR0_PG, Segment, VCpu

CR4_TSD = 0x4


def _class_of(segment: Segment, is_code: bool, real: bool) -> int:
    """The class of a segment for accesses by emitted code."""
    attr = segment.attr
    if attr & (ATTR_CODE | ATTR_EXPAND_DOWN) == ATTR_EXPAND_DOWN:
        return CHECKED
    if real:
        return BASED if segment.limit == 0xFFFF_FFFF else WORD if segment.limit == 0xFFFF else CHECKED
    usable = attr & ATTR_PRESENT and (attr & ATTR_WRITABLE) and bool(attr & ATTR_CODE) == is_code
    if not usable or is_code:
        return CHECKED
    if segment.limit == 0xFFFF_FFFF:
        return FLAT if segment.base == 0 else BASED
    return WORD if segment.limit == 0xFFFF else CHECKED


def mode_of(cpu: VCpu) -> Mode:
    """What the translation of code depends on in the CPU's present state."""
    segments = cpu.segments
    real = not cpu.protected
    classes = [_class_of(segments[n], n == CS, real) for n in range(6)]
    if segments[SS].big and classes[SS] == WORD:
        classes[SS] = CHECKED
    flags = cpu.eflags
    return Mode(
        code32=segments[CS].big,
        stack32=segments[SS].big,
        protected=cpu.protected,
        v86=cpu.v86,
        user=cpu.cpl == 3 and bool(cpu.cr0 & CR0_PG),
        io=not cpu.cr0 & CR0_PE or cpu.cpl <= cpu.iopl,
        supervisor=cpu.cpl == 0,
        step=bool(flags & layout.TF),
        tsc=cpu.cpl == 0 or not cpu.cr4 & CR4_TSD,
        segments=(classes[0], classes[1], classes[2], classes[3], classes[4], classes[5]),
    )
