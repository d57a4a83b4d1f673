"""Debian's unmodified memtest86+ on a RAM with a broken cell, and on a sound one."""

from __future__ import annotations

import re

import pytest

from tests.e2e.cli import guest
from vmm.machine import Machine

pytestmark = [pytest.mark.guest, pytest.mark.slow]

PAGE = 0x1000
BROKEN = 0x80_0000
"""A page of RAM with a broken cell."""
CELL, STUCK = 0x124, 0x08
"""The byte in that page, and its bit that is always one."""
SECONDS = 200
"""After which a run hangs."""


class BrokenPage:
    """A page of RAM in which one bit of one byte is stuck at one."""

    def __init__(self) -> None:
        self.data = bytearray(PAGE)

    def read(self, offset: int, size: int) -> int:
        data = self.data[offset : offset + size]
        if offset <= CELL < offset + size:
            data[CELL - offset] |= STUCK
        return int.from_bytes(data, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.data[offset : offset + size] = value.to_bytes(size, "little")


def machine() -> Machine:
    return Machine(kernel=guest("memtest86+"), memory="16M", append="console=ttyS0,115200")


def test_a_broken_cell_is_reported() -> None:
    with machine() as vm:
        page = BrokenPage()
        vm.engine.physical.add_device(BROKEN, PAGE, page.read, page.write, exact=False)
        vm.serial.expect(r"Errors: +[1-9]", timeout=SECONDS)
        vm.run(max_insns=50_000_000)
        screen = vm.screen.text()
    assert re.search(rf"\b0*{BROKEN + CELL:x}\b", screen), screen


def test_sound_memory_passes_the_first_tests() -> None:
    with machine() as vm:
        vm.serial.expect(r"#4 +\[Moving inversions, 8 bit pattern", timeout=SECONDS)
        screen = vm.screen.text()
    assert re.search(r"Errors: +0\b", screen), screen
