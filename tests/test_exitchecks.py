"""Unicorn's exit checks are turned off where their flag is recognised, and left alone where it is not."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace
from typing import Any

import pytest

from vmm import exitchecks
from vmm.host import Host

KNOWN = bytes.fromhex("488bb770990000 80bef207000000 7408 c3").ljust(32, b"\x90")


def library(code: bytes) -> Any:
    """A library whose function consists of *code*."""
    return SimpleNamespace(check_exit_request_x86_64=ctypes.create_string_buffer(code, len(code)))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flag is read off x86-64 code")
def test_this_unicorn_runs_without_checks() -> None:
    host = Host(1 << 20, 1 << 20)
    try:
        assert host.lean
    finally:
        host.close()


def test_the_offset_is_read_off_the_code() -> None:
    assert exitchecks.flag_offset(library(KNOWN)) == 0x7F2


@pytest.mark.parametrize(
    "code",
    [KNOWN.replace(b"\x80\xbe", b"\x80\x3e"), KNOWN.replace(b"\xf2\x07\0\0", b"\xf2\x07\0\x10"), bytes(32)],
    ids=["another comparison", "an offset out of the structure", "no code"],
)
def test_unknown_code_is_left_alone(code: bytes) -> None:
    engine = ctypes.create_string_buffer(0x1000)
    assert not exitchecks.turn_off(library(code), ctypes.addressof(engine))
    assert not any(engine.raw)


def test_a_library_without_the_function_is_left_alone() -> None:
    assert exitchecks.flag_offset(SimpleNamespace()) is None  # type: ignore[arg-type]


def test_the_flag_is_set_once() -> None:
    engine = ctypes.create_string_buffer(0x1000)
    assert exitchecks.turn_off(library(KNOWN), ctypes.addressof(engine))
    assert engine.raw[0x7F2] == 1
    assert not exitchecks.turn_off(library(KNOWN), ctypes.addressof(engine))
