"""Control and debug registers, descriptor tables, MSRs, CPUID, SYSENTER, interrupt flag, privilege."""

from __future__ import annotations

import pytest

from tests.callouts.machine import ALL, Machine
from translator.layout import CS, DS, EAX, EBX, ECX, EDX, ESP, IF_FLAG, SS, VIF, VIP
from vmm import cpuid, msr
from vmm.errors import GuestFault

DB, UD, GP = 1, 6, 13

# Instructions that only CPL 0 may execute, with an operand at [0] or in EAX
PRIVILEGED = {
    "lgdt": "0f 01 15 00 00 00 00", "lidt": "0f 01 1d 00 00 00 00", "invlpg": "0f 01 3d 00 00 00 00",
    "lmsw": "0f 01 f0", "lldt": "0f 00 d0", "ltr": "0f 00 d8", "clts": "0f 06", "invd": "0f 08", "wbinvd": "0f 09",
    "hlt": "f4", "mov eax, cr0": "0f 20 c0", "mov cr0, eax": "0f 22 c0", "mov cr3, eax": "0f 22 d8",
    "mov eax, dr7": "0f 21 f8", "mov dr7, eax": "0f 23 f8", "rdmsr": "0f 32", "wrmsr": "0f 30", "rdpmc": "0f 33",
    "sysexit": "0f 35", "in al, dx": "ec", "out 0x80, al": "e6 80", "insb": "6c", "rep outsb": "f3 6e",
    "cli": "fa", "sti": "fb",
}  # fmt: skip


@pytest.mark.parametrize("code", PRIVILEGED.values(), ids=PRIVILEGED)
@pytest.mark.parametrize("cpl", [1, 2, 3])
def test_privileged(code: str, cpl: int) -> None:
    machine = Machine().flat(cpl)
    assert machine.fault(bytes.fromhex(code)) == (GP, 0)
    assert not machine.changes
    assert not machine.ports.log


@pytest.mark.parametrize(
    "name", ["lmsw", "clts", "hlt", "mov eax, cr0", "mov dr7, eax", "rdmsr", "in al, dx", "cli", "sti"]
)
def test_privileged_in_virtual_8086_mode(name: str) -> None:
    code = PRIVILEGED[name]
    assert Machine().v86().fault(bytes.fromhex(code)) == (GP, 0)


@pytest.mark.parametrize(
    "code", ["0f 00 d0", "0f 00 d8", "0f 00 c0", "0f 00 c8", "0f 00 e0", "0f 00 e8", "0f 02 c0", "0f 03 c0", "63 c0"]
)
@pytest.mark.parametrize("machine", [Machine, lambda: Machine().v86(3)], ids=["real", "v86"])
def test_protected_mode_only(machine: type[Machine], code: str) -> None:
    assert machine().fault(bytes.fromhex(code)) == (UD, None)


# Control registers --------------------------------------------------------------------------------------
# CR0 before, EAX, CR0 after or a fault, changes
CR0_WRITES = [
    (0x6000_0011, 0x0000_0001, 0x0000_0011, ["cr0"]),  # ET stays
    (0x0000_0010, 0x0000_0010, 0x0000_0010, []),
    (0x0000_0010, 0x8000_0011, 0x8000_0011, ["cr0"]),
    (0x0000_0010, 0x8000_0010, None, []),  # PG without PE
    (0x0000_0011, 0x2000_0011, None, []),  # NW without CD
    (0x0000_0011, 0x6000_0011, 0x6000_0011, ["cr0"]),
    (0x0000_0011, 0x1FFA_FFC1, 0x0000_0011, []),  # reserved bits
    (0x8000_0011, 0x0005_003B, 0x0005_003B, ["cr0"]),
    (0x0000_0011, 0x0000_0010, 0x0000_0010, ["cr0"]),  # back to real mode
]


