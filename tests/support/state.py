"""What a snippet starts from and what it leaves: one form for the engine and for every oracle.

Guest memory is a few *windows* of a fixed background; a case patches it, an outcome says which bytes changed.
The windows stand low, so that the same case fits real mode, a 16-bit segment and the real CPU's user space.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from translator import layout
from vmm.vcpu import ATTR_CODE, ATTR_DB, ATTR_EXPAND_DOWN, ATTR_G, ATTR_WRITABLE

PAGE: Final = 4096
CODE: Final = 0x2_0000
DATA: Final = 0x3_0000
DATA_END: Final = 0x3_3000
STACK: Final = 0x4_0000
WINDOWS: Final = (
    (CODE, 0x2000),
    (DATA, DATA_END - DATA),
    (0x3_F000, 0x1000),  # the end of DATA's 64 KiB segment
    (STACK, 0x1000),
    (0x4_F000, 0x1000),  # the end of STACK's
)
"""(linear address, bytes) of what is mapped; everything around is not, where the mode has paging."""
HLT: Final = b"\xf4"
ARITHMETIC: Final = layout.ARITHMETIC
FLAGS: Final = layout.ARITHMETIC | layout.DF


def _background() -> dict[int, bytes]:
    dice = Random(20)
    return {at: HLT * size if at == CODE else dice.randbytes(size) for at, size in WINDOWS}


BACKGROUND: Final = _background()
"""What stands in the windows before a case's patches: HLT in the code's, noise in the others."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment register with its hidden part; ``attr`` without DPL."""

    base: int
    limit: int = 0xFFFF_FFFF
    attr: int = 0x93 | ATTR_DB | ATTR_G

    @property
    def code(self) -> bool:
        return bool(self.attr & ATTR_CODE)

    @property
    def down(self) -> bool:
        return self.attr & (ATTR_CODE | ATTR_EXPAND_DOWN) == ATTR_EXPAND_DOWN

    @property
    def writable(self) -> bool:
        return not self.code and bool(self.attr & ATTR_WRITABLE)


@dataclass(frozen=True, slots=True)
class Environment:
    """A mode of the CPU and its segments ES CS SS DS FS GS."""

    name: str
    segments: tuple[Segment, Segment, Segment, Segment, Segment, Segment]
    real: bool = False
    v86: bool = False
    user: bool = False
    """CPL 3.  Only such cases can run on the real CPU."""
    paged: bool = False
    """Nothing but the windows is mapped."""
    system: bool = False
    """Ring 0 with descriptor tables, so that system instructions do their work."""

    @property
    def code32(self) -> bool:
        return bool(self.segments[layout.CS].attr & ATTR_DB)

    @property
    def stack32(self) -> bool:
        return bool(self.segments[layout.SS].attr & ATTR_DB)

    @property
    def segmented(self) -> bool:
        """Some segment is not flat."""
        return any(s.base or s.limit != 0xFFFF_FFFF for s in self.segments)


_FLAT: Final = Segment(0)
_FLAT_CODE: Final = Segment(0, attr=0x9B | ATTR_DB | ATTR_G)


def _word(base: int, code: bool = False) -> Segment:
    return Segment(base, 0xFFFF, 0x9B if code else 0x93)


_WORDS: Final = (_word(0x3_0100), _word(CODE, True), _word(STACK), _word(DATA), _word(0x3_0080), _word(0x2_FFC0))
_ALIAS: Final = (*_WORDS[:4], _word(CODE), _WORDS[5])
"""As ``_WORDS``, but FS is a writable alias of the code."""
_BASED: Final = (
    Segment(0xFFFF_8000), Segment(0x1_0000, attr=0x9B | ATTR_DB | ATTR_G), Segment(0x1_0000), Segment(0x2_8000),
    Segment(0x8000_0000), Segment(0x2_FFC0),
)  # fmt: skip
_LIMITED: Final = (
    Segment(DATA, 0x0FFF, 0x97 | ATTR_DB),  # ES expands down: 1000h and up
    Segment(CODE, 0x1FFF, 0x9B | ATTR_DB),
    Segment(STACK, 0x0FFF, 0x93 | ATTR_DB),
    Segment(DATA, 0x1FFE, 0x93 | ATTR_DB),
    Segment(DATA, 0x2FFF, 0x91 | ATTR_DB),  # FS cannot be written
    Segment(DATA + 0x10, 0xFFFF, 0x93 | ATTR_DB),
)
_LIMITED16: Final = tuple(replace(s, attr=s.attr & ~ATTR_DB) for s in _LIMITED)
_MIXED: Final = (_word(0x3_0100), _word(CODE, True), Segment(STACK, 0xFFFF_FFFF), Segment(DATA), _FLAT, _word(0x2_FFC0))
_MIXED32: Final = (_FLAT, replace(_FLAT_CODE), _word(STACK), Segment(DATA), _FLAT, _word(0x2_FFC0))

