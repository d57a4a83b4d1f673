"""The Intel 8042 keyboard controller of the PS/2, with its keyboard and mouse.

Sources: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller";
IBM PC/AT Technical Reference, section 1, for the output port.  Bytes travel on the cables in no time, one
for each time the output buffer is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from devices.core import Clock, Device, Line, Ports
from devices.keyboard import Keyboard, KeyboardState
from devices.keys import BREAK, SET2_TO_SET1
from devices.mouse import Mouse, MouseState

DATA, COMMAND = 0x60, 0x64

STATUS_OBF, STATUS_SYS, STATUS_A2, STATUS_UNLOCKED, STATUS_AUX_OBF = 0x01, 0x04, 0x08, 0x10, 0x20

CTR_INT, CTR_AUX_INT, CTR_SYS, CTR_DISABLE, CTR_AUX_DISABLE, CTR_TRANSLATE = 0x01, 0x02, 0x04, 0x10, 0x20, 0x40
"""Bits of the command byte, which is byte 0 of the controller's RAM."""
RAM_SIZE = 32

READ_RAM, WRITE_RAM = range(0x20, 0x40), range(0x60, 0x80)
TEST_PASSWORD = 0xA4
AUX_DISABLE, AUX_ENABLE, AUX_TEST, SELF_TEST, INTERFACE_TEST = range(0xA7, 0xAC)
DISABLE, ENABLE = 0xAD, 0xAE
READ_INPUT, READ_OUTPUT, WRITE_OUTPUT, WRITE_KEYBOARD_BUFFER, WRITE_AUX_BUFFER = 0xC0, 0xD0, 0xD1, 0xD2, 0xD3
WRITE_AUX, A20_DISABLE, A20_ENABLE = 0xD4, 0xDD, 0xDF
READ_TEST_INPUTS = 0xE0
PULSE_OUTPUT = range(0xF0, 0x100)

NO_PASSWORD, SELF_TEST_PASSED, INTERFACE_TEST_PASSED = 0xF1, 0x55, 0x00
INPUT_UNLOCKED = 0x80

OUT_NO_RESET, OUT_A20, OUT_OBF, OUT_AUX_OBF = 0x01, 0x02, 0x10, 0x20
"""Bits of the output port.  Bit 0 is the inverted RESET of the CPU; bits 4 and 5 are computed."""
OUT_IDLE = 0xCC
"""The clock and data lines of both cables, released."""

REPLIES = 16
"""Replies of the controller that wait for the output buffer; more are lost."""


@dataclass
class ControllerState:
    """The 8042."""

    ram: bytearray = field(default_factory=lambda: bytearray((CTR_INT | CTR_AUX_INT, *[0] * (RAM_SIZE - 1))))
    output: int = 0
    """The output buffer."""
    output_full: bool = False
    output_aux: bool = False
    """What is in the output buffer is the mouse's."""
    replies: list[tuple[int, bool]] = field(default_factory=list)
    """Bytes of the controller's own for the output buffer, and whether they are to pass as the mouse's."""
    output_port: int = OUT_NO_RESET | OUT_A20 | OUT_IDLE
    command: int | None = None
    """The command that waits for a byte at port 60h."""
    last_was_command: bool = False
    break_code: bool = False
    """The prefix F0h came and is to be translated into bit 7."""


@dataclass
class I8042State:
    """The controller and what hangs on it."""

    controller: ControllerState = field(default_factory=ControllerState)
    keyboard: KeyboardState = field(default_factory=KeyboardState)
    mouse: MouseState = field(default_factory=MouseState)


