"""16550A: rows by data sheet section, then random traffic against brute-force time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devices import uart
from devices.core import NEVER, Clock, Line
from devices.uart import COM1, Uart

RBR = THR = DLL = COM1
IER = DLM = COM1 + 1
IIR = FCR = COM1 + 2
LCR, MCR, LSR, MSR, SCR = (COM1 + n for n in range(3, 8))


class Rig:
    """A UART on wires that remember."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.edges: list[bool] = []
        self.line = Line(self.edges.append)
        self.sent = bytearray()
        self.chip = Uart(self.clock, self.line, self.sent.extend)

    def out(self, *writes: tuple[int, int]) -> None:
        for port, value in writes:
            self.chip.write(port, 1, value)

    def inb(self, port: int) -> int:
        return self.chip.read(port, 1)

    def level(self) -> bool:
        return self.line.level

    def wait(self, ns: int) -> None:
        self.clock.now += ns
        if self.chip.next_event() <= self.clock.now:
            self.chip.advance()


@pytest.fixture
def rig() -> Rig:
    return Rig()


WORD8 = (LCR, 3)
OUT2 = (MCR, 8)
FIFOS = (FCR, 0x01)


@pytest.mark.parametrize(
    ("writes", "port", "expected"),
    [
        ([], LSR, 0x60),
        ([], IIR, 0x01),
        ([], MSR, 0xB0),
        ([(SCR, 0xA5)], SCR, 0xA5),
        ([(IER, 0xFF)], IER, 0x0F),
        ([(MCR, 0xFF)], MCR, 0x1F),
        ([(LCR, 0x80), (DLL, 0x34), (DLM, 0x12)], DLL, 0x34),
        ([(LCR, 0x80), (DLL, 0x34), (DLM, 0x12)], DLM, 0x12),
        ([(LCR, 0x80), (DLM, 0x12), (LCR, 0)], IER, 0x00),
        ([FIFOS], IIR, 0xC1),
        ([(FCR, 0xC0)], IIR, 0x01),  # trigger bits alone do not enable FIFOs
        ([(IER, 2)], IIR, 0x02),
        ([(LSR, 0xFF), (MSR, 0xFF)], LSR, 0x60),
        ([(MCR, 0x1A)], MSR, 0x90 | 0x02),  # loop, OUT2, RTS: DCD and CTS stay, DSR falls
        ([(MCR, 0x14), (MCR, 0x10)], MSR, 0x0B | 0x04),  # OUT1 down in loopback: RI's trailing edge
        ([WORD8, (MCR, 0x10), (THR, 0x5A)], RBR, 0x5A),
        ([(LCR, 0), (MCR, 0x10), (THR, 0xFF)], RBR, 0xFF),  # five data bits, but all eight are kept
        ([WORD8, (MCR, 0x10), (THR, 1), (THR, 2)], RBR, 2),  # without FIFOs the later character wins
        ([WORD8, (MCR, 0x10), (THR, 1), (THR, 2)], LSR, 0x63),
        ([WORD8, FIFOS, (MCR, 0x10)] + [(THR, n) for n in range(17)], LSR, 0x63),
        ([WORD8, FIFOS, (MCR, 0x10)] + [(THR, n) for n in range(17)], RBR, 0),
        ([WORD8, FIFOS, (MCR, 0x10), (THR, 1), (FCR, 3)], LSR, 0x60),  # FIFO cleared
        ([WORD8, FIFOS, (MCR, 0x10), (THR, 1), (FCR, 0)], LSR, 0x60),  # FIFOs off: cleared
        ([WORD8, FIFOS, (MCR, 0x10), (LCR, 0x43)], LSR, 0xF9),  # break in loopback
    ],
)
def test_register(rig: Rig, writes: list[tuple[int, int]], port: int, expected: int) -> None:
    rig.out(*writes)
    assert expected == rig.inb(port)


def test_transmit_keeps_eight_bits(rig: Rig) -> None:
    rig.out((LCR, 2), (THR, 0xC1), WORD8, (THR, 0xC1))
    assert bytes((0xC1, 0xC1)) == rig.sent


