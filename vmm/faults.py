"""Host faults: what a fault of emitted code means for the guest, and the answer to it.

A page fault is the guest's own (true), the shadow's (hidden), a store into code (traced), an access that runs alone
(stepped), or one of three traps that emitted code lays: the budget is short, the lookup table led to a wrong target, an
interrupt waits (``translator.layout``).  Other exceptions are the guest's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from translator import layout
from translator.layout import BUDGET_BASE, CS
from translator.points import Point
from vmm.errors import GuestFault
from vmm.host import PAGE, PAGE_FAULT
from vmm.mmu import MAPPED, TRACED
from vmm.mmu.walk import ERROR_W

if TYPE_CHECKING:
    from vmm.engine import Engine

PATIENCE: Final = 16
"""Stores into a page with code after which its fragments verify themselves instead of being traced."""
PROBATION_NS: Final = 128_000_000
"""Guest time after which such a page is traced again; twice as long each time that it comes to so many stores."""
LONGEST_PROBATION_NS: Final = PROBATION_NS << 16
"""But no longer than this, two hours and more."""
LONGEST_STORE: Final = 16
_DELTA: Final = layout.DELTA // 8
DR6_BS: Final = 1 << 14
_NUMBERS: Final = {"rax": 0, "rcx": 1, "rsi": 6, "rdi": 7, "r8": 8, "r9": 9, "r10": 10}


class Faults:
    """Answers the faults of *engine*'s host."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._host = engine.host
        self._cpu = engine.cpu
        self._mmu = engine.mmu
        self._fragments = engine.fragments
        self._contexts = engine.contexts
        self._cache = engine.cache
        self._stats = engine.stats
        self._watch = engine.watch
        self._step = engine.step
        self._resume_stub = engine.stubs.resume
        self._quads = engine.host.block.cast("Q")
        self._scratch = engine.host.new_frames(PAGE)
        self.stores: dict[int, int] = {}
        """Stores into each page with code since it was traced."""
        self._probation: dict[int, int] = {}
        """How long each page that had too many has to wait the next time."""
        self._traced_at: dict[int, int] = {}
        """The guest time at which each page that waits is traced again."""
        self._vector = 0

    def on_fault(self, vector: int, error: int, address: int) -> None:
        """Host exception *vector*, with error code and CR2 of a page fault."""
        self._vector = vector
        self._engine.count_ports()
        self._contexts.follow()
        if vector == PAGE_FAULT:
            if BUDGET_BASE - PAGE <= address < BUDGET_BASE:
                self._on_budget()
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
            raise RuntimeError(f"emitted code at {self._host.rip:#x} touched host address {address:#x}")
        self._stats.exits["exception"] += 1
        self._take_registers()
        self._engine.deliver(GuestFault(vector))
        self._resume()

    def _on_page_fault(self, linear: int, write: bool) -> None:
        self._watch.enter(self._watch.fault)  # until emitted code runs again
        try:
            outcome = self._mmu.fill(linear, write, self._contexts.mode.user)
        except GuestFault as fault:
            if self._goes_by_elements():
                return
            self._stats.exits["true_fault"] += 1
            if self._step.running:
                self._step.end()
                self._engine.trap = 0  # the instruction did not end
            self._take_registers()
            if fault.error is not None and not write and self._modifies():
                fault.error |= ERROR_W  # Unicorn reads before it writes; a CPU asks for both rights at once
            self._engine.deliver(fault)
            self._resume()
            return
        if outcome == MAPPED:
            self._stats.exits["hidden_fault"] += 1
            return
        if self._goes_by_elements():
            return
        self._take_registers()
        bits = 0
        if linear >> 12 in self._mmu.breakpoints.pages and (insn := self._engine.insn_at_eip()) is not None:
            if insn.row.how == "string":
                self._engine.budget.refund(-1)
                self._engine.emulate(insn)
                self._resume()
                return
            bits = self._mmu.breakpoints.hits(self._cpu, insn)
        if outcome == TRACED:
            self._stats.exits["traced_store"] += 1
            self._on_traced_store(linear)
        else:
            self._stats.exits["stepped"] += 1
            self._run_alone(linear)
        if bits and self._step.running:
            self._step.after(lambda: self._hit(bits))

    def _hit(self, bits: int) -> None:
        """The instruction that ran alone met breakpoints on data."""
        self._engine.trap |= bits

    def _goes_by_elements(self) -> bool:
        """Whether a repeated string instruction faulted among many elements at once: it goes on one by one."""
        rip = self._host.rip
        placed = self._cache.at(rip)
        if placed is None:
            return False
        point = placed.point(rip)
        offset = rip - placed.address - point.at
        for start, end, text in point.fixes:
            if text == "tail" and start <= offset < end:
                self._host.resume_at(placed.address + point.at + end)
                return True
        return False

    def _on_wrong_target(self) -> None:
        """The lookup table led an indirect branch to a fragment of another address with the same low bits."""
        self._stats.exits["wrong_target"] += 1
        self._take_registers()
        target = self._host.registers()[8]
        self._cpu.eip = target - self._cpu.segments[CS].base & 0xFFFF_FFFF
        self._resume()

    def _on_attention(self) -> None:
        """The guest may have set IF while an interrupt waits."""
        self._stats.exits["attention"] += 1
        point = self._take_registers()
        if point.shadow:
            self._cpu.shadow = 1
        if self._contexts.mode.step:
            self._engine.trap |= DR6_BS
        self._resume()

    def _resume(self) -> None:
        """From a fault: go on through the resume stub."""
        self._engine.go(None)
        self._host.resume_at(self._resume_stub)

    def _take_registers(self) -> Point:
        """Move the state of the faulting instruction into the vCPU block, as if it had not begun."""
        host, quads = self._host, self._quads
        rip = host.rip
        placed = self._cache.at(rip)
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
        self._cpu.eip = placed.eip + point.offset + quads[_DELTA]
        return point

    def _on_budget(self) -> None:
        """Fewer instructions are left than the unit at hand may execute."""
        self._stats.exits["budget"] += 1
        budget = self._engine.budget
        if budget.exact and self._host.register(14) > BUDGET_BASE and not self._engine.stopping and self._run_exactly():
            return
        if self._take_registers().shadow:
            self._cpu.shadow = 1
        if budget.soft:
            budget.end()
        self._resume()

    def _run_exactly(self) -> bool:
        """The exact deadline is nearer than the unit at hand may go: let a fragment run that stops there.

        False: its code cannot be read.
        """
        host = self._host
        rip = host.rip
        placed = self._cache.at(rip)
        assert placed is not None
        self._cpu.eip = placed.eip + placed.point(rip).offset + self._quads[_DELTA]
        try:
            host.resume_at(self._fragments.entry(self._fragments.find_exact()))
        except GuestFault:
            return False
        return True

    def _run_alone(self, linear: int, after: Callable[[], None] | None = None) -> None:
        """Run the faulting instruction alone, with the page at *linear* wide open, then do *after*."""
        if not self._step.running:
            try:
                placed = self._fragments.find_step()
            except GuestFault as fault:
                self._engine.deliver(fault)
                self._resume()
                return
            self._step.begin(placed)
            self._host.resume_at(self._resume_stub)
        self._step.after(self._mmu.open(linear, self._scratch))
        if after is not None:
            self._step.after(after)

    def _on_traced_store(self, linear: int) -> None:
        """A store into a page with translated code: drop what it hits, before it can run again."""
        self._stats.smc_faults += 1
        physical = self._mmu.walker.translate(linear, True, self._contexts.mode.user)[0]
        page, first = physical >> 12, physical & 0xFFF
        stores = self.stores[page] = self.stores.get(page, 0) + 1
        running = self._step.running  # alone already: a repeated string instruction that comes to its next page
        if stores > PATIENCE and not running:
            self._suspect(page)
            self._resume()
            return
        insn = self._engine.insn_at_eip()
        last = first + LONGEST_STORE
        if insn is None or insn.row.how == "string" or insn.size > LONGEST_STORE:
            first, last = 0, PAGE

        def drop() -> None:
            self._cache.invalidate(page, first, last, "smc")

        if not running:  # it may stand in this page itself, and still has to leave
            drop()
        self._run_alone(linear, drop)

    def _suspect(self, page: int) -> None:
        """The page's code changes all the time, or is beside data: its fragments verify themselves for a while."""
        self._fragments.verify_page(page)
        wait = self._probation.get(page, PROBATION_NS)
        self._traced_at[page] = self._engine.now + wait
        self._probation[page] = min(2 * wait, LONGEST_PROBATION_NS)

    def trust(self) -> None:
        """Trace the pages again that have waited long enough; nothing runs in emitted code meanwhile."""
        if self._traced_at:
            now = self._engine.now
            for page in [page for page, time in self._traced_at.items() if time <= now]:
                del self._traced_at[page]
                self.stores[page] = 0
                self._fragments.trace_page(page)

    def _modifies(self) -> bool:
        """Whether the instruction at EIP reads and writes its memory operand."""
        insn = self._engine.insn_at_eip()
        return insn is not None and insn.mem and insn.row.stores