class I8042(Device):
    """The 8042.

    *irq1* and *irq12* are high while a byte of the keyboard's or the mouse's stands in the output buffer and
    the command byte allows it; *a20* is bit 1 of the output port; *cpu_reset* is pulsed when bit 0 goes low.
    """

    name = "i8042"

    def __init__(self, clock: Clock, irq1: Line, irq12: Line, a20: Line, cpu_reset: Line) -> None:
        self.keyboard = Keyboard(clock, self._move)
        self.mouse = Mouse(self._move)
        self._controller = ControllerState()
        self._irq1 = irq1
        self._irq12 = irq12
        self._a20 = a20
        self._cpu_reset = cpu_reset
        self._commands: dict[int, Callable[[], None]] = {
            TEST_PASSWORD: lambda: self._reply(NO_PASSWORD),
            AUX_DISABLE: lambda: self._control(set_bits=CTR_AUX_DISABLE),
            AUX_ENABLE: lambda: self._control(clear_bits=CTR_AUX_DISABLE),
            AUX_TEST: lambda: self._reply(INTERFACE_TEST_PASSED),
            SELF_TEST: self._self_test,
            INTERFACE_TEST: lambda: self._reply(INTERFACE_TEST_PASSED),
            DISABLE: lambda: self._control(set_bits=CTR_DISABLE),
            ENABLE: lambda: self._control(clear_bits=CTR_DISABLE),
            READ_INPUT: lambda: self._reply(INPUT_UNLOCKED),
            READ_OUTPUT: self._read_output,
            A20_DISABLE: lambda: self._write_output(self._controller.output_port & ~OUT_A20),
            A20_ENABLE: lambda: self._write_output(self._controller.output_port | OUT_A20),
            READ_TEST_INPUTS: lambda: self._reply(0 if self._controller.ram[0] & CTR_DISABLE else 1),
        }
        self._arguments: dict[int, Callable[[int], None]] = {
            WRITE_OUTPUT: self._write_output,
            WRITE_KEYBOARD_BUFFER: self._reply,
            WRITE_AUX_BUFFER: lambda value: self._reply(value, aux=True),
            WRITE_AUX: self._write_mouse,
        }

    @property
    def state(self) -> I8042State:
        return I8042State(self._controller, self.keyboard.state, self.mouse.state)

    @state.setter
    def state(self, state: I8042State) -> None:
        self._controller = state.controller
        self.keyboard.state = state.keyboard
        self.mouse.state = state.mouse

    def reset(self) -> None:
        self.state = I8042State()
        self._irq1.set(False)
        self._irq12.set(False)
        self._a20.set(True)

    # Ports ------------------------------------------------------------------------------------------
    def ports(self) -> Sequence[Ports]:
        return (
            Ports(DATA, 1, self._read_data, self._write_data, names=("data",)),
            Ports(COMMAND, 1, self._read_status, self._write_command, names=("status and command",)),
        )

    def _read_status(self, port: int, size: int) -> int:
        state = self._controller
        value = STATUS_UNLOCKED | state.ram[0] & CTR_SYS
        if state.output_full:
            value |= STATUS_OBF | STATUS_AUX_OBF if state.output_aux else STATUS_OBF
        return value | STATUS_A2 if state.last_was_command else value

    def _read_data(self, port: int, size: int) -> int:
        state = self._controller
        value = state.output
        state.output_full = False
        self._drive()
        self.keyboard.run()
        self._move()
        return value

    def _write_data(self, port: int, size: int, value: int) -> None:
        state = self._controller
        state.last_was_command = False
        command, state.command = state.command, None
        if command is None:
            self._control(clear_bits=CTR_DISABLE)
            self.keyboard.write(value)
        elif command in WRITE_RAM:
            state.ram[command % RAM_SIZE] = value
            self._drive()
        else:
            self._arguments[command](value)
        self._move()

    def _write_command(self, port: int, size: int, value: int) -> None:
        state = self._controller
        state.last_was_command = True
        state.command = value if value in self._arguments or value in WRITE_RAM else None
        if value in READ_RAM:
            self._reply(state.ram[value % RAM_SIZE])
        elif value in PULSE_OUTPUT:
            if not value & OUT_NO_RESET:
                self._cpu_reset.pulse()
                return
        elif handler := self._commands.get(value):
            handler()
        self._move()

    # Commands ---------------------------------------------------------------------------------------
    def _reply(self, value: int, aux: bool = False) -> None:
        if len(self._controller.replies) < REPLIES:
            self._controller.replies.append((value, aux))

    def _control(self, set_bits: int = 0, clear_bits: int = 0) -> None:
        ram = self._controller.ram
        ram[0] = ram[0] & ~clear_bits | set_bits

    def _self_test(self) -> None:
        self._control(set_bits=CTR_SYS)
        self._reply(SELF_TEST_PASSED)

    def _read_output(self) -> None:
        state = self._controller
        full = (OUT_AUX_OBF if state.output_aux else OUT_OBF) if state.output_full else 0
        self._reply(state.output_port | full)

    def _write_output(self, value: int) -> None:
        self._controller.output_port = value & ~(OUT_OBF | OUT_AUX_OBF) | OUT_NO_RESET
        self._a20.set(bool(value & OUT_A20))
        if not value & OUT_NO_RESET:
            self._cpu_reset.pulse()

    def _write_mouse(self, value: int) -> None:
        self._control(clear_bits=CTR_AUX_DISABLE)
        self.mouse.write(value)

    # The output buffer --------------------------------------------------------------------------------
    def _move(self) -> None:
        """Fill the output buffer if it is empty."""
        state = self._controller
        if state.output_full:
            return
        if state.replies:
            state.output, state.output_aux = state.replies.pop(0)
        elif (value := self._from_keyboard()) is not None:
            state.output, state.output_aux = value, False
        elif not state.ram[0] & CTR_AUX_DISABLE and (value := self.mouse.read()) is not None:
            state.output, state.output_aux = value, True
        else:
            return
        state.output_full = True
        self._drive()

    def _from_keyboard(self) -> int | None:
        state = self._controller
        if state.ram[0] & CTR_DISABLE:
            return None
        value = self.keyboard.read()
        if value is None or not state.ram[0] & CTR_TRANSLATE:
            return value
        if value == BREAK:
            state.break_code = True
            value = self.keyboard.read()
            if value is None:
                return None
        if state.break_code:
            state.break_code = False
            return SET2_TO_SET1[value] | 0x80
        return SET2_TO_SET1[value]

    def _drive(self) -> None:
        state = self._controller
        self._irq1.set(state.output_full and not state.output_aux and bool(state.ram[0] & CTR_INT))
        self._irq12.set(state.output_full and state.output_aux and bool(state.ram[0] & CTR_AUX_INT))

    # Time -------------------------------------------------------------------------------------------
    def next_event(self) -> int:
        return self.keyboard.next_event()

    def advance(self) -> None:
        self.keyboard.run()
        self._move()
