"""IN and OUT: IOPL, the bitmap, its end."""

from __future__ import annotations

import pytest

from tests.protection.machine import make_cpu
from tests.protection.tables import TSS_MAIN, TSS_SEL, protected_cpu
from translator.layout import TR, VM
from vmm.errors import GuestFault
from vmm.iopermission import check_port

# The bitmap of the main TSS forbids ports 52h and 55h and ends after port 1FFh.
ROWS = [
    (0x51, 1, True),
    (0x52, 1, False),
    (0x51, 2, False),
    (0x53, 2, True),
    (0x54, 2, False),
    (0x56, 4, True),
    (0x4F, 4, False),
    (0x1FF, 1, True),
    (0x1FF, 2, False),
    (0x200, 1, False),
    (0xFFFF, 1, False),
]


@pytest.mark.parametrize("v86", [False, True])
@pytest.mark.parametrize(("port", "size", "allowed"), ROWS)
def test_bitmap(port: int, size: int, allowed: bool, v86: bool) -> None:
    cpu, _ = protected_cpu(3)
    cpu.eflags = VM | 0x3000 if v86 else 0x2000
    if allowed:
        check_port(cpu, port, size)
        return
    with pytest.raises(GuestFault) as caught:
        check_port(cpu, port, size)
    assert (caught.value.vector, caught.value.error) == (13, 0)


@pytest.mark.parametrize(("ring", "iopl"), [(0, 0), (1, 1), (2, 3), (3, 3)])
def test_iopl_is_enough(ring: int, iopl: int) -> None:
    cpu, _ = protected_cpu(ring)
    cpu.eflags = iopl << 12
    check_port(cpu, 0x52, 4)


def test_real_mode() -> None:
    check_port(make_cpu()[0], 0x52, 4)


@pytest.mark.parametrize(("limit", "attr"), [(0x66, 0x8B), (0x91, 0x8B), (0xC8, 0x83), (0, 0)])
def test_no_bitmap(limit: int, attr: int) -> None:
    cpu, _ = protected_cpu(3)
    cpu.set_segment(TR, TSS_SEL, TSS_MAIN, limit, attr)
    with pytest.raises(GuestFault):
        check_port(cpu, 0x50, 1)