@pytest.mark.parametrize(("before", "value", "after", "changes"), CR0_WRITES)
def test_mov_to_cr0(before: int, value: int, after: int | None, changes: list[str]) -> None:
    machine = Machine()
    cpu = machine.cpu
    cpu.cr0 = before
    cpu.gpr[EAX] = value
    cpu.mode_changed = False
    if after is None:
        assert machine.fault(b"\x0f\x22\xc0") == (GP, 0)
    else:
        machine.step(b"\x0f\x22\xc0")
        assert cpu.cr0 == after
        machine.step(b"\x0f\x20\xc3")
        assert cpu.gpr[EBX] == after
    assert machine.changes == changes
    assert cpu.mode_changed is bool(changes)


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [(0x10, 0x1, 0x11), (0x11, 0x0, 0x11), (0x1E, 0xFFF1, 0x11), (0x10, 0xFFFE, 0x1E), (0x8005_0033, 0x8, 0x8005_0039)],
)
def test_lmsw(before: int, value: int, after: int) -> None:
    machine = Machine()
    machine.cpu.cr0 = before
    machine.cpu.gpr[EAX] = value
    machine.step(b"\x0f\x01\xf0")
    assert machine.cpu.cr0 == after


@pytest.mark.parametrize(("code", "expected"), [("0f 01 e3", 0xAAAA_0013), ("66 0f 01 e3", 0x8005_0013)])
def test_smsw_register(code: str, expected: int) -> None:
    machine = Machine()
    machine.cpu.cr0 = 0x8005_0013
    machine.cpu.gpr[EBX] = 0xAAAA_AAAA
    machine.step(bytes.fromhex(code))
    assert machine.cpu.gpr[EBX] == expected


@pytest.mark.parametrize("bit", range(32))
def test_mov_to_cr4(bit: int) -> None:
    features = {
        0: "VME",
        1: "VME",
        2: "TSC",
        3: "DE",
        4: "PSE",
        5: "PAE",
        6: "MCE",
        7: "PGE",
        8: "MMX",
        9: "FXSR",
        10: "SSE",
    }
    machine = Machine()
    machine.cpu.gpr[EAX] = 1 << bit
    if bit in features and cpuid.present(features[bit]):
        machine.step(b"\x0f\x22\xe0")
        assert machine.cpu.cr4 == 1 << bit
        assert machine.changes == ["cr4"]
    else:
        assert machine.fault(b"\x0f\x22\xe0") == (GP, 0)


def test_cr3_is_announced_even_if_it_does_not_change() -> None:
    machine = Machine()
    machine.step(b"\x0f\x22\xd8")
    machine.step(b"\x0f\x22\xd8")
    assert machine.changes == ["cr3", "cr3"]


def test_a_refused_cr3_is_taken_back() -> None:
    machine = Machine()

    def refuse(name: str) -> None:
        raise GuestFault(GP, 0)

    machine.cpu.on_control_change = refuse
    machine.cpu.gpr[EAX] = 0x1000
    assert machine.fault(b"\x0f\x22\xd8") == (GP, 0)
    assert machine.cpu.cr3 == 0


@pytest.mark.parametrize("reg", [1, 5, 6, 7])
@pytest.mark.parametrize("opcode", [0x20, 0x22])
def test_no_such_control_register(opcode: int, reg: int) -> None:
    assert Machine().fault(bytes((0x0F, opcode, 0xC0 | reg << 3))) == (UD, None)


def test_cr2_and_clts_and_invlpg() -> None:
    machine = Machine().flat()
    cpu = machine.cpu
    cpu.gpr[EAX] = 0x1234_5678
    machine.step(b"\x0f\x22\xd0")
    machine.step(b"\x0f\x20\xd1")
    assert (cpu.cr2, cpu.gpr[ECX]) == (0x1234_5678, 0x1234_5678)
    cpu.cr0 |= 8
    machine.step(b"\x0f\x06")
    machine.step(b"\x0f\x06")
    assert not cpu.cr0 & 8
    assert machine.changes == ["cr0"]
    flushed: list[int] = []
    cpu.on_invlpg = flushed.append
    cpu.set_segment(DS, 0x10, 0xFFFF_F000, 0, 0)  # no access is made, so none is checked
    cpu.gpr[EAX] = 0x3000
    machine.step(b"\x0f\x01\x38")
    assert flushed == [0x2000]


