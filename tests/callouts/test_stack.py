"""Stack instructions: widths of the stack and of operands, limits, faults that leave ESP alone."""

from __future__ import annotations

import pytest

from tests.callouts.machine import ALL, Machine
from translator.layout import DS, EAX, EBP, EBX, ES, ESP, SS

GP, NP, STACK, PF = 13, 11, 12, 14


def machine16(esp: int, limit: int = 0xFFFF) -> Machine:
    """32-bit code on a 16-bit stack at 1_0000h."""
    machine = Machine().flat()
    machine.cpu.set_segment(SS, 0x18, 0x1_0000, limit, 0x93)
    machine.cpu.gpr[ESP] = esp
    return machine


def machine32(esp: int = 0x8000) -> Machine:
    machine = Machine().flat()
    machine.cpu.gpr[ESP] = esp
    return machine


def words(machine: Machine, at: int, count: int, size: int = 4) -> list[int]:
    data = machine.memory.data
    return [int.from_bytes(data[at + n * size : at + n * size + size], "little") for n in range(count)]


# code, ESP after a push on a 16-bit stack with ESP = ABCD_0006, where it is stored, its bytes
PUSHES = [
    ("6a ff", 0xABCD_0002, 0x1_0002, "ffffffff"),
    ("66 6a ff", 0xABCD_0004, 0x1_0004, "ffff"),
    ("54", 0xABCD_0002, 0x1_0002, "0600cdab"),
    ("06", 0xABCD_0002, 0x1_0002, "08000000"),
    ("66 0f a8", 0xABCD_0004, 0x1_0004, "3000"),
]


