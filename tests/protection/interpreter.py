"""A little interpreter of x86 over ``VCpu``: what the oracle's ROM needs, no more.

Protection is all ``vmm``'s; the interpreter moves data and counts.  Arithmetic flags are ZF, SF and CF only,
since the ROM loads EFLAGS before anything that shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import capstone
from capstone import x86 as capstone_x86

from tests.protection.machine import FlatMemory
from translator.layout import CF, CS, DF, DS, EAX, ECX, EDI, EDX, ES, ESI, ESP, FS, GS, RF, SF, SS, ZF
from vmm import flags, interrupts, segmentation, stack, transfers
from vmm.errors import GuestFault
from vmm.iopermission import check_port
from vmm.vcpu import CR0_PE, VCpu

_ENGINES = {
    False: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_16),
    True: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32),
}
for _engine in _ENGINES.values():
    _engine.detail = True

_REGISTERS = {
    name: (n, size)
    for size, names in (
        (4, "eax ecx edx ebx esp ebp esi edi"),
        (2, "ax cx dx bx sp bp si di"),
        (1, "al cl dl bl ah ch dh bh"),
    )
    for n, name in enumerate(names.split())
}
_SEGMENTS = {"es": ES, "cs": CS, "ss": SS, "ds": DS, "fs": FS, "gs": GS}
_JUMPS: dict[str, Callable[[int], bool]] = {
    "je": lambda f: bool(f & ZF),
    "jne": lambda f: not f & ZF,
    "jb": lambda f: bool(f & CF),
    "jae": lambda f: not f & CF,
}


@cache
def _decode(code: bytes, wide: bool) -> capstone.CsInsn:
    return next(_ENGINES[wide].disasm(code, 0, 1))


class Interpreter:
    """Runs until HLT at CPL 0; what the guest writes to port E9h gathers in ``output``."""

    def __init__(self, cpu: VCpu, memory: FlatMemory) -> None:
        self.cpu = cpu
        self.memory = memory
        self.output = bytearray()
        self.running = True
        self.insn: capstone.CsInsn
        self.size = 4

    def run(self, steps: int) -> None:
        """At most *steps* instructions."""
        for _ in range(steps):
            self.step()
            if not self.running:
                return
        raise AssertionError(f"no HLT after {steps} instructions")

    def step(self) -> None:
        cpu = self.cpu
        try:
            cs = cpu.segments[CS]
            if cpu.eip > cs.limit:
                raise GuestFault(13, 0)
            linear = cs.base + cpu.eip & 0xFFFF_FFFF
            if linear >= 0xFFFE_0000:  # the ROM stands at the top too
                linear &= 0xF_FFFF
            self.insn = insn = _decode(self.memory.read(linear, 15), cs.big)
            wide = cs.big ^ (insn.prefix[2] == 0x66)
            self.size = 4 if wide else 2
            cpu.next_eip = cpu.eip + insn.size
            name = insn.mnemonic.split()[-1]
            if cpu.eflags & RF:
                cpu.eflags &= ~RF
            if name in _JUMPS:
                if _JUMPS[name](cpu.eflags):
                    self.op_jmp(insn.operands[0])
            else:
                getattr(self, "op_" + name)(*insn.operands)
            cpu.eip = cpu.next_eip
        except GuestFault as fault:
            interrupts.deliver_fault(cpu, fault)

    # Operands ------------------------------------------------------------------------------------------
    def address(self, op: capstone_x86.X86Op, size: int, write: bool) -> int:
        insn, mem, cpu = self.insn, op.mem, self.cpu
        offset = mem.disp
        base = insn.reg_name(mem.base) if mem.base else ""
        for name, scale in ((base, 1), (insn.reg_name(mem.index) if mem.index else "", mem.scale)):
            if name:
                offset += cpu.read_reg(*_REGISTERS[name]) * scale
        offset &= 0xFFFF_FFFF if insn.addr_size == 4 else 0xFFFF
        n = _SEGMENTS[insn.reg_name(mem.segment)] if mem.segment else SS if base in ("esp", "ebp", "bp") else DS
        return self.check(n, offset, size, write)

    def check(self, n: int, offset: int, size: int, write: bool) -> int:
        segment = self.cpu.segments[n]
        if not segment.attr & 0x80 or stack.outside(offset, size, segment.limit, segment.attr):
            raise GuestFault(12 if n == SS else 13, 0)
        if write and self.cpu.protected and segment.attr & 0xA != 2:
            raise GuestFault(13, 0)
        return segment.base + offset & 0xFFFF_FFFF

    def get(self, op: capstone_x86.X86Op, size: int | None = None) -> int:
        if op.type == capstone_x86.X86_OP_IMM:
            return int(op.imm) & 0xFFFF_FFFF
        if op.type == capstone_x86.X86_OP_MEM:
            size = size or op.size
            return self.memory.read_int(self.address(op, size, False), size, self.cpu.cpl == 3)
        name = self.insn.reg_name(op.reg)
        if name in _SEGMENTS:
            return self.cpu.segments[_SEGMENTS[name]].selector
        if name.startswith("cr"):
            return int(getattr(self.cpu, name))
        return self.cpu.read_reg(*_REGISTERS[name])

    def put(self, op: capstone_x86.X86Op, value: int) -> None:
        if op.type == capstone_x86.X86_OP_MEM:
            value &= (1 << 8 * op.size) - 1
            self.memory.write_int(self.address(op, op.size, True), op.size, value, self.cpu.cpl == 3)
            return
        name = self.insn.reg_name(op.reg)
        if name in _SEGMENTS:
            segmentation.load_segment(self.cpu, _SEGMENTS[name], value & 0xFFFF)
        elif name.startswith("cr"):
            self.demand_ring0()
            setattr(self.cpu, name, value)
        else:
            self.cpu.write_reg(*_REGISTERS[name], value)

    def put_selector(self, op: capstone_x86.X86Op, value: int) -> None:
        """SLDT, STR: 16 bits to memory, zero-extended to a register."""
        if op.type == capstone_x86.X86_OP_MEM:
            self.memory.write_int(self.address(op, 2, True), 2, value)
        else:
            self.put(op, value)

    def demand_ring0(self) -> None:
        if self.cpu.cpl:
            raise GuestFault(13, 0)

    def set_flag(self, flag: int, on: object) -> None:
        self.cpu.eflags = self.cpu.eflags | flag if on else self.cpu.eflags & ~flag

    # Moves ---------------------------------------------------------------------------------------------
    def op_nop(self) -> None: ...

    def op_mov(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self.put(to, self.get(source))

    op_movzx = op_movabs = op_mov

    def op_push(self, op: capstone_x86.X86Op) -> None:
        stack.push(self.cpu, self.get(op), self.size)

    def op_pop(self, op: capstone_x86.X86Op) -> None:
        (value,) = stack.read_frame(self.cpu, self.size, 1)
        old = self.cpu.gpr[ESP]
        stack.drop(self.cpu, self.size)
        try:
            self.put(op, value)
        except GuestFault:
            self.cpu.gpr[ESP] = old
            raise

    def op_pushal(self) -> None:
        stack.push_frame(self.cpu, tuple(reversed(self.cpu.gpr.tolist())), 4)

    def op_pushfd(self) -> None:
        flags.pushf(self.cpu, 4)

    def op_pushf(self) -> None:
        flags.pushf(self.cpu, 2)

    def op_popfd(self) -> None:
        flags.popf(self.cpu, 4)

    def op_popf(self) -> None:
        flags.popf(self.cpu, 2)

    def _load_far(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op, n: int) -> None:
        pointer = self.memory.read_int(self.address(source, self.size + 2, False), self.size + 2)
        segmentation.load_segment(self.cpu, n, pointer >> 8 * self.size)
        self.put(to, pointer & (1 << 8 * self.size) - 1)

    def op_lds(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self._load_far(to, source, DS)

    def op_lss(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self._load_far(to, source, SS)

    # Arithmetic, and strings -------------------------------------------------------------------------------
    def _flags(self, result: int) -> int:
        self.set_flag(ZF, not result & 0xFFFF_FFFF)
        self.set_flag(SF, result >> 31 & 1)
        self.set_flag(CF, result < 0)
        return result

    def op_add(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self.put(to, self._flags(self.get(to) + self.get(source) & 0xFFFF_FFFF))

    def op_sub(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self.put(to, self._flags(self.get(to) - self.get(source)) & 0xFFFF_FFFF)

    def op_cmp(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self._flags(self.get(to) - self.get(source))

    def _string(self, width: int, body: Callable[[], None], *pointers: int) -> None:
        cpu = self.cpu
        count = cpu.gpr[ECX] if self.insn.mnemonic.startswith("rep") else 1
        step = -width if cpu.eflags & DF else width
        for _ in range(count):
            body()
            for n in pointers:
                cpu.gpr[n] = cpu.gpr[n] + step & 0xFFFF_FFFF
        if count != 1 or self.insn.mnemonic.startswith("rep"):
            cpu.gpr[ECX] = 0

    def op_movsd(self, *_: object) -> None:
        cpu, memory = self.cpu, self.memory
        self._string(4, lambda: memory.write_int(cpu.gpr[EDI], 4, memory.read_int(cpu.gpr[ESI], 4)), ESI, EDI)

    def op_stosd(self, *_: object) -> None:
        cpu, memory = self.cpu, self.memory
        self._string(4, lambda: memory.write_int(cpu.gpr[EDI], 4, cpu.gpr[EAX]), EDI)

    def op_outsb(self, *_: object) -> None:
        cpu, memory = self.cpu, self.memory
        check_port(cpu, cpu.gpr[EDX] & 0xFFFF, 1)
        assert cpu.gpr[EDX] & 0xFFFF == 0xE9
        self._string(1, lambda: self.output.append(memory.data[cpu.gpr[ESI]]), ESI)

    # Near transfers ------------------------------------------------------------------------------------------
    def op_jmp(self, op: capstone_x86.X86Op) -> None:
        target = self.get(op)
        if op.type == capstone_x86.X86_OP_IMM:  # decoded as if at address 0
            target += self.cpu.eip
        self.cpu.next_eip = target & (0xFFFF_FFFF if self.size == 4 else 0xFFFF)

    def op_loop(self, op: capstone_x86.X86Op) -> None:
        self.cpu.gpr[ECX] = self.cpu.gpr[ECX] - 1 & 0xFFFF_FFFF
        if self.cpu.gpr[ECX]:
            self.op_jmp(op)

    # Protection ------------------------------------------------------------------------------------------------
    def _far(self, ops: tuple[capstone_x86.X86Op, ...], go: Callable[[VCpu, int, int, int], None]) -> None:
        if len(ops) == 2:
            go(self.cpu, self.get(ops[0]), self.get(ops[1]), self.size)
            return
        pointer = self.memory.read_int(self.address(ops[0], self.size + 2, False), self.size + 2)
        go(self.cpu, pointer >> 8 * self.size, pointer & (1 << 8 * self.size) - 1, self.size)

    def op_ljmp(self, *ops: capstone_x86.X86Op) -> None:
        self._far(ops, transfers.far_jmp)

    def op_lcall(self, *ops: capstone_x86.X86Op) -> None:
        self._far(ops, transfers.far_call)

    def op_retf(self, *ops: capstone_x86.X86Op) -> None:
        transfers.far_ret(self.cpu, self.size, ops[0].imm if ops else 0)

    def op_iret(self) -> None:
        transfers.iret(self.cpu, 2)

    def op_iretd(self) -> None:
        transfers.iret(self.cpu, 4)

    def op_int(self, op: capstone_x86.X86Op) -> None:
        interrupts.deliver(self.cpu, op.imm, None, interrupts.SOFTWARE)

    def op_int3(self) -> None:
        interrupts.deliver(self.cpu, 3, None, interrupts.SOFTWARE_EXCEPTION)

    def op_into(self) -> None:
        if self.cpu.eflags & 0x800:
            interrupts.deliver(self.cpu, 4, None, interrupts.SOFTWARE_EXCEPTION)

    def op_int1(self) -> None:
        interrupts.deliver(self.cpu, 1, None, interrupts.ICEBP)

    def op_ud2(self) -> None:
        raise GuestFault(6)

    def op_lgdt(self, op: capstone_x86.X86Op) -> None:
        self.demand_ring0()
        pair = self.memory.read_int(self.address(op, 6, False), 6)
        self.cpu.gdtr = (pair >> 16, pair & 0xFFFF)

    def op_lidt(self, op: capstone_x86.X86Op) -> None:
        self.demand_ring0()
        pair = self.memory.read_int(self.address(op, 6, False), 6)
        self.cpu.idtr = (pair >> 16, pair & 0xFFFF)

    def op_lldt(self, op: capstone_x86.X86Op) -> None:
        segmentation.lldt(self.cpu, self.get(op, 2) & 0xFFFF)

    def op_ltr(self, op: capstone_x86.X86Op) -> None:
        segmentation.ltr(self.cpu, self.get(op, 2) & 0xFFFF)

    def op_str(self, op: capstone_x86.X86Op) -> None:
        self.put_selector(op, segmentation.store_tr(self.cpu))

    def op_sldt(self, op: capstone_x86.X86Op) -> None:
        self.put_selector(op, segmentation.sldt(self.cpu))

    def _conditional(self, to: capstone_x86.X86Op, value: int | None) -> None:
        self.set_flag(ZF, value is not None)
        if value is not None:
            self.put(to, value)

    def op_lar(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self._conditional(to, segmentation.lar(self.cpu, self.get(source, 2) & 0xFFFF, self.size))

    def op_lsl(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self._conditional(to, segmentation.lsl(self.cpu, self.get(source, 2) & 0xFFFF))

    def op_verr(self, op: capstone_x86.X86Op) -> None:
        self.set_flag(ZF, segmentation.verr(self.cpu, self.get(op, 2) & 0xFFFF))

    def op_verw(self, op: capstone_x86.X86Op) -> None:
        self.set_flag(ZF, segmentation.verw(self.cpu, self.get(op, 2) & 0xFFFF))

    def op_arpl(self, to: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self._conditional(to, segmentation.arpl(self.cpu, self.get(to), self.get(source)))

    def op_cld(self) -> None:
        self.cpu.eflags &= ~DF

    def op_clts(self) -> None:
        self.demand_ring0()
        self.cpu.cr0 &= ~8

    def op_cli(self) -> None:
        self._set_interrupt_flag(False)

    def op_sti(self) -> None:
        self._set_interrupt_flag(True)

    def _set_interrupt_flag(self, on: bool) -> None:
        if self.cpu.cr0 & CR0_PE and self.cpu.cpl > self.cpu.iopl:
            raise GuestFault(13, 0)
        self.cpu.interrupts_enabled = on

    def op_hlt(self) -> None:
        self.demand_ring0()
        self.running = False

    def _port(self, op: capstone_x86.X86Op, size: int) -> int:
        port = self.get(op) & 0xFFFF
        check_port(self.cpu, port, size)
        return port

    def op_out(self, port: capstone_x86.X86Op, source: capstone_x86.X86Op) -> None:
        self._port(port, source.size)

    def op_in(self, to: capstone_x86.X86Op, port: capstone_x86.X86Op) -> None:
        self._port(port, to.size)
        self.put(to, 0xFFFF_FFFF)
