"""The processor's state at a guest's first instruction, and how to take it on."""

from __future__ import annotations

from dataclasses import dataclass, field

from translator.layout import CS
from vmm.loaders.options import Kind, Mode
from vmm.vcpu import CR0_ET, CR0_PE, VCpu

RESET_CR0 = 0x6000_0010
"""CD, NW and ET set (SDM vol. 3, 9.1.1)."""


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment register: selector, base, limit (last valid offset), attributes as for ``VCpu.set_segment``."""

    selector: int
    base: int
    limit: int
    attr: int


@dataclass(frozen=True, slots=True)
class Medium:
    """A disk for the firmware: BIOS drive number and, for a floppy, its geometry (0 where it has none)."""

    drive: int
    sectors: int
    """Sectors of 512 bytes (2048 on a CD-ROM)."""
    cylinders: int = 0
    heads: int = 0
    sectors_per_track: int = 0


@dataclass(frozen=True, slots=True)
class EntryState:
    """Where and how the guest starts."""

    kind: Kind
    mode: Mode
    eip: int
    """The offset in CS of the first instruction."""
    gpr: tuple[int, ...]
    """EAX ECX EDX EBX ESP EBP ESI EDI."""
    segments: tuple[SegmentState, ...]
    """ES CS SS DS FS GS."""
    cr0: int = RESET_CR0
    eflags: int = 2
    gdtr: tuple[int, int] = (0, 0xFFFF)
    """(linear base, limit)."""
    idtr: tuple[int, int] = (0, 0xFFFF)
    firmware: bool = False
    """The image counts on a BIOS: start the firmware and give it the medium or ROM.  The registers are then
    what the BIOS would hand over."""
    medium: Medium | None = None
    """The image is this medium."""
    roms: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)
    """Read-only memory that the board maps: (physical address, content)."""

    @property
    def linear(self) -> int:
        """The linear address of the first instruction."""
        return self.segments[CS].base + self.eip & 0xFFFF_FFFF


def registers(**values: int) -> tuple[int, ...]:
    """Eight general registers from ``eax=...``; the others are 0."""
    names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
    return tuple(values.get(name, 0) for name in names)


def real_mode(
    kind: Kind, linear: int, *, drive: int = 0, firmware: bool = False, medium: Medium | None = None
) -> EntryState:
    """Real mode at the *linear* address below 1 MiB, the stack below 7C00h, DL the BIOS drive.

    CS is 0 for the first 64 KiB and then a multiple of 1000h: 0000:7C00, not 07C0:0000.
    """
    data = SegmentState(0, 0, 0xFFFF, 0x93)
    base = linear & 0xF_0000
    code = SegmentState(base >> 4, base, 0xFFFF, 0x9B)
    return EntryState(
        kind=kind,
        mode=Mode.REAL16,
        eip=linear & 0xFFFF,
        gpr=registers(edx=drive, esp=0x7C00),
        segments=(data, code, data, data, data, data),
        firmware=firmware,
        medium=medium,
    )


FLAT_CODE = 0xC09B
"""Present, DPL 0, code, readable, accessed, 32-bit, limit in pages."""
FLAT_DATA = 0xC093
FLAT_DESCRIPTORS = {FLAT_CODE: 0x00CF_9B00_0000_FFFF, FLAT_DATA: 0x00CF_9300_0000_FFFF}


def flat_gdt(code: int, data: int) -> bytes:
    """A GDT with flat code and data descriptors at these selectors."""
    table = bytearray(max(code, data) + 8)
    for selector, attr in ((code, FLAT_CODE), (data, FLAT_DATA)):
        table[selector : selector + 8] = FLAT_DESCRIPTORS[attr].to_bytes(8, "little")
    return bytes(table)


def flat_mode(kind: Kind, eip: int, gpr: tuple[int, ...], *, gdt: int, code: int = 8, data: int = 16) -> EntryState:
    """Flat protected mode at *eip*, interrupts off, no IDT, with ``flat_gdt(code, data)`` at the address *gdt*."""
    flat = SegmentState(data, 0, 0xFFFF_FFFF, FLAT_DATA)
    return EntryState(
        kind=kind,
        mode=Mode.FLAT32,
        eip=eip,
        gpr=gpr,
        segments=(flat, SegmentState(code, 0, 0xFFFF_FFFF, FLAT_CODE), flat, flat, flat, flat),
        cr0=CR0_PE | CR0_ET,
        gdtr=(gdt, max(code, data) + 7),
        idtr=(0, 0),
    )


def enter(cpu: VCpu, state: EntryState) -> None:
    """Put *cpu*, freshly reset, into *state*."""
    cpu.cr0 = state.cr0
    cpu.gdtr = state.gdtr
    cpu.idtr = state.idtr
    for n, value in enumerate(state.gpr):
        cpu.write_reg(n, 4, value)
    for n, segment in enumerate(state.segments):
        cpu.set_segment(n, segment.selector, segment.base, segment.limit, segment.attr)
    cpu.eflags = state.eflags
    cpu.eip = cpu.next_eip = state.eip
    cpu.cpl = 0
    cpu.on_control_change("cr0")
