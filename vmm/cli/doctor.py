"""``vmm doctor``: is everything there that a run needs?"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from vmm.errors import ExitStatus, UsageError

PYTHON = (3, 11)
LIBRARIES = ("unicorn", "capstone", "keystone-engine", "lru-dict", "pyelftools", "rich")
OPTIONAL = {"Pillow": "pictures of the screen", "zstandard": "compressed traces"}
TOOLS = {
    "apt-get": "fetches guests",
    "dpkg-deb": "unpacks guests",
    "qemu-system-i386": "the oracle of some tests",
    "nasm": "assembles test guests",
    "gcc": "compiles test guests",
}

Finding = tuple[str, str, str]
"""What was looked at; "ok", "missing" (a run needs it) or "absent" (something else does); a remark."""


def doctor(arguments: Sequence[str]) -> int:
    """Print what is there; status 0 if a machine can run, ``INTERNAL`` if not."""
    if arguments and arguments[0] in ("-h", "-help", "--help"):
        print("usage: vmm doctor\n\nCheck Python, libraries, the engine, guests and tools.")
        return 0
    if arguments:
        raise UsageError("vmm doctor takes no arguments")
    from vmm.cli.tables import print_table

    findings = [finding for check in CHECKS for finding in check()]
    print_table(("what", "state", "remark"), findings)
    if any(state == "missing" for _, state, _ in findings):
        print("vmm: something that a run needs is missing, see above", file=sys.stderr)
        return int(ExitStatus.INTERNAL)
    return 0


def _python() -> list[Finding]:
    state = "ok" if sys.version_info >= PYTHON else "missing"
    return [("Python", state, f"{sys.version.split()[0]} (needs {PYTHON[0]}.{PYTHON[1]})")]


def _libraries() -> list[Finding]:
    findings: list[Finding] = []
    for name, state, use in [
        *((name, "missing", "a dependency") for name in LIBRARIES),
        *((name, "absent", use) for name, use in OPTIONAL.items()),
    ]:
        try:
            findings.append((name, "ok", version(name)))
        except PackageNotFoundError:
            findings.append((name, state, use))
    return findings


def _engine() -> list[Finding]:
    """Import what imports Unicorn, Capstone and Keystone, and with them their shared libraries."""
    findings: list[Finding] = []
    for module, what in (
        ("vmm.host", "host CPU"),
        ("translator.decode", "decoder"),
        ("translator.assembler", "assembler"),
    ):
        try:
            __import__(module)
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the table
            findings.append((what, "missing", f"{type(error).__name__}: {error}"))
        else:
            findings.append((what, "ok", module))
    return findings + _lean() + _compiled()


def _compiled() -> list[Finding]:
    """Whether the engine is compiled, and from the source beside it."""
    from vmm.compiled import library, outdated

    built = library()
    if built is None:
        return [("compiled engine", "absent", "interpreted: slower; gcc and Python's headers, then install again")]
    changed = outdated(built)
    if changed:
        return [("compiled engine", "absent", f"older than {changed[0].name}: install again")]
    return [("compiled engine", "ok", built.name)]


def _lean() -> list[Finding]:
    """Whether Unicorn does without what translated code does not need."""
    try:
        from vmm.host import is_lean
    except Exception:  # noqa: BLE001 - said before
        return []
    remark = "no exit checks, jumps chained across pages" if is_lean() else "an unknown build of Unicorn: slower"
    return [("lean engine", "ok" if is_lean() else "absent", remark)]


def _guests() -> list[Finding]:
    from vmm.guests import GUESTS, GuestStore

    store = GuestStore()
    findings: list[Finding] = []
    for name in GUESTS:
        found = store.find(name)
        if found is None:
            findings.append((f"guest {name}", "absent", f"vmm guests fetch {name}"))
        else:
            findings.append((f"guest {name}", "ok", f"{found.version}, {found.where}"))
    return findings


def _tools() -> list[Finding]:
    return [(tool, "ok" if shutil.which(tool) else "absent", use) for tool, use in TOOLS.items()]


CHECKS: tuple[Callable[[], list[Finding]], ...] = (_python, _libraries, _engine, _guests, _tools)