def test_loopback_sends_nothing_and_hears_nothing(rig: Rig) -> None:
    rig.out(WORD8, (MCR, 0x10), (THR, 1))
    assert rig.sent == b""
    assert (rig.chip.receive(b"x"), rig.chip.receive_break()) == (0, False)


@pytest.mark.parametrize(("fcr", "offered", "taken"), [(0, 3, 1), (1, 3, 3), (1, 20, 16), (0xC1, 16, 16)])
def test_receive_takes_what_fits(rig: Rig, fcr: int, offered: int, taken: int) -> None:
    rig.out(WORD8, (FCR, fcr))
    data = bytes(range(offered))
    assert taken == rig.chip.receive(data)
    room = (16 if fcr & 1 else 1) - taken
    assert room == rig.chip.receive(bytes(16))
    assert rig.inb(LSR) == 0x61
    assert rig.inb(RBR) == 0


@pytest.mark.parametrize(
    ("ier", "events", "expected"),
    [
        (0x0F, "mt", 0x02),  # THRE before modem status
        (0x0F, "mtr", 0x04),  # data before THRE
        (0x0F, "mtbr", 0x06),  # line status first
        (0x0F, "mtrb", 0x04),  # the break is not on top of the FIFO yet
        (0x0D, "mt", 0x00),
        (0x0A, "rbm", 0x00),
        (0x08, "rbt", 0x01),
    ],
)
def test_priorities(rig: Rig, ier: int, events: str, expected: int) -> None:
    rig.out(WORD8, FIFOS, OUT2, (IER, ier))
    rig.inb(IIR)  # acknowledges THRE
    actions: dict[str, Callable[[], object]] = {
        "m": lambda: rig.chip.set_modem_inputs(0),
        "t": lambda: rig.out((THR, 0)),
        "r": lambda: rig.chip.receive(b"a"),
        "b": lambda: rig.chip.receive_break(),
    }
    for event in events:
        actions[event]()
    assert (expected != 0x01) == rig.level()
    assert expected | 0xC0 == rig.inb(IIR)


@pytest.mark.parametrize(
    ("raise_by", "clear_by"),
    [
        ([(IER, 2)], IIR),
        ([(IER, 2), (THR, 0)], IIR),
        ([(IER, 8)], MSR),
        ([(IER, 4)], LSR),
        ([(IER, 1)], RBR),
    ],
)
def test_interrupt_is_cleared_by_its_own_read(rig: Rig, raise_by: list[tuple[int, int]], clear_by: int) -> None:
    rig.out(WORD8, OUT2)
    ier = raise_by[0][1]
    if ier & 8:
        rig.chip.set_modem_inputs(0)
    if ier & 4:
        rig.chip.receive_break()
    if ier & 1:
        rig.chip.receive(b"a")
    assert not rig.level()
    rig.out(*raise_by)
    assert rig.level()
    rig.inb(clear_by)
    assert not rig.level()


def test_thr_write_makes_an_edge(rig: Rig) -> None:
    rig.out(WORD8, OUT2, (IER, 2))
    rig.edges.clear()
    rig.out((THR, 1))
    assert rig.edges == [False, True]


def test_enabling_thre_again_raises_it_again(rig: Rig) -> None:
    rig.out(WORD8, OUT2, (IER, 2))
    assert rig.inb(IIR) == 0x02
    assert rig.inb(IIR) == 0x01
    rig.out((IER, 0), (IER, 2))
    assert rig.inb(IIR) == 0x02


@pytest.mark.parametrize(("mcr", "level"), [(0x00, False), (0x08, True), (0x18, False), (0x07, False)])
def test_out2_gates_the_line(rig: Rig, mcr: int, level: bool) -> None:
    rig.out(WORD8, (IER, 2), (MCR, mcr))
    assert level == rig.level()


@pytest.mark.parametrize(("trigger", "characters"), [(0, 1), (1, 4), (2, 8), (3, 14)])
def test_trigger_level(rig: Rig, trigger: int, characters: int) -> None:
    rig.out(WORD8, (FCR, trigger << 6 | 1), OUT2, (IER, 1))
    rig.chip.receive(b"x" * (characters - 1))
    assert not rig.level()
    rig.chip.receive(b"x")
    assert (rig.level(), rig.inb(IIR)) == (True, 0xC4)
    rig.inb(RBR)
    assert not rig.level()


