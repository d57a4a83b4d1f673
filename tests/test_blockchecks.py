"""Unicorn's checks at the start of blocks are taken out where all is as known, of one engine, and nowhere else."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
from unicorn.unicorn_py3.unicorn import uclib
from unicorn.x86_const import UC_X86_REG_RCX

from vmm import blockchecks
from vmm.compiled import ROOT
from vmm.host import Host

KNOWN = bytes.fromhex("4157 4989d7 4156 488bbfe0980000 e800000000").ljust(64, b"\x90")
ROUNDS = 1_000_000
BRANCHES = bytes.fromhex("eb00 eb00 48ffc9 75f7")
"""jmp; jmp; dec rcx; jnz: blocks of an instruction or two."""
x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="the offset is read off x86-64 code")


def library(code: bytes) -> Any:
    """A library whose function consists of *code*."""
    return SimpleNamespace(tcg_gen_callN_x86_64=ctypes.create_string_buffer(code, len(code)))


def engine(code: bytes) -> Uc:
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    uc.mem_map(0x1000, 0x1000)
    uc.mem_write(0x1000, code)
    return uc


@x86_only
def test_this_unicorn_runs_without_checks() -> None:
    host = Host(1 << 20, 1 << 20)
    try:
        assert host.unchecked is not None
    finally:
        host.close()


@x86_only
def test_an_engine_without_checks_runs_the_same_and_stops_at_its_end() -> None:
    uc = engine(BRANCHES)
    info = blockchecks.turn_off(uclib, uc._uch.value)
    assert info is not None
    uc.reg_write(UC_X86_REG_RCX, ROUNDS)
    uc.emu_start(0x1000, 0x1000 + len(BRANCHES))
    assert uc.reg_read(UC_X86_REG_RCX) == 0


@x86_only
def test_another_engine_in_the_process_keeps_its_checks() -> None:
    """Only a check ends the other engine's loop; in a process of its own, for without one nothing would."""
    code = (
        "from tests.test_blockchecks import BRANCHES, blockchecks, engine, uclib\n"
        "first, other = engine(BRANCHES), engine(bytes.fromhex('ebfe'))\n"
        "info = blockchecks.turn_off(uclib, first._uch.value)\n"
        "other.emu_start(0x1000, 0x1002, timeout=20_000)\n"
        "print(info is not None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "True\n"


def test_the_offset_is_read_off_the_code() -> None:
    assert blockchecks.table_offset(library(KNOWN)) == 0x98E0


@pytest.mark.parametrize("code", [KNOWN.replace(b"\x48\x8b\xbf", b"\x48\x8b\xb7"), bytes(64)], ids=["another", "none"])
def test_unknown_code_is_left_alone(code: bytes) -> None:
    words = ctypes.create_string_buffer(0x2000)
    assert blockchecks.turn_off(library(code), ctypes.addressof(words)) is None
    assert not any(words.raw)


def test_a_library_without_the_function_is_left_alone() -> None:
    assert blockchecks.table_offset(SimpleNamespace()) is None  # type: ignore[arg-type]


def context(name: bytes, free: bool = False) -> tuple[ctypes.Array[ctypes.c_char], list[Any]]:
    """An engine whose eighth word points to a TCGContext with a table of one helper called *name*; and its parts."""
    text = ctypes.create_string_buffer(name, 64)
    info = ctypes.create_string_buffer(blockchecks._INFO.pack(0x1234, ctypes.addressof(text), 0, 4), 32)
    nodes = ctypes.create_string_buffer(96)
    ctypes.memmove(
        ctypes.addressof(nodes) + 24, blockchecks._NODE.pack(0x1234, ctypes.addressof(info), 0 if free else 0x1234), 24
    )
    table = ctypes.create_string_buffer(64)
    ctypes.memmove(table, (4).to_bytes(8, "little"), 8)
    ctypes.memmove(ctypes.addressof(table) + 0x18, ctypes.addressof(nodes).to_bytes(8, "little"), 8)
    context_ = ctypes.create_string_buffer(0x98E0 + 8)
    ctypes.memmove(ctypes.addressof(context_) + 0x98E0, ctypes.addressof(table).to_bytes(8, "little"), 8)
    words = ctypes.create_string_buffer(8 * 512)
    for at, value in ((8, 0xDEAD_0000), (16, 1 << 60), (64, ctypes.addressof(context_))):
        ctypes.memmove(ctypes.addressof(words) + at, value.to_bytes(8, "little"), 8)
    return words, [nodes, info, text, table, context_]


def test_the_helper_has_no_effects_for_this_engine_and_the_librarys_own_entry_stays() -> None:
    words, (nodes, info, *rest) = context(blockchecks.HELPER)
    before = info.raw
    ours = blockchecks.turn_off(library(KNOWN), ctypes.addressof(words))
    assert ours is not None
    assert info.raw == before
    assert blockchecks._NODE.unpack_from(nodes.raw, 24) == (0x1234, ctypes.addressof(ours), 0x1234)
    assert blockchecks._INFO.unpack_from(ours.raw)[2] == 5
    assert rest


@pytest.mark.parametrize("name", [b"check_exit_request_arm", b"", blockchecks.HELPER + b"_2"])
def test_another_helper_is_left_alone(name: bytes) -> None:
    words, (nodes, *rest) = context(name)
    before = nodes.raw
    assert blockchecks.turn_off(library(KNOWN), ctypes.addressof(words)) is None
    assert nodes.raw == before
    assert rest


def test_a_free_place_of_the_table_is_no_helper() -> None:
    words, parts = context(blockchecks.HELPER, free=True)
    assert blockchecks.turn_off(library(KNOWN), ctypes.addressof(words)) is None
    assert parts
