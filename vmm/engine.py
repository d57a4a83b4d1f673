"""The engine: runs guest code by binary translation and answers every way out of it.

Emitted code runs until it leaves by an exit or faults.  ``_on_exit`` and ``_on_fault`` answer with the guest's
registers in the vCPU block, and end in ``_go``, which picks where emitted code goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from cache.cache import Key, Placed, TranslationCache, Way
from cache.tables import LookupTables
from translator import layout
from translator.decode import Insn, TooLong, Truncated, Undefined, decode
from translator.layout import BUDGET_BASE, CS, SS
from translator.mode import BASED, CHECKED, FLAT, WORD, Mode
from translator.unit import MAX_INSNS, Fragment, Point, Translator
from vmm import interrupts, stubs
from vmm.callouts import HANDLERS
from vmm.errors import GuestFault
from vmm.host import PAGE, PAGE_FAULT, Host
from vmm.mmu import MAPPED, TRACED, Mmu, Space
from vmm.mmu.walk import CR4_PAE, CR4_PSE, EFER, ERROR_W
from vmm.physical import PhysicalMemory
from vmm.stats import Stats
from vmm.vcpu import ATTR_CODE, ATTR_EXPAND_DOWN, ATTR_PRESENT, ATTR_WRITABLE, CR0_PE, CR0_PG, CR0_WP, Segment, VCpu

SINGLE, STEP = 1 << 24, 1 << 25
"""Variants of a context: fragments of one block, for a budget too small for the whole unit; and of one instruction."""
MAX_CONTEXTS = 1 << 14
PATIENCE = 16
"""Stores into a page with code after which its fragments verify themselves instead of being traced."""
LONGEST_STORE = 16
GENERAL_PROTECTION, DEBUG, NMI_VECTOR, UNDEFINED_OPCODE = 13, 1, 2, 6
DR6_BS = 1 << 14


class Engine:
    """One virtual CPU and all that runs it.

    The board sets ``on_deadline()`` (guest time has reached the budget's end; it calls ``set_deadline``),
    ``acknowledge()`` (the vector of the waiting interrupt) and ``on_halt()`` (HLT: skip to the next event).
    """

    def __init__(self, host: Host, physical: PhysicalMemory, stats: Stats, tc_size: int, chaining: bool = True) -> None:
        self.host = host
        self.physical = physical
        self.stats = stats
        self.mmu = Mmu(host, physical)
        self.cpu = VCpu(host.block, self.mmu)
        self.mmu.attach(self.cpu)
        self.cpu.on_control_change = self._on_control_change
        self.cpu.on_invlpg = self.mmu.invalidate
        self._paging_bits = (0, 0, 0)
        self._quads = host.block.cast("Q")
        self._quads[layout.BUDGET // 8] = BUDGET_BASE
        self._quads[layout.ATTENTION // 8] = layout.VCPU_BLOCK
        self._translator = Translator()
        code, self._stubs = stubs.build(layout.TC_BASE)
        host.code[: len(code)] = code
        self._quads[layout.EXIT_STUB // 8] = self._stubs.exit
        self._quads[layout.MISS_STUB // 8] = self._stubs.miss
        tables = LookupTables(host.lookup_tables, layout.LOOKUP_TABLES, self._stubs.miss)
        room = PAGE  # the stubs have the first page
        self.cache = TranslationCache(
            host.code[room:], layout.TC_BASE + room, tc_size, tables, host.discard, self._watch, self._unwatch, chaining
        )
        self.mmu.is_code = self._is_traced
        self.mmu.on_remap = self._on_remap
        self.mmu.code_moved = self._on_code_moved
        physical.written = self._on_written
        host.on_exit = self._on_exit
        host.on_fault = self._on_fault
        self._contexts: dict[tuple[Mode, int, bool], int] = {}
        self._context = 0
        self._mode: Mode = _mode_of(self.cpu)
        self._table = 0
        self._paging = False
        self._verified: set[int] = set()
        self._stores: dict[int, int] = {}
        self._ends: list[Callable[[], None]] = []
        """What to do when the instruction that runs alone has run."""
        self._temporary: Placed | None = None
        self._trap = False
        self._scratch = host.new_frames(PAGE)
        self._deadline = 0
        """Instructions retired when r14 is at BUDGET_BASE."""
        self._due = BUDGET_BASE
        """What r14 is at the deadline: above BUDGET_BASE when the budget was stretched to the end of a unit."""
        self._soft = True
        self._exact = False
        self.idle_ns = 0
        """Guest nanoseconds that HLT skipped."""
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
        self._exit_kinds: dict[str, Callable[[Way], None]] = {
            "direct": self._exit_direct,
            "callout": self._exit_callout,
            "fault": self._exit_guest_fault,
            "undefined": self._exit_undefined,
            "changed": self._exit_changed,
        }
        self._seconds = stats.seconds

    # Time --------------------------------------------------------------------------------------------------

    @property
    def insns(self) -> int:
        """Guest instructions retired."""
        return self._deadline - (self._quads[layout.BUDGET // 8] - BUDGET_BASE)

    @property
    def now(self) -> int:
        """Guest time in nanoseconds: 8 for each instruction, and what HLT skipped."""
        return 8 * self.insns + self.idle_ns

    def set_deadline(self, insns: int, soft: bool, exact: bool = False) -> None:
        """Let emitted code run until *insns* instructions have retired.

        It may be late by less than a unit, a *soft* one early by as much; an *exact* one is met to the instruction.
        """
        now = self.insns
        insns = min(max(insns, now), now + layout.BUDGET_SPAN - MAX_INSNS)
        self._deadline = insns
        self._due = BUDGET_BASE
        self._soft, self._exact = soft, exact
        self._quads[layout.BUDGET // 8] = BUDGET_BASE + insns - now
        self._quads[layout.TSC_BASE // 8] = (8 * (insns + BUDGET_BASE) + self.idle_ns) & 0xFFFF_FFFF_FFFF_FFFF

    def skip(self, nanoseconds: int) -> None:
        """Let guest time pass without instructions (HLT)."""
        self.idle_ns += nanoseconds

    # Running ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until ``stop``; raises what ends the run otherwise (``TripleFault``, a bug's exception)."""
        self.stopping = False
        self._go(None)
        if not self.stopping:
            self.host.run(self._stubs.resume)

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
        way = self.cache.ways[self._quads[layout.EXIT_ID // 8] & 0xFFFF_FFFF]
        if self._ends:
            self._end_step()
        if way is None:
            self._exit_miss()
        else:
            self._exit_kinds[way.exit.kind](way)

    def _go(self, way: Way | None) -> None:
        """Pick where emitted code goes on: events, traps and interrupts first, then the fragment at EIP.

        *way* is the direct exit that led here; it is chained to the fragment if nothing came between.
        """
        cpu = self.cpu
        while True:
            if self._trap or self.nmi or cpu.halted or self.stopping or (self.interrupt and cpu.interrupts_enabled):
                way = None
                if not self._service():
                    return
            cpu.shadow = 0
            if self._quads[layout.BUDGET // 8] <= self._due:
                self.on_deadline()
                way = None
                continue
            try:
                placed = self._find()
            except GuestFault as fault:
                self._deliver(fault)
                way = None
                continue
            break
        if way is not None:
            self._chain(way, placed)
        self._quads[layout.RESUME // 8] = placed.entry

    def _service(self) -> bool:
        """Traps, interrupts, HLT and the end of the run.  False: the host is stopped."""
        cpu = self.cpu
        if self._trap:
            self._trap = False
            cpu.dr[6] |= DR6_BS
            cpu.halted = False
            self._interrupt(DEBUG, interrupts.FAULT)
        while not self.stopping:
            if cpu.shadow:
                cpu.shadow = 0
                if self.interrupt or self.nmi:
                    self._run_one()
                    return False
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

    def _interrupt(self, vector: int, kind: int) -> None:
        self.stats.interrupts[vector] += 1
        cpu = self.cpu
        cpu.next_eip = cpu.eip
        interrupts.deliver(cpu, vector, None, kind)
        cpu.eip = cpu.next_eip

    def _deliver(self, fault: GuestFault) -> None:
        """Deliver an exception with CS:EIP of the instruction."""
        self.stats.interrupts[fault.vector] += 1
        if fault.vector == PAGE_FAULT:
            self.stats.true_faults += 1
        cpu = self.cpu
        cpu.next_eip = cpu.eip
        interrupts.deliver_fault(cpu, fault)
        cpu.eip = cpu.next_eip

    # Exits -------------------------------------------------------------------------------------------------------

    def _exit_miss(self) -> None:
        """An indirect branch whose target is not in the lookup table."""
        cpu, stats = self.cpu, self.stats
        stats.exits["indirect"] += 1
        cpu.eip = (self._quads[layout.TARGET // 8] - cpu.segments[CS].base) & 0xFFFF_FFFF
        stepping = self._mode.step
        before = self.cache.counters.fragments_made
        if stepping:
            self._trap = True
        self._go(None)
        if stepping or self.stopping:
            return
        if self.cache.counters.fragments_made == before:
            stats.chain_indirect_hit += 1
        else:
            stats.chain_indirect_miss += 1

    def _exit_direct(self, way: Way) -> None:
        self.stats.exits["direct"] += 1
        self.cpu.eip = way.exit.eip
        if self._mode.step:
            self._trap = True
        self._go(way)

    def _exit_callout(self, way: Way) -> None:
        exit_ = way.exit
        insn = exit_.insn
        assert insn is not None
        self.stats.exits["callout"] += 1
        if exit_.refund:
            self._quads[layout.BUDGET // 8] += exit_.refund
        self.cpu.eip = exit_.eip
        self._emulate(insn)
        self._go(None)

    def _emulate(self, insn: Insn) -> None:
        """Let the VMM execute the instruction at EIP, whose retirement is already accounted for."""
        cpu = self.cpu
        name = insn.row.how
        self.stats.callouts[name] += 1
        cpu.next_eip = cpu.eip + insn.length & 0xFFFF_FFFF
        stepping = self._mode.step
        try:
            HANDLERS[name](cpu, insn)
        except GuestFault as fault:
            self._quads[layout.BUDGET // 8] += 1  # it has not retired
            self._deliver(fault)
        else:
            cpu.eip = cpu.next_eip
            if stepping and not cpu.shadow:
                self._trap = True

    def _exit_guest_fault(self, way: Way) -> None:
        """A check in emitted code failed: a segment limit or a right."""
        self.stats.exits["segment"] += 1
        self._quads[layout.BUDGET // 8] += way.exit.refund
        self.cpu.eip = way.exit.eip
        self._deliver(GuestFault(way.exit.vector, 0))
        self._go(None)

    def _exit_undefined(self, way: Way) -> None:
        self.stats.exits["undefined"] += 1
        self._quads[layout.BUDGET // 8] += 1
        self.cpu.eip = way.exit.eip
        self._deliver(GuestFault(UNDEFINED_OPCODE))
        self._go(None)

    def _exit_changed(self, way: Way) -> None:
        """A fragment that verifies itself found its source changed."""
        self.stats.exits["changed"] += 1
        self.cpu.eip = way.exit.eip
        self.cache.remove(way.placed, "changed")
        self._go(None)

    # Host faults ---------------------------------------------------------------------------------------------------

    def _on_fault(self, vector: int, error: int, address: int) -> None:
        self._vector = vector
        if vector == PAGE_FAULT:
            if BUDGET_BASE - PAGE <= address < BUDGET_BASE:
                self._on_budget(address)
                return
            if address < 0x2_0000_1000:
                self._on_page_fault(address & 0xFFFF_FFFF, bool(error & 2))
                return
            if layout.VOID_LOW <= address < layout.VOID_HIGH:
                self._on_void()
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
        try:
            outcome = self.mmu.fill(linear, write, self._mode.user)
        except GuestFault as fault:
            self.stats.exits["true_fault"] += 1
            if self._ends:
                self._end_step()
            self._take_registers()
            if fault.error is not None and not write and self._modifies():
                fault.error |= ERROR_W  # Unicorn reads before it writes; a CPU asks for both rights at once
            self._deliver(fault)
            self._resume(None)
            return
        if outcome == MAPPED:
            self.stats.exits["hidden_fault"] += 1
            return
        self._take_registers()
        if outcome == TRACED:
            self.stats.exits["traced_store"] += 1
            self._on_traced_store(linear)
        else:
            self.stats.exits["stepped"] += 1
            self._step(linear)

    def _on_void(self) -> None:
        """A test by a load failed: of an indirect branch's target at a fragment's entry, or of a REP's count."""
        self._take_registers()
        if self._at_entry():
            self._on_wrong_target()
            return
        self.stats.exits["string"] += 1
        insn = self._insn_at_eip()
        if insn is not None:
            self._quads[layout.BUDGET // 8] -= 1
            self._emulate(insn)
        self._resume(None)

    def _at_entry(self) -> bool:
        """The faulting host instruction is the first of its fragment."""
        placed = self.cache.at(self.host.rip)
        return placed is not None and placed.address == self.host.rip

    def _on_wrong_target(self) -> None:
        """The lookup table led an indirect branch to a fragment of another address with the same low bits."""
        self.stats.exits["wrong_target"] += 1
        target = self.host.registers()[8]
        self.cpu.eip = target - self.cpu.segments[CS].base & 0xFFFF_FFFF
        self._resume(None)

    def _on_attention(self) -> None:
        """The guest may have set IF while an interrupt waits."""
        self.stats.exits["attention"] += 1
        point = self._take_registers()
        if point.shadow:
            self.cpu.shadow = 1
        if self._mode.step:
            self._trap = True
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
                if text == "saved":
                    ax = registers[0]
                    flags = flags & ~layout.ARITHMETIC | ax >> 8 & 0xD5 | (layout.OF if ax & 1 else 0)
                    registers[0] = registers[10]
                else:
                    for fix in text.split(","):
                        target, source = fix.split("=")
                        registers[_NUMBERS[target]] = registers[_NUMBERS[source]]
        for n in range(8):
            quads[layout.GPR // 8 + n] = registers[n]
        quads[layout.FLAGS // 8] = flags & (layout.ARITHMETIC | layout.DF) | 2
        quads[layout.BUDGET // 8] = registers[14] + point.refund
        self.cpu.eip = point.eip
        return point

    def _on_budget(self, address: int) -> None:
        """Fewer instructions are left than the unit at hand may execute: the load from *address* found out."""
        self.stats.exits["budget"] += 1
        quads = self._quads
        budget = self.host.register(14)
        if not self._soft and not self._exact and not self.stopping and budget > self._due:
            # An event is near, but not here: let the unit run, and be less than a unit late.
            more = BUDGET_BASE - address
            self._deadline += more
            self._due += more
            quads[layout.TSC_BASE // 8] = quads[layout.TSC_BASE // 8] + 8 * more & 0xFFFF_FFFF_FFFF_FFFF
            self.host.set_register(14, budget + more)
            return
        self._take_registers()
        if self._soft:
            self._deadline -= quads[layout.BUDGET // 8] - BUDGET_BASE
            quads[layout.BUDGET // 8] = BUDGET_BASE
        left = quads[layout.BUDGET // 8] - BUDGET_BASE
        if self._exact and left > 0 and not self.stopping:
            try:
                placed = self._find_short(left)
            except GuestFault as fault:
                self._deliver(fault)
            else:
                quads[layout.RESUME // 8] = placed.entry
                self.host.resume_at(self._stubs.resume)
                return
        self._resume(None)

    # One instruction at a time ----------------------------------------------------------------------------------------

    def _step(self, linear: int, after: Callable[[], None] | None = None) -> None:
        """Run the faulting instruction alone, with the page at *linear* wide open, then do *after*."""
        if not self._ends:
            try:
                placed = self._find_step()
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

    def _end_step(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            end()

    def _run_one(self) -> None:
        """Run one instruction from the block's state with interrupts held off."""
        try:
            self._begin_step(self._find_step())
        except GuestFault as fault:
            self._deliver(fault)
            self._go(None)

    def _on_traced_store(self, linear: int) -> None:
        """A store into a page with translated code: drop what it hits, before it can run again."""
        self.stats.smc_faults += 1
        physical = self.mmu.walker.translate(linear, True, self._mode.user)[0]
        page, first = physical >> 12, physical & 0xFFF
        stores = self._stores[page] = self._stores.get(page, 0) + 1
        if stores > PATIENCE:
            self._verify_page(page)
            self._resume(None)
            return
        insn = self._insn_at_eip()
        last = first + LONGEST_STORE
        if insn is None or insn.row.how == "string" or insn.size > LONGEST_STORE:
            first, last = 0, PAGE

        def drop() -> None:
            self.cache.invalidate(page, first, last, "smc")

        drop()
        self._step(linear, drop)

    def _modifies(self) -> bool:
        """Whether the instruction at EIP reads and writes its memory operand."""
        insn = self._insn_at_eip()
        return insn is not None and insn.mem and insn.row.stores

    def _insn_at_eip(self) -> Insn | None:
        """The instruction at EIP, if it can be read."""
        linear = self.cpu.segments[CS].base + self.cpu.eip & 0xFFFF_FFFF
        try:
            return decode(self.mmu.read(linear, 15), self._mode.code32)
        except (GuestFault, Truncated, TooLong, Undefined):
            return None

    def _verify_page(self, page: int) -> None:
        """From now on fragments of this page check their source when entered, and stores go unseen."""
        self.cache.invalidate(page, 0, PAGE, "verify")
        self._verified.add(page)

    def _is_traced(self, page: int) -> bool:
        return page in self.physical.watched and page not in self._verified

    def _watch(self, page: int) -> None:
        self.physical.watched.add(page)
        if page not in self._verified:
            self.mmu.protect(page)

    def _unwatch(self, page: int) -> None:
        self.physical.watched.discard(page)

    def _on_written(self, page: int, first: int, last: int) -> None:
        if page not in self._verified:
            self.cache.invalidate(page, first, last, "written")

    def _on_remap(self, first: int, count: int) -> None:
        for page in (
            range(first, first + count)
            if count < 1024
            else [p for p in self.cache.pages() if first <= p < first + count]
        ):
            self.cache.invalidate(page, 0, PAGE, "remapped")

    # Fragments --------------------------------------------------------------------------------------------------------

    def _on_control_change(self, name: str) -> None:
        """A control register or MSR changed: mirror what concerns the host, drop shadows that it concerns."""
        cpu = self.cpu
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

    def _on_code_moved(self, space: Space, page: int) -> None:
        """A linear page of code may be mapped another way: nothing may lead to its fragments unchecked."""
        space.code.pop(2 * page, None)
        space.code.pop(2 * page + 1, None)
        self.mmu.forget_global(page)
        for placed in space.fragments.pop(page, ()):
            if len(placed.pages) > 1:
                self.cache.remove(placed, "moved")
                continue
            self.cache.withdraw(placed)
            for way in [way for way in placed.incoming if way.placed.linear >> 12 != page]:
                self.cache.unchain(way)

    def _update_mode(self) -> None:
        cpu = self.cpu
        cpu.mode_changed = False
        mode = self._mode = _mode_of(cpu)
        self.host.set_user(mode.user)
        self._paging = bool(cpu.cr0 & CR0_PG)
        key = (mode, cpu.segments[CS].base, self._paging)
        context = self._contexts.get(key)
        if context is None:
            if len(self._contexts) >= MAX_CONTEXTS:
                self.cache.flush()
                self._contexts.clear()
            context = self._contexts[key] = len(self._contexts) + 1
        self._context = context
        tables = self.cache.tables
        if mode.step:
            self._table = 0
            self._quads[layout.TABLE // 8] = tables.never
        else:
            self._table = tables.table(context << 24 | self.mmu.space.number)
            self._quads[layout.TABLE // 8] = tables.address(self._table)

    def _locate(self, variant: int) -> Key:
        """The key of the fragment at EIP.  Raises ``GuestFault``."""
        cpu = self.cpu
        if cpu.mode_changed:
            self._update_mode()
        segment = cpu.segments[CS]
        eip = cpu.eip
        if eip > segment.limit:
            raise GuestFault(GENERAL_PROTECTION, 0)
        return self._context | variant, eip, self.mmu.code_address(segment.base + eip & 0xFFFF_FFFF, self._mode.user)

    def _find(self) -> Placed:
        """The fragment at EIP, translated if need be, and published to indirect branches."""
        key = self._locate(0)
        placed = self.cache.lookup(key)
        if placed is None:
            if self._mode.step:
                placed = self._translate(key, max_insns=1, single_block=True)
            else:
                placed = self._translate(key)
        if not self._mode.step and self.cache.publish(self._table, placed) and self._paging:
            fragments = self.mmu.space.fragments
            page = placed.linear >> 12
            fragments.setdefault(page, []).append(placed)
            if len(placed.pages) > 1:
                fragments.setdefault(page + 1 & 0xF_FFFF, []).append(placed)
        return placed

    def _find_step(self) -> Placed:
        """A fragment of the one instruction at EIP, which leaves for the VMM after it."""
        key = self._locate(STEP)
        return self.cache.lookup(key) or self._translate(key, max_insns=1, single_block=True)

    def _find_short(self, left: int) -> Placed:
        """A fragment of one block at EIP of at most *left* instructions."""
        key = self._locate(SINGLE)
        placed = self.cache.lookup(key) or self._translate(key, single_block=True)
        if placed.insns <= left:
            return placed
        if self._temporary is not None:
            self.cache.remove(self._temporary)
        placed = self._temporary = self._translate(key, max_insns=left, single_block=True, keep=False)
        over = placed.insns - left
        if over > 0:  # the instruction after MOV SS belongs to it
            self._deadline += over
            self._quads[layout.BUDGET // 8] += over
        return placed

    def _translate(self, key: Key, max_insns: int = MAX_INSNS, single_block: bool = False, keep: bool = True) -> Placed:
        start = perf_counter()
        _, eip, physical = key
        cpu, mode, mmu = self.cpu, self._mode, self.mmu
        segment = cpu.segments[CS]
        linear = segment.base + eip & 0xFFFF_FFFF
        room = min(PAGE - (linear & 0xFFF), segment.limit + 1 - eip)
        code = self.physical.read(physical, room)
        page = physical >> 12
        beyond = segment.limit + 1 - eip - room
        following: list[int] = []

        def more() -> bytes:
            """What follows the page's end: at most one more instruction."""
            if beyond <= 0:
                raise GuestFault(GENERAL_PROTECTION, 0)
            address = mmu.code_address(linear + room & 0xFFFF_FFFF, mode.user)
            following.append(address >> 12)
            return self.physical.read(address, min(15, beyond))

        verify = page in self._verified
        try:
            fragment = self._translator.translate(code, more, eip, mode, segment.base, max_insns, single_block, verify)
        except (Truncated, TooLong):
            raise GuestFault(GENERAL_PROTECTION, 0) from None
        if following and following[0] in self._verified and not verify:
            fragment = self._translator.translate(code, more, eip, mode, segment.base, max_insns, single_block, True)
        placed = self.cache.insert(key, fragment, _pages(page, physical & 0xFFF, fragment, following), keep)
        self._seconds["translate"] += perf_counter() - start
        return placed

    def _chain(self, way: Way, placed: Placed) -> None:
        """Chain a direct exit, if the link holds as long as both fragments do."""
        if way.placed.key[0] & STEP or self._mode.step or way.placed is self._temporary:
            return
        here, there = way.placed.linear >> 12, placed.linear >> 12
        if not self._paging or (len(placed.pages) == 1 and (here == there or self.mmu.is_global(there))):
            self.cache.chain(way, placed)
        else:
            self.cache.chain_by_lookup(way)


_NUMBERS = {"rax": 0, "rsi": 6, "rdi": 7, "r9": 9, "r10": 10}


def _pages(page: int, first: int, fragment: Fragment, following: list[int]) -> tuple[tuple[int, int, int], ...]:
    """Where a fragment's source stands: (page, first byte, last byte + 1), one or two."""
    end = first + fragment.length
    if end <= PAGE or not following:
        return ((page, first, min(end, PAGE)),)
    return ((page, first, PAGE), (following[0], 0, end - PAGE))


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


def _mode_of(cpu: VCpu) -> Mode:
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
        segments=(classes[0], classes[1], classes[2], classes[3], classes[4], classes[5]),
    )
