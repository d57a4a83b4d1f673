"""A look at an image without running it: its headers, where its parts go, and what its first code becomes.

Everything is what a run would do: the loaders place the image, ``mode_of`` says how the CPU stands, the translator
makes the units.  Nothing is executed, so data that the guest would change first is as the image has it.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from translator import layout
from translator.decode import UNDEFINED, TooLong, Truncated, Undefined, decode, disassemble, disassemble_host
from translator.fragment import Fragment
from translator.layout import CS
from translator.mode import BASED, CHECKED, FLAT, WORD, Mode
from translator.unit import Translator
from vmm import loaders
from vmm.errors import UsageError
from vmm.loaders.describe import Fact, describe
from vmm.loaders.entry import EntryState, flat_mode, real_mode, registers
from vmm.loaders.load import LOADERS
from vmm.loaders.placement import Placement
from vmm.modes import mode_of
from vmm.vcpu import LinearMemory, VCpu

PAGE = 4096
REAL_MODE_END = 0x11_0000
"""The first address that real mode does not reach."""
_CLASSES = {FLAT: "flat", BASED: "based", WORD: "of 64 KiB", CHECKED: "checked"}
_TRANSFERS = frozenset(("jmp_far", "jmp_far_m", "call_far", "call_far_m", "ret_far", "iret", "sysenter", "sysexit"))
"""Callouts behind which the guest does not go on."""
_REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")


@dataclass(frozen=True, slots=True)
class Part:
    """What a loader puts into RAM, or the board maps as ROM."""

    address: int
    size: int
    what: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One guest instruction, and the row of the rule table that owns it."""

    address: int
    """Linear."""
    code: str
    text: str
    opcode: str
    treatment: str
    how: str
    """The emitter or the handler."""
    privileged: str
    """Robin and Irvine's class: "" harmless, "S" sensitive, "P" privileged."""


@dataclass(frozen=True, slots=True)
class Emitted:
    """Host code in a row: of the guest instruction at ``address``, or, where that is None, of the unit itself."""

    address: int | None
    host: list[tuple[int, str]]
    """(offset in the fragment, instruction)."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way out of a unit."""

    kind: str
    address: int
    """direct: the linear address of the guest's next instruction; others: of the instruction that leaves."""
    vector: int | None
    """fault: the exception."""
    stub: int
    """Offset in the fragment of the code that leaves for the VMM."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A translation unit and its fragment."""

    address: int
    guest_bytes: int
    host_bytes: int
    instructions: list[Instruction]
    emitted: list[Emitted]
    ways: list[Way]


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is known of an image before it runs."""

    image: str
    headers: list[Fact]
    parts: list[Part]
    firmware: bool
    """It counts on a BIOS, which starts it in the state that is shown."""
    entry: int
    """Linear."""
    registers: dict[str, int]
    mode: str
    units: list[Unit]


class _Memory:
    """Guest memory of an image that does not run."""

    def __init__(self, size: int, roms: tuple[tuple[int, bytes], ...] = ()) -> None:
        self.size = size
        self._ram = mmap.mmap(-1, size)
        self.roms = roms

    def write(self, address: int, data: bytes) -> None:
        self._ram[address : address + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        """Up to *size* bytes; fewer, or none, where nothing is."""
        for start, data in self.roms:
            if start <= address < start + len(data):
                return data[address - start : address - start + size]
        return self._ram[address : min(address + size, self.size)] if address < self.size else b""


def inspect(
    path: str | os.PathLike[str], memory_size: int, at: int | None = None, bits: int | None = None, units: int = 1
) -> Inspection:
    """Look at the image *path* in a machine with *memory_size* bytes of RAM, and at *units* units from *at* on.

    *at* is a linear address, by default where the guest starts; *bits* (16: real mode, 32: flat protected mode) is how
    the code there is taken, by default as at the start.  Raises ``ImageError``; ``UsageError`` if nothing is at *at*.
    """
    with loaders.Image.open(path) as image:
        kind = loaders.recognise(image)
        headers = describe(image, kind)
        placement = Placement(memory_size, loaders.pc_memory_map(memory_size), image.name)
        state = LOADERS[kind](image, placement, loaders.Options())
    memory = _Memory(memory_size, state.roms)
    placement.commit(memory)
    parts = [Part(start, end - start, what) for start, end, what in placement.claims]
    parts += [Part(start, len(data), "ROM") for start, data in state.roms]
    chosen = _state_at(state, at, bits)
    cpu = VCpu(memoryview(bytearray(layout.BLOCK_SIZE)), _no_memory())
    loaders.enter(cpu, chosen)
    mode = mode_of(cpu)
    return Inspection(
        image=os.fspath(path),
        headers=headers,
        parts=parts,
        firmware=state.firmware,
        entry=state.linear,
        registers={
            **dict(zip(_REGISTERS, state.gpr, strict=True)),
            "eip": state.eip,
            "cs": state.segments[CS].selector,
        },
        mode=describe_mode(mode),
        units=_units(memory, chosen, mode, units),
    )


def _no_memory() -> LinearMemory:
    """The CPU is asked for its mode only, and accesses none."""
    return None  # type: ignore[return-value]


def _state_at(state: EntryState, at: int | None, bits: int | None) -> EntryState:
    """The state in which code at linear address *at* is looked at."""
    wide = state.mode is loaders.Mode.FLAT32 if bits is None else bits == 32
    if at is None and wide == (state.mode is loaders.Mode.FLAT32):
        return state
    where = state.linear if at is None else at
    if wide:
        return flat_mode(state.kind, where, registers(), gdt=0)
    if where >= REAL_MODE_END:
        raise UsageError(f"--at: {where:#x} is out of reach in real mode (--bits 32 takes the code for 32-bit)")
    return real_mode(state.kind, where)


def describe_mode(mode: Mode) -> str:
    """A mode for people."""
    name = "virtual-8086" if mode.v86 else "protected" if mode.protected else "real"
    kinds = "/".join(_CLASSES[kind] for kind in sorted(set(mode.segments)))
    return f"{name} mode, {32 if mode.code32 else 16}-bit code, segments {kinds}"


def _units(memory: _Memory, state: EntryState, mode: Mode, count: int) -> list[Unit]:
    """*count* units from the state's first instruction on, in the order in which direct exits name them."""
    base = state.segments[CS].base
    limit = state.segments[CS].limit
    waiting, seen = deque([state.eip]), {state.eip}
    found: list[Unit] = []
    translator = Translator()
    while waiting and len(found) < count:
        eip = waiting.popleft()
        linear = base + eip & 0xFFFF_FFFF
        room = min(PAGE - (linear & 0xFFF), limit + 1 - eip)
        code = memory.read(linear, room)
        more = memory.read(linear + room & 0xFFFF_FFFF, 15)
        if not code:
            if not found:
                raise UsageError(f"--at: there is no memory at {linear:#x}")
            continue
        try:
            fragment = translator.translate(code, lambda more=more: more, eip, mode, base)  # type: ignore[misc]
        except (Truncated, TooLong):
            if not found:
                raise UsageError(f"--at: there is no instruction at {linear:#x}") from None
            continue
        found.append(_unit(fragment, (code + more)[: fragment.length]))
        for target in _following(fragment):
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return found


