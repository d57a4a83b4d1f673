"""Contexts: what a translation and its lookup table depend on, numbered; and the table of segment loads.

A context is (mode, CS base, paging).  Emitted code may go on in another one by itself (``translator.selectors``), so
the VMM looks at each exit which it is in.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cache.tables import LookupTables
from translator import crossings, layout, selectors
from translator.layout import CS, ESP, SS
from translator.mode import Mode
from vmm.host import Host
from vmm.mmu import Mmu, Space
from vmm.modes import DR7_ARMED, mode_of
from vmm.segmentation import descriptor_address
from vmm.vcpu import CR0_PG, VCpu

MAX_CONTEXTS: Final = 1 << 12
"""Modes and CS bases that fragments exist for; a guest that has more begins with an empty cache again."""
_SPACE_SHIFT: Final = 16
"""In ``Contexts.where`` the number of the address space stands above that of the context."""
assert MAX_CONTEXTS < 1 << _SPACE_SHIFT
_CROSSED: Final = 256
"""Contexts with smaller numbers can be entered by emitted code."""
_TABLE: Final = layout.TABLE // 8
_CONTEXT: Final = layout.CONTEXT // 8
_SALT: Final = layout.SALT // 8
_TABLES: Final = layout.CONTEXT_TABLES // 8
_LOADS: Final = layout.SEGMENT_LOADS // 8
_LOADS_END: Final = layout.SEGMENT_LOADS // 8 + selectors.ENTRIES * selectors.ENTRY_SIZE // 8
_KINDS: Final = slice(layout.SEG_KINDS // 8, layout.SEG_KINDS // 8 + 6)
_CS_ATTR: Final = layout.SEG_ATTR // 8 + CS
_SS_ATTR: Final = layout.SEG_ATTR // 8 + SS
_SYSTEM_FLAGS: Final = layout.SYSTEM_FLAGS // 8
_CROSSINGS: Final = layout.SYSENTERS // 8
_CROSSINGS_END: Final = (layout.SYSEXITS + crossings.TABLE_SIZE) // 8
MAX_STATES: Final = 4096
_WORD: Final = 0xFFFF_FFFF_FFFF_FFFF


class Context(NamedTuple):
    """A numbered context; numbers begin at 1."""

    number: int
    mode: Mode
    cs_base: int
    paging: bool

    @property
    def salt(self) -> int:
        """Spreads the loads of segments in this context over the table."""
        return 37 * self.number & 0xFF


class Contexts:
    """The contexts of one CPU, and the one it is in, as the last ``update`` or ``follow`` found it."""

    def __init__(self, host: Host, cpu: VCpu, mmu: Mmu, tables: LookupTables, quads: memoryview) -> None:
        self._host = host
        self._cpu = cpu
        self._mmu = mmu
        self._tables = tables
        self._quads = quads
        self._numbers: dict[tuple[Mode, int, bool], int] = {}
        self._of_state: dict[tuple[int, ...], int] = {}
        """Numbers by the CPU's state, as far as the mode depends on it."""
        self._all: list[Context] = []
        self._never = memoryview(tables.never.to_bytes(8, "little") * _CROSSED).cast("Q")
        self._empty = memoryview(bytes(selectors.ENTRIES * selectors.ENTRY_SIZE)).cast("Q")
        self._no_crossings = memoryview(bytes(2 * crossings.TABLE_SIZE)).cast("Q")
        self._gdtr = (-1, -1)
        self._space: Space | None = None
        self._space_number = -1
        tables.recycled.append(self._on_recycled)
        self.mode = mode_of(cpu)
        """The mode of the code that runs."""
        self.recording = False
        """Emitted code records each instruction."""
        self.number = self.tag = 0
        """Of the context, and that as emitted code keeps it (``layout.CONTEXT``)."""
        self.cs_base = self.cs_limit = 0
        self.paging = False
        self.table = 0
        """The number of the lookup table; 0 is always empty."""
        self.where = 0
        """The context and the address space in one number."""
        self.stocked: dict[int, set[int]] = {}
        """Linear pages of which a lookup table has all there was in the cache."""

    @property
    def full(self) -> bool:
        """No further context can be numbered: ``forget`` first."""
        return len(self._all) >= MAX_CONTEXTS

    def forget(self) -> None:
        """Number anew.  Nothing that depends on old numbers may be left in the cache."""
        self._numbers.clear()
        self._of_state.clear()
        self._all.clear()
        self._gdtr = (-1, -1)

    def update(self) -> None:
        """The CPU may be in another mode or address space: find its context and lookup table."""
        cpu, quads = self._cpu, self._quads
        cpu.mode_changed = False
        segment = cpu.segments[CS]
        self.cs_limit = segment.limit
        state = (
            *quads[_KINDS].tolist(),
            quads[_CS_ATTR],
            quads[_SS_ATTR],
            segment.base,
            cpu.cpl,
            cpu.cr0,
            cpu.cr4,
            quads[_SYSTEM_FLAGS],
            cpu.dr[7] & DR7_ARMED,
            self.recording,
        )
        number = self._of_state.get(state)
        if number is None:
            number = self._number()
            if len(self._of_state) >= MAX_STATES:
                self._of_state.clear()
            self._of_state[state] = number
        space = self._mmu.space
        if space is not self._space or space.number != self._space_number:
            self._enter_space(space)
        if cpu.gdtr != self._gdtr:
            self._gdtr = cpu.gdtr
            quads[_LOADS:_LOADS_END] = self._empty
            self.forget_crossings()
        context = self._all[number - 1]
        self._host.set_user(context.mode.user)
        self._become(context)
        quads[_CONTEXT] = self.tag
        quads[_SALT] = context.salt

    def _number(self) -> int:
        """The number of the CPU's context."""
        cpu = self._cpu
        mode = mode_of(cpu)
        if self.recording:
            mode = mode._replace(record=True)
        key = (mode, cpu.segments[CS].base, bool(cpu.cr0 & CR0_PG))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._all) + 1
            self._all.append(Context(number, *key))
        return number

    def follow(self) -> None:
        """Emitted code may have gone on in another context by itself."""
        tag = self._quads[_CONTEXT]
        if tag != self.tag:
            before = self.mode.user
            self._become(self._all[(tag >> selectors.CONTEXT_SHIFT) - 1])
            if self.mode.user is not before:
                self.cs_limit = self._cpu.segments[CS].limit
                self._cpu.note_cpl(3 if self.mode.user else 0)
                self._host.note_user(self.mode.user)

    def _become(self, context: Context) -> None:
        number, self.mode, self.cs_base, self.paging = context
        self.number = number
        self.tag = number << selectors.CONTEXT_SHIFT
        assert self._space is not None
        self.where = self._where(number, self._space_number)
        if self.mode.step:
            self.table = 0
            self._quads[_TABLE] = self._tables.never
            return
        self.table = self._tables.table(self.where, number)
        address = self._quads[_TABLE] = self._tables.address(self.table)
        if number < _CROSSED and self._quads[_TABLES + number] != address:
            self._quads[_TABLES + number] = address
        self._space.contexts.add(number)

    @staticmethod
    def _where(number: int, space: int) -> int:
        return space << _SPACE_SHIFT | number

    # Lookup tables of the present space, for emitted code ------------------------------------------------------

    def _enter_space(self, space: Space) -> None:
        self._space, self._space_number = space, space.number
        self._quads[_TABLES : _TABLES + _CROSSED] = self._never
        for number in space.contexts:
            table = self._tables.number(self._where(number, space.number))
            if table is not None and number < _CROSSED:
                self._quads[_TABLES + number] = self._tables.address(table)

    def unstock(self, space: Space, page: int) -> list[int]:
        """Linear *page* may be mapped another way in this space.  Returns the numbers of its lookup tables."""
        numbers = (self._tables.number(self._where(number, space.number)) for number in sorted(space.contexts))
        tables = [table for table in numbers if table is not None]
        for table in tables:
            if table in self.stocked:
                self.stocked[table].discard(page)
        return tables

    def _on_recycled(self, where: int, table: int) -> None:
        self.stocked.pop(table, None)
        space, number = where >> _SPACE_SHIFT, where & (1 << _SPACE_SHIFT) - 1
        if space == self._space_number and number < _CROSSED:
            self._quads[_TABLES + number] = self._tables.never

    # Ring crossings ----------------------------------------------------------------------------------------------

    def forget_crossings(self) -> None:
        """What SYSENTER and SYSEXIT lead to has changed."""
        self._quads[_CROSSINGS:_CROSSINGS_END] = self._no_crossings

    def learn_crossing(self, table: int) -> None:
        """Let emitted code repeat the SYSENTER or SYSEXIT that the VMM has just done; *table* is that one's."""
        cpu, quads, before = self._cpu, self._quads, self.number
        if self.mode.step or self.full:
            return
        compared = [quads[at // 8] for at in crossings.COMPARED]
        self.update()
        if max(before, self.number) >= _CROSSED or self.mode.user is not (table == layout.SYSEXITS):
            return
        at = (table + crossings.place(self._all[before - 1].salt) * crossings.ENTRY_SIZE) // 8
        quads[at + crossings.EIP] = cpu.next_eip
        quads[at + crossings.ESP] = cpu.gpr[ESP]
        quads[at + crossings.TO_TABLE] = layout.VCPU_BLOCK + layout.CONTEXT_TABLES + 8 * self.number
        for n, place in enumerate(crossings.SETS):
            quads[at + crossings.FIRST_SET + n] = quads[place // 8]
        for n, value in enumerate(compared):
            quads[at + n] = value

    # Segment loads ----------------------------------------------------------------------------------------------

    def learn(self, register: int, selector: int) -> None:
        """Let emitted code repeat what the VMM has just done: load *selector* into *register* (or ``QUERY`` it)."""
        cpu, quads, before = self._cpu, self._quads, self.number
        if selector & 4 or not self.mode.supervisor or not self.mode.protected or self.mode.step or self.full:
            return
        at = _LOADS + selectors.place(self._all[before - 1].salt, register, selector) * (selectors.ENTRY_SIZE // 8)
        host = layout.VCPU_BLOCK + 8 * at + selectors.MINUS_RAW  # a null selector's "descriptor": 0
        raw = 0
        if selector & 0xFFFC:
            address = descriptor_address(cpu, selector)
            assert address is not None
            host, raw = address, cpu.memory.read_int(address, 8)
        if cpu.mode_changed:
            self.update()
        if max(before, self.number) >= _CROSSED or (register == CS and self.number != before):
            return
        state = selectors.STATE // 8
        if register not in (selectors.QUERY, CS):
            for n, offset in enumerate(selectors.COPIED):
                quads[at + state + n] = quads[offset // 8 + register]
        quads[at + selectors.CROSSING // 8] = int(self.number != before)
        quads[at + selectors.TO_CONTEXT // 8] = quads[_CONTEXT]
        quads[at + selectors.TO_SALT // 8] = quads[_SALT]
        quads[at + selectors.TO_TABLE // 8] = layout.VCPU_BLOCK + layout.CONTEXT_TABLES + 8 * self.number
        quads[at + selectors.DESCRIPTOR // 8] = host
        quads[at + selectors.MINUS_RAW // 8] = -raw & _WORD
        quads[at + selectors.MINUS_TAG // 8] = -selectors.tag(before, register, selector) & _WORD
