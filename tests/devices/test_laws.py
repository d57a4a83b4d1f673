"""Laws that hold for every device, and random port traffic on each.

A device joins by a row in ``SPECIMENS``: a function that makes a ``Bench``, a device on a bus with everything
it is wired to.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from devices.bus import PortBus
from devices.core import NEVER, SECOND, Clock, Device, Line, Mmio, Ports
from devices.dma import Dma
from devices.fdc import Drive, Fdc
from devices.i8042 import I8042
from devices.ide import AtaDisk, Cdrom, IdeChannel
from devices.ioapic import IoApic
from devices.lapic import DIVIDE, EOI, ICR_LOW, INITIAL_COUNT, LVT_LINT0, LVT_TIMER, SVR, TPR, LocalApic
from devices.pic import PicPair
from devices.pit import Pit
from devices.ports import DebugConsole, DebugExit, PostPort, SystemPortA, SystemPortB
from devices.rtc import REG_B, REG_C, Rtc, RtcState
from devices.uart import Uart, UartState

MMIO_PORTS = 0x8000


@dataclass
class Bench:
    """A device and its surroundings."""

    device: Device
    clock: Clock
    outputs: dict[str, Line] = field(default_factory=dict)
    """Lines that the device drives."""
    inputs: Sequence[Line] = ()
    """Lines that the traffic drives."""
    pokes: Sequence[Callable[[int], object]] = ()
    """What the outside world does to the device, with a random number 0..255."""
    mmio: tuple[int, ...] = ()
    """Offsets of memory-mapped registers that the traffic reads and writes."""
    after_reset: Callable[[object], object] = lambda state: state
    """What of the state is as at power-on after a reset."""

    def __post_init__(self) -> None:
        self.device.reset()
        self.edges: list[tuple[int, str, bool]] = []
        for name, line in self.outputs.items():
            line.connect(lambda level, name=name: self.edges.append((self.clock.now, name, level)))
        self.edges.clear()
        self.bus = PortBus()
        self.bus.attach(self.device)
        self.port_numbers = [p for run in self.device.ports() for p in range(run.first, run.first + run.count)]
        for window in self.device.mmio() if self.mmio else ():
            self._attach(window)

    def _attach(self, window: Mmio) -> None:
        """Give the registers of ``mmio`` port numbers: the traffic knows nothing else."""

        def read(port: int, size: int) -> int:
            return window.read(port - MMIO_PORTS, size)

        def write(port: int, size: int, value: int) -> None:
            window.write(port - MMIO_PORTS, size, value)

        self.bus.attach(self.device, [Ports(MMIO_PORTS, 0x1000, read, write, (1, 2, 4))])
        self.port_numbers += [MMIO_PORTS + offset for offset in self.mmio]

    def run_to(self, end: int) -> None:
        """As the run loop does: stop at every event."""
        while (due := self.device.next_event()) <= end:
            self.clock.now = max(due, self.clock.now)
            self.device.advance()
        self.clock.now = end

    def levels(self) -> dict[str, bool]:
        return {name: line.level for name, line in self.outputs.items()}


def pic() -> Bench:
    device = PicPair()
    inputs = [device.line(irq) for irq in range(16) if irq != 2]
    return Bench(device, Clock(), {"intr": device.intr}, inputs, [lambda n: device.acknowledge()])


def pit() -> Bench:
    clock, irq = Clock(), Line()
    device = Pit(clock, irq)
    return Bench(device, clock, {"irq": irq}, [device.gate2], [lambda n: device.output(n % 3)])


def battery(state: object) -> object:
    """The clock keeps its time and its RAM over a reset."""
    assert isinstance(state, RtcState)
    return state.address, state.nmi_masked, state.cmos[REG_B] & 0x78, state.cmos[REG_C]


def rtc() -> Bench:
    clock, irq = Clock(), Line()
    return Bench(Rtc(clock, irq), clock, {"irq": irq}, after_reset=battery)


def i8042() -> Bench:
    clock = Clock()
    lines = {name: Line() for name in ("irq1", "irq12", "a20", "cpu_reset")}
    device = I8042(clock, *lines.values())
    keyboard, mouse = device.keyboard, device.mouse
    return Bench(
        device,
        clock,
        lines,
        pokes=[
            lambda n: keyboard.press(("a", "pause", "print", "up")[n & 3]),
            lambda n: keyboard.release("a"),
            lambda n: keyboard.type(("", "a", "<ctrl-c>")[n % 3]),
            lambda n: mouse.move(n - 128, 128 - n, n % 3 - 1),
            mouse.press,
        ],
    )


def port61() -> Bench:
    clock, gate = Clock(), Line()
    return Bench(SystemPortB(clock, gate, lambda: bool(clock.now & 1)), clock, {"gate2": gate})


def port92() -> Bench:
    a20, reset = Line(), Line()
    return Bench(SystemPortA(a20, reset), Clock(), {"a20": a20, "reset": reset})


def post() -> Bench:
    return Bench(PostPort(), Clock())


def debugcon() -> Bench:
    return Bench(DebugConsole(0x402, lambda data: None), Clock())


def debugexit() -> Bench:
    return Bench(DebugExit(lambda status: None, 0xF4, 4), Clock())


class Image:
    """A disk or diskette in memory; whatever is written is forgotten with it."""

    read_only = False

    def __init__(self, sectors: int) -> None:
        self.sectors = sectors
        self.data = bytearray(512 * sectors)

    def read(self, lba: int, count: int) -> bytes:
        return bytes(self.data[512 * lba : 512 * (lba + count)])

    def write(self, lba: int, data: bytes) -> None:
        self.data[512 * lba : 512 * lba + len(data)] = data

    def flush(self) -> None: ...


class NoMemory:
    """Physical memory with nothing in it."""

    def read(self, address: int, size: int) -> bytes:
        return b"\xff" * size

    def write(self, address: int, data: bytes) -> None: ...


def pins(state: object) -> object:
    """Modem lines are another's; a register that holds nothing keeps its bits."""
    assert isinstance(state, UartState)
    return dataclasses.replace(state, modem_inputs=0)