@pytest.mark.parametrize(("code", "esp", "at", "data"), PUSHES)
def test_push_on_a_16_bit_stack(code: str, esp: int, at: int, data: str) -> None:
    machine = machine16(0xABCD_0006)
    machine.step(bytes.fromhex(code))
    assert machine.cpu.gpr[ESP] == esp
    assert machine.memory.data[at : at + len(data) // 2].hex() == data


@pytest.mark.parametrize(
    ("code", "esp", "limit"),
    [
        ("50", 2, 0xFFFF), ("50", 0x1004, 0xFFF), ("60", 0x1E, 0xFFFF), ("9c", 0x1005, 0xFFF), ("1e", 1, 0xFFFF),
        ("ff 33", 2, 0xFFFF), ("58", 0xFFE, 0xFFF), ("61", 0xFE1, 0xFFF), ("9d", 0xFFD, 0xFFF), ("1f", 0xFFD, 0xFFF),
        ("8f 03", 0xFFD, 0xFFF), ("c8 00 00 00", 2, 0xFFFF), ("c8 00 00 03", 0xE, 0xFFFF),
        ("c8 f0 0f 00", 0x800, 0xFFF),
    ],
)  # fmt: skip
def test_stack_limit(code: str, esp: int, limit: int) -> None:
    assert machine16(esp, limit).fault(bytes.fromhex(code)) == (STACK, 0)


@pytest.mark.parametrize("ebp", [0xFFD, 0x2000])
def test_leave_beyond_the_limit(ebp: int) -> None:
    machine = machine16(0x100, 0xFFF)
    machine.cpu.gpr[EBP] = ebp
    assert machine.fault(b"\xc9") == (STACK, 0)


@pytest.mark.parametrize("code", ["50", "60", "9c", "c8 10 00 02", "66 50", "68 00 00 00 00"])
def test_page_fault_of_a_push(code: str) -> None:
    machine = machine32(0x3000)
    machine.memory.absent.add(2)
    assert machine.fault(bytes.fromhex(code)) == (PF, 2)


def test_page_fault_in_the_destination_of_pop() -> None:
    machine = machine32()
    machine.cpu.gpr[EBX] = 0x3000
    machine.memory.absent.add(3)
    assert machine.fault(b"\x8f\x03") == (PF, 2)


# ENTER and LEAVE: code, 16-bit stack, ESP, EBP before; ESP, EBP after
FRAMES = [
    ("c8 10 00 00", False, 0x8000, 0x9000, 0x7FEC, 0x7FFC),
    ("66 c8 10 00 00", False, 0x8000, 0xABCD_9000, 0x7FEE, 0xABCD_7FFE),
    ("c8 10 00 00", True, 0xABCD_0100, 0x1234_0200, 0xABCD_00EC, 0xABCD_00FC),
    ("66 c8 10 00 00", True, 0xABCD_0100, 0x1234_0200, 0xABCD_00EE, 0x1234_00FE),
    ("c8 08 00 03", False, 0x8000, 0x9000, 0x7FE8, 0x7FFC),
    ("c8 00 00 21", False, 0x8000, 0x9000, 0x7FF8, 0x7FFC),  # the level is taken modulo 32
    ("c9", False, 0x8000, 0x9000, 0x9004, 0x1111_1111),
    ("66 c9", False, 0x8000, 0xABC9_0000, 0xABC9_0002, 0xABC9_1111),
    ("c9", True, 0xABCD_0100, 0x1234_0200, 0xABCD_0204, 0x1111_1111),
    ("66 c9", True, 0xABCD_0100, 0x1234_0200, 0xABCD_0202, 0x1234_1111),
]


@pytest.mark.parametrize(("code", "narrow", "esp", "ebp", "new_esp", "new_ebp"), FRAMES)
def test_frames(code: str, narrow: bool, esp: int, ebp: int, new_esp: int, new_ebp: int) -> None:
    machine = machine16(esp) if narrow else machine32(esp)
    machine.memory.data[:] = b"\x11" * len(machine.memory.data)
    machine.cpu.gpr[EBP] = ebp
    machine.step(bytes.fromhex(code))
    assert (machine.cpu.gpr[ESP], machine.cpu.gpr[EBP]) == (new_esp, new_ebp)


def test_enter_copies_the_display() -> None:
    machine = machine32(0x8000)
    machine.cpu.gpr[EBP] = 0x9000
    machine.memory.data[0x8FF8:0x9000] = bytes.fromhex("02000000 01000000")
    machine.step(b"\xc8\x08\x00\x03")
    assert words(machine, 0x7FF0, 4) == [0x7FFC, 2, 1, 0x9000]


# Segment registers ----------------------------------------------------------------------------------------------------
def with_gdt(machine: Machine, *descriptors: int) -> Machine:
    machine.cpu.gdtr = (0x600, 8 * len(descriptors) + 7)
    for n, descriptor in enumerate(descriptors, 1):
        machine.memory.data[0x600 + 8 * n : 0x608 + 8 * n] = descriptor.to_bytes(8, "little")
    return machine


DATA, DATA16, ABSENT_DATA, CODE = (
    0x00CF_9300_0000_FFFF,
    0x0000_9301_0000_FFFF,
    0x00CF_1300_0000_FFFF,
    0x00CF_9B00_0000_FFFF,
)


def test_pop_ss_moves_the_stack_pointer_by_the_old_width() -> None:
    machine = with_gdt(machine32(0x1_FFFE), DATA, DATA16)
    machine.memory.data[0x1_FFFE:0x2_0002] = b"\x10\0\0\0"
    machine.step(b"\x17")
    assert machine.cpu.gpr[ESP] == 0x2_0002
    assert machine.cpu.segments[SS].base == 0x1_0000
    assert machine.cpu.stack_mask == 0xFFFF
    assert machine.cpu.shadow == 1


@pytest.mark.parametrize(("code", "shadow"), [("8e d0", 1), ("8e d8", 0), ("17", 1), ("1f", 0), ("0f b2 03", 0)])
def test_interrupts_wait_after_a_load_of_ss(code: str, shadow: int) -> None:
    machine = with_gdt(machine32(), DATA)
    machine.memory.data[0x8000:0x8002] = b"\x08\0"
    machine.memory.data[0x9004:0x9006] = b"\x08\0"
    machine.cpu.gpr[EAX], machine.cpu.gpr[EBX] = 8, 0x9000
    machine.step(bytes.fromhex(code))
    assert machine.cpu.shadow == shadow


@pytest.mark.parametrize(
    ("code", "selector", "fault"),
    [
        ("1f", 0x18, (NP, 0x18)),
        ("1f", 0x28, (GP, 0x28)),
        ("17", 0, (GP, 0)),
        ("17", 0x18, (STACK, 0x18)),
        ("17", 0x20, (GP, 0x20)),
    ],
)
def test_pop_of_a_bad_selector(code: str, selector: int, fault: tuple[int, int]) -> None:
    machine = with_gdt(machine32(), DATA, DATA16, ABSENT_DATA, CODE)
    machine.memory.data[0x8000:0x8002] = selector.to_bytes(2, "little")
    assert machine.fault(bytes.fromhex(code)) == fault


@pytest.mark.parametrize("code", ["8e c8", "8e f0", "8e f8", "8c f0", "8c f8"])
def test_no_such_segment_register(code: str) -> None:
    assert Machine().fault(bytes.fromhex(code)) == (6, None)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("8c d8", 0x0000_0020), ("66 8c d8", 0xAAAA_0020), ("8c 1b", None)],
)
def test_mov_from_segment_register(code: str, expected: int | None) -> None:
    machine = Machine().flat()
    machine.cpu.gpr[EAX], machine.cpu.gpr[EBX] = 0xAAAA_AAAA, 0x4000
    machine.memory.data[0x4000:0x4004] = b"\xff" * 4
    machine.step(bytes.fromhex(code))
    if expected is None:  # 16 bits whatever the operand size
        assert machine.memory.data[0x4000:0x4004] == b"\x20\0\xff\xff"
    else:
        assert machine.cpu.gpr[EAX] == expected


