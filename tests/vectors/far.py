"""Instances of the rows that only the VMM can do: far transfers, segment loads, traps, and what ring 3 must not do."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from tests.support.state import SELECTORS, Environment
from tests.vectors import system
from translator import layout
from translator.layout import CS, DS, ES, FS, GS, SS

if TYPE_CHECKING:
    from tests.vectors.generate import Ask
    from translator.rules import Row

_PREFIXES: Final = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
_BEYOND: Final = 0x7F7
_POPS: Final = {0x07: ES, 0x17: SS, 0x1F: DS, 0xA1: FS, 0xA9: GS}
_LOADS: Final = {0xC4: ES, 0xC5: DS, 0xB2: SS, 0xB4: FS, 0xB5: GS}
_LINUX_SYSTEM_CALL: Final = 0x80

NOT_RECORDED: Final = {
    "rdtsc": "its result is the time",
    "cpuid": "its result names the processor",
    "sgdt": "its result is where the host's table stands (or #GP, by UMIP)",
    "sidt": "its result is where the host's table stands (or #GP, by UMIP)",
    "smsw": "its result is the host's CR0",
}
"""Handlers and emitters whose result belongs to the machine at hand, and why no vector has them."""
_HOSTS_OWN: Final = frozenset(("sldt", "str"))
"""As those, in protected mode; elsewhere they are #UD."""
_FLAT_LEFT_OUT: Final = frozenset(
    (
        *("push_seg", "mov_from_seg", "mov_to_seg", "pop_seg", "load_far", "call_far", "call_far_m", "jmp_far"),
        *("jmp_far_m", "ret_far", "iret", "int3", "int_n", "int1", "into", "arpl", "lar", "lsl", "verr", "verw"),
        *("bound", "hlt"),
    )
)
"""What flat ring 0 leaves to ring 3: the oracles have no descriptor tables there, or end by a gate of their own."""
_REAL_LEFT_OUT: Final = frozenset(["int3", "int_n", "int1", "into", "bound"])
"""What would go by real mode's own vectors, where the windows are not."""


def left_out(row: Row, environment: Environment) -> bool:
    """Whether no oracle can judge *row* in *environment*, or another mode has it."""
    how = row.how
    if environment.system:
        return row.key not in system.SNIPPETS
    if how in NOT_RECORDED:
        return True
    protected = not (environment.real or environment.v86)
    if protected and how in _HOSTS_OWN:
        return True
    if not environment.user and row.privileged == "P" and how not in ("cli", "sti"):
        return True  # in ring 0 they change the machine: tests/callouts has them
    return how in (_REAL_LEFT_OUT if environment.real else _FLAT_LEFT_OUT if environment.name == "flat32" else ())


