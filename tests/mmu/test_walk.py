"""The walker: every fault and every right, row by row, from the manual (SDM vol. 3, chapter 4)."""

from __future__ import annotations

import itertools

import pytest

from tests.mmu.machine import (
    DIRECTORY,
    FRAME,
    NX,
    PAGE,
    POINTERS,
    PS,
    RAM,
    TABLE,
    WINDOW,
    A,
    D,
    Format,
    G,
    P,
    Paged,
    U,
    W,
    page_fault,
)  # fmt: skip
from vmm.errors import GuestFault

TWO, PSE, PAE, PAE_NX = Format(), Format(pse=True), Format(pae=True), Format(pae=True, nxe=True)
NO_WP = {form: Format(form.pae, form.pse, form.nxe, wp=False) for form in (TWO, PSE, PAE, PAE_NX)}
AT = WINDOW + 0x123
RW = P | W | U
HOW = ("read", "write", "fetch")


def rights_by_manual(upper: int, lower: int, how: str, user: bool, form: Format) -> int:
    """Error code of an access, or -1: SDM vol. 3, 4.6.1 and 4.7, without execute-disable."""
    write = how == "write"
    code = (2 if write else 0) | (4 if user else 0) | (16 if how == "fetch" and form.nxe else 0)
    if not upper & P or not lower & P:
        return code
    both = upper & lower
    refused = user and not both & U
    refused |= write and not both & W and (user or form.wp)
    return code | 1 if refused else -1


@pytest.mark.parametrize("form", [TWO, PAE, PAE_NX, NO_WP[TWO], NO_WP[PAE_NX]])
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("how", HOW)
def test_rights_of_both_levels(form: Format, user: bool, how: str) -> None:
    machine = Paged(form)
    for upper, lower in itertools.product(range(8), range(8)):
        machine.map(WINDOW, FRAME, lower, upper)
        error = rights_by_manual(upper, lower, how, user, form)
        expected = FRAME + 0x123 if error < 0 else (error, AT)
        assert machine.access(how, AT, user) == expected, (upper, lower)
        dirty = D if how == "write" else 0
        marks = (machine.get(machine.upper(AT)) & (A | D), machine.get(machine.lower(AT)) & (A | D))
        assert marks == ((A, A | dirty) if error < 0 else (0, 0)), (upper, lower)


@pytest.mark.parametrize("form", [PSE, PAE_NX, NO_WP[PSE]])
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("how", HOW)
def test_rights_of_large_pages(form: Format, user: bool, how: str) -> None:
    machine = Paged(form)
    for rights in range(8):
        machine.put(machine.upper(AT), PS | rights)
        error = rights_by_manual(rights, rights, how, user, form)
        linear = WINDOW + form.large - 5
        assert machine.access(how, linear, user) == (form.large - 5 if error < 0 else (error, linear)), rights
        marks = 0 if error >= 0 else A | D if how == "write" else A
        assert machine.get(machine.upper(AT)) & (A | D) == marks, rights


RESERVED = [
    # format, directory entry, table entry, the fault is by a reserved bit
    (PSE, PS | RW | 1 << 21, 0, True),
    *((PSE, PS | RW | 1 << bit, 0, True) for bit in range(13, 21)),
    (PSE, PS | RW | 1 << 12, 0, False),
    (TWO, TABLE | PS | RW, FRAME | RW, False),  # without CR4.PSE the bit is nobody's
    (TWO, TABLE | RW, FRAME | RW | PS | G | 0xE00, False),
    (PSE, PS | 1 << 21, 0, False),  # not present: nothing is checked
    *((PAE, TABLE | RW | 1 << bit, FRAME | RW, True) for bit in (36, 40, 51, 52, 62, 63)),
    *((PAE, TABLE | RW, FRAME | RW | 1 << bit, True) for bit in (36, 40, 51, 52, 62, 63)),
    *((PAE_NX, TABLE | RW | 1 << bit, FRAME | RW, True) for bit in (36, 62)),
    *((PAE, PS | RW | 1 << bit, 0, True) for bit in (13, 16, 20, 36, 63)),
    (PAE, PS | RW | 1 << 12, 0, False),
    (PAE_NX, PS | RW | NX, 0, False),
    (PAE_NX, TABLE | RW | NX, FRAME | RW | NX, False),
    (PAE, TABLE | RW | 1 << 36, 0, True),  # found before the table is looked at
    (PAE, TABLE | RW, 1 << 36, False),
    (PAE, 1 << 36, 0, False),
    (PAE, TABLE | P | 1 << 36, FRAME | P, True),  # and before rights are
]


