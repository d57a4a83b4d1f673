"""A machine and QEMU side by side, block by block of QEMU's log.

Our machine records each instruction (``vmm.trace.ring``); at each block of QEMU's its registers have to be QEMU's.
Where IN gives another value than QEMU's did, ours takes QEMU's, and hardware interrupts come where QEMU's came, so that
both go on alike: devices and clocks may differ, and all of it is remembered, but the CPU may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from devices.ide import AtaDisk
from translator.decode import Insn
from translator.layout import EAX, EDX
from vmm import cpuid
from vmm.callouts import HANDLERS
from vmm.config import MachineConfig
from vmm.errors import ExitStatus
from vmm.host import PAGE
from vmm.machine import Machine
from vmm.portspace import PortSpace
from vmm.trace.ahead import Ahead
from vmm.trace.compare import Difference
from vmm.trace.oracle import Oracle, Told
from vmm.trace.qemu import Block, LogError, blocks
from vmm.trace.record import Unfinished, quiet
from vmm.trace.records import REGISTERS, Record
from vmm.trace.ring import Ring
from vmm.trace.state import registers
from vmm.vcpu import CR0_PE, VCpu

MOST_AGAIN = 4
"""How often a block may begin before it runs: QEMU turns back to end a block behind an access to a device."""
INDEXED = {0xCFC: 0xCF8, 0x71: 0x70}
"""Ports whose meaning another port has chosen."""
_EIP, _EAX, _CS, _CR0 = (REGISTERS.index(name) for name in ("eip", "eax", "cs", "cr0"))
_VME = 1 << cpuid.FEATURES["VME"].bit
_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3"
_STRINGS = frozenset(b"\x6c\x6d\x6e\x6f\xa4\xa5\xa6\xa7\xaa\xab\xac\xad\xae\xaf")


@dataclass(frozen=True, slots=True)
class Input:
    """IN gave one value here and another in QEMU."""

    port: int
    index: int | None
    """Which register of the device, where another port chooses it: PCI's configuration space, CMOS."""
    size: int
    insns: int
    eip: int
    ours: int
    theirs: int

    @property
    def where(self) -> str:
        """The port, and the register behind it, as in docs/divergences.md."""
        return f"{self.port:04x}" if self.index is None else f"{self.port:04x}/{self.index:x}"


def make_alike(machine: Machine, told: Told | None) -> None:
    """Give *machine*, which has not run yet, what QEMU's firmware finds and its log does not show.

    See docs/divergences.md.
    """
    engine, board = machine.engine, machine.board
    engine.host.frame(engine.physical.nothing.host)[:] = bytes(PAGE)
    if told is None:
        return
    board.fw_cfg.files.clear()
    for name, data in told.files.items():
        board.fw_cfg.add_file(name, data)
    disk = board.ide[0].drives[0]
    if told.identify and isinstance(disk, AtaDisk):
        disk.identify_data = told.identify