def uart() -> Bench:
    clock, irq = Clock(), Line()
    device = Uart(clock, irq, lambda data: None)
    pokes = [
        lambda n: device.receive(bytes((n,) * (n % 20))),
        device.set_modem_inputs,
        lambda n: device.receive_break(),
    ]
    return Bench(device, clock, {"irq": irq}, pokes=pokes, after_reset=pins)


def dma() -> Bench:
    device = Dma(NoMemory())
    channels = [device.channel(n) for n in (0, 1, 2, 3, 5, 6, 7)]
    pokes = [
        lambda n: channels[n % 7].request(bool(n & 8)),
        lambda n: channels[n % 7].read(n),
        lambda n: channels[n % 7].write(bytes(n)),
    ]

    def no_requests(state: object) -> object:
        for channel in channels:
            channel.request(False)
        return device.state

    return Bench(device, Clock(), pokes=pokes, after_reset=no_requests)


def fdc() -> Bench:
    clock, irq = Clock(), Line()
    device = Fdc(clock, irq, Dma(NoMemory()).channel(2), [Drive(Image(2880)), Drive()])

    def but_for_change_lines(state: object) -> object:
        return dataclasses.replace(device.state, drives=[])

    return Bench(device, clock, {"irq": irq}, after_reset=but_for_change_lines)


def ide() -> Bench:
    irq = Line()
    return Bench(IdeChannel(irq, (AtaDisk(Image(4096)), Cdrom(Image(1024)))), Clock(), {"irq": irq})


def lapic() -> Bench:
    clock = Clock()
    device = LocalApic(clock, lambda: 0x77)
    pokes = [
        lambda n: device.acknowledge(),
        lambda n: device.accept(n, n & 1, bool(n & 2)),
        lambda n: device.write(SVR, 4, 0x1FF),
        lambda n: device.write(TPR, 4, 0),
        lambda n: device.write(INITIAL_COUNT, 4, 100 * n),
    ]
    registers = (TPR, EOI, SVR, ICR_LOW, LVT_TIMER, LVT_LINT0, INITIAL_COUNT, DIVIDE, 0x280, 0x200, 0x390)
    return Bench(device, clock, {"intr": device.intr}, [device.lint0, device.lint1], pokes, registers)


