"""The guests of our own: each ends as its row says and prints what QEMU, or the manual, says; twice the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.cli import own_guest
from tests.guests.build import GUESTS, expected, normalise


@pytest.mark.guest
@pytest.mark.skipif(not shutil.which("nasm") or not shutil.which("gcc"), reason="nasm and gcc make the guests")
@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_of_our_own(name: str, tmp_path: Path) -> None:
    row = GUESTS[name]
    first = own_guest(name, tmp_path / "first")
    assert first.status == row.status, first.stderr
    assert normalise(first.files["-debugcon"].encode("latin-1")) == expected(name)
    second = own_guest(name, tmp_path / "second")
    assert second.guests == first.guests
    assert second.stats["recalled"] >= first.stats["recalled"]
