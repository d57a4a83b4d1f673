"""The VGA chip: its ports and the window to its memory.

Register facts: IBM VGA XGA Technical Reference Manual, chapter 2; what the manual leaves open is as in QEMU's VGA.

Display memory is one buffer.  Byte 4n + p of it is byte n of plane p; in chain-4 and the linear modes the same
bytes count up straight.  The text modes' characters and attributes (planes 0 and 1, taken in turn by even and odd
addresses) stand in a buffer of their own while the window shows nothing else, so that the window can be plain
memory; they move to the planes and back when the guest sets the window up otherwise, as for loading a font.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from devices.bus import float_read
from devices.core import Clock, Device, Mmio, Ports
from devices.vga import dispi
from devices.vga import registers as reg
from devices.vga.beam import input_status
from devices.vga.dispi import Dispi
from devices.vga.planes import EXPAND, read_planes, write_planes

WINDOW_BASE = 0xA_0000
WINDOW_SIZE = 0x2_0000
TEXT_SIZE = 0x8000
"""Bytes of characters and attributes that the text window shows."""
PLANE_SIZE = 0x1_0000
MINIMUM_MEMORY = 4 * PLANE_SIZE
DEFAULT_MEMORY = 4 << 20
MAXIMUM_MEMORY = 16 << 20
"""Bytes of display memory."""
LFB_BASE = 0xE000_0000
"""Where an ISA card has its display memory in the linear modes (guest-physical)."""
FONT_PLANE = 2
FONT_PITCH = 32
"""Bytes from one character's shape to the next in plane 2."""
COMMON_NAMES = (
    "ATTRIBUTE_ADDRESS",
    "ATTRIBUTE_DATA",
    "MISC_OUTPUT",
    "3C3",
    "SEQUENCER_INDEX",
    "SEQUENCER_DATA",
    "PEL_MASK",
    "PEL_READ_INDEX",
    "PEL_WRITE_INDEX",
    "PEL_DATA",
    "FEATURE_CONTROL",
    "3CB",
    "MISC_OUTPUT_READ",
    "3CD",
    "GRAPHICS_INDEX",
    "GRAPHICS_DATA",
)
"""Registers at 3C0h..3CFh."""

Buffer = bytearray | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """How guest-physical A0000h..BFFFFh is decoded: *size* bytes from *base* on, the rest floats.

    If *memory* is there the window is plain memory, its first byte ``memory[offset]``; else every access has to
    go through the handlers of ``Vga.mmio``.  A *size* of 0: nothing is decoded.
    """

    base: int
    size: int
    memory: Buffer | None = field(default=None, repr=False)
    offset: int = 0
    latched: bool = False
    """Write mode 1: what is written is what was read last, so accesses must come just as the guest makes them."""

    def same(self, other: Window) -> bool:
        """Whether *other* decodes the same way onto the same buffer."""
        return (
            self.base == other.base
            and self.size == other.size
            and self.memory is other.memory
            and self.offset == other.offset
            and self.latched == other.latched
        )


NO_WINDOW = Window(WINDOW_BASE, 0)


@dataclass
class VgaState:
    """Every register of the chip; the display memory is not among them."""

    misc: int = 0
    feature: int = 0
    sequencer_index: int = 0
    sequencer: bytearray = field(default_factory=lambda: bytearray(len(reg.SEQUENCER_MASKS)))
    crtc_index: int = 0
    crtc: bytearray = field(default_factory=lambda: bytearray(256))
    graphics_index: int = 0
    graphics: bytearray = field(default_factory=lambda: bytearray(len(reg.GRAPHICS_MASKS)))
    attribute_index: int = 0
    attribute_data_next: bool = False
    """The flip-flop of 3C0h: the next write there is data."""
    attribute: bytearray = field(default_factory=lambda: bytearray(len(reg.ATTRIBUTE_MASKS)))
    pel_mask: int = 0xFF
    pel_read_index: int = 0
    pel_write_index: int = 0
    pel_component: int = 0
    """Which of red, green and blue the next access of PEL data means."""
    pel_reading: bool = False
    pel_latch: bytearray = field(default_factory=lambda: bytearray(3))
    dac: bytearray = field(default_factory=lambda: bytearray(768))
    """256 colours of three bytes, 6 bits used unless the VBE extensions ask for 8."""
    latch: int = 0
    """The four latches of the graphics controller, plane 0 in the low byte."""
    dispi: Dispi = field(default_factory=Dispi)


