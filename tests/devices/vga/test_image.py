"""Pictures of the screen: dots where the mode has them, in every kind of mode."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from PIL import Image

from devices.core import Clock
from devices.vga import Vga, dispi
from devices.vga import registers as reg
from devices.vga.image import picture
from devices.vga.registers import TEXT_MODE_3_DAC

Dot = tuple[int, int, int]
WHITE: Dot = (0xAA, 0xAA, 0xAA)
BLACK: Dot = (0, 0, 0)
FONT = random.Random(1).randbytes(4096)


def text_mode(font: bytes = FONT) -> Vga:
    vga = Vga(Clock(), bytearray(4 << 20))
    vga.set_text_mode(font)
    vga.state.crtc[reg.CR_CURSOR_START] = reg.CURSOR_OFF
    return vga


def dots(image: Image.Image, row: int, first: int, count: int) -> list[Dot]:
    """Some dots of a row."""
    return [image.getpixel((column, row)) for column in range(first, first + count)]  # type: ignore[misc]


def test_a_character() -> None:
    vga = text_mode()
    vga.text[2:4] = b"\xdb\x07"
    vga.text[4:6] = b"A\x1e"
    image = picture(vga)
    assert image.size == (720, 400)
    for row in range(16):
        bits = [FONT[16 * 0xDB + row] >> 7 - n & 1 for n in range(8)]
        bits.append(bits[7])  # DBh is one of the characters that join
        assert dots(image, row, 9, 9) == [WHITE if bit else BLACK for bit in bits]
        bits = [FONT[16 * 0x41 + row] >> 7 - n & 1 for n in range(8)] + [0]
        assert dots(image, row, 18, 9) == [(0xFF, 0xFF, 0x55) if bit else (0, 0, 0xAA) for bit in bits]


@pytest.mark.parametrize(
    ("clocking", "mode", "attribute", "background"),
    [
        pytest.param(0x00, 0x0C, 0x97, (0, 0, 0xAA), id="blinking"),
        pytest.param(0x00, 0x04, 0x97, (0x55, 0x55, 0xFF), id="bright background"),
        pytest.param(0x01, 0x0C, 0x47, (0xAA, 0, 0), id="eight dots"),
    ],
)
def test_backgrounds_and_widths(clocking: int, mode: int, attribute: int, background: Dot) -> None:
    vga = text_mode(bytes(4096))
    vga.state.sequencer[reg.SR_CLOCKING] = clocking
    vga.state.attribute[reg.AR_MODE] = mode
    vga.text[1] = attribute
    image = picture(vga)
    width = 8 if clocking else 9
    assert image.size == (80 * width, 400)
    assert dots(image, 0, 0, width + 1) == [background] * width + [BLACK]


def test_the_cursor() -> None:
    vga = text_mode(bytes(4096))
    vga.state.crtc[reg.CR_CURSOR_START : reg.CR_CURSOR_END + 1] = bytes((13, 14))
    vga.state.crtc[reg.CR_CURSOR_LOW] = 81
    image = picture(vga)
    shown = [row for row in range(400) if dots(image, row, 9, 9) == [WHITE] * 9]
    assert shown == [29, 30]
    assert dots(image, 29, 8, 1) + dots(image, 29, 18, 1) == [BLACK, BLACK]


def test_two_fonts() -> None:
    vga = text_mode(bytes(4096))
    vga.state.sequencer[reg.SR_CHARACTER_MAP] = 0x04  # map A is the second
    vga.memory[4 * (0x4000 + 32 * 65) + 2] = 0xFF
    vga.text[0:4] = b"A\x07A\x0f"
    image = picture(vga)
    assert dots(image, 0, 0, 17) == [BLACK] * 9 + [(0xFF, 0xFF, 0xFF)] * 8


def graphics(mode: dict[str, bytes | int]) -> Vga:
    """A graphics mode with the text mode's colours."""
    vga = Vga(Clock(), bytearray(4 << 20))
    vga.set_text_mode()
    for name, value in mode.items():
        if isinstance(value, int):
            setattr(vga.state, name, value)
        else:
            getattr(vga.state, name)[: len(value)] = value
    vga.restored()
    vga.text[:] = bytes(len(vga.text))
    return vga


MODE_12: dict[str, bytes | int] = {
    "misc": 0xE3,
    "sequencer": bytes.fromhex("03010f0006"),
    "crtc": bytes.fromhex("5f4f508254800b3e 0040000000000000 ea8cdf2800e704e3 ff"),
    "graphics": bytes.fromhex("000000000000050fff"),
    "attribute": bytes.fromhex("0001020304051407 38393a3b3c3d3e3f 01000f0000"),
}
MODE_13: dict[str, bytes | int] = {
    "misc": 0x63,
    "sequencer": bytes.fromhex("03010f000e"),
    "crtc": bytes.fromhex("5f4f50825480bf1f 0041000000000000 9c8e8f284096b9a3 ff"),
    "graphics": bytes.fromhex("000000000040050fff"),
    "attribute": bytes.fromhex("0001020304050607 08090a0b0c0d0e0f 41000f0000"),
}
MODE_4: dict[str, bytes | int] = {
    "misc": 0x63,
    "sequencer": bytes.fromhex("0309030002"),
    "crtc": bytes.fromhex("2d2728902b80bf1f 00c1000000000000 9c8e8f140096b9a2 ff"),
    "graphics": bytes.fromhex("0000000000300f0fff"),
    "attribute": bytes.fromhex("0013151702040607 1011121314151617 01000300 00"),
}


