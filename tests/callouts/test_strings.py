"""String instructions: faults, resumption, segment and page borders, ports."""

from __future__ import annotations

import pytest

from tests.callouts.machine import ALL, Machine
from translator.layout import DF, DS, EAX, ECX, EDI, EDX, ES, ESI, TF, TR, ZF
from vmm.errors import GuestFault

GP, STACK, PF = 13, 12, 14
REP_MOVSB, REP_MOVSD, REP_STOSB, REP_STOSD = b"\xf3\xa4", b"\xf3\xa5", b"\xf3\xaa", b"\xf3\xab"
BULK = pytest.mark.parametrize("bulk", [True, False], ids=["slices", "elements"])


def prepared(esi: int = 0, edi: int = 0, ecx: int = 0, down: bool = False, bulk: bool = True) -> Machine:
    machine = Machine(bulk).flat()
    cpu = machine.cpu
    cpu.gpr[ESI], cpu.gpr[EDI], cpu.gpr[ECX] = esi, edi, ecx
    cpu.eflags = 2 | (DF if down else 0)
    machine.memory.data[:] = bytes(n * 7 + (n >> 8) & 0xFF for n in range(len(machine.memory.data)))
    return machine


def pointers(machine: Machine) -> tuple[int, int, int]:
    gpr = machine.cpu.gpr
    return gpr[ESI], gpr[EDI], gpr[ECX]


# A fault leaves the registers at the element that faults ------------------------------------------------------
# code, ESI, EDI, ECX, down, absent page, registers at the fault, CR2
FAULTS = [
    (REP_STOSB, 0, 0x2FF0, 100, False, 3, (0, 0x3000, 84), 0x3000),
    (REP_STOSD, 0, 0x2FF0, 100, False, 3, (0, 0x3000, 96), 0x3000),
    (REP_STOSD, 0, 0x2FEE, 100, False, 3, (0, 0x2FFE, 96), 0x3000),  # straddles
    (REP_STOSD, 0, 0x4008, 100, True, 3, (0, 0x3FFC, 97), 0x3FFC),
    (REP_MOVSB, 0x2FF8, 0x5000, 100, False, 3, (0x3000, 0x5008, 92), 0x3000),
    (REP_MOVSB, 0x5000, 0x2FF8, 100, False, 3, (0x5008, 0x3000, 92), 0x3000),
    (REP_MOVSD, 0x5100, 0x4000, 9, True, 3, (0x50FC, 0x3FFC, 8), 0x3FFC),
    (b"\xf3\x6c", 0, 0x2FFE, 9, False, 3, (0, 0x3000, 7), 0x3000),
    (b"\xf3\x6e", 0x2FFE, 0, 9, False, 3, (0x3000, 0, 7), 0x3000),
    (b"\xf3\xac", 0x2FFE, 0, 9, False, 3, (0x3000, 0, 7), 0x3000),
]


@BULK
@pytest.mark.parametrize(("code", "esi", "edi", "ecx", "down", "page", "left", "cr2"), FAULTS)
def test_page_fault(
    code: bytes, esi: int, edi: int, ecx: int, down: bool, page: int, left: tuple[int, int, int], cr2: int, bulk: bool
) -> None:
    machine = prepared(esi, edi, ecx, down, bulk)
    machine.memory.absent.add(page)
    start = machine.cpu.eip
    with pytest.raises(GuestFault) as fault:
        machine.step(code)
    assert (fault.value.vector, fault.value.cr2) == (PF, cr2)
    assert pointers(machine) == left
    assert machine.cpu.eip == start
    machine.memory.absent.clear()
    machine.run(code)
    assert machine.cpu.gpr[ECX] == 0


@BULK
def test_flags_of_a_comparison_that_faults_stay(bulk: bool) -> None:
    machine = prepared(edi=0x2FF0, ecx=100, bulk=bulk)
    machine.memory.data[0x2FF0:0x3000] = bytes(16)
    machine.cpu.eflags = 2
    machine.memory.absent.add(3)
    with pytest.raises(GuestFault):
        machine.step(b"\xf3\xae")
    assert machine.cpu.eflags == 2
    assert pointers(machine) == (0, 0x3000, 84)


def test_ins_finds_the_fault_before_it_reads_the_port() -> None:
    machine = prepared(edi=0x3000, ecx=1)
    machine.memory.read_only.add(3)
    with pytest.raises(GuestFault):
        machine.step(b"\x6d")
    assert not machine.ports.log