ENVIRONMENTS: Final = {
    e.name: e
    for e in (
        Environment("flat32", (_FLAT, _FLAT_CODE, _FLAT, _FLAT, _FLAT, _FLAT)),
        Environment("flat32u", (_FLAT, _FLAT_CODE, _FLAT, _FLAT, _FLAT, _FLAT), user=True, paged=True),
        Environment("real16", _WORDS, real=True),
        Environment("v86", _WORDS, v86=True, user=True, paged=True),
        Environment("prot16", _WORDS, user=True, paged=True),
        Environment("alias16", _ALIAS, user=True, paged=True),
        Environment("based32", _BASED, user=True, paged=True),
        Environment("limited32", _LIMITED, user=True, paged=True),
        Environment("limited16", _LIMITED16, user=True, paged=True),  # type: ignore[arg-type]
        Environment("mixed16", _MIXED, user=True, paged=True),
        Environment("mixed32", _MIXED32, user=True, paged=True),
        Environment("system32", (_FLAT, _FLAT_CODE, _FLAT, _FLAT, _FLAT, _FLAT), paged=True, system=True),
    )
}


def _selectors() -> dict[Segment, int]:
    """An LDT selector for each segment of the environments at CPL 3."""
    table: dict[Segment, int] = {}
    for environment in ENVIRONMENTS.values():
        if environment.user and not environment.v86:
            for segment in environment.segments:
                table.setdefault(segment, 8 * len(table) + 7)
    return table


SELECTORS: Final = _selectors()
SYSTEM_SELECTORS: Final = (0x10, 0x08, 0x10, 0x10, 0x10, 0x10)
"""Those of a system environment, by the GDT that the bare machines and the bare engine have."""


@dataclass(frozen=True, slots=True)
class Case:
    """A snippet and all it starts from.  ``code`` stands at linear address ``at``; HLT ends it."""

    code: bytes
    environment: Environment
    gpr: tuple[int, ...]
    flags: int = 2
    """Arithmetic flags and DF."""
    memory: tuple[tuple[int, bytes], ...] = ()
    """Patches: (linear address, bytes)."""
    at: int = CODE + 0x100
    fx: bytes = b""
    """An FXSAVE image to start from, or nothing: FNINIT's state."""
    max_insns: int = 2000
    ac: bool = False
    """EFLAGS.AC: at CPL 3 the operating system lets the CPU check alignment (CR0.AM)."""

    @property
    def eip(self) -> int:
        return self.at - self.environment.segments[layout.CS].base & 0xFFFF_FFFF

    @property
    def patches(self) -> tuple[tuple[int, bytes], ...]:
        """All of memory that is not background, the code included."""
        return (*self.memory, (self.at, self.code))


@dataclass(slots=True)
class Outcome:
    """What a snippet left."""

    gpr: tuple[int, ...]
    flags: int
    eip: int
    end: tuple[int, int] | str
    """"halt", "timeout", or (vector, error code) of the exception at ``eip``."""
    memory: dict[int, int] = field(default_factory=dict)
    """Bytes that changed, by linear address."""
    fx: FxState | None = None
    insns: int = -1
    """Retired, without the HLT; -1 if the oracle cannot tell."""
    address: int = -1
    """Where a page fault was, if that is known; it is not compared."""


@dataclass(frozen=True, slots=True)
class FxState:
    """x87, MMX and SSE registers as FXSAVE stores them; pointers to the last instruction and operand left out."""

    fcw: int
    fsw: int
    ftw: int
    mxcsr: int
    st: tuple[int, ...]
    """Eight registers of 80 bits, the top of the stack first."""
    xmm: tuple[int, ...]