class Vga(Device):
    """A VGA with *memory* as display memory and *text* as the text window's.

    *memory* is a power of two between 256 KiB and 16 MiB long, *text* 32 KiB; both are made if not given.
    ``on_window(window)`` is called when the window changes; ``window`` is how it stands.  Whoever replaces
    ``state`` calls ``restored`` afterwards.  Raises ``ValueError`` for buffers of another size.
    """

    name = "vga"
    state: VgaState

    def __init__(
        self,
        clock: Clock,
        memory: Buffer | None = None,
        text: Buffer | None = None,
        on_window: Callable[[Window], None] = lambda window: None,
    ) -> None:
        self.clock = clock
        self.memory = bytearray(DEFAULT_MEMORY) if memory is None else memory
        self.text = bytearray(TEXT_SIZE) if text is None else text
        size = len(self.memory)
        if not MINIMUM_MEMORY <= size <= MAXIMUM_MEMORY or size & size - 1:
            raise ValueError(f"display memory of {size} bytes is no power of two between 256 KiB and 16 MiB")
        if len(self.text) != TEXT_SIZE:
            raise ValueError(f"the text window holds {TEXT_SIZE} bytes, not {len(self.text)}")
        self.on_window = on_window
        self.words = memoryview(self.memory)[:MINIMUM_MEMORY].cast("I")
        """The four planes, a 32-bit word for each byte address."""
        self.window = NO_WINDOW
        self.state = VgaState()
        self._reads: dict[int, Callable[[], int]] = {
            reg.ATTRIBUTE_ADDRESS: lambda: 0 if self.state.attribute_data_next else self.state.attribute_index,
            reg.ATTRIBUTE_DATA: lambda: self.state.attribute[self.state.attribute_index & 0x1F],
            reg.SEQUENCER_INDEX: lambda: self.state.sequencer_index,
            reg.SEQUENCER_DATA: lambda: self.state.sequencer[self.state.sequencer_index],
            reg.PEL_MASK: lambda: self.state.pel_mask,
            reg.PEL_READ_INDEX: lambda: 3 * self.state.pel_reading,
            reg.PEL_WRITE_INDEX: lambda: self.state.pel_write_index,
            reg.PEL_DATA: self._read_pel,
            reg.FEATURE_READ: lambda: self.state.feature,
            reg.MISC_READ: lambda: self.state.misc,
            reg.GRAPHICS_INDEX: lambda: self.state.graphics_index,
            reg.GRAPHICS_DATA: lambda: self.state.graphics[self.state.graphics_index],
            reg.CRTC_INDEX: lambda: self.state.crtc_index,
            reg.CRTC_DATA: lambda: self.state.crtc[self.state.crtc_index],
            reg.INPUT_STATUS_1: self._read_status,
        }
        self._writes: dict[int, Callable[[int], None]] = {
            reg.ATTRIBUTE_ADDRESS: self._write_attribute,
            reg.MISC_WRITE: self._write_misc,
            reg.SEQUENCER_INDEX: self._write_sequencer_index,
            reg.SEQUENCER_DATA: self._write_sequencer,
            reg.PEL_MASK: self._write_pel_mask,
            reg.PEL_READ_INDEX: self._write_pel_read_index,
            reg.PEL_WRITE_INDEX: self._write_pel_write_index,
            reg.PEL_DATA: self._write_pel,
            reg.GRAPHICS_INDEX: self._write_graphics_index,
            reg.GRAPHICS_DATA: self._write_graphics,
            reg.CRTC_INDEX: self._write_crtc_index,
            reg.CRTC_DATA: self._write_crtc,
            reg.INPUT_STATUS_1: self._write_feature,
        }

    def reset(self) -> None:
        super().reset()
        self._set_window()

    def restored(self) -> None:
        """The state and the buffers were replaced: make the window what the state says."""
        self.window = self._decide_window()
        self.on_window(self.window)

    def set_text_mode(self, font: bytes = b"") -> None:
        """Set mode 3 and clear the screen, as the video BIOS does, for a guest that is started without one.

        *font* is 256 characters of 16 bytes each (rows of 8 dots); without it characters have no shape.
        """
        state = self.state
        mode = reg.TEXT_MODE_3
        state.misc = mode.misc
        state.sequencer[: len(mode.sequencer)] = mode.sequencer
        state.crtc[: len(mode.crtc)] = mode.crtc
        state.graphics[: len(mode.graphics)] = mode.graphics
        state.attribute[: len(mode.attribute)] = mode.attribute
        state.attribute_index = reg.ATTRIBUTE_PAS
        state.dac[: len(reg.TEXT_MODE_3_DAC)] = reg.TEXT_MODE_3_DAC
        for code in range(min(len(font) // 16, 256)):
            at = 4 * FONT_PITCH * code + FONT_PLANE
            self.memory[at : at + 4 * 16 : 4] = font[16 * code : 16 * code + 16]
        self._set_window()
        self.text[:] = b" \x07" * (TEXT_SIZE // 2)

    # Ports ---------------------------------------------------------------------------------------
    def ports(self) -> Sequence[Ports]:
        crtc = ("CRTC_INDEX", "CRTC_DATA")
        return (
            Ports(reg.CRTC_INDEX - reg.MONO_TO_COLOR, 2, self.read_port, self.write_port, names=crtc),
            Ports(reg.INPUT_STATUS_1 - reg.MONO_TO_COLOR, 1, self.read_port, self.write_port),
            Ports(reg.ATTRIBUTE_ADDRESS, 16, self.read_port, self.write_port, names=COMMON_NAMES),
            Ports(reg.CRTC_INDEX, 2, self.read_port, self.write_port, names=crtc),
            Ports(reg.INPUT_STATUS_1, 1, self.read_port, self.write_port, names=("INPUT_STATUS_1",)),
            Ports(dispi.INDEX_PORT, 4, self._read_dispi, self._write_dispi, (1, 2), ("DISPI_INDEX", "DISPI_DATA")),
        )

    def _moved(self, port: int) -> int:
        """The port of a colour mode that *port* stands for; 0 if the chip is not there in this mode."""
        if 0x3C0 <= port < 0x3D0:
            return port
        color = self.state.misc & reg.MISC_IOAS
        if port >= 0x3D0:
            return port if color else 0
        return 0 if color else port + reg.MONO_TO_COLOR

    def read_port(self, port: int, size: int) -> int:
        """The VGA register at *port*, a byte."""
        moved = self._moved(port)
        if not moved:
            return float_read(port, size)
        read = self._reads.get(moved)
        return read() if read else 0

    def write_port(self, port: int, size: int, value: int) -> None:
        """Write the VGA register at *port*, a byte."""
        write = self._writes.get(self._moved(port))
        if write:
            write(value)

    # Attribute controller --------------------------------------------------------------------------
    def _write_attribute(self, value: int) -> None:
        state = self.state
        if state.attribute_data_next:
            index = state.attribute_index & 0x1F
            state.attribute[index] = value & reg.ATTRIBUTE_MASKS[index]
        else:
            state.attribute_index = value & 0x3F
        state.attribute_data_next = not state.attribute_data_next

    # Miscellaneous ---------------------------------------------------------------------------------
    def _write_misc(self, value: int) -> None:
        self.state.misc = value & reg.MISC_MASK
        self._set_window()

    def _write_feature(self, value: int) -> None:
        self.state.feature = value & 0x10

    def _read_status(self) -> int:
        state = self.state
        state.attribute_data_next = False
        return input_status(self.clock.now, state.misc, state.sequencer[reg.SR_CLOCKING], state.crtc)

    # Sequencer -------------------------------------------------------------------------------------
    def _write_sequencer_index(self, value: int) -> None:
        self.state.sequencer_index = value & 7

    def _write_sequencer(self, value: int) -> None:
        state = self.state
        state.sequencer[state.sequencer_index] = value & reg.SEQUENCER_MASKS[state.sequencer_index]
        self._set_window()

    # Graphics controller -----------------------------------------------------------------------------
    def _write_graphics_index(self, value: int) -> None:
        self.state.graphics_index = value & 0xF

    def _write_graphics(self, value: int) -> None:
        state = self.state
        state.graphics[state.graphics_index] = value & reg.GRAPHICS_MASKS[state.graphics_index]
        self._set_window()

    # CRTC ------------------------------------------------------------------------------------------
    def _write_crtc_index(self, value: int) -> None:
        self.state.crtc_index = value

    def _write_crtc(self, value: int) -> None:
        crtc, index = self.state.crtc, self.state.crtc_index
        if index <= reg.CR_OVERFLOW and crtc[reg.CR_RETRACE_END] & reg.RETRACE_END_PROTECT:
            if index == reg.CR_OVERFLOW:
                keep = ~reg.OVERFLOW_LINE_COMPARE
                crtc[index] = crtc[index] & keep | value & reg.OVERFLOW_LINE_COMPARE
            return
        crtc[index] = value

    # DAC -------------------------------------------------------------------------------------------
    def _write_pel_mask(self, value: int) -> None:
        self.state.pel_mask = value

    def _write_pel_read_index(self, value: int) -> None:
        self.state.pel_read_index = value
        self.state.pel_component = 0
        self.state.pel_reading = True

    def _write_pel_write_index(self, value: int) -> None:
        self.state.pel_write_index = value
        self.state.pel_component = 0
        self.state.pel_reading = False

    def _read_pel(self) -> int:
        state = self.state
        value = state.dac[3 * state.pel_read_index + state.pel_component]
        state.pel_component += 1
        if state.pel_component == 3:
            state.pel_component = 0
            state.pel_read_index = state.pel_read_index + 1 & 0xFF
        return value

    def _write_pel(self, value: int) -> None:
        state = self.state
        state.pel_latch[state.pel_component] = value if self.dac_is_8bit else value & 0x3F
        state.pel_component += 1
        if state.pel_component == 3:
            state.pel_component = 0
            at = 3 * state.pel_write_index
            state.dac[at : at + 3] = state.pel_latch
            state.pel_write_index = state.pel_write_index + 1 & 0xFF

    @property
    def dac_is_8bit(self) -> bool:
        """Colours have 8 bits a component instead of 6."""
        return bool(self.state.dispi.registers[dispi.ENABLE] & dispi.DAC_8BIT)

    # VBE extensions --------------------------------------------------------------------------------
    def _read_dispi(self, port: int, size: int) -> int:
        if size != 2:
            return float_read(port, size)
        extensions = self.state.dispi
        return extensions.index if port == dispi.INDEX_PORT else self.read_dispi(extensions.index)

    def _write_dispi(self, port: int, size: int, value: int) -> None:
        if size != 2:
            return
        if port == dispi.INDEX_PORT:
            self.state.dispi.index = value
        else:
            self.write_dispi(self.state.dispi.index, value)

    def read_dispi(self, index: int) -> int:
        """DISPI register *index*, 16 bits."""
        return self.state.dispi.read(index, len(self.memory))

    def write_dispi(self, index: int, value: int) -> None:
        """Write DISPI register *index*, 16 bits."""
        extensions = self.state.dispi
        switched_on = extensions.write(index, value, len(self.memory))
        if extensions.enabled:
            self._follow_dispi()
        self._set_window()
        if switched_on and not value & dispi.NOCLEARMEM:
            shown = extensions.registers[dispi.YRES] * extensions.pitch
            self.memory[:shown] = bytes(shown)

    def _follow_dispi(self) -> None:
        """Show the mode of the extensions in the VGA's own registers, as QEMU's does."""
        state = self.state
        r = state.dispi.registers
        crtc, graphics = state.crtc, state.graphics
        graphics[reg.GR_MISC] = graphics[reg.GR_MISC] & ~0x0C | 0x04 | reg.MISC_GRAPHICS
        crtc[reg.CR_MODE] |= 3
        crtc[reg.CR_OFFSET] = state.dispi.pitch >> 3 & 0xFF
        crtc[reg.CR_HORIZONTAL_DISPLAY_END] = (r[dispi.XRES] >> 3) - 1 & 0xFF
        last = r[dispi.YRES] - 1
        crtc[reg.CR_VERTICAL_DISPLAY_END] = last & 0xFF
        crtc[reg.CR_OVERFLOW] = crtc[reg.CR_OVERFLOW] & ~0x42 | last >> 7 & 0x02 | last >> 3 & 0x40
        crtc[reg.CR_LINE_COMPARE] = 0xFF
        crtc[reg.CR_OVERFLOW] |= reg.OVERFLOW_LINE_COMPARE
        crtc[reg.CR_MAXIMUM_SCAN_LINE] = crtc[reg.CR_MAXIMUM_SCAN_LINE] & ~0x9F | 0x40
        shift = 0 if r[dispi.BPP] == 4 else reg.MODE_SHIFT_256
        graphics[reg.GR_MODE] = graphics[reg.GR_MODE] & ~0x60 | shift

    # The window ------------------------------------------------------------------------------------
    def mmio(self) -> Sequence[Mmio]:
        return (Mmio(WINDOW_BASE, WINDOW_SIZE, self._read_window, self._write_window),)

    @property
    def text_in_window(self) -> bool:
        """Characters and attributes stand in ``text``, not in planes 0 and 1."""
        return self.window.memory is self.text

    def planes(self) -> memoryview:
        """The four planes as the display sees them, a 32-bit word for each byte address; not to be written."""
        if not self.text_in_window:
            return self.words
        copy = bytearray(self.memory[:MINIMUM_MEMORY])
        copy[0 : 2 * TEXT_SIZE : 4] = self.text[0::2]
        copy[1 : 2 * TEXT_SIZE : 4] = self.text[1::2]
        return memoryview(copy).cast("I")

    @property
    def bank(self) -> int:
        """Where in the memory the 64-KiB window of a linear mode begins (bytes)."""
        select = self.state.graphics[reg.GR_MISC] >> reg.GR_MISC_MAP_SHIFT & 3
        return self.state.dispi.bank << 16 if select == 1 else 0

    @property
    def _addressing(self) -> tuple[int, int]:
        """Memory mode and map mask: the sequencer's, or in the linear modes chain-4 over all planes."""
        state = self.state
        if state.dispi.linear:
            return reg.MEMORY_CHAIN4 | reg.MEMORY_OE_DISABLE, 0xF
        return state.sequencer[reg.SR_MEMORY_MODE], state.sequencer[reg.SR_MAP_MASK]

    def _decide_window(self) -> Window:
        state = self.state
        graphics = state.graphics
        if not state.misc & reg.MISC_ERAM:
            return NO_WINDOW
        base, size = reg.MEMORY_MAPS[graphics[reg.GR_MISC] >> reg.GR_MISC_MAP_SHIFT & 3]
        straight = (
            not graphics[reg.GR_MODE] & (reg.MODE_WRITE | reg.MODE_READ_COMPARE)
            and graphics[reg.GR_ROTATE] == 0
            and graphics[reg.GR_BIT_MASK] == 0xFF
        )
        mode, mask = self._addressing
        if mode & reg.MEMORY_CHAIN4:
            return Window(base, size, self.memory if mask == 0xF else None, self.bank)
        if (
            straight
            and not mode & reg.MEMORY_OE_DISABLE
            and graphics[reg.GR_MODE] & reg.MODE_ODD_EVEN
            and mask == 0x3
            and not graphics[reg.GR_ENABLE_SET_RESET] & 3
            and not graphics[reg.GR_READ_MAP] & 2
            and size == TEXT_SIZE
        ):
            return Window(base, size, self.text)
        return Window(base, size, latched=graphics[reg.GR_MODE] & reg.MODE_WRITE == 1)

    def _set_window(self) -> None:
        window = self._decide_window()
        if window.same(self.window):
            return
        memory, text = self.memory, self.text
        if self.text_in_window and window.memory is not text:
            memory[0 : 2 * TEXT_SIZE : 4] = text[0::2]
            memory[1 : 2 * TEXT_SIZE : 4] = text[1::2]
        elif window.memory is text and not self.text_in_window:
            text[0::2] = memory[0 : 2 * TEXT_SIZE : 4]
            text[1::2] = memory[1 : 2 * TEXT_SIZE : 4]
        self.window = window
        self.on_window(window)

    def _read_window(self, offset: int, size: int) -> int:
        at = offset + WINDOW_BASE - self.window.base
        return sum(self._read_byte(at + n) << 8 * n for n in range(size))

    def _write_window(self, offset: int, size: int, value: int) -> None:
        at = offset + WINDOW_BASE - self.window.base
        for n in range(size):
            self._write_byte(at + n, value >> 8 * n & 0xFF)

    def _read_byte(self, at: int) -> int:
        window = self.window
        if not 0 <= at < window.size:
            return 0xFF
        if window.memory is not None:
            return window.memory[window.offset + at]
        state = self.state
        if self._addressing[0] & reg.MEMORY_CHAIN4:
            return self.memory[window.offset + at]
        graphics = state.graphics
        if graphics[reg.GR_MODE] & reg.MODE_ODD_EVEN:
            state.latch = self.words[at >> 1]
            return state.latch >> 8 * (graphics[reg.GR_READ_MAP] & 2 | at & 1) & 0xFF
        state.latch = self.words[at & PLANE_SIZE - 1]
        return read_planes(graphics, state.latch)

    def _write_byte(self, at: int, value: int) -> None:
        window = self.window
        if not 0 <= at < window.size:
            return
        if window.memory is not None:
            window.memory[window.offset + at] = value
            return
        state = self.state
        mode, mask = self._addressing
        if mode & reg.MEMORY_CHAIN4:
            if mask >> (at & 3) & 1:
                self.memory[window.offset + at] = value
            return
        if mode & reg.MEMORY_OE_DISABLE:
            at &= PLANE_SIZE - 1
        else:
            mask &= 0xA if at & 1 else 0x5
            at >>= 1
        enabled = EXPAND[mask]
        data = write_planes(state.graphics, state.latch, value)
        self.words[at] = self.words[at] & ~enabled | data & enabled
