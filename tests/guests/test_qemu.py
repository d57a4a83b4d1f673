"""The expected outputs of the guests are what QEMU prints, and every guest has a row and a text."""

import shutil

import pytest

from tests.guests.build import EXPECTED, GUESTS, HALTED, SOURCES, TIMEOUT, expected
from tests.guests.qemu import QEMU, run

BY_QEMU = [name for name, guest in GUESTS.items() if guest.qemu and guest.status not in (HALTED, TIMEOUT)]


def test_every_source_is_a_guest_with_a_text() -> None:
    sources = {path.stem for path in SOURCES.iterdir() if path.suffix in {".asm", ".c"}}
    assert sources == set(GUESTS) == {path.stem for path in EXPECTED.iterdir()}


@pytest.mark.oracle
@pytest.mark.skipif(not shutil.which(QEMU) or not shutil.which("nasm"), reason="QEMU and nasm are needed")
@pytest.mark.parametrize("name", BY_QEMU)
def test_qemu_prints_the_expected_text(name: str) -> None:
    assert run(name) == (GUESTS[name].status, expected(name))
