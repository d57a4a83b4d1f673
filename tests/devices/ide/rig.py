"""An ATA channel with a disk, or with a CD-ROM drive, to be driven by its registers."""

from __future__ import annotations

from devices.core import Line
from devices.ide import AtaDisk, Cdrom, Drive, Geometry, IdeChannel

DATA, FEATURES, COUNT, LOW, MID, HIGH, DEVICE, COMMAND = range(0x1F0, 0x1F8)
ERROR, STATUS = FEATURES, COMMAND
CONTROL = ALT = 0x3F6
LBA, SLAVE = 0x40, 0x10


class Image:
    """A medium whose sectors repeat their number; a bad one cannot be read or written."""

    def __init__(self, sectors: int, read_only: bool = False, bad: int = -1) -> None:
        self.data = bytearray(b"".join(n.to_bytes(4, "little") * 128 for n in range(min(sectors, 4096))))
        self.sectors = sectors
        self.read_only = read_only
        self.bad = bad
        self.flushes = 0

    def read(self, lba: int, count: int) -> bytes:
        assert 0 <= lba <= lba + count <= self.sectors
        if lba <= self.bad < lba + count:
            raise OSError("bad sector")
        return bytes(self.data[512 * lba : 512 * (lba + count)]).ljust(512 * count, b"\0")

    def write(self, lba: int, data: bytes) -> None:
        assert not self.read_only
        assert 0 <= lba <= lba + len(data) // 512 <= self.sectors
        if lba <= self.bad < lba + len(data) // 512:
            raise OSError("bad sector")
        self.data[512 * lba : 512 * lba + len(data)] = data

    def flush(self) -> None:
        if self.bad == -2:
            raise OSError("no space")
        self.flushes += 1


class Rig:
    def __init__(self, *drives: Drive | None) -> None:
        self.edges: list[bool] = []
        self.line = Line(self.edges.append)
        self.image = Image(2048)
        first, second = (*drives, None, None)[:2] if drives else (AtaDisk(self.image, Geometry(4, 8, 63)), None)
        self.chip = IdeChannel(self.line, (first, second))
        self._control = self.chip.ports()[1]

    def out(self, *writes: tuple[int, int]) -> None:
        for port, value in writes:
            if port == CONTROL:
                assert self._control.write
                self._control.write(port, 1, value)
            else:
                self.chip.write(port, 1, value)

    def inb(self, port: int) -> int:
        if port == ALT:
            assert self._control.read
            return self._control.read(port, 1)
        return self.chip.read(port, 1)

    def level(self) -> bool:
        return self.line.level

    def command(self, command: int, lba: int = 0, count: int = 0, device: int = LBA) -> int:
        """A 28-bit command; returns the status without touching the interrupt."""
        self.out((DEVICE, device | lba >> 24), (COUNT, count), (LOW, lba & 0xFF), (MID, lba >> 8 & 0xFF))
        self.out((HIGH, lba >> 16 & 0xFF), (COMMAND, command))
        return self.inb(ALT)

    def command_ext(self, command: int, lba: int, count: int) -> int:
        self.out((DEVICE, LBA), (COUNT, count >> 8), (COUNT, count & 0xFF))
        for port, shift in ((LOW, 0), (MID, 8), (HIGH, 16)):
            self.out((port, lba >> shift + 24 & 0xFF), (port, lba >> shift & 0xFF))
        self.out((COMMAND, command))
        return self.inb(ALT)

    def address(self) -> tuple[int, ...]:
        return tuple(self.inb(port) for port in (COUNT, LOW, MID, HIGH))

    def words(self, count: int) -> list[int]:
        return [self.chip.read(DATA, 2) for _ in range(count)]


class CdRig(Rig):
    """A CD-ROM drive that has told its power-on attention."""

    def __init__(self, image: Image | None, told: bool = True) -> None:
        super().__init__(Cdrom(image))
        if told:
            self.packet(0x03, 0, 0, 0, 18)

    def packet(self, *packet: int, limit: int = 0xFFFE, reason: int = 3) -> bytes:
        """Send a packet and take its data; ``self.blocks`` has the sizes of the DRQ blocks."""
        self.out((FEATURES, 0), (MID, limit & 0xFF), (HIGH, limit >> 8), (DEVICE, 0), (COMMAND, 0xA0))
        assert (self.inb(ALT), self.inb(COUNT), self.level()) == (0x58, 1, False)
        self.chip.write_block(bytes(packet).ljust(12, b"\0"), 2)
        data = b""
        self.blocks: list[int] = []
        while self.inb(STATUS) & 8:
            assert self.inb(COUNT) == 2
            size = self.inb(MID) | self.inb(HIGH) << 8
            self.blocks.append(size)
            data += self.chip.read_block((size + 1) // 2, 2)[:size]
            assert self.level()
        assert self.inb(COUNT) == reason
        return data

    def sense(self) -> tuple[int, int, int]:
        data = self.packet(0x03, 0, 0, 0, 18)
        return data[2], data[12], data[13]