class Lockstep(PortSpace):
    """Holds *machine*, which has not run yet, against QEMU's *blocks*, up to linear address *until* or *most* blocks.

    *hidden* are linear addresses whose blocks the log does not have.  A context manager; raises what *blocks* raises.
    """

    def __init__(
        self,
        machine: Machine,
        blocks: Iterator[Block],
        until: int,
        most: int | None = None,
        hidden: Sequence[range] = (),
    ) -> None:
        self._machine = machine
        self._engine = engine = machine.engine
        self._ahead = Ahead(blocks)
        self._until, self._most = until, most
        self._hidden = frozenset(address for each in hidden for address in each)
        self.arrived = False
        """*until* is reached."""
        self.compared = 0
        """Blocks in which all registers agreed."""
        self.interrupts = 0
        """Hardware interrupts, taken where QEMU took them."""
        self.inputs: list[Input] = []
        self.difference: Difference | None = None
        """Where they part."""
        self._ring = Ring(machine)
        self._index: dict[int, int] = {}
        """The last value written to each port."""
        self._last: Record | None = None
        """A record before the ones that are compared."""
        self._sites: list[tuple[int, int, bool]] = []
        """EIP of each site, of what follows it, and whether it is a repeated string instruction."""
        self._after = -1
        self._matched: tuple[int, ...] = ()
        self._ports, engine.cpu.ports = engine.cpu.ports, self
        machine.board.pic.intr.connect(lambda level: None)
        engine.acknowledge = self._acknowledge
        engine.on_halt = self._on_halt
        scheduler = machine.board.scheduler
        scheduler.exact = True
        scheduler.sample = self._sample
        scheduler.sample_at = 0
        self._original = HANDLERS["cpuid"]

    def __enter__(self) -> Self:
        original, ours = self._original, self._engine.cpu

        def without_vme(cpu: VCpu, insn: Insn) -> None:
            number = cpu.gpr[EAX]
            original(cpu, insn)
            if cpu is ours and number == 1:
                cpu.gpr[EDX] &= ~_VME

        HANDLERS["cpuid"] = without_vme
        return self

    def __exit__(self, *raised: object) -> None:
        HANDLERS["cpuid"] = self._original

    def _sample(self) -> None:
        scheduler = self._machine.board.scheduler
        if scheduler.sample_at == 0:
            self._ring.start()
        else:
            self.advance()
            self._interrupt()
        scheduler.sample_at = self._engine.insns + self._ahead.safe

    # Interrupts and ports ------------------------------------------------------------------------------------------

    def _interrupt(self) -> bool:
        """Let an interrupt come if one came here in QEMU."""
        block = self._ahead.next
        if block is None or block.vector is None or self._ahead.interrupted() != registers(self._engine):
            return False
        self._engine.interrupt = True
        return True

    def _acknowledge(self) -> int:
        block = self._ahead.next
        assert block is not None
        assert block.vector is not None
        self._engine.interrupt = False
        self.interrupts += 1
        return block.vector

    def _on_halt(self) -> None:
        self.advance()
        if not self._is_over and not self._interrupt():
            self._machine.pause(ExitStatus.HALTED, "halted, and in QEMU no interrupt came")

    def read(self, port: int, size: int) -> int:
        """IN: with QEMU's value if that is another."""
        value: int = self._ports.read(port, size)
        engine = self._engine
        insn = engine.insn_at_eip()
        if self._is_over or insn is None or insn.row.how not in ("in_imm", "in_dx"):
            return value
        self.advance()
        block = self._ahead.next
        after = block and (block.registers if block.vector is None else self._ahead.interrupted())
        if not after or after[_EIP] != engine.cpu.next_eip:
            return value
        theirs: int = after[_EAX] & (1 << 8 * size) - 1
        if theirs != value:
            index = self._index.get(INDEXED.get(port & ~3 if port & ~3 == 0xCFC else port, -1))
            self.inputs.append(Input(port, index, size, engine.insns, engine.cpu.eip, value, theirs))
        return theirs

    def write(self, port: int, size: int, value: int) -> None:
        """OUT."""
        self._index[port] = value
        self._ports.write(port, size, value)

    # Comparing -----------------------------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self.difference is not None or self.arrived or self.compared == self._most

    def advance(self) -> None:
        """Compare what our machine did since the last time."""
        if self._is_over:
            return
        log = self._ring.take()
        while len(self._sites) < len(log.sites):
            site = log.sites[len(self._sites)]
            self._sites.append((site.eip, site.eip + len(site.code) & 0xFFFF_FFFF, _repeats(site.code)))
        block = self._ahead.next
        expected = block.registers[_EIP] if block else -1
        for at, number in enumerate(log.numbers()):
            eip, after, repeats = self._sites[number]
            follows = eip == self._after
            if not follows or eip == expected or repeats:
                self._step(log[at], follows)
                block = self._ahead.next
                if block is None or self._is_over:
                    self._machine.pause(ExitStatus.OK, "the log is checked")
                    return
                expected = block.registers[_EIP]
            self._after = after
        if len(log):
            self._last = log[-1]

    def _step(self, record: Record, follows: bool) -> None:
        """One more instruction of ours begins; *follows*: right behind the last one."""
        ahead, found = self._ahead, record.registers
        linear = found[_EIP] if found[_CR0] & CR0_PE else found[_EIP] + (found[_CS] << 4)
        if linear in self._hidden:
            return
        block = ahead.next
        assert block is not None
        if block.registers == found:
            self.compared += 1
            self._matched = found
            self.arrived = linear == self._until
            for _ in range(MOST_AGAIN):
                ahead.drop()
                block = ahead.next
                if block is None or block.registers != found:
                    break
        elif not follows:  # a block begins wherever a branch goes; elsewhere it may or may not
            if found != self._matched:
                expected = Record(record.insns, block.registers, b"")
                self.difference = Difference(self._last, expected, record, self.compared)
            return
        if _repeats(record.code):
            while block is not None and block.registers[_EIP] == found[_EIP]:
                ahead.drop()  # one more round
                block = ahead.next


def _repeats(code: bytes) -> bool:
    """Whether *code* is a repeated string instruction."""
    rest = code.lstrip(_PREFIXES)
    prefixes = code[: len(code) - len(rest)]
    return (b"\xf2" in prefixes or b"\xf3" in prefixes) and rest[0] in _STRINGS


def run(config: MachineConfig, until: int, most: int | None = None, hidden: Sequence[range] = ()) -> Lockstep:
    """Our machine beside QEMU.  Raises what ``Machine`` and ``Oracle`` do, and ``Unfinished``."""
    config = quiet(config)
    with Oracle(config) as oracle:
        return _run(config, oracle.ask(), oracle.blocks(hidden), until, most, hidden)


def run_with_log(config: MachineConfig, log: Path, until: int, most: int | None = None) -> Lockstep:
    """Our machine beside a log of QEMU's.  Raises what ``Machine`` does, ``LogError`` and ``Unfinished``."""
    try:
        with log.open("rb") as file:
            return _run(quiet(config), None, blocks(file, str(log)), until, most)
    except OSError as error:
        raise LogError(f"{log}: {error.strerror}") from None


def _run(
    config: MachineConfig,
    told: Told | None,
    theirs: Iterator[Block],
    until: int,
    most: int | None,
    hidden: Sequence[range] = (),
) -> Lockstep:
    with Machine(config) as machine:
        make_alike(machine, told)
        with Lockstep(machine, theirs, until, most, hidden) as lockstep:
            result = machine.run()
        if result.status == ExitStatus.INTERRUPTED:
            raise KeyboardInterrupt
        if result.status != ExitStatus.OK:
            raise Unfinished(f"{result.reason}, with {lockstep.compared} blocks compared")
        return lockstep
