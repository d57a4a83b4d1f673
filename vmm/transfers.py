"""Far transfers of control: JMP, CALL, RET and IRET in all modes (SDM vol. 2; vol. 3, 5.8 and 20.2).

Offsets and frames are *size* bytes wide (2 or 4, the operand size).  The target goes to ``cpu.next_eip``; a
``GuestFault`` leaves everything as it was, except in the second half of a task switch (``vmm.tasks``).
"""

from __future__ import annotations

from typing import Final

from translator.layout import CS, DS, ES, ESP, FS, GS, NT, SS, VM
from vmm import flags, stack, tasks
from vmm.errors import GuestFault
from vmm.segmentation import (
    AVAILABLE_TSS,
    CALL_GATE16,
    CALL_GATE32,
    TASK_GATE,
    TYPE_MASK,
    VECTOR_GP,
    VECTOR_NP,
    VECTOR_TS,
    check_stack,
    drop_privileged_segments,
    fetch,
    load_code,
    load_real,
    load_v86,
    mark_accessed,
    unpack,
)
from vmm.vcpu import ATTR_CODE, ATTR_EXPAND_DOWN, ATTR_PRESENT, ATTR_S, CR0_PE, VCpu

_CODE: Final = ATTR_S | ATTR_CODE
_CONFORMING: Final = ATTR_EXPAND_DOWN
"""The bit's meaning in a code segment."""
_CALL_GATES: Final = {CALL_GATE16: 2, CALL_GATE32: 4}
"""Width of what the gate pushes, in bytes."""
_ALL_ONES: Final = 0xFFFF_FFFF


def far_jmp(cpu: VCpu, selector: int, offset: int, size: int) -> None:
    """JMP ptr16:16, ptr16:32, m16:16, m16:32: #GP, #NP, #TS, #SS, #PF as SDM vol. 2, JMP."""
    _far(cpu, selector, offset, size, tasks.JUMP)


def far_call(cpu: VCpu, selector: int, offset: int, size: int) -> None:
    """CALL ptr16:16, ptr16:32, m16:16, m16:32: #GP, #NP, #TS, #SS, #PF as SDM vol. 2, CALL."""
    _far(cpu, selector, offset, size, tasks.CALL)


def _far(cpu: VCpu, selector: int, offset: int, size: int, reason: int) -> None:
    if size == 2:
        offset &= 0xFFFF
    if not cpu.cr0 & CR0_PE or cpu.v86:
        _far_8086(cpu, selector, offset, size, reason)
        return
    if not selector & 0xFFFC:
        raise GuestFault(VECTOR_GP, 0)
    descriptor = fetch(cpu, selector)
    access = descriptor >> 40
    if access & _CODE == _CODE:
        _check_direct(cpu, selector, access)
        _enter_same_ring(cpu, selector, descriptor, offset, size, reason)
        return
    access_type = access & TYPE_MASK
    dpl = access >> 5 & 3
    if dpl < cpu.cpl or dpl < selector & 3:  # the same for gates and TSSs
        raise GuestFault(VECTOR_GP, selector & 0xFFFC)
    gate_size = _CALL_GATES.get(access_type)
    if gate_size is None and access_type != TASK_GATE and access_type not in AVAILABLE_TSS:
        raise GuestFault(VECTOR_GP, selector & 0xFFFC)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, selector & 0xFFFC)
    if gate_size is not None:
        _through_call_gate(cpu, descriptor, gate_size, reason)
        return
    if access_type == TASK_GATE:
        selector = descriptor >> 16 & 0xFFFF
        descriptor = tasks.find_tss(cpu, selector)
    tasks.switch(cpu, selector, descriptor, reason, cpu.next_eip, cpu.eflags)


def _far_8086(cpu: VCpu, selector: int, offset: int, size: int, reason: int) -> None:
    """Real-address and virtual-8086 mode."""
    frame = (cpu.next_eip & (_ALL_ONES if size == 4 else 0xFFFF), cpu.segments[CS].selector)
    ss = cpu.segments[SS]
    limit = 0xFFFF if cpu.v86 else cpu.segments[CS].limit
    if offset > limit:
        if reason == tasks.CALL:
            stack.check_room(ss.limit, ss.attr, cpu.gpr[ESP], 2, size)
        raise GuestFault(VECTOR_GP, 0)
    if reason == tasks.CALL:
        stack.push_frame(cpu, frame, size)
    _load_8086_code(cpu, selector)
    cpu.next_eip = offset


