"""Records a run, or checks one against a trace.

Meanwhile every deadline is met to the instruction, so that neither the stops for records nor where units end decide
when an interrupt comes.  A plain run, whose deadlines may be late by less than a unit, may take it a little later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vmm.config import Channel, MachineConfig
from vmm.errors import ExitStatus, UsageError, VmmError
from vmm.loaders import read_modules
from vmm.machine import Machine
from vmm.result import RunResult
from vmm.trace.compare import Difference, compare, refuse_other_machine
from vmm.trace.format import Header, Level, Trace
from vmm.trace.insns import InsnLog
from vmm.trace.records import Record
from vmm.trace.ring import Ring
from vmm.trace.state import registers

INTERVAL = 1 << 16
"""Instructions between records: fewer take more than twice the plain run where guests are fastest (docs/traces.md)."""
MOST_RECORDED = 1 << 24
"""Instructions of a window: their records, 64 bytes each, stand in memory until they are written."""
MOST_REFINED = 1 << 20
"""Instructions of the longest interval that is recorded again, each of them, where a run differs in it."""
ROM_WINDOW = 256 << 10
"""The end of the address space, where firmware is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """At which instruction counts there is to be a record."""

    level: Level = Level.HASH
    interval: int = INTERVAL
    start: int = 0
    end: int | None = None
    """The last count; None: to the end of the run."""

    def check(self) -> Plan:
        """This plan, if it makes sense.  Raises ``UsageError``."""
        if self.interval <= 0:
            raise UsageError("--interval: must be a positive number of instructions")
        if self.end is not None and self.end < self.start:
            raise UsageError(f"--to: {self.end} comes before --from, {self.start}")
        if self.level is Level.INSN and self.end is None:
            raise UsageError("--level insn needs --to: every instruction of a whole run is too much")
        if self.level is Level.INSN and self.end is not None and self.end - self.start > MOST_RECORDED:
            raise UsageError(f"--to: more than {MOST_RECORDED:,} instructions are too many for --level insn")
        return self

    def next(self, insns: int) -> int | None:
        """The first count of the plan after *insns*."""
        if insns < self.start:
            count = self.start
        else:
            count = insns + self.interval - (insns - self.start) % self.interval
        return count if self.end is None or count <= self.end else None


