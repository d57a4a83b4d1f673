"""The local APIC of the P6 family's processors: what stands between interrupt sources and the CPU's INTR pin.

Source: SDM vol. 3, chapter 10 (registers and bits have its names).  After RESET the 8259A's requests pass through
LINT0 as external interrupts ("virtual wire mode"), as BIOSes set it up on the bootstrap processor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from devices.core import NEVER, SECOND, Clock, Device, Line, Mmio

BASE, SIZE = 0xFEE0_0000, 0x1000

ID, VERSION, TPR, APR, PPR, EOI = 0x020, 0x030, 0x080, 0x090, 0x0A0, 0x0B0
LDR, DFR, SVR, ISR, TMR, IRR, ESR = 0x0D0, 0x0E0, 0x0F0, 0x100, 0x180, 0x200, 0x280
ICR_LOW, ICR_HIGH = 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR = range(0x320, 0x380, 0x10)
INITIAL_COUNT, CURRENT_COUNT, DIVIDE = 0x380, 0x390, 0x3E0
STRIDE = 0x10
"""Registers are 32 bits wide and stand at multiples of this."""

VERSION_VALUE = 0x0005_0014
"""Six LVT entries, version 14h."""
SVR_ENABLE = 0x100
SVR_BITS = 0x1FF
DFR_BITS, DFR_FLAT = 0x0FFF_FFFF, 0xF
"""DFR's low bits read as ones; its model is in bits 31..28: flat, or else cluster."""

LVT_MASKED, LVT_LEVEL, LVT_REMOTE_IRR, LVT_PERIODIC = 0x1_0000, 0x8000, 0x4000, 0x2_0000
LVT_WRITABLE = {
    LVT_TIMER: 0x3_00FF,
    LVT_THERMAL: 0x1_07FF,
    LVT_PERFORMANCE: 0x1_07FF,
    LVT_LINT0: 0x1_A7FF,
    LVT_LINT1: 0x1_A7FF,
    LVT_ERROR: 0x1_00FF,
}
FIXED, LOWEST_PRIORITY, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7
"""Delivery modes, bits 10..8 of the LVT, the ICR and the IO-APIC's table."""
MODE_SHIFT = 8
ICR_LOGICAL, ICR_WRITABLE = 0x800, 0x000C_CFFF
NO_SHORTHAND, SELF, ALL_WITH_SELF, ALL_BUT_SELF = range(4)
SHORTHAND_SHIFT = 18
BROADCAST = (0x0F, 0xFF)
"""Physical destinations that mean everybody, with four and with eight bits."""
SEND_ACCEPT, SEND_ILLEGAL, RECEIVE_ILLEGAL = 0x04, 0x20, 0x40
"""Bits of ESR."""
FIRST_VECTOR = 16
"""Lower ones are illegal."""

TIMER_HZ = 100_000_000
"""The bus clock, which the divider counts."""
TICK = SECOND // TIMER_HZ


def divider(divide: int) -> int:
    """What the divide configuration register stands for: 1..128."""
    return 1 << ((divide & 3 | divide >> 1 & 4) + 1 & 7)


def highest(bits: int) -> int:
    """The highest vector in a set of 256 bits; -1 if it is empty."""
    return bits.bit_length() - 1


@dataclass
class LocalApicState:
    """The registers; sets of vectors are integers of 256 bits."""

    enabled: bool = True
    """IA32_APIC_BASE.EN: else there is no local APIC, and LINT0 is the CPU's INTR pin."""
    identification: int = 0
    tpr: int = 0
    ldr: int = 0
    dfr: int = 0xFFFF_FFFF
    svr: int = 0xFF
    irr: int = 0
    isr: int = 0
    tmr: int = 0
    errors: int = 0
    """Errors since ESR was last written."""
    esr: int = 0
    icr_low: int = 0
    icr_high: int = 0
    lvt: list[int] = field(
        default_factory=lambda: [LVT_MASKED, LVT_MASKED, LVT_MASKED, EXTINT << MODE_SHIFT, LVT_MASKED, LVT_MASKED]
    )
    divide: int = 0
    initial_count: int = 0
    expires: int = NEVER
    """When the timer's count gets to zero (ns)."""
    lint: list[bool] = field(default_factory=lambda: [False, False])
    """The pins."""
    external: bool = False
    """The IO-APIC passed an external interrupt on, which the CPU has not acknowledged yet."""


