"""The scheduler: deadlines of devices that act on each other."""

from __future__ import annotations

import pytest

from devices.bus import PortBus
from devices.core import Clock, Line
from devices.uart import Uart
from vmm.clock import ICOUNT
from vmm.engine import Engine
from vmm.host import Host
from vmm.input import SerialFeeder
from vmm.physical import PhysicalMemory
from vmm.scheduler import Scheduler
from vmm.stats import Stats


class FakeEngine(Engine):
    """Time, and a deadline that is met exactly."""

    def __init__(self) -> None:
        host = Host(1 << 20, 1 << 20)
        super().__init__(host, PhysicalMemory(host, 1 << 20), Stats(), 1 << 20)
        self.computed = self.deadline = 0

    @property
    def insns(self) -> int:
        return self.computed

    @property
    def now(self) -> int:
        return (self.computed << ICOUNT) + self.idle_ns

    def set_deadline(self, insns: int, soft: bool, exact: bool = False) -> None:
        self.deadline = max(insns, self.computed)

    def run(self, scheduler: Scheduler, nanoseconds: int) -> None:
        """Let *nanoseconds* pass in which the guest computes."""
        end = self.computed + (nanoseconds >> ICOUNT)
        while self.deadline < end:
            self.computed = self.deadline
            scheduler.on_deadline()
        self.computed = end


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_what_the_far_end_sends_times_out_in_the_port(count: int) -> None:
    """Characters below the FIFO's trigger level raise the interrupt after four character times."""
    engine, clock, bus = FakeEngine(), Clock(), PortBus()
    interrupt = Line()
    uart = Uart(clock, interrupt, lambda data: None)
    feeder = SerialFeeder(clock, uart)
    bus.attach(uart)
    scheduler = Scheduler(engine, clock, bus)
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
