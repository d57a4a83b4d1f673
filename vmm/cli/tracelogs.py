"""``vmm trace import``, ``export`` and ``lockstep``: QEMU's log, and QEMU itself, beside our traces."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmm.cli.options import RUN_OPTIONS, Draft, count
from vmm.cli.parse import Option, parse, print_help
from vmm.config import check_output
from vmm.errors import ExitStatus, UsageError, VmmError

if TYPE_CHECKING:
    from vmm.trace.lockstep import Lockstep

BOOT_SECTOR = 0x7C00


class Differs(VmmError):
    """A run or a trace is not the reference's."""

    status = ExitStatus.DIFFERS


@dataclass(slots=True)
class _Draft(Draft):
    """What the command line has said so far."""

    log: str | None = None
    until: int = BOOT_SECTOR
    blocks: int | None = None


def _address(draft: _Draft, text: str) -> None:
    try:
        draft.until = int(text, 16)
    except ValueError:
        raise UsageError(f"--until: {text!r} is not a hexadecimal address") from None


def _blocks(draft: _Draft, text: str) -> None:
    draft.blocks = count(text, "--blocks", "blocks", least=1)


def _log(draft: _Draft, text: str) -> None:
    draft.log = text


_LOCKSTEP: tuple[Option[_Draft], ...] = (
    Option(("log",), "FILE", "QEMU's log (-icount ... -d exec,cpu,nochain,int); else QEMU is started", _log),
    Option(("until",), "ADDRESS", "the linear address where it ends, hexadecimal (7c00)", _address),
    Option(("blocks",), "N", "blocks to compare at most (all)", _blocks),
)
_MACHINE = ("m", "bios", "hda", "drive", "rtc", "max-insns", "timeout", "tc-size", "tc-store", "no-chaining", "help")
"""The run options that QEMU is told too, or need not know."""
_OPTIONS: tuple[Option[Any], ...] = (
    *_LOCKSTEP,
    *(option for option in RUN_OPTIONS if option.names[0] in _MACHINE),
)


def import_log(arguments: Sequence[str]) -> int:
    """``vmm trace import LOG OUT``."""
    operands = _operands(arguments, "vmm trace import needs LOG and OUT", 2, 2)
    from vmm.trace.format import Header, Level, Trace
    from vmm.trace.qemu import blocks
    from vmm.trace.records import Record

    out = Path(operands[1])
    check_output("OUT", out)
    records: list[Record] = []
    before = b""
    for number, block in enumerate(_blocks_of(operands[0], blocks)):
        records.append(Record.after(before, number, block.registers))
        before = records[-1].chain
    Trace(Header(Level.BLOCK, 1, 0, None, {"imported": "QEMU's log"}, [], None), records).write(out)
    print(f"{out}: {len(records)} blocks")
    return 0


def _blocks_of(name: str, blocks: Any) -> Any:
    from vmm.trace.qemu import LogError

    try:
        with open(name, "rb") as log:
            yield from blocks(log, name)
    except OSError as error:
        raise LogError(f"{name}: {error.strerror}") from None


def export(arguments: Sequence[str]) -> int:
    """``vmm trace export FILE [LOG]``."""
    operands = _operands(arguments, "vmm trace export needs FILE", 1, 2)
    from vmm.files import write_whole
    from vmm.trace.format import Trace
    from vmm.trace.qemu import export

    trace = Trace.read(Path(operands[0]))
    if len(operands) == 1:
        sys.stdout.writelines(export(trace.records))
        return 0
    out = Path(operands[1])
    check_output("LOG", out)
    write_whole(out, "".join(export(trace.records)).encode())
    return 0


def _operands(arguments: Sequence[str], sentence: str, least: int, most: int) -> list[str]:
    options: tuple[Option[Any], ...] = ()
    operands = parse(options, _Draft(), arguments, "vmm trace", operands=most)
    if len(operands) < least:
        raise UsageError(sentence)
    return operands


def lockstep(arguments: Sequence[str]) -> int:
    """``vmm trace lockstep``."""
    draft = _Draft()
    operands = parse(_OPTIONS, draft, arguments, "vmm trace lockstep", operands=0)
    assert not operands
    if draft.help:
        print_help("vmm trace lockstep [options]", "Run a machine and QEMU side by side, from firmware.", _OPTIONS)
        return 0
    from vmm.trace.lockstep import run, run_with_log

    config = draft.config()
    if draft.log is None:
        done = run(config, draft.until, draft.blocks)
    else:
        done = run_with_log(config, Path(draft.log), draft.until, draft.blocks)
    return _report(done, draft.until)


def _report(done: Lockstep, until: int) -> int:
    counts = Counter(each.where for each in done.inputs)
    first = {each.where: each for each in reversed(done.inputs)}
    if counts:
        from vmm.cli.tables import print_table

        rows = [
            (where, str(count), str(first[where].insns), f"{first[where].ours:x}", f"{first[where].theirs:x}")
            for where, count in counts.items()
        ]
        print_table(("port", "other values#", "first at#", "ours#", "QEMU's#"), rows)
    end = f", to {until:#x}" if done.arrived else ""
    print(f"{done.compared} blocks agree{end}; {done.interrupts} interrupts")
    if done.difference is not None:
        from vmm.cli.tables import print_table

        print_table(("register", "QEMU", "ours", ""), done.difference.table())
        raise Differs(done.difference.sentence())
    return 0
