"""Far transfers, software interrupts, BOUND, queries of descriptors: operands in, results out.

The rules themselves are tested with ``vmm.transfers``, ``vmm.interrupts`` and ``vmm.segmentation``.
"""

from __future__ import annotations

import pytest

from tests.callouts.machine import Machine
from translator.layout import CS, EAX, EBX, ECX, ESP, LDTR, OF, TR, ZF

UD, GP = 6, 13
CODE, DATA, LDT, TSS = 0x00CF_9A00_0000_FFFF, 0x00CF_9200_0000_FFFF, 0x0000_8200_3000_0017, 0x0000_8900_4000_0067
NONE = 0


def real(code_at: int = 0x7C00) -> Machine:
    """Real mode at 0000:7C00 with the stack at 0000:7000."""
    machine = Machine()
    machine.cpu.set_segment(CS, 0, 0, 0xFFFF, 0x93)
    machine.cpu.eip = code_at
    machine.cpu.gpr[ESP] = 0xABCD_7000
    machine.memory.data[0x500:0x506] = bytes.fromhex("3412 7856 0010")
    return machine


def protected() -> Machine:
    """Flat 32-bit mode with a GDT at 600h: code 8, data 10h, LDT 18h, TSS 20h."""
    machine = Machine().flat()
    machine.cpu.gdtr = (0x600, 0x27)
    for n, descriptor in enumerate((NONE, CODE, DATA, LDT, TSS)):
        machine.memory.data[0x600 + 8 * n : 0x608 + 8 * n] = descriptor.to_bytes(8, "little")
    machine.cpu.gpr[ESP] = 0x7000
    return machine


# code, CS:IP after, what is pushed
REAL_TRANSFERS = [
    ("ea 34 12 00 20", (0x2000, 0x1234), ""),
    ("66 ea 34 12 00 00 00 20", (0x2000, 0x1234), ""),
    ("9a 34 12 00 20", (0x2000, 0x1234), "057c 0000"),
    ("66 9a 34 12 00 00 00 20", (0x2000, 0x1234), "087c0000 00000000"),
    ("ff 2e 00 05", (0x5678, 0x1234), ""),
    ("ff 1e 00 05", (0x5678, 0x1234), "047c 0000"),
    ("cd 41", (0x2222, 0x0104), "027c 0000 0202"),
    ("cc", (0x2222, 0x000C), "017c 0000 0202"),
    ("f1", (0x2222, 0x0004), "017c 0000 0202"),
]


@pytest.mark.parametrize(("code", "target", "pushed"), REAL_TRANSFERS)
def test_real_mode_transfers(code: str, target: tuple[int, int], pushed: str) -> None:
    machine = real()
    cpu = machine.cpu
    cpu.eflags = 0x202
    cpu.idtr = (0, 0x3FF)
    for n in range(0x80):
        machine.memory.data[4 * n : 4 * n + 4] = (0x2222_0000 | 4 * n).to_bytes(4, "little")
    machine.step(bytes.fromhex(code))
    data = bytes.fromhex(pushed)
    assert (cpu.segments[CS].selector, cpu.eip) == target
    assert cpu.segments[CS].base == target[0] << 4
    assert cpu.gpr[ESP] == 0xABCD_7000 - len(data)
    assert machine.memory.data[0x7000 - len(data) : 0x7000] == data


# code, stack, CS:IP and SP after
RETURNS = [
    ("cb", "34120020", (0x2000, 0x1234, 0x7004)),
    ("ca 06 00", "34120020", (0x2000, 0x1234, 0x700A)),
    ("66 cb", "34120000 00200000", (0x2000, 0x1234, 0x7008)),
    ("cf", "34120020 0302", (0x2000, 0x1234, 0x7006)),
    ("66 cf", "34120000 00200000 03020000", (0x2000, 0x1234, 0x700C)),
]


@pytest.mark.parametrize(("code", "stack", "after"), RETURNS)
def test_real_mode_returns(code: str, stack: str, after: tuple[int, int, int]) -> None:
    machine = real()
    data = bytes.fromhex(stack)
    machine.memory.data[0x7000 : 0x7000 + len(data)] = data
    machine.step(bytes.fromhex(code))
    cpu = machine.cpu
    assert (cpu.segments[CS].selector, cpu.eip, cpu.gpr[ESP] & 0xFFFF) == after
    assert cpu.eflags == (0x203 if len(data) in (6, 12) else 2)


@pytest.mark.parametrize("code", ["ea 00 80 00 00 08 00", "ff 2b", "9a 00 80 00 00 08 00", "ff 1b"])
def test_protected_mode_transfers(code: str) -> None:
    machine = protected()
    machine.cpu.gpr[EBX] = 0x900
    machine.memory.data[0x900:0x906] = bytes.fromhex("00800000 0800")
    machine.step(bytes.fromhex(code))
    assert (machine.cpu.segments[CS].selector, machine.cpu.eip) == (8, 0x8000)
    call = code.startswith(("9a", "ff 1b"))
    assert machine.cpu.gpr[ESP] == (0x6FF8 if call else 0x7000)