def ioapic() -> Bench:
    device = IoApic(lambda vector, mode, level, destination, logical: bool(vector & 1))
    pokes = [device.end_of_interrupt, lambda n: device.write(0, 4, 0x10 + n % 48)]
    return Bench(device, Clock(), {}, list(device.pins), pokes, (0x00, 0x10))


SPECIMENS: list[Callable[[], Bench]] = [
    *(pic, pit, rtc, i8042, port61, port92, post, debugcon, debugexit),
    *(uart, dma, fdc, ide, lapic, ioapic),
]

every_device = pytest.mark.parametrize("make", SPECIMENS, ids=lambda make: make.__name__)
every_seed = pytest.mark.parametrize("seed", range(5))


def traffic(bench: Bench, seed: int, steps: int = 400) -> list[object]:
    """A fixed stream of accesses, inputs and time; returns what was read."""
    chance = random.Random(seed)
    seen: list[object] = []
    for _ in range(steps):
        value, port, size = chance.getrandbits(32), chance.choice(bench.port_numbers), chance.choice((1, 1, 1, 2, 4))
        kind = chance.randrange(8)
        if kind < 3:
            bench.bus.write(port, size, value & (1 << 8 * size) - 1)
        elif kind < 5:
            seen.append(bench.bus.read(port, size))
        elif kind == 5 and bench.inputs:
            bench.inputs[value % len(bench.inputs)].set(bool(value >> 16 & 1))
        elif kind == 6 and bench.pokes:
            bench.pokes[value % len(bench.pokes)](value >> 8 & 0xFF)
        else:
            bench.run_to(bench.clock.now + chance.choice((1, 999, 70_000, 3_000_000, SECOND // 3)))
    return seen


@every_device
def test_two_new_ones_are_equal(make: Callable[[], Bench]) -> None:
    assert make().device.state == make().device.state


@every_seed
@every_device
def test_the_same_traffic_has_the_same_outcome(make: Callable[[], Bench], seed: int) -> None:
    first, second = make(), make()
    assert traffic(first, seed) == traffic(second, seed)
    assert first.device.state == second.device.state
    assert first.edges == second.edges


@every_seed
@every_device
def test_reset_is_power_on(make: Callable[[], Bench], seed: int) -> None:
    used, new = make(), make()
    traffic(used, seed)
    for line in used.inputs:
        line.set(False)
    used.device.reset()
    assert used.after_reset(used.device.state) == new.after_reset(new.device.state)
    assert used.levels() == new.levels()


@every_seed
@every_device
def test_a_copied_state_goes_on_alike(make: Callable[[], Bench], seed: int) -> None:
    original, restored = make(), make()
    traffic(original, seed)
    restored.clock.now = original.clock.now
    restored.device.state = copy.deepcopy(original.device.state)
    for ours, theirs in zip(
        [*restored.outputs.values(), *restored.inputs], [*original.outputs.values(), *original.inputs], strict=True
    ):
        ours.level = theirs.level
    if isinstance(original.device, PicPair) and isinstance(restored.device, PicPair):
        # The wire between the two chips.
        for chip in ("master", "slave"):
            ours_chip, theirs_chip = getattr(restored.device, chip), getattr(original.device, chip)
            ours_chip.intr.level = theirs_chip.intr.level
            for ours, theirs in zip(ours_chip.inputs, theirs_chip.inputs, strict=True):
                ours.level = theirs.level
    assert restored.device.state == original.device.state
    assert restored.device.next_event() == original.device.next_event()
    original.edges.clear()
    restored.edges.clear()
    assert traffic(restored, seed + 100) == traffic(original, seed + 100)
    assert restored.device.state == original.device.state
    assert restored.edges == original.edges


def assert_plain(value: object) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            assert_plain(getattr(value, each.name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            assert_plain(item)
    else:
        assert value is None or isinstance(value, (int, bytes, bytearray, str)), type(value)


@every_device
def test_the_state_is_plain_data(make: Callable[[], Bench]) -> None:
    bench = make()
    traffic(bench, 1)
    assert dataclasses.is_dataclass(bench.device.state)
    assert_plain(bench.device.state)


@every_seed
@every_device
def test_looking_changes_nothing(make: Callable[[], Bench], seed: int) -> None:
    """``next_event`` is a function of the state, and ``advance`` with nothing due leads nowhere."""
    bench = make()
    for step in range(20):
        traffic(bench, 20 * seed + step, 20)
        bench.device.advance()
        before, edges, due = copy.deepcopy(bench.device.state), list(bench.edges), bench.device.next_event()
        assert bench.device.next_event() == due > bench.clock.now
        bench.device.advance()
        assert bench.device.state == before
        assert bench.edges == edges


@every_seed
@every_device
def test_events_are_where_a_chip_that_is_always_asked_changes_its_lines(make: Callable[[], Bench], seed: int) -> None:
    """Between two accesses, lines change at ``next_event`` and at no other time: asking in between finds nothing."""
    lazy, eager = make(), make()
    chance = random.Random(seed)
    for _ in range(60):
        access = chance.random()
        assert traffic(lazy, int(access * 1e9), 5) == traffic(eager, int(access * 1e9), 5)
        end = lazy.clock.now + chance.choice((100, 5_000, 2_000_000))
        lazy.run_to(end)
        # Ask at random times, and right before and at each event.
        times = sorted({chance.randrange(eager.clock.now, end + 1) for _ in range(20)} | {end})
        for time in times:
            while (due := eager.device.next_event()) <= time:
                if due > eager.clock.now + 1:
                    eager.clock.now = due - 1
                    edges = list(eager.edges)
                    eager.device.advance()
                    assert eager.edges == edges
                eager.clock.now = max(due, eager.clock.now)
                eager.device.advance()
            eager.clock.now = time
            edges = list(eager.edges)
            eager.device.advance()
            assert eager.edges == edges
        assert lazy.edges == eager.edges


class Traffic(RuleBasedStateMachine):
    """A guest gone mad.  Nothing raises, values fit their width, time goes on."""

    make: Callable[[], Bench]

    @initialize()
    def power_on(self) -> None:
        self.bench = type(self).make()

    @rule(data=st.data(), size=st.sampled_from((1, 2, 4)))
    def read(self, data: st.DataObject, size: int) -> None:
        port = data.draw(st.sampled_from(self.bench.port_numbers))
        assert 0 <= self.bench.bus.read(port, size) < 1 << 8 * size

    @rule(data=st.data(), size=st.sampled_from((1, 2, 4)), value=st.integers(0, 0xFFFF_FFFF))
    def write(self, data: st.DataObject, size: int, value: int) -> None:
        port = data.draw(st.sampled_from(self.bench.port_numbers))
        self.bench.bus.write(port, size, value & (1 << 8 * size) - 1)

    @rule(n=st.integers(0, 255), level=st.booleans())
    def drive(self, n: int, level: bool) -> None:
        if self.bench.inputs:
            self.bench.inputs[n % len(self.bench.inputs)].set(level)

    @rule(which=st.integers(0, 255), n=st.integers(0, 255))
    def poke(self, which: int, n: int) -> None:
        if self.bench.pokes:
            self.bench.pokes[which % len(self.bench.pokes)](n)

    @rule()
    def event(self) -> None:
        due = self.bench.device.next_event()
        if due < NEVER:
            self.bench.clock.now = max(due, self.bench.clock.now)
            self.bench.device.advance()

    @rule(by=st.one_of(st.integers(1, 10_000), st.integers(1, 100 * 365 * 86400 * SECOND)))
    def late(self, by: int) -> None:
        """Far too late, which no run loop is."""
        self.bench.clock.now += by
        self.bench.device.advance()

    @rule()
    def reset(self) -> None:
        self.bench.device.reset()

    @invariant()
    def time_goes_on(self) -> None:
        if hasattr(self, "bench"):
            due = self.bench.device.next_event()
            if due <= self.bench.clock.now and due < NEVER:
                self.bench.device.advance()
                assert self.bench.device.next_event() > self.bench.clock.now


@every_device
def test_random_traffic(make: Callable[[], Bench]) -> None:
    machine = type("Traffic_" + make.__name__, (Traffic,), {"make": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