@pytest.mark.parametrize(("form", "upper", "lower", "reserved"), RESERVED)
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("how", HOW)
def test_reserved_bits(form: Format, upper: int, lower: int, reserved: bool, user: bool, how: str) -> None:
    machine = Paged(form)
    machine.put(TABLE, lower)
    machine.put(machine.upper(WINDOW), upper)
    outcome = machine.access(how, WINDOW, user)
    fetch = 16 if how == "fetch" and form.nxe else 0
    code = (2 if how == "write" else 0) | (4 if user else 0) | fetch
    if reserved:
        assert outcome == (code | 9, WINDOW)
        assert (machine.get(machine.upper(WINDOW)), machine.get(TABLE)) == (upper, lower)
    else:
        assert not isinstance(outcome, tuple) or not outcome[0] & 8


@pytest.mark.parametrize(("upper", "lower"), [(NX, 0), (0, NX), (NX, NX)])
@pytest.mark.parametrize("user", [False, True])
def test_execute_disable(upper: int, lower: int, user: bool) -> None:
    machine = Paged(PAE_NX)
    machine.map(WINDOW, FRAME, RW | lower, RW | upper)
    assert machine.access("read", AT, user) == FRAME + 0x123
    assert machine.access("fetch", AT, user) == (0x11 | (4 if user else 0), AT)


def test_a_missing_pointer_is_a_page_not_present() -> None:
    machine = Paged(PAE)
    machine.put(POINTERS + 8, 0)
    machine.load(POINTERS)
    assert machine.access("write", AT, True) == (6, AT)


def test_pointers_are_read_when_cr3_is_loaded() -> None:
    machine = Paged(PAE)
    machine.map(WINDOW, FRAME, RW)
    machine.put(POINTERS + 8, 0)
    assert machine.access("read", AT, True) == FRAME + 0x123
    machine.load(POINTERS)
    assert machine.access("read", AT, True) == (4, AT)


@pytest.mark.parametrize("bit", [1, 2, 5, 6, 7, 8, 36, 51, 63])
@pytest.mark.parametrize("n", range(4))
def test_reserved_bits_of_pointers_are_refused_at_once(bit: int, n: int) -> None:
    machine = Paged(PAE)
    machine.put(POINTERS + 8 * n, DIRECTORY | P | 1 << bit)
    with pytest.raises(GuestFault) as caught:
        machine.load(POINTERS)
    assert (caught.value.vector, caught.value.error) == (13, 0)
    machine.put(POINTERS + 8 * n, DIRECTORY | 1 << bit)  # not present: not looked at
    machine.load(POINTERS)


@pytest.mark.parametrize(
    ("form", "upper", "lower", "found"),
    [
        (TWO, 0xF000_0000 | RW, 0, 0xFFFF_F000),  # a table where nothing is reads as ones
        (PSE, 0xF000_0000 | RW, 0, 0xFFFF_F000),
        (PAE, 0xF_0000_0000 | RW, 0, (9, WINDOW)),  # and so has reserved bits
        (TWO, TABLE | RW, 0xF000_0000 | RW, 0xF000_0000),
        (PAE, TABLE | RW, 0x1_0020_0000 | RW, 0x1_0020_0000),  # above 4 GiB is not the RAM below
        (PAE, 0x1_0000_0000 | PS | RW, 0, 0x1_0000_0000),
        (TWO, DIRECTORY | RW, 0, (0, WINDOW)),  # the directory for a table: its first entry is not present
    ],
)
def test_tables_outside_ram(form: Format, upper: int, lower: int, found: int | tuple[int, int]) -> None:
    machine = Paged(form)
    machine.put(TABLE, lower)
    machine.put(machine.upper(WINDOW), upper)
    assert machine.access("read", WINDOW, False) == found
    if isinstance(found, int):
        assert machine.mmu.read(WINDOW, 4) == b"\xff" * 4
        machine.mmu.write(WINDOW, bytes(4))
        assert machine.mmu.read(WINDOW, 4) == b"\xff" * 4


@pytest.mark.parametrize("form", [TWO, PSE])
def test_cr3_outside_ram(form: Format) -> None:
    machine = Paged(form)
    machine.load(0xF000_0000)
    assert machine.access("write", AT, True) == ((0xF, AT) if form.pse else 0xFFFF_F123)


