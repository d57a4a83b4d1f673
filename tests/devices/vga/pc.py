"""The chip on a port bus, modes as a video BIOS sets them, and what to ask of either machine, ours or QEMU's."""

from __future__ import annotations

from devices.bus import PortBus
from devices.core import Clock
from devices.vga import Vga, Window, dispi
from devices.vga.registers import Mode
from tests.devices.qemu import Qemu


class Pc:
    """The chip on a port bus, and its window by the handlers alone."""

    def __init__(self, memory: int = 16 << 20) -> None:
        self.clock = Clock()
        self.windows: list[Window] = []
        self.vga = Vga(self.clock, bytearray(memory), on_window=self.windows.append)
        self.bus = PortBus()
        self.bus.attach(self.vga)
        self.read = self.bus.read
        self.write = self.bus.write
        (self.mmio,) = self.vga.mmio()

    def read_memory(self, address: int, size: int) -> bytes:
        return bytes(self.mmio.read(address + n - self.mmio.base, 1) for n in range(size))

    def write_memory(self, address: int, data: bytes) -> None:
        for n, value in enumerate(data):
            self.mmio.write(address + n - self.mmio.base, 1, value)


Machine = Pc | Qemu


def indexed(machine: Machine, port: int, index: int, value: int) -> None:
    machine.write(port, 1, index)
    machine.write(port + 1, 1, value)


def fetch(machine: Machine, port: int, index: int) -> int:
    machine.write(port, 1, index)
    return machine.read(port + 1, 1)


def attribute(machine: Machine, index: int, value: int) -> None:
    machine.read(0x3DA, 1)
    machine.write(0x3C0, 1, index)
    machine.write(0x3C0, 1, value)


def vbe(machine: Machine, *rows: tuple[int, int]) -> None:
    for index, value in rows:
        machine.write(dispi.INDEX_PORT, 2, index)
        machine.write(dispi.DATA_PORT, 2, value)


def vbe_registers(machine: Machine) -> list[int]:
    values = []
    for index in range(12):
        machine.write(dispi.INDEX_PORT, 2, index)
        values.append(machine.read(dispi.DATA_PORT, 2))
    if not values[dispi.ENABLE] & dispi.ENABLED:
        values[dispi.VIRT_HEIGHT] = 0  # left over from the mode before
    return values


def set_mode(machine: Machine, mode: Mode) -> None:
    """Program a mode as a video BIOS does: by the ports."""
    vbe(machine, (dispi.ENABLE, 0))
    machine.write(0x3C2, 1, mode.misc)
    for index, value in enumerate(mode.sequencer):
        indexed(machine, 0x3C4, index, value)
    indexed(machine, 0x3D4, 0x11, 0)
    for index, value in enumerate(mode.crtc):
        indexed(machine, 0x3D4, index, value)
    for index, value in enumerate(mode.graphics):
        indexed(machine, 0x3CE, index, value)
    for index, value in enumerate(mode.attribute):
        attribute(machine, index, value)
    machine.read(0x3DA, 1)
    machine.write(0x3C0, 1, 0x20)


GRAPHICS_12 = Mode(
    misc=0xE3,
    sequencer=bytes.fromhex("03 01 0f 00 06"),
    crtc=bytes.fromhex("5f4f508254800b3e 0040000000000000 ea8cdf2800e704e3 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 00 05 0f ff"),
    attribute=bytes.fromhex("0001020304051407 38393a3b3c3d3e3f 01000f0000"),
)
"""Mode 12h: 640 by 480, 16 colours in planes."""
GRAPHICS_4 = Mode(
    misc=0x63,
    sequencer=bytes.fromhex("03 09 03 00 02"),
    crtc=bytes.fromhex("2d2728902b80bf1f 00c1000000000000 9c8e8f140096b9a2 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 30 0f 0f ff"),
    attribute=bytes.fromhex("0013151702040607 1011121314151617 0100030000"),
)
"""Mode 4: the CGA's 320 by 200, 4 colours."""
GRAPHICS_6 = Mode(
    misc=0x63,
    sequencer=bytes.fromhex("03 01 01 00 06"),
    crtc=bytes.fromhex("5f4f50825480bf1f 00c1000000000000 9c8e8f280096b9c2 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 00 0d 0f ff"),
    attribute=bytes.fromhex("0017171717171717 1717171717171717 0100010000"),
)
"""Mode 6: the CGA's 640 by 200, 2 colours."""
GRAPHICS_13 = Mode(
    misc=0x63,
    sequencer=bytes.fromhex("03 01 0f 00 0e"),
    crtc=bytes.fromhex("5f4f50825480bf1f 0041000000000000 9c8e8f284096b9a3 ff"),
    graphics=bytes.fromhex("00 00 00 00 00 40 05 0f ff"),
    attribute=bytes.fromhex("0001020304050607 08090a0b0c0d0e0f 41000f0000"),
)
"""Mode 13h: 320 by 200, 256 colours."""


def planes(machine: Machine, size: int) -> list[bytes]:
    """The first *size* bytes of all planes, by read mode 0 at A0000h."""
    rows = ((0x3C4, 4, 6), (0x3CE, 5, 0), (0x3CE, 6, 5), (0x3CE, 8, 0xFF), (0x3CE, 3, 0))
    for row in rows:
        indexed(machine, *row)
    contents = []
    for plane in range(4):
        indexed(machine, 0x3CE, 4, plane)
        contents.append(machine.read_memory(0xA_0000, size))
    return contents