def test_into() -> None:
    machine = real()
    machine.step(b"\xce")
    assert machine.cpu.eip == 0x7C01
    machine.cpu.eflags |= OF
    machine.memory.data[0x10:0x14] = bytes.fromhex("78563412")
    machine.step(b"\xce")
    assert (machine.cpu.segments[CS].selector, machine.cpu.eip) == (0x1234, 0x5678)


@pytest.mark.parametrize(
    ("index", "bounds", "fits"),
    [
        (5, (5, 9), True), (9, (5, 9), True), (4, (5, 9), False), (10, (5, 9), False), (0xFFFF, (0xFFF0, 3), True),
        (0x8000, (0x8000, 0x8000), True), (0x7FFF, (0x8000, 0xFFFF), False),
    ],
)  # fmt: skip
def test_bound(index: int, bounds: tuple[int, int], fits: bool) -> None:
    machine = real()
    machine.cpu.gpr[EAX] = 0xAAAA_0000 | index
    machine.memory.data[0x500:0x504] = b"".join(n.to_bytes(2, "little") for n in bounds)
    code = b"\x62\x06\x00\x05"
    if fits:
        machine.step(code)
    else:
        assert machine.fault(code) == (5, None)


def test_ldtr_and_tr() -> None:
    machine = protected()
    cpu = machine.cpu
    cpu.gpr[EAX], cpu.gpr[EBX], cpu.gpr[ECX] = 0x18, 0x20, 0xAAAA_AAAA
    machine.step(b"\x0f\x00\xd0")
    machine.step(b"\x0f\x00\xdb")
    assert (cpu.segments[LDTR].base, cpu.segments[TR].base) == (0x3000, 0x4000)
    assert machine.memory.data[0x625] == 0x8B  # busy
    machine.step(b"\x0f\x00\xc1")
    assert cpu.gpr[ECX] == 0x18
    machine.step(b"\x66\x0f\x00\xc9")
    assert cpu.gpr[ECX] == 0x20
    machine.step(b"\x0f\x00\x0d\x00\x09\x00\x00")
    assert machine.memory.data[0x900:0x904] == b"\x20\0\0\0"


# code, selector in AX, ZF, ECX after
QUERIES = [
    ("0f 02 c8", 8, True, 0x00C0_9A00), ("66 0f 02 c8", 8, True, 0xAAAA_9A00), ("0f 02 c8", 0x28, False, 0xAAAA_AAAA),
    ("0f 03 c8", 0x10, True, 0xFFFF_FFFF), ("0f 03 c8", 0x18, True, 0x17), ("0f 03 c8", 0, False, 0xAAAA_AAAA),
    ("0f 00 e0", 8, True, 0xAAAA_AAAA), ("0f 00 e8", 8, False, 0xAAAA_AAAA), ("0f 00 e8", 0x10, True, 0xAAAA_AAAA),
]  # fmt: skip


@pytest.mark.parametrize(("code", "selector", "zf", "ecx"), QUERIES)
@pytest.mark.parametrize("before", [0x8D7, 0x02])
def test_queries(code: str, selector: int, zf: bool, ecx: int, before: int) -> None:
    machine = protected()
    cpu = machine.cpu
    cpu.gpr[EAX], cpu.gpr[ECX] = 0x1234_0000 | selector, 0xAAAA_AAAA
    cpu.eflags = before
    machine.step(bytes.fromhex(code))
    assert cpu.gpr[ECX] == ecx
    assert cpu.eflags == before & ~ZF | (ZF if zf else 0)


def test_bit_tests_change_only_cf() -> None:
    machine = protected()
    machine.cpu.eflags = 0x8D6
    machine.cpu.gpr[EAX] = 1
    machine.step(b"\x0f\xa3\xc0")  # bit 1 of 1
    assert machine.cpu.eflags == 0x8D6
    machine.cpu.gpr[EAX] = 2
    machine.step(b"\x0f\xbb\xc0")
    assert machine.cpu.eflags == 0x8D6  # bit 2 was clear
    assert machine.cpu.gpr[EAX] == 6


@pytest.mark.parametrize("code", ["0f ab 03", "0f b3 03", "0f bb 03", "82 03 01"])
def test_a_store_that_will_fault_is_announced_as_a_write(code: str) -> None:
    machine = protected()
    machine.cpu.gpr[EBX] = 0x3000
    machine.memory.absent.add(3)
    assert machine.fault(bytes.fromhex(code)) == (14, 2)


def test_aam_by_zero() -> None:
    assert Machine().fault(b"\xd4\x00") == (0, None)