def test_cr3_outside_ram_under_pae_is_refused() -> None:
    machine = Paged(PAE)
    with pytest.raises(GuestFault):
        machine.load(0xF000_0000)


@pytest.mark.parametrize("form", [TWO, PAE])
def test_a_directory_that_is_its_own_table(form: Format) -> None:
    machine = Paged(form)
    directory = machine.upper(WINDOW) & -PAGE
    own = 0x1FF if form.pae else 0x3FF
    linear = (WINDOW & 0xC000_0000 if form.pae else 0) | own << (21 if form.pae else 22)
    top = linear | own << 12
    machine.put(directory + own * form.width, directory | P | W)
    assert machine.access("read", top + 8, False) == directory + 8
    assert machine.get(directory + own * form.width) == directory | P | W | A
    assert machine.access("write", top, False) == directory
    assert machine.get(directory + own * form.width) == directory | P | W | A | D
    assert machine.access("read", top, True) == (5, top)


@pytest.mark.parametrize(
    ("first", "second", "address", "size", "how", "outcome"),
    [
        (RW, RW, 0xFFE, 4, "write", None),
        (RW, RW, 0xFFE, 4, "read", None),
        (RW, P | U, 0xFFE, 4, "write", (7, 0x1000)),
        (P | U, RW, 0xFFE, 4, "write", (7, 0xFFE)),
        (RW, 0, 0xFFF, 2, "write", (6, 0x1000)),
        (RW, 0, 0xFFF, 2, "read", (4, 0x1000)),
        (0, RW, 0xFFF, 2, "read", (4, 0xFFF)),
        (0, 0, 0xFF9, 8, "write", (6, 0xFF9)),
        (RW, P | W, 0xFFD, 4, "read", (5, 0x1000)),
        (RW, P | W, 0xFFC, 4, "read", None),
        (RW, 0, 0xF00, 0x101, "write", (6, 0x1000)),
    ],
)
def test_accesses_across_pages(
    first: int, second: int, address: int, size: int, how: str, outcome: tuple[int, int] | None
) -> None:
    machine = Paged(TWO)
    machine.map(WINDOW, FRAME, first)
    machine.map(WINDOW + PAGE, FRAME + 3 * PAGE, second)
    pattern = bytes(n & 0xFF for n in range(2 * PAGE))
    machine.physical.write(FRAME, pattern[:PAGE])
    machine.physical.write(FRAME + 3 * PAGE, pattern[PAGE:])
    data = bytes(range(100, 100 + size)) if size < 100 else bytes(size)
    try:
        found = None
        if how == "read":
            assert machine.mmu.read(WINDOW + address, size, True) == pattern[address : address + size]
        else:
            machine.mmu.write(WINDOW + address, data, True)
    except GuestFault as fault:
        error, cr2 = page_fault(fault)
        found = error, cr2 - WINDOW
    assert found == outcome
    memory = machine.physical.read(FRAME, PAGE) + machine.physical.read(FRAME + 3 * PAGE, PAGE)
    written = how == "write" and outcome is None
    assert memory == (pattern[:address] + data + pattern[address + size :] if written else pattern)


def test_an_access_wraps_at_4_gib() -> None:
    machine = Paged(TWO)
    machine.map(0xFFFF_F000, FRAME, P | W)
    machine.map(0, FRAME + PAGE, P | W, table=TABLE + PAGE)
    machine.mmu.write(0xFFFF_FFFE, b"abcd")
    assert machine.physical.read(FRAME + 0xFFE, 4) == b"abcd"
    assert machine.mmu.read(0xFFFF_FFFD, 6) == b"\0abcd\0"


@pytest.mark.parametrize("form", [TWO, PAE])
def test_the_a20_gate_masks_tables_and_pages(form: Format) -> None:
    machine = Paged(form, ram=RAM)
    machine.map(WINDOW, FRAME + 0x10_0000, RW)
    for at in (DIRECTORY, DIRECTORY + PAGE, TABLE):
        machine.physical.write(at & ~0x10_0000, machine.physical.read(at, PAGE))
    machine.physical.write(DIRECTORY, bytes(2 * PAGE))
    machine.mmu.set_a20(0xFFEF_FFFF)
    assert machine.access("read", AT, True) == FRAME + 0x123
    machine.mmu.set_a20(0xFFFF_FFFF)
    assert machine.access("read", AT, True) == (4, AT)
