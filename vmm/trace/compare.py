"""Where two traces part, and how to say it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from translator.decode import disassemble
from vmm.errors import UsageError
from vmm.trace.format import Trace
from vmm.trace.records import REGISTERS, Record


@dataclass(frozen=True, slots=True)
class Difference:
    """The first record that differs.  One that is None: that run ended before."""

    before: Record | None
    """The last record in which both agree."""
    expected: Record | None
    found: Record | None
    position: int = 0
    """How many records agree."""

    @property
    def registers(self) -> tuple[str, ...]:
        """The registers that differ."""
        if self.expected is None or self.found is None:
            return ()
        pairs = zip(REGISTERS, self.expected.registers, self.found.registers, strict=True)
        return tuple(name for name, expected, found in pairs if expected != found)

    @property
    def window(self) -> tuple[int, int]:
        """The instruction counts between which the runs part."""
        ends = [record.insns for record in (self.expected, self.found) if record is not None]
        return (self.before.insns if self.before else 0), max(ends)

    @property
    def is_exact(self) -> bool:
        """The records are of single instructions."""
        return self.before is not None and bool(self.before.code)

    def sentence(self) -> str:
        """What differs."""
        first, last = self.window
        expected, found = self.expected, self.found
        if expected is None or (found is not None and expected.insns < found.insns):
            return f"the reference ends after {expected.insns if expected else first} instructions, the other goes on"
        if found is None or found.insns < expected.insns:
            return f"the other run ends after {found.insns if found else first} instructions, the reference goes on"
        if not self.registers:
            return f"the hashes at {last} instructions differ, though the registers agree: one trace was altered"
        if self.before is not None and self.is_exact:
            what = f"instruction {self.before.insns + 1}, {instruction(self.before)}, leaves other values in"
        else:
            what = f"the runs part between instructions {first} and {last}, after which they differ in"
        return f"{what} {', '.join(self.registers)}"

    def table(self) -> list[tuple[str, str, str, str]]:
        """Rows of register, expected, found and a mark where they differ; nothing if one of the runs had ended."""
        if self.expected is None or self.found is None:
            return []
        rows = [("insns", str(self.expected.insns), str(self.found.insns), "")]
        for name, expected, found in zip(REGISTERS, self.expected.registers, self.found.registers, strict=True):
            digits = 4 if len(name) == 2 else 8
            mark = "<- differs" if expected != found else ""
            rows.append((name, f"{expected:0{digits}x}", f"{found:0{digits}x}", mark))
        return rows


def instruction(record: Record) -> str:
    """The instruction that comes next, with its address and its disassembly."""
    if not record.code:
        return f"at {record.address}"
    eip = record.registers[REGISTERS.index("eip")]
    text = next((text for _, text in disassemble(record.code, eip, record.code32)), "(no instruction)")
    return f"{text!r} at {record.address}"


def refuse_other_machine(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise ``UsageError`` unless both descriptions are of one machine."""
    names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if names:
        raise UsageError(f"the trace is of another machine: it differs in {', '.join(names)}")


def compare(reference: Trace, other: Trace) -> Difference | None:
    """The first difference of two traces; None if they agree as far as both go.

    A run that ended by itself has an end to compare, one that was left has none.
    Raises ``UsageError`` for traces of different machines or with records at different counts.
    """
    ours, theirs = reference.header, other.header
    refuse_other_machine(ours.machine, theirs.machine)
    if (ours.level, ours.interval, ours.start) != (theirs.level, theirs.interval, theirs.start):
        raise UsageError("the traces have records at different counts: --level, --interval or --from are not the same")
    before = None
    for position, (expected, found) in enumerate(zip_longest(reference.records, other.records)):
        short = ours if expected is None else theirs
        if (expected is None or found is None) and short.ending is None:
            return None
        if expected is None or found is None or expected.state != found.state:
            return Difference(before, expected, found, position)
        before = expected
    return None
