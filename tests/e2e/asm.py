"""Small guests, written where they are used."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / "build" / "guests"
needs_nasm = pytest.mark.skipif(not shutil.which("nasm"), reason="nasm assembles the guest")

EXIT = ("-device", "isa-debug-exit,iobase=0xf4,iosize=1")

FLAT = "bits 16\norg 0x7c00\n"
"""A flat binary, which starts in real mode without firmware."""
KERNEL = """bits 32
org 0x100000
header: dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000), header, header, 0, 0, start
start:  mov esp, 0x90000
"""
"""A multiboot kernel, which starts in protected mode without firmware."""
SECTOR_END = "\ntimes 510-($-$$) db 0\ndw 0xaa55\n"
"""Makes a flat binary a boot sector, which the BIOS starts."""


def assemble(source: str) -> Path:
    """The binary of nasm's *source*."""
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"snippet-{hashlib.sha256(source.encode()).hexdigest()[:16]}.bin"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}")
        text = partial.with_suffix(f".{os.getpid()}.asm")
        text.write_text(source)
        done = subprocess.run(["nasm", "-f", "bin", "-o", partial, text], capture_output=True, text=True, check=False)
        text.unlink()
        assert done.returncode == 0, done.stderr
        partial.replace(target)
    return target
