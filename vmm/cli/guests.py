"""``vmm guests list|fetch|path``: other people's programs to run."""

from __future__ import annotations

from collections.abc import Sequence

from vmm.cli.parse import suggest
from vmm.errors import ImageError, UsageError
from vmm.guests import GUESTS, GuestStore

USAGE = """usage: vmm guests list
       vmm guests fetch [NAME...]    fetch these, or all
       vmm guests path NAME          print the file, fetched if need be

Guests are files out of Debian's packages, kept in $BTVMM_CACHE (~/.cache/btvmm)."""


def guests(arguments: Sequence[str]) -> int:
    """List, fetch or locate guests; the exit status."""
    if not arguments or arguments[0] in ("-h", "-help", "--help"):
        print(USAGE)
        return 0
    action, *names = arguments
    if action not in ACTIONS:
        raise UsageError(f"vmm guests: unknown action {action!r}{suggest(action, ACTIONS)}")
    if option := next((name for name in names if name.startswith("-")), None):
        raise UsageError(f"vmm guests {action}: unknown option {option}")
    return ACTIONS[action](names)


def _list(names: Sequence[str]) -> int:
    from vmm.cli.tables import print_table

    if names:
        raise UsageError("vmm guests list takes no names")
    store = GuestStore()
    lines = []
    for guest in GUESTS.values():
        found = store.find(guest.name)
        state = (
            "not fetched" if found is None else found.where if found.pinned else f"{found.where}, not a version tried"
        )
        version = next(iter(guest.package.versions)) if found is None else found.version
        lines.append((guest.name, guest.package.name, version, state, guest.help))
    print_table(("guest", "package", "version", "state", "what it is"), lines)
    return 0


def _fetch(names: Sequence[str]) -> int:
    store = GuestStore()
    missing: list[ImageError] = []
    for name in names or GUESTS:
        try:
            found = store.fetch(name)
        except ImageError as error:
            missing.append(error)
            print(f"{name}: {error}", flush=True)
            continue
        note = "" if found.pinned else " (not a version that was tried)"
        print(f"{name}: {found.version}, {found.where}{note}", flush=True)
    if missing:
        raise ImageError(f"{len(missing)} of {len(names or GUESTS)} guests could not be fetched")
    return 0


def _path(names: Sequence[str]) -> int:
    if len(names) != 1:
        raise UsageError("vmm guests path takes one name")
    print(GuestStore().path(names[0]))
    return 0


ACTIONS = {"list": _list, "fetch": _fetch, "path": _path}