class FarBodies:
    """The part of ``generate.Maker`` for these rows."""

    row: Row
    environment: Environment
    dice: Random
    gpr: list[int]
    flags: int
    postlude: bytes

    if TYPE_CHECKING:

        def number(self) -> int: ...
        def base(self, seg: int) -> int: ...
        def patch(self, linear: int, data: bytes) -> bool: ...
        def operand(
            self, adsize: int, size: int, free_stack: bool, offset: int = -1, override: int = -1
        ) -> tuple[int, bytes, int, int]: ...
        def _target(self) -> int: ...
        def _immediate(self, opsize: int, adsize: int) -> bytes: ...
        @property
        def stack_linear(self) -> int: ...

    @property
    def _by_paragraphs(self) -> bool:
        return self.environment.real or self.environment.v86

    def _code_selector(self) -> int:
        """This code segment's selector, or now and then a wrong one."""
        segment = self.environment.segments[CS]
        if self._by_paragraphs:
            return segment.base >> 4
        right = SELECTORS[segment]
        wrong = (0, 3, right & ~3, _BEYOND, SELECTORS[self.environment.segments[DS]])
        return self.dice.choice(wrong) if self.dice.random() < 0.3 else right

    def _data_selector(self) -> int:
        """A selector to load: a good one mostly."""
        dice = self.dice
        if self._by_paragraphs:
            return dice.choice((0x3000, 0x3010, 0x3123, 0x4000, 0x2800))
        return dice.choice((0, 2, _BEYOND, *SELECTORS.values(), *(n & ~3 for n in SELECTORS.values())))

    def _watch_segment(self, seg: int) -> None:
        """Behind the instruction: the selector into ECX, and a load by the segment."""
        wide = self.environment.code32
        self.postlude = bytes((0x8C, 0xC1 | seg << 3, _PREFIXES[seg], 0xA0, 0x10)) + bytes(3 if wide else 1)

    def _far_pointer(self, opsize: int) -> bytes:
        offset = self._target() - self.base(CS) & (1 << 8 * opsize) - 1
        return offset.to_bytes(opsize, "little") + self._code_selector().to_bytes(2, "little")

    def _call_far(self, ask: Ask) -> bytes:
        return ask.opcode + self._far_pointer(ask.opsize)

    _jmp_far = _call_far

    def _call_far_m(self, ask: Ask) -> bytes:
        rm, rest, seg, offset = self.operand(
            ask.adsize, ask.opsize + 2, self.row.how == "jmp_far_m", override=ask.override
        )
        self.patch(offset + self.base(seg) & 0xFFFF_FFFF, self._far_pointer(ask.opsize))
        assert self.row.digit is not None
        return ask.opcode + bytes((rm | self.row.digit << 3,)) + rest

    _jmp_far_m = _call_far_m

    def _ret_far(self, ask: Ask) -> bytes:
        self.patch(self.stack_linear, self._return(ask.opsize))
        return ask.opcode + self._immediate(ask.opsize, ask.adsize)

    def _return(self, opsize: int) -> bytes:
        pointer = self._far_pointer(opsize)
        return pointer[:opsize] + pointer[opsize:].ljust(opsize, b"\0")

    def _iret(self, ask: Ask) -> bytes:
        flags = self.dice.getrandbits(12) & 0xCD5 | 0x202
        self.patch(self.stack_linear, self._return(ask.opsize) + flags.to_bytes(ask.opsize, "little"))
        return ask.opcode

    def _load_far(self, ask: Ask) -> bytes:
        reg = self.dice.choice((0, 2, 3, 5, 6, 7))
        rm, rest, seg, offset = self.operand(ask.adsize, ask.opsize + 2, True, override=ask.override)
        pointer = self.number().to_bytes(4, "little")[: ask.opsize] + self._data_selector().to_bytes(2, "little")
        self.patch(offset + self.base(seg) & 0xFFFF_FFFF, pointer)
        self._watch_segment(_LOADS[self.row.opcode])
        return ask.opcode + bytes((rm | reg << 3,)) + rest

    def _mov_to_seg(self, ask: Ask) -> bytes:
        reg = self.dice.choice((ES, SS, DS, FS, GS))
        selector = self._data_selector()
        self._watch_segment(reg)
        return self._with_selector(ask, reg, selector)

    def _with_selector(self, ask: Ask, reg: int, selector: int) -> bytes:
        """The instruction with *reg* in ModRM and *selector* in its register or memory operand."""
        if ask.form == "r":
            rm = self.dice.randrange(8)
            self.gpr[rm] = self.gpr[rm] & 0xFFFF_0000 | selector
            return ask.opcode + bytes((0xC0 | reg << 3 | rm,))
        rm, rest, seg, offset = self.operand(ask.adsize, 2, True, override=ask.override)
        self.patch(offset + self.base(seg) & 0xFFFF_FFFF, selector.to_bytes(2, "little"))
        return ask.opcode + bytes((rm | reg << 3,)) + rest

    def _pop_seg(self, ask: Ask) -> bytes:
        self._watch_segment(_POPS[self.row.opcode])
        self.patch(self.stack_linear, self._data_selector().to_bytes(4, "little"))
        return ask.opcode

    def _bound(self, ask: Ask) -> bytes | None:
        reg, low = self.dice.randrange(8), self.number() >> self.dice.choice((1, 17))
        mask = (1 << 8 * ask.opsize) - 1
        high = low + self.dice.choice((-1, 0, 5, 0x100, 0x4000))
        value = self.dice.choice((low - 1, low, low + 3, high, high + 1))
        self.gpr[reg] = saved = self.gpr[reg] & ~mask | value & mask
        rm, rest, seg, offset = self.operand(ask.adsize, 2 * ask.opsize, True, override=ask.override)
        if self.gpr[reg] != saved:
            return None
        bounds = b"".join((n & mask).to_bytes(ask.opsize, "little") for n in (low, high))
        self.patch(offset + self.base(seg) & 0xFFFF_FFFF, bounds)
        return ask.opcode + bytes((rm | reg << 3,)) + rest

    def _selector_of(self, ask: Ask) -> bytes:
        """LAR, LSL, VERR, VERW."""
        reg = self.row.digit if self.row.digit is not None else self.dice.randrange(8)
        return self._with_selector(ask, reg, self._data_selector())

    _lar = _lsl = _verr = _verw = _selector_of

    def _int_n(self, ask: Ask) -> bytes:
        vector = self.dice.choice((0, 1, 3, 4, 5, 13, 14, 0x20, 0x2F, 0xFF, self.dice.randrange(_LINUX_SYSTEM_CALL)))
        return ask.opcode + bytes((vector,))

    def _by_msr(self, ask: Ask) -> bytes:
        """RDMSR and WRMSR of a register that there is."""
        self.gpr[1] = self.dice.choice((0x10, 0x174, 0x1B))
        return ask.opcode

    _rdmsr = _wrmsr = _by_msr

    def _into(self, ask: Ask) -> bytes:
        self.flags ^= layout.OF if self.dice.random() < 0.5 else 0
        return ask.opcode
