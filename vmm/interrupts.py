"""Delivery of interrupts and exceptions through the IVT or the IDT (SDM vol. 2, INT n; vol. 3, chapter 6)."""

from __future__ import annotations

from typing import Final

from translator.layout import AC, CS, DS, ES, ESP, FS, GS, IF_FLAG, IOPL, NT, RF, SS, TF, TR, VIF, VM
from vmm import stack, tasks
from vmm.errors import GuestFault, TripleFault
from vmm.flags import CR4_VME
from vmm.segmentation import (
    INTERRUPT_GATE16,
    INTERRUPT_GATE32,
    TASK_GATE,
    TRAP_GATE16,
    TRAP_GATE32,
    TYPE_MASK,
    VECTOR_DB,
    VECTOR_DF,
    VECTOR_GP,
    VECTOR_NP,
    VECTOR_PF,
    VECTOR_TS,
    check_stack,
    fetch,
    load_real,
    load_v86,
    mark_accessed,
    unpack,
)
from vmm.vcpu import ATTR_CODE, ATTR_EXPAND_DOWN, ATTR_PRESENT, ATTR_S, CR0_PE, VCpu

HARDWARE: Final = 0
NMI: Final = 1
FAULT: Final = 2
ICEBP: Final = 3
SOFTWARE: Final = 4
SOFTWARE_EXCEPTION: Final = 5
"""What is delivered: an external interrupt, NMI, an exception (faults, traps and aborts), INT1, INT n, INT3 or INTO."""

_SOFT: Final = SOFTWARE
"""From here on: software interrupts, for which the gate's DPL counts and EXT is clear."""
_IN_HANDLER: Final = ICEBP
"""From here on: raised by an instruction in its handler; the return address is ``next_eip``."""

_GATES: Final = frozenset((TASK_GATE, INTERRUPT_GATE16, TRAP_GATE16, INTERRUPT_GATE32, TRAP_GATE32))
_INTERRUPT_GATES: Final = frozenset((INTERRUPT_GATE16, INTERRUPT_GATE32))
_GATE_32BIT: Final = 0x08
_IDT_ERROR: Final = 0x2
"""Error code: the index is into the IDT (SDM vol. 3, 6.13)."""

_NOT_FAULTS: Final = frozenset((1, 2, 3, 4, 8, 18))
"""Traps and aborts: RF is pushed as it stands; faults push it set (SDM vol. 3, 17.3.1.1)."""
_BENIGN: Final = 0
_CONTRIBUTORY: Final = 1
_PAGE_FAULT: Final = 2
_DOUBLE_FAULT: Final = 3
_CLASSES: Final = dict.fromkeys((0, 10, 11, 12, 13), _CONTRIBUTORY) | {VECTOR_PF: _PAGE_FAULT, VECTOR_DF: _DOUBLE_FAULT}
"""SDM vol. 3, table 6-4; all others are benign."""
_DR7_GD: Final = 1 << 13
_ALL_ONES: Final = 0xFFFF_FFFF


def deliver(cpu: VCpu, vector: int, error: int | None = None, kind: int = HARDWARE) -> None:
    """Enter the guest's handler of *vector*; *error* is pushed where the mode has error codes.

    SOFTWARE, SOFTWARE_EXCEPTION and ICEBP run inside an instruction's handler: they push ``cpu.next_eip`` and
    raise ``GuestFault`` with nothing changed.  The others come between instructions and push ``cpu.eip``; what
    goes wrong with them is delivered in turn, and ``TripleFault`` ends it.  Leaves the handler's address in
    ``cpu.eip`` and ``cpu.next_eip``, ends HLT and the interrupt shadow.
    """
    if kind >= _IN_HANDLER:
        _enter(cpu, vector, error, kind)
        return
    cpu.halted = False
    cpu.shadow = 0
    first = _CLASSES.get(vector, _BENIGN) if kind == FAULT else _BENIGN
    while True:
        try:
            _enter(cpu, vector, error, kind)
            if vector == VECTOR_DB and kind == FAULT:
                cpu.dr[7] &= ~_DR7_GD
                cpu.mode_changed = True
            return
        except GuestFault as fault:
            if fault.cr2 is not None:
                cpu.cr2 = fault.cr2
            second = _CLASSES.get(fault.vector, _BENIGN)
            if first == _DOUBLE_FAULT and second != _BENIGN:
                raise TripleFault(_shutdown_sentence(cpu, fault)) from None
            if (first == _CONTRIBUTORY and second == _CONTRIBUTORY) or (first == _PAGE_FAULT and second != _BENIGN):
                vector, error, first = VECTOR_DF, 0, _DOUBLE_FAULT
            else:
                vector, error, first = fault.vector, fault.error, second
            kind = FAULT


