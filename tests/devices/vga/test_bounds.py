"""Whatever a guest or a configuration does: sizes that are refused, random traffic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.core import SECOND, Clock
from devices.vga import Vga
from devices.vga.core import VgaState
from devices.vga.text import read_screen
from tests.devices.vga.pc import (
    Pc,
)


@pytest.mark.parametrize("size", [0, 1 << 17, (1 << 20) + 1, 3 << 20, 32 << 20])
def test_bad_memory_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="display memory"):
        Vga(Clock(), bytearray(size))


def test_bad_text_size() -> None:
    with pytest.raises(ValueError, match="text window"):
        Vga(Clock(), text=bytearray(100))


PORTS = st.one_of(st.integers(0x3B0, 0x3DF), st.integers(0x1CE, 0x1D1), st.sampled_from((0x3C4, 0x3CE, 0x3D4, 0x3C0)))
TRAFFIC = st.lists(
    st.one_of(
        st.tuples(st.just("out"), PORTS, st.sampled_from((1, 2, 2, 4)), st.integers(0, 0xFFFF_FFFF)),
        st.tuples(st.just("in"), PORTS, st.sampled_from((1, 2, 4)), st.just(0)),
        st.tuples(
            st.just("store"), st.integers(0, 0x1_FFFF), st.sampled_from((1, 2, 4, 8)), st.integers(0, (1 << 64) - 1)
        ),
        st.tuples(st.just("load"), st.integers(0, 0x1_FFFF), st.sampled_from((1, 2, 4, 8)), st.just(0)),
        st.tuples(st.just("time"), st.integers(0, SECOND), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@settings(max_examples=80, deadline=None)
@given(TRAFFIC, st.booleans())
def test_random_traffic(traffic: list[tuple[str, int, int, int]], text: bool) -> None:
    pc = Pc(1 << 18)
    if text:
        pc.vga.set_text_mode()
    for what, at, size, value in traffic:
        if what == "out":
            pc.write(at, size, value & (1 << 8 * size) - 1)
        elif what == "in":
            assert 0 <= pc.read(at, size) < 1 << 8 * size
        elif what == "store":
            pc.mmio.write(at, size, value & (1 << 8 * size) - 1)
        elif what == "load":
            assert 0 <= pc.mmio.read(at, size) < 1 << 8 * size
        else:
            pc.clock.now += at
        window = pc.vga.window
        if window.memory is not None:
            assert window.offset + window.size <= len(window.memory)
    screen = read_screen(pc.vga)
    assert screen is None or len(screen.codes) == screen.columns * screen.rows
    assert len(pc.vga.memory) == 1 << 18
    pc.vga.reset()
    assert pc.vga.state == VgaState()
    assert pc.vga.window.size == 0