# Segment limits, address wrap ------------------------------------------------------------------------------------
@BULK
@pytest.mark.parametrize(
    ("code", "limit", "edi", "ecx", "down", "vector", "left"),
    [
        (REP_STOSB, 0xFFF, 0xFF0, 20, False, GP, (0x1000, 4)),
        (REP_STOSD, 0xFFE, 0xFF0, 4, False, GP, (0xFFC, 1)),
        (REP_STOSD, 0xFFF, 0x1008, 4, True, GP, (0x1008, 4)),
        (REP_STOSD, 0xFFF, 0xFFC, 4, True, None, (0xFEC, 0)),
    ],
)
def test_segment_limit(
    code: bytes, limit: int, edi: int, ecx: int, down: bool, vector: int | None, left: tuple[int, int], bulk: bool
) -> None:
    machine = prepared(edi=edi, ecx=ecx, down=down, bulk=bulk)
    machine.cpu.set_segment(ES, 0x40, 0x8000, limit, 0x93)
    if vector is None:
        machine.run(code)
    else:
        with pytest.raises(GuestFault) as fault:
            machine.step(code)
        assert fault.value.vector == vector
    assert pointers(machine)[1:] == left


@pytest.mark.parametrize(("attr", "source"), [(0x99, True), (0x13, True), (0x91, False), (0x9B, False)])
def test_rights(attr: int, source: bool) -> None:
    machine = prepared(0x100, 0x200, 4)
    machine.cpu.set_segment(DS if source else ES, 0x40, 0, ALL, attr)
    assert machine.fault(REP_MOVSB) == (GP, 0)


def test_source_in_the_stack_segment() -> None:
    machine = prepared(0x2000, 0x200, 4)
    machine.cpu.set_segment(2, 0x40, 0, 0xFFF, 0x93)
    assert machine.fault(b"\x36" + REP_MOVSB) == (STACK, 0)


@BULK
@pytest.mark.parametrize("down", [False, True])
def test_16_bit_pointers_wrap(bulk: bool, down: bool) -> None:
    machine = prepared(0xAAAA_FFFC, 0xBBBB_0010, 0xCCCC_0008, down, bulk)
    expected = bytearray(machine.memory.data)
    step = -1 if down else 1
    for n in range(8):
        expected[0x10 + step * n & 0xFFFF] = expected[0xFFFC + step * n & 0xFFFF]
    machine.run(b"\x67" + REP_MOVSB)
    assert machine.memory.data == expected
    after = (0xAAAA_FFF4, 0xBBBB_0008) if down else (0xAAAA_0004, 0xBBBB_0018)
    assert pointers(machine) == (*after, 0xCCCC_0000)


def test_pointers_wrap_at_4_gib() -> None:
    machine = prepared(edi=0xFFFF_FFF8, ecx=4)
    machine.cpu.gpr[EAX] = 0x1234_5678
    machine.run(REP_STOSD)
    assert pointers(machine) == (0, 8, 0)
    assert machine.memory.data[-8:] + machine.memory.data[:8] == b"\x78\x56\x34\x12" * 4


# Bounded work, resumption ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "ecx", "bulk", "first"),
    [
        (REP_STOSB, 0x3_0000, True, 0x2_0000),
        (REP_STOSD, 0x6000, True, 0x2000),
        (REP_STOSB, 0x1800, False, 0x800),
        (b"\xf3\x6c", 0x1800, True, 0x800),
        (b"\xf3\x6e", 0x1800, True, 0x800),
        (REP_STOSB, 0x1_0000, True, 0),
    ],
)
def test_a_call_does_bounded_work(code: bytes, ecx: int, bulk: bool, first: int) -> None:
    machine = prepared(ecx=ecx, bulk=bulk)
    start = machine.cpu.eip
    machine.step(code)
    assert machine.cpu.gpr[ECX] == first
    assert machine.cpu.eip == (start if first else start + 2)
    while machine.cpu.eip == start:
        machine.step(code)
    assert machine.cpu.gpr[ECX] == 0


def test_slices_are_used() -> None:
    machine = prepared(0x10, 0x1_0020, 0x4000)
    machine.run(REP_MOVSB)
    assert machine.memory.accesses < 40


@pytest.mark.parametrize("code", [REP_STOSB, REP_MOVSB, b"\xf3\xa6", b"\xf2\xae"])
def test_single_step_does_one_element(code: bytes) -> None:
    machine = prepared(0x100, 0x100, 5)
    machine.cpu.eflags |= TF
    start = machine.cpu.eip
    machine.step(code)
    assert machine.cpu.gpr[ECX] == 4
    assert machine.cpu.eip == start


