"""Task switches through 16-bit and 32-bit TSSs (SDM vol. 3, chapter 7).

A switch has two halves.  Faults of the first (the TSS, its descriptor, its pages) belong to the old task and
change nothing.  Then the new task's registers are loaded whole, ``cpu.eip`` included, and the faults of the
second half (its LDT, its segments, the T bit) are faults of the new task's first instruction.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from translator.layout import CS, DS, ES, ESP, FS, GS, LDTR, NT, SS, TR
from vmm import stack
from vmm.errors import GuestFault
from vmm.segmentation import (
    AVAILABLE_TSS,
    BUSY_TSS,
    CONFORMING,
    LDT,
    TSS_BUSY,
    TYPE_MASK,
    VECTOR_DB,
    VECTOR_GP,
    VECTOR_NP,
    VECTOR_TS,
    check_data,
    check_stack,
    descriptor_address,
    fetch,
    load_v86,
    mark_accessed,
    unpack,
    write_access,
)
from vmm.vcpu import ATTR_CODE, ATTR_PRESENT, ATTR_S, CR0_PG, CR0_TS, VCpu

JUMP: Final = 0
CALL: Final = 1
IRET: Final = 2
"""What switches: JMP; CALL, an interrupt or an exception (they nest); IRET with NT set."""

_TSS_32BIT: Final = 0x08
"""The bit of the access byte that tells a 32-bit TSS."""
_BACK_LINK: Final = 0
# SDM vol. 3, 7.2.1: CR3, EIP, EFLAGS, 8 registers, ES CS SS DS FS GS, LDT, and T in the word before the I/O map
_STATE32: Final = Struct("<28x 11I 7I H 2x")
_SAVED32: Final = (0x20, Struct("<10I"), 0x48, 4, (ES, CS, SS, DS, FS, GS))
# SDM vol. 3, 7.6: IP, FLAGS, 8 registers, ES CS SS DS, LDT
_STATE16: Final = Struct("<14x 10H 4H H")
_SAVED16: Final = (0x0E, Struct("<10H"), 0x22, 2, (ES, CS, SS, DS))

_DR6_BT: Final = 1 << 15
_DR7_LOCAL: Final = 0x155
"""LE and L0..L3: breakpoints of one task, which a switch disables (SDM vol. 3, 17.2.4)."""
_ALL_ONES: Final = 0xFFFF_FFFF


def inner_stack(cpu: VCpu, level: int, ext: int = 0) -> tuple[int, int]:
    """SS and ESP for privilege *level* (0..2) in the current TSS; #TS(TR) if its limit is too small."""
    tr = cpu.segments[TR]
    if tr.attr & _TSS_32BIT:
        offset, width = level * 8 + 4, 4
    else:
        offset, width = level * 4 + 2, 2
    if offset + width + 1 > tr.limit:
        raise GuestFault(VECTOR_TS, tr.selector & 0xFFFC | ext)
    pair = int.from_bytes(cpu.memory.read(tr.base + offset & _ALL_ONES, width + 2), "little")
    return pair >> 8 * width, pair & (1 << 8 * width) - 1


def find_tss(cpu: VCpu, selector: int, returning: bool = False, ext: int = 0) -> int:
    """The descriptor of a TSS that a task gate, or (*returning*) a back link, names.

    It must be in the GDT, available (busy for a return) and present: #GP (#TS for a return), #NP.
    """
    vector = VECTOR_TS if returning else VECTOR_GP
    error = selector & 0xFFFC | ext
    if selector & 4:
        raise GuestFault(vector, error)
    descriptor = fetch(cpu, selector, vector, ext)
    access = descriptor >> 40
    if access & TYPE_MASK not in (BUSY_TSS if returning else AVAILABLE_TSS):
        raise GuestFault(vector, error)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, error)
    return descriptor


