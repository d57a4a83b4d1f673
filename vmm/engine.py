"""The engine: runs guest code by binary translation and answers every way out of it.

Emitted code runs until it leaves by an exit or faults.  ``_on_exit`` here and ``vmm.faults`` answer with the guest's
registers in the vCPU block, and end in ``go``, which picks where emitted code goes on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from cache.cache import Placed, TranslationCache, Way
from cache.tables import LookupTables
from translator import layout
from translator.blocks import MAX_INSNS
from translator.decode import Insn, TooLong, Truncated, Undefined, decode
from translator.layout import CS, RF, TF
from vmm import interrupts, stubs
from vmm.budget import Budget
from vmm.callouts import HANDLERS
from vmm.callouts.segments import REPEATED, segment_load
from vmm.clock import ICOUNT
from vmm.errors import GuestFault
from vmm.faults import DR6_BS, Faults
from vmm.fragments import Fragments
from vmm.host import PAGE, PAGE_FAULT, Host
from vmm.mmu import Mmu
from vmm.mmu.walk import CR4_PAE, CR4_PSE, EFER
from vmm.physical import PhysicalMemory
from vmm.portspace import PortSpace
from vmm.stats import Stats
from vmm.stepping import Step
from vmm.translations import Translations
from vmm.vcpu import CR0_PG, CR0_WP, VCpu

GC_THRESHOLDS: Final = (5_000_000, 20, 50)
"""Allocations between garbage collections while the guest runs.  Translation makes many objects that stay: by default
Python would spend a sixth of a boot looking through them."""
GENERAL_PROTECTION: Final = 13
DEBUG: Final = 1
NMI_VECTOR: Final = 2
UNDEFINED_OPCODE: Final = 6
TSC_MSR: Final = 0x10


@mypyc_attr(allow_interpreted_subclasses=True)
class Engine:
    """One virtual CPU and all that runs it.

    The board sets ``on_deadline()`` (guest time has reached the budget's end; it calls ``set_deadline``),
    ``acknowledge()`` (the vector of the waiting interrupt) and ``on_halt()`` (HLT: skip to the next event).
    """

    def __init__(
        self,
        host: Host,
        physical: PhysicalMemory,
        stats: Stats,
        tc_size: int,
        chaining: bool = True,
        store: Translations | None = None,
        icount: int = ICOUNT,
    ) -> None:
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
        self.budget = Budget(self._quads, icount)
        self.cpu.icount = icount
        self.cpu.on_port = self._on_port
        self.cpu.on_port_space = self._on_port_space
        self._quick: PortSpace | None = None
        self._quick_ns = 0
        self.on_quick_ports: Callable[[], None] = lambda: None
        """Emitted code has answered accesses to ports itself: see ``vmm.quickports``."""
        self.cpu.tsc = lambda: self.budget.tsc
        self._quads[layout.QUIET // 8] = self._quads[layout.ATTENTION // 8] = layout.VCPU_BLOCK
        code, self.stubs = stubs.build(layout.TC_BASE)
        host.code[: len(code)] = code
        host.open_gate(self.stubs.at_cpl0)
        self._quads[layout.EXIT_STUB // 8] = self.stubs.exit
        self._quads[layout.SYSENTER_STUB // 8] = self.stubs.sysenter
        self._quads[layout.SYSEXIT_STUB // 8] = self.stubs.sysexit
        self._quads[layout.USER_STUB // 8] = self.stubs.at_cpl3
        self._quads[layout.MISS_STUB // 8] = self.stubs.miss
        tables = LookupTables(host.lookup_tables, host.deltas, layout.LOOKUP_TABLES, self.stubs.miss)
        room = PAGE  # the stubs have the first page
        self.cache = TranslationCache(
            host.code[room:], layout.TC_BASE + room, tc_size, tables, host.discard, chaining=chaining
        )
        self.fragments = Fragments(host, self.cpu, self.mmu, physical, self.cache, self._quads, store)
        self.contexts = self.fragments.contexts
        self.step = Step(self._quads, tables.never)
        self.after_step = self.step.after
        self.trap = 0
        """Bits of DR6 for the #DB that the last instruction ends with."""
        self._returned = -1
        """Instructions retired when IRET last loaded RF, which concerns the instruction that follows."""
        self.interrupt = False
        """The INTR pin."""
        self.nmi = False
        """A non-maskable interrupt waits."""
        self.stopping = False
        self.on_deadline: Callable[[], None] = lambda: None
        self.acknowledge: Callable[[], int] = lambda: 0
        self.on_halt: Callable[[], None] = lambda: None
        host.on_exit = self._on_exit
        self.faults = Faults(self)
        host.on_fault = self.faults.on_fault
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
        """Guest time in nanoseconds: 2**icount for each instruction, and what passed without any."""
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
            self.go(None)
            if not self.stopping:
                self.host.run(self.stubs.resume)
        finally:
            gc.set_threshold(*thresholds)

    def reset(self) -> None:
        """The RESET pin: nothing that was pending is pending any more."""
        self.trap = 0
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

    def let_ports(self, ports: PortSpace, nanoseconds: int) -> None:
        """Emitted code may answer accesses to some ports as long as *ports* answers to the others.

        They take *nanoseconds* each.
        """
        self._quick, self._quick_ns = ports, nanoseconds
        self._on_port_space()

    def _on_port_space(self) -> None:
        """Whoever looks on, a hook or a breakpoint, sees all accesses."""
        alone = self.cpu.ports is self._quick and not self.cpu.watched
        self.budget.let_ports(self._quick_ns if alone else 0)

    def count_ports(self) -> None:
        """The VMM is in control again: note the accesses to ports that emitted code made."""
        accesses = self._quads[_PORT_ACCESSES]
        if accesses:
            self._quads[_PORT_ACCESSES] = 0
            self.budget.count_ports(accesses)
            self.on_quick_ports()

    def _call_attention(self) -> None:
        """Let emitted code that sets IF leave for the VMM if an interrupt waits."""
        waits = self.interrupt or self.nmi
        self._quads[layout.ATTENTION // 8] = layout.ATTENTION_GUARD if waits else layout.VCPU_BLOCK

    def _on_exit(self) -> None:
        self.count_ports()
        way = self.cache.way(self._quads[layout.EXIT_ID // 8] & 0xFFFF_FFFF)
        self.contexts.follow()
        if self.step.running:
            self.step.end()
        if way is None:
            self._exit_miss()
        elif way.callout is not None:
            self._exit_callout(way)
        else:
            self.cpu.eip = way.eip + self._quads[_DELTA]
            self._exit_kinds[way.kind](way)

    def go(self, way: Way | None) -> Placed | None:
        """Pick where emitted code goes on: events, traps and interrupts first, then the fragment at EIP.

        *way* is the direct exit that led here; it is chained to the fragment if nothing came between.  Returns the
        fragment, or None if one instruction runs alone or the run ends.
        """
        cpu = self.cpu
        while True:
            if self.trap or self.nmi or cpu.halted or self.stopping or (self.interrupt and cpu.interrupts_enabled):
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
                self.deliver(fault)
                way = None
                continue
            break
        if way is not None:
            self.fragments.chain(way, placed)
        self._quads[layout.RESUME // 8] = self.fragments.entry(placed)
        return placed

    def _find(self) -> Placed:
        """The fragment at EIP; one that stops anywhere if an exact deadline is near.  Raises ``GuestFault``."""
        budget = self.budget
        return self.fragments.find_exact() if budget.exact and budget.left < MAX_INSNS else self.fragments.find()

    def _run_one(self) -> None:
        """Run one instruction from the block's state with interrupts held off."""
        try:
            self.step.begin(self.fragments.find_step())
        except GuestFault as fault:
            self.deliver(fault)
            self.go(None)

    def _service(self) -> bool:
        """Traps, interrupts, HLT and the end of the run.  False: the host is stopped."""
        cpu = self.cpu
        if self.trap:
            cpu.dr[6] |= self.trap
            self.trap = 0
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

    def deliver(self, fault: GuestFault) -> None:
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
            self.trap |= DR6_BS
        self.go(None)
        if stepping or self.stopping:
            return
        if self.cache.counters.fragments_made == before:
            stats.chain_indirect_hit += 1
        else:
            stats.chain_indirect_miss += 1

    def _exit_direct(self, way: Way) -> None:
        self.stats.exits["direct"] += 1
        if self.contexts.mode.step:
            self.trap |= DR6_BS
        self.go(way)

    def _exit_shadow(self, way: Way) -> None:
        """The unit ends behind STI, MOV SS or POP SS."""
        self.stats.exits["direct"] += 1
        self.cpu.shadow = 1
        self.go(None)

    def _exit_callout(self, way: Way) -> None:
        assert way.callout is not None
        insn, eip, refund = way.callout
        self.stats.exits["callout"] += 1
        if refund:
            self.budget.refund(refund)
        cpu = self.cpu
        self._quads[_EIP] = eip + self._quads[_DELTA] & 0xFFFF_FFFF
        self.emulate(insn)
        waits = self.trap or self.nmi or cpu.halted or self.stopping or cpu.shadow
        waits = waits or (self.interrupt and cpu.interrupts_enabled)
        if not waits and not self.budget.is_over and (after := self.fragments.after(way)) is not None:
            self._quads[layout.RESUME // 8] = self.fragments.entry(after)
            return
        placed = self.go(None)
        if placed is not None:
            self.fragments.remember(way, placed)

    def emulate(self, insn: Insn) -> None:
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
            self.deliver(fault)
        else:
            cpu.eip = cpu.next_eip
            self.trap |= self.mmu.hits
            if stepping and not cpu.shadow and not (name in _SOFTWARE_INTERRUPTS and not cpu.eflags & TF):
                self.trap |= DR6_BS
            if name == "iret":
                self._returned = self.budget.insns
            if name in CROSSINGS:
                self.contexts.learn_crossing(CROSSINGS[name])
            elif name == "wrmsr":
                self.contexts.forget_crossings()
            elif name in REPEATED and (load := segment_load(cpu, insn)) is not None:
                self.contexts.learn(*load)
        self.watch.enter(before)

    def _exit_guest_fault(self, way: Way) -> None:
        """A check in emitted code failed: a segment limit or a right."""
        self.stats.exits["segment"] += 1
        exit_ = way.exit
        self.budget.refund(exit_.refund)
        self.deliver(GuestFault(exit_.vector, 0))
        self.go(None)

    def _exit_undefined(self, way: Way) -> None:
        self.stats.exits["undefined"] += 1
        self.budget.refund(1)
        self.deliver(GuestFault(UNDEFINED_OPCODE))
        self.go(None)

    def _exit_changed(self, way: Way) -> None:
        """A fragment that verifies itself found its source changed."""
        self.stats.exits["changed"] += 1
        self.cache.remove(way.placed, "changed")
        self.go(None)

    def _on_port(self, port: int, size: int) -> None:
        self.mmu.hits |= self.mmu.breakpoints.hit_port(port, size)

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
        if name == "dr7":
            cpu.mode_changed = True
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


_EIP: Final = layout.EIP // 8
_DELTA: Final = layout.DELTA // 8
_PORT_ACCESSES: Final = layout.PORT_ACCESSES // 8
CROSSINGS: Final = {"sysenter": layout.SYSENTERS, "sysexit": layout.SYSEXITS}
"""Instructions that change the ring and that emitted code can repeat, and their tables."""
_SOFTWARE_INTERRUPTS: Final = frozenset(("int_n", "int3", "into", "int1"))
"""They clear TF on their way to the handler, and with it the trap."""
