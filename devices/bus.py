"""The port bus: a flat table of handlers, one row for each of the 65,536 ports and each width."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from devices.core import Device, Ports

Reader = Callable[[int, int], int]
Writer = Callable[[int, int, int], None]

PORTS = 0x1_0000


def float_read(port: int, size: int) -> int:
    """Nobody drives the data lines: they are pulled up."""
    return (1 << 8 * size) - 1


def float_write(port: int, size: int, value: int) -> None:
    """Nobody listens."""


class PortBus:
    """Routes IN and OUT to the devices that decode a port.

    ``read(port, size)`` and ``write(port, size, value)`` take any port and a size of 1, 2 or 4 bytes;
    an access that a device does not take in its width is split into bytes, low first, as the ISA bus
    does.  ``owner[port]`` names the device for the statistics.
    """

    def __init__(self) -> None:
        self._ranges: list[Ports | None] = [None] * PORTS
        self._reads: dict[int, list[Reader]] = {size: [float_read] * PORTS for size in (1, 2, 4)}
        self._writes: dict[int, list[Writer]] = {size: [float_write] * PORTS for size in (1, 2, 4)}
        self.owner: list[Device | None] = [None] * PORTS

    def attach(self, device: Device, ranges: Iterable[Ports] | None = None) -> None:
        """Decode the device's ports (or *ranges*).  Raises ``ValueError`` where two devices overlap."""
        for ports in device.ports() if ranges is None else ranges:
            for port in range(ports.first, ports.first + ports.count):
                if (other := self.owner[port]) is not None:
                    raise ValueError(f"port {port:#x} is claimed by {other.name} and {device.name}")
            for port in range(ports.first, ports.first + ports.count):
                self.owner[port] = device
                self._ranges[port] = ports
            self._fill(ports.first, ports.count)

    def detach(self, first: int, count: int) -> None:
        """Stop decoding these ports (a PCI BAR moved)."""
        for port in range(first, first + count):
            self.owner[port] = None
            self._ranges[port] = None
        self._fill(first, count)

    def _fill(self, first: int, count: int) -> None:
        for port in range(max(first - 3, 0), min(first + count, PORTS)):
            ports = self._ranges[port]
            for size in (1, 2, 4):
                whole = ports is None or (size in ports.widths and port + size <= ports.first + ports.count)
                alone = ports is not None or all(r is None for r in self._ranges[port : port + size])
                if not whole or not alone:
                    self._reads[size][port] = self._split_read
                    self._writes[size][port] = self._split_write
                else:
                    self._reads[size][port] = ports.read if ports and ports.read else float_read
                    self._writes[size][port] = ports.write if ports and ports.write else float_write

    def _split_read(self, port: int, size: int) -> int:
        reads = self._reads[1]
        return sum(reads[port + n & 0xFFFF](port + n & 0xFFFF, 1) << 8 * n for n in range(size))

    def _split_write(self, port: int, size: int, value: int) -> None:
        writes = self._writes[1]
        for n in range(size):
            writes[port + n & 0xFFFF](port + n & 0xFFFF, 1, value >> 8 * n & 0xFF)

    def blocks(self, port: int, size: int) -> Ports | None:
        """Who takes many accesses of *size* bytes to *port* at once, if anybody does."""
        ports = self._ranges[port]
        if ports is None or ports.read_block is None or port != ports.first or size not in ports.widths:
            return None
        return ports

    def read(self, port: int, size: int) -> int:
        """IN: *size* bytes from *port*."""
        return self._reads[size][port](port, size)

    def write(self, port: int, size: int, value: int) -> None:
        """OUT: *size* bytes to *port*."""
        self._writes[size][port](port, size, value)