def _following(fragment: Fragment) -> Iterator[int]:
    """Where the guest may go on, as far as that can be told."""
    for way in fragment.exits:
        if way.kind == "direct":
            yield fragment.eip + way.offset & 0xFFFF_FFFF
        elif way.insn is not None and way.insn.row.how not in _TRANSFERS:
            yield fragment.eip + way.offset + way.insn.length & 0xFFFF_FFFF


def _unit(fragment: Fragment, source: bytes) -> Unit:
    """Guest code, and the host code that it became."""
    start = fragment.start
    starts = {point.at: start + point.offset & 0xFFFF_FFFF for point in fragment.points if point.refund}
    stubs = {way.stub for way in fragment.exits}
    emitted: list[Emitted] = []
    for at, text in disassemble_host(bytes(fragment.code)):
        if at in starts or not emitted or at in stubs:
            emitted.append(Emitted(starts.get(at), []))
        emitted[-1].host.append((at, text))
    ways = [
        Way(way.kind, start + way.offset & 0xFFFF_FFFF, way.vector if way.kind == "fault" else None, way.stub)
        for way in fragment.exits
    ]
    instructions = list(_instructions(source, fragment.start, fragment.mode.code32))
    return Unit(fragment.start, fragment.length, len(fragment.code), instructions, emitted, ways)


def _instructions(source: bytes, linear: int, code32: bool) -> Iterator[Instruction]:
    at = 0
    while at < len(source):
        try:
            insn = decode(source[at : at + 16], code32)
            row, length = insn.row, insn.length
        except Undefined as undefined:
            row, length = UNDEFINED, undefined.length
        address = linear + at & 0xFFFF_FFFF
        text = next((text for _, text in disassemble(source[at : at + length], address, code32)), row.name)
        key = "" if row is UNDEFINED else row.key
        code = source[at : at + length].hex(" ")
        yield Instruction(address, code, text, key, row.treatment, row.how, row.privileged)
        at += length
