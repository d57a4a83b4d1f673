"""PCI bus 0 by configuration mechanism #1, and the base of all PCI functions.

Sources: PCI Local Bus Specification 2.1, 3.7.4.1 (mechanism #1) and chapter 6 (configuration space);
82371SB (PIIX3) datasheet, 2.4.7 (RC, the reset control register at CF9h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from devices.bus import PortBus, float_read, float_write
from devices.core import Device, Line, Ports

CONFIG_ADDRESS = 0xCF8
RC = 0xCF9
CONFIG_DATA = 0xCFC

ADDRESS_MASK = 0x80FF_FFFC
"""The bits that CONFIG_ADDRESS keeps: enable, bus, device, function and register number."""
ENABLE = 0x8000_0000

RC_SRST = 0x02
"""System reset: which kind of reset RC_RCPU makes.  The only bit that stays."""
RC_RCPU = 0x04
"""Reset CPU: writing it resets the machine."""

CONFIG_SIZE = 256
VENDOR_ID = 0x00
COMMAND = 0x04
STATUS = 0x06
REVISION_ID = 0x08
CLASS_CODE = 0x09
CACHE_LINE_SIZE = 0x0C
HEADER_TYPE = 0x0E
BAR0, BAR1, BAR2, BAR3, BAR4, BAR5 = range(0x10, 0x28, 4)
SUBSYSTEM_VENDOR_ID = 0x2C
EXPANSION_ROM = 0x30
INTERRUPT_LINE = 0x3C
INTERRUPT_PIN = 0x3D
DEVICE_SPECIFIC = 0x40

COMMAND_IO = 0x001
COMMAND_MEMORY = 0x002
COMMAND_INTX_DISABLE = 0x400
STATUS_INTERRUPT = 0x08
MULTIFUNCTION = 0x80

QEMU_SUBSYSTEM = (0x1AF4, 0x1100)
"""Subsystem vendor and device that QEMU gives its functions."""

STANDARD_WRITABLE = {
    COMMAND: 0x07,
    COMMAND + 1: 0x05,
    CACHE_LINE_SIZE: 0xFF,
    INTERRUPT_LINE: 0xFF,
}
"""Writable bits of the header, a byte a row: I/O, memory, bus master, SERR# and INTx disable, and two scratch bytes."""
STATUS_CLEARED_BY_ONES = 0xF9
"""Error bits of the status register's upper byte: writing one clears."""