def return_to_previous(cpu: VCpu) -> None:
    """IRET with NT set: go back to the task in the back link of the current TSS.  #TS, #NP, and as ``switch``."""
    tr = cpu.segments[TR]
    selector = cpu.memory.read_int(tr.base + _BACK_LINK & _ALL_ONES, 2)
    switch(cpu, selector, find_tss(cpu, selector, returning=True), IRET, cpu.next_eip, cpu.eflags & ~NT)


def switch(
    cpu: VCpu,
    selector: int,
    descriptor: int,
    reason: int,
    eip: int,
    flags: int,
    ext: int = 0,
    error: int | None = None,
) -> None:
    """Switch to the task of a TSS *descriptor* whose type, presence and privilege are checked.

    *eip* and *flags* are saved in the old TSS; *error* is pushed on the new task's stack.  Raises #TS, #PF with
    nothing changed; #TS, #NP, #SS, #GP, #PF and #DB (the T bit) in the new task.
    """
    base, limit, attr = unpack(descriptor)
    wide = bool(attr & _TSS_32BIT)
    if limit < (_STATE32.size if wide else _STATE16.size) - 1:
        raise GuestFault(VECTOR_TS, selector & 0xFFFC | ext)
    state_size = _STATE32.size if wide else _STATE16.size
    cpu.memory.read(base, state_size)  # its #PF comes now
    _save(cpu, selector, base, descriptor, reason, eip, flags, ext)
    image = cpu.memory.read(base, state_size)  # a task may return to itself

    # From here on every fault is the new task's.
    cpu.set_segment(TR, selector, base, limit, attr | TSS_BUSY)
    selectors, ldt, trap = _load_registers(cpu, image, wide)
    if reason == CALL:
        cpu.eflags |= NT
    _load_segments(cpu, selectors, ldt, ext)
    if error is not None:
        size = 4 if wide else 2
        ss = cpu.segments[SS]
        values = (error & (_ALL_ONES if wide else 0xFFFF),)
        cpu.esp = stack.write_frame(cpu, (ss.base, ss.limit, ss.attr), cpu.gpr[ESP], values, size, cpu.cpl == 3, ext)
    if cpu.eip > cpu.segments[CS].limit:
        raise GuestFault(VECTOR_GP, ext)
    if trap:
        cpu.dr[6] |= _DR6_BT
        raise GuestFault(VECTOR_DB)


def _save(cpu: VCpu, selector: int, base: int, descriptor: int, reason: int, eip: int, flags: int, ext: int) -> None:
    """Store the old task in its TSS and turn the busy bits: all #PF before the first write."""
    memory = cpu.memory
    tr = cpu.segments[TR]
    old, old_base = tr.selector, tr.base
    at, registers, segments_at, step, segments = _SAVED32 if tr.attr & _TSS_32BIT else _SAVED16
    end = segments_at + step * len(segments)
    if end - 1 > tr.limit:
        raise GuestFault(VECTOR_TS, old & 0xFFFC | ext)
    memory.probe_write(old_base + at & _ALL_ONES, end - at)
    changes: list[tuple[int, int]] = []
    if reason == CALL:
        memory.probe_write(base + _BACK_LINK, 2)
    else:
        changes.append((old, tr.attr & ~TSS_BUSY))
    if reason != IRET:
        changes.append((selector, descriptor >> 40 | TSS_BUSY))
    for which, _ in changes:
        if (address := descriptor_address(cpu, which)) is not None:
            memory.probe_write(address + 5 & _ALL_ONES, 1)

    mask = _ALL_ONES if tr.attr & _TSS_32BIT else 0xFFFF
    memory.write(old_base + at & _ALL_ONES, registers.pack(eip & mask, flags & mask, *(r & mask for r in cpu.gpr)))
    for n, segment in enumerate(segments):
        memory.write_int(old_base + segments_at + step * n & _ALL_ONES, 2, cpu.segments[segment].selector)
    if reason == CALL:
        memory.write_int(base + _BACK_LINK, 2, old)
    for which, access in changes:
        write_access(cpu, which, access)