def parse_fx(image: bytes) -> FxState:
    """The registers in an FXSAVE image (SDM vol. 1, table 10-2)."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(image[at : at + size], "little")

    return FxState(
        number(0, 2), number(2, 2), image[4], number(24, 4),
        tuple(number(32 + 16 * n, 10) for n in range(8)), tuple(number(160 + 16 * n, 16) for n in range(8)),
    )  # fmt: skip


def fx_image(
    st: tuple[int, ...] = (),
    xmm: tuple[int, ...] = (),
    fcw: int = 0x37F,
    fsw: int = 0,
    mxcsr: int = 0x1F80,
    ftw: int | None = None,
) -> bytes:
    """An FXSAVE image with *st* (80-bit values, top first) and *xmm*."""
    image = bytearray(512)
    top = fsw >> 11 & 7
    if ftw is None:
        ftw = sum(1 << (top + n & 7) for n in range(len(st)))
    image[0:2] = fcw.to_bytes(2, "little")
    image[2:4] = fsw.to_bytes(2, "little")
    image[4] = ftw
    image[24:28] = mxcsr.to_bytes(4, "little")
    image[28:32] = (0xFFFF).to_bytes(4, "little")
    for n, value in enumerate(st):
        image[32 + 16 * n : 42 + 16 * n] = value.to_bytes(10, "little")
    for n, value in enumerate(xmm):
        image[160 + 16 * n : 176 + 16 * n] = value.to_bytes(16, "little")
    return bytes(image)


INITIAL_FX: Final = fx_image()


def initial_memory(case: Case) -> dict[int, bytes]:
    """Windows before the case runs."""
    windows = {at: bytearray(data) for at, data in BACKGROUND.items()}
    for address, data in case.patches:
        for at, window in windows.items():
            if at <= address and address + len(data) <= at + len(window):
                window[address - at : address - at + len(data)] = data
                break
        else:
            raise ValueError(f"a patch at {address:#x} of {len(data)} bytes is outside the windows")
    return {at: bytes(window) for at, window in windows.items()}


def changes(before: dict[int, bytes], after: dict[int, bytes]) -> dict[int, int]:
    """Bytes that differ, by linear address."""
    found = {}
    for at, old in before.items():
        new = after[at]
        if old == new:
            continue
        for block in range(0, len(old), 64):
            if old[block : block + 64] != new[block : block + 64]:
                found.update({at + n: new[n] for n in range(block, min(block + 64, len(old))) if old[n] != new[n]})
    return found


def describe(case: Case) -> str:
    """The case for people: mode, registers and disassembly."""
    from translator.decode import disassemble

    names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
    lines = [
        f"{case.environment.name} flags={case.flags:#x} "
        + " ".join(f"{n}={v:#x}" for n, v in zip(names, case.gpr, strict=True))
    ]
    lines += [f"  {at:08x}: {text}" for at, text in disassemble(case.code, case.eip, case.environment.code32)]
    lines.append(f"  bytes: {case.code.hex(' ')}")
    lines += [f"  [{at:#x}] = {data.hex(' ')}" for at, data in case.memory]
    return "\n".join(lines)


def differences(case: Case, expected: Outcome, got: Outcome, flags_mask: int = FLAGS, fx: bool = True) -> list[str]:
    """What differs, a line each."""
    names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
    found = []
    if expected.end != got.end:
        found.append(f"end: expected {expected.end}, got {got.end}")
    if expected.eip != got.eip:
        found.append(f"eip: expected {expected.eip:#x}, got {got.eip:#x}")
    for name, want, have in zip(names, expected.gpr, got.gpr, strict=True):
        if want != have:
            found.append(f"{name}: expected {want:#x}, got {have:#x}")
    if (expected.flags ^ got.flags) & flags_mask:
        found.append(f"flags: expected {expected.flags & flags_mask:#x}, got {got.flags & flags_mask:#x}")
    if expected.memory != got.memory:
        for at in sorted(expected.memory.keys() | got.memory.keys()):
            want, have = (o.memory.get(at, -1) for o in (expected, got))
            if want != have:
                text = ["unchanged" if b < 0 else f"{b:#04x}" for b in (want, have)]
                found.append(f"[{at:#x}]: expected {text[0]}, got {text[1]}")
    if fx and expected.fx is not None and got.fx is not None and expected.fx != got.fx:
        for part in ("fcw", "fsw", "ftw", "mxcsr"):
            a, b = getattr(expected.fx, part), getattr(got.fx, part)
            if a != b:
                found.append(f"{part}: expected {a:#x}, got {b:#x}")
        for part in ("st", "xmm"):
            for n, (a, b) in enumerate(zip(getattr(expected.fx, part), getattr(got.fx, part), strict=True)):
                if a != b:
                    found.append(f"{part}{n}: expected {a:#x}, got {b:#x}")
    if expected.insns >= 0 and got.insns >= 0 and expected.insns != got.insns:
        found.append(f"retired: expected {expected.insns}, got {got.insns}")
    return found