class LocalApic(Device):
    """The local APIC of the one processor, identification 0.

    ``intr`` goes to the CPU, which calls ``acknowledge``; ``lint0`` comes from the 8259A pair, which is asked by
    *acknowledge_8259*; ``lint1`` is free.  *nmi* interrupts the CPU; ``on_eoi(vector)`` hears of the end of each
    interrupt that was triggered by level.
    """

    name = "lapic"
    state: LocalApicState

    def __init__(
        self, clock: Clock, acknowledge_8259: Callable[[], int] = lambda: 0, nmi: Callable[[], None] = lambda: None
    ) -> None:
        self.state = LocalApicState()
        self.intr = Line()
        self.lint0 = Line(partial(self._pin, 0))
        self.lint1 = Line(partial(self._pin, 1))
        self.on_eoi: Callable[[int], None] = lambda vector: None
        self._clock = clock
        self._acknowledge_8259 = acknowledge_8259
        self._nmi = nmi

    def reset(self) -> None:
        self.state = LocalApicState(lint=[self.lint0.level, self.lint1.level])
        self._update()

    def set_enabled(self, enabled: bool) -> None:
        """IA32_APIC_BASE.EN changed; what is disabled forgets everything."""
        if enabled is not self.state.enabled:
            self.reset()
            self.state.enabled = enabled
            self._update()

    def mmio(self) -> Sequence[Mmio]:
        return (Mmio(BASE, SIZE, self.read, self.write),)

    @property
    def listens(self) -> bool:
        """It takes interrupts besides the 8259A's."""
        return self.state.enabled and bool(self.state.svr & SVR_ENABLE)

    # Interrupts -----------------------------------------------------------------------------------
    @property
    def ppr(self) -> int:
        """The processor priority: the task's, or that of the interrupt in service."""
        state = self.state
        in_service = max(highest(state.isr), 0)
        return state.tpr if state.tpr & 0xF0 >= in_service & 0xF0 else in_service & 0xF0

    def request(self) -> int:
        """The vector that the CPU is to take next; -1 if there is none."""
        state = self.state
        vector = highest(state.irr)
        return vector if vector >= 0 and state.svr & SVR_ENABLE and vector & 0xF0 > self.ppr & 0xF0 else -1

    def _external(self) -> bool:
        """An 8259A's interrupt is passed through."""
        state = self.state
        if not state.enabled:
            return state.lint[0]
        return state.external or any(
            pin and entry & (LVT_MASKED | 7 << MODE_SHIFT) == EXTINT << MODE_SHIFT
            for pin, entry in zip(state.lint, state.lvt[3:5], strict=True)
        )

    def _update(self) -> None:
        self.intr.set(self._external() or self.request() >= 0)

    def acknowledge(self) -> int:
        """The CPU takes an interrupt: its vector."""
        self._catch_up()
        state = self.state
        vector = self.request() if state.enabled else -1
        if vector >= 0:
            state.irr &= ~(1 << vector)
            state.isr |= 1 << vector
        elif self._external():
            state.external = False
            vector = self._acknowledge_8259()
        else:
            vector = state.svr & 0xFF
        self._update()
        return vector

    def accept(self, vector: int, mode: int, level: bool) -> bool:
        """A message for this APIC: from the IO-APIC, the timer or another source.  Whether it was taken."""
        state = self.state
        if not state.enabled:
            return False
        if mode == NMI:
            self._nmi()
        elif mode == EXTINT:
            state.external = True
        elif mode in (FIXED, LOWEST_PRIORITY):
            if not state.svr & SVR_ENABLE:
                return False
            if vector < FIRST_VECTOR:
                self._error(RECEIVE_ILLEGAL)
                return True
            self._catch_up()
            bit = 1 << vector
            state.irr |= bit
            state.tmr = state.tmr | bit if level else state.tmr & ~bit
        self._update()
        return True

    def message(self, vector: int, mode: int, level: bool, destination: int, logical: bool) -> bool:
        """A message on the bus of the APICs: whether this one took it."""
        return self.is_destination(destination, logical) and self.accept(vector, mode, level)

    def is_destination(self, destination: int, logical: bool) -> bool:
        """Whether a message with this destination (8 bits) is for this APIC (SDM vol. 3, 10.6.2)."""
        state = self.state
        if not logical:
            return destination in BROADCAST or destination == state.identification >> 24
        own = state.ldr >> 24
        if state.dfr >> 28 == DFR_FLAT:
            return bool(own & destination)
        return destination >> 4 in (own >> 4, 0xF) and bool(own & destination & 0xF)

    def _error(self, bit: int) -> None:
        state = self.state
        state.errors |= bit
        entry = state.lvt[5]
        # An illegal vector for the error interrupt itself would go round for ever.
        if not entry & LVT_MASKED and entry & 0xFF >= FIRST_VECTOR and state.svr & SVR_ENABLE:
            state.irr |= 1 << (entry & 0xFF)
        self._update()

    def _end_of_interrupt(self) -> None:
        state = self.state
        vector = highest(state.isr)
        if vector < 0:
            return
        bit = 1 << vector
        state.isr &= ~bit
        if state.tmr & bit:
            for n in (3, 4):
                if state.lvt[n] & (LVT_REMOTE_IRR | 0xFF) == LVT_REMOTE_IRR | vector:
                    state.lvt[n] &= ~LVT_REMOTE_IRR
                    self._sense(n - 3)
            self.on_eoi(vector)
        self._update()

    # The pins ---------------------------------------------------------------------------------------
    def _pin(self, number: int, high: bool) -> None:
        state = self.state
        state.lint[number] = high
        entry = state.lvt[3 + number]
        if high and state.enabled and not entry & LVT_MASKED:
            mode = entry >> MODE_SHIFT & 7
            if mode == NMI:
                self._nmi()
            elif mode == FIXED and not entry & LVT_LEVEL:
                self.accept(entry & 0xFF, FIXED, False)
        self._sense(number)
        self._update()

    def _sense(self, number: int) -> None:
        """A pin that is triggered by level asks again while it is high."""
        state = self.state
        entry = state.lvt[3 + number]
        ready = entry & (LVT_MASKED | LVT_REMOTE_IRR | LVT_LEVEL | 7 << MODE_SHIFT) == LVT_LEVEL
        if state.lint[number] and ready and self.accept(entry & 0xFF, FIXED, True):
            state.lvt[3 + number] |= LVT_REMOTE_IRR

    # Registers --------------------------------------------------------------------------------------
    def read(self, offset: int, size: int) -> int:
        """Any part of a register; what lies between registers reads as zero."""
        if offset & 0xF >= 4:
            return 0
        self._catch_up()
        value = self._read(offset & ~0xF)
        return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def _read(self, register: int) -> int:
        state = self.state
        for first, bits in ((ISR, state.isr), (TMR, state.tmr), (IRR, state.irr)):
            if first <= register < first + 8 * STRIDE:
                return bits >> 2 * (register - first) & 0xFFFF_FFFF
        if LVT_TIMER <= register <= LVT_ERROR:
            return state.lvt[(register - LVT_TIMER) // STRIDE]
        if register == CURRENT_COUNT:
            return self._count()
        return {
            ID: state.identification,
            VERSION: VERSION_VALUE,
            TPR: state.tpr,
            APR: state.tpr,  # nobody to arbitrate with
            PPR: self.ppr,
            LDR: state.ldr,
            DFR: state.dfr,
            SVR: state.svr,
            ESR: state.esr,
            ICR_LOW: state.icr_low,
            ICR_HIGH: state.icr_high,
            INITIAL_COUNT: state.initial_count,
            DIVIDE: state.divide,
        }.get(register, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        """A whole register; anything else is lost."""
        if offset & 0xF or size != 4:
            return
        self._catch_up()
        state = self.state
        if LVT_TIMER <= offset <= LVT_ERROR:
            self._write_lvt((offset - LVT_TIMER) // STRIDE, value & LVT_WRITABLE[offset])
        elif offset == ID:
            state.identification = value & 0xFF00_0000
        elif offset == TPR:
            state.tpr = value & 0xFF
        elif offset == EOI:
            self._end_of_interrupt()
        elif offset == LDR:
            state.ldr = value & 0xFF00_0000
        elif offset == DFR:
            state.dfr = value | DFR_BITS
        elif offset == SVR:
            self._write_svr(value & SVR_BITS)
        elif offset == ESR:
            state.esr, state.errors = state.errors, 0
        elif offset == ICR_LOW:
            state.icr_low = value & ICR_WRITABLE
            self._send()
        elif offset == ICR_HIGH:
            state.icr_high = value & 0xFF00_0000
        elif offset == INITIAL_COUNT:
            state.initial_count = value
            self._start(value)
        elif offset == DIVIDE:
            count = self._count()
            state.divide = value & 0xB
            self._start(count)
        self._update()

    def _write_lvt(self, n: int, value: int) -> None:
        state = self.state
        if not state.svr & SVR_ENABLE:
            value |= LVT_MASKED
        state.lvt[n] = value | state.lvt[n] & LVT_REMOTE_IRR if n in (3, 4) and value & LVT_LEVEL else value
        if n in (3, 4):
            self._sense(n - 3)

    def _write_svr(self, value: int) -> None:
        state = self.state
        state.svr = value
        if not value & SVR_ENABLE:
            state.lvt = [entry | LVT_MASKED for entry in state.lvt]

    def _send(self) -> None:
        """A write to ICR's low half sends its message; there is nobody else to get one."""
        state = self.state
        value, mode = state.icr_low, state.icr_low >> MODE_SHIFT & 7
        shorthand = value >> SHORTHAND_SHIFT & 3
        if shorthand == NO_SHORTHAND:
            mine = self.is_destination(state.icr_high >> 24, bool(value & ICR_LOGICAL))
        else:
            mine = shorthand in (SELF, ALL_WITH_SELF)
        if mode in (FIXED, LOWEST_PRIORITY) and value & 0xFF < FIRST_VECTOR:
            self._error(SEND_ILLEGAL)
        elif not mine:
            self._error(SEND_ACCEPT)
        elif mode in (FIXED, LOWEST_PRIORITY, NMI):
            self.accept(value & 0xFF, mode, False)

    # The timer --------------------------------------------------------------------------------------
    @property
    def _tick(self) -> int:
        return TICK * divider(self.state.divide)

    def _start(self, count: int) -> None:
        self.state.expires = self._clock.now + count * self._tick if count else NEVER

    def _count(self) -> int:
        expires = self.state.expires
        return 0 if expires == NEVER else -(-(expires - self._clock.now) // self._tick)

    def _catch_up(self) -> None:
        state = self.state
        now = self._clock.now
        if now < state.expires:
            return
        entry = state.lvt[0]
        period = state.initial_count * self._tick
        if entry & LVT_PERIODIC and period:
            state.expires += ((now - state.expires) // period + 1) * period
        else:
            state.expires = NEVER
        if not entry & LVT_MASKED:
            self.accept(entry & 0xFF, FIXED, False)

    def next_event(self) -> int:
        state = self.state
        entry = state.lvt[0]
        # A request that waits already hides another: a fast timer does not wake anybody in vain.
        if entry & LVT_MASKED or state.irr >> (entry & 0xFF) & 1:
            return NEVER
        return state.expires

    def advance(self) -> None:
        self._catch_up()
