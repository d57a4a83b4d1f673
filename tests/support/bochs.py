"""Bochs with a ROM and nothing else: no window, no sound, what the ROM writes to port E9h on its standard output."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

_SETTINGS: Final = """\
display_library: rfb, options="timeout=0"
romimage: file=rom.bin, address={address:#x}
vgaromimage: file=vga.bin
cpu: {cpu}
memory: guest={memory}, host={memory}
port_e9_hack: enabled=1
sound: waveoutdrv=dummy
speaker: enabled=0
log: bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""


def run(folder: Path, address: int, cpu: str, memory: int, seconds: int) -> bytes:
    """Run ``rom.bin`` in *folder* at physical *address*, with *memory* MiB; what it wrote to port E9h.

    *cpu* is Bochs's option.  Raises ``OSError`` if Bochs is not installed, ``TimeoutExpired`` after *seconds*.
    """
    option_rom = bytearray(b"\x55\xaa\x40".ljust(0x8000, b"\0"))
    option_rom[-1] = -sum(option_rom) & 0xFF
    (folder / "vga.bin").write_bytes(option_rom)
    (folder / "bochsrc").write_text(_SETTINGS.format(address=address, cpu=cpu, memory=memory))
    (folder / "rc").write_text("c\n")
    command = ["bochs", "-q", "-f", "bochsrc", "-rc", "rc"]
    done = subprocess.run(
        command, cwd=folder, timeout=seconds, check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    return done.stdout