def config_space(
    vendor: int,
    device: int,
    class_code: int,
    *,
    revision: int = 0,
    header_type: int = 0,
    status: int = 0,
    registers: dict[int, int] | None = None,
) -> bytes:
    """The 256 bytes that a function shows after reset.

    *class_code* is 24 bits wide (base class, sub-class, programming interface); *registers* are further
    bytes by offset.
    """
    config = bytearray(CONFIG_SIZE)
    config[VENDOR_ID : VENDOR_ID + 4] = (vendor | device << 16).to_bytes(4, "little")
    config[STATUS : STATUS + 2] = status.to_bytes(2, "little")
    config[REVISION_ID : REVISION_ID + 4] = (revision | class_code << 8).to_bytes(4, "little")
    config[HEADER_TYPE] = header_type
    subsystem_vendor, subsystem = QEMU_SUBSYSTEM
    config[SUBSYSTEM_VENDOR_ID : SUBSYSTEM_VENDOR_ID + 4] = (subsystem_vendor | subsystem << 16).to_bytes(4, "little")
    for offset, value in (registers or {}).items():
        config[offset] = value
    return bytes(config)


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Addresses that a function decodes where its configuration space says: a BAR, or a chip's own base register.

    *register* is the offset of the base register; *size* (bytes) is a power of two, at least 4 for I/O, 16 for
    memory, 2 KiB for the expansion ROM.  ``read(offset, size)`` and ``write(offset, size, value)`` serve it;
    *widths* are as in ``Ports``.  A region that is plain memory has *memory* instead, *size* bytes; ``bytes`` are ROM.
    """

    register: int
    size: int
    io: bool
    read: Callable[[int, int], int] | None = None
    write: Callable[[int, int, int], None] | None = None
    widths: tuple[int, ...] = (1, 2, 4)
    memory: bytes | bytearray | memoryview | None = field(default=None, repr=False)
    prefetchable: bool = False


Mapper = Callable[["PciFunction", Region, "int | None", "int | None"], None]
"""``mapper(function, region, old, new)``: the region moved from base address *old* to *new*; None: decoded nowhere."""


def unmapped(function: PciFunction, region: Region, old: int | None, new: int | None) -> None:
    """The mapper of a function whose regions nobody follows."""


@dataclass
class PciState:
    """What every function holds: its configuration space and the level of its interrupt."""

    config: bytearray = field(default_factory=lambda: bytearray(CONFIG_SIZE))
    interrupt: bool = False


class PciFunction(Device):
    """A function on bus 0: 256 bytes of configuration space, write masks, regions and INTx#.

    A subclass gives ``config_reset`` and, if it holds more, ``state_type``, and overrides ``config_written`` where
    a register has effects.  Whoever replaces ``state`` calls ``follow`` afterwards, so that the regions move to
    where the new state has them.
    """

    config_reset: ClassVar[bytes] = bytes(CONFIG_SIZE)
    state_type: ClassVar[type[PciState]] = PciState

    def __init__(self, slot: int, function: int = 0, regions: Sequence[Region] = (), mapper: Mapper = unmapped) -> None:
        self.slot = slot
        self.function = function
        self.regions = tuple(regions)
        self.mapper = mapper
        self.intx = Line()
        self.state: PciState = self.state_type()
        self._placed: dict[Region, int] = {}
        self._writable = bytearray(DEVICE_SPECIFIC) + b"\xff" * (CONFIG_SIZE - DEVICE_SPECIFIC)
        for offset, mask in STANDARD_WRITABLE.items():
            self._writable[offset] = mask
        for region in self.regions:
            if region.register < DEVICE_SPECIFIC:
                enable = 1 if region.register == EXPANSION_ROM else 0
                mask = -region.size & 0xFFFF_FFFF | enable
                self._writable[region.register : region.register + 4] = mask.to_bytes(4, "little")
        self.load_config()

    def load_config(self) -> None:
        """Fill the configuration space with its reset values."""
        config = self.state.config
        config[:] = self.config_reset
        for region in self.regions:
            if region.register < EXPANSION_ROM:
                config[region.register] |= 1 if region.io else 8 * region.prefetchable

    def reset(self) -> None:
        super().reset()
        self.load_config()
        self.intx.set(False)
        self.follow()

    # Configuration space -------------------------------------------------------------------------
    def config_read(self, offset: int, size: int) -> int:
        """*size* bytes at *offset*; the caller keeps them within the 256."""
        return int.from_bytes(self.state.config[offset : offset + size], "little")

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Store what the masks let through, then act on it."""
        config = self.state.config
        before = bytes(config)
        for n in range(offset, offset + size):
            byte = value >> 8 * (n - offset) & 0xFF
            mask = self._writable[n]
            config[n] = config[n] & ~mask | byte & mask
            if n == STATUS + 1:
                config[n] &= ~(byte & STATUS_CLEARED_BY_ONES)
        self.config_written(before)
        self._drive()
        self.follow()

    def config_written(self, before: bytes) -> None:
        """The configuration space was written, and was *before*: what a chip does beyond storing."""

    def register(self, offset: int, size: int) -> int:
        """A register of the configuration space, little-endian."""
        return int.from_bytes(self.state.config[offset : offset + size], "little")

    # Regions -------------------------------------------------------------------------------------
    def base(self, region: Region) -> int | None:
        """Where *region* is decoded now, by its base register and the command register; None: nowhere."""
        command = self.register(COMMAND, 2)
        if not command & (COMMAND_IO if region.io else COMMAND_MEMORY):
            return None
        value = self.register(region.register, 4)
        if region.register == EXPANSION_ROM and not value & 1:
            return None
        address = value & -region.size
        # All ones is how a BAR is sized, and zero is how it stands before firmware placed it.
        top = 0xFFFF if region.io else 0xFFFF_FFFE
        return address if address and address + region.size - 1 <= top else None

    def follow(self) -> None:
        """Tell the mapper of every region that is not where it was."""
        for region in self.regions:
            old, new = self._placed.get(region), self.base(region)
            if old != new:
                if new is None:
                    del self._placed[region]
                else:
                    self._placed[region] = new
                self.mapper(self, region, old, new)

    # INTx# ---------------------------------------------------------------------------------------
    def set_interrupt(self, level: bool) -> None:
        """Raise or drop the function's interrupt; it reaches the line unless the command register holds it off."""
        self.state.interrupt = level
        self._drive()

    def _drive(self) -> None:
        state = self.state
        config = state.config
        config[STATUS] = config[STATUS] & ~STATUS_INTERRUPT | STATUS_INTERRUPT * state.interrupt
        self.intx.set(state.interrupt and not self.register(COMMAND, 2) & COMMAND_INTX_DISABLE)