def deliver_fault(cpu: VCpu, fault: GuestFault) -> None:
    """Deliver an exception that an instruction raised; CR2 is set for #PF.  ``TripleFault`` as ``deliver``."""
    if fault.cr2 is not None:
        cpu.cr2 = fault.cr2
    deliver(cpu, fault.vector, fault.error, FAULT)


def _shutdown_sentence(cpu: VCpu, fault: GuestFault) -> str:
    code = "" if fault.error is None else f" with error code {fault.error:#x}"
    return (
        f"the guest's CPU shut down after a triple fault at {cpu.segments[CS].selector:04x}:{cpu.eip:08x} "
        f"(exception {fault.vector}{code} while it delivered a double fault)"
    )


def _enter(cpu: VCpu, vector: int, error: int | None, kind: int) -> None:
    """One attempt to enter the handler: raises ``GuestFault`` with nothing changed (task switches aside)."""
    back = cpu.next_eip if kind >= _IN_HANDLER else cpu.eip
    flags = cpu.eflags
    if not cpu.cr0 & CR0_PE:
        _enter_real(cpu, vector, back, flags)
        return
    if flags & VM and kind == SOFTWARE:
        if cpu.cr4 & CR4_VME and not _redirected(cpu, vector):
            _enter_8086(cpu, vector, back, flags)
            return
        if flags & IOPL != IOPL:
            raise GuestFault(VECTOR_GP, 0)
    ext = 1 if kind < _SOFT else 0
    base, limit = cpu.idtr
    entry = vector << 3
    if entry + 7 > limit:
        raise GuestFault(VECTOR_GP, entry | _IDT_ERROR | ext)
    gate = cpu.memory.read_int(base + entry & _ALL_ONES, 8)
    access = gate >> 40 & 0xFF
    gate_type = access & TYPE_MASK
    if gate_type not in _GATES or (not ext and access >> 5 & 3 < cpu.cpl):
        raise GuestFault(VECTOR_GP, entry | _IDT_ERROR | ext)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, entry | _IDT_ERROR | ext)
    if kind == FAULT:
        if vector not in _NOT_FAULTS:
            flags |= RF
    elif kind >= _IN_HANDLER:
        flags &= ~RF  # the instruction has begun (SDM vol. 3, 17.3.1.1)
    if gate_type == TASK_GATE:
        selector = gate >> 16 & 0xFFFF
        tasks.switch(cpu, selector, tasks.find_tss(cpu, selector, ext=ext), tasks.CALL, back, flags, ext, error)
    else:
        _enter_gate(cpu, gate, gate_type, back, flags, error, ext)


