"""The engine: runs guest code by binary translation and answers every way out of it.

Emitted code runs until it leaves by an exit or faults.  ``_on_exit`` and ``_on_fault`` answer with the guest's
registers in the vCPU block, and end in ``_go``, which picks where emitted code goes on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from cache.cache import Placed, TranslationCache, Way
from cache.tables import LookupTables
from translator import layout
from translator.decode import Insn, TooLong, Truncated, Undefined, decode
from translator.layout import BUDGET_BASE, CS, RF, TF
from translator.points import Point
from translator.unit import MAX_INSNS
from vmm import interrupts, stubs
from vmm.budget import Budget
from vmm.callouts import HANDLERS
from vmm.callouts.segments import REPEATED, segment_load
from vmm.errors import GuestFault
from vmm.fragments import Fragments
from vmm.host import PAGE, PAGE_FAULT, Host
from vmm.mmu import MAPPED, TRACED, Mmu
from vmm.mmu.walk import CR4_PAE, CR4_PSE, EFER, ERROR_W
from vmm.physical import PhysicalMemory
from vmm.stats import Stats
from vmm.vcpu import CR0_PG, CR0_WP, VCpu

GC_THRESHOLDS = (5_000_000, 20, 50)
"""Allocations between garbage collections while the guest runs.  Translation makes many objects that stay: by default
Python would spend a sixth of a boot looking through them."""
PATIENCE = 16
"""Stores into a page with code after which its fragments verify themselves instead of being traced."""
LONGEST_STORE = 16
GENERAL_PROTECTION, DEBUG, NMI_VECTOR, UNDEFINED_OPCODE = 13, 1, 2, 6
DR6_BS = 1 << 14
TSC_MSR = 0x10


class Engine:
    """One virtual CPU and all that runs it.

    The board sets ``on_deadline()`` (guest time has reached the budget's end; it calls ``set_deadline``),
    ``acknowledge()`` (the vector of the waiting interrupt) and ``on_halt()`` (HLT: skip to the next event).
    """

    def __init__(self, host: Host, physical: PhysicalMemory, stats: Stats, tc_size: int, chaining: bool = True) -> None:
        self.host = host
        self.physical = physical
        self.stats = stats
        self.watch = host.watch
        self.mmu = Mmu(host, physical)
        self.cpu = VCpu(host.block, self.mmu)
        self.mmu.attach(self.cpu)
        self.cpu.on_control_change = self._on_control_change
        self.cpu.on_invlpg = self.mmu.invalidate
        self._paging_bits = (0, 0, 0)
        self._quads = host.block.cast("Q")
        self.budget = Budget(self._quads)
        self.cpu.on_port = self._on_port
        self.cpu.tsc = lambda: self.budget.tsc
        self._quads[layout.QUIET // 8] = self._quads[layout.ATTENTION // 8] = layout.VCPU_BLOCK
        code, self._stubs = stubs.build(layout.TC_BASE)
        host.code[: len(code)] = code
        self._quads[layout.EXIT_STUB // 8] = self._stubs.exit
        self._quads[layout.MISS_STUB // 8] = self._stubs.miss
        tables = LookupTables(host.lookup_tables, layout.LOOKUP_TABLES, self._stubs.miss)
        room = PAGE  # the stubs have the first page
        self.cache = TranslationCache(
            host.code[room:], layout.TC_BASE + room, tc_size, tables, host.discard, chaining=chaining
        )
        self.fragments = Fragments(host, self.cpu, self.mmu, physical, self.cache, self._quads)
        self.contexts = self.fragments.contexts
        self._stores: dict[int, int] = {}
        self._ends: list[Callable[[], None]] = []
        """What to do when the instruction that runs alone has run."""
        self._trap = 0
        """Bits of DR6 for the #DB that the last instruction ends with."""
        self._returned = -1
        """Instructions retired when IRET last loaded RF, which concerns the instruction that follows."""
        self._scratch = host.new_frames(PAGE)
        self.interrupt = False
        """The INTR pin."""
        self.nmi = False
        """A non-maskable interrupt waits."""
        self.stopping = False
        self.on_deadline: Callable[[], None] = lambda: None
        self.acknowledge: Callable[[], int] = lambda: 0
        self.on_halt: Callable[[], None] = lambda: None
        host.on_exit = self._on_exit
        host.on_fault = self._on_fault
        self._accounts = {name: self.watch.account("callout", name) for name in HANDLERS}
        self._exit_kinds: dict[str, Callable[[Way], None]] = {
            "direct": self._exit_direct,
            "shadow": self._exit_shadow,
            "fault": self._exit_guest_fault,
            "undefined": self._exit_undefined,
            "changed": self._exit_changed,
        }

    # Time --------------------------------------------------------------------------------------------------

    @property
    def insns(self) -> int:
        """Guest instructions retired."""
        return self.budget.insns

    @property
    def now(self) -> int:
        """Guest time in nanoseconds: 8 for each instruction, and what passed without any."""
        return self.budget.now

    @property
    def idle_ns(self) -> int:
        """Guest nanoseconds that passed without instructions."""
        return self.budget.idle_ns

    def set_deadline(self, insns: int, soft: bool, exact: bool = False) -> None:
        """See ``Budget.set``."""
        self.budget.set(insns, soft, exact)

    def skip(self, nanoseconds: int) -> None:
        """Let guest time pass without instructions (HLT)."""
        self.budget.idle_ns += nanoseconds

    # Running ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until ``stop``; raises what ends the run otherwise (``TripleFault``, a bug's exception)."""
        self.stopping = False
        thresholds = gc.get_threshold()
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            self._go(None)
            if not self.stopping:
                self.host.run(self._stubs.resume)
        finally:
            gc.set_threshold(*thresholds)

    def reset(self) -> None:
        """The RESET pin: nothing that was pending is pending any more."""
        self._trap = 0
        self.nmi = False
        self.cpu.reset()
        self.host.reset_fpu()
        self.cpu.on_control_change("cr0")
        self._call_attention()

    def stop(self) -> None:
        """End ``run`` at the next instruction boundary at which the VMM is in control."""
        self.stopping = True

    def set_interrupt(self, level: bool) -> None:
        """The INTR pin changed."""
        self.interrupt = level
        self._call_attention()

    def raise_nmi(self) -> None:
        """A non-maskable interrupt."""
        self.nmi = True
        self._call_attention()

    def _call_attention(self) -> None:
        """Let emitted code that sets IF leave for the VMM if an interrupt waits."""
        waits = self.interrupt or self.nmi
        self._quads[layout.ATTENTION // 8] = layout.ATTENTION_GUARD if waits else layout.VCPU_BLOCK

    def _on_exit(self) -> None:
        way = self.cache.way(self._quads[layout.EXIT_ID // 8] & 0xFFFF_FFFF)
        if self._quads[_CONTEXT] != self.contexts.tag:
            self.contexts.follow()
        if self._ends:
            self._end_step()
        if way is None:
            self._exit_miss()
        elif way.callout is not None:
            self._exit_callout(way)
        else:
            self._exit_kinds[way.kind](way)

    def _go(self, way: Way | None) -> Placed | None:
        """Pick where emitted code goes on: events, traps and interrupts first, then the fragment at EIP.

        *way* is the direct exit that led here; it is chained to the fragment if nothing came between.  Returns the
        fragment, or None if one instruction runs alone or the run ends.
        """
        cpu = self.cpu
        while True:
            if self._trap or self.nmi or cpu.halted or self.stopping or (self.interrupt and cpu.interrupts_enabled):
                way = None
                if not self._service():
                    return None
            if self.budget.is_over:
                self.on_deadline()  # an interrupt that comes now waits for the end of cpu.shadow
                way = None
                continue
            cpu.shadow = 0
            try:
                if self.mmu.breakpoints.code and self._breaks():
                    return None
                placed = self._find()
            except GuestFault as fault:
                self._deliver(fault)
                way = None
                continue
            break
        if way is not None:
            self.fragments.chain(way, placed)
        self._quads[layout.RESUME // 8] = placed.entry
        return placed

    def _find(self) -> Placed:
        """The fragment at EIP; one that stops anywhere if an exact deadline is near.  Raises ``GuestFault``."""
        budget = self.budget
        return self.fragments.find_exact() if budget.exact and budget.left < MAX_INSNS else self.fragments.find()

    def _service(self) -> bool:
        """Traps, interrupts, HLT and the end of the run.  False: the host is stopped."""
        cpu = self.cpu
        if self._trap:
            cpu.dr[6] |= self._trap
            self._trap = 0
            cpu.halted = False
            self._interrupt(DEBUG, interrupts.FAULT)
        while not self.stopping:
            if cpu.shadow and (self.interrupt or self.nmi):
                if self.budget.is_over:
                    self.on_deadline()
                    continue
                cpu.shadow = 0
                self._run_one()
                return False
            cpu.shadow = 0
            if self.nmi:
                self.nmi = cpu.halted = False
                self._call_attention()
                self._interrupt(NMI_VECTOR, interrupts.NMI)
            elif self.interrupt and cpu.interrupts_enabled:
                cpu.halted = False
                self._interrupt(self.acknowledge(), interrupts.HARDWARE)
            if not cpu.halted:
                return True
            self.on_halt()
        self.host.stop()
        return False

    def _breaks(self) -> bool:
        """Look for a breakpoint at EIP; raises #DB.  True: RF holds it off, and the instruction is run alone."""
        cpu = self.cpu
        bits = self.mmu.breakpoints.code.get(cpu.segments[CS].base + cpu.eip & 0xFFFF_FFFF)
        if not bits:
            return False
        if not self._resume_flag():
            cpu.dr[6] |= bits
            raise GuestFault(DEBUG)
        cpu.eflags &= ~RF
        self._run_one()
        return True

    def _resume_flag(self) -> bool:
        """EFLAGS.RF: set by IRET, cleared by the instruction that follows."""
        return bool(self.cpu.eflags & RF) and self._returned == self.budget.insns

    def _interrupt(self, vector: int, kind: int) -> None:
        before = self.watch.enter(self.watch.interrupt)
        self.stats.interrupts[vector] += 1
        cpu = self.cpu
        if cpu.eflags & RF and not self._resume_flag():
            cpu.eflags &= ~RF
        cpu.next_eip = cpu.eip
        interrupts.deliver(cpu, vector, None, kind)
        cpu.eip = cpu.next_eip
        self.watch.enter(before)

    def _deliver(self, fault: GuestFault) -> None:
        """Deliver an exception with CS:EIP of the instruction."""
        before = self.watch.enter(self.watch.interrupt)
        self.stats.interrupts[fault.vector] += 1
        if fault.vector == PAGE_FAULT:
            self.stats.true_faults += 1
        cpu = self.cpu
        cpu.next_eip = cpu.eip
        interrupts.deliver_fault(cpu, fault)
        cpu.eip = cpu.next_eip
        self.watch.enter(before)

    # Exits -------------------------------------------------------------------------------------------------------

    def _exit_miss(self) -> None:
        """An indirect branch whose target is not in the lookup table."""
        cpu, stats = self.cpu, self.stats
        stats.exits["indirect"] += 1
        cpu.eip = (self._quads[layout.TARGET // 8] - cpu.segments[CS].base) & 0xFFFF_FFFF
        stepping = self.contexts.mode.step
        before = self.cache.counters.fragments_made
        if stepping:
            self._trap |= DR6_BS
        self._go(None)
        if stepping or self.stopping:
            return
        if self.cache.counters.fragments_made == before:
            stats.chain_indirect_hit += 1
        else:
            stats.chain_indirect_miss += 1

    def _exit_direct(self, way: Way) -> None:
        self.stats.exits["direct"] += 1
        self.cpu.eip = way.eip
        if self.contexts.mode.step:
            self._trap |= DR6_BS
        self._go(way)

    def _exit_shadow(self, way: Way) -> None:
        """The unit ends behind STI, MOV SS or POP SS."""
        self.stats.exits["direct"] += 1
        self.cpu.eip = way.eip
        self.cpu.shadow = 1
        self._go(None)

    def _exit_callout(self, way: Way) -> None:
        assert way.callout is not None
        insn, eip, refund = way.callout
        self.stats.exits["callout"] += 1
        if refund:
            self.budget.refund(refund)
        cpu = self.cpu
        self._quads[_EIP] = eip
        self._emulate(insn)
        waits = self._trap or self.nmi or cpu.halted or self.stopping or cpu.shadow or self.interrupt
        if not waits and not self.budget.is_over and (after := self.fragments.after(way)) is not None:
            self._quads[layout.RESUME // 8] = after.entry
            return
        placed = self._go(None)
        if placed is not None:
            self.fragments.remember(way, placed)

    def _emulate(self, insn: Insn) -> None:
        """Let the VMM execute the instruction at EIP, whose retirement is already accounted for."""
        cpu = self.cpu
        name = insn.row.how
        self.stats.callouts[name] += 1
        cpu.next_eip = cpu.eip + insn.length & 0xFFFF_FFFF
        stepping = self.contexts.mode.step
        before = self.watch.enter(self._accounts[name])
        self.mmu.hits = 0
        try:
            HANDLERS[name](cpu, insn)
        except GuestFault as fault:
            self.budget.refund(1)  # it has not retired
            self._deliver(fault)
        else:
            cpu.eip = cpu.next_eip
            self._trap |= self.mmu.hits
            if stepping and not cpu.shadow and not (name in _SOFTWARE_INTERRUPTS and not cpu.eflags & TF):
                self._trap |= DR6_BS
            if name == "iret":
                self._returned = self.budget.insns
            elif name in REPEATED and (load := segment_load(cpu, insn)) is not None:
                self.contexts.learn(*load)
        self.watch.enter(before)

    def _exit_guest_fault(self, way: Way) -> None:
        """A check in emitted code failed: a segment limit or a right."""
        self.stats.exits["segment"] += 1
        exit_ = way.exit
        self.budget.refund(exit_.refund)
        self.cpu.eip = way.eip
        self._deliver(GuestFault(exit_.vector, 0))
        self._go(None)

    def _exit_undefined(self, way: Way) -> None:
        self.stats.exits["undefined"] += 1
        self.budget.refund(1)
        self.cpu.eip = way.eip
        self._deliver(GuestFault(UNDEFINED_OPCODE))
        self._go(None)

    def _exit_changed(self, way: Way) -> None:
        """A fragment that verifies itself found its source changed."""
        self.stats.exits["changed"] += 1
        self.cpu.eip = way.eip
        self.cache.remove(way.placed, "changed")
        self._go(None)

    # Host faults ---------------------------------------------------------------------------------------------------

    def _on_fault(self, vector: int, error: int, address: int) -> None:
        self._vector = vector
        self.contexts.follow()
        if vector == PAGE_FAULT:
            if BUDGET_BASE - PAGE <= address < BUDGET_BASE:
                self._on_budget(address)
                return
            if address < 0x2_0000_1000:
                self._on_page_fault(address & 0xFFFF_FFFF, bool(error & 2))
                return
            if layout.VOID_LOW <= address < layout.VOID_HIGH:
                self._on_wrong_target()
                return
            if address == layout.ATTENTION_GUARD:
                self._on_attention()
                return
            raise RuntimeError(f"emitted code at {self.host.rip:#x} touched host address {address:#x}")
        self.stats.exits["exception"] += 1
        self._take_registers()
        self._deliver(GuestFault(vector))
        self._resume(None)

    def _on_page_fault(self, linear: int, write: bool) -> None:
        self.watch.enter(self.watch.fault)  # until emitted code runs again
        try:
            outcome = self.mmu.fill(linear, write, self.contexts.mode.user)
        except GuestFault as fault:
            if self._goes_by_elements():
                return
            self.stats.exits["true_fault"] += 1
            if self._ends:
                self._end_step()
                self._trap = 0  # the instruction did not end
            self._take_registers()
            if fault.error is not None and not write and self._modifies():
                fault.error |= ERROR_W  # Unicorn reads before it writes; a CPU asks for both rights at once
            self._deliver(fault)
            self._resume(None)
            return
        if outcome == MAPPED:
            self.stats.exits["hidden_fault"] += 1
            return
        if self._goes_by_elements():
            return
        self._take_registers()
        bits = 0
        if linear >> 12 in self.mmu.breakpoints.pages and (insn := self.insn_at_eip()) is not None:
            if insn.row.how == "string":
                self.budget.refund(-1)
                self._emulate(insn)
                self._resume(None)
                return
            bits = self.mmu.breakpoints.hits(self.cpu, insn)
        if outcome == TRACED:
            self.stats.exits["traced_store"] += 1
            self._on_traced_store(linear)
        else:
            self.stats.exits["stepped"] += 1
            self._step(linear)
        if bits and self._ends:
            self._ends.append(lambda: self._hit(bits))

    def _hit(self, bits: int) -> None:
        """The instruction that ran alone met breakpoints on data."""
        self._trap |= bits

    def _on_port(self, port: int, size: int) -> None:
        self.mmu.hits |= self.mmu.breakpoints.hit_port(port, size)

    def _goes_by_elements(self) -> bool:
        """Whether a repeated string instruction faulted among many elements at once: it goes on one by one."""
        rip = self.host.rip
        placed = self.cache.at(rip)
        if placed is None:
            return False
        point = placed.point(rip)
        offset = rip - placed.address - point.at
        for start, end, text in point.fixes:
            if text == "tail" and start <= offset < end:
                self.host.resume_at(placed.address + point.at + end)
                return True
        return False

    def _on_wrong_target(self) -> None:
        """The lookup table led an indirect branch to a fragment of another address with the same low bits."""
        self.stats.exits["wrong_target"] += 1
        self._take_registers()
        target = self.host.registers()[8]
        self.cpu.eip = target - self.cpu.segments[CS].base & 0xFFFF_FFFF
        self._resume(None)

    def _on_attention(self) -> None:
        """The guest may have set IF while an interrupt waits."""
        self.stats.exits["attention"] += 1
        point = self._take_registers()
        if point.shadow:
            self.cpu.shadow = 1
        if self.contexts.mode.step:
            self._trap |= DR6_BS
        self._resume(None)

    def _resume(self, way: Way | None) -> None:
        """From a fault: go on through the resume stub."""
        self._go(way)
        self.host.resume_at(self._stubs.resume)

    def _take_registers(self) -> Point:
        """Move the state of the faulting instruction into the vCPU block, as if it had not begun."""
        host, quads = self.host, self._quads
        rip = host.rip
        placed = self.cache.at(rip)
        if placed is None:
            raise RuntimeError(f"host exception {self._vector} at {rip:#x}, outside the translation cache")
        point = placed.point(rip)
        registers = list(host.registers())
        flags = host.flags()
        offset = rip - placed.address - point.at
        for start, end, text in point.fixes:
            if start <= offset < end:
                if text in ("saved", "flags"):
                    ax = registers[0 if text == "saved" else 10]
                    flags = flags & ~layout.ARITHMETIC | ax >> 8 & 0xD5 | (layout.OF if ax & 1 else 0)
                    if text == "saved":
                        registers[0] = registers[10]
                elif text != "tail":
                    for fix in text.split(","):
                        target, source = fix.split("=")
                        registers[_NUMBERS[target]] = registers[_NUMBERS[source]]
        for n in range(8):
            quads[layout.GPR // 8 + n] = registers[n]
        quads[layout.FLAGS // 8] = flags & (layout.ARITHMETIC | layout.DF) | 2
        quads[layout.BUDGET // 8] = registers[14] + point.refund
        self.cpu.eip = placed.eip + point.offset
        return point

    def _on_budget(self, address: int) -> None:
        """Fewer instructions are left than the unit at hand may execute: the load from *address* found out."""
        self.stats.exits["budget"] += 1
        budget = self.budget
        left = self.host.register(14)
        stretched = None if self.stopping else budget.stretch(left, address)
        if stretched is not None:
            self.host.set_register(14, stretched)
            return
        if budget.exact and left > BUDGET_BASE and not self.stopping and self._run_exactly():
            return
        if self._take_registers().shadow:
            self.cpu.shadow = 1
        if budget.soft:
            budget.end()
        self._resume(None)

    def _run_exactly(self) -> bool:
        """The exact deadline is nearer than the unit at hand may go: let a fragment run that stops there.

        False: its code cannot be read.
        """
        host = self.host
        rip = host.rip
        placed = self.cache.at(rip)
        assert placed is not None
        self.cpu.eip = placed.eip + placed.point(rip).offset
        try:
            host.resume_at(self.fragments.find_exact().entry)
        except GuestFault:
            return False
        return True

    # One instruction at a time ----------------------------------------------------------------------------------------

    def _step(self, linear: int, after: Callable[[], None] | None = None) -> None:
        """Run the faulting instruction alone, with the page at *linear* wide open, then do *after*."""
        if not self._ends:
            try:
                placed = self.fragments.find_step()
            except GuestFault as fault:
                self._deliver(fault)
                self._resume(None)
                return
            self._begin_step(placed)
            self.host.resume_at(self._stubs.resume)
        self._ends.append(self.mmu.open(linear, self._scratch))
        if after is not None:
            self._ends.append(after)

    def _begin_step(self, placed: Placed) -> None:
        """Let *placed*, one instruction, run; whatever it is, it leaves for the VMM."""
        quads = self._quads
        table = quads[layout.TABLE // 8]
        quads[layout.TABLE // 8] = self.cache.tables.never

        def end() -> None:
            quads[layout.TABLE // 8] = table

        self._ends.append(end)
        quads[layout.RESUME // 8] = placed.entry

    def after_step(self, call: Callable[[], None]) -> None:
        """Do *call* when the instruction that runs alone has run; now if none does."""
        if self._ends:
            self._ends.append(call)
        else:
            call()

    def _end_step(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            end()

    def _run_one(self) -> None:
        """Run one instruction from the block's state with interrupts held off."""
        try:
            self._begin_step(self.fragments.find_step())
        except GuestFault as fault:
            self._deliver(fault)
            self._go(None)

    def _on_traced_store(self, linear: int) -> None:
        """A store into a page with translated code: drop what it hits, before it can run again."""
        self.stats.smc_faults += 1
        physical = self.mmu.walker.translate(linear, True, self.contexts.mode.user)[0]
        page, first = physical >> 12, physical & 0xFFF
        stores = self._stores[page] = self._stores.get(page, 0) + 1
        running = bool(self._ends)  # alone already: a repeated string instruction that comes to its next page
        if stores > PATIENCE and not running:
            self.fragments.verify_page(page)
            self._resume(None)
            return
        insn = self.insn_at_eip()
        last = first + LONGEST_STORE
        if insn is None or insn.row.how == "string" or insn.size > LONGEST_STORE:
            first, last = 0, PAGE

        def drop() -> None:
            self.cache.invalidate(page, first, last, "smc")

        if not running:  # it may stand in this page itself, and still has to leave
            drop()
        self._step(linear, drop)

    def _modifies(self) -> bool:
        """Whether the instruction at EIP reads and writes its memory operand."""
        insn = self.insn_at_eip()
        return insn is not None and insn.mem and insn.row.stores

    def insn_at_eip(self) -> Insn | None:
        """The instruction at EIP, if it can be read."""
        linear = self.cpu.segments[CS].base + self.cpu.eip & 0xFFFF_FFFF
        try:
            return decode(self.mmu.read(linear, 15), self.contexts.mode.code32)
        except (GuestFault, Truncated, TooLong, Undefined):
            return None

    # Control registers ------------------------------------------------------------------------------------------

    def _on_control_change(self, name: str) -> None:
        """A control register or MSR changed: mirror what concerns the host, drop shadows that it concerns."""
        cpu = self.cpu
        if name == "tsc":
            budget = self.budget
            budget.tsc_offset = cpu.msr.get(TSC_MSR, 0)
            budget.set(budget.insns + budget.left, budget.soft, budget.exact)
            return
        breakpoints = self.mmu.breakpoints
        if (cpu.dr[7] & 0xFF or breakpoints.active) and breakpoints.update(cpu):
            cpu.watched = bool(breakpoints.data or breakpoints.ports)
            self.fragments.on_breakpoints()
            self.mmu.flush()
            cpu.mode_changed = True
        self.host.set_control(cpu.cr0, cpu.cr4)
        paging = (cpu.cr0 & (CR0_PG | CR0_WP), cpu.cr4 & (CR4_PSE | CR4_PAE), cpu.msr.get(EFER, 0))
        if paging == self._paging_bits and name not in ("cr3", "cr4"):
            return
        if cpu.cr0 & CR0_PG and cpu.cr4 & CR4_PAE and name != "efer":
            self.mmu.walker.load_pdptes()
        if paging == self._paging_bits:
            self.mmu.switch()
        else:
            self._paging_bits = paging
            self.mmu.flush()
        cpu.mode_changed = True


_EIP, _CONTEXT = layout.EIP // 8, layout.CONTEXT // 8
_SOFTWARE_INTERRUPTS = frozenset(("int_n", "int3", "into", "int1"))
"""They clear TF on their way to the handler, and with it the trap."""
_NUMBERS = {"rax": 0, "rcx": 1, "rsi": 6, "rdi": 7, "r8": 8, "r9": 9, "r10": 10}
