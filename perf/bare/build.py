"""Builds these guests: each for sizes that are compiled in."""

from __future__ import annotations

from pathlib import Path

from perf.kernels.build import COMMON, FLAGS, compile_image, compiler_includes
from perf.kernels.build import SOURCES as RUNTIME

SOURCES = Path(__file__).parent


def build(source: str, **sizes: int) -> Path:
    """The multiboot image of *source*, a file here, with *sizes* as macros.  Raises ``BuildError``."""
    macros = [f"-D{name}={value}" for name, value in sizes.items()]
    flags = [*FLAGS, f"-I{RUNTIME}", *macros, *compiler_includes()]
    name = "-".join([Path(source).stem, *map(str, sizes.values())])
    return compile_image(name, flags, [*(RUNTIME / file for file in COMMON), SOURCES / source], [RUNTIME / "runtime.h"])
