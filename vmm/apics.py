"""The APICs on the board: between the interrupt lines, the 8259A pair and the CPU."""

from __future__ import annotations

from typing import Final

from devices.core import Clock, Device, Line
from devices.ioapic import IoApic
from devices.lapic import LVT_LINT0, LVT_LINT1, SVR, LocalApic
from devices.pic import CASCADE, PicPair
from vmm import msr
from vmm.engine import Engine
from vmm.scheduler import Scheduler

EXTINT_PIN: Final = 0
TIMER_PIN: Final = 2
"""Pins of the I/O APIC for the 8259A pair and for IRQ 0; the other IRQs have the pins of their numbers."""
LEFT_BY_BIOS: Final = ((SVR, 0x1FF), (LVT_LINT0, 0x8700), (LVT_LINT1, 0x8400))
"""How SeaBIOS leaves the local APIC: switched on, the 8259A pair at LINT0, NMI at LINT1."""


def pin_of(irq: int) -> int:
    """The pin of the I/O APIC that an ISA IRQ goes to, as the MADT says."""
    return TIMER_PIN if irq == 0 else irq


class Apics:
    """A local APIC and an I/O APIC, wired to the CPU and to *pic*.

    ``lines[irq]`` are the ISA interrupt lines: each goes to both kinds of controller.
    """

    def __init__(self, engine: Engine, clock: Clock, scheduler: Scheduler, pic: PicPair) -> None:
        self._engine = engine
        self._clock = clock
        self._scheduler = scheduler
        self.local = LocalApic(clock, pic.acknowledge, engine.raise_nmi)
        self.io = IoApic(self.local.message)
        self.local.on_eoi = self.io.end_of_interrupt
        self.lines = [self._fan_out(pic, irq) for irq in range(16)]
        pic.intr.connect(self._on_8259)
        self.local.intr.connect(engine.set_interrupt)
        engine.acknowledge = self._acknowledge
        for device in self.devices:
            self._attach(device)
        before = engine.cpu.on_control_change

        def changed(name: str) -> None:
            before(name)
            if name == "apic_base":
                self.local.set_enabled(msr.apic_enabled(engine.cpu))

        engine.cpu.on_control_change = changed

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.local, self.io

    def reset(self) -> None:
        """After RESET of the CPU and of the chips: there is a local APIC, and it is enabled."""
        self._engine.cpu.msr[msr.IA32_APIC_BASE] = msr.REGISTERS[msr.IA32_APIC_BASE].reset | msr.APIC_ENABLE

    def without_firmware(self) -> None:
        """Leave the local APIC as the BIOS does."""
        for register, value in LEFT_BY_BIOS:
            self.local.write(register, 4, value)

    def deaf(self) -> bool:
        """Only the 8259A pair can interrupt the CPU."""
        return not self.local.listens

    # Wires ------------------------------------------------------------------------------------------------

    def _fan_out(self, pic: PicPair, irq: int) -> Line:
        if irq == CASCADE:
            return Line()
        to_8259, to_pin = pic.line(irq), self.io.pins[pin_of(irq)]

        def drive(level: bool) -> None:
            to_8259.set(level)
            to_pin.set(level)

        return Line(drive)

    def _on_8259(self, level: bool) -> None:
        self.local.lint0.set(level)
        self.io.pins[EXTINT_PIN].set(level)

    def _acknowledge(self) -> int:
        self._clock.now = self._engine.now
        vector = self.local.acknowledge()
        self._scheduler.poll(self.local)
        return vector

    def _attach(self, device: Device) -> None:
        """Let a device answer at its physical addresses, at the exact time."""
        (window,) = device.mmio()
        timed = self._scheduler.timed

        def read(offset: int, size: int) -> int:
            self._clock.now = self._engine.now
            value = window.read(offset, size)
            self._scheduler.memory_accessed(device)
            return value

        def write(offset: int, size: int, value: int) -> None:
            self._clock.now = self._engine.now
            window.write(offset, size, value)
            self._scheduler.memory_accessed(device)

        self._engine.physical.add_device(window.base, window.size, timed(device, read), timed(device, write))
