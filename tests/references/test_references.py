"""Every boot of ``tests/references/boots.py`` repeats its recorded trace; a difference is named."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import guest
from tests.references.boots import BOOTS, path
from translator import expand
from vmm.config import MachineConfig
from vmm.guests import GuestStore
from vmm.trace import Trace, check
from vmm.translations import Translations

WAYS: dict[str, dict[str, Any]] = {"as is": {}, "chaining off": {"chaining": False}, "64 KiB": {"tc_size": 64 << 10}}
ROWS = [(name, "as is") for name in BOOTS] + [("seabios", way) for way in WAYS if way != "as is"]


FIRMWARE = ("seabios", "vgabios")
"""What every boot may need besides the guests that it names."""


def config(name: str) -> MachineConfig:
    return BOOTS[name].config({each: guest(each) for each in BOOTS[name].guests.values()})


@pytest.mark.guest
@pytest.mark.parametrize(("name", "way"), ROWS)
def test_a_boot_repeats_its_reference(name: str, way: str) -> None:
    for each in (*FIRMWARE, *BOOTS[name].guests.values()):
        here = GuestStore().find(each)
        if here is not None and not here.pinned:
            pytest.skip(f"{each} is of version {here.version} here, which is none of those that were recorded")
    found, _ = check(replace(config(name), **WAYS[way]), Trace.read(path(name)))
    assert found is None, f"{name}: {found.sentence()} (make references records anew what is meant to change)"


@pytest.mark.guest
def test_a_boot_by_a_store_of_translations_repeats_its_reference(tmp_path: Path) -> None:
    """The first run fills the store, the second one goes by it."""
    there, reference = replace(config("seabios"), tc_store=tmp_path / "store"), Trace.read(path("seabios"))
    assert check(there, reference)[0] is None
    assert len(Translations(tmp_path / "store")) > 1000
    assert check(there, reference)[0] is None


@pytest.mark.guest
def test_another_boot_is_refused_and_said_where(monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[..., int | None] = expand.EMITTERS["inc_dec"]

    def wrong(e: Any, insn: Any) -> int | None:
        other = copy(insn)
        other.opcode ^= 8
        return right(e, other)

    monkeypatch.setitem(expand.EMITTERS, "inc_dec", wrong)
    reference = Trace.read(path("seabios"))
    found, _ = check(config("seabios"), reference)
    assert found is not None
    assert found.window == (0, reference.header.interval)
    assert "the runs part between instructions 0 and 250000" in found.sentence()


def test_the_references_are_small_and_name_no_place() -> None:
    for name in BOOTS:
        assert path(name).stat().st_size < 8192
        assert Trace.read(path(name)).header.arguments == []
