"""The host machine: one Unicorn engine in long mode, with page tables that the VMM owns.

The only file that imports Unicorn.  Host-physical memory:

    0 .. 4 GiB          guest RAM at its guest-physical addresses
    FRAMES ..           pages of the VMM's own: ROM images, filler pages, copies
    CODE ..             the translation cache's code memory
    BLOCK ..            vCPU block, lookup tables
    EXTRA               more areas, by ``map_area``
    TABLES ..           page tables
    DEVICES + address   device memory at guest-physical *address*, by callbacks
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from unicorn import (
    UC_ARCH_X86,
    UC_HOOK_INSN_INVALID,
    UC_HOOK_INTR,
    UC_HOOK_MEM_FETCH_UNMAPPED,
    UC_MODE_64,
    UC_PROT_ALL,
    Uc,
    UcError,
)
from unicorn import x86_const as x86
from unicorn.unicorn_const import UC_CTL_IO_WRITE, UC_CTL_TB_REMOVE_CACHE, UC_CTL_TCG_BUFFER_SIZE, UC_CTL_TLB_FLUSH
from unicorn.unicorn_py3.unicorn import uclib

from translator import crossings, layout
from vmm import blockchecks, exitchecks, farjumps, pageflush
from vmm.stopwatch import Stopwatch

PAGE: Final = 4096
FRAMES: Final = 0x1_0000_0000
FRAMES_SIZE: Final = 20 << 20
CODE: Final = 0x1_4000_0000
BLOCK: Final = 0x1_C000_0000
EXTRA: Final = 0x1_E000_0000
TABLES: Final = 0x2_0000_0000
DEVICES: Final = 0x8_0000_0000

PRESENT: Final = 1
WRITABLE: Final = 2
USER: Final = 4
ACCESSED: Final = 0x20
DIRTY: Final = 0x40
NX: Final = 1 << 63
_LINK: Final = PRESENT | WRITABLE | USER | ACCESSED | DIRTY
DATA: Final = PRESENT | USER | ACCESSED | DIRTY | NX
"""Rights of a page of the VMM's own or of an unpaged guest; with WRITABLE added where it may be written."""

_STAR: Final = 0xC000_0081
INVALID_OPCODE: Final = 6
_HF_LMA: Final = 1 << 14
_HF_CS64: Final = 1 << 15
PAGE_FAULT: Final = 14
EXIT_VECTOR: Final = 0x20
"""INT 20h in emitted code leaves for the VMM."""

_ENGINE_CODE: Final = 128 << 20
"""Bytes of Unicorn's own translations; when they are full it begins anew.  By itself it lets them grow to a GiB."""
_NOWHERE: Final = layout.TC_BASE + PAGE - 16
"""Where the engine would stop by itself: never reached.  It is mapped, because Unicorn looks it up after each run, and
a page fault from that would turn the next run's first one into a double fault."""
_INTERRUPT_CALLBACK: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
_FPU_AT_RESET: Final = (
    *((x86.UC_X86_REG_FPCW, 0x0040), (x86.UC_X86_REG_FPSW, 0), (x86.UC_X86_REG_FPTAG, 0x5555)),
    *((register, 0) for register in (x86.UC_X86_REG_FIP, x86.UC_X86_REG_FCS, x86.UC_X86_REG_FDP, x86.UC_X86_REG_FDS)),
    *((x86.UC_X86_REG_FOP, 0), (x86.UC_X86_REG_MXCSR, 0x1F80)),
    *((x86.UC_X86_REG_FP0 + n, (0, 0)) for n in range(8)),
    *((x86.UC_X86_REG_XMM0 + n, 0) for n in range(16)),
)
_DWORD: Final = struct.Struct("<I").unpack_from
_QWORD: Final = struct.Struct("<Q").unpack_from
_SIXTEEN: Final = struct.Struct("<16Q").unpack_from
REGIONS: Final = 2048
_EMPTY_TABLE: Final = memoryview(bytes(PAGE)).cast("Q")
_TLB_FLUSH: Final = UC_CTL_TLB_FLUSH | UC_CTL_IO_WRITE << 30
_BUFFER_SIZE: Final = UC_CTL_TCG_BUFFER_SIZE | 1 << 26 | UC_CTL_IO_WRITE << 30
_REMOVE_CACHE: Final = UC_CTL_TB_REMOVE_CACHE | 2 << 26 | UC_CTL_IO_WRITE << 30


