"""The rules of the house, read off the source: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "translator": {"translator"},
    "devices": {"devices"},
    "cache": {"cache", "translator"},
    "vmm": {"vmm", "cache", "devices", "translator"},
    "perf": {"perf", "vmm", "cache", "devices", "translator"},
}
"""Which of our packages each may import."""
ROOF = {"vmm.cli.bench": "perf"}
"""A sub-command that only starts a package above ``vmm``."""
ONE_IMPORTER = {"unicorn": "vmm.host", "capstone": "translator.decode", "keystone": "translator.assembler"}
"""Libraries that one file (or folder) owns."""
NO_WALL_TIME = {"time", "random", "secrets", "uuid", "threading", "logging", "asyncio"}
"""What a device must not know: it repeats exactly, and has no logger."""


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, lazy: bool = True, source: str | None = None) -> Iterator[str]:
    """Dotted names that module *name* imports; with *lazy*, inside functions too."""
    tree = ast.parse(MODULES[name].read_text() if source is None else source)
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".")[: -node.level]
                base = ".".join([*package, base] if base else package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base
        if _is_type_checking(node) or (not lazy and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        pending += ast.iter_child_nodes(node)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def floor_of(name: str) -> str:
    return name.partition(".")[0]


def may_own(name: str, owner: str) -> bool:
    return name == owner or name.startswith(owner + ".")


@pytest.mark.parametrize(
    ("source", "lazy", "expected"),
    [
        ("import unicorn", True, {"unicorn"}),
        ("from unicorn.x86_const import A", True, {"unicorn.x86_const"}),
        ("def f():\n    import time", True, {"time"}),
        ("def f():\n    import time", False, set()),
        ("if TYPE_CHECKING:\n    import time", True, set()),
        ("class A:\n    import time", False, {"time"}),
        ("from vmm import errors", True, {"vmm.errors"}),
        ("from vmm.errors import VmmError", True, {"vmm.errors"}),
        ("from .errors import VmmError", True, {"vmm.errors"}),
    ],
)
def test_the_reader_of_imports(source: str, lazy: bool, expected: set[str]) -> None:
    assert set(imports("vmm.made_up", lazy, source)) == expected


@pytest.mark.parametrize("name", MODULES)
def test_imports_only_go_down(name: str) -> None:
    ours = {floor_of(other) for other in imports(name)} & set(FLOORS)
    assert ours - FLOORS[floor_of(name)] - {ROOF.get(name)} == set()


@pytest.mark.parametrize("name", MODULES)
def test_each_engine_is_imported_by_one_file(name: str) -> None:
    libraries = {floor_of(other) for other in imports(name)} & set(ONE_IMPORTER)
    assert {library for library in libraries if not may_own(name, ONE_IMPORTER[library])} <= (
        {"unicorn"} if floor_of(name) == "perf" else set()  # what we compare ourselves with
    )


@pytest.mark.parametrize("library", ONE_IMPORTER)
def test_the_owners_of_the_engines_exist(library: str) -> None:
    owners = {name for name in MODULES if library in {floor_of(other) for other in imports(name)}}
    assert any(may_own(name, ONE_IMPORTER[library]) for name in owners)


@pytest.mark.parametrize("name", [name for name in MODULES if floor_of(name) in ("devices", "translator", "cache")])
def test_nothing_below_the_vmm_knows_wall_time(name: str) -> None:
    assert {floor_of(other) for other in imports(name)} & NO_WALL_TIME == set()
    source = MODULES[name].read_text()
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    assert {call for call in calls if call.rpartition(".")[2] in ("now", "utcnow", "today", "perf_counter")} == set()


def test_no_cycles() -> None:
    """Modules that import each other when they are imported."""
    graph = {name: {other for other in imports(name, lazy=False) if other in MODULES} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise AssertionError("cycle: " + " -> ".join((*path[path.index(name) :], name)))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("vmm", "unicorn capstone keystone rich elftools PIL lru"),
        ("vmm.cli", "unicorn capstone keystone rich elftools PIL lru subprocess"),
        ("vmm.cli.run", "unicorn capstone keystone rich elftools PIL lru subprocess"),
        ("vmm.cli.guests", "unicorn capstone keystone rich elftools PIL lru"),
    ],
)
def test_what_an_import_does_not_bring(module: str, heavy: str) -> None:
    script = f"import sys, {module}; print(*sorted(set({heavy.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    path = MODULES[name]
    assert ast.get_docstring(ast.parse(path.read_text())) or not path.read_text().strip()
