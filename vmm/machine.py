"""The machine: a PC that runs a guest.

``run`` is the hub: it lets the engine run until somebody stops it, resets the machine if that is why, and says how
the run ended.  A run that paused (a limit, Ctrl-C, what was waited for) can go on; one that ended stays ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from devices.core import NEVER
from vmm.api import GuestMemory, Keyboard, Registers, Screen, SerialPort
from vmm.board import Board
from vmm.boot import Boot
from vmm.config import Channel, MachineConfig, Step, configure
from vmm.engine import Engine
from vmm.errors import ExitStatus, TripleFault
from vmm.expect import Conversation
from vmm.frontend import Frontend
from vmm.governor import Governor
from vmm.hooks import Hook, Hooks, Remover
from vmm.host import Host
from vmm.limits import Limits
from vmm.media import with_medium
from vmm.physical import PhysicalMemory
from vmm.result import RunResult
from vmm.signals import Interrupts
from vmm.stats import Stats
from vmm.stopwatch import Stopwatch
from vmm.translations import Translations

ACPI_S5 = 0

QUIET = MachineConfig(serial=(Channel("null"),), display="none", realtime=False)
"""What a program that makes a machine gets if it says nothing: no terminal is used."""


class Machine:
    """A virtual PC.  A context manager.

    ``Machine(config)``, or ``Machine(memory="128M", kernel="linux", ...)`` with the fields of ``MachineConfig`` as
    keywords; then nothing is printed or read unless *serial* or *display* say so.
    Raises ``UsageError``, ``ImageError`` or ``Unsupported``.
    """

    def __init__(self, config: MachineConfig | None = None, **settings: Any) -> None:
        self.watch = Stopwatch()
        """Where wall time goes."""
        self.config, kind = with_medium(configure(config or QUIET, **settings))
        config = self.config
        self.stats = Stats(tc_capacity_bytes=config.tc_size)
        self._host = Host(config.memory, config.tc_size, watch=self.watch)
        physical = PhysicalMemory(self._host, config.memory)
        self._store = Translations(config.tc_store) if config.tc_store is not None else None
        self.engine = Engine(
            self._host, physical, self.stats, config.tc_size, config.chaining, self._store, config.icount
        )
        self.board = Board(self.engine, config)
        self._boot = Boot(config, kind, self.board, physical)
        self.frontend = Frontend(config, self.board, self)
        self.on_statistics: Callable[[], None] = lambda: None
        """Called when the user asks for the statistics (Ctrl-A s)."""
        self._result: tuple[int, str] | None = None
        self._ended = False
        self._reset_wanted = False
        self._limits = Limits()
        self._until: Callable[[Machine], bool] | None = None
        self._closed = False
        self._interrupts = Interrupts(self.engine.stop)
        realtime = config.realtime
        if realtime is None:
            realtime = self.frontend.interactive and not config.script
        self._realtime = realtime
        self._governor: Governor | None = None
        self._hooks = Hooks(self)
        self.serials = tuple(SerialPort(self, n) for n in range(len(config.serial)))
        self.keyboard = Keyboard(self)
        self.screen = Screen(self)
        self.memory = GuestMemory(physical)
        self.registers = Registers(self.engine.cpu)
        self._wire()
        self._power_on()
        self.watch.enter(self.watch.outside)

    def _wire(self) -> None:
        board = self.board
        board.on_reset = self._on_reset
        board.on_debug_exit = lambda status: self.end(status, f"the guest ended the run with status {status}")
        board.on_sleep = self._on_sleep
        scheduler = board.scheduler
        scheduler.chores = self._chores
        scheduler.wait = self._wait
        scheduler.halted_for_ever = self._halted_for_ever

    @property
    def serial(self) -> SerialPort:
        """COM1."""
        return self.serials[0]

    # Power and reset -----------------------------------------------------------------------------------------

    def _power_on(self) -> None:
        """Reset everything and stand at the first instruction."""
        engine = self.engine
        engine.reset()
        self.board.reset()
        self._boot.enter(engine.cpu)
        engine.cpu.on_control_change("cr0")

    def reset(self) -> None:
        """Push the reset button: CPU and chips start again, RAM keeps its content.

        A guest that runs without firmware cannot be started again: the run ends with a sentence.
        """
        self._on_reset()

    def _on_reset(self) -> None:
        self._reset_wanted = True
        self.engine.stop()

    def _restart(self, fault: TripleFault | None) -> None:
        """Reset the machine, at an instruction boundary, or end the run instead."""
        self._reset_wanted = False
        reboot = self.config.reboot
        if reboot and self._boot.firmware:
            self._hooks.call("reset")
            self._power_on()
        elif fault is not None:
            self.end(ExitStatus.TRIPLE_FAULT, str(fault))
        else:
            because = "there is no firmware to start again" if reboot else "-no-reboot"
            self.end(ExitStatus.OK, f"the guest reset the machine ({because})")

    def _on_sleep(self, slp_typ: int) -> None:
        if slp_typ == ACPI_S5:
            self.end(ExitStatus.OK, "the guest switched the machine off")

    def _halted_for_ever(self) -> None:
        enabled = self.engine.cpu.interrupts_enabled
        why = "and no interrupt can reach it" if enabled else "(HLT with interrupts off)"
        self.end(ExitStatus.HALTED, f"the guest halted for ever {why}")

    # Running -------------------------------------------------------------------------------------------------

    def run(
        self,
        until: str | Callable[[Machine], bool] | None = None,
        max_insns: int | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """Run until something ends or pauses the run, and say what; again, and it goes on from there.

        *until* is a regular expression for what the guest prints anywhere, or a function of the machine that is
        asked every 8 ms of guest time (a million instructions at most).  *max_insns* counts from here; *timeout* is
        in seconds of wall time.  Both pause with status ``TIMEOUT``, *until* with ``OK``.
        """
        if self._ended:
            return self._report(0.0)
        self._result = None
        start = perf_counter()
        self.watch.enter(self.watch.exit)
        config, insns = self.config, self.engine.insns
        self._limits = Limits.of(insns, max_insns, timeout, config.max_insns, config.timeout)
        self.board.scheduler.last_insn = self._limits.last_insn
        self._governor = Governor(lambda: self.engine.now, self._sleep) if self._realtime else None
        try:
            with self._watching(until), self._interrupts:
                self._run()
            self.watch.enter(self.watch.chores)
            self.frontend.look()
        finally:
            self.watch.enter(self.watch.outside)
            self._fill_statistics()
        return self._report(perf_counter() - start)

    @contextmanager
    def _watching(self, until: str | Callable[[Machine], bool] | None) -> Iterator[None]:
        """Pause the run when *until* says so."""
        if until is None or callable(until):
            self._until = until
            try:
                yield
            finally:
                self._until = None
            return
        conversation = Conversation((Step("expect", until),))

        def listener(source: str, data: bytes | str) -> None:
            conversation.feed(source, data)
            if conversation.outcome is not None:
                self.pause(*conversation.outcome)

        self.frontend.listeners.append(listener)
        try:
            yield
        finally:
            self.frontend.listeners.remove(listener)

    def _run(self) -> None:
        """Run the engine until the run pauses or ends."""
        engine, scheduler = self.engine, self.board.scheduler
        while self._result is None:
            if self._reset_wanted:
                self._restart(None)
                continue
            scheduler.start(self.board.devices)
            try:
                engine.run()
            except TripleFault as fault:
                self._restart(fault)
            except KeyboardInterrupt:
                self._interrupts.pending = True
            if self._interrupts.pending:
                self.pause(ExitStatus.INTERRUPTED, "interrupted by Ctrl-C")

    def end(self, status: int, reason: str) -> None:
        """End the run for good; the first reason given counts."""
        if self._result is None:
            self._ended = True
        self.pause(status, reason)

    def pause(self, status: int, reason: str) -> None:
        """End the run, which can go on later; the first reason given counts."""
        if self._result is None:
            self._result = (status, reason)
        self.engine.stop()

    def _report(self, seconds: float) -> RunResult:
        assert self._result is not None
        status, reason = self._result
        waiting = self.frontend.conversation.waiting_for
        if waiting is not None:
            if status == ExitStatus.OK:
                status = ExitStatus.FAIL_ON
            reason += f" while waiting for {waiting!r}"
        return RunResult(int(status), reason, self.engine.insns, seconds)

    # In the midst of a run -----------------------------------------------------------------------------------

    def _chores(self) -> None:
        """Look after the host: limits of the run, the screen, input."""
        if self._interrupts.pending:
            self.pause(ExitStatus.INTERRUPTED, "interrupted by Ctrl-C")
        reached = self._limits.reached(self.engine.insns)
        if reached:
            self.pause(ExitStatus.TIMEOUT, reached)
        self.board.clock.now = self.engine.now
        self.frontend.chores()
        if self._until is not None and self._until(self):
            self.pause(ExitStatus.OK, "what was waited for has happened")
        if self._governor is not None:
            self._governor.pace()

    def _sleep(self, seconds: float) -> bool:
        if self._limits.deadline is not None:
            seconds = min(seconds, max(self._limits.deadline - perf_counter(), 0))
        before = self.watch.enter(self.watch.idle)
        woken = self.frontend.wait(seconds, self._interrupts.wake)
        self.watch.enter(before)
        return woken

    def _wait(self, nanoseconds: int) -> int | None:
        """HLT for *nanoseconds* of guest time (``Scheduler.wait``)."""
        if self._governor is not None:
            return self._governor.idle(nanoseconds)
        return None if nanoseconds >= NEVER else nanoseconds

    # Statistics ----------------------------------------------------------------------------------------------

    def print_statistics(self) -> None:
        """The user asked for them."""
        self._fill_statistics()
        self.on_statistics()

    def _fill_statistics(self) -> None:
        stats, cache = self.stats, self.engine.cache
        counters = cache.counters
        stats.guest_insns = self.engine.insns
        stats.tc_fragments = len(cache)
        stats.tc_bytes = cache.bytes_used
        stats.translations = counters.fragments_made
        stats.recalled = self.engine.fragments.recalled
        stats.translated_insns.clear()
        stats.translated_insns.update(counters.translated)
        stats.translated_bytes = counters.guest_bytes
        stats.emitted_bytes = counters.host_bytes
        stats.chain_direct = counters.chained
        stats.evictions = counters.evictions
        stats.flushes = counters.flushes
        stats.invalidations.clear()
        stats.invalidations.update(counters.invalidations)
        stats.hidden_faults = self.engine.mmu.hidden_faults
        self._fill_seconds()

    def _fill_seconds(self) -> None:
        stats, watch = self.stats, self.watch
        stats.seconds.update(watch.parts())
        stats.callout_seconds.update(watch.details("callout"))
        stats.device_seconds.update(watch.details("device"))
        stats.wall_seconds = watch.total

    # Hooks and the end -----------------------------------------------------------------------------------------

    def on(self, event: str, hook: Hook) -> Remover:
        """Call *hook* whenever *event* happens (``vmm.hooks.EVENTS``); what is returned removes it again.

        Raises ``UsageError`` for an unknown event.
        """
        return self._hooks.on(event, hook)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the terminal, files and memory; more calls do nothing."""
        if self._closed:
            return
        self._closed = True
        self.watch.enter(self.watch.setup)
        self._hooks.close()
        self.frontend.close()
        for backend in self.board.backends:
            backend.flush()
        self._host.close()
        try:
            if self._store is not None:
                self._store.save()
        finally:
            self.watch.enter(self.watch.outside)
        self._fill_seconds()
