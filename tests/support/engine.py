"""The engine without a board: snippets run by binary translation, and what they left."""

from __future__ import annotations

from tests.support import system
from tests.support.state import (
    BACKGROUND,
    CODE,
    FLAGS,
    INITIAL_FX,
    PAGE,
    SELECTORS,
    SYSTEM_SELECTORS,
    WINDOWS,
    Case,
    Environment,
    Outcome,
    changes,
    initial_memory,
    parse_fx,
)  # fmt: skip
from translator import layout
from translator.layout import CS
from vmm.engine import Engine
from vmm.errors import GuestFault
from vmm.host import Host
from vmm.mmu.walk import CR4_PSE
from vmm.physical import PhysicalMemory
from vmm.stats import Stats
from vmm.vcpu import CR0_AM, CR0_MP, CR0_PE, CR0_PG

RAM = 2 << 20
TABLES = 0x10_0000
"""Guest-physical address of the page directory and, behind it, the page table of paged environments."""
SHIFT = 0x11_0000
"""So far from its linear address stands a window of paged environments in guest-physical memory."""
_FX_CODE = 0xE00
"""Host code for the x87 and SSE registers, behind the stubs in their page."""
CR0 = CR0_PE | 0x10 | 0x20 | 0x5_0000  # ET, NE, WP, AM
CR4 = 0x600  # OSFXSR, OSXMMEXCPT


CONFIGURATIONS: dict[str, dict[str, int]] = {
    "as is": {},
    "chaining off": {"chaining": False},
    "16 KiB cache": {"tc_size": 16 << 10},
}
"""The ways that each suite runs the engine, as arguments of ``BareEngine``."""


