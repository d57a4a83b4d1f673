"""Whether the engine runs compiled (``setup.py``) or interpreted, and whether from the source beside it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = "btvmm__mypyc"
FLOORS = ("translator", "cache", "vmm")


def library() -> Path | None:
    """The compiled engine, or None if it is interpreted."""
    found, shim = find_spec(LIBRARY), find_spec("translator.unit")
    if found is None or found.origin is None or shim is None or str(shim.origin).endswith(".py"):
        return None
    return Path(found.origin)


def outdated(built: Path, root: Path = ROOT) -> list[Path]:
    """Sources that were changed after the library *built* was made of them; what runs is not what they say."""
    shims = (path for floor in FLOORS for path in (root / floor).rglob("*.so"))
    sources = (shim.with_name(shim.name.partition(".")[0] + ".py") for shim in shims)
    made = built.stat().st_mtime
    return sorted(path for path in sources if path.stat().st_mtime > made)
