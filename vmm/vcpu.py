"""The virtual CPU: everything architectural that is not in the host's own registers.

While the VMM is in control, the general registers, flags and EIP stand in the vCPU block
(``translator.layout``), which emitted code shares.  Fields that only the VMM reads are plain attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol

from translator import layout
from translator.layout import CS, DF, ESP, IF_FLAG, LDTR, SS, TR, VM
from translator.mode import BASED, CHECKED, FLAT, WORD
from vmm.clock import ICOUNT
from vmm.cpuid import SIGNATURE
from vmm.portspace import NoPorts, PortSpace

ATTR_ACCESSED: Final = 0x0001
ATTR_WRITABLE: Final = 0x0002  # of data; "readable" of code
ATTR_EXPAND_DOWN: Final = 0x0004  # of data; "conforming" of code
ATTR_CODE: Final = 0x0008
ATTR_S: Final = 0x0010  # code or data, not system
ATTR_DPL_SHIFT: Final = 5
ATTR_PRESENT: Final = 0x0080
ATTR_DB: Final = 0x4000
ATTR_G: Final = 0x8000
"""Segment attributes: bits 40..55 of a descriptor with the limit's bits taken out, so bits 0..7 are
the access byte and bits 12..15 are AVL, L, D/B and G (SDM vol. 3, 3.4.5)."""

CR0_PE: Final = 1 << 0
CR0_MP: Final = 1 << 1
CR0_EM: Final = 1 << 2
CR0_TS: Final = 1 << 3
CR0_ET: Final = 1 << 4
CR0_NE: Final = 1 << 5
CR0_WP: Final = 1 << 16
CR0_AM: Final = 1 << 18
CR0_NW: Final = 1 << 29
CR0_CD: Final = 1 << 30
CR0_PG: Final = 1 << 31
CR4_DE: Final = 0x8


_ALL_ONES: Final = 0xFFFF_FFFF_FFFF_FFFF
_CR0: Final = layout.CR // 8


class LinearMemory(Protocol):
    """Guest memory by linear address, as the CPU sees it.  Little-endian; wraps at 4 GiB.

    ``user`` says that the access is made at CPL 3 (it matters under paging only).  All methods raise
    ``GuestFault`` (#PF) and have then changed nothing.
    """

    def read(self, linear: int, size: int, user: bool = False) -> bytes: ...
    def write(self, linear: int, data: bytes, user: bool = False) -> None: ...
    def read_int(self, linear: int, size: int, user: bool = False) -> int: ...
    def write_int(self, linear: int, size: int, value: int, user: bool = False) -> None: ...
    def probe_write(self, linear: int, size: int, user: bool = False) -> None: ...


@lru_cache(maxsize=1024)
def kinds_of(attr: int, limit: int, at_zero: bool, is_code: bool) -> int:
    """The translator's classes (``translator.mode``) of a segment, as ``layout.SEG_KINDS`` has them.

    *at_zero*: its base is 0.  *is_code*: it is CS.
    """
    if attr & (ATTR_CODE | ATTR_EXPAND_DOWN) == ATTR_EXPAND_DOWN:
        return CHECKED | CHECKED << 4
    real = BASED if limit == 0xFFFF_FFFF else WORD if limit == 0xFFFF else CHECKED
    protected = real
    if is_code or attr & ATTR_CODE or not attr & ATTR_PRESENT or not attr & ATTR_WRITABLE:
        protected = CHECKED
    elif limit == 0xFFFF_FFFF and at_zero:
        protected = FLAT
    return real | protected << 4


class Segment:
    """A segment register: selector, base and limit stand in the vCPU block, where emitted code sees them.

    ``limit`` is in bytes (the last valid offset); ``attr`` is ``ATTR_*`` (SDM vol. 3, 3.4.3).
    Read freely; load by ``VCpu.set_segment`` only.
    """

    __slots__ = ("_attr", "_base", "_kinds", "_limit", "_n", "_negated", "_quads", "_selector", "_window")

    def __init__(self, quads: memoryview, n: int) -> None:
        self._quads = quads
        self._n = n
        self._base = layout.SEG_BASE // 8 + n
        self._limit = layout.SEG_LIMIT // 8 + n
        self._selector = layout.SELECTOR // 8 + n
        self._negated = layout.NEG_BASE // 8 + n
        self._window = layout.WINDOW_LOW // 8 + n
        self._attr = layout.SEG_ATTR // 8 + n
        self._kinds = layout.SEG_KINDS // 8 + n
        quads[self._attr] = _ALL_ONES

    @property
    def selector(self) -> int:
        return self._quads[self._selector]

    @property
    def base(self) -> int:
        return self._quads[self._base]

    @property
    def limit(self) -> int:
        return self._quads[self._limit]

    @property
    def attr(self) -> int:
        return self._quads[self._attr]

    @property
    def kinds(self) -> int:
        """The translator's classes of it, as ``layout.SEG_KINDS`` has them."""
        return self._quads[self._kinds]

    def load(self, selector: int, base: int, limit: int, attr: int) -> None:
        """Fill all four fields; no checks."""
        self._quads[self._selector] = selector
        self._quads[self._base] = base
        self._quads[self._limit] = limit
        self._quads[self._attr] = attr
        self._quads[self._kinds] = kinds_of(attr, limit, base == 0, self._n == CS)
        low, high = 0, limit
        if attr & (ATTR_CODE | ATTR_EXPAND_DOWN) == ATTR_EXPAND_DOWN:
            low, high = limit + 1, 0xFFFF_FFFF if attr & ATTR_DB else 0xFFFF
        span = high - low if attr & ATTR_PRESENT and high >= low else -1
        readable = not attr & ATTR_CODE or attr & ATTR_WRITABLE
        writable = not attr & ATTR_CODE and attr & ATTR_WRITABLE
        self._quads[self._negated] = -base & _ALL_ONES
        self._quads[self._window] = low
        self._quads[self._window + 8] = span & _ALL_ONES if readable else _ALL_ONES
        self._quads[self._window + 16] = span & _ALL_ONES if writable else _ALL_ONES

    @property
    def dpl(self) -> int:
        return self.attr >> ATTR_DPL_SHIFT & 3

    @property
    def big(self) -> bool:
        """D/B: 32-bit code, 32-bit stack."""
        return bool(self.attr & ATTR_DB)

    def __repr__(self) -> str:
        return f"{self.selector:04x} base={self.base:08x} limit={self.limit:08x} attr={self.attr:04x}"


class VCpu:
    """One virtual CPU.  ``block`` is the writable memory of the vCPU block."""

    def __init__(self, block: memoryview, memory: LinearMemory) -> None:
        self.block = block
        self.memory = memory
        quads = block.cast("Q")
        self.gpr = quads[layout.GPR // 8 : layout.GPR // 8 + 8]
        """General registers by SDM number; store values masked to 32 bits."""
        self.dr = quads[layout.DR // 8 : layout.DR // 8 + 8]
        """DR0 to DR7; whoever changes DR7 calls ``on_control_change("dr7")`` or sets ``mode_changed``."""
        self._quads = quads
        self.segments = [Segment(quads, n) for n in range(8)]
        """ES CS SS DS FS GS LDTR TR."""
        self.mode_changed = True
        """Set whenever something the translator's mode depends on changed."""
        self._cpl = 0
        self.on_control_change: Callable[[str], None] = lambda name: None
        """Called with "cr0", "cr3", "cr4", "dr7", "tsc" after the VMM changed it (the MMU and the host listen)."""
        self.icount = ICOUNT
        """An instruction takes 2**icount ticks of the time-stamp counter."""
        self.on_invlpg: Callable[[int], None] = lambda linear: None
        """Called with the linear address of an INVLPG."""
        self._ports: PortSpace = NoPorts()
        self._watched = False
        self.on_port_space: Callable[[], None] = lambda: None
        """Called when ``ports`` or ``watched`` changes."""
        self.on_port: Callable[[int, int], None] = lambda port, size: None
        """Called after an access to *size* ports from *port* on, while ``watched`` says so."""
        self.tsc: Callable[[], int] = lambda: 0
        """The time-stamp counter now; it includes what WRMSR added, which stands in ``msr[0x10]``."""
        self.reset()

    def reset(self) -> None:
        """The state after RESET (SDM vol. 3, 9.1.1): real mode, CS:IP = F000:FFF0, base FFFF0000h."""
        for n in range(8):
            self.gpr[n] = 0
        self.gpr[layout.EDX] = SIGNATURE
        self._quads[layout.FLAGS // 8] = 2
        self._quads[layout.DIRECTION // 8] = 0
        self.block[layout.IF] = 0
        self._quads[layout.SYSTEM_FLAGS // 8] = 0
        self._quads[layout.PUSHF_IMAGE // 8] = 0
        for n in range(6):
            self.set_segment(n, 0, 0, 0xFFFF, 0x93)
        self.set_segment(CS, 0xF000, 0xFFFF_0000, 0xFFFF, 0x9B)
        self.eip = 0xFFF0
        self.next_eip = 0xFFF0
        """Where the CPU goes on after the instruction at ``eip``; transfers of control assign it."""
        self.cr0 = 0x6000_0010
        self.cr2 = 0
        self.cr3 = 0
        self.cr4 = 0
        for n, value in enumerate((0, 0, 0, 0, 0, 0, 0xFFFF_0FF0, 0x400)):
            self.dr[n] = value
        self.gdtr = (0, 0xFFFF)
        self.idtr = (0, 0xFFFF)
        """(linear base, limit) of the IDT or IVT."""
        self.set_segment(LDTR, 0, 0, 0xFFFF, 0x82)
        self.set_segment(TR, 0, 0, 0xFFFF, 0x8B)
        self.msr: dict[int, int] = {}
        self.halted = False
        """HLT was executed and no interrupt has come since."""
        self.shadow = 0
        """Instructions for which interrupts are still held off (after STI, MOV SS, POP SS)."""
        self.watched = False
        self.cpl = 0
        self.mode_changed = True

    # Ports -------------------------------------------------------------------------------------

    @property
    def ports(self) -> PortSpace:
        """Who makes the accesses to ports."""
        return self._ports

    @ports.setter
    def ports(self, ports: PortSpace) -> None:
        self._ports = ports
        self.on_port_space()

    @property
    def watched(self) -> bool:
        """A breakpoint on data or ports is set: repeated instructions go one step at a time."""
        return self._watched

    @watched.setter
    def watched(self, watched: bool) -> None:
        if watched is not self._watched:
            self._watched = watched
            self.on_port_space()

    # Control registers and the GDT's -----------------------------------------------------------
    # Emitted code reads control registers in the vCPU block.

    @property
    def cr0(self) -> int:
        return self._quads[_CR0]

    @cr0.setter
    def cr0(self, value: int) -> None:
        self._quads[_CR0] = value

    @property
    def cr2(self) -> int:
        return self._quads[_CR0 + 2]

    @cr2.setter
    def cr2(self, value: int) -> None:
        self._quads[_CR0 + 2] = value

    @property
    def cr3(self) -> int:
        return self._quads[_CR0 + 3]

    @cr3.setter
    def cr3(self, value: int) -> None:
        self._quads[_CR0 + 3] = value

    @property
    def cr4(self) -> int:
        return self._quads[_CR0 + 4]

    @cr4.setter
    def cr4(self, value: int) -> None:
        self._quads[_CR0 + 4] = value

    @property
    def gdtr(self) -> tuple[int, int]:
        """(linear base, limit) of the GDT."""
        return self._gdtr

    @gdtr.setter
    def gdtr(self, value: tuple[int, int]) -> None:
        self._gdtr = value
        self.mode_changed = True  # what is remembered of segment loads is void

    @property
    def cpl(self) -> int:
        """The current privilege level."""
        return self._cpl

    @cpl.setter
    def cpl(self, value: int) -> None:
        self._cpl = value
        self.mode_changed = True

    def note_cpl(self, value: int) -> None:
        """Emitted code has changed the privilege level by itself; whoever says so knows the mode."""
        self._cpl = value

    # The instruction pointer and flags ---------------------------------------------------------
    @property
    def eip(self) -> int:
        """EIP of the instruction in hand."""
        return self._quads[layout.EIP // 8]

    @eip.setter
    def eip(self, value: int) -> None:
        self._quads[layout.EIP // 8] = value & 0xFFFF_FFFF

    @property
    def eflags(self) -> int:
        """EFLAGS as PUSHF shows them, VM and RF included."""
        quads = self._quads
        flags = quads[layout.FLAGS // 8] & (layout.ARITHMETIC | DF) | quads[layout.SYSTEM_FLAGS // 8] | 2
        return flags | IF_FLAG if self.block[layout.IF] else flags

    @eflags.setter
    def eflags(self, value: int) -> None:
        quads = self._quads
        quads[layout.FLAGS // 8] = value & (layout.ARITHMETIC | DF) | 2
        quads[layout.DIRECTION // 8] = value & DF
        self.block[layout.IF] = value >> 9 & 1
        system = value & 0x003F_7100
        if system != quads[layout.SYSTEM_FLAGS // 8]:
            quads[layout.SYSTEM_FLAGS // 8] = system
            quads[layout.PUSHF_IMAGE // 8] = system & ~(layout.RF | VM)
            self.mode_changed = True

    @property
    def iopl(self) -> int:
        return self._quads[layout.SYSTEM_FLAGS // 8] >> 12 & 3

    @property
    def v86(self) -> bool:
        """EFLAGS.VM."""
        return bool(self._quads[layout.SYSTEM_FLAGS // 8] & VM)

    @property
    def protected(self) -> bool:
        """Protected mode proper: CR0.PE set and EFLAGS.VM clear."""
        return bool(self.cr0 & CR0_PE) and not self.v86

    @property
    def aligns(self) -> bool:
        """Accesses of the program must be aligned, or they raise #AC: at CPL 3 by CR0.AM and EFLAGS.AC."""
        return bool(self._cpl == 3 and self._quads[layout.SYSTEM_FLAGS // 8] & layout.AC and self.cr0 & CR0_AM)

    @property
    def interrupts_enabled(self) -> bool:
        return bool(self.block[layout.IF])

    @interrupts_enabled.setter
    def interrupts_enabled(self, value: bool) -> None:
        self.block[layout.IF] = value

    # Segments ------------------------------------------------------------------------------------
    def set_segment(self, n: int, selector: int, base: int, limit: int, attr: int) -> None:
        """Load segment register *n* with its hidden part; no checks."""
        segment = self.segments[n]
        if attr == segment.attr and base == segment.base and limit == segment.limit:
            self._quads[layout.SELECTOR // 8 + n] = selector
            return
        segment.load(selector, base, limit, attr)
        self.mode_changed = True

    # Registers by width -----------------------------------------------------------------------------
    def read_reg(self, n: int, size: int) -> int:
        """General register *n* of *size* bytes (1, 2, 4); for bytes 4..7 are AH CH DH BH."""
        if size == 4:
            return self.gpr[n]
        if size == 2:
            return self.gpr[n] & 0xFFFF
        return self.gpr[n] & 0xFF if n < 4 else self.gpr[n - 4] >> 8 & 0xFF

    def write_reg(self, n: int, size: int, value: int) -> None:
        """Store into general register *n*; narrower stores keep the upper bits."""
        gpr = self.gpr
        if size == 4:
            gpr[n] = value & 0xFFFF_FFFF
        elif size == 2:
            gpr[n] = gpr[n] & 0xFFFF_0000 | value & 0xFFFF
        elif n < 4:
            gpr[n] = gpr[n] & 0xFFFF_FF00 | value & 0xFF
        else:
            gpr[n - 4] = gpr[n - 4] & 0xFFFF_00FF | (value & 0xFF) << 8

    # The stack, without segment checks -----------------------------------------------------------------
    @property
    def stack_mask(self) -> int:
        """The mask of stack pointer arithmetic: SS.B chooses ESP or SP."""
        return 0xFFFF_FFFF if self.segments[SS].big else 0xFFFF

    @property
    def esp(self) -> int:
        """The stack pointer under ``stack_mask``."""
        return self.gpr[ESP] & self.stack_mask

    @esp.setter
    def esp(self, value: int) -> None:
        mask = self.stack_mask
        self.gpr[ESP] = self.gpr[ESP] & ~mask & 0xFFFF_FFFF | value & mask