@pytest.mark.parametrize("code", [REP_STOSB, b"\xf3\xa6", b"\xf2\xaf", b"\xf3\xad"])
def test_no_repetition_no_access(code: bytes) -> None:
    machine = prepared(0x3000, 0x3000, 0)
    machine.memory.absent.add(3)
    machine.cpu.eflags |= ZF
    before = pointers(machine), machine.cpu.eflags
    machine.run(code)
    assert (pointers(machine), machine.cpu.eflags) == before


# Ports ---------------------------------------------------------------------------------------------------------------
@BULK
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(("code", "size"), [(b"\xf3\x6c", 1), (b"\x66\xf3\x6d", 2), (b"\xf3\x6d", 4), (b"\x6d", 4)])
def test_ins(code: bytes, size: int, down: bool, bulk: bool) -> None:
    machine = prepared(edi=0x2FF4, ecx=20, down=down, bulk=bulk)
    machine.cpu.gpr[EDX] = 0xABCD_01F0
    machine.run(code)
    count = 20 if 0xF3 in code else 1
    step = -size if down else size
    values = [0x8182_8384 + n & (1 << 8 * size) - 1 for n in range(count)]
    assert machine.ports.log == [("in", 0x1F0, size, value) for value in values]
    for n, value in enumerate(values):
        at = 0x2FF4 + step * n
        assert int.from_bytes(machine.memory.data[at : at + size], "little") == value
    assert pointers(machine)[1:] == (0x2FF4 + step * count, 0 if 0xF3 in code else 20)


@BULK
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(("code", "size"), [(b"\xf3\x6e", 1), (b"\x66\xf3\x6f", 2), (b"\xf3\x6f", 4), (b"\x64\x6f", 4)])
def test_outs(code: bytes, size: int, down: bool, bulk: bool) -> None:
    machine = prepared(esi=0x2FF4, ecx=20, down=down, bulk=bulk)
    machine.cpu.gpr[EDX] = 0x1F0
    count = 20 if 0xF3 in code else 1
    step = -size if down else size
    data = machine.memory.data
    values = [int.from_bytes(data[at : at + size], "little") for at in range(0x2FF4, 0x2FF4 + step * count, step)]
    machine.run(code)
    assert machine.ports.log == [("out", 0x1F0, size, value) for value in values]
    assert pointers(machine)[0] == 0x2FF4 + step * count


IN_OUT = [
    (b"\xe4\xf8", ("in", 0xF8, 1)), (b"\xe5\xf8", ("in", 0xF8, 4)), (b"\x66\xe5\x60", ("in", 0x60, 2)),
    (b"\xec", ("in", 0x1234, 1)), (b"\xed", ("in", 0x1234, 4)), (b"\x66\xed", ("in", 0x1234, 2)),
    (b"\xe6\xf8", ("out", 0xF8, 1)), (b"\xe7\xf8", ("out", 0xF8, 4)), (b"\x66\xe7\x60", ("out", 0x60, 2)),
    (b"\xee", ("out", 0x1234, 1)), (b"\xef", ("out", 0x1234, 4)), (b"\x66\xef", ("out", 0x1234, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("code", "access"), IN_OUT)
def test_in_and_out(code: bytes, access: tuple[str, int, int]) -> None:
    machine = Machine().flat()
    machine.cpu.gpr[EAX], machine.cpu.gpr[EDX] = 0xCAFE_BABE, 0xFFFF_1234
    machine.step(code)
    direction, port, size = access
    mask = (1 << 8 * size) - 1
    value = (0x8182_8384 if direction == "in" else 0xCAFE_BABE) & mask
    assert machine.ports.log == [(direction, port, size, value)]
    assert machine.cpu.gpr[EAX] == 0xCAFE_BABE & ~mask | value


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        (b"\xec", True),
        (b"\x66\xed", False),
        (b"\xe4\x60", False),
        (b"\x6e", True),
        (b"\xf3\x6c", True),
        (b"\xed", False),
    ],
)
def test_permission_bitmap(code: bytes, allowed: bool) -> None:
    machine = Machine().flat(3)
    cpu = machine.cpu
    cpu.set_segment(TR, 0x80, 0x500, 0x68 + 0x2000, 0x8B)
    bitmap = bytearray(b"\xff" * 0x2001)
    bitmap[0x71 >> 3] &= ~(1 << (0x71 & 7))
    machine.memory.data[0x566:0x568] = b"\x68\0"
    machine.memory.data[0x568 : 0x568 + len(bitmap)] = bitmap
    cpu.gpr[EDX], cpu.gpr[ESI], cpu.gpr[EDI], cpu.gpr[ECX] = 0x71, 0x3000, 0x3000, 2
    if allowed:
        machine.run(code)
        assert machine.ports.log
    else:
        assert machine.fault(code) == (GP, 0)
        assert not machine.ports.log
