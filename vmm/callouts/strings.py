"""String instructions: MOVS CMPS STOS LODS SCAS INS OUTS, single and repeated.

A repeated instruction goes in chunks.  Where all operands lie in plain memory (``PlainMemory``) a chunk is
everything up to the next page border, done with slices; elsewhere (device memory, page and segment borders,
pages that will fault) it is one element, with all checks.  Registers are committed after each chunk, so a fault
leaves them at the faulting element.  A call does a bounded amount of work; then the instruction is left with
``next_eip`` at itself, and the loop resumes it, after interrupts, as a CPU does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol, cast

from translator.decode import Insn
from translator.layout import DF, EAX, ECX, EDI, EDX, ES, ESI, TF
from vmm.callouts import flags
from vmm.callouts.operands import ADDRESS_MASK, ALL_ONES, allows, element_size, linear
from vmm.callouts.ports import read_port, write_port
from vmm.iopermission import check_port
from vmm.vcpu import LinearMemory, VCpu

PAGE: Final = 4096
WORK: Final = 0x1_0000
"""Bytes that one call moves at most, in chunks."""
ELEMENT_WORK: Final = 16
"""What an element that is done by itself counts as: 4,096 of them fill a call."""
REPNE: Final = 0xF2


class PlainMemory(Protocol):
    """What a ``LinearMemory`` may know besides; without it every element goes by itself."""

    def plain(self, linear: int, size: int, write: bool, user: bool = False) -> bool:
        """Whether *size* bytes within one page may be accessed now, without a fault and in any order and width.

        True of RAM and ROM; False of device memory and of whatever raises #PF.
        """


def _never_plain(linear: int, size: int, write: bool, user: bool = False) -> bool:
    return False


def _plain_test(memory: LinearMemory) -> Callable[[int, int, bool, bool], bool]:
    """``PlainMemory.plain`` of *memory*; an instance check of a protocol would cost more than the copy."""
    return cast("Callable[[int, int, bool, bool], bool]", getattr(memory, "plain", _never_plain))


class _Cursor:
    """ESI or EDI with its segment: where the next element is, and how far it may run."""

    __slots__ = ("_base", "_cpu", "_down", "_mask", "_plain", "_register", "_seg", "_size", "_user", "_write")

    def __init__(self, cpu: VCpu, insn: Insn, register: int, size: int, write: bool = False) -> None:
        self._cpu = cpu
        self._register = register
        self._seg = ES if register == EDI else insn.seg
        self._base = cpu.segments[self._seg].base
        self._mask = ADDRESS_MASK[insn.adsize]
        self._size = size
        self._down = bool(cpu.eflags & DF)
        self._user = cpu.cpl == 3
        self._write = write
        self._plain = _plain_test(cpu.memory)

    @property
    def offset(self) -> int:
        return self._cpu.gpr[self._register] & self._mask

    def linear(self) -> int:
        """Linear address of the next element, checked."""
        return linear(self._cpu, self._seg, self.offset, self._size, self._write)

    def load(self) -> int:
        """The next element."""
        return self._cpu.memory.read_int(self.linear(), self._size, self._user)

    def store(self, value: int) -> None:
        """Write the next element."""
        self._cpu.memory.write_int(self.linear(), self._size, value, self._user)

    def low(self, count: int) -> int:
        """Linear address of the lowest byte of the next *count* elements."""
        offset = self.offset - (count - 1) * self._size if self._down else self.offset
        return self._base + offset & ALL_ONES

    def run(self, count: int) -> int:
        """How many of the next *count* elements lie in plain memory of one page; 0 if not even the next one."""
        size, offset = self._size, self.offset
        start = (self._base + offset) % PAGE
        if self._down:
            if start + size > PAGE:
                return 0
            count = min(count, start // size + 1, offset // size + 1)
        else:
            count = min(count, (PAGE - start) // size, (self._mask + 1 - offset) // size)
        if count < 1:
            return 0
        low = offset - (count - 1) * size if self._down else offset
        if not allows(self._cpu, self._seg, low, count * size, self._write):
            return 0
        return count if self._plain(self.low(count), count * size, self._write, self._user) else 0

    def read(self, count: int) -> bytes:
        """The next *count* elements as they stand in memory; ``run`` allowed them."""
        return self._cpu.memory.read(self.low(count), count * self._size, self._user)

    def elements(self, count: int) -> list[int]:
        """The next *count* elements in the order of the instruction; ``run`` allowed them."""
        data = self.read(count)
        size = self._size
        if size == 1:
            values = list(data)
        else:
            values = [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]
        return values[::-1] if self._down else values

    def write(self, data: bytes) -> None:
        """Write whole elements as they shall stand in memory; ``run`` allowed them."""
        self._cpu.memory.write(self.low(len(data) // self._size), data, self._user)

    def advance(self, count: int) -> None:
        """Move the register over *count* elements."""
        gpr, mask = self._cpu.gpr, self._mask
        value = gpr[self._register]
        step = -count * self._size if self._down else count * self._size
        gpr[self._register] = value & ~mask & ALL_ONES | value + step & mask


class _Operation(ABC):
    """One string instruction in progress.

    ``one()`` does the next element, ``many(count)`` up to *count* elements in plain memory and returns how many
    it did.  Either sets ``over`` if the repetition ends there.  Cursors are advanced by the caller.
    """

    def __init__(self, cpu: VCpu, insn: Insn, *cursors: _Cursor) -> None:
        self.cpu = cpu
        self.insn = insn
        self.size = element_size(insn)
        self.down = bool(cpu.eflags & DF)
        self.cursors = cursors
        self.over = False

    @abstractmethod
    def one(self) -> None: ...

    @abstractmethod
    def many(self, count: int) -> int: ...

    def finish(self) -> None:  # noqa: B027 - most operations leave the flags alone
        """Set flags, after some elements were done without a fault."""


class _Movs(_Operation):
    def __init__(self, cpu: VCpu, insn: Insn) -> None:
        size = element_size(insn)
        self.source = _Cursor(cpu, insn, ESI, size)
        self.destination = _Cursor(cpu, insn, EDI, size, write=True)
        super().__init__(cpu, insn, self.source, self.destination)

    def one(self) -> None:
        self.destination.store(self.source.load())

    def many(self, count: int) -> int:
        total = count * self.size
        ahead = self.destination.low(count) - self.source.low(count)
        if self.down:
            ahead = -ahead
        if 0 < ahead < self.size:
            self.one()
            return 1
        data = self.source.read(count)
        if 0 < ahead < total:
            # What was written is read again: the first *ahead* bytes repeat themselves.
            times = total // ahead + 1
            data = (data[-ahead:] * times)[-total:] if self.down else (data[:ahead] * times)[:total]
        self.destination.write(data)
        return count


class _Stos(_Operation):
    def __init__(self, cpu: VCpu, insn: Insn) -> None:
        size = element_size(insn)
        self.destination = _Cursor(cpu, insn, EDI, size, write=True)
        self.value = cpu.read_reg(EAX, size)
        super().__init__(cpu, insn, self.destination)

    def one(self) -> None:
        self.destination.store(self.value)

    def many(self, count: int) -> int:
        self.destination.write(self.value.to_bytes(self.size, "little") * count)
        return count


class _Lods(_Operation):
    def __init__(self, cpu: VCpu, insn: Insn) -> None:
        self.source = _Cursor(cpu, insn, ESI, element_size(insn))
        super().__init__(cpu, insn, self.source)

    def one(self) -> None:
        self.cpu.write_reg(EAX, self.size, self.source.load())

    def many(self, count: int) -> int:
        self.cpu.write_reg(EAX, self.size, self.source.elements(count)[-1])
        return count


class _Compare(_Operation, ABC):
    """CMPS and SCAS: the flags of the last comparison; none change if an element faults before one was done."""

    def __init__(self, cpu: VCpu, insn: Insn, *cursors: _Cursor) -> None:
        super().__init__(cpu, insn, *cursors)
        self.last = (0, 0)

    @abstractmethod
    def pair(self) -> tuple[int, int]:
        """The next two values to compare."""

    @abstractmethod
    def pairs(self, count: int) -> tuple[list[int], list[int]]:
        """The next *count* of both, in plain memory."""

    def one(self) -> None:
        self.last = self.pair()
        self.over = (self.last[0] == self.last[1]) is (self.insn.rep == REPNE)

    def many(self, count: int) -> int:
        left, right = self.pairs(count)
        if self.insn.rep == REPNE:
            stop = next((n for n, (a, b) in enumerate(zip(left, right, strict=True)) if a == b), count)
        elif left == right:
            stop = count
        else:
            stop = next(n for n, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)
        self.over = stop < count
        done = stop + 1 if self.over else count
        self.last = (left[done - 1], right[done - 1])
        return done

    def finish(self) -> None:
        flags.put(self.cpu, flags.subtract(*self.last, 0, self.size)[1])


class _Cmps(_Compare):
    def __init__(self, cpu: VCpu, insn: Insn) -> None:
        size = element_size(insn)
        self.source = _Cursor(cpu, insn, ESI, size)
        self.destination = _Cursor(cpu, insn, EDI, size)
        super().__init__(cpu, insn, self.source, self.destination)

    def pair(self) -> tuple[int, int]:
        return self.source.load(), self.destination.load()

    def pairs(self, count: int) -> tuple[list[int], list[int]]:
        return self.source.elements(count), self.destination.elements(count)


class _Scas(_Compare):
    def __init__(self, cpu: VCpu, insn: Insn) -> None:
        size = element_size(insn)
        self.destination = _Cursor(cpu, insn, EDI, size)
        self.value = cpu.read_reg(EAX, size)
        super().__init__(cpu, insn, self.destination)

    def pair(self) -> tuple[int, int]:
        return self.value, self.destination.load()

    def pairs(self, count: int) -> tuple[list[int], list[int]]:
        return [self.value] * count, self.destination.elements(count)


class _Ins(_Operation):
    """INS: a destination that faults is found before the port is read."""

    def __init__(self, cpu: VCpu, insn: Insn) -> None:
        size = element_size(insn)
        self.port = cpu.gpr[EDX] & 0xFFFF
        self.destination = _Cursor(cpu, insn, EDI, size, write=True)
        super().__init__(cpu, insn, self.destination)

    def one(self) -> None:
        self.cpu.memory.probe_write(self.destination.linear(), self.size, self.cpu.cpl == 3)
        self.destination.store(read_port(self.cpu, self.port, self.size))

    def many(self, count: int) -> int:
        ports, port, size = self.cpu.ports, self.port, self.size
        if not self.down and (data := ports.read_block(port, count, size)) is not None:
            self.destination.write(data)
            return count
        items = [ports.read(port, size).to_bytes(size, "little") for _ in range(count)]
        self.destination.write(b"".join(reversed(items) if self.down else items))
        return count


class _Outs(_Operation):
    def __init__(self, cpu: VCpu, insn: Insn) -> None:
        self.port = cpu.gpr[EDX] & 0xFFFF
        self.source = _Cursor(cpu, insn, ESI, element_size(insn))
        super().__init__(cpu, insn, self.source)

    def one(self) -> None:
        write_port(self.cpu, self.port, self.size, self.source.load())

    def many(self, count: int) -> int:
        ports, port, size = self.cpu.ports, self.port, self.size
        if not self.down and ports.write_block(port, self.source.read(count), size):
            return count
        for value in self.source.elements(count):
            ports.write(port, size, value)
        return count


def _single(operation: _Operation) -> None:
    operation.one()
    for cursor in operation.cursors:
        cursor.advance(1)
    operation.finish()


def _repeat(operation: _Operation, element_work: int) -> None:
    """REP: *element_work* is what an element counts as at least; under TF one is all."""
    cpu, size = operation.cpu, operation.size
    gpr, mask = cpu.gpr, ADDRESS_MASK[operation.insn.adsize]
    count = gpr[ECX] & mask
    if not count:
        return
    work = 1 if cpu.eflags & TF or cpu.watched else WORK
    while count and work > 0 and not operation.over:
        chunk = min(count, -(-work // max(size, element_work)))
        for cursor in operation.cursors:
            if chunk > 1:
                chunk = cursor.run(chunk)
        if chunk > 1:
            done = operation.many(chunk)
            work -= done * max(size, element_work)
        else:
            operation.one()
            done = 1
            work -= ELEMENT_WORK
        for cursor in operation.cursors:
            cursor.advance(done)
        count -= done
        gpr[ECX] = gpr[ECX] & ~mask & ALL_ONES | count
    operation.finish()
    if count and not operation.over:
        cpu.next_eip = cpu.eip


_OPERATIONS: Final[dict[int, Callable[[VCpu, Insn], _Operation]]] = {
    0x6C: _Ins,
    0x6E: _Outs,
    0xA4: _Movs,
    0xA6: _Cmps,
    0xAA: _Stos,
    0xAC: _Lods,
    0xAE: _Scas,
}
"""By opcode, the width bit cleared."""


def string(cpu: VCpu, insn: Insn) -> None:
    """MOVS CMPS STOS LODS SCAS, with and without REP: #GP(0), #SS(0), #PF at the element that faults."""
    operation = _OPERATIONS[insn.opcode & 0xFE](cpu, insn)
    if insn.rep:
        _repeat(operation, 1)
    else:
        _single(operation)


def port_string(cpu: VCpu, insn: Insn) -> None:
    """INS and OUTS, with and without REP: #GP(0) for the port first, then as ``string``."""
    check_port(cpu, cpu.gpr[EDX] & 0xFFFF, element_size(insn))
    operation = _OPERATIONS[insn.opcode & 0xFE](cpu, insn)
    if insn.rep:
        _repeat(operation, ELEMENT_WORK)
    else:
        _single(operation)
