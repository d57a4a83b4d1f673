"""Random page tables and accesses: what our walker makes of them, and what plain Unicorn does with the same tables."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mmu.machine import DIRECTORY, FRAME, PAGE, PS, TABLE, WINDOW, A, D, Format, P, Paged, U, W, page_fault
from tests.mmu.oracle import PATTERN, Oracle, code_tables
from vmm.errors import GuestFault

FORMATS = [
    Format(), Format(wp=False), Format(pse=True), Format(pse=True, wp=False),
    Format(pae=True), Format(pae=True, nxe=True), Format(pae=True, nxe=True, wp=False),
]  # fmt: skip
RSVD = 8

bits = st.integers(0, 7).map(lambda n: n & 7) | st.just(P | W | U)
marks = st.sampled_from([0, A, A | D, D])
high = st.sampled_from([0] * 6 + [1 << 63, 1 << 40, 1 << 51, 1 << 62])  # Unicorn has 40 bits of physical address, we 36
entries = st.tuples(bits, marks, st.booleans(), high, st.integers(0, 3))
accesses = st.tuples(
    st.sampled_from([("read", 1), ("read", 2), ("read", 4), ("write", 1), ("write", 2), ("write", 4)]),
    st.sampled_from([0, 0x123, 0xFFC, 0xFFD, 0xFFF]),
    st.integers(0, 2),
    st.booleans(),
)


@cache
def engines(form: Format) -> tuple[Paged, Oracle]:
    return Paged(form), Oracle(form)


def entry(form: Format, values: tuple[int, int, bool, int, int], upper: bool) -> int:
    rights, mark, large, top, n = values
    word = rights | mark | (top if form.pae else 0)
    if not upper:
        return word | (FRAME + n * PAGE)
    if large and (form.pae or form.pse):
        return word | PS
    return word | (TABLE + n * PAGE)


@pytest.mark.parametrize("form", FORMATS, ids=str)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    uppers=st.lists(entries, min_size=2, max_size=2),
    lowers=st.lists(entries, min_size=4, max_size=4),
    access=accesses,
)
def test_random_tables(
    form: Format,
    uppers: list[tuple[int, int, bool, int, int]],
    lowers: list[tuple[int, int, bool, int, int]],
    access: tuple[tuple[str, int], int, int, bool],
) -> None:
    machine, oracle = engines(form)
    (how, size), offset, page, user = access
    covered = 2 << 20 if form.pae else 4 << 20
    for n, values in enumerate(uppers):
        machine.put(machine.upper(WINDOW + n * covered), entry(form, values, True))
    last = covered // PAGE - 2
    for table in range(4):
        at = TABLE + table * PAGE
        for n, values in zip((0, 1, last, last + 1), lowers, strict=True):
            machine.put(at + n * form.width, entry(form, values, False))
    for n in range(4):
        machine.physical.write(FRAME + n * PAGE, bytes((k * 7 + n) & 0xFF for k in range(PAGE)))
    for address, value in code_tables(form).items():
        machine.put(address, value)
    machine.load(machine.cpu.cr3)
    linear = WINDOW + (0, PAGE, covered - PAGE)[page] + offset
    fault, value, after = oracle.access(machine.physical.ram, how, linear, size, user)
    found: tuple[int, int] | None = None
    got = PATTERN
    try:
        if how == "read":
            got = PATTERN >> 8 * size << 8 * size | machine.mmu.read_int(linear, size, user)
        else:
            machine.mmu.write_int(linear, size, PATTERN & (1 << 8 * size) - 1, user)
    except GuestFault as raised:
        found = page_fault(raised)
    if fault is not None and fault[0] & RSVD:
        fault = (fault[0] | P, fault[1])  # Unicorn leaves P out
    assert found == fault
    if found is None:
        assert got == value
    # Unicorn sets the accessed bit of the upper level before it looks at the lower one; the manual leaves it open, and
    # whether the first page of an access that fails on the second is marked.
    ignored = 0 if found is None else A | D
    for start, theirs in after.items():
        ours = bytes(machine.physical.ram[start : start + len(theirs)])
        if ours != theirs:
            assert_same(form, start, ours, theirs, ignored)


def assert_same(form: Format, start: int, ours: bytes, theirs: bytes, ignored: int) -> None:
    """Equal but for *ignored* bits of page-table entries."""
    for at in range(0, len(ours), 4):
        entry = DIRECTORY <= start < FRAME and not (start + at) % form.width
        mask = ~ignored if entry else -1
        mine, other = (int.from_bytes(memory[at : at + 4], "little") for memory in (ours, theirs))
        assert mine & mask == other & mask, hex(start + at)