def _memory(size: int, large: bool) -> tuple[mmap.mmap, int]:
    """Anonymous memory and its address in this process; *large*: in large pages, if the system has some."""
    area = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if large:
        with suppress(OSError):  # a kernel without transparent huge pages
            area.madvise(mmap.MADV_HUGEPAGE)
    return area, ctypes.addressof(ctypes.c_char.from_buffer(area))


def _never(uc: Uc, access: int, address: int, size: int, value: int, data: object) -> bool:
    """All host-physical memory that code can be fetched from is mapped."""
    return False


class HostSpace:
    """One set of host tables for the guest's addresses: the page table of each 2 MiB of its 4 GiB."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries = memoryview(bytearray(8 * REGIONS)).cast("Q")


class Host:
    """The engine, its memory and its registers.

    ``on_exit()`` is called when emitted code leaves by the exit stub; ``on_fault(vector, error, address)`` on a
    host exception, with the error code and CR2 of a page fault.
    """

    def __init__(
        self,
        ram_size: int,
        tc_size: int,
        tables: int = 64,
        lookup_tables: int = layout.MAX_LOOKUP_TABLES,
        watch: Stopwatch | None = None,
    ) -> None:
        self.watch = watch or Stopwatch()
        self.uc = Uc(UC_ARCH_X86, UC_MODE_64)
        uclib.uc_ctl(self.uc._uch, _BUFFER_SIZE, ctypes.c_uint32(_ENGINE_CODE))
        self._word = ctypes.c_uint64()
        self._word_at = ctypes.byref(self._word)
        """A register's value on its way to or from the engine."""
        self._areas: list[mmap.mmap] = []
        self.ram = self._map(0, max(ram_size, PAGE), large=True) if ram_size else memoryview(b"")
        self.frames = self._map(FRAMES, FRAMES_SIZE)
        self._next_frame = 0
        self._next_area = EXTRA
        tc_size = -(-tc_size // PAGE) * PAGE
        self.code = self._map(CODE, tc_size + PAGE)
        table_bytes = lookup_tables * 8 * 65536
        self._block_area = self._map(BLOCK, layout.BLOCK_SIZE + 2 * table_bytes)
        self.block = self._block_area[: layout.BLOCK_SIZE]
        tables_end = layout.BLOCK_SIZE + table_bytes
        self.lookup_tables = self._block_area[layout.BLOCK_SIZE : tables_end].cast("Q")
        self.deltas = self._block_area[tables_end:].cast("Q")
        """Slot for slot, what ``translator.layout.DELTAS`` says."""
        self._tables_size = tables << 20
        self._tables_area = self._map(TABLES, self._tables_size)
        self._tables_quads = self._tables_area.cast("Q")
        self._next_table = 0
        self._free_tables: list[int] = []
        self._own_part(tc_size + PAGE, table_bytes)
        self._space = HostSpace()
        self.on_exit: Callable[[], None] = lambda: None
        self.on_fault: Callable[[int, int, int], None] = lambda vector, error, address: None
        self.failure: BaseException | None = None
        self._stale = False
        self._resume_at = 0
        self._in_fault = False
        self._user = False
        self._tended = 0
        self.flushes = 0
        """How often the TLB was emptied."""
        self._control = (0, 0)
        """CR0 and CR4 as ``set_control`` has left them."""
        self._start(self._root())

    # Memory ------------------------------------------------------------------------------------------

    def _map(self, physical: int, size: int, large: bool = False) -> memoryview:
        size = -(-size // PAGE) * PAGE
        area, address = _memory(size, large)
        self._areas.append(area)
        self.uc.mem_map_ptr(physical, size, UC_PROT_ALL, address)
        return memoryview(area)

    def new_table(self) -> int:
        """Host-physical address of an empty page table.  Raises ``MemoryError`` when the arena is full."""
        if self._free_tables:
            at = self._free_tables.pop()
            self._tables_quads[at // 8 : at // 8 + 512] = _EMPTY_TABLE
        else:
            at = self._next_table
            self._next_table += PAGE
            if self._next_table > self._tables_size:
                raise MemoryError("the arena of shadow page tables is full")
        return TABLES + at

    @property
    def tables_left(self) -> int:
        """How many more tables ``new_table`` can give."""
        return len(self._free_tables) + (self._tables_size - self._next_table) // PAGE

    def quads_of(self, table: int) -> memoryview:
        """The 512 entries of a page table."""
        at = (table - TABLES) // 8
        return self._tables_quads[at : at + 512]

    def free_table(self, table: int) -> None:
        """Give a page table back."""
        self._free_tables.append(table - TABLES)

    def use(self, space: HostSpace) -> None:
        """Run on these tables from now on.  The TLB keeps what it has from others: see ``flush_page``."""
        self._space = space
        self._directories[:] = space.entries

    def link(self, space: HostSpace, region: int, table: int) -> None:
        """Let the page table at host-physical *table* cover 2 MiB of guest addresses; 0 lets none."""
        entry = table | _LINK if table else 0
        space.entries[region] = entry
        if space is self._space:
            self._directories[region] = entry

    def new_frames(self, size: int) -> int:
        """Host-physical address of fresh pages of the VMM's own."""
        at = self._next_frame
        self._next_frame += -(-size // PAGE) * PAGE
        if self._next_frame > FRAMES_SIZE:
            raise MemoryError("no room for ROM images")
        return FRAMES + at

    def frame(self, physical: int, size: int = PAGE) -> memoryview:
        """The memory of frames handed out by ``new_frames``."""
        return self.frames[physical - FRAMES : physical - FRAMES + size]

    def map_device(
        self, base: int, size: int, read: Callable[[int, int], int], write: Callable[[int, int, int], None]
    ) -> None:
        """Device memory: guest-physical [base, base + size) by callbacks with offsets and sizes in bytes.

        Shadow entries reach it at host-physical DEVICES + base.  Callbacks must not raise.
        """

        def on_read(uc: Uc, offset: int, width: int, data: object) -> int:
            return self._guard(lambda: read(offset, width), (1 << 8 * width) - 1)

        def on_write(uc: Uc, offset: int, width: int, value: int, data: object) -> None:
            self._guard(lambda: write(offset, width, value), 0)

        self.uc.mmio_map(DEVICES + base, -(-size // PAGE) * PAGE, on_read, None, on_write, None)

    def _own_part(self, code_size: int, table_bytes: int) -> None:
        """Tables of code, vCPU block, lookup tables and the instruction budget."""
        self._pointers = self.new_table()

        def put(linear: int, entry: int) -> None:
            table = self.quads_of(self._pointers)
            for shift in (30, 21):
                index = linear >> shift & 511
                if not table[index]:
                    table[index] = self.new_table() | _LINK
                table = self._tables_quads[((table[index] & 0xF_FFFF_FFFF_F000) - TABLES) // 8 :][:512]
            table[linear >> 12 & 511] = entry

        for offset in range(0, code_size, PAGE):
            put(layout.TC_BASE + offset, CODE + offset | PRESENT | USER | ACCESSED | DIRTY)
        for offset in range(0, layout.BLOCK_SIZE, PAGE):
            put(layout.VCPU_BLOCK + offset, BLOCK + offset | DATA | WRITABLE)
        for offset in (layout.VERIFY, layout.VERIFY + (1 << 32)):
            put(layout.VCPU_BLOCK + offset, BLOCK | DATA)
        for offset in range(0, table_bytes, PAGE):
            put(layout.LOOKUP_TABLES + offset, BLOCK + layout.BLOCK_SIZE + offset | DATA | WRITABLE)
            behind = layout.DELTAS + offset
            put(layout.LOOKUP_TABLES + behind, BLOCK + layout.BLOCK_SIZE + table_bytes + offset | DATA | WRITABLE)
        # The budget: one page table whose entries all name one page, one directory whose entries all name that table.
        page, table, directory = BLOCK | DATA, self.new_table(), self.new_table()
        self.quads_of(table)[:] = memoryview(struct.pack("<Q", page) * 512).cast("Q")
        self.quads_of(directory)[:] = memoryview(struct.pack("<Q", table | _LINK) * 512).cast("Q")
        self._budget_pointers = self.new_table()
        self.quads_of(self._budget_pointers)[layout.BUDGET_BASE >> 30 & 511] = directory | _LINK

    def _root(self) -> int:
        """The upper levels of the host's tables: the guest's 4 GiB twice, by ``_directories``, and the VMM's part."""
        root, *directories = [self.new_table() for _ in range(1 + REGIONS // 512)]
        first = (directories[0] - TABLES) // 8
        self._directories = self._tables_quads[first : first + REGIONS]
        self.quads_of(root)[0] = self._pointers | _LINK
        self.quads_of(root)[layout.BUDGET_BASE >> 39] = self._budget_pointers | _LINK
        pointers = self.quads_of(self._pointers)
        for n, directory in enumerate(directories):
            pointers[n] = pointers[n + 4] = directory | _LINK
        return root

    def map_area(self, linear: int, size: int) -> memoryview:
        """Memory of the VMM's own at host address *linear*, whole 2 MiB in a GiB where there is some already."""
        base, self._next_area = self._next_area, self._next_area + size
        memory = self._map(base, size)
        directory = self.quads_of(self.quads_of(self._pointers)[linear >> 30 & 511] & 0xF_FFFF_FFFF_F000)
        for region in range(size >> 21):
            table = self.new_table()
            directory[(linear >> 21 & 511) + region] = table | _LINK
            self.quads_of(table)[:] = memoryview(
                struct.pack("<512Q", *((base + (region << 21) + (n << 12)) | DATA | WRITABLE for n in range(512)))
            ).cast("Q")
        return memory

    # The engine -----------------------------------------------------------------------------------------

    def _start(self, root: int) -> None:
        uc = self.uc
        uc.reg_write(x86.UC_X86_REG_CR4, 0x620)  # PAE, OSFXSR, OSXMMEXCPT
        uc.msr_write(0xC000_0080, 0xD01)  # EFER: NXE, LMA, LME, SCE
        uc.reg_write(x86.UC_X86_REG_CR3, root)
        uc.reg_write(x86.UC_X86_REG_CR0, 0x8001_0033)  # PG, WP, NE, ET, MP, PE
        uc.reg_write(x86.UC_X86_REG_R15, layout.VCPU_BLOCK)
        self._context = ctypes.c_void_p()
        uclib.uc_context_alloc(uc._uch, ctypes.byref(self._context))
        size = uclib.uc_context_size(uc._uch)
        self.context = memoryview((ctypes.c_char * size).from_address(self._context.value or 0)).cast("B")
        self._calibrate()
        # Bound here and not by the binding: its wrappers cost more than the call.
        self._callback = _INTERRUPT_CALLBACK(self._on_interrupt)
        hook = ctypes.c_size_t()
        uclib.uc_hook_add(
            uc._uch, ctypes.byref(hook), UC_HOOK_INTR, self._callback, None, ctypes.c_uint64(1), ctypes.c_uint64(0)
        )
        uc.hook_add(UC_HOOK_INSN_INVALID, self._on_invalid)
        # Where a hook of this kind could hear of a block's page, Unicorn does not look through its whole TLB, at each
        # block that it translates, for entries of that page by which somebody could write to it: nobody can.
        uc.hook_add(UC_HOOK_MEM_FETCH_UNMAPPED, _never, None, layout.TC_BASE, layout.VCPU_BLOCK - 1)
        handle = uc._uch
        self.lean = handle is not None and exitchecks.turn_off(uclib, handle.value or 0)
        """The engine runs without a check for a request to stop behind every memory access."""
        self.unchecked = blockchecks.turn_off(uclib, handle.value or 0) if handle is not None else None
        """Not None if it runs without one at the start of every block either."""
        self.page_flush = pageflush.of_engine(uclib, handle.value or 0) if handle is not None else None
        """What takes the page of a host address out of the TLB; None if that cannot be done."""
        self._far = farjumps.of_library(uclib)

    def open_gate(self, target: int) -> None:
        """Let emitted code at CPL 3 come to host address *target* at CPL 0, by a call gate; and back by SYSRET."""
        gate = target & 0xFFFF | crossings.KERNEL_CS << 16 | 0xEC00 << 32 | (target >> 16 & 0xFFFF) << 48
        tss = layout.VCPU_BLOCK + layout.HOST_TSS
        descriptors = {
            crossings.KERNEL_CS: (0x00AF_9B00_0000_FFFF,),
            crossings.GATE_SELECTOR & ~7: (gate, target >> 32),
        }
        for selector, words in descriptors.items():
            struct.pack_into(f"<{len(words)}Q", self.block, layout.HOST_GDT + selector, *words)
        struct.pack_into("<IQ", self.block, layout.HOST_TSS, 0, layout.VCPU_BLOCK + layout.RING_STACK_TOP)
        struct.pack_into("<IH", self.block, layout.GATE_POINTER, 0, crossings.GATE_SELECTOR)
        uc = self.uc
        uc.reg_write(
            x86.UC_X86_REG_GDTR, (0, layout.VCPU_BLOCK + layout.HOST_GDT, layout.HOST_TSS - layout.HOST_GDT - 1, 0)
        )
        uc.reg_write(x86.UC_X86_REG_TR, (0, tss, 0x67, 0x8B00))
        uc.msr_write(_STAR, crossings.USER_BASE << 48 | crossings.KERNEL_CS << 32)

    def _calibrate(self) -> None:
        """Find where registers stand in a saved context: by values that occur nowhere else."""

        def offset_of(register: int) -> int:
            uc, sentinel = self.uc, 0x1122_3344_5566_7788
            old = uc.reg_read(register)
            uc.reg_write(register, sentinel)
            uclib.uc_context_save(uc._uch, self._context)
            uc.reg_write(register, old)
            found = bytes(self.context).find(sentinel.to_bytes(8, "little"))
            if found < 0:
                raise RuntimeError("Unicorn's saved context has no register file where it is expected")
            return found

        dr0 = offset_of(x86.UC_X86_REG_DR0)
        # CPUX86State (target/i386/cpu.h): error_code stands 16 bytes before dr[0], old_exception 96 after it.
        self._error_at = dr0 - 16
        self._cr2_at = offset_of(x86.UC_X86_REG_CR2)
        self._pending_at = dr0 + 96
        self._rip_at = offset_of(x86.UC_X86_REG_RIP)
        self._gpr_at = offset_of(x86.UC_X86_REG_RAX)
        # env->hflags stands 48 bytes after eip, behind eflags and the lazy condition codes; CPL is in bits 0 and 1.
        self._hflags_at = self._rip_at + 48
        (hflags,) = struct.unpack_from("<I", self.context, self._hflags_at)
        if hflags & (_HF_LMA | _HF_CS64 | 3) != _HF_LMA | _HF_CS64:
            raise RuntimeError("Unicorn's saved context has no hflags where they are expected")
        if offset_of(x86.UC_X86_REG_R15) != self._gpr_at + 15 * 8:
            raise RuntimeError("Unicorn's register file is not sixteen registers in order")

    def _guard(self, call: Callable[[], int | None], default: int) -> int:
        try:
            return call() or 0
        except BaseException as failure:  # noqa: BLE001 - see _on_interrupt
            if self.failure is None:
                self.failure = failure
            self.uc.emu_stop()
            return default

    def _on_interrupt(self, handle: object, number: int, data: object) -> None:
        if self._raised() is not None:  # by a callback of a device since emulation was left last
            self.uc.emu_stop()
            return
        watch = self.watch
        watch.enter(watch.exit)
        try:
            if number == EXIT_VECTOR:
                self.on_exit()
            else:
                self._fault(number)
        except BaseException as failure:  # noqa: BLE001 - nothing raised inside a callback may be lost: run() raises it
            self.failure = failure
            self.uc.emu_stop()
        watch.enter(watch.tc)

    def _on_invalid(self, uc: Uc, data: object) -> bool:
        try:
            self._fault(INVALID_OPCODE)
        except BaseException as failure:  # noqa: BLE001 - see _on_interrupt
            self.failure = failure
            uc.emu_stop()
        return True

    def _fault(self, number: int) -> None:
        uch = self.uc._uch
        uclib.uc_context_save(uch, self._context)
        context = self.context
        # Unicorn never clears the pending exception: a second fault would arrive as a double fault.
        context[self._pending_at : self._pending_at + 4] = b"\xff\xff\xff\xff"
        (error,) = _DWORD(context, self._error_at)
        self._stale = False
        self._resume_at = 0
        self._in_fault = True
        self.on_fault(number, error, _QWORD(context, self._cr2_at)[0] if number == PAGE_FAULT else 0)
        self._in_fault = False
        if self._stale:  # control registers were written since the context was saved
            uclib.uc_context_save(uch, self._context)
            context[self._pending_at : self._pending_at + 4] = b"\xff\xff\xff\xff"
        self._set_ring()
        if self._resume_at:
            struct.pack_into("<Q", context, self._rip_at, self._resume_at)
        uclib.uc_context_restore(uch, self._context)

    def run(self, start: int) -> None:
        """Execute from host address *start* until ``stop``; raises whatever a callback raised."""
        self.failure = None
        before = self.watch.enter(self.watch.tc)
        self._far.begin()
        try:
            self.uc.emu_start(start, _NOWHERE)
        except UcError as error:
            if self._raised() is None:
                raise RuntimeError(
                    f"the host engine stopped: {error} at {self.uc.reg_read(x86.UC_X86_REG_RIP):#x}"
                ) from error
        finally:
            self._far.end()
            self.watch.enter(before)
        failure = self._raised()
        if failure is not None:
            raise failure

    def _raised(self) -> BaseException | None:
        """A method, because a compiled ``run`` would take ``failure`` for what it has set itself."""
        return self.failure

    def stop(self) -> None:
        """Make ``run`` return."""
        self.uc.emu_stop()

    # In a fault handler: registers of the faulting instruction ----------------------------------------------

    @property
    def rip(self) -> int:
        value: int = _QWORD(self.context, self._rip_at)[0]
        return value

    def resume_at(self, address: int) -> None:
        """Let the engine go on at host *address* after this fault instead of at the faulting instruction."""
        self._resume_at = address

    def registers(self) -> tuple[int, ...]:
        """RAX RCX RDX RBX RSP RBP RSI RDI R8..R15 at the fault."""
        return _SIXTEEN(self.context, self._gpr_at)

    def register(self, number: int) -> int:
        """One of the sixteen registers at the fault."""
        value: int = struct.unpack_from("<Q", self.context, self._gpr_at + 8 * number)[0]
        return value

    def set_register(self, number: int, value: int) -> None:
        """Let the engine go on with another value in one of the sixteen registers."""
        struct.pack_into("<Q", self.context, self._gpr_at + 8 * number, value)

    def flags(self) -> int:
        """RFLAGS at the fault."""
        uclib.uc_reg_read(self.uc._uch, x86.UC_X86_REG_EFLAGS, self._word_at)
        return self._word.value

    # Rights -----------------------------------------------------------------------------------------------

    def set_user(self, user: bool) -> None:
        """Go on at the host's CPL 3 (*user*) or 0, so that U/S bits mean what they mean to the guest."""
        if user is self._user:
            return
        self._user = user
        if not self._in_fault:
            uclib.uc_context_save(self.uc._uch, self._context)
            self._set_ring()
            uclib.uc_context_restore(self.uc._uch, self._context)

    def note_user(self, user: bool) -> None:
        """Emitted code has changed the ring by itself."""
        self._user = user

    def _set_ring(self) -> None:
        """Put CPL into the saved context."""
        at = self._hflags_at
        self.context[at] = self.context[at] & ~3 | (3 if self._user else 0)

    def flush_tlb(self) -> None:
        """Forget cached translations: needed after rights were taken away in a page table."""
        self.flushes += 1
        uclib.uc_ctl(self.uc._uch, _TLB_FLUSH)

    def tend_tlb(self) -> None:
        """To be called now and then: Unicorn fits its TLB's size to how full it is, but only when it empties it."""
        self._tended += 1
        if not self._tended & self._tended - 1:
            self.flush_tlb()

    def flush_page(self, linear: int) -> None:
        """Forget the cached translation of the page of a guest linear address."""
        flush = self.page_flush
        if flush is None:
            self.flush_tlb()
        else:
            flush(linear)
            flush(linear + (1 << 32))  # the guest's addresses stand there a second time

    def discard(self, start: int, end: int) -> None:
        """Forget the engine's own translation of TC bytes that are about to be rewritten."""
        uclib.uc_ctl(self.uc._uch, _REMOVE_CACHE, ctypes.c_uint64(start), ctypes.c_uint64(end))

    def set_control(self, cr0: int, cr4: int) -> None:
        """Mirror the bits of the guest's control registers that decide how copied instructions behave.

        WP stays set whatever the guest says: traces on pages with code depend on it.
        """
        control = 0x8001_0031 | cr0 & 0xE, 0x20 | cr4 & 0x600
        if control != self._control:
            self._control = control
            self._stale = True
            self.uc.reg_write(x86.UC_X86_REG_CR0, control[0])
            self.uc.reg_write(x86.UC_X86_REG_CR4, control[1])

    def reset_fpu(self) -> None:
        """x87, MMX and SSE registers as after RESET (SDM vol. 3, table 9-1): not as FNINIT leaves them."""
        for register, value in _FPU_AT_RESET:
            self.uc.reg_write(register, value)

    def close(self) -> None:
        """Release the engine.  The object cannot be used any more."""
        self.on_exit = lambda: None
        self.on_fault = lambda vector, error, address: None
        self._callback = _INTERRUPT_CALLBACK()
        uclib.uc_context_free(self._context)


def is_lean() -> bool:
    """Whether this Unicorn can be told to do without what translated code does not need."""
    known = exitchecks.flag_offset(uclib) is not None and blockchecks.table_offset(uclib) is not None
    return known and bool(farjumps.of_library(uclib).places)
