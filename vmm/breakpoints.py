"""Hardware breakpoints: what DR0 to DR3 and DR7 ask for, and which of them an instruction meets (SDM vol. 3, 17.2).

Breakpoints on code cut units, so that each stands at the start of one, which no chain leads to.  Pages with a
breakpoint on data are run one instruction at a time: what an instruction accesses is told from its operands.
Breakpoints on ports (CR4.DE) are met by the VMM, which makes all accesses to ports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from translator.decode import Insn
from translator.layout import EAX, EBP, EBX, EDI, ESP, SS
from vmm.callouts.operands import ADDRESS_MASK, effective_address
from vmm.vcpu import CR4_DE, VCpu

EXECUTE: Final = 0
WRITE: Final = 1
PORT: Final = 2
ACCESS: Final = 3
"""DR7.R/W."""
_LENGTHS: Final = (1, 2, 8, 4)
"""Bytes by DR7.LEN."""
_ALL_ONES: Final = 0xFFFF_FFFF
_PUSHES: Final = {
    **dict.fromkeys(("push_reg", "push_imm", "push_rm", "push_seg", "pushf", "call", "call_rm", "enter"), 1),
    "pusha": 8,
}
_POPS: Final = {"pop_reg": 1, "pop_rm": 1, "pop_seg": 1, "popf": 1, "popa": 8, "ret": 1}
"""Items on the stack by the rule table's *how*."""
_NO_ACCESS: Final = frozenset(("lea", "nop"))
_STORES: Final = frozenset(("mov_from_seg", "pop_rm"))
"""Instructions of the translator's own that write their ModRM operand, besides those whose row says so."""


class Data(NamedTuple):
    """A breakpoint on data."""

    start: int
    end: int
    """The last byte."""
    reads: bool
    """Reads count too."""
    bit: int
    """Its bit in DR6."""


class Breakpoints:
    """The breakpoints that are enabled now."""

    def __init__(self) -> None:
        self.code: dict[int, int] = {}
        """Bits of DR6 by the linear address of an instruction."""
        self.data: list[Data] = []
        self.pages: dict[int, bool] = {}
        """Linear pages with a breakpoint on data: whether reads count."""
        self.ports: list[tuple[int, int, int]] = []
        """First port, last port and bit in DR6 of the breakpoints on ports; ports above FFFFh are never met."""
        self._registers: tuple[int, ...] = ()

    def update(self, cpu: VCpu) -> bool:
        """Follow the debug registers; whether they ask for something else now."""
        control = cpu.dr[7]
        registers = (*cpu.dr[:4], control, cpu.cr4 & CR4_DE) if control & 0xFF else ()
        if registers == self._registers:
            return False
        self._registers = registers
        self.code, self.data, self.pages, self.ports = {}, [], {}, []
        for n in range(4 if registers else 0):
            if not control >> 2 * n & 3:
                continue
            kind, length = control >> 16 + 4 * n & 3, _LENGTHS[control >> 18 + 4 * n & 3]
            start = cpu.dr[n] & -length
            if kind == EXECUTE:
                self.code[cpu.dr[n]] = self.code.get(cpu.dr[n], 0) | 1 << n
            elif kind == PORT:
                if cpu.cr4 & CR4_DE:
                    self.ports.append((start, start + length - 1, 1 << n))
            else:
                reads = kind == ACCESS
                self.data.append(Data(start, start + length - 1, reads, 1 << n))
                self.pages[start >> 12] = self.pages.get(start >> 12, False) or reads
        return True

    @property
    def active(self) -> bool:
        """Whether there is any."""
        return bool(self.code or self.data or self.ports)

    def hit(self, linear: int, size: int, write: bool) -> int:
        """Bits of DR6 for an access of *size* bytes."""
        bits = 0
        for start, end, reads, bit in self.data:
            if (write or reads) and linear <= end and linear + size > start:
                bits |= bit
        return bits

    def hit_port(self, port: int, size: int) -> int:
        """Bits of DR6 for an access to *size* ports from *port* on."""
        bits = 0
        for first, last, bit in self.ports:
            if port <= last and port + size > first:
                bits |= bit
        return bits

    def hits(self, cpu: VCpu, insn: Insn) -> int:
        """Bits of DR6 for all accesses to memory that the instruction at hand is about to make; strings aside."""
        bits = 0
        for linear, size, write in accesses(cpu, insn):
            bits |= self.hit(linear, size, write)
        return bits


def _stack(cpu: VCpu, register: int, offset: int, size: int, write: bool) -> tuple[int, int, bool]:
    mask = cpu.stack_mask
    return cpu.segments[SS].base + (cpu.gpr[register] + offset & mask) & _ALL_ONES, size, write


def accesses(cpu: VCpu, insn: Insn) -> Iterator[tuple[int, int, bool]]:
    """(linear address, size, write) of what an instruction accesses; a read-modify-write counts as a write."""
    row, how = insn.row, insn.row.how
    base = cpu.segments[insn.seg].base
    mask = ADDRESS_MASK[insn.adsize]
    if insn.mem and how not in _NO_ACCESS:
        yield base + effective_address(cpu, insn) & _ALL_ONES, insn.size, row.stores or how in _STORES
    elif how == "mov_moffs":
        yield base + insn.imm & _ALL_ONES, insn.size, insn.opcode >= 0xA2
    elif how == "xlat":
        yield base + (cpu.gpr[EBX] + (cpu.gpr[EAX] & 0xFF) & mask) & _ALL_ONES, 1, False
    elif how == "maskmov":
        yield base + (cpu.gpr[EDI] & mask) & _ALL_ONES, insn.size, True
    if how in _PUSHES:
        size = insn.opsize * _PUSHES[how]
        yield _stack(cpu, ESP, -size, size, True)
    elif how in _POPS:
        yield _stack(cpu, ESP, 0, insn.opsize * _POPS[how], False)
    elif how == "leave":
        yield _stack(cpu, EBP, 0, insn.opsize, False)
