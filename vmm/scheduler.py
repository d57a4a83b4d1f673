"""Guest time and the devices that live in it: deadlines, port accesses, HLT."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter

from devices.bus import PortBus
from devices.core import NEVER, Clock, Device
from translator.unit import MAX_INSNS
from vmm.engine import Engine

NS_PER_INSN = 8
CHORE_INSNS = 1_000_000
"""Instructions after which the VMM looks after the host: input, the screen, the run's limits."""


class Scheduler:
    """Runs devices at the guest time they ask for, and stands between IN/OUT and the bus.

    ``chores()`` is called every CHORE_INSNS instructions and while the guest halts; ``halted_for_ever()`` when
    nothing can wake the CPU; ``wait(nanoseconds)`` may slow an idle guest down to real time, and says if an input came.
    """

    def __init__(self, engine: Engine, clock: Clock, bus: PortBus) -> None:
        self._engine = engine
        self._clock = clock
        self._bus = bus
        self._times: dict[Device, int] = {}
        self._timed: frozenset[Device] = frozenset()
        self._chores_at = 0
        self.last_insn: int | None = None
        """The instruction count at which ``chores`` is called exactly (--max-insns)."""
        self.chores: Callable[[], None] = lambda: None
        self.halted_for_ever: Callable[[], None] = lambda: None
        self.wait: Callable[[int], bool] = lambda nanoseconds: False
        self._port_io = engine.stats.port_io
        engine.on_deadline = self.on_deadline
        engine.on_halt = self.on_halt
        engine.cpu.ports = self
        engine.cpu.tsc = lambda: engine.now

    def start(self, devices: Iterable[Device]) -> None:
        """Take the devices that have events of their own, and arm the first deadline."""
        self._timed = frozenset(d for d in devices if type(d).next_event is not Device.next_event)
        self._times = {device: device.next_event() for device in self._timed}
        self._arm()

    # Ports -------------------------------------------------------------------------------------------------

    def read(self, port: int, size: int) -> int:
        """IN."""
        start = perf_counter()
        device = self._bus.owner[port]
        self._clock.now = self._engine.now
        self._port_io[device.name if device is not None else "nobody"] += 1
        value = self._bus.read(port, size)
        if device in self._timed:
            self.poll(device)  # type: ignore[arg-type]
        self._engine.stats.seconds["device"] += perf_counter() - start
        return value

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        start = perf_counter()
        device = self._bus.owner[port]
        self._clock.now = self._engine.now
        self._port_io[device.name if device is not None else "nobody"] += 1
        self._bus.write(port, size, value)
        if device in self._timed:
            self.poll(device)  # type: ignore[arg-type]
        self._engine.stats.seconds["device"] += perf_counter() - start

    def poll(self, device: Device) -> None:
        """Ask a device for its next event again, after something happened to it."""
        time = device.next_event()
        if time != self._times.get(device):
            self._times[device] = time
            self._arm()

    # Deadlines ---------------------------------------------------------------------------------------------

    def _earliest(self) -> int:
        return min(self._times.values(), default=NEVER)

    def _arm(self) -> None:
        """Let emitted code run to the next event, the next chores or the last instruction."""
        engine = self._engine
        due = -(-(self._earliest() - engine.idle_ns) // NS_PER_INSN)
        soft = self._chores_at < due
        if soft:
            due = self._chores_at
        if self.last_insn is not None and self.last_insn <= due:
            due, soft = self.last_insn, False
        engine.set_deadline(due, soft)

    def on_deadline(self) -> None:
        """Guest time has come to an event, the chores or the end."""
        engine = self._engine
        self._run_devices()
        insns = engine.insns
        if insns + MAX_INSNS >= self._chores_at or (self.last_insn is not None and insns >= self.last_insn):
            self._chores_at = insns + CHORE_INSNS
            self.chores()
        self._arm()

    def _run_devices(self) -> None:
        now = self._clock.now = self._engine.now
        times = self._times
        for device, time in times.items():
            if time <= now:
                device.advance()
                times[device] = max(device.next_event(), now + 1)

    def on_halt(self) -> None:
        """HLT: let guest time pass until the next event."""
        engine = self._engine
        self.chores()
        if engine.stopping or engine.interrupt and engine.cpu.interrupts_enabled:
            return
        now = engine.now
        earliest = self._earliest()
        if not engine.cpu.interrupts_enabled and not engine.nmi:
            self.halted_for_ever()
            return
        if earliest >= NEVER:
            if not self.wait(NEVER):
                self.halted_for_ever()
            return
        if earliest > now:
            if self.wait(earliest - now):
                return
            engine.skip(earliest - now)
        self.on_deadline()