# Flags ----------------------------------------------------------------------------------------------------
# mode (CPL or "v86"), IOPL, CR4, code, flags popped, what must be (mask, value) or a fault
POPF = [
    (0, 0, 0, "9d", 0x0024_7ED5, (0x0024_7FD5, 0x0024_7ED5)),
    (0, 0, 0, "66 9d", 0x0024_7ED5, (0x0024_7FD5, 0x0000_7ED5)),
    (3, 0, 0, "9d", 0x0000_3200, (0x3200, 0x0000)),
    (3, 3, 0, "9d", 0x0000_0200, (0x3200, 0x3200)),
    ("v86", 0, 0, "9d", 0, None),
    ("v86", 3, 0, "9d", 0x0000_0200, (0x2_3200, 0x2_3200)),
    ("v86", 0, 1, "9d", 0x0000_0200, (0x8_3200, 0x8_0000)),
    ("v86", 0, 1, "66 9d", 0, None),
    ("v86", 0, 1, "9d", 0x100, None),
]


@pytest.mark.parametrize(("mode", "iopl", "cr4", "code", "image", "after"), POPF)
def test_popf(mode: int | str, iopl: int, cr4: int, code: str, image: int, after: tuple[int, int] | None) -> None:
    machine = Machine()
    cpu = machine.cpu
    if isinstance(mode, int):
        machine.flat(mode)
        cpu.eflags = 2 | iopl << 12
    else:
        machine.v86(iopl)
    cpu.cr4 = cr4
    cpu.gpr[ESP] = 0x8000
    machine.memory.data[0x8000:0x8004] = image.to_bytes(4, "little")
    if after is None:
        assert machine.fault(bytes.fromhex(code)) == (GP, 0)
        return
    machine.step(bytes.fromhex(code))
    mask, value = after
    assert f"{cpu.eflags & mask:#x}" == f"{value:#x}"


def test_load_far_changes_nothing_if_the_selector_is_bad() -> None:
    machine = with_gdt(machine32(), DATA)
    machine.cpu.gpr[EBX] = 0x9000
    machine.memory.data[0x9000:0x9006] = bytes.fromhex("78563412 1000")
    assert machine.fault(b"\xc4\x03") == (GP, 0x10)
    machine.memory.data[0x9004] = 8
    machine.step(b"\xc4\x03")
    assert (machine.cpu.gpr[EAX], machine.cpu.segments[ES].selector) == (0x1234_5678, 8)
    machine.cpu.set_segment(DS, 0x10, 0, 0x9004, 0x93)  # the selector lies beyond the limit
    assert machine.fault(b"\xc4\x03") == (GP, 0)
    assert machine.cpu.segments[ES].limit == ALL
