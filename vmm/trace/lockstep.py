"""A machine and QEMU side by side, block by block of QEMU's log.

Our machine records each instruction (``vmm.trace.ring``); at each block of QEMU's its registers have to be QEMU's.
Where IN gives another value than QEMU's did, ours takes QEMU's, so that both go on alike; the difference is
remembered with its port.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from translator.decode import Insn
from vmm.errors import ExitStatus
from vmm.machine import Machine
from vmm.trace.compare import Difference, instruction
from vmm.trace.records import REGISTERS, Record
from vmm.trace.ring import Ring

Block = tuple[int, ...]
_EIP, _EAX = REGISTERS.index("eip"), REGISTERS.index("eax")
_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3"


INDEXED = {0xCFC: 0xCF8, 0x71: 0x70}
"""Ports whose meaning another port has chosen."""


@dataclass(frozen=True, slots=True)
class Input:
    """IN gave one value here and another in QEMU."""

    port: int
    size: int
    insns: int
    ours: int
    theirs: int
    eip: int
    index: int | None
    """Which register of the device, where another port chooses it: PCI's configuration space, CMOS."""


class Lockstep:
    """Holds *machine*, which has not run yet, against QEMU's *blocks*."""

    def __init__(self, machine: Machine, blocks: Iterator[Block], most: int, hidden: Sequence[range] = ()) -> None:
        self._machine = machine
        self._blocks = blocks
        self._next = next(blocks, None)
        self._most = most
        self._hidden = frozenset(eip for each in hidden for eip in each)
        self.compared = 0
        """Blocks in which all registers agreed."""
        self.repeated = 0
        """Blocks of QEMU's that are one more round of a repeated string instruction."""
        self.inputs: list[Input] = []
        self.difference: Difference | None = None
        """Where they part."""
        self.why = ""
        self._ring = Ring(machine)
        self._index: dict[int, int] = {}
        """The last value written to each port."""
        self._last: Record | None = None
        self._matched: Block = ()
        self._tail: list[Record] = []
        """Records of ours behind the last block that was found."""
        cpu = machine.engine.cpu
        self._ports, cpu.ports = cpu.ports, self
        scheduler = machine.board.scheduler
        scheduler.exact = True
        scheduler.sample = self._sample
        scheduler.sample_at = 0

    def _sample(self) -> None:
        scheduler, engine = self._machine.board.scheduler, self._machine.engine
        if scheduler.sample_at == 0:
            self._ring.start()
        else:
            self.advance()
        scheduler.sample_at = engine.insns + STRIDE

    # Ports -------------------------------------------------------------------------------------------------------

    def read(self, port: int, size: int) -> int:
        """IN: with QEMU's value if that is another."""
        value: int = self._ports.read(port, size)
        engine = self._machine.engine
        insn = engine._insn_at_eip()
        if self.difference is not None or insn is None or insn.row.how not in ("in_imm", "in_dx"):
            return value
        self.advance()
        if self._next is None or self._next[_EIP] != engine.cpu.next_eip:
            return value
        theirs = self._next[_EAX] & (1 << 8 * size) - 1
        if theirs != value:
            index = self._index.get(INDEXED.get(port & ~3 if port & ~3 == 0xCFC else port, -1))
            self.inputs.append(Input(port, size, engine.insns, value, theirs, engine.cpu.eip, index))
        return theirs

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        self._index[port] = value
        self._ports.write(port, size, value)

    # Comparing -----------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Compare what our machine did since the last time."""
        if self.difference is not None:
            return
        for record in self._ring.take():
            self._step(record)
            if self.difference is not None or self._next is None or self.compared >= self._most:
                self._machine.pause(ExitStatus.OK, "the log is checked")
                return

    def _step(self, record: Record) -> None:
        """One more instruction of ours begins."""
        block, last = self._next, self._last
        assert block is not None
        registers = record.registers
        if registers[_EIP] in self._hidden:
            self._last = record
            return
        branched = last is None or registers[_EIP] != last.registers[_EIP] + len(last.code) & 0xFFFF_FFFF
        if block == registers:
            self.compared += 1
            self._matched = registers
            while self._next == registers:  # again, if QEMU turned back: an access to a device must end a block
                self._next = next(self._blocks, None)
        elif branched and registers != self._matched:
            self._differs(record, "other registers" if block[_EIP] == registers[_EIP] else "another way")
            return
        self._last = record
        if _repeats(record.code):
            self._skip_rounds(registers[_EIP])

    def _skip_rounds(self, eip: int) -> None:
        """Leave out QEMU's blocks that are one more round of the repeated string instruction at *eip*."""
        while self._next is not None and self._next[_EIP] == eip:
            self.repeated += 1
            self._next = next(self._blocks, None)

    def _differs(self, record: Record, why: str) -> None:
        assert self._next is not None
        self.why = why
        self.difference = Difference(self._last, Record(record.insns, self._next, b""), record, self.compared)


STRIDE = 8192
"""Instructions between comparisons, at most."""


def _repeats(code: bytes) -> bool:
    """Whether *code* is a repeated string instruction."""
    prefixes = code[: len(code) - len(code.lstrip(_PREFIXES))]
    opcode = code.lstrip(_PREFIXES)[:1]
    return (b"\xf2" in prefixes or b"\xf3" in prefixes) and opcode in (
        *(b"\x6c", b"\x6d", b"\x6e", b"\x6f", b"\xa4", b"\xa5", b"\xa6", b"\xa7"),
        *(b"\xaa", b"\xab", b"\xac", b"\xad", b"\xae", b"\xaf"),
    )


__all__ = ["Input", "Insn", "Lockstep", "instruction"]