# Debug registers -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reg", "value", "n", "stored", "changes"),
    [
        (0, 0x1234_5678, 0, 0x1234_5678, ["dr7"]),
        (3, ALL, 3, ALL, ["dr7"]),
        (6, 0, 6, 0xFFFF_0FF0, []),
        (6, ALL, 6, 0xFFFF_EFFF, []),
        (4, 0x1, 6, 0xFFFF_0FF1, []),
        (7, 0, 7, 0x400, ["dr7"]),
        (7, 0xFFFF_DFFF, 7, 0xFFFF_07FF, ["dr7"]),
        (5, 0x2, 7, 0x402, ["dr7"]),
    ],
)
def test_mov_to_dr(reg: int, value: int, n: int, stored: int, changes: list[str]) -> None:
    machine = Machine()
    machine.cpu.gpr[EAX] = value
    machine.step(bytes((0x0F, 0x23, 0xC0 | reg << 3)))
    assert machine.cpu.dr[n] == stored
    assert machine.changes == changes
    machine.step(bytes((0x0F, 0x21, 0xC3 | reg << 3)))
    assert machine.cpu.gpr[EBX] == stored


@pytest.mark.parametrize("reg", [4, 5])
@pytest.mark.parametrize("opcode", [0x21, 0x23])
def test_dr4_and_dr5_under_de(opcode: int, reg: int) -> None:
    machine = Machine()
    machine.cpu.cr4 = 8
    assert machine.fault(bytes((0x0F, opcode, 0xC0 | reg << 3))) == (UD, None)


def test_general_detect() -> None:
    machine = Machine()
    machine.cpu.dr[7] |= 1 << 13
    assert machine.fault(b"\x0f\x21\xc0") == (DB, None)
    assert machine.cpu.dr[6] == 0xFFFF_2FF0


# Descriptor tables --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "name", "expected"),
    [
        ("0f 01 17", "gdtr", (0x34_5678, 0x9ABC)),
        ("66 0f 01 17", "gdtr", (0x1234_5678, 0x9ABC)),
        ("0f 01 1f", "idtr", (0x34_5678, 0x9ABC)),
        ("66 0f 01 1f", "idtr", (0x1234_5678, 0x9ABC)),
    ],
)
def test_load_and_store_of_tables(code: str, name: str, expected: tuple[int, int]) -> None:
    machine = Machine()
    machine.cpu.gpr[EBX] = 0x100
    machine.memory.data[0x100:0x106] = bytes.fromhex("bc9a 78563412")
    machine.step(bytes.fromhex(code))
    assert getattr(machine.cpu, name) == expected
    machine.cpu.gpr[EBX] = 0x200
    machine.step(bytes.fromhex(code.replace("17", "07").replace("1f", "0f")))
    assert machine.memory.data[0x200:0x206] == expected[1].to_bytes(2, "little") + expected[0].to_bytes(4, "little")


@pytest.mark.parametrize("code", ["0f 01 05 80 00 00 00", "0f 01 0d 80 00 00 00", "0f 01 e0"])
def test_sensitive_but_not_privileged(code: str) -> None:
    Machine().flat(3).step(bytes.fromhex(code))


# CPUID, time, MSRs -----------------------------------------------------------------------------------------------
def read_cpuid(machine: Machine, leaf: int) -> tuple[int, ...]:
    machine.cpu.gpr[EAX] = leaf
    machine.step(b"\x0f\xa2")
    return tuple(machine.cpu.gpr[n] for n in (EAX, EBX, ECX, EDX))


def test_cpuid() -> None:
    machine = Machine().flat(3)
    top, *vendor = read_cpuid(machine, 0)
    assert b"".join(vendor[n].to_bytes(4, "little") for n in (0, 2, 1)) == b"GenuineIntel"
    signature, _, ecx, edx = read_cpuid(machine, 1)
    assert signature >> 8 & 0xF == 6
    assert ecx == 0  # no SSE3 and nothing later
    names = {name for name, feature in cpuid.FEATURES.items() if edx >> feature.bit & 1}
    assert names >= {"FPU", "DE", "PSE", "TSC", "MSR", "CX8", "SEP", "PGE", "CMOV", "MMX", "FXSR", "SSE", "SSE2"}
    assert "APIC" not in names
    assert edx == sum(1 << cpuid.FEATURES[name].bit for name in names)
    assert read_cpuid(machine, 0x100) == read_cpuid(machine, top)
    last = read_cpuid(machine, 0x8000_0000)[0]
    brand = b"".join(
        word.to_bytes(4, "little") for n in range(0x8000_0002, last + 1) for word in read_cpuid(machine, n)
    )
    assert brand.rstrip(b"\0") == cpuid.BRAND
    assert len(brand) == 48