def _enter_gate(cpu: VCpu, gate: int, gate_type: int, back: int, flags: int, error: int | None, ext: int) -> None:
    """Through an interrupt or trap gate, to the same or an inner ring."""
    selector = gate >> 16 & 0xFFFF
    if not selector & 0xFFFC:
        raise GuestFault(VECTOR_GP, ext)
    descriptor = fetch(cpu, selector, VECTOR_GP, ext)
    access = descriptor >> 40
    old_cpl = cpu.cpl
    dpl = access >> 5 & 3
    if access & (ATTR_S | ATTR_CODE) != ATTR_S | ATTR_CODE or dpl > old_cpl:
        raise GuestFault(VECTOR_GP, selector & 0xFFFC | ext)
    cpl = old_cpl if access & ATTR_EXPAND_DOWN else dpl  # of code: conforming
    if flags & VM and cpl:
        raise GuestFault(VECTOR_GP, selector & 0xFFFC | ext)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, selector & 0xFFFC | ext)
    segments = cpu.segments
    values: tuple[int, ...] = (back, segments[CS].selector, flags)
    if error is not None:
        values = (error, *values)
    if gate_type & _GATE_32BIT:
        size, target = 4, gate & 0xFFFF | gate >> 32 & 0xFFFF_0000
    else:
        size, target = 2, gate & 0xFFFF
    ss = segments[SS]
    new_ss = None
    if cpl != old_cpl:
        new_ss, esp = tasks.inner_stack(cpu, cpl, ext)
        stack_descriptor = check_stack(cpu, new_ss, cpl, VECTOR_TS, ext)
        span = unpack(stack_descriptor)
        values = (*values, cpu.gpr[ESP], ss.selector)
        if flags & VM:
            values = (*values, *(segments[n].selector for n in (ES, DS, FS, GS)))
        room_error = new_ss & 0xFFFC | ext
    else:
        span = (ss.base, ss.limit, ss.attr)
        esp = cpu.gpr[ESP]
        room_error = ext
    if size == 2:
        values = tuple(value & 0xFFFF for value in values)
    code_base, code_limit, code_attr = unpack(descriptor)
    if target > code_limit:
        stack.check_room(span[1], span[2], esp, len(values), size, room_error)
        raise GuestFault(VECTOR_GP, ext)
    esp = stack.write_frame(cpu, span, esp, values, size, cpl == 3, room_error)
    if not access & 1:
        mark_accessed(cpu, selector, descriptor)
    if new_ss is not None:
        span = unpack(mark_accessed(cpu, new_ss, stack_descriptor))
        cpu.set_segment(SS, new_ss, *span)
        if flags & VM:
            for n in (ES, DS, FS, GS):
                cpu.set_segment(n, 0, 0, 0, 0)
    cpu.set_segment(CS, selector & 0xFFFC | cpl, code_base, code_limit, code_attr | 1)
    cpu.cpl = cpl
    cpu.esp = esp
    cpu.eflags = flags & ~(TF | NT | RF | VM | IF_FLAG if gate_type in _INTERRUPT_GATES else TF | NT | RF | VM)
    cpu.eip = cpu.next_eip = target


def _enter_real(cpu: VCpu, vector: int, back: int, flags: int) -> None:
    """Real-address mode: through the IVT; there are no error codes."""
    base, limit = cpu.idtr
    if vector * 4 + 3 > limit:
        raise GuestFault(VECTOR_GP, 0)
    target = cpu.memory.read_int(base + vector * 4 & _ALL_ONES, 4)
    stack.push_frame(cpu, (back & 0xFFFF, cpu.segments[CS].selector, flags & 0xFFFF), 2)
    load_real(cpu, CS, target >> 16)
    cpu.eflags = flags & ~(IF_FLAG | TF | RF | AC)
    cpu.eip = cpu.next_eip = target & 0xFFFF


def _redirected(cpu: VCpu, vector: int) -> bool:
    """VME: whether the TSS's bitmap sends INT *vector* of virtual-8086 mode to the IDT (SDM vol. 3, 20.3.3)."""
    tr = cpu.segments[TR]
    if tr.limit < 0x67:
        raise GuestFault(VECTOR_GP, 0)
    offset = cpu.memory.read_int(tr.base + 0x66 & _ALL_ONES, 2) - 32 + (vector >> 3)
    if not 0 <= offset <= tr.limit:
        raise GuestFault(VECTOR_GP, 0)
    return bool(cpu.memory.read_int(tr.base + offset & _ALL_ONES, 1) >> (vector & 7) & 1)


def _enter_8086(cpu: VCpu, vector: int, back: int, flags: int) -> None:
    """VME: INT n to the 8086 program's own handler, through the IVT at linear 0; below IOPL 3 VIF stands for IF."""
    target = cpu.memory.read_int(vector * 4, 4)
    image, cleared = flags, IF_FLAG
    if flags & IOPL != IOPL:
        image, cleared = flags & ~IF_FLAG | IOPL | (IF_FLAG if flags & VIF else 0), VIF
    stack.push_frame(cpu, (back & 0xFFFF, cpu.segments[CS].selector, image & 0xFFFF), 2)
    load_v86(cpu, CS, target >> 16)
    cpu.eflags = flags & ~(cleared | TF | RF)
    cpu.eip = cpu.next_eip = target & 0xFFFF
