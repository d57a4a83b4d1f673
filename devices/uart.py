"""16550A UART (National Semiconductor PC16550D data sheet).

The serial line is faster than its divisor says in one way only: a character written to THR leaves at once,
so LSR.THRE and LSR.TEMT always read as one and the THRE interrupt is due again right after the write.  A guest
that polls never waits.  The receiver's character timeout does follow the divisor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from devices.core import NEVER, SECOND, Clock, Device, Line, Ports

COM1, COM2, COM3, COM4 = 0x3F8, 0x2F8, 0x3E8, 0x2E8
"""Base ports of the PC's serial ports."""

CRYSTAL = 1_843_200
"""Hertz; a bit takes 16 times the divisor of its periods."""
FIFO_SIZE = 16
TRIGGER_LEVELS = (1, 4, 8, 14)
"""Received characters that raise the interrupt, by FCR bits 6 and 7."""
TIMEOUT_CHARACTERS = 4

IER_ERBFI, IER_ETBEI, IER_ELSI, IER_EDSSI = 1, 2, 4, 8
IIR_NONE, IIR_LINE_STATUS, IIR_DATA, IIR_TIMEOUT, IIR_THRE, IIR_MODEM = 0x01, 0x06, 0x04, 0x0C, 0x02, 0x00
IIR_FIFOS = 0xC0
FCR_ENABLE, FCR_CLEAR_RECEIVER = 0x01, 0x02
FCR_STORED = 0xC9  # the clear bits clear themselves
LCR_WORD_LENGTH, LCR_STB, LCR_PEN, LCR_BREAK, LCR_DLAB = 0x03, 0x04, 0x08, 0x40, 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0x01, 0x02, 0x04, 0x08, 0x10
LSR_DR, LSR_OE, LSR_PE, LSR_FE, LSR_BI, LSR_THRE, LSR_TEMT, LSR_FIFO_ERROR = (1 << n for n in range(8))
LSR_CHARACTER_ERRORS = LSR_PE | LSR_FE | LSR_BI
LSR_ERRORS = LSR_OE | LSR_CHARACTER_ERRORS
MSR_DCTS, MSR_DDSR, MSR_TERI, MSR_DDCD, MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = (1 << n for n in range(8))

LOOPBACK = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
"""Which output feeds which input under MCR.LOOP."""


@dataclass
class UartState:
    """Registers and the receiver's FIFO."""

    divisor: int = 12
    ier: int = 0
    fcr: int = 0
    lcr: int = 0
    mcr: int = 0
    scr: int = 0
    rbr: int = 0
    lsr_errors: int = 0
    """OE, PE, FE and BI as LSR shows them until it is read."""
    received: bytearray = field(default_factory=bytearray)
    received_errors: bytearray = field(default_factory=bytearray)
    """LSR bits of each character in ``received``; those of the first are already in ``lsr_errors``."""
    thre_pending: bool = False
    timed_out: bool = False
    timeout_at: int = NEVER
    """When the characters in the FIFO have lain untouched for four character times (ns)."""
    modem_inputs: int = MSR_CTS | MSR_DSR | MSR_DCD
    """CTS, DSR, RI and DCD at the pins, in MSR's bits: a terminal that is switched on."""
    msr_deltas: int = 0


