"""One ROM, three machines: QEMU, Bochs and ours run the same cases; what they dump must be equal.

A case is a snippet of code that starts by an IRET frame in fresh tables and ends in a handler of ring 0
(``int 0x60``, or a fault).  The dump is the registers there, all descriptor tables, TSSs and stack tops.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.protection.interpreter import Interpreter
from tests.protection.machine import make_cpu
from tests.protection.tables import (
    GDT,
    KCODE,
    KDATA,
    LDT,
    R1CODE,
    R1DATA,
    R2CODE,
    R2DATA,
    TARGET,
    TSS_A_SEL,
    TSS_B_SEL,
    TSS_MAIN,
    UCODE,
    UDATA,
    tables,
)
from tests.support import bochs

HERE = Path(__file__).parent

WORDS = (
    *("CR0", "LDTR", "TR", "EFLAGS", "SS", "GS", "FS", "ES", "DS"),
    *("EDI", "ESI", "EBP", "ESP", "EBX", "EDX", "ECX", "EAX", "vector"),
)
REGIONS = (
    ("dump", 0, 4 * len(WORDS) + 4),
    ("tables", GDT, 0x580),
    *(("stack", top - 0x40, 0x40) for top in range(0x5000, 0xD000 + 0x40, 0x1000)),
)
ACCESS_WORDS = [f"[{address + 4:x}]" for address in range(GDT, LDT + 0x80, 8)]
"""The upper halves of all descriptors."""
STACK_WORDS = [f"[{address + at:x}]" for name, address, size in REGIONS if name == "stack" for at in range(0, size, 4)]
BEGIN, END = b"<<<<", b">>>>"
RECORD = sum(size for _, _, size in REGIONS)


@dataclass
class Case:
    """*code* (nasm) runs at ring *ring* in 32-bit flat segments unless *frame* says otherwise."""

    name: str
    code: str
    ring: int = 0
    eflags: int = 2
    patches: dict[int, int] = field(default_factory=dict)
    """Linear address -> 64-bit value, stored into the tables."""
    frame: tuple[object, ...] | None = None
    """IRET's frame: EIP CS EFLAGS [ESP SS [ES DS FS GS]]; nasm expressions, ``code`` is the snippet's label."""
    bits: int = 32

    def image(self, label: str) -> str:
        if self.frame is not None:
            frame = self.frame
        else:
            cs = (KCODE, R1CODE | 1, R2CODE | 2, UCODE | 3)[self.ring]
            frame = ("code", cs, self.eflags)
            if self.ring:
                frame = (*frame, 0x9000, (KDATA, R1DATA | 1, R2DATA | 2, UDATA | 3)[self.ring])
        words = [str(word).replace("code", f"{label}_code") for word in frame]
        pairs = [
            f"0x{a + 4 * half:x}, 0x{value >> 32 * half & 0xFFFFFFFF:x}"
            for a, value in self.patches.items()
            for half in (0, 1)
        ]
        patches = f"        dd {', '.join(pairs)}\n" if pairs else ""
        return (
            f"{label}: dd {len(pairs)}\n{patches}        dd {len(words)}\n        dd {', '.join(words)}\n"
            f"        bits {self.bits}\n{label}_code:\n{self.code}\n        int 0x60\n        align 4, db 0x90\n"
        )


def build(cases: list[Case], folder: Path) -> bytes:
    """Assemble the ROM (128 KiB) of *cases*."""
    lower = (
        f"        org 0xE0000\ntarget equ 0x{TARGET:x}\n        dd "
        + ", ".join(f"case_{n}" for n in range(len(cases)))
        + ", last\n"
        + "".join(case.image(f"case_{n}") for n, case in enumerate(cases))
        + "last: dd 0, 0\n        times 0x10000 - ($ - $$) db 0\n"
    )
    upper = (
        (HERE / "rom.asm").read_text()
        + "        times 0x7000 - ($ - $$) db 0\ntables: incbin 'tables.bin'\ntables_end:\n"
        + "        times 0xFFF0 - ($ - $$) db 0\n        bits 16\n        jmp 0xF000:start - 0xF0000\n"
        + "        times 0x10000 - ($ - $$) db 0\n"
    )
    (folder / "tables.bin").write_bytes(tables())
    rom = b""
    for name, source in (("lower", lower), ("upper", upper)):
        (folder / f"{name}.asm").write_text(source)
        subprocess.run(["nasm", "-f", "bin", f"{name}.asm", "-o", f"{name}.bin"], cwd=folder, check=True)
        rom += (folder / f"{name}.bin").read_bytes()
    return rom


def split(output: bytes) -> list[bytes]:
    """The records between the two marks."""
    output = output.split(BEGIN, 1)[-1].split(END, 1)[0]
    return [output[at : at + RECORD] for at in range(0, len(output), RECORD)]


def run_ours(rom: bytes, cases: int) -> list[bytes]:
    cpu, memory = make_cpu()
    memory.data[0xE0000:] = rom
    memory.rom = 0xE0000
    interpreter = Interpreter(cpu, memory)
    interpreter.run(500 * cases + 500)
    return split(bytes(interpreter.output))


_QEMU = ("-M", "pc", "-bios", "rom.bin", "-display", "none", "-debugcon", "file:qemu.out", "-no-reboot")
_QEMU_EXIT = ("-device", "isa-debug-exit,iobase=0xf4")


def run_qemu(rom: bytes, folder: Path) -> list[bytes]:
    (folder / "rom.bin").write_bytes(rom)
    subprocess.run(["qemu-system-i386", *_QEMU, *_QEMU_EXIT], cwd=folder, timeout=60, check=False)
    return split((folder / "qemu.out").read_bytes())


_BOCHS_CPU = "model=p3_katmai, ips=50000000, reset_on_triple_fault=0"


def run_bochs(rom: bytes, folder: Path) -> list[bytes]:
    (folder / "rom.bin").write_bytes(rom)
    return split(bochs.run(folder, 0xFFFE_0000, _BOCHS_CPU, 16, 60))


def fields(record: bytes) -> dict[str, int]:
    """A dump by name: the handler's registers, and each double word of tables and stacks by address."""
    dump = dict(zip((*WORDS, "handler ESP"), struct.unpack_from(f"<{len(WORDS) + 1}I", record), strict=True))
    offset = 4 * len(WORDS) + 4
    for _, address, size in REGIONS[1:]:
        for at in range(0, size, 4):
            (dump[f"[{address + at:x}]"],) = struct.unpack_from("<I", record, offset + at)
        offset += size
    return dump