@pytest.mark.parametrize(
    ("lcr", "divisor", "character_ns"),
    [(3, 1, 86_805), (3, 12, 1_041_666), (0x1F, 1, 104_166), (0x00, 1, 60_763), (0x04, 1, 65_104), (3, 0, 86_805)],
)
def test_timeout_after_four_characters(rig: Rig, lcr: int, divisor: int, character_ns: int) -> None:
    rig.out((LCR, 0x80), (DLL, divisor), (DLM, 0), (LCR, lcr), (FCR, 0xC1), OUT2, (IER, 1))
    assert character_ns == rig.chip.character_ns
    rig.chip.receive(b"ab")
    rig.wait(4 * character_ns - 1)
    assert not rig.level()
    rig.wait(1)
    assert (rig.level(), rig.inb(IIR)) == (True, 0xCC)
    rig.inb(RBR)
    assert (rig.level(), rig.inb(IIR)) == (False, 0xC1)
    rig.wait(4 * character_ns)
    assert rig.level()
    rig.inb(RBR)
    assert rig.chip.next_event() == NEVER


def test_errors_show_when_their_character_is_on_top(rig: Rig) -> None:
    rig.out(WORD8, FIFOS)
    rig.chip.receive(b"a")
    rig.chip.receive_break()
    assert rig.inb(LSR) == 0xE1  # an error is somewhere in the FIFO
    rig.inb(RBR)
    assert rig.inb(LSR) == 0xF9
    assert rig.inb(LSR) == 0x61


def test_reset_keeps_the_pins(rig: Rig) -> None:
    rig.out(WORD8, OUT2, (IER, 2), (SCR, 1))
    rig.chip.set_modem_inputs(uart.MSR_RI)
    rig.chip.reset()
    assert uart.UartState(modem_inputs=uart.MSR_RI) == rig.chip.state
    assert not rig.level()


class Traffic(RuleBasedStateMachine):
    """The same traffic to a chip that is woken when it asks, and to one that is woken all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.lazy, self.eager = Rig(), Rig()
        self.rigs = (self.lazy, self.eager)

    @rule(port=st.integers(COM1, COM1 + 7), value=st.integers(0, 255))
    def write(self, port: int, value: int) -> None:
        for rig in self.rigs:
            rig.out((port, value))

    @rule(port=st.integers(COM1, COM1 + 7))
    def read(self, port: int) -> None:
        lazy, eager = (rig.inb(port) for rig in self.rigs)
        assert lazy == eager
        assert 0 <= lazy <= 255

    @rule(data=st.binary(max_size=20))
    def receive(self, data: bytes) -> None:
        lazy, eager = (rig.chip.receive(data) for rig in self.rigs)
        assert lazy == eager <= len(data)

    @rule(inputs=st.integers(0, 15))
    def modem(self, inputs: int) -> None:
        for rig in self.rigs:
            rig.chip.set_modem_inputs(inputs << 4)

    @rule()
    def line_break(self) -> None:
        lazy, eager = (rig.chip.receive_break() for rig in self.rigs)
        assert lazy == eager

    @rule(ns=st.integers(1, 3_000_000))
    def wait(self, ns: int) -> None:
        self.lazy.wait(ns)
        for _ in range(10):
            self.eager.clock.now += ns // 10
            self.eager.chip.advance()
        self.eager.clock.now = self.lazy.clock.now
        self.eager.chip.advance()

    @invariant()
    def same(self) -> None:
        assert self.lazy.chip.state == self.eager.chip.state
        assert self.lazy.edges == self.eager.edges
        assert self.lazy.sent == self.eager.sent
        chip = self.lazy.chip
        assert len(chip.state.received) == len(chip.state.received_errors) <= 16
        assert copy.deepcopy(chip.state) == chip.state
        assert chip.next_event() > self.lazy.clock.now


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
