"""What led to a difference: who wrote the registers that differ, and the guest's code around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmm.trace.compare import Difference, instruction
from vmm.trace.insns import InsnLog
from vmm.trace.records import REGISTERS, Record

REACH = 24
"""Bytes of code before and behind an instruction that are shown."""
PATH = 6
"""Instructions that are shown of the way there."""


def last_writer(records: Sequence[Record], index: int, register: str) -> Record | None:
    """The record before the instruction that last changed *register*, up to the record *index*; None: none did."""
    n = REGISTERS.index(register)
    for at in range(min(index, len(records) - 1), 0, -1):
        if records[at].registers[n] != records[at - 1].registers[n]:
            return records[at - 1]
    return None


def _writer(records: Sequence[Record], index: int, register: str) -> str:
    found = last_writer(records, index, register)
    if found is None:
        return f"was not changed since instruction {records[0].insns}"
    return f"was last changed by instruction {found.insns + 1}, {instruction(found)}"


def writers(logs: Sequence[tuple[str, InsnLog]], index: int, registers: Sequence[str]) -> Iterator[str]:
    """A line a register and log, of logs with their names; one line where they agree."""
    for register in registers:
        lines = [(name, _writer(log, index, register)) for name, log in logs if len(log)]
        if len(lines) > 1 and all(text == lines[0][1] for _, text in lines):
            lines = [("both runs", lines[0][1])]
        for name, text in lines:
            yield f"{register} {text}, in {name}"


def path(log: InsnLog, index: int) -> Iterator[str]:
    """The last instructions before the record *index*."""
    for record in log[max(index - PATH, 0) : index]:
        yield f"{record.insns + 1:>12}  {instruction(record)}"


def around(log: InsnLog, record: Record) -> Iterator[str]:
    """The code around the instruction of *record* that the window ran, an arrow before it."""
    eip = record.registers[REGISTERS.index("eip")]
    near = {site for site in log.sites if abs(site.eip - eip) <= REACH and site.code32 == record.code32}
    for site in sorted(near):
        shown = instruction(Record(0, _at(record, site.eip), b"", site.code, site.code32))
        arrow = "->" if site.eip == eip and site.code == record.code else "  "
        yield f"{arrow} {site.code.hex(' '):<32} {shown}"


def _at(record: Record, eip: int) -> tuple[int, ...]:
    values = list(record.registers)
    values[REGISTERS.index("eip")] = eip
    return tuple(values)


def explain(found: Difference, logs: Sequence[tuple[str, InsnLog]]) -> Iterator[str]:
    """Lines for people about a difference that *logs*, with their names, have at the record ``found.position``."""
    name, log = logs[-1]
    at = min(found.position if found.is_exact else len(log) - 1, len(log) - 1)
    if at < 1:
        return
    yield from writers(logs, at, found.registers)
    yield f"the way there, in {name}:"
    yield from path(log, at)
    yield f"the code around, in {name}:"
    yield from around(log, log[at - 1])
