"""The board: which chips the PC has and how they are wired (i440FX and PIIX3, as QEMU's machine "pc")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

from devices.backends import Disk
from devices.bus import PortBus
from devices.cmos import pc_cmos
from devices.core import Clock, Device, Line
from devices.dma import Dma
from devices.fdc import Drive as FloppyDrive
from devices.fdc import Fdc
from devices.fw_cfg import FwCfg
from devices.i440fx import I440fx
from devices.i8042 import I8042
from devices.ide import PRIMARY, SECONDARY, AtaDisk, Cdrom, IdeChannel
from devices.pci import PciBus, port_mapper
from devices.pic import PicPair
from devices.piix3 import Piix3Ide, Piix3Isa, Piix4Pm, configure
from devices.pit import Pit
from devices.ports import (
    BOCHS_DEBUG,
    SEABIOS_DEBUG,
    DebugConsole,
    DebugExit,
    PostPort,
    SystemPortA,
    SystemPortB,
)
from devices.rtc import Rtc
from devices.uart import Uart
from devices.vga.core import TEXT_SIZE, Vga, Window
from vmm import brokenram
from vmm.apics import Apics
from vmm.config import MachineConfig
from vmm.disks import guess_geometry
from vmm.engine import Engine
from vmm.input import SerialFeeder
from vmm.layout import BIOS_END, BIOS_WINDOW, MEBIBYTE, SHADOW, SHADOW_SIZE, VGA_WINDOW, VGA_WINDOW_SIZE
from vmm.media import open_medium
from vmm.physical import DEVICE, EXACT, NOTHING, RAM, ROM
from vmm.quickports import QuickPorts
from vmm.scheduler import Scheduler

COM_PORTS = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3))
VGA_MEMORY = 4 << 20
IDE_IRQS = (14, 15)


LEFT_BY_BIOS = (
    *((0x43, 0x34), (0x40, 0x00), (0x40, 0x00)),
    *((0x20, 0x11), (0x21, 0x08), (0x21, 0x04), (0x21, 0x01), (0x21, 0xB8)),
    *((0xA0, 0x11), (0xA1, 0x70), (0xA1, 0x02), (0xA1, 0x01), (0xA1, 0x8E)),
    *((0x4D0, 0x00), (0x4D1, 0x0C)),
    *((0xD6, 0xC0), (0xD4, 0x00)),
    *((0x64, 0x60), (0x60, 0x61)),
    *((0x92, 0x02), (0x3F6, 0x00), (0x376, 0x00)),
)
"""How SeaBIOS leaves the chips (port, value), for kernels that rely on it: interrupts at vectors 08h and 70h, of which
those of timer, keyboard, floppy, clock, mouse and disks are let through, IRQ 10 and 11 by level; the timer at 18.2 Hz;
the DMA cascade; the keyboard translated, with interrupts; A20 open.  The timer comes first: the interrupt controllers'
initialisation forgets the edge that setting its mode makes."""


class Board:
    """Everything around the CPU.

    ``serial_output[n](data)``, ``debug_output(data)`` (port E9h), ``bios_output(data)`` (port 402h), ``on_reset()``,
    ``on_debug_exit(status)`` and ``on_sleep(type)`` are the board's connections to the outside, ``serial_input[n]`` is
    what comes from there.
    """

    def __init__(self, engine: Engine, config: MachineConfig) -> None:
        self._engine = engine
        self.config = config
        self.clock = Clock()
        self.bus = PortBus()
        self.scheduler = Scheduler(engine, self.clock, self.bus)
        self.serial_output: list[Callable[[bytes], None]] = [lambda data: None for _ in config.serial]
        self.debug_output: Callable[[bytes], None] = lambda data: None
        self.bios_output: Callable[[bytes], None] = lambda data: None
        self.on_reset: Callable[[], None] = lambda: None
        self.on_debug_exit: Callable[[int], None] = lambda status: None
        self.on_sleep: Callable[[int], None] = lambda slp_typ: None
        self._bios = 0
        self._bios_size = 0
        self._a20_lines = [False, False]
        self.reset_at = 0
        """Guest time of the last reset (ns)."""
        self.devices: list[Device] = []
        self._make_chips()
        for device in self.devices:
            self.bus.attach(device)
        self._map_memory()
        for page in brokenram.install(engine.physical, config.broken_ram):
            engine.fragments.verify_page(page)
        self.scheduler.deaf = self._is_deaf
        self._quick_ports = QuickPorts(engine, self.scheduler, self.pic, self.pit, self.port61, self.post)

    def _is_deaf(self) -> bool:
        """No interrupt line can reach the CPU."""
        return self.pic.master.state.imr == 0xFF and (self.apics is None or self.apics.deaf())

    def _make_chips(self) -> None:
        config, clock, engine = self.config, self.clock, self._engine
        physical = engine.physical
        self.pic = PicPair()
        self.apics = Apics(engine, clock, self.scheduler, self.pic) if config.apic else None
        if self.apics is not None:
            irq = self.apics.lines
        else:
            self.pic.intr.connect(engine.set_interrupt)
            engine.acknowledge = self.pic.acknowledge
            irq = [self.pic.line(n) if n != 2 else Line() for n in range(16)]
        self.pit = Pit(clock, irq[0])
        self.pit.waits = lambda: bool(self.pic.master.state.edges & 1)
        reset = Line(lambda level: self.on_reset() if level else None)
        self.i8042 = I8042(clock, irq[1], irq[12], Line(lambda level: self._set_a20(0, level)), reset)
        self.port61 = SystemPortB(clock, self.pit.gate2, lambda: self.pit.output(2))
        port92 = SystemPortA(Line(lambda level: self._set_a20(1, level)), reset)
        self.post = PostPort()
        self.dma = Dma(physical)
        self.uarts = [
            Uart(clock, irq[line], lambda data, n=n: self.serial_output[n](data), base, f"com{n + 1}")  # type: ignore[misc]
            for n, (base, line) in enumerate(COM_PORTS[: len(config.serial)])
        ]
        self.serial_input = [SerialFeeder(clock, uart) for uart in self.uarts]
        floppies: list[FloppyDrive] = [FloppyDrive(), FloppyDrive()]
        disks: list[AtaDisk | Cdrom | None] = [None] * 4
        self.backends: list[Disk] = []
        for drive in config.drives:
            backend = open_medium(drive)
            self.backends.append(backend)
            if drive.interface == "floppy":
                floppies[drive.index].insert(backend)
            elif drive.media == "cdrom":
                disks[drive.index] = Cdrom(backend)
            else:
                disks[drive.index] = AtaDisk(backend, guess_geometry(backend))
        self.fdc = Fdc(clock, irq[6], self.dma.channel(2), floppies)
        self.ide = [
            IdeChannel(irq[line], (disks[2 * n], disks[2 * n + 1]), ports, f"ide{n}")
            for n, (line, ports) in enumerate(zip(IDE_IRQS, (PRIMARY, SECONDARY), strict=True))
        ]
        geometries = [astuple(disk.geometry) if isinstance(disk, AtaDisk) else None for disk in disks]
        types = [floppy.type for floppy in floppies if floppy.disk is not None]
        cmos = pc_cmos(config.memory, types, geometries, config.boot or "cad")
        self.rtc = Rtc(clock, irq[8], config.rtc_base, cmos)
        self.fw_cfg = FwCfg(physical)
        self.fw_cfg.add_machine(config.memory)
        self._make_vga()
        mapper = port_mapper(self.bus)
        self.bridge = I440fx(self._on_pam)
        self.isa = Piix3Isa(irq)
        self.pci_ide = Piix3Ide()
        self.pm = Piix4Pm(clock, irq[9], lambda slp_typ: self.on_sleep(slp_typ), mapper)
        self.pci = PciBus([self.bridge, self.isa, self.pci_ide, self.pm], lambda: self.on_reset())
        debug = [
            DebugConsole(BOCHS_DEBUG, lambda data: self.debug_output(data)),
            DebugConsole(SEABIOS_DEBUG, lambda data: self.bios_output(data)),
        ]
        self.devices = [
            self.pic, self.pit, self.i8042, self.port61, port92, self.post, self.dma, *self.uarts, self.fdc, *self.ide,
            self.rtc, self.fw_cfg, self.vga, self.pci, self.bridge, self.isa, self.pci_ide, self.pm, *debug,
            *self.serial_input,
        ]  # fmt: skip
        if self.apics is not None:
            self.devices += self.apics.devices
        if config.debug_exit is not None:
            exit_ = config.debug_exit
            self.devices.append(DebugExit(lambda status: self.on_debug_exit(status), exit_.iobase, exit_.iosize))

    def _make_vga(self) -> None:
        host = self._engine.host
        memory, text = host.new_frames(VGA_MEMORY), host.new_frames(TEXT_SIZE)
        self._vga_frames = (memory, text)
        self.vga = Vga(self.clock, host.frame(memory, VGA_MEMORY), host.frame(text, TEXT_SIZE), self._on_window)

    # Memory -------------------------------------------------------------------------------------------------

    def _map_memory(self) -> None:
        physical = self._engine.physical
        (window,) = self.vga.mmio()
        timed, vga = self.scheduler.timed, self.vga
        physical.add_device(VGA_WINDOW, VGA_WINDOW_SIZE, timed(vga, window.read), timed(vga, window.write), exact=False)
        self._on_window(self.vga.window)

    def _on_window(self, window: Window) -> None:
        """The display decodes its window another way now."""
        physical = self._engine.physical
        nothing = physical.nothing.host
        for address in range(VGA_WINDOW, VGA_WINDOW + VGA_WINDOW_SIZE, 0x1000):
            offset = address - window.base
            if not 0 <= offset < window.size:
                physical.map(address, 0x1000, NOTHING, nothing)
            elif window.memory is None:
                physical.map_device_page(address, EXACT if window.latched else DEVICE)
            else:
                memory, text = self._vga_frames
                base = text if window.memory is self.vga.text else memory + window.offset
                physical.map(address, 0x1000, RAM, base + offset)

    def load_bios(self, image: bytes) -> None:
        """Put the firmware below 4 GiB and its last 128 KiB below 1 MiB."""
        physical = self._engine.physical
        self._bios = physical.add_rom(BIOS_END - len(image), image)
        self._bios_size = len(image)
        for address in range(SHADOW, SHADOW + SHADOW_SIZE, 0x4000):
            self._on_pam(address, 0x4000, False, False)

    def _on_pam(self, address: int, size: int, read_enable: bool, write_enable: bool) -> None:
        """The host bridge sends reads and writes of a part of C0000h..FFFFFh elsewhere."""
        physical = self._engine.physical
        if read_enable:
            physical.map_ram(address, size, write_enable)
        elif self._bios and address >= MEBIBYTE - self._bios_size and address >= BIOS_WINDOW:
            physical.map(address, size, ROM, self._bios + self._bios_size - (MEBIBYTE - address))
        elif self._bios:
            for at in range(address, address + size, 0x1000):
                physical.map(at, 0x1000, NOTHING, physical.nothing.host)

    def _set_a20(self, source: int, level: bool) -> None:
        """The gate is open if the 8042 or port 92h opens it."""
        self._a20_lines[source] = level
        mask = 0xFFFF_FFFF if any(self._a20_lines) else 0xFFEF_FFFF
        self._engine.mmu.set_a20(mask)

    def without_firmware(self, font: bytes) -> None:
        """Set the chips up as the BIOS leaves them, for a kernel that is started without one.

        *font* is 256 characters of 16 rows, or nothing.
        """
        for port, value in LEFT_BY_BIOS:
            self.bus.write(port, 1, value)
        configure(self.isa, self.pci_ide, self.pm)
        self.vga.set_text_mode(font)
        if self.apics is not None:
            self.apics.without_firmware()

    def reset(self) -> None:
        """The RESET line of all chips: power-on, or whatever resets the machine later."""
        self.clock.now = self.reset_at = self._engine.now
        for device in self.devices:
            device.reset()
        self._quick_ports.hide()
        if self.apics is not None:
            self.apics.reset()