def test_cpuid_shows_an_enabled_apic() -> None:
    machine = Machine()
    machine.cpu.msr[msr.IA32_APIC_BASE] = 0xFEE0_0900
    assert read_cpuid(machine, 1)[3] >> 9 & 1
    machine.cpu.gpr[ECX], machine.cpu.gpr[EAX], machine.cpu.gpr[EDX] = msr.IA32_APIC_BASE, 0xFEE0_0100, 0
    machine.step(b"\x0f\x30")
    assert not read_cpuid(machine, 1)[3] >> 9 & 1
    machine.cpu.gpr[ECX], machine.cpu.gpr[EAX], machine.cpu.gpr[EDX] = msr.IA32_APIC_BASE, 0xFEE0_0900, 0
    machine.step(b"\x0f\x30")  # it stays off until RESET
    assert not read_cpuid(machine, 1)[3] >> 9 & 1


@pytest.mark.parametrize(
    ("cpl", "cr4", "faults"), [(0, 0, False), (3, 0, False), (0, 4, False), (1, 4, True), (3, 4, True)]
)
def test_rdtsc(cpl: int, cr4: int, faults: bool) -> None:
    machine = Machine().flat(cpl)
    machine.cpu.cr4 = cr4
    machine.cpu.tsc = lambda: 0x1_2345_6789
    if faults:
        assert machine.fault(b"\x0f\x31") == (GP, 0)
    else:
        machine.step(b"\x0f\x31")
        assert (machine.cpu.gpr[EDX], machine.cpu.gpr[EAX]) == (1, 0x2345_6789)


@pytest.mark.parametrize(
    ("cpl", "cr4", "ecx", "faults"), [(0, 0, 0, False), (0, 0, 2, True), (3, 0, 0, True), (3, 0x100, 1, False)]
)
def test_rdpmc(cpl: int, cr4: int, ecx: int, faults: bool) -> None:
    machine = Machine().flat(cpl)
    machine.cpu.cr4 = cr4
    machine.cpu.gpr[ECX] = ecx
    if faults:
        assert machine.fault(b"\x0f\x33") == (GP, 0)
    else:
        machine.step(b"\x0f\x33")


def wrmsr(machine: Machine, number: int, value: int) -> None:
    machine.cpu.gpr[ECX], machine.cpu.gpr[EAX], machine.cpu.gpr[EDX] = number, value & ALL, value >> 32
    machine.step(b"\x0f\x30")


def rdmsr(machine: Machine, number: int) -> int:
    machine.cpu.gpr[ECX] = number
    machine.step(b"\x0f\x32")
    return machine.cpu.gpr[EDX] << 32 | machine.cpu.gpr[EAX]


@pytest.mark.parametrize("number", msr.REGISTERS)
def test_msr_reset_values_can_be_written_back(number: int) -> None:
    machine = Machine()
    value = rdmsr(machine, number)
    wrmsr(machine, number, value)
    assert rdmsr(machine, number) == value


@pytest.mark.parametrize(
    ("number", "value", "stored"),
    [
        (0x174, 0x1234_5678, 0x1234_5678),
        (0x174, 1 << 32, None),
        (0x200, 0x1_0000_0006, 0x1_0000_0006),
        (0x26F, (1 << 64) - 1, (1 << 64) - 1),
        (0x270, 0, None),
        (0x2FF, 0xC06, 0xC06),
        (0x2FF, 0x1000, None),
        (0xFE, 0, None),
        (0x277, 0x0706_0504_0100_0706, 0x0706_0504_0100_0706),
        (0x277, 2, None),
        (0x8B, 0, 0),
        (0x179, 1, None),
        (0xC1, 0, None),
        (0xC000_0080, 0x800, 0x800),
        (0xC000_0080, 0x100, None),
        (0x4000_0000, 0, None),
    ],
)
def test_wrmsr(number: int, value: int, stored: int | None) -> None:
    machine = Machine()
    if stored is None:
        with pytest.raises(GuestFault) as fault:
            wrmsr(machine, number, value)
        assert (fault.value.vector, fault.value.error) == (GP, 0)
    else:
        wrmsr(machine, number, value)
        assert rdmsr(machine, number) == stored