class BareEngine(Engine):
    """An engine that reports the first exception instead of delivering it."""

    def __init__(self, chaining: bool = True, tc_size: int = 1 << 20) -> None:
        host = Host(RAM, tc_size)
        super().__init__(host, PhysicalMemory(host, RAM), Stats(), tc_size, chaining=chaining)
        self.fault: GuestFault | None = None
        self.timeout = False
        self.exact = True
        """Whether a case's limit of instructions is met exactly, or up to a unit late."""
        self.media = True
        """Whether x87 and SSE registers are loaded and read; else an outcome has none."""
        self.flush_every = 1
        """Of so many paged cases one meets hidden faults, for reading and for the dirty bit."""
        self._paged_cases = 0
        self.on_halt = self.stop
        self.on_deadline = self._on_deadline
        self._quads[layout.BUDGET // 8] = layout.BUDGET_BASE
        load = bytes.fromhex("410fae8f") + layout.FX_AREA.to_bytes(4, "little")  # fxrstor [r15 + FX_AREA]
        save = bytes.fromhex("410fae87") + layout.FX_AREA.to_bytes(4, "little")  # fxsave [r15 + FX_AREA]
        host.code[_FX_CODE : _FX_CODE + 16] = load + save
        self._windows = {0: dict(BACKGROUND), SHIFT: dict(BACKGROUND)}
        self._environment: Environment | None = None
        for shift in self._windows:
            for at, data in BACKGROUND.items():
                self.physical.write(at + shift, data)
        self.physical.write(system.AT, system.image())
        entries = b"".join(
            ((n << 12) + SHIFT | 7 if user else n << 12 | 3 if n in system.PAGES else 0).to_bytes(4, "little")
            for n in range(1024)
            for user in (any(at <= n << 12 < at + size for at, size in WINDOWS),)
        )
        self._tables = (TABLES + PAGE | 7).to_bytes(4, "little") + bytes(PAGE - 4) + entries
        self.physical.write(TABLES, self._tables)

    def deliver(self, fault: GuestFault) -> None:
        self.fault = fault
        self.stop()

    def _on_deadline(self) -> None:
        self.timeout = True
        self.stop()

    def _fx(self, start: int, image: bytes) -> bytes:
        """Run one instruction of _FX_CODE; returns the area."""
        self.host.block[layout.FX_AREA : layout.FX_AREA + len(image)] = image
        self.host.uc.emu_start(layout.TC_BASE + _FX_CODE + start, layout.TC_BASE + _FX_CODE + start + 8)
        return bytes(self.host.block[layout.FX_AREA : layout.FX_AREA + 512])

    def _enter(self, environment: Environment) -> None:
        """Set up mode and segments."""
        cpu = self.cpu
        if environment is not self._environment or environment.system:
            self._environment = environment
            cpu.reset()
            if not environment.real:
                system.load(cpu)
            cpu.cr0 = 0x10 | 0x20 if environment.real else CR0 | (CR0_PG if environment.paged else 0)
            cpu.cr3 = TABLES
            cpu.cr4 = CR4
            if environment.system:
                cpu.cr0, cpu.cr4 = cpu.cr0 & ~CR0_AM | CR0_MP, cpu.cr4 | CR4_PSE
            cpu.on_control_change("cr0")
        self._set_segments(environment)

    def _set_segments(self, environment: Environment) -> None:
        """Segments, ring and system flags."""
        cpu = self.cpu
        cpu.cpl = 3 if environment.user else 0
        cpu.eflags = 0x2_3002 if environment.v86 else 2  # VM, IOPL 3: IF and HLT are another room's
        for n, segment in enumerate(environment.segments):
            wide = environment.real or environment.v86
            selector = segment.base >> 4 if wide else SELECTORS.get(segment, 0)
            if environment.system:
                selector = SYSTEM_SELECTORS[n]
            dpl = 0x60 if environment.user and not environment.real else 0
            cpu.set_segment(n, selector, segment.base, segment.limit, 0x93 | dpl if wide else segment.attr | dpl)

    def _forget_stores(self) -> None:
        """Trace pages again that have come to verify themselves."""
        for page in self.fragments.verified:
            self.cache.invalidate(page, 0, PAGE, "test")
        self.fragments.verified.clear()
        self.faults.stores.clear()

    def run_case(self, case: Case) -> Outcome:
        """Run *case* from its start to its end."""
        cpu, environment = self.cpu, case.environment
        before = initial_memory(case)
        shift = SHIFT if environment.paged else 0
        for at, data in before.items():
            there = at + shift
            if self._windows[shift][at] != data or bytes(self.physical.ram[there : there + len(data)]) != data:
                self.physical.write(there, data)
        self._windows[shift] = before
        self._forget_stores()
        self._enter(environment)
        self._paged_cases += environment.paged
        if environment.paged and self._paged_cases % self.flush_every == 0:
            self.physical.write(TABLES, self._tables)
            self.mmu.flush()
        if self.media:
            self._fx(0, case.fx or INITIAL_FX)
        for n in range(8):
            cpu.gpr[n] = case.gpr[n]
        cpu.eflags = cpu.eflags & ~FLAGS | case.flags & FLAGS | layout.IF_FLAG | (layout.AC if case.ac else 0)
        cpu.eip = case.eip
        cpu.halted = False
        cpu.shadow = 0
        self.fault, self.timeout, self.trap = None, False, 0
        self.set_deadline(self.insns, False, True)
        start = self.insns
        self.set_deadline(start + case.max_insns, False, self.exact)
        self.run()
        insns = self.insns - start
        eip, end = cpu.eip, "halt"
        if self.fault is not None:
            linear = eip + environment.segments[CS].base & 0xFFFF_FFFF
            hlt = (
                self.fault.vector == 13
                and CODE <= linear < CODE + 0x2000
                and self.physical.read(linear + shift, 1) == b"\xf4"
            )
            end = "halt" if hlt else (self.fault.vector, self.fault.error or 0)  # type: ignore[assignment]
        elif self.timeout:
            end = "timeout"
        elif cpu.halted and environment.user and not cpu.cpl:
            end, insns = (system.leave(cpu), 0), insns - 1  # type: ignore[assignment]
            eip = cpu.eip
        elif cpu.halted:
            eip, insns = eip - 1, insns - 1
        after = {at: bytes(self.physical.ram[at + shift : at + shift + size]) for at, size in WINDOWS}
        fx = parse_fx(self._fx(8, b"")) if self.media else None
        found = Outcome(tuple(cpu.gpr), cpu.eflags & FLAGS | 2, eip, end, changes(before, after), fx, insns)
        if self.fault is not None and self.fault.cr2 is not None:
            found.address = self.fault.cr2
        return found
