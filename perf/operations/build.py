"""Builds the nanobenchmark guests: ``gcc -m32``, multiboot 1 ELF files, one for each operation and number of them."""

from __future__ import annotations

import shlex
from pathlib import Path

from perf.kernels.build import BuildError, compile_image

SOURCES = Path(__file__).parent
HARNESS = "harness"
EMPTY = "empty"
"""The operation that does nothing: its run is the cost of the loop and of all that comes before it."""
UNROLLED = 4
"""Operations in a round of the loop (``harness.S``)."""
FLAGS = shlex.split("-m32 -nostdlib -static -fno-pic -no-pie -Wl,--build-id=none -Wl,-z,noexecstack")

OPERATIONS = tuple(sorted(path.stem for path in SOURCES.glob("*.S") if path.stem not in {HARNESS, EMPTY}))


def build(operation: str, count: int) -> Path:
    """The image that executes *operation* *count* times, a multiple of ``UNROLLED``.  Raises ``BuildError``."""
    if operation != EMPTY and operation not in OPERATIONS:
        raise BuildError(f"there is no operation {operation!r}; there are {', '.join(OPERATIONS)}")
    if count < UNROLLED or count % UNROLLED:
        raise BuildError(f"an operation is executed a multiple of {UNROLLED} times, not {count}")
    source, harness = SOURCES / f"{operation}.S", SOURCES / f"{HARNESS}.S"
    return compile_image(f"nano-{operation}-{count}", [*FLAGS, f"-DITERATIONS={count}"], [source], [harness])
