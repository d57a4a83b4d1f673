"""``vmm trace``: record a run, hold another against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmm.cli.options import RUN_OPTIONS, Draft, count
from vmm.cli.parse import Option, parse, print_help
from vmm.cli.tracelogs import Differs, export, import_log, lockstep
from vmm.config import check_output
from vmm.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from vmm.trace.compare import Difference
    from vmm.trace.format import Trace
    from vmm.trace.records import Record

USAGE = """usage: vmm trace record OUT [options] [run options] [IMAGE]   run, and write what the CPU was
       vmm trace check FILE [run options] [IMAGE]             run again (with the recorded options if none are
                                                              given), up to the first difference: status 12
       vmm trace diff REFERENCE OTHER                         the first difference of two traces: status 12
       vmm trace show FILE [--from N] [--to N]                print records
       vmm trace lockstep [options] [run options]             our machine beside QEMU, block by block: status 12
       vmm trace import LOG OUT                               QEMU's -d exec,cpu,nochain log as a trace
       vmm trace export FILE [LOG]                            a trace as such a log"""

LEVELS = ("hash", "insn")


@dataclass(slots=True)
class _Draft(Draft):
    """What the command line has said so far."""

    interval: int | None = None
    level: str = "hash"
    start: int | None = None
    end: int | None = None


def _count(option: str, name: str) -> Any:
    def apply(draft: _Draft, text: str) -> None:
        setattr(draft, name, count(text, option, least=0))

    return apply


def _level(draft: _Draft, text: str) -> None:
    if text not in LEVELS:
        raise UsageError(f"--level: {text!r} is not one of {', '.join(LEVELS)}")
    draft.level = text


_WINDOW: tuple[Option[_Draft], ...] = (
    Option(("from",), "N", "the first record, in guest instructions (0)", _count("--from", "start")),
    Option(("to",), "N", "the last one (to the end)", _count("--to", "end")),
)
_RECORD: tuple[Option[_Draft], ...] = (
    Option(("interval",), "N", "guest instructions between records (65536)", _count("--interval", "interval")),
    Option(("level",), "|".join(LEVELS), "insn: every instruction from --from to --to, with its code", _level),
    *_WINDOW,
)
_HELP: tuple[Option[Any], ...] = tuple(option for option in RUN_OPTIONS if "help" in option.names)
_UNUSED = ("stats", "stats-json", "json")
"""Options of ``vmm run`` that say how it reports."""
_RUN: tuple[Option[Any], ...] = tuple(option for option in RUN_OPTIONS if option.names[0] not in _UNUSED)


def trace(arguments: Sequence[str]) -> int:
    """Do what *arguments* say; the exit status."""
    command, *rest = arguments or ["--help"]
    if command in ("-h", "-help", "--help"):
        print(USAGE)
        return 0
    commands = {
        "record": _record,
        "check": _check,
        "diff": _diff,
        "show": _show,
        "import": import_log,
        "export": export,
        "lockstep": lockstep,
    }
    if command not in commands:
        from vmm.cli.parse import suggest

        raise UsageError(f"vmm trace: unknown command {command!r}{suggest(command, commands)}")
    return commands[command](rest)


def _record(arguments: Sequence[str]) -> int:
    draft = _Draft()
    operands = parse((*_RECORD, *_RUN), draft, arguments, "vmm trace record", operands=2)
    if draft.help:
        print_help("vmm trace record OUT [options] [IMAGE]", "Run a machine and write its trace.", (*_RECORD, *_RUN))
        return 0
    out, image = _file(operands, "record", "OUT"), operands[1] if len(operands) > 1 else None
    check_output("OUT", out)
    from vmm.trace.format import Level, zstandard
    from vmm.trace.record import INTERVAL, Plan, record

    zstandard()
    level = Level(draft.level)
    if level is Level.INSN and draft.interval is not None:
        raise UsageError("--interval: --level insn has a record for every instruction")
    interval = 1 if level is Level.INSN else INTERVAL if draft.interval is None else draft.interval
    plan = Plan(level, interval, draft.start or 0, draft.end).check()
    made, result = record(draft.config(image), plan, _run_arguments(arguments, operands))
    made.write(out)
    print(f"{out}: {len(made.records)} records to {result.insns} instructions, in {result.seconds:.1f} s")
    print(f"the run ended: {result.reason} (status {result.status & 0xFF})")
    return int(result.status) if result.status == ExitStatus.INTERRUPTED else 0


def _run_arguments(arguments: Sequence[str], operands: Sequence[str]) -> list[str]:
    """The run options and the image among *arguments*, for ``check``."""
    kept: list[str] = []

    def keep(option: Option[Any]) -> Option[Any]:
        def apply(_: object, value: str) -> None:
            kept.append(f"--{option.names[0]}" + (f"={value}" if option.value else ""))

        return Option(option.names, option.value, option.help, apply)

    parse((*_RECORD, *map(keep, _RUN)), _Draft(), arguments, "vmm trace record")
    return [*kept, "--", *operands[1:]]


def _check(arguments: Sequence[str]) -> int:
    draft = _Draft()
    operands = parse(_RUN, draft, arguments, "vmm trace check", operands=2)
    if draft.help:
        print_help("vmm trace check FILE [run options] [IMAGE]", "Run again, and say where the run differs.", _RUN)
        return 0
    file = _file(operands, "check", "FILE")
    from vmm.trace.format import Trace
    from vmm.trace.record import check, refine

    recorded = Trace.read(file)
    if len(arguments) == 1:
        draft = _Draft()
        operands = [str(file), *parse(_RUN, draft, recorded.header.arguments, str(file), operands=1)]
    config = draft.config(operands[1] if len(operands) > 1 else None)
    found, made = check(config, recorded)
    logs = [("the reference", recorded.records), ("this run", made.records if made else None)]
    if found is not None and made is None:
        logs = [("this run", refine(config, recorded, found))]
    return _report(found, recorded, logs)


def _diff(arguments: Sequence[str]) -> int:
    draft = _Draft()
    operands = parse(_HELP, draft, arguments, "vmm trace diff", operands=2)
    if draft.help:
        print(USAGE)
        return 0
    from vmm.trace.compare import compare
    from vmm.trace.format import Trace

    if len(operands) < 2:
        raise UsageError("vmm trace diff needs two files")
    reference, other = (Trace.read(Path(name)) for name in operands)
    return _report(
        compare(reference, other), reference, [(operands[0], reference.records), (operands[1], other.records)]
    )


def _show(arguments: Sequence[str]) -> int:
    draft = _Draft()
    operands = parse((*_WINDOW, *_HELP), draft, arguments, "vmm trace show", operands=1)
    if draft.help:
        print(USAGE)
        return 0
    file = _file(operands, "show", "FILE")
    from vmm.trace.format import Trace

    trace = Trace.read(file)
    header = trace.header
    machine = ", ".join(f"{name} {value}" for name, value in header.machine.items() if value not in (None, [], "", {}))
    print(f"level {header.level}, a record every {header.interval} instructions from {header.start}; {machine}")
    first, last = draft.start or 0, draft.end
    for record in trace.records:
        if record.insns >= first and (last is None or record.insns <= last):
            print(_line(record))
    print(f"the run ended: {header.ending}" if header.ending is not None else "the run was left after the last record")
    return 0


def _line(record: Record) -> str:
    from vmm.trace.compare import instruction
    from vmm.trace.records import REGISTERS

    names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eflags", "cr0", "cr3")
    values = dict(zip(REGISTERS, record.registers, strict=True))
    registers = " ".join(f"{name}={values[name]:08x}" for name in names)
    where = instruction(record) if record.code else record.address
    return f"{record.insns:>12} {record.chain.hex()} {registers} {where}"


def _report(found: Difference | None, reference: Trace, logs: Sequence[tuple[str, object]]) -> int:
    """Say where the runs part, and what *logs* of instructions show of it; raises ``Differs`` if they do."""
    if found is None:
        print(f"{len(reference.records)} records agree, to {reference.records[-1].insns if reference.records else 0}")
        return 0
    from vmm.cli.tables import print_table
    from vmm.trace.explain import explain
    from vmm.trace.insns import InsnLog

    print_table(("register", "reference", "other", ""), found.table())
    if known := [(name, log) for name, log in logs if isinstance(log, InsnLog)]:
        print(*explain(found, known), sep="\n")
    raise Differs(found.sentence())


def _file(operands: Sequence[str], command: str, name: str) -> Path:
    if not operands:
        raise UsageError(f"vmm trace {command}: {name} is missing")
    return Path(operands[0])