def _load_8086_code(cpu: VCpu, selector: int) -> None:
    if cpu.v86:
        load_v86(cpu, CS, selector)
    else:
        load_real(cpu, CS, selector)


def _check_direct(cpu: VCpu, selector: int, access: int) -> None:
    """A code segment named by the instruction itself: conforming DPL <= CPL; else RPL <= CPL = DPL."""
    dpl = access >> 5 & 3
    fits = dpl <= cpu.cpl if access & _CONFORMING else dpl == cpu.cpl and selector & 3 <= dpl
    if not fits:
        raise GuestFault(VECTOR_GP, selector & 0xFFFC)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, selector & 0xFFFC)


def _enter_same_ring(cpu: VCpu, selector: int, descriptor: int, offset: int, size: int, reason: int) -> None:
    """Go to *offset* of a checked code segment without a change of CPL; CALL pushes *size*-byte CS and EIP."""
    if offset > unpack(descriptor)[1]:
        if reason == tasks.CALL:
            ss = cpu.segments[SS]
            stack.check_room(ss.limit, ss.attr, cpu.gpr[ESP], 2, size)
        raise GuestFault(VECTOR_GP, 0)
    esp = cpu.gpr[ESP]
    if reason == tasks.CALL:
        ss = cpu.segments[SS]
        frame = (cpu.next_eip & (_ALL_ONES if size == 4 else 0xFFFF), cpu.segments[CS].selector)
        esp = stack.write_frame(cpu, (ss.base, ss.limit, ss.attr), esp, frame, size, cpu.cpl == 3)
    load_code(cpu, selector, mark_accessed(cpu, selector, descriptor), cpu.cpl)
    cpu.esp = esp
    cpu.next_eip = offset


def _through_call_gate(cpu: VCpu, gate: int, size: int, reason: int) -> None:
    """Through a present call gate that CPL and RPL may use (SDM vol. 3, 5.8.3)."""
    selector = gate >> 16 & 0xFFFF
    if not selector & 0xFFFC:
        raise GuestFault(VECTOR_GP, 0)
    descriptor = fetch(cpu, selector)
    access = descriptor >> 40
    dpl = access >> 5 & 3
    inner = not access & _CONFORMING and dpl < cpu.cpl
    if access & _CODE != _CODE or dpl > cpu.cpl or (inner and reason == tasks.JUMP):
        raise GuestFault(VECTOR_GP, selector & 0xFFFC)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, selector & 0xFFFC)
    offset = gate & 0xFFFF | (gate >> 32 & 0xFFFF_0000 if size == 4 else 0)
    if inner:
        _call_inner_ring(cpu, selector, descriptor, offset, size, gate >> 32 & 0x1F)
    else:
        _enter_same_ring(cpu, selector, descriptor, offset, size, reason)


def _call_inner_ring(cpu: VCpu, selector: int, descriptor: int, offset: int, size: int, parameters: int) -> None:
    """CALL to a more privileged code segment: the stack comes from the TSS, *parameters* items are copied."""
    cpl = descriptor >> 45 & 3
    new_ss, esp = tasks.inner_stack(cpu, cpl)
    stack_descriptor = check_stack(cpu, new_ss, cpl, VECTOR_TS)
    span = unpack(stack_descriptor)
    if offset > unpack(descriptor)[1]:
        stack.check_room(span[1], span[2], esp, parameters + 4, size, new_ss & 0xFFFC)
        raise GuestFault(VECTOR_GP, 0)
    mask = _ALL_ONES if size == 4 else 0xFFFF
    copied = stack.read_frame(cpu, size, parameters)
    frame = (
        cpu.next_eip & mask,
        cpu.segments[CS].selector,
        *copied,
        cpu.gpr[ESP] & mask,
        cpu.segments[SS].selector,
    )
    esp = stack.write_frame(cpu, span, esp, frame, size, cpl == 3, new_ss & 0xFFFC)
    descriptor = mark_accessed(cpu, selector, descriptor)
    stack_descriptor = mark_accessed(cpu, new_ss, stack_descriptor)
    cpu.set_segment(SS, new_ss, *unpack(stack_descriptor))
    load_code(cpu, selector, descriptor, cpl)
    cpu.esp = esp
    cpu.next_eip = offset


