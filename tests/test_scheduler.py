"""The scheduler: deadlines of devices that act on each other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from devices.bus import PortBus
from devices.core import Clock, Line
from devices.uart import Uart
from vmm.clock import ICOUNT
from vmm.input import SerialFeeder
from vmm.scheduler import Scheduler
from vmm.stopwatch import Stopwatch


class FakeEngine:
    """Time, and a deadline that is met exactly."""

    def __init__(self) -> None:
        self.stats = SimpleNamespace(port_io={}, mmio={})
        self.watch = Stopwatch()
        self.cpu = SimpleNamespace()
        self.budget = SimpleNamespace(icount=ICOUNT)
        self.insns = 0
        self.idle_ns = 0
        self.deadline = 0

    @property
    def now(self) -> int:
        return (self.insns << ICOUNT) + self.idle_ns

    def set_deadline(self, insns: int, soft: bool, exact: bool = False) -> None:
        self.deadline = max(insns, self.insns)

    def run(self, scheduler: Scheduler, nanoseconds: int) -> None:
        """Let *nanoseconds* pass in which the guest computes."""
        end = self.insns + (nanoseconds >> ICOUNT)
        while self.deadline < end:
            self.insns = self.deadline
            scheduler.on_deadline()
        self.insns = end


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_what_the_far_end_sends_times_out_in_the_port(count: int) -> None:
    """Characters below the FIFO's trigger level raise the interrupt after four character times."""
    engine, clock, bus = FakeEngine(), Clock(), PortBus()
    interrupt = Line()
    uart = Uart(clock, interrupt, lambda data: None)
    feeder = SerialFeeder(clock, uart)
    bus.attach(uart)
    scheduler = Scheduler(engine, clock, bus)  # type: ignore[arg-type]
    for register, value in ((3, 3), (2, 0x81), (1, 1), (4, 8)):
        uart.write(uart.base + register, 1, value)
    scheduler.start([uart, feeder])
    feeder.put(bytes(range(1, count + 1)))
    scheduler.poll(feeder)
    read = bytearray()
    for _ in range(count + 10):
        engine.run(scheduler, 10 * uart.character_ns)
        while interrupt.level:
            clock.now = engine.now
            read.append(uart.read(uart.base, 1))
            scheduler.poll(uart)
    assert bytes(read) == bytes(range(1, count + 1))