def test_planes() -> None:
    vga = graphics(MODE_12)
    at = 4 * (80 * 2 + 1)
    vga.memory[at : at + 4] = bytes((0x80, 0xC0, 0x00, 0x81))
    image = picture(vga)
    assert image.size == (640, 480)
    assert dots(image, 2, 7, 10) == [
        BLACK,
        (0x55, 0xFF, 0xFF),
        (0, 0xAA, 0),
        *[BLACK] * 5,
        (0x55, 0x55, 0x55),
        BLACK,
    ]
    vga.state.attribute[reg.AR_PLANE_ENABLE] = 0x2
    assert dots(picture(vga), 2, 7, 4) == [BLACK, (0, 0xAA, 0), (0, 0xAA, 0), BLACK]


def test_a_byte_a_dot() -> None:
    vga = graphics(MODE_13)
    vga.memory[320 * 3 + 5 : 320 * 3 + 8] = bytes((1, 0x3F, 4))
    image = picture(vga)
    assert image.size == (320, 200)
    assert dots(image, 3, 4, 5) == [BLACK, (0, 0, 0xAA), (0xFF, 0xFF, 0xFF), (0xAA, 0, 0), BLACK]
    vga.state.pel_mask = 0x0F
    assert dots(picture(vga), 3, 6, 1) == [(0xAA, 0xAA, 0xFF)]


def test_cga() -> None:
    vga = graphics(MODE_4)
    (window,) = vga.mmio()
    window.write(0x1_8000 + 80 * 1 + 1, 1, 0x1B)  # row 2
    window.write(0x1_8000 + 0x2000, 1, 0xE4)  # row 1
    image = picture(vga)
    assert image.size == (320, 200)
    shades = [
        tuple(value << 2 | value >> 4 for value in TEXT_MODE_3_DAC[3 * n : 3 * n + 3]) for n in (0x13, 0x15, 0x17)
    ]
    colors = [BLACK, *shades]
    assert dots(image, 2, 4, 4) == colors
    assert dots(image, 1, 0, 4) == colors[::-1]
    assert dots(image, 0, 0, 4) == [BLACK] * 4


def encode_15(red: int, green: int, blue: int) -> bytes:
    return (red >> 3 << 10 | green >> 3 << 5 | blue >> 3).to_bytes(2, "little")


def encode_16(red: int, green: int, blue: int) -> bytes:
    return (red >> 3 << 11 | green >> 2 << 5 | blue >> 3).to_bytes(2, "little")


@pytest.mark.parametrize(
    ("depth", "encode"),
    [
        pytest.param(8, lambda red, green, blue: b"\x27", id="8"),
        pytest.param(15, encode_15, id="15"),
        pytest.param(16, encode_16, id="16"),
        pytest.param(24, lambda red, green, blue: bytes((blue, green, red)), id="24"),
        pytest.param(32, lambda red, green, blue: bytes((blue, green, red, 0x55)), id="32"),
    ],
)
def test_vbe(depth: int, encode: Callable[[int, int, int], bytes]) -> None:
    vga = Vga(Clock(), bytearray(4 << 20))
    vga.state.dac[3 * 0x27 : 3 * 0x27 + 3] = bytes((0x3F, 0x00, 0x21))
    for index, value in (
        (dispi.XRES, 320),
        (dispi.YRES, 200),
        (dispi.BPP, depth),
        (dispi.ENABLE, 0x41),
        (dispi.VIRT_WIDTH, 400),
        (dispi.Y_OFFSET, 10),
    ):
        vga.write_dispi(index, value)
    color = encode(0xFF, 0x00, 0x84)
    at = (12 * 400 + 7) * len(color)
    vga.memory[at : at + len(color)] = color
    image = picture(vga)
    assert image.size == (320, 200)
    before, dot, after = dots(image, 2, 6, 3)
    assert (before, after) == (BLACK, BLACK)
    assert max(abs(a - b) for a, b in zip(dot, (0xFF, 0x00, 0x86), strict=True)) <= 4


def test_vbe_planes() -> None:
    vga = Vga(Clock(), bytearray(4 << 20))
    vga.set_text_mode()
    for index, value in ((dispi.XRES, 800), (dispi.YRES, 600), (dispi.BPP, 4), (dispi.ENABLE, 0x01)):
        vga.write_dispi(index, value)
    vga.memory[4 * 100 : 4 * 100 + 4] = bytes((0xFF, 0, 0, 0))
    image = picture(vga)
    assert image.size == (800, 600)
    assert dots(image, 1, 0, 9) == [(0, 0, 0xAA)] * 8 + [BLACK]


@pytest.mark.parametrize("seed", range(25))
def test_any_registers_give_a_picture(seed: int) -> None:
    chance = random.Random(seed)
    vga = Vga(Clock(), bytearray(chance.randbytes(1 << 18)))
    vga.set_text_mode()
    state = vga.state
    for port, count in ((0x3C4, 5), (0x3CE, 9), (0x3D4, 25)):
        for index in range(count):
            vga.write_port(port, 1, index)
            vga.write_port(port + 1, 1, chance.getrandbits(8))
    state.attribute[:21] = chance.randbytes(21)
    if seed % 2:
        for index in (dispi.XRES, dispi.YRES, dispi.BPP, dispi.X_OFFSET, dispi.Y_OFFSET):
            vga.write_dispi(index, chance.getrandbits(9))
        vga.write_dispi(dispi.BPP, chance.choice((4, 8, 15, 16, 24, 32)))
        vga.write_dispi(dispi.ENABLE, 0x81)
    image = picture(vga)
    assert image.mode == "RGB"
    assert image.width * image.height <= 2048 * 2048
