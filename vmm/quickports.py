"""Ports that emitted code answers itself: what it has to know of the chips, and what it did to them.

``translator.expand.ports`` reads and writes copies of a few registers in the vCPU block.  The chips keep the state:
whenever it may have changed it is copied there, or what is there becomes void; and when emitted code has made accesses,
they are made up for in the chips before the VMM does anything else.
"""

from __future__ import annotations

from typing import Final

from devices.core import NEVER
from devices.pic import PicPair
from devices.pit import Pit, time_of
from devices.ports import PostPort, SystemPortB
from translator import layout
from translator.expand.ports import QUICK
from vmm.engine import Engine
from vmm.scheduler import PORT_NS, Scheduler

_COUNTS: Final = layout.PORT_COUNTS // 8
_PIT_UNTIL: Final = layout.PIT_UNTIL // 8
_PIT_COUNT: Final = layout.PIT_COUNT // 8
_PORT61_UNTIL: Final = layout.PORT61_UNTIL // 8
_PIC_TOP: Final = layout.PIC_TOP // 4
_COUNTERS: Final = 3
_TIMER: Final = 1
"""IRQ 0 in the master's registers."""


class QuickPorts:
    """The copies in *engine*'s vCPU block of registers of the first 8259A, the 8254, and ports 61h and 80h."""

    def __init__(
        self, engine: Engine, scheduler: Scheduler, pic: PicPair, pit: Pit, port61: SystemPortB, post: PostPort
    ) -> None:
        self._block = engine.host.block
        self._quads = engine.host.block.cast("Q")
        self._doubles = engine.host.block.cast("I")
        self._port_io = engine.stats.port_io
        self._pic = pic.master
        self._pit = pit
        self._port61 = port61
        self._post = post
        self._edge = 0
        self._pic.on_change = self._show_pic
        for timer in (pit, port61):
            scheduler.on_read[timer] = self._show_timer
            scheduler.on_write[timer] = self.hide
        engine.on_quick_ports = self._take
        engine.let_ports(scheduler, PORT_NS)

    # Copies ------------------------------------------------------------------------------------------------

    def hide(self) -> None:
        """What emitted code knows of the timer is void."""
        quads = self._quads
        quads[_PORT61_UNTIL] = 0
        for n in range(_COUNTERS):
            quads[_PIT_UNTIL + n] = 0

    def _show_timer(self) -> None:
        """The guest has read the timer: it will again."""
        quads = self._quads
        for n, counter in enumerate(self._pit.state.counters):
            plain = counter.plain
            quads[_PIT_UNTIL + n] = time_of(counter.tick + counter.left) if plain else 0
            quads[_PIT_COUNT + n] = counter.tick + counter.count
            self._block[layout.PIT_HIGH + n] = counter.high_next
        self._block[layout.PORT61_BITS] = self._port61.plain
        counter = self._pit.state.counters[2]
        edge = counter.next_edge()
        quads[_PORT61_UNTIL] = NEVER if edge is None else time_of(counter.tick + edge)

    def _show_pic(self) -> None:
        pic, block = self._pic, self._block
        state = pic.state
        block[layout.PIC_QUIET] = pic.quiet
        block[layout.PIC_IMR] = state.imr
        block[layout.PIC_ISR] = state.isr
        top = state.isr & -state.isr if state.lowest == 7 and not state.special_mask else 0
        self._doubles[_PIC_TOP] = top
        if state.edges & _TIMER != self._edge:
            self._edge = state.edges & _TIMER
            self.hide()  # the timer's next event may be another, which an access to it finds

    # What emitted code did --------------------------------------------------------------------------------------

    def _take(self) -> None:
        quads, block = self._quads, self._block
        counts = quads[_COUNTS : _COUNTS + len(QUICK)].tolist()
        for n, device in enumerate(QUICK):
            if counts[n]:
                self._port_io[device] += counts[n]
                quads[_COUNTS + n] = 0
        post, pic, pit, _ = counts
        if post:
            at = post % layout.POST_CODES
            ring = bytes(block[layout.POST_RING : layout.POST_RING + layout.POST_CODES])
            self._post.note(ring[at:] + ring[:at] if post > layout.POST_CODES else ring[:post])
        if pic:
            self._pic.state.imr = block[layout.PIC_IMR]
            self._pic.state.isr = block[layout.PIC_ISR]
            self._show_pic()
        if pit:
            for n, counter in enumerate(self._pit.state.counters):
                if quads[_PIT_UNTIL + n]:
                    counter.high_next = bool(block[layout.PIT_HIGH + n])
