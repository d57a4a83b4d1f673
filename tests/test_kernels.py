"""The compute kernels print what the same C code computes on the real processor (``perf/kernels/checksums.txt``)."""

import shutil
from pathlib import Path

import pytest

from perf.kernels.build import KERNELS, SOURCES, build
from perf.peers import Qemu
from vmm.loaders import Image, Kind, recognise

CHECKSUMS = dict(line.split() for line in (SOURCES / "checksums.txt").read_text().splitlines())

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is needed")


def test_every_kernel_has_a_checksum() -> None:
    assert set(CHECKSUMS) == set(KERNELS)


@needs_gcc
def test_kernels_are_multiboot_images_and_built_once() -> None:
    path = build("sieve")
    assert build("sieve") == path
    with Image.open(path) as image:
        assert recognise(image) is Kind.MULTIBOOT1
    assert path.parent == Path(__file__).parents[1] / "build" / "kernels"


@needs_gcc
@pytest.mark.oracle
@pytest.mark.skipif(bool(Qemu().missing()), reason="QEMU is needed")
@pytest.mark.parametrize("name", KERNELS)
def test_qemu_computes_the_checksum(name: str) -> None:
    assert Qemu().run(build(name)).output == f"{name} {CHECKSUMS[name]}"
