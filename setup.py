"""What is compiled: the floors that run while the guest waits, by mypyc, from the same source that Python interprets.

Without a C compiler or Python's headers, or with ``BTVMM_INTERPRETED=1``, nothing is compiled and everything runs
interpreted, slower.  The rest is in ``pyproject.toml``.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError, LinkError

WHOLE = ("translator", "translator/expand", "cache", "vmm/mmu", "vmm/callouts")
"""Folders that are compiled but for nothing."""
ENGINE = (
    "alignment",
    "apics",
    "breakpoints",
    "budget",
    "contexts",
    "engine",
    "faults",
    "flags",
    "fragments",
    "host",
    "interrupts",
    "iopermission",
    "memo",
    "modes",
    "msr",
    "physical",
    "quickports",
    "scheduler",
    "segmentation",
    "stack",
    "stepping",
    "stopwatch",
    "stubs",
    "tasks",
    "transfers",
    "translations",
    "vcpu",
)
"""Modules of vmm that are compiled."""
FLOORS = ("translator", "cache", "vmm")


class Compile(build_ext):
    """All or nothing: half an engine would not start, and a new one is made each time, to be newer than its source."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.force = True

    def run(self) -> None:
        if self.inplace:
            forget()
        try:
            super().run()
        except (BaseError, CompileError, LinkError) as error:
            self.warn(f"not compiled, so that it runs interpreted, slower: {error}")
            for extension in self.extensions:
                with suppress(FileNotFoundError):
                    Path(self.get_ext_fullpath(extension.name)).unlink()
            self.extensions = []


def forget() -> None:
    """Take away what was compiled in place before: Python would import it instead of the source."""
    for floor in FLOORS:
        for module in Path(floor).rglob("*.so"):
            module.unlink()


def extensions() -> list[Extension]:
    """What mypyc makes of the sources: one library, and a small module for each source."""
    if sys.argv[1:2] in (["egg_info"], ["dist_info"]):  # only the metadata are wanted; mypyc takes its time
        return []
    if os.environ.get("BTVMM_INTERPRETED"):
        forget()
        return []
    sources = [str(path) for folder in WHOLE for path in sorted(Path(folder).glob("*.py"))]
    sources += [f"vmm/{name}.py" for name in ENGINE]
    options = ["--config-file=", "--ignore-missing-imports"]  # libraries are not there while a wheel is built
    try:
        made: list[Extension] = mypycify([*options, *sources], group_name="btvmm", opt_level="1", debug_level="0")
    except SystemExit:  # it has said why
        forget()
        return []
    return made


setup(ext_modules=extensions(), cmdclass={"build_ext": Compile})
