"""The PC's DMA: two 8237A controllers in cascade with page registers (Intel 8237A; 82371SB, section 4.1).

A device moves its bytes in one go through its ``DmaChannel``.  Whether the controller would have taken
the bus for each transfer (single), for all (block) or while DREQ lasts (demand), and in which priority,
is bus timing that a guest cannot see, so the mode bits 6 and 7 only tell cascade from the rest.
As in the 82371SB there are no memory-to-memory transfers, and channel 4 is the cascade whatever its mode says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from devices.backends import Memory
from devices.core import Device, Ports

CASCADE = 4
"""The channel through which the first controller asks the second for the bus."""

COMMAND_DISABLE = 0x04
MODE_TYPE, MODE_AUTOINIT, MODE_DECREMENT, MODE_SELECT = 0x0C, 0x10, 0x20, 0xC0
TYPE_VERIFY, TYPE_WRITE, TYPE_READ = 0x00, 0x04, 0x08
"""Types of transfer; "write" means to memory."""
SELECT_CASCADE = 0xC0

PAGE_OF_CHANNEL = (0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA)
"""Where in 80h-8Fh the page register of each channel is; port 8Fh is the refresh page."""

REGISTER_NAMES = (
    *(f"{what} {n}" for n in range(4) for what in ("address", "count")),
    *("status/command", "request", "single mask", "mode", "clear flip-flop", "temporary/master clear"),
    *("clear mask", "all mask"),
)


@dataclass
class ChannelState:
    """Current and base registers; addresses and counts are in bytes, in words for channels 5 to 7."""

    base_address: int = 0
    base_count: int = 0
    address: int = 0
    count: int = 0
    mode: int = 0


@dataclass
class ControllerState:
    """One 8237A."""

    channels: list[ChannelState] = field(default_factory=lambda: [ChannelState() for _ in range(4)])
    command: int = 0
    mask: int = 0x0F
    dreq: int = 0
    terminal_counts: int = 0
    flip_flop: bool = False
    """The next access to an address or count is to its high byte."""


@dataclass
class DmaState:
    """Both controllers and the page registers at 80h-8Fh."""

    controllers: list[ControllerState] = field(default_factory=lambda: [ControllerState(), ControllerState()])
    pages: bytearray = field(default_factory=lambda: bytearray(16))


class DmaChannel:
    """DREQ, DACK and TC of one channel: what a device on the ISA bus is wired to."""

    __slots__ = ("_dma", "_number")

    def __init__(self, dma: Dma, number: int) -> None:
        self._dma = dma
        self._number = number

    def request(self, level: bool) -> None:
        """Drive DREQ; the status register shows it."""
        self._dma.set_request(self._number, level)

    @property
    def ready(self) -> bool:
        """A transfer would be acknowledged: the channel is unmasked and its controllers are enabled."""
        return self._dma.is_ready(self._number)

    @property
    def remaining(self) -> int:
        """Bytes up to the terminal count."""
        return self._dma.remaining(self._number)

    def write(self, data: bytes) -> tuple[int, bool]:
        """The device gives *data* to memory: (bytes taken, terminal count reached).

        No more is taken than up to the terminal count, and nothing if the channel is not ``ready``.
        """
        return self._dma.from_device(self._number, data)

    def read(self, size: int) -> tuple[bytes, bool]:
        """The device takes *size* bytes from memory: (the bytes, terminal count reached).

        Fewer come if the terminal count does, and none if the channel is not ``ready``.
        """
        return self._dma.to_device(self._number, size)


class Dma(Device):
    """Both controllers.  Channels 0-3 move bytes within 64 KiB, 5-7 words within 128 KiB."""

    name = "dma"

    def __init__(self, memory: Memory) -> None:
        self.state: DmaState = DmaState()
        self._memory = memory
        self._channels = tuple(DmaChannel(self, n) for n in range(8))

    def channel(self, number: int) -> DmaChannel:
        """The wires of channel 0 to 3 or 5 to 7."""
        if number == CASCADE:
            raise ValueError("channel 4 is the cascade")
        return self._channels[number]

    def reset(self) -> None:
        """RESET: as master clear, for both; DREQ belongs to the devices."""
        requests = [controller.dreq for controller in self.state.controllers]
        self.state = DmaState()
        for controller, dreq in zip(self.state.controllers, requests, strict=True):
            controller.dreq = dreq

    def ports(self) -> Sequence[Ports]:
        second = tuple(name for name in REGISTER_NAMES for _ in range(2))
        return (
            Ports(0x00, 16, self._read_first, self._write_first, names=REGISTER_NAMES),
            Ports(0xC0, 32, self._read_second, self._write_second, names=second),
            Ports(0x81, 15, self._read_page, self._write_page),
        )

    # Ports ---------------------------------------------------------------------------------------
    def _read_first(self, port: int, size: int) -> int:
        return self._read(0, port)

    def _write_first(self, port: int, size: int, value: int) -> None:
        self._write(0, port, value)

    def _read_second(self, port: int, size: int) -> int:
        return self._read(1, port >> 1 & 0xF)

    def _write_second(self, port: int, size: int, value: int) -> None:
        self._write(1, port >> 1 & 0xF, value)

    def _read_page(self, port: int, size: int) -> int:
        return self.state.pages[port & 0xF]

    def _write_page(self, port: int, size: int, value: int) -> None:
        self.state.pages[port & 0xF] = value

    # Read ----------------------------------------------------------------------------------------
    def _read(self, number: int, register: int) -> int:
        controller = self.state.controllers[number]
        if register < 8:
            channel = controller.channels[register >> 1]
            value = channel.count if register & 1 else channel.address
            high, controller.flip_flop = controller.flip_flop, not controller.flip_flop
            return value >> 8 if high else value & 0xFF
        if register == 0x8:
            status = controller.dreq << 4 | controller.terminal_counts
            controller.terminal_counts = 0
            return status
        if register == 0xF:
            return controller.mask  # the 82371SB's; the 8237A's mask cannot be read
        return 0 if register == 0xD else 0xFF  # the temporary register is memory-to-memory's

    # Write ---------------------------------------------------------------------------------------
    def _write(self, number: int, register: int, value: int) -> None:
        controller = self.state.controllers[number]
        if register < 8:
            self._write_channel(controller, register, value)
            return
        bit = 1 << (value & 3)
        match register:
            case 0x8:
                controller.command = value
            case 0x9:
                if value & 4:
                    self._software_request(number, value & 3)
            case 0xA:
                controller.mask = controller.mask | bit if value & 4 else controller.mask & ~bit
            case 0xB:
                controller.channels[value & 3].mode = value & 0xFC
            case 0xC:
                controller.flip_flop = False
            case 0xD:
                self._master_clear(controller)
            case 0xE:
                controller.mask = 0
            case 0xF:
                controller.mask = value & 0x0F

    def _write_channel(self, controller: ControllerState, register: int, value: int) -> None:
        channel = controller.channels[register >> 1]
        shift = 8 if controller.flip_flop else 0
        controller.flip_flop = not controller.flip_flop
        keep = 0xFF00 >> shift
        if register & 1:
            channel.base_count = channel.base_count & keep | value << shift
            channel.count = channel.count & keep | value << shift
        else:
            channel.base_address = channel.base_address & keep | value << shift
            channel.address = channel.address & keep | value << shift

    def _master_clear(self, controller: ControllerState) -> None:
        controller.command = 0
        controller.terminal_counts = 0
        controller.flip_flop = False
        controller.mask = 0x0F

    def _software_request(self, number: int, channel: int) -> None:
        """Transfers that no device asked for, up to the terminal count: nobody drives the bus or listens.

        Software requests are not masked; they need block mode.
        """
        state = self.state.controllers[number]
        line = 4 * number + channel
        if line == CASCADE or state.channels[channel].mode & MODE_SELECT != 0x80 or not self._enabled(number):
            return
        self._move(line, b"\xff" * self.remaining(line))

    # Transfers -------------------------------------------------------------------------------------
    def _enabled(self, number: int) -> bool:
        """The controller can get the bus."""
        first, second = self.state.controllers
        if second.command & COMMAND_DISABLE:
            return False
        return number == 1 or not (first.command & COMMAND_DISABLE or second.mask & 1)

    def set_request(self, number: int, level: bool) -> None:
        """DREQ of channel *number*."""
        controller = self.state.controllers[number >> 2]
        bit = 1 << (number & 3)
        controller.dreq = controller.dreq | bit if level else controller.dreq & ~bit

    def is_ready(self, number: int) -> bool:
        """See ``DmaChannel.ready``."""
        controller = self.state.controllers[number >> 2]
        cascaded = controller.channels[number & 3].mode & MODE_SELECT == SELECT_CASCADE
        return self._enabled(number >> 2) and not controller.mask >> (number & 3) & 1 and not cascaded

    def remaining(self, number: int) -> int:
        """See ``DmaChannel.remaining``."""
        count = self.state.controllers[number >> 2].channels[number & 3].count
        return count + 1 << (number >> 2)

    def from_device(self, number: int, data: bytes) -> tuple[int, bool]:
        """See ``DmaChannel.write``."""
        if not self.is_ready(number):
            return 0, False
        moved, terminal = self._move(number, data)
        return len(moved), terminal

    def to_device(self, number: int, size: int) -> tuple[bytes, bool]:
        """See ``DmaChannel.read``."""
        if not self.is_ready(number):
            return b"", False
        # Where memory is not read, the device sees a floating bus.
        return self._move(number, b"\xff" * min(size, self.remaining(number)))

    def _move(self, number: int, data: bytes) -> tuple[bytes, bool]:
        """Move up to len(*data*) bytes as the mode says; what was on the bus, and whether TC was."""
        wide = number >> 2
        channel = self.state.controllers[number >> 2].channels[number & 3]
        units = min(len(data) >> wide, channel.count + 1)
        bus = data[: units << wide]
        kind = channel.mode & MODE_TYPE
        if kind == TYPE_WRITE:
            self._store(number, channel, bus)
        elif kind == TYPE_READ:
            bus = self._load(number, channel, units)
        step = -units if channel.mode & MODE_DECREMENT else units
        channel.address = channel.address + step & 0xFFFF
        terminal = units == channel.count + 1
        channel.count = channel.count - units & 0xFFFF
        if terminal:
            self._terminal_count(number, channel)
        return bus, terminal

    def _terminal_count(self, number: int, channel: ChannelState) -> None:
        controller = self.state.controllers[number >> 2]
        bit = 1 << (number & 3)
        controller.terminal_counts |= bit
        if channel.mode & MODE_AUTOINIT:
            channel.address = channel.base_address
            channel.count = channel.base_count
        else:
            controller.mask |= bit

    def _pieces(self, number: int, channel: ChannelState, units: int) -> list[tuple[int, int]]:
        """The physical runs (address, bytes) of *units* transfers in ascending order of address within each.

        The page register does not count, so a transfer wraps at the end of its page.
        """
        wide = number >> 2
        page = self.state.pages[PAGE_OF_CHANNEL[number]]
        base = (page & 0xFE if wide else page) << 16
        start = channel.address
        if channel.mode & MODE_DECREMENT:
            below = min(units, start + 1)
            runs = [(start + 1 - below, below), (0x1_0000 - (units - below), units - below)]
        else:
            above = min(units, 0x1_0000 - start)
            runs = [(start, above), (0, units - above)]
        return [(base + (first << wide), count << wide) for first, count in runs if count]

    def _store(self, number: int, channel: ChannelState, data: bytes) -> None:
        for address, size in self._pieces(number, channel, len(data) >> (number >> 2)):
            self._memory.write(address, self._in_order(number, channel, data[:size]))
            data = data[size:]

    def _load(self, number: int, channel: ChannelState, units: int) -> bytes:
        return b"".join(
            self._in_order(number, channel, self._memory.read(address, size))
            for address, size in self._pieces(number, channel, units)
        )

    def _in_order(self, number: int, channel: ChannelState, data: bytes) -> bytes:
        """Between the order of the bus and that of memory."""
        if not channel.mode & MODE_DECREMENT:
            return data
        backward = data[::-1]
        if number < CASCADE:
            return backward
        words = bytearray(backward)
        words[0::2], words[1::2] = backward[1::2], backward[0::2]
        return bytes(words)