def port_mapper(bus: PortBus) -> Mapper:
    """A mapper that puts I/O regions on the port bus (memory regions are left alone).

    The guest may move a region over ports that another device decodes: then those keep them, and of the
    region only the ports that are free answer.
    """

    def remap(function: PciFunction, region: Region, old: int | None, new: int | None) -> None:
        if not region.io:
            return
        if old is not None:
            for first, count in _runs(range(old, old + region.size), lambda port: bus.owner[port] is function):
                bus.detach(first, count)
        if new is not None:
            bus.attach(
                function,
                [
                    Ports(first, count, _reader(region, new), _writer(region, new), region.widths)
                    for first, count in _runs(range(new, new + region.size), lambda port: bus.owner[port] is None)
                ],
            )

    return remap


def _runs(ports: range, wanted: Callable[[int], bool]) -> list[tuple[int, int]]:
    """The runs (first, count) of neighbouring *ports* that are *wanted*."""
    runs: list[tuple[int, int]] = []
    for port in ports:
        if wanted(port):
            if runs and sum(runs[-1]) == port:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((port, 1))
    return runs


def _reader(region: Region, base: int) -> Callable[[int, int], int]:
    read = region.read
    return float_read if read is None else lambda port, size: read(port - base, size)


def _writer(region: Region, base: int) -> Callable[[int, int, int], None]:
    write = region.write
    return float_write if write is None else lambda port, size, value: write(port - base, size, value)


@dataclass
class PciBusState:
    """CONFIG_ADDRESS and RC."""

    address: int = 0
    reset_control: int = 0


class PciBus(Device):
    """The host bridge's way to configuration space: CONFIG_ADDRESS, CONFIG_DATA and, between them, RC.

    *on_reset* is called when the guest resets the machine by RC.  The functions are devices of their own: their
    reset is the board's.
    """

    name = "pci"
    state: PciBusState

    def __init__(self, functions: Iterable[PciFunction] = (), on_reset: Callable[[], None] = lambda: None) -> None:
        self.on_reset = on_reset
        self.functions: dict[int, PciFunction] = {}
        self.state = PciBusState()
        for function in functions:
            self.add(function)

    def add(self, function: PciFunction) -> None:
        """Plug a function in.  Raises ``ValueError`` where its place is taken or no place."""
        if not (0 <= function.slot < 32 and 0 <= function.function < 8):
            raise ValueError(f"there is no PCI function {function.slot:02x}.{function.function}")
        place = function.slot << 3 | function.function
        if place in self.functions:
            raise ValueError(f"PCI function {function.slot:02x}.{function.function} is there twice")
        self.functions[place] = function

    def ports(self) -> Sequence[Ports]:
        return (
            Ports(
                CONFIG_ADDRESS,
                4,
                self._read_address,
                self._write_address,
                (1, 2, 4),
                ("CONFIG_ADDRESS", "RC", "CONFIG_ADDRESS+2", "CONFIG_ADDRESS+3"),
            ),
            Ports(CONFIG_DATA, 4, self._read_data, self._write_data, (1, 2, 4), ("CONFIG_DATA",)),
        )

    def _read_address(self, port: int, size: int) -> int:
        if size == 4:
            return self.state.address
        if port == RC and size == 1:
            return self.state.reset_control
        return float_read(port, size)  # only a doubleword is the bridge's; anything else goes out to the ISA bus

    def _write_address(self, port: int, size: int, value: int) -> None:
        if size == 4:
            self.state.address = value & ADDRESS_MASK
        elif port == RC and size == 1:
            self.state.reset_control = value & RC_SRST
            if value & RC_RCPU:
                self.on_reset()

    def _selected(self) -> PciFunction | None:
        address = self.state.address
        if not address & ENABLE or address >> 16 & 0xFF:
            return None
        return self.functions.get(address >> 8 & 0xFF)

    def _read_data(self, port: int, size: int) -> int:
        function = self._selected()
        if function is None:
            return float_read(port, size)  # master abort
        return function.config_read(self.state.address & 0xFC | port & 3, size)

    def _write_data(self, port: int, size: int, value: int) -> None:
        function = self._selected()
        if function is not None:
            function.config_write(self.state.address & 0xFC | port & 3, size, value)