def test_tsc_can_be_set() -> None:
    machine = Machine()
    cpu = machine.cpu
    now = 5000
    cpu.tsc = lambda: now + cpu.msr.get(0x10, 0) & (1 << 64) - 1
    for value in (1_000_000, 7):
        wrmsr(machine, 0x10, value)
        assert rdmsr(machine, 0x10) == value
    now += 10
    assert rdmsr(machine, 0x10) == 17
    assert machine.changes == ["tsc", "tsc"]


# SYSENTER and SYSEXIT ---------------------------------------------------------------------------------------------
def test_sysenter_and_sysexit() -> None:
    machine = Machine().flat(3)
    cpu = machine.cpu
    cpu.msr.update({0x174: 0x63, 0x175: 0x9000, 0x176: 0xC000_1000})
    cpu.eflags = 0x0001_0202
    machine.step(b"\x0f\x34")
    assert (cpu.eip, cpu.gpr[ESP], cpu.cpl, cpu.eflags) == (0xC000_1000, 0x9000, 0, 2)
    assert repr(cpu.segments[CS]) == "0060 base=00000000 limit=ffffffff attr=c09b"
    assert repr(cpu.segments[SS]) == "0068 base=00000000 limit=ffffffff attr=c093"
    cpu.gpr[ECX], cpu.gpr[EDX] = 0x7000, 0x0804_8000
    cpu.mode_changed = False
    machine.step(b"\x0f\x35")
    assert (cpu.eip, cpu.gpr[ESP], cpu.cpl, cpu.mode_changed) == (0x0804_8000, 0x7000, 3, True)
    assert repr(cpu.segments[CS]) == "0073 base=00000000 limit=ffffffff attr=c0fb"
    assert repr(cpu.segments[SS]) == "007b base=00000000 limit=ffffffff attr=c0f3"


@pytest.mark.parametrize("code", [b"\x0f\x34", b"\x0f\x35"])
@pytest.mark.parametrize("selector", [0, 3, None])
def test_sysenter_needs_a_selector_and_protected_mode(code: bytes, selector: int | None) -> None:
    machine = Machine() if selector is None else Machine().flat()
    machine.cpu.msr[0x174] = 0x60 if selector is None else selector
    assert machine.fault(code) == (GP, 0)


# HLT and the interrupt flag --------------------------------------------------------------------------------------
def test_hlt() -> None:
    machine = Machine()
    machine.step(b"\xf4")
    assert machine.cpu.halted
    assert machine.cpu.eip == 0xFFF1


def configure(mode: str, iopl: int, cr4: int) -> Machine:
    machine = Machine()
    if mode == "v86":
        machine.v86(iopl)
    elif mode != "real":
        machine.flat(int(mode))
        machine.cpu.eflags = 2 | iopl << 12
    machine.cpu.cr4 = cr4
    return machine


# mode or CPL, IOPL, CR4, what CLI and STI change (None: #GP)
INTERRUPT_FLAG = [
    ("real", 0, 0, IF_FLAG), ("0", 0, 0, IF_FLAG), ("1", 1, 0, IF_FLAG), ("3", 3, 0, IF_FLAG), ("3", 2, 0, None),
    ("1", 0, 0, None), ("1", 0, 2, None), ("3", 0, 2, VIF), ("3", 0, 1, None),
    ("v86", 3, 0, IF_FLAG), ("v86", 2, 0, None), ("v86", 0, 1, VIF), ("v86", 0, 2, None), ("v86", 3, 1, IF_FLAG),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "iopl", "cr4", "flag"), INTERRUPT_FLAG)
def test_cli_and_sti(mode: str, iopl: int, cr4: int, flag: int | None) -> None:
    machine = configure(mode, iopl, cr4)
    cpu = machine.cpu
    both = IF_FLAG | VIF
    if flag is None:
        assert machine.fault(b"\xfb") == (GP, 0)
        assert machine.fault(b"\xfa") == (GP, 0)
        return
    machine.step(b"\xfb")
    assert cpu.eflags & both == flag
    assert cpu.shadow == (flag == IF_FLAG)
    cpu.shadow = 0
    machine.step(b"\xfb")
    assert not cpu.shadow  # only a change from 0 to 1 holds interrupts off
    machine.step(b"\xfa")
    assert not cpu.eflags & both


def test_sti_with_a_virtual_interrupt_pending() -> None:
    machine = configure("v86", 0, 1)
    machine.cpu.eflags |= VIP
    assert machine.fault(b"\xfb") == (GP, 0)
