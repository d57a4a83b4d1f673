"""Builds the guests of our own, and says how each one starts and ends.

``build("rings")`` gives the path of the image, made by nasm or gcc when a source changed and kept in ``build/guests``.
``GUESTS`` is the table; ``expected(name)`` is the text that the guest prints on port E9h.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
CACHE = SOURCES.parents[1] / "build" / "guests"
EXPECTED = SOURCES / "expected"

GCC_FLAGS = shlex.split(
    "-m32 -O2 -std=gnu11 -march=i686 -ffreestanding -nostdlib -static -fno-pic -no-pie "
    "-fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -mgeneral-regs-only -Wall "
    "-Wextra -Werror -Wl,--build-id=none"
)

TRIPLE_FAULT, HALTED, TIMEOUT = 6, 10, 124
"""How a run ends that does not end through port F4h: the exit status of ``vmm``."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest.

    ``boot`` is what the image is: ``sector`` (one boot sector that needs no BIOS: flat at 7C00h, or a floppy),
    ``floppy`` and ``disk`` (they call the BIOS), ``kernel`` (multiboot 1).
    """

    boot: str
    status: int = 1
    """The exit status: odd by isa-debug-exit, or one of the three above."""
    qemu: bool = True
    """Does QEMU's TCG do what the hardware does?  If not, the expected text is the manual's."""
    arguments: tuple[str, ...] = ()
    """More of ``vmm``'s arguments, which QEMU takes as well."""
    why: str = ""
    """Why QEMU is no oracle, or must be told more."""
    append: str = ""
    module: bytes = b""
    cpu: str = ""
    """QEMU's -cpu, where its default lacks what the guest asks for."""


CPU = "qemu32,+nx"

BROKEN = (
    *("-device", "broken-ram,address=0x423456,bit=3,stuck=1"),
    *("-device", "broken-ram,address=0x424000,bit=0,stuck=0"),
)

GUESTS = {
    "bios_floppy": Guest("floppy", 0x21),
    "bios_disk": Guest("disk", 0x21),
    "ticks": Guest("kernel", 0x2B, append="a=b c", module=bytes(range(100))),
    "faults": Guest("kernel"),
    "rings": Guest("kernel"),
    "v86": Guest("kernel"),
    "paging": Guest("kernel", cpu=CPU, why="its default CPU has no NX"),
    "paging_outside": Guest("kernel", TRIPLE_FAULT, qemu=False, why="it reads 0 where nobody answers, hardware ones"),
    "processes": Guest("kernel", cpu=CPU, why="its default CPU has no NX"),
    "prisoner": Guest("kernel", cpu=CPU, why="its default CPU has no NX"),
    "lazy_fpu": Guest("kernel"),
    "breakpoints": Guest("kernel"),
    "breakpoints_spaces": Guest("kernel"),
    "breakpoints_manual": Guest("kernel", qemu=False, why="it forgets which of two breakpoints was met"),
    "port_breakpoints": Guest("kernel"),
    "port_breakpoints_manual": Guest("kernel", qemu=False, why="it ends REP INS after one step, and aligns no port"),
    "alignment": Guest("kernel", qemu=False, why="TCG checks no alignment"),
    "broken_ram": Guest("kernel", qemu=False, arguments=BROKEN, why="it has no such device"),
    "single_step": Guest("kernel"),
    "prisoner_limits": Guest("kernel", qemu=False, why="TCG checks no limits, and reads before it modifies"),
    "tasks": Guest("kernel"),
    "segment_loads": Guest("kernel"),
    "straddle": Guest("kernel"),
    "global_pages": Guest("kernel"),
    "anywhere": Guest("kernel"),
    "iret": Guest("kernel"),
    "shared_table": Guest("kernel"),
    "spaces": Guest("kernel"),
    "ahead": Guest("kernel"),
    "invlpg": Guest("kernel"),
    "sysenter": Guest("kernel"),
    "quick_ports": Guest("kernel"),
    "segment_loads_limits": Guest("kernel", qemu=False, why="TCG checks no limits"),
    "protection": Guest("kernel", qemu=False, why="TCG checks no limits and no segment types at a use"),
    "selfmod16": Guest("sector"),
    "selfmod32": Guest("kernel"),
    "undefined": Guest("sector"),
    "undefined_unhandled": Guest("sector", TRIPLE_FAULT),
    "triple_fault": Guest("sector", TRIPLE_FAULT),
    "halt": Guest("sector", HALTED),
    "loop": Guest("sector", TIMEOUT),
    "rom_write": Guest("sector"),
    "unmapped_jump": Guest("kernel", qemu=False, why="where nobody answers QEMU reads 0, hardware FFh"),
    "ports_read": Guest(
        "kernel", arguments=("-nodefaults",), why="QEMU's 16550A aborts on a word access across its end"
    ),
    "ports_write": Guest(
        "kernel", arguments=("-nodefaults",), why="QEMU's 16550A aborts on a word access across its end"
    ),
}


class BuildError(Exception):
    """nasm or gcc is missing or refused a source."""


def inputs(source: Path) -> list[Path]:
    """A source with the include files of its folder; any of them may matter."""
    patterns = ("*.inc",) if source.suffix == ".asm" else ("*.c", "*.h", "*.ld")
    return [source, *sorted(file for pattern in patterns for file in SOURCES.glob(pattern))]


def build(name: str) -> Path:
    """The image of the guest *name*.  Raises ``BuildError``."""
    assembly = SOURCES / f"{name}.asm"
    source = assembly if assembly.exists() else SOURCES / f"{name}.c"
    digest = hashlib.sha256(" ".join(GCC_FLAGS).encode())
    for file in inputs(source):
        digest.update(file.read_bytes())
    target = CACHE / f"{name}-{digest.hexdigest()[:16]}.img"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    if source.suffix == ".asm":
        command = ["nasm", "-f", "bin", "-Wall", f"-I{SOURCES}/", "-o", str(partial), str(source)]
    else:
        script = f"-Wl,-T,{SOURCES / 'kernel.ld'}"
        command = ["gcc", *GCC_FLAGS, script, "-o", str(partial), str(source)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is not installed") from None
    if result.returncode:
        raise BuildError(f"the guest {name} cannot be built: {result.stderr.strip()}")
    partial.replace(target)
    return target


def module_file(name: str) -> Path:
    """The module of a guest that wants one, as a file."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{name}.module"
    path.write_bytes(GUESTS[name].module)
    return path


def expected(name: str) -> str:
    """What the guest prints on port E9h, without the lines that depend on the machine."""
    return (EXPECTED / f"{name}.txt").read_text()


def normalise(output: bytes) -> str:
    """A guest's output as ``expected`` has it: line feeds only, no lines that begin with #."""
    lines = output.decode("latin-1").replace("\r\n", "\n").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))
