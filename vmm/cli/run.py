"""``vmm run``: a machine from options to exit status."""

from __future__ import annotations

import atexit
import gc
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmm import cli
from vmm.cli.options import RUN_OPTIONS, Draft
from vmm.cli.parse import parse, print_help
from vmm.errors import UsageError, VmmError

if TYPE_CHECKING:
    from vmm.config import MachineConfig
    from vmm.result import RunResult
    from vmm.stats import Stats

STATUSES = """exit status:
  0 clean power-off or the last --expect met; odd: the guest's own (isa-debug-exit); 2 usage; 4 image cannot
  be loaded; 6 triple fault; 8 --fail-on matched; 10 halted for ever; 14 unsupported instruction or device;
  70 a bug of ours; 124 timeout; 130 Ctrl-C.  The last line on stderr says why."""


def run(arguments: Sequence[str]) -> int:
    """Run the machine that *arguments* describe; the exit status."""
    draft = Draft()
    try:
        images = parse(RUN_OPTIONS, draft, arguments, "vmm run", operands=1)
        if draft.help:
            print_help("vmm run [options] [IMAGE]", "Run a machine.", RUN_OPTIONS, STATUSES)
            return 0
        config = draft.config(images[0] if images else None)
        result = _run(draft, config)
    except VmmError as error:
        if draft.json:
            _print_json(int(error.status), str(error), 0, 0.0)
        raise
    return report(draft, result)


def _run(draft: Draft, config: MachineConfig) -> RunResult:
    """Run the machine; the statistics come out whatever happens, and after the terminal was put back."""
    from vmm.machine import Machine

    atexit.register(gc.freeze)  # else Python looks through all that was translated once more
    stats: Stats | None = None
    try:
        with Machine(config) as machine:
            stats = machine.stats
            machine.watch.began(cli.began)
            machine.on_statistics = lambda: _print_stats(machine.stats)
            return machine.run()
    finally:
        if stats is not None:
            _report_stats(draft, stats)


def report(draft: Draft, result: RunResult) -> int:
    """Say how the run ended, last of all; the status for the shell."""
    status = result.status & 0xFF
    if draft.json:
        _print_json(status, result.reason, result.insns, result.seconds)
    sys.stdout.flush()
    print(f"vmm: {result.reason} (status {status})", file=sys.stderr)
    return status


def _print_json(status: int, reason: str, insns: int, seconds: float) -> None:
    print(json.dumps({"status": status, "reason": reason, "insns": insns, "seconds": round(seconds, 3)}), flush=True)


def _report_stats(draft: Draft, stats: Stats) -> None:
    if draft.stats_json is not None:
        from vmm.stats import write_json

        try:
            write_json(draft.stats_json, stats.as_dict())
        except OSError as error:
            raise UsageError(f"--stats-json: {draft.stats_json}: {error.strerror}") from None
    if draft.stats:
        _print_stats(stats)


def _print_stats(stats: Stats) -> None:
    from vmm.cli.tables import print_stats

    sys.stdout.flush()
    print_stats(stats.as_dict(), sys.stderr)
