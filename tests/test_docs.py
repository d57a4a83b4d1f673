"""The documents say what is so: tables agree with the program, examples run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import vmm
from vmm import builtin
from vmm.cli import COMMANDS
from vmm.cli.options import RUN_OPTIONS
from vmm.cli.rules import markdown
from vmm.errors import ExitStatus
from vmm.guests import GuestStore
from vmm.hooks import EVENTS
from vmm.machine import Machine

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", API, re.DOTALL)


def test_the_printed_rules_are_up_to_date() -> None:
    assert (ROOT / "docs" / "rules.md").read_text() == markdown(), "vmm rules --markdown > docs/rules.md"


@pytest.mark.parametrize(
    "option", [option for option in RUN_OPTIONS if option.help], ids=lambda option: option.names[0]
)
def test_every_option_is_in_the_readme(option: object) -> None:
    name = option.shown.partition(" ")[0]  # type: ignore[attr-defined]
    assert re.search(rf"`{re.escape(name)}[ `]", README), name


@pytest.mark.parametrize("status", ExitStatus)
def test_every_exit_status_is_in_the_readme(status: ExitStatus) -> None:
    assert re.search(rf"^\| .*\b{int(status)}\b.*\|", README, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"vmm {command}" in README


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_of_the_readme(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", [name for name in vars(Machine) if not name.startswith("_")])
def test_every_method_of_a_machine_is_documented(name: str) -> None:
    internal = {"end", "pause", "print_statistics"}
    assert name in internal or f"vm.{name}" in API


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_documented(event: str) -> None:
    kind, _, rest = event.partition(".")
    assert f"`{event}`" in API or (kind == "output" and f".{rest.rstrip('23')}" in API)


def test_public_names_can_be_imported() -> None:
    assert all(getattr(vmm, name) for name in vmm.__all__)


@pytest.mark.parametrize("code", EXAMPLES, ids=lambda code: code.strip().partition("\n")[0][:40])
def test_examples_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "grub-image" in code and GuestStore().find("grub-image") is None:
        pytest.skip("the guest grub-image is not here (vmm guests fetch grub-image)")
    (tmp_path / "kernel.elf").write_bytes(builtin.image())
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"Machine": Machine}
    if "def test_" in code:
        ast.parse(code)  # tests/test_pytest_plugin.py runs such
    else:
        exec(compile(code, "docs/api.md", "exec"), names)