def _mask(dump: dict[str, int], keys: Iterable[str], bits: int) -> None:
    for key in keys:
        dump[key] |= bits


def tolerate_bochs(ours: dict[str, int], theirs: dict[str, int]) -> None:
    """Where Bochs differs from the SDM, or the SDM leaves it open."""
    if ours["vector"] == 8:  # an abort, not a fault: RF is not set in its image
        for dump in (ours, theirs):
            _mask(dump, [f"[{TSS_MAIN + 0x24:x}]"], 0x1_0000)
    if theirs["EDI"] >> 16 == 0xFFFF:  # a 16-bit TSS leaves the upper halves undefined; Bochs sets them
        for key, value in theirs.items():
            for half in (0xFFFF, 0xFFFF_0000):
                if value & half == half:
                    ours[key] |= half
    if ours["TR"] in (TSS_A_SEL, TSS_B_SEL) and ours["vector"] in (10, 11, 12):
        # the segments of a task that cannot be entered: Bochs checks CS last
        for dump in (ours, theirs):
            _mask(dump, ACCESS_WORDS, 0x100)
    if ours["vector"] == 13:  # Bochs pushes the return address before it checks the target's offset
        for key in STACK_WORDS:
            if not ours[key]:
                theirs[key] = 0


def tolerate_qemu(ours: dict[str, int], theirs: dict[str, int]) -> None:
    """QEMU sets no accessed bits when it delivers interrupts, nor RF in the image of a fault."""
    for dump in (ours, theirs):
        _mask(dump, ACCESS_WORDS, 0x100)
        _mask(dump, [key for key in dump if key.startswith("[")], 0x1_0000)


def differences(
    ours: bytes, theirs: bytes, tolerate: Callable[[dict[str, int], dict[str, int]], None]
) -> dict[str, tuple[str, str]]:
    """What two dumps disagree on: {name: (ours, theirs)}."""
    one, other = fields(ours), fields(theirs)
    tolerate(one, other)
    return {key: (hex(one[key]), hex(other[key])) for key in one if one[key] != other[key]}