def quiet(config: MachineConfig) -> MachineConfig:
    """The machine without a terminal and without real time: nothing from outside reaches the guest but the script.

    Raises ``UsageError`` for a machine that is to run in real time.
    """
    if config.realtime:
        raise UsageError("-realtime: a run in real time cannot be repeated, so it has no trace")

    def silent(channel: Channel) -> Channel:
        return Channel("null") if channel.kind == "stdio" else channel

    return replace(
        config,
        realtime=False,
        display="none",
        serial=tuple(silent(channel) for channel in config.serial),
        debugcon=silent(config.debugcon),
        bios_log=silent(config.bios_log),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _initrd(config: MachineConfig) -> dict[str, str]:
    """The initrd, or the modules that *config* names in its place, which ``MachineConfig.images`` leaves out."""
    if config.initrd is None:
        return {}
    if config.initrd.exists():
        return {"-initrd": _sha256(config.initrd)}
    modules = read_modules(str(config.initrd))
    return {f"-initrd module {n}": hashlib.sha256(module.data).hexdigest() for n, module in enumerate(modules)}


def describe(machine: Machine) -> dict[str, Any]:
    """All of the machine that a guest can see, as JSON has it; how its code runs is no part of it."""
    config = machine.config
    firmware = machine.memory[(1 << 32) - ROM_WINDOW : 1 << 32]
    return {
        "memory": config.memory,
        "append": config.append,
        "boot": config.boot,
        "drives": [
            [drive.interface, drive.index, drive.media, drive.read_only]
            for drive in sorted(config.drives, key=lambda drive: (drive.interface, drive.index))
        ],
        "serial ports": len(config.serial),
        "isa-debug-exit": config.debug_exit and [config.debug_exit.iobase, config.debug_exit.iosize],
        "broken-ram": [[cell.address, cell.bit, cell.stuck] for cell in config.broken_ram],
        "rtc": config.rtc_base.isoformat(),
        "icount": config.icount,
        "apic": config.apic,
        "reboot": config.reboot,
        "script": [[step.kind, step.text] for step in config.script],
        "fail-on": list(config.fail_on),
        "firmware": hashlib.sha256(firmware).hexdigest(),
        "images": {option: _sha256(path) for option, path in config.images().items()} | _initrd(config),
    }


class _Sampler:
    """Calls *take* with a record at each count of *plan*."""

    def __init__(self, machine: Machine, plan: Plan, take: Callable[[Record], None]) -> None:
        self._machine, self._plan, self._take = machine, plan, take
        self._chain = b""
        scheduler = machine.board.scheduler
        scheduler.exact = True
        scheduler.sample = self._sample
        scheduler.sample_at = plan.next(-1)

    def make(self) -> Record:
        """The record of now."""
        engine = self._machine.engine
        record = Record.after(self._chain, engine.insns, registers(engine))
        self._chain = record.chain
        return record

    def _sample(self) -> None:
        scheduler = self._machine.board.scheduler
        self._take(self.make())
        scheduler.sample_at = self._plan.next(self._machine.engine.insns)
        if scheduler.sample_at is None:
            self._machine.pause(ExitStatus.OK, "the last record of the trace is made")


def _repeats(result: RunResult, machine: Machine) -> bool:
    """Whether the end of the run comes again: not that by the wall's clock or by Ctrl-C."""
    limit = machine.config.max_insns
    if result.status == ExitStatus.TIMEOUT:
        return limit is not None and result.insns >= limit
    return result.status != ExitStatus.INTERRUPTED


class _Window:
    """Records each instruction of *plan*."""

    def __init__(self, machine: Machine, plan: Plan) -> None:
        self._machine, self._plan = machine, plan
        self.ring = Ring(machine)
        scheduler = machine.board.scheduler
        scheduler.exact = True
        scheduler.sample = self._sample
        scheduler.sample_at = plan.start

    def _sample(self) -> None:
        scheduler, end = self._machine.board.scheduler, self._plan.end
        if scheduler.sample_at == self._plan.start:
            self.ring.start()
            scheduler.sample_at = end
        if end is not None and self._machine.engine.insns >= end:
            scheduler.sample_at = None
            self._machine.pause(ExitStatus.OK, "the last record of the trace is made")


def record(
    config: MachineConfig, plan: Plan, arguments: Sequence[str] = (), expected: dict[str, Any] | None = None
) -> tuple[Trace, RunResult]:
    """Run the machine and record it; how the run ended.

    Raises what ``Machine`` does, and ``UsageError``, also if the machine is not as *expected* (see ``describe``).
    """
    with Machine(quiet(config)) as machine:
        limit, description = machine.config.max_insns, describe(machine)
        if expected is not None:
            refuse_other_machine(expected, description)
        header = Header(plan.level, plan.interval, plan.start, plan.end, description, list(arguments), limit)
        records: list[Record] = []
        plan.check()
        window = _Window(machine, plan) if plan.level is Level.INSN else None
        sampler = None if window else _Sampler(machine, plan, records.append)
        result = machine.run()
        if machine.board.scheduler.sample_at is not None and _repeats(result, machine):
            header.ending = result.reason
            if sampler:
                records.append(sampler.make())
        return Trace(header, window.ring.finish() if window else records), result


def refine(config: MachineConfig, trace: Trace, found: Difference) -> InsnLog | None:
    """Each instruction of this run between the last record that agreed with *trace* and the first that did not.

    None if they are too many, or the run has no such record.
    """
    first, last = found.window
    if found.found is None or last - first > MOST_REFINED:
        return None
    config = replace(config, max_insns=trace.header.max_insns)
    records = record(config, Plan(Level.INSN, 1, first, last))[0].records
    assert isinstance(records, InsnLog)
    return records


class Unfinished(VmmError):
    """The wall's clock ended the run before the trace was checked."""

    status = ExitStatus.TIMEOUT


class _Checker:
    """Takes the records of a run and holds them against those of a trace."""

    def __init__(self, machine: Machine, trace: Trace) -> None:
        self._machine = machine
        self._records = trace.records
        self._ends = trace.header.ending is not None
        self.agreed = 0
        """How many records agree."""
        self.difference: Difference | None = None

    @property
    def is_done(self) -> bool:
        """There is nothing more to compare."""
        return self.difference is not None or self.agreed == len(self._records)

    def take(self, found: Record | None) -> None:
        """Compare the next record; None: there is no other."""
        before = self._records[self.agreed - 1] if self.agreed else None
        expected = self._records[self.agreed] if self.agreed < len(self._records) else None
        if expected is None or found is None or expected.chain != found.chain:
            self.difference = Difference(before, expected, found, self.agreed)
        else:
            self.agreed += 1
        if self.difference is not None or (self.is_done and not self._ends):
            self._machine.pause(ExitStatus.OK, "the trace is checked")


def check(config: MachineConfig, trace: Trace) -> tuple[Difference | None, Trace | None]:
    """Run the machine again, up to the first record that differs from *trace*; the run, if *trace* has instructions.

    Raises what ``Machine`` does, ``UsageError`` if the trace is of another machine or empty, ``Unfinished`` if the
    wall's clock ends the run and ``KeyboardInterrupt`` if Ctrl-C does.
    """
    header = trace.header
    if not trace.records:
        raise UsageError("the trace has no records: its run ended before the first")
    if header.level == Level.BLOCK:
        raise UsageError("the trace is of another machine: it was imported; see vmm trace lockstep --log")
    plan = Plan(Level(header.level), header.interval, header.start, header.end)
    config = replace(config, max_insns=header.max_insns)
    if plan.level is Level.INSN:
        made, result = record(config, plan, expected=header.machine)
        if result.status == ExitStatus.INTERRUPTED:
            raise KeyboardInterrupt
        if made.header.ending is None and made.records and made.records[-1].insns != header.end:
            raise Unfinished(f"{result.reason}, with instruction {made.records[-1].insns} of {header.end} recorded")
        return compare(trace, made), made
    with Machine(quiet(config)) as machine:
        refuse_other_machine(header.machine, describe(machine))
        checker = _Checker(machine, trace)
        sampler = _Sampler(machine, plan, checker.take)
        result = machine.run()
        if checker.is_done and (checker.difference is not None or header.ending is None):
            return checker.difference, None
        if result.status == ExitStatus.INTERRUPTED:
            raise KeyboardInterrupt
        if not _repeats(result, machine):
            raise Unfinished(f"{result.reason}, with {checker.agreed} of {len(trace.records)} records checked")
        if machine.board.scheduler.sample_at is not None:
            checker.take(sampler.make())
        elif not checker.is_done:
            checker.take(None)
        return checker.difference, None
