"""A virtual CPU that runs one instruction by its callout handler."""

from __future__ import annotations

from translator.decode import decode
from translator.layout import CS, TR
from vmm.callouts import HANDLERS
from vmm.errors import GuestFault
from vmm.portspace import PortSpace
from vmm.vcpu import CR0_PE, VCpu

MEMORY_SIZE = 0x4_0000
PAGE_FAULT = 14
FLAT_CODE, FLAT_DATA, TSS = 0xC09B, 0xC093, 0x008B
ALL = 0xFFFF_FFFF


class Memory:
    """256 KiB of linear memory that repeats itself.  Pages in ``absent`` and ``read_only`` fault.

    ``bulk`` says whether it knows itself to be plain memory; ``accesses`` counts the calls.
    """

    def __init__(self, bulk: bool = True) -> None:
        self.data = bytearray(MEMORY_SIZE)
        self.absent: set[int] = set()
        self.read_only: set[int] = set()
        self.bulk = bulk
        self.accesses = 0

    def _first_fault(self, linear: int, size: int, write: bool) -> int | None:
        for at in (linear, linear + size - 1 & ~0xFFF):
            if at >> 12 in self.absent or (write and at >> 12 in self.read_only):
                return at
        return None

    def _check(self, linear: int, size: int, user: bool, write: bool) -> None:
        at = self._first_fault(linear, size, write)
        if at is not None:
            raise GuestFault(PAGE_FAULT, (at >> 12 not in self.absent) | write << 1 | user << 2, at)

    def read(self, linear: int, size: int, user: bool = False) -> bytes:
        self.accesses += 1
        self._check(linear, size, user, False)
        at = linear % MEMORY_SIZE
        return bytes((self.data[at : at + size] + self.data[:size])[:size])

    def write(self, linear: int, data: bytes, user: bool = False) -> None:
        self.accesses += 1
        self._check(linear, len(data), user, True)
        for n, byte in enumerate(data):
            self.data[(linear + n) % MEMORY_SIZE] = byte

    def read_int(self, linear: int, size: int, user: bool = False) -> int:
        return int.from_bytes(self.read(linear, size, user), "little")

    def write_int(self, linear: int, size: int, value: int, user: bool = False) -> None:
        self.write(linear, value.to_bytes(size, "little"), user)

    def probe_write(self, linear: int, size: int, user: bool = False) -> None:
        self._check(linear, size, user, True)

    def plain(self, linear: int, size: int, write: bool, user: bool = False) -> bool:
        return self.bulk and self._first_fault(linear, size, write) is None


class Ports(PortSpace):
    """Ports that answer with a running number and note what they are told."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int, int]] = []

    def read(self, port: int, size: int) -> int:
        value = 0x8182_8384 + len(self.log) & (1 << 8 * size) - 1
        self.log.append(("in", port, size, value))
        return value

    def write(self, port: int, size: int, value: int) -> None:
        self.log.append(("out", port, size, value))


class Machine:
    """A CPU after RESET with 256 KiB of memory and noting ports."""

    def __init__(self, bulk: bool = True) -> None:
        self.memory = Memory(bulk)
        self.cpu = VCpu(memoryview(bytearray(0x1000)), self.memory)
        self.ports = Ports()
        self.cpu.ports = self.ports
        self.changes: list[str] = []
        self.cpu.on_control_change = self.changes.append
        self.code32 = False

    def flat(self, cpl: int = 0) -> Machine:
        """32-bit protected mode, all segments flat; a TSS at 500h without an I/O map."""
        cpu = self.cpu
        cpu.cr0 |= CR0_PE
        cpu.cpl = cpl
        for n in range(6):
            attr = (FLAT_CODE if n == CS else FLAT_DATA) | cpl << 5
            cpu.set_segment(n, 8 * (n + 1) | cpl, 0, ALL, attr)
        cpu.set_segment(TR, 0x80, 0x500, 0x65, TSS)
        self.code32 = True
        return self

    def v86(self, iopl: int = 0) -> Machine:
        """Virtual-8086 mode, with the same TSS."""
        cpu = self.cpu
        cpu.cr0 |= CR0_PE
        cpu.eflags = 0x2_0002 | iopl << 12
        cpu.cpl = 3
        for n in range(6):
            cpu.set_segment(n, 0, 0, 0xFFFF, 0xF3)
        cpu.set_segment(TR, 0x80, 0x500, 0x65, TSS)
        return self

    def step(self, code: bytes) -> None:
        """Run one instruction once; a fault comes out as ``GuestFault``."""
        cpu = self.cpu
        insn = decode(code, self.code32)
        cpu.next_eip = cpu.eip + insn.length & ALL
        HANDLERS[insn.row.how](cpu, insn)
        cpu.eip = cpu.next_eip

    def run(self, code: bytes) -> int:
        """Run one instruction to its end, resumed as often as it asks for; returns how often it was called."""
        start, calls = self.cpu.eip, 0
        while not calls or self.cpu.eip == start:
            self.step(code)
            calls += 1
        return calls

    def fault(self, code: bytes) -> tuple[int, int | None]:
        """Run one instruction that must fault with no register changed: vector and error code."""
        cpu = self.cpu
        before = self.registers()
        try:
            self.step(code)
        except GuestFault as fault:
            assert self.registers() == before
            return fault.vector, fault.error
        raise AssertionError(f"no fault; EIP is {cpu.eip:#x}")

    def registers(self) -> tuple[object, ...]:
        cpu = self.cpu
        return (*cpu.gpr, cpu.eip, cpu.eflags, cpu.cr0, cpu.cr3, cpu.cr4, *map(repr, cpu.segments), cpu.gdtr, cpu.idtr)