class Uart(Device):
    """One 16550A.

    *interrupt* is INTR behind the PC's gate: it is driven only while the OUT2 pin is active, which it is not
    in loopback.  The word length only counts for timing: characters keep all eight bits, because boot sectors print
    without a line to set it (LCR is 0 after reset, five bits), and other emulators let them.  *transmit* is called
    with the characters that leave the chip.
    """

    def __init__(
        self,
        clock: Clock,
        interrupt: Line,
        transmit: Callable[[bytes], None],
        base: int = COM1,
        name: str = "uart",
    ) -> None:
        self.name = name
        self.base = base
        self.state: UartState = UartState()
        self._clock = clock
        self._interrupt = interrupt
        self._transmit = transmit
        self._reads = (
            self._read_rbr,
            self._read_ier,
            self._read_iir,
            lambda: self.state.lcr,
            lambda: self.state.mcr,
            self._read_lsr,
            self._read_msr,
            lambda: self.state.scr,
        )
        self._writes = (
            self._write_thr,
            self._write_ier,
            self._write_fcr,
            self._write_lcr,
            self._write_mcr,
            lambda value: None,  # LSR is for the factory's tests
            lambda value: None,  # MSR likewise
            self._write_scr,
        )

    def reset(self) -> None:
        """MR: all but the levels at the modem pins, which others drive."""
        self.state = UartState(modem_inputs=self.state.modem_inputs)
        self._update()

    def ports(self) -> Sequence[Ports]:
        names = ("RBR/THR/DLL", "IER/DLM", "IIR/FCR", "LCR", "MCR", "LSR", "MSR", "SCR")
        return (Ports(self.base, 8, self.read, self.write, names=names),)

    def read(self, port: int, size: int) -> int:
        """IN from one of the eight registers."""
        return self._reads[port & 7]()

    def write(self, port: int, size: int, value: int) -> None:
        """OUT to one of the eight registers."""
        self._writes[port & 7](value)

    # The serial line ---------------------------------------------------------------------------
    @property
    def character_ns(self) -> int:
        """Duration of one character: start bit, data, parity and stop bits (a divisor of 0 counts as 1)."""
        state = self.state
        lcr = state.lcr
        half_bits = 2 * (1 + 5 + (lcr & LCR_WORD_LENGTH) + bool(lcr & LCR_PEN) + 1)
        if lcr & LCR_STB:
            half_bits += 2 if lcr & LCR_WORD_LENGTH else 1
        return half_bits * 8 * max(state.divisor, 1) * SECOND // CRYSTAL

    def receive(self, data: bytes) -> int:
        """Characters come in; returns how many were taken.  The caller offers the rest again later.

        The other end heeds flow control: it never overruns the FIFO (one character while FIFOs are off),
        and sends nothing while the input pin is cut off by loopback.
        """
        state = self.state
        if state.mcr & MCR_LOOP:
            return 0
        taken = data[: max(self._capacity() - len(state.received), 0)]
        for character in taken:
            self._arrive(character, 0)
        self._update()
        return len(taken)

    def receive_break(self) -> bool:
        """The other end sends a break; false if there is no room for its character (offer it again)."""
        state = self.state
        if state.mcr & MCR_LOOP or len(state.received) >= self._capacity():
            return False
        self._arrive(0, LSR_BI | LSR_FE)
        self._update()
        return True

    def set_modem_inputs(self, inputs: int) -> None:
        """Drive the pins CTS, DSR, RI and DCD; *inputs* has MSR's bits 4 to 7."""
        before = self._modem_status()
        self.state.modem_inputs = inputs & 0xF0
        self._modem_change(before)

    def _capacity(self) -> int:
        return FIFO_SIZE if self.state.fcr & FCR_ENABLE else 1

    def _arrive(self, character: int, errors: int) -> None:
        """A character is complete in the shift register."""
        state = self.state
        if len(state.received) >= self._capacity():
            state.lsr_errors |= LSR_OE
            if state.fcr & FCR_ENABLE:
                return  # the FIFO keeps what it has, the shift register is overwritten
            state.received.clear()
            state.received_errors.clear()
        state.received.append(character)
        state.received_errors.append(errors)
        self._reveal()
        self._restart_timeout()

    def _reveal(self) -> None:
        """LSR shows the errors of the character at the top of the FIFO."""
        state = self.state
        if state.received:
            state.lsr_errors |= state.received_errors[0]
            state.received_errors[0] = 0

    def _restart_timeout(self) -> None:
        state = self.state
        state.timeout_at = NEVER
        if state.received and state.fcr & FCR_ENABLE and not state.timed_out:
            state.timeout_at = self._clock.now + TIMEOUT_CHARACTERS * self.character_ns

    def _clear_receiver(self) -> None:
        state = self.state
        state.received.clear()
        state.received_errors.clear()
        state.timed_out = False
        state.timeout_at = NEVER

    # Interrupts --------------------------------------------------------------------------------
    def _interrupt_id(self) -> int:
        """IIR bits 0 to 3: the source of highest priority."""
        state = self.state
        ier = state.ier
        if ier & IER_ELSI and state.lsr_errors:
            return IIR_LINE_STATUS
        if ier & IER_ERBFI:
            trigger = TRIGGER_LEVELS[state.fcr >> 6] if state.fcr & FCR_ENABLE else 1
            if len(state.received) >= trigger:
                return IIR_DATA
            if state.timed_out:
                return IIR_TIMEOUT
        if ier & IER_ETBEI and state.thre_pending:
            return IIR_THRE
        if ier & IER_EDSSI and state.msr_deltas:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        out2 = self.state.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2
        self._interrupt.set(out2 and self._interrupt_id() != IIR_NONE)

    def _modem_status(self) -> int:
        state = self.state
        if not state.mcr & MCR_LOOP:
            return state.modem_inputs
        return sum(status for output, status in LOOPBACK if state.mcr & output)

    def _modem_change(self, before: int) -> None:
        """Note what differs from the inputs *before*; of RI only the trailing edge counts."""
        after = self._modem_status()
        changed = (before ^ after) & (MSR_CTS | MSR_DSR | MSR_DCD) | before & ~after & MSR_RI
        self.state.msr_deltas |= changed >> 4
        self._update()

    # Read ----------------------------------------------------------------------------------------
    def _read_rbr(self) -> int:
        state = self.state
        if state.lcr & LCR_DLAB:
            return state.divisor & 0xFF
        if state.received:
            state.rbr = state.received.pop(0)
            state.received_errors.pop(0)
            state.timed_out = False
            self._reveal()
            self._restart_timeout()
            self._update()
        return state.rbr

    def _read_ier(self) -> int:
        state = self.state
        return state.divisor >> 8 if state.lcr & LCR_DLAB else state.ier

    def _read_iir(self) -> int:
        state = self.state
        source = self._interrupt_id()
        if source == IIR_THRE:
            state.thre_pending = False
            self._update()
        return source | (IIR_FIFOS if state.fcr & FCR_ENABLE else 0)

    def _read_lsr(self) -> int:
        state = self.state
        status = state.lsr_errors | LSR_THRE | LSR_TEMT
        if state.received:
            status |= LSR_DR
        if state.fcr & FCR_ENABLE and (state.lsr_errors & LSR_CHARACTER_ERRORS or any(state.received_errors)):
            status |= LSR_FIFO_ERROR
        state.lsr_errors = 0
        self._update()
        return status

    def _read_msr(self) -> int:
        state = self.state
        status = self._modem_status() | state.msr_deltas
        state.msr_deltas = 0
        self._update()
        return status

    # Write ---------------------------------------------------------------------------------------
    def _write_thr(self, value: int) -> None:
        state = self.state
        if state.lcr & LCR_DLAB:
            state.divisor = state.divisor & 0xFF00 | value
            return
        state.thre_pending = False
        self._update()
        if state.mcr & MCR_LOOP:
            self._arrive(value, 0)
        else:
            self._transmit(bytes((value,)))
        state.thre_pending = True
        self._update()

    def _write_ier(self, value: int) -> None:
        state = self.state
        if state.lcr & LCR_DLAB:
            state.divisor = value << 8 | state.divisor & 0xFF
            return
        if (value ^ state.ier) & IER_ETBEI:
            # THR is empty, so enabling the interrupt raises it, even if IIR had acknowledged it before.
            state.thre_pending = bool(value & IER_ETBEI)
        state.ier = value & 0x0F
        self._update()

    def _write_fcr(self, value: int) -> None:
        state = self.state
        if (value ^ state.fcr) & FCR_ENABLE or value & FCR_CLEAR_RECEIVER:
            self._clear_receiver()
        # Bits other than ENABLE are taken only together with it.
        state.fcr = value & FCR_STORED if value & FCR_ENABLE else 0
        self._update()

    def _write_lcr(self, value: int) -> None:
        state = self.state
        started = value & ~state.lcr
        state.lcr = value
        if started & LCR_BREAK and state.mcr & MCR_LOOP:
            self._arrive(0, LSR_BI | LSR_FE)
            self._update()

    def _write_mcr(self, value: int) -> None:
        before = self._modem_status()
        self.state.mcr = value & 0x1F
        self._modem_change(before)

    def _write_scr(self, value: int) -> None:
        self.state.scr = value

    # Time ----------------------------------------------------------------------------------------
    def next_event(self) -> int:
        return self.state.timeout_at

    def advance(self) -> None:
        """The character timeout interrupt."""
        state = self.state
        if self._clock.now >= state.timeout_at:
            state.timeout_at = NEVER
            state.timed_out = True
            self._update()
