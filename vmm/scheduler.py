"""Guest time and the devices that live in it: deadlines, port accesses, HLT."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from devices.bus import PortBus
from devices.core import NEVER, Clock, Device
from translator.blocks import MAX_INSNS
from vmm.engine import Engine
from vmm.stopwatch import Account, P, R

CHORE_NS: Final = 32_000_000
"""Guest time after which the VMM looks after the host: input, the screen, the run's limits."""
PORT_NS: Final = 1_000
"""What IN and OUT take besides the instruction, as on an ISA bus at 8 MHz: a guest that polls a port until some time
has passed needs no more polls here than on a PC."""


class Scheduler:
    """Runs devices at the guest time they ask for, and stands between IN/OUT and the bus.

    ``chores()`` is called every CHORE_NS, and before the guest halts for as long; ``halted_for_ever()``
    when nothing can wake the CPU; ``wait(nanoseconds)`` may slow an idle guest down to real time, and returns how
    much of it has to pass for the guest: less if an input came, 0 also if it came at once; None: nothing ever comes.
    ``deaf()`` says that no device can interrupt the CPU as the interrupt controller is set up.
    """

    def __init__(self, engine: Engine, clock: Clock, bus: PortBus) -> None:
        self._engine = engine
        self._clock = clock
        self._bus = bus
        self._icount = icount = engine.budget.icount
        self._slack = MAX_INSNS << icount
        """Nanoseconds by which a soft deadline may be early."""
        self._part = (1 << icount) - 1
        """Time is counted in instructions, but for these bits of nanoseconds."""
        self._times: dict[Device, int] = {}
        self._earliest = NEVER
        self._chores_at = 0
        self.exact = False
        """Every deadline is met to the instruction, so that where units end decides nothing (while tracing)."""
        self._counted = False
        """The next deadline is an instruction count, not moved by idle guest time."""
        self.last_insn: int | None = None
        """The instruction count at which ``chores`` is called exactly (--max-insns)."""
        self.sample_at: int | None = None
        """The instruction count at which ``sample`` is called exactly; it chooses the next."""
        self.sample: Callable[[], None] = lambda: None
        self.chores: Callable[[], None] = lambda: None
        self.halted_for_ever: Callable[[], None] = lambda: None
        self.wait: Callable[[int], int | None] = lambda nanoseconds: nanoseconds if nanoseconds < NEVER else None
        self.deaf: Callable[[], bool] = lambda: False
        self._port_io = engine.stats.port_io
        self._mmio = engine.stats.mmio
        self._watch = engine.watch
        self.on_read: dict[Device | None, Callable[[], None]] = {}
        self.on_write: dict[Device | None, Callable[[], None]] = {}
        """What to do after IN or OUT, before its time has passed."""
        self._accounts: dict[Device | None, Account] = {}
        """Whose time an access is; nobody's, if no device answers."""
        engine.on_deadline = self.on_deadline
        engine.on_halt = self.on_halt
        engine.cpu.ports = self

    def start(self, devices: Iterable[Device]) -> None:
        """Take the devices that have events of their own, and arm the first deadline."""
        timed = (device for device in devices if type(device).next_event is not Device.next_event)
        self._times = {device: device.next_event() for device in timed}
        self._arm()

    def _account(self, device: Device | None) -> Account:
        account = self._accounts.get(device)
        if account is None:
            account = self._watch.account("device", device.name if device else "nobody")
            self._accounts[device] = account
        return account

    # Ports -------------------------------------------------------------------------------------------------

    def read(self, port: int, size: int) -> int:
        """IN."""
        engine = self._engine
        device = self._bus.owner[port]
        before = self._watch.enter(self._account(device))
        self._clock.now = engine.now
        value = self._bus.read(port, size)
        if device in self.on_read:
            self.on_read[device]()
        self._accessed(device)
        self._watch.enter(before)
        return value

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        engine = self._engine
        device = self._bus.owner[port]
        before = self._watch.enter(self._account(device))
        self._clock.now = engine.now
        self._bus.write(port, size, value)
        if device in self.on_write:
            self.on_write[device]()
        self._accessed(device)
        self._watch.enter(before)

    def read_block(self, port: int, count: int, size: int) -> bytes | None:
        """REP INS, if the device takes many reads at once."""
        ports = self._bus.blocks(port, size)
        if ports is None or ports.read_block is None:
            return None
        device = self._bus.owner[port]
        before = self._watch.enter(self._account(device))
        self._clock.now = self._engine.now
        data = ports.read_block(count, size)
        self._accessed(device, count)
        self._watch.enter(before)
        return data

    def write_block(self, port: int, data: bytes, size: int) -> bool:
        """REP OUTS, if the device takes many writes at once."""
        ports = self._bus.blocks(port, size)
        if ports is None or ports.write_block is None:
            return False
        device = self._bus.owner[port]
        before = self._watch.enter(self._account(device))
        self._clock.now = self._engine.now
        ports.write_block(data, size)
        self._accessed(device, len(data) // size)
        self._watch.enter(before)
        return True

    def _accessed(self, device: Device | None, count: int = 1) -> None:
        """Let the time of *count* bus cycles pass, and ask the device for its next event again."""
        budget = self._engine.budget
        moved = False
        if device is None:
            self._port_io["nobody"] += count
        else:
            self._port_io[device.name] += count
            time = self._times.get(device)
            if time is not None and (soonest := device.next_event()) != time:
                self._times[device] = soonest
                moved = True
        passed = count * PORT_NS
        if moved or self._counted or passed & self._part or budget.left <= passed >> self._icount:
            budget.idle_ns += passed
            self._arm()
        else:
            budget.elapse(passed)

    def timed(self, device: Device, call: Callable[P, R]) -> Callable[P, R]:
        """A function of *device*, with its time charged to it."""
        return self._watch.timed(self._account(device), call)

    def memory_accessed(self, device: Device) -> None:
        """A device answered at a physical address: it may have its next event at another time.

        That happens in the midst of an instruction that runs alone, whose budget stands in a register: the deadline
        moves after it.
        """
        self._mmio[device.name] += 1
        if device in self._times:
            time = device.next_event()
            if time != self._times[device]:
                self._times[device] = time
                self._engine.after_step(self._arm)

    def poll(self, device: Device) -> None:
        """Ask a device for its next event again, after something happened to it."""
        time = device.next_event()
        if time != self._times.get(device):
            self._times[device] = time
            self._arm()

    # Deadlines ---------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Let emitted code run to the next event, the next chores or the last instruction."""
        engine = self._engine
        self._earliest = earliest = min(self._times.values(), default=NEVER)
        soft = self._chores_at < earliest
        due = -(engine.idle_ns - (self._chores_at if soft else earliest) >> self._icount)
        stops = [insn for insn in (self.last_insn, self.sample_at) if insn is not None]
        self._counted = bool(stops) and min(stops) <= due + MAX_INSNS
        exact = self.exact or self._counted
        if exact:
            due, soft = min((due, *stops)), False
        engine.set_deadline(due, soft, exact)

    def on_deadline(self) -> None:
        """Guest time has come to an event, the chores or the end."""
        engine = self._engine
        before = self._watch.enter(self._watch.schedule)
        if not self.exact or engine.now >= self._earliest:
            self._run_devices()
        if self.sample_at is not None and engine.insns >= self.sample_at:
            self.sample()
        over = self.last_insn is not None and engine.insns >= self.last_insn
        if over or engine.now + (0 if self.exact else self._slack) >= self._chores_at:
            self._do_chores()
        self._arm()
        self._watch.enter(before)

    def _do_chores(self) -> None:
        self._chores_at = self._engine.now + CHORE_NS
        before = self._watch.enter(self._watch.chores)
        self._engine.host.tend_tlb()
        self._engine.faults.trust()
        self.chores()
        self._watch.enter(before)

    def _run_devices(self) -> None:
        now = self._clock.now = self._engine.now
        times = self._times
        for device, time in times.items():
            if time <= now:
                before = self._watch.enter(self._account(device))
                device.advance()
                self._watch.enter(before)
        for device in times:  # any of them: one acts on another, as the far end of a line on its serial port
            times[device] = max(device.next_event(), now + 1)

    # HLT ---------------------------------------------------------------------------------------------------

    def on_halt(self) -> None:
        """HLT: let guest time pass until the next event."""
        engine = self._engine
        listening = engine.cpu.interrupts_enabled and not self.deaf()
        if engine.interrupt and engine.cpu.interrupts_enabled:
            return
        if not listening or self._earliest >= self._chores_at:
            self._do_chores()
            self._arm()
            if engine.stopping or engine.nmi or (engine.interrupt and engine.cpu.interrupts_enabled):
                return
        if not listening:
            self.halted_for_ever()
            return
        ahead = self._earliest - engine.now
        if ahead > 0:
            passed = self.wait(ahead if self._earliest < NEVER else NEVER)
            if passed is None:
                self.halted_for_ever()
                return
            engine.skip(min(passed, ahead))
            if passed < ahead:
                self._do_chores()
        self.on_deadline()
