"""Fixtures of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.devices.qemu import QEMU, Qemu


@pytest.fixture(scope="module")
def qemu() -> Iterator[Qemu]:
    if not QEMU:
        pytest.skip("QEMU is not installed")
    with Qemu("-vga", "std") as oracle:
        yield oracle