def far_ret(cpu: VCpu, size: int, release: int = 0) -> None:
    """RETF and RETF imm16: *release* bytes of parameters go too.  #GP, #NP, #SS, #PF as SDM vol. 2, RET."""
    offset, selector = stack.read_frame(cpu, size, 2)
    selector &= 0xFFFF
    if not cpu.cr0 & CR0_PE or cpu.v86:
        _check_8086_offset(cpu, offset)
        stack.drop(cpu, 2 * size + release)
        _load_8086_code(cpu, selector)
        cpu.next_eip = offset
        return
    _return(cpu, offset, selector, size, 2 * size + release, release)


def iret(cpu: VCpu, size: int) -> None:
    """IRET, IRETD: #GP, #NP, #SS, #TS, #PF as SDM vol. 2, IRET.  The handler ends the blocking of NMIs."""
    if cpu.cr0 & CR0_PE and not cpu.v86:
        _iret_protected(cpu, size)
        return
    offset, selector, image = stack.read_frame(cpu, size, 3)
    _check_8086_offset(cpu, offset)
    if cpu.v86:
        flags.iret_virtual_8086(cpu, image, size)
    else:
        flags.load(cpu, image, flags.changeable(cpu, size))
    stack.drop(cpu, 3 * size)
    _load_8086_code(cpu, selector & 0xFFFF)
    cpu.next_eip = offset


def _check_8086_offset(cpu: VCpu, offset: int) -> None:
    if offset > (0xFFFF if cpu.v86 else cpu.segments[CS].limit):
        raise GuestFault(VECTOR_GP, 0)


def _iret_protected(cpu: VCpu, size: int) -> None:
    if cpu.eflags & NT:
        tasks.return_to_previous(cpu)
        return
    offset, selector, image = stack.read_frame(cpu, size, 3)
    if size == 4 and image & VM and cpu.cpl == 0:
        _return_to_8086(cpu)
        return
    mask = flags.changeable(cpu, size)
    if size == 4 and cpu.cpl == 0:
        mask |= flags.VIRTUAL_INTERRUPT
    _return(cpu, offset, selector & 0xFFFF, size, 3 * size, 0)
    flags.load(cpu, image, mask)


def _return_to_8086(cpu: VCpu) -> None:
    """IRETD at CPL 0 with VM set in the image: to virtual-8086 mode (SDM vol. 3, 20.2.5)."""
    offset, cs, image, esp, *rest = stack.read_frame(cpu, 4, 9)
    if offset > 0xFFFF:
        raise GuestFault(VECTOR_GP, 0)
    flags.iret_from_ring0(cpu, image)
    load_v86(cpu, CS, cs & 0xFFFF)
    for n, selector in zip((SS, ES, DS, FS, GS), rest, strict=True):
        load_v86(cpu, n, selector & 0xFFFF)
    cpu.gpr[ESP] = esp
    cpu.cpl = 3
    cpu.next_eip = offset


def _return(cpu: VCpu, offset: int, selector: int, size: int, popped: int, release: int) -> None:
    """RET and IRET to the same or an outer ring; the outer SS:ESP stand *popped* bytes above the top."""
    if not selector & 0xFFFC:
        raise GuestFault(VECTOR_GP, 0)
    descriptor = fetch(cpu, selector)
    access = descriptor >> 40
    rpl = selector & 3
    dpl = access >> 5 & 3
    fits = dpl <= rpl if access & _CONFORMING else dpl == rpl
    if access & _CODE != _CODE or rpl < cpu.cpl or not fits:
        raise GuestFault(VECTOR_GP, selector & 0xFFFC)
    if not access & ATTR_PRESENT:
        raise GuestFault(VECTOR_NP, selector & 0xFFFC)
    base, limit, attr = unpack(descriptor)
    if rpl == cpu.cpl:
        if offset > limit:
            raise GuestFault(VECTOR_GP, 0)
        if not access & 1:
            mark_accessed(cpu, selector, descriptor)
        cpu.set_segment(CS, selector, base, limit, attr | 1)
        cpu.esp = cpu.gpr[ESP] + popped
        cpu.next_eip = offset
        return
    esp, ss = stack.read_frame(cpu, size, 2, popped)
    ss &= 0xFFFF
    stack_descriptor = check_stack(cpu, ss, rpl)
    if offset > limit:
        raise GuestFault(VECTOR_GP, 0)
    if not access & 1:
        mark_accessed(cpu, selector, descriptor)
    stack_descriptor = mark_accessed(cpu, ss, stack_descriptor)
    cpu.set_segment(CS, selector, base, limit, attr | 1)
    cpu.cpl = rpl
    cpu.set_segment(SS, ss, *unpack(stack_descriptor))
    cpu.esp = esp + release
    drop_privileged_segments(cpu)
    cpu.next_eip = offset
