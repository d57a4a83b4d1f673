"""Pictures of the screen against QEMU's."""

from __future__ import annotations

import itertools
import json
import random
import socket
from pathlib import Path

import pytest
from PIL import Image

from devices.vga.image import picture
from devices.vga.registers import TEXT_MODE_3, Mode
from tests.devices.qemu import QEMU, Qemu
from tests.devices.vga.pc import (
    GRAPHICS_4,
    GRAPHICS_6,
    GRAPHICS_12,
    GRAPHICS_13,
    Pc,
    indexed,
    set_mode,
)


def screendump(path: Path, machine: Qemu, monitor: socket.socket) -> Image.Image:
    """QEMU's picture of its screen."""
    command = {"execute": "screendump", "arguments": {"filename": str(path)}}
    with monitor.makefile("rw") as stream:
        stream.write(json.dumps({"execute": "qmp_capabilities"}) + json.dumps(command))
        stream.flush()
        answers = [json.loads(line) for line in itertools.islice(stream, 3)]
    assert "error" not in answers[2], answers
    return Image.open(path).convert("RGB")


@pytest.mark.oracle
@pytest.mark.skipif(not QEMU, reason="QEMU is not installed")
@pytest.mark.parametrize(
    ("mode", "base", "size", "extra"),
    [
        pytest.param(TEXT_MODE_3, 0xB_8000, 4000, [], id="text"),
        pytest.param(TEXT_MODE_3, 0xB_8000, 16384, [(0x3D4, 0x0C, 0x02)], id="scrolled text"),
        pytest.param(TEXT_MODE_3, 0xB_8000, 4000, [(0x3C4, 1, 1)], id="text of eight dots"),
        pytest.param(GRAPHICS_12, 0xA_0000, 0x9600, [], id="mode 12h"),
        pytest.param(GRAPHICS_12, 0xA_0000, 0xFFFF, [(0x3D4, 0x13, 0x30), (0x3D4, 0x0D, 0x55)], id="wide mode 12h"),
        pytest.param(GRAPHICS_13, 0xA_0000, 64000, [], id="mode 13h"),
        pytest.param(GRAPHICS_4, 0xB_8000, 0x4000, [], id="mode 4"),
        pytest.param(GRAPHICS_6, 0xB_8000, 0x4000, [], id="mode 6"),
    ],
)
def test_pictures_are_qemus(
    tmp_path: Path, mode: Mode, base: int, size: int, extra: list[tuple[int, int, int]]
) -> None:
    pc = Pc()
    monitor = tmp_path / "qmp"
    content = random.Random(base).randbytes(size)
    if mode is TEXT_MODE_3:
        # QEMU does not blink, and lets the ninth dot of B0h..BFh join too.
        content = bytes(value & 0x7F if n % 2 or 0xB0 <= value < 0xC0 else value for n, value in enumerate(content))
    with Qemu("-vga", "std", "-qmp", f"unix:{monitor},server=on,wait=off") as oracle:
        for machine in (pc, oracle):
            machine.write(0x3C8, 1, 0)
            for value in random.Random(7).randbytes(768):
                machine.write(0x3C9, 1, value & 0x3F)
            set_mode(machine, TEXT_MODE_3)
            for row in ((0x3C4, 2, 4), (0x3C4, 4, 7), (0x3CE, 4, 2), (0x3CE, 5, 0), (0x3CE, 6, 4)):
                indexed(machine, *row)
            machine.write_memory(0xA_0000, random.Random(9).randbytes(8192))
            set_mode(machine, mode)
            indexed(machine, 0x3D4, 0x0A, 0x20)
            indexed(machine, 0x3D4, 0x11, 0)
            for turn, planes_ in enumerate((1, 2, 4, 8) if mode is GRAPHICS_12 else (mode.sequencer[2],)):
                indexed(machine, 0x3C4, 2, planes_)
                machine.write_memory(base, bytes(value + turn & 0xFF for value in content))
            indexed(machine, 0x3C4, 2, mode.sequencer[2])
            for row in extra:
                indexed(machine, *row)
        oracle.read(0x3DA, 1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(monitor))
            theirs = screendump(tmp_path / "screen.ppm", oracle, client)
    ours = picture(pc.vga).resize(theirs.size, Image.Resampling.NEAREST)
    six_bits = bytes(value & 0xFC for value in range(256))  # the DAC's; the rest is the expander's taste
    assert ours.tobytes().translate(six_bits) == theirs.tobytes().translate(six_bits)
