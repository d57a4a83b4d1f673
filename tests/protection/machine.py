"""A virtual CPU over a small flat memory, for the tests of protection."""

from __future__ import annotations

from vmm.errors import GuestFault
from vmm.vcpu import VCpu

MEMORY_SIZE = 0x10_0000
PAGE_FAULT = 14


class FlatMemory:
    """1 MiB of linear memory; the rest reads as ones.  Pages (4 KiB) in ``absent`` and ``read_only`` fault."""

    def __init__(self) -> None:
        self.data = bytearray(MEMORY_SIZE)
        self.rom = MEMORY_SIZE
        """Writes from here on are ignored."""
        self.absent: set[int] = set()
        self.read_only: set[int] = set()

    def _check(self, linear: int, size: int, user: bool, write: bool) -> None:
        for page in {linear >> 12, linear + size - 1 >> 12}:
            if page in self.absent or (write and page in self.read_only):
                code = (page not in self.absent) | write << 1 | user << 2
                raise GuestFault(PAGE_FAULT, code, max(linear, page << 12))

    def read(self, linear: int, size: int, user: bool = False) -> bytes:
        if self.absent:
            self._check(linear, size, user, False)
        return bytes(self.data[linear : linear + size]).ljust(size, b"\xff")

    def write(self, linear: int, data: bytes, user: bool = False) -> None:
        self.probe_write(linear, len(data), user)
        end = min(linear + len(data), self.rom)
        if linear < end:
            self.data[linear:end] = data[: end - linear]

    def read_int(self, linear: int, size: int, user: bool = False) -> int:
        return int.from_bytes(self.read(linear, size, user), "little")

    def write_int(self, linear: int, size: int, value: int, user: bool = False) -> None:
        self.write(linear, value.to_bytes(size, "little"), user)

    def probe_write(self, linear: int, size: int, user: bool = False) -> None:
        if self.absent or self.read_only:
            self._check(linear, size, user, True)


def make_cpu() -> tuple[VCpu, FlatMemory]:
    """A CPU after RESET and its memory, full of zeros."""
    memory = FlatMemory()
    return VCpu(memoryview(bytearray(0x1000)), memory), memory


def snapshot(cpu: VCpu, memory: FlatMemory) -> tuple[object, ...]:
    """All that a guest can see of the CPU and its memory."""
    attrs = [segment.attr for segment in cpu.segments]
    return bytes(cpu.block), attrs, cpu.cpl, cpu.cr0, cpu.cr2, cpu.cr3, list(cpu.dr), bytes(memory.data)
