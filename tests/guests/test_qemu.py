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


def test_limits_add_only_their_faults() -> None:
    """What is the manual's text in ``segment_loads_limits``: #GP(0) for a null selector, and for a byte too far."""
    fault = "exception 0D error 0000 cs 0008\n"
    text = expected("segment_loads_limits")
    assert text.replace(fault, "") == expected("segment_loads")
    assert text.count(fault) == 8
    assert {before.splitlines()[-1][:5] for before in text.split(fault)[:-1]} == {"carry", "small"}
