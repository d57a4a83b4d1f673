"""Records every instruction of a window: emitted code fills a ring, and the VMM empties it.

``translator.recording`` has the code and the form of a record.
"""

from __future__ import annotations

from collections.abc import Callable

from translator import layout
from translator.layout import ARITHMETIC, BUDGET_BASE, CS, DF
from translator.recording import RECORD, RECORD_SIZE, Site, Sites
from vmm.budget import Budget
from vmm.host import PAGE_FAULT
from vmm.machine import Machine
from vmm.trace.insns import Control, InsnLog, without_restarts
from vmm.trace.state import code_at_eip

_END = layout.RING_BUFFER + layout.RING_SIZE
_R9 = 9


class _CountingBudget(Budget):
    """Keeps the vCPU block's INSN_BASE."""

    __slots__ = ()

    def set(self, insns: int, soft: bool, exact: bool) -> None:
        super().set(insns, soft, exact)
        self._count()

    def elapse(self, nanoseconds: int) -> None:
        super().elapse(nanoseconds)
        self._count()

    def end(self) -> None:
        super().end()
        self._count()

    def _count(self) -> None:
        self._quads[layout.INSN_BASE // 8] = self._deadline + BUDGET_BASE


class Ring:
    """The recorder of instructions of *machine*, which has not run yet."""

    def __init__(self, machine: Machine) -> None:
        engine = self._engine = machine.engine
        self._host = host = engine.host
        self._quads = host.block.cast("Q")
        engine.budget = _CountingBudget(self._quads, engine.budget.icount)
        self._buffer = host.map_area(layout.RING_BUFFER, layout.RING_SIZE)
        self._quads[layout.RING // 8] = layout.RING_BUFFER
        self._sites = Sites()
        self._chunks: list[bytes] = []
        self._length = 0
        """Bytes of all chunks."""
        self._controls: list[Control] = []
        self._restore: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Record from the instruction that comes next."""
        engine, host = self._engine, self._host
        on_exit, on_fault = host.on_exit, host.on_fault

        def watched_exit() -> None:
            on_exit()
            self._note_controls()

        def watched_fault(vector: int, error: int, address: int) -> None:
            if vector == PAGE_FAULT and address == _END:
                self._empty()
                host.set_register(_R9, layout.RING_BUFFER)
                return
            on_fault(vector, error, address)
            self._note_controls()

        def restore() -> None:
            host.on_exit, host.on_fault = on_exit, on_fault

        host.on_exit, host.on_fault, self._restore = watched_exit, watched_fault, restore
        self._note_controls()
        engine.fragments.record(self._sites)

    def take(self) -> InsnLog:
        """What was recorded since the last time, while recording goes on."""
        self._empty()
        log = without_restarts(b"".join(self._chunks), self._sites.known, self._controls)
        self._chunks.clear()
        self._length = 0
        self._controls = [self._controls[-1]._replace(first=0)]
        return log

    def finish(self) -> InsnLog:
        """Record no longer; what was recorded, and at the end the CPU as it is now."""
        self._engine.fragments.record(None)
        self._restore()
        self._empty()
        if self._controls:
            self._note_controls()
            self._chunks.append(self._now())
        return without_restarts(b"".join(self._chunks), self._sites.known, self._controls)

    def _empty(self) -> None:
        used = self._quads[layout.RING // 8] - layout.RING_BUFFER
        self._chunks.append(bytes(self._buffer[:used]))
        self._length += used
        self._quads[layout.RING // 8] = layout.RING_BUFFER

    def _note_controls(self) -> None:
        cpu = self._engine.cpu
        at = (self._length + self._quads[layout.RING // 8] - layout.RING_BUFFER) // RECORD_SIZE
        now = Control(at, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4)
        if not self._controls or self._controls[-1][1:] != now[1:]:
            self._controls.append(now)

    def _now(self) -> bytes:
        """A record of the CPU while the VMM is in control."""
        engine = self._engine
        cpu = engine.cpu
        site = self._sites.number(Site(cpu.eip, code_at_eip(engine), cpu.segments[CS].big))
        flags = cpu.eflags & (ARITHMETIC | DF)
        selectors = (segment.selector for segment in cpu.segments[:6])
        return RECORD.pack(engine.insns, *cpu.gpr, flags, cpu.eflags & ~flags, *selectors, site)
