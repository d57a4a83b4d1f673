"""Builds the compute kernels: freestanding C, ``gcc -m32 -O2``, multiboot 1 ELF files.

As a command: ``python -m perf.kernels.build [NAME...]`` prints the paths.  Results are kept in ``build/kernels`` by a
hash of all that goes into them.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).parent
SCRIPT = SOURCES / "kernel.ld"
CACHE = SOURCES.parents[1] / "build" / "kernels"
FLAGS = shlex.split(
    "-m32 -O2 -std=gnu11 -march=i686 -ffreestanding -nostdlib -nostdinc -static -fno-pic -no-pie "
    "-fno-stack-protector -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns "
    "-fcf-protection=none -Wall -Wextra -Werror -Wno-main -Wl,--build-id=none -Wl,-z,noexecstack"
)
EXTRA_FLAGS = {"sse2": ("-msse2", "-mfpmath=sse")}
COMMON = ("start.S", "runtime.c")
EMPTY = "empty"
"""The kernel that does nothing: its run is the start-up of a machine."""

KERNELS = tuple(sorted(path.stem for path in SOURCES.glob("*.c") if path.stem not in {"runtime", EMPTY}))


class BuildError(Exception):
    """The compiler is missing or refused a kernel."""


def compiler_includes() -> list[str]:
    """gcc's own headers (``stdint.h``, ``emmintrin.h``) without the host's C library.  Raises ``BuildError``."""
    if not shutil.which("gcc"):
        raise BuildError("gcc is not installed")
    result = subprocess.run(["gcc", "-print-file-name=include"], capture_output=True, text=True, check=True)
    return ["-isystem", result.stdout.strip()]


def build(name: str) -> Path:
    """The path of the kernel *name*, built if its sources changed.  Raises ``BuildError``."""
    if name != EMPTY and name not in KERNELS:
        raise BuildError(f"there is no kernel {name!r}; there are {', '.join(KERNELS)}")
    command = [*FLAGS, *EXTRA_FLAGS.get(name, ()), *compiler_includes()]
    return compile_image(name, command, [SOURCES / file for file in (*COMMON, f"{name}.c")], [SOURCES / "runtime.h"])


def compile_image(name: str, flags: Sequence[str], sources: Sequence[Path], headers: Sequence[Path]) -> Path:
    """The multiboot image of *sources*, built if these, *headers* or *flags* changed.  Raises ``BuildError``."""
    return compile_program(name, [*flags, f"-Wl,-T,{SCRIPT}"], sources, [*headers, SCRIPT])


def compile_program(name: str, flags: Sequence[str], sources: Sequence[Path], others: Sequence[Path] = ()) -> Path:
    """The ELF file of *sources*, built if these, the *others* or *flags* changed.  Raises ``BuildError``."""
    if not shutil.which("gcc"):
        raise BuildError("gcc is not installed")
    digest = hashlib.sha256("\0".join(flags).encode())
    for file in (*sources, *others):
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise BuildError(f"{file}: {error.strerror}") from None
    target = CACHE / f"{name}-{digest.hexdigest()[:16]}.elf"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    command = ["gcc", *flags, "-o", str(partial), *map(str, sources)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(f"gcc cannot build {name}: {result.stderr.strip()}")
    partial.replace(target)
    return target


def main() -> int:
    """Build the named kernels, or all."""
    try:
        for name in sys.argv[1:] or (EMPTY, *KERNELS):
            print(build(name))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