def _load_registers(cpu: VCpu, image: bytes, wide: bool) -> tuple[list[int], int, int]:
    """Load what needs no check from a TSS; returns the segment selectors, the LDT's, and T.

    Segment registers hold their selectors and are unusable until ``_load_segments``.
    """
    selectors: list[int]
    if wide:
        cr3, eip, flags, *rest, trap = _STATE32.unpack(image)
        registers, selectors, ldt = rest[:8], [selector & 0xFFFF for selector in rest[8:14]], rest[14] & 0xFFFF
        if cpu.cr0 & CR0_PG and cr3 != cpu.cr3:
            cpu.cr3 = cr3
            cpu.on_control_change("cr3")
    else:
        eip, flags, *rest, ldt = _STATE16.unpack(image)
        # There is no FS and GS; the upper halves are undefined (SDM vol. 3, 7.6) and stay.
        registers, selectors, trap = rest[:8], [*rest[8:12], 0, 0], 0
    cpu.eflags = flags
    cpu.eip = cpu.next_eip = eip
    for n, value in enumerate(registers):
        cpu.write_reg(n, 4 if wide else 2, value)
    for n, selector in enumerate(selectors):
        cpu.set_segment(n, selector, 0, 0, 0)
    cpu.set_segment(LDTR, ldt, 0, 0, 0)
    cpu.cpl = 3  # a fault before SS is loaded must find a stack in the TSS
    cpu.dr[7] &= ~_DR7_LOCAL
    cpu.mode_changed = True
    cpu.cr0 |= CR0_TS
    cpu.on_control_change("cr0")
    return selectors, ldt, trap & 1


def _load_segments(cpu: VCpu, selectors: list[int], ldt: int, ext: int) -> None:
    """Load LDTR and the segment registers of the new task (SDM vol. 3, table 7-1)."""
    if ldt & 0xFFFC:
        error = ldt & 0xFFFC | ext
        if ldt & 4:
            raise GuestFault(VECTOR_TS, error)
        descriptor = fetch(cpu, ldt, VECTOR_TS, ext)
        if descriptor >> 40 & (TYPE_MASK | ATTR_PRESENT) != LDT | ATTR_PRESENT:
            raise GuestFault(VECTOR_TS, error)
        cpu.set_segment(LDTR, ldt, *unpack(descriptor))
    if cpu.v86:
        for n in (ES, CS, SS, DS, FS, GS):
            load_v86(cpu, n, selectors[n])
        return
    cs, ss = selectors[CS], selectors[SS]
    cpl = cs & 3
    cpu.set_segment(SS, ss, *unpack(mark_accessed(cpu, ss, check_stack(cpu, ss, cpl, VECTOR_TS, ext))))
    cpu.cpl = cpl
    cpu.set_segment(CS, cs, *unpack(mark_accessed(cpu, cs, _check_code(cpu, cs, ext))))
    for n in (DS, ES, FS, GS):
        selector = selectors[n]
        if selector & 0xFFFC:
            data = mark_accessed(cpu, selector, check_data(cpu, selector, cpl, VECTOR_TS, ext))
            cpu.set_segment(n, selector, *unpack(data))


def _check_code(cpu: VCpu, selector: int, ext: int) -> int:
    """The descriptor of the new task's code segment: #TS, #NP."""
    error = selector & 0xFFFC | ext
    if not selector & 0xFFFC:
        raise GuestFault(VECTOR_TS, error)
    descriptor = fetch(cpu, selector, VECTOR_TS, ext)
    access = descriptor >> 40
    dpl, rpl = access >> 5 & 3, selector & 3
    fits = dpl <= rpl if access & CONFORMING == CONFORMING else dpl == rpl
    if access & (ATTR_S | ATTR_CODE) != ATTR_S | ATTR_CODE or not fits:
        raise GuestFault(VECTOR_TS, error)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, error)
    return descriptor
