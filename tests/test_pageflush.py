"""One page leaves Unicorn's TLB where its virtual CPU is recognised; where it is not, the whole TLB does."""

from __future__ import annotations

import ctypes
import platform
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
from unicorn import UC_ARCH_X86, UC_HOOK_TLB_FILL, UC_MODE_64, UC_PROT_ALL, Uc
from unicorn.unicorn_const import UC_TLB_VIRTUAL
from unicorn.unicorn_py3.unicorn import uclib
from unicorn.x86_const import UC_X86_REG_RAX

from tests.guests.build import build, expected, normalise
from vmm import Machine, pageflush
from vmm.config import DebugExit
from vmm.host import Host

KNOWN = bytes.fromhex("488bbfb8010000 e944960000").ljust(16, b"\x90")
x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="the offset is read off x86-64 code")


def library(code: bytes) -> Any:
    """A library whose function that empties the TLB consists of *code*."""
    return SimpleNamespace(
        tcg_flush_softmmu_tlb_x86_64=ctypes.create_string_buffer(code, len(code)),
        tlb_flush_page_x86_64=ctypes.create_string_buffer(b"\xc3", 1),
    )


def test_the_offset_is_read_off_the_code() -> None:
    assert pageflush.cpu_offset(library(KNOWN)) == 0x1B8
    assert pageflush.cpu_offset(library(b"\xf3\x0f\x1e\xfa" + KNOWN[:12])) == 0x1B8


@pytest.mark.parametrize(
    "code", [KNOWN.replace(b"\xe9", b"\xe8"), KNOWN.replace(b"\xbf", b"\xb7"), bytes(16)],
    ids=["a call", "another register", "no code"],
)  # fmt: skip
def test_other_code_is_not_guessed_at(code: bytes) -> None:
    assert pageflush.cpu_offset(library(code)) is None
    assert pageflush.of_engine(library(code), 0) is None


def test_a_library_without_the_function_is_left_alone() -> None:
    assert pageflush.cpu_offset(SimpleNamespace()) is None  # type: ignore[arg-type]


@x86_only
def test_only_that_page_is_forgotten() -> None:
    """Two pages are read, then both stand for other memory: one is told, and the other read as before."""
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    uc.ctl_set_tlb_mode(UC_TLB_VIRTUAL)
    uc.mem_map(0x1000, 0x1000)
    uc.mem_map(0x8000, 0x4000)
    uc.mem_write(0x1000, bytes.fromhex("480fb6042500200000 4803042500300000"))  # movzx rax, [2000h]; add rax, [3000h]
    for page, value in ((0x8000, 1), (0x9000, 2), (0xA000, 0x10), (0xB000, 0x20)):
        uc.mem_write(page, bytes((value,)))
    where = {0x1000: 0x1000, 0x2000: 0x8000, 0x3000: 0xA000}

    def fill(uc: Uc, address: int, access: int, entry: Any, data: object) -> bool:
        entry.paddr = where[address & ~0xFFF]
        entry.perms = UC_PROT_ALL
        return True

    uc.hook_add(UC_HOOK_TLB_FILL, fill)
    uc.emu_start(0x1000, 0x1011)
    assert uc.reg_read(UC_X86_REG_RAX) == 0x11
    where |= {0x2000: 0x9000, 0x3000: 0xB000}
    handle = uc._uch
    assert handle is not None
    flush = pageflush.of_engine(uclib, handle.value or 0)
    assert flush is not None
    flush(0x2000)
    uc.emu_start(0x1000, 0x1011)
    assert uc.reg_read(UC_X86_REG_RAX) == 0x12


@x86_only
def test_this_unicorn_forgets_single_pages() -> None:
    host = Host(1 << 20, 1 << 20)
    try:
        assert host.page_flush is not None
    finally:
        host.close()


@pytest.mark.guest
@pytest.mark.skipif(not shutil.which("nasm"), reason="nasm makes the guests")
def test_without_it_a_guest_runs_the_same() -> None:
    said = bytearray()
    exit_ = DebugExit(0xF4, 4)
    with Machine(kernel=build("spaces"), memory="16M", debug_exit=exit_) as machine:
        machine.on("output.debugcon", lambda machine, data: said.extend(data))
        machine.engine.host.page_flush = None
        before = machine.engine.host.flushes
        machine.run(timeout=60)
        assert machine.engine.host.flushes > before + 40
    assert normalise(bytes(said)) == expected("spaces")
