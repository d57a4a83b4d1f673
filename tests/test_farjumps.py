"""Direct jumps are chained across pages of the translation cache while an engine of ours runs, and only then."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace
from typing import Any

import pytest
from unicorn.unicorn_py3.unicorn import uclib
from unicorn.x86_const import UC_X86_REG_EAX

from translator import layout
from vmm import farjumps
from vmm.host import Host

KNOWN = bytes.fromhex("488b0a 4c01e0 4831c1 48f7c100f0ffff 0f85e0000000")
OTHER = bytes.fromhex("488d46ff 4831f0 48a900f0ffff 7511")


def library(code: bytes) -> Any:
    """A library with *code* between the two functions, which have to live as long as it."""
    buffer = ctypes.create_string_buffer(code + bytes(8))
    first = ctypes.addressof(buffer)
    return SimpleNamespace(
        do_vmexit_x86_64=ctypes.c_void_p(first),
        gen_intermediate_code_x86_64=ctypes.c_void_p(first + len(code)),
        buffer=buffer,
    )


def masks() -> set[bytes]:
    return {ctypes.string_at(place, 4) for place in farjumps.of_library(uclib).places}


def test_a_mask_is_found_by_what_is_around_it() -> None:
    known = library(OTHER + KNOWN + OTHER + 2 * KNOWN)
    start = ctypes.addressof(known.buffer) + len(OTHER) + 12
    assert farjumps.places(known) == [start, start + len(KNOWN + OTHER), start + len(2 * KNOWN + OTHER)]


@pytest.mark.parametrize(
    "code", [KNOWN, 4 * KNOWN, 3 * OTHER, b""], ids=["once", "four times", "other comparisons", "none"]
)
def test_unknown_code_is_left_alone(code: bytes) -> None:
    assert farjumps.places(library(code)) == []


def test_a_library_without_the_functions_is_left_alone() -> None:
    assert farjumps.places(SimpleNamespace()) == []  # type: ignore[arg-type]


def test_code_that_cannot_be_written_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    known = library(3 * KNOWN)
    monkeypatch.setattr(farjumps, "_protect", lambda place, rights: False)
    jumps = farjumps.FarJumps(known)
    jumps.begin()
    assert known.buffer.raw == 3 * KNOWN + bytes(9)
    jumps.end()
    assert known.buffer.raw == 3 * KNOWN + bytes(9)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the masks are in x86-64 code")
def test_this_unicorn_chains_across_pages_only_while_ours_runs() -> None:
    assert masks() == {b"\x00\xf0\xff\xff"}
    host, seen = Host(1 << 20, 1 << 20), []
    host.code[:3] = b"\xcd\x20\xf4"  # int 20h; hlt

    def on_exit() -> None:
        seen.append(masks())
        host.stop()

    host.on_exit = on_exit
    try:
        host.run(layout.TC_BASE)
    finally:
        host.close()
    assert seen == [{b"\0\0\0\0"}]
    assert masks() == {b"\x00\xf0\xff\xff"}


def test_a_block_that_goes_is_unlinked_from_a_jump_in_another_page() -> None:
    host = Host(1 << 20, 1 << 20)
    there = 0x1000
    host.code[:5] = b"\xe9" + (there - 5).to_bytes(4, "little")  # jmp there
    host.on_exit = host.stop
    try:
        for value in (1, 2):
            text = b"\xb8" + value.to_bytes(4, "little") + b"\xcd\x20"  # mov eax, value; int 20h
            host.code[there : there + len(text)] = text
            host.discard(layout.TC_BASE + there, layout.TC_BASE + there + 7)
            for _ in range(3):
                host.run(layout.TC_BASE)
                assert host.uc.reg_read(UC_X86_REG_EAX) == value
    finally:
        host.close()
