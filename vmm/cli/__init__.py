"""The ``vmm`` command.

``main`` chooses the sub-command, and turns whatever ends it into one sentence on stderr and an exit status.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from time import perf_counter, process_time

from vmm.errors import ExitStatus, UsageError, VmmError

COMMANDS = {
    "run": "run a machine",
    "demo": "run the main demonstration",
    "guests": "list, fetch and locate other people's programs to run",
    "inspect": "say what an image is, and what its first code becomes",
    "trace": "record a run, and hold another against it",
    "rules": "print how each instruction is treated",
    "stats": "say what the statistics mean, or print those of a file",
    "bench": "measure speed, ours beside other machines'",
    "doctor": "check what is needed to run",
}
"""Sub-commands: ``vmm.cli.NAME`` has a function NAME(arguments) -> exit status."""

USAGE = """usage: vmm COMMAND ...
       vmm run [options] [IMAGE]     vmm run --help lists the options

commands:
"""


began = 0.0
"""When the command did, by ``perf_counter``; the process with it, if it is the process's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` if None) and return its exit status.  Raises nothing."""
    global began
    began = perf_counter() - (process_time() if arguments is None else 0.0)
    try:
        return _dispatch(sys.argv[1:] if arguments is None else list(arguments))
    except VmmError as error:
        return _fail(error.status, str(error))
    except KeyboardInterrupt:
        return _fail(ExitStatus.INTERRUPTED, "interrupted")
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not raise at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(ExitStatus.INTERRUPTED, "the reader of the output has gone")
    except MemoryError:
        return _fail(ExitStatus.INTERNAL, "the host has not enough memory")
    except Exception as error:  # noqa: BLE001 - the last resort
        return _internal(error)


def _dispatch(arguments: Sequence[str]) -> int:
    command, *rest = arguments or ["--help"]
    if command in ("-h", "-help", "--help", "help"):
        print(USAGE + "".join(f"  {name:<10}{text}\n" for name, text in COMMANDS.items()), end="")
        return 0
    if command in ("-version", "--version"):
        from importlib.metadata import version

        print(f"vmm {version('btvmm')}")
        return 0
    if command.startswith("-"):  # QEMU has no sub-commands
        command, rest = "run", list(arguments)
    if command not in COMMANDS:
        from vmm.cli.parse import suggest

        hint = f", to run it write: vmm run {command}" if os.path.exists(command) else suggest(command, COMMANDS)
        raise UsageError(f"unknown command {command!r}{hint} (vmm --help lists them)")
    function: Callable[[Sequence[str]], int] = getattr(importlib.import_module(f"vmm.cli.{command}"), command)
    status = function(rest)
    sys.stdout.flush()
    return status


def _fail(status: int, sentence: str) -> int:
    print(f"vmm: {sentence} (status {int(status)})", file=sys.stderr)
    return int(status)


def _internal(error: Exception) -> int:
    if os.environ.get("VMM_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return _fail(ExitStatus.INTERNAL, f"internal error, VMM_TRACEBACK=1 shows where: {text}")
