"""Reset and power-off, by every way that a PC has."""

from __future__ import annotations

import struct

import pytest

from tests.e2e.asm import FLAT, KERNEL, SECTOR_END, assemble, needs_nasm
from vmm.config import DebugExit, Step
from vmm.machine import Machine

pytestmark = needs_nasm

RESETS = {
    "port 92h": "in al, 0x92\n and al, 0xfe\n out 0x92, al\n or al, 1\n out 0x92, al",
    "8042 pulse": "mov al, 0xfe\n out 0x64, al",
    "8042 output port": "mov al, 0xd1\n out 0x64, al\n mov al, 2\n out 0x60, al",
    "CF9h": "mov dx, 0xcf9\n mov al, 6\n out dx, al",
}
TRIPLE_FAULT = "lidt [none]\n int3\n none: dw 0, 0, 0"
BEHIND = "\n mov al, 0x7f\n out 0xf4, al\n hlt"
"""What no guest gets to: the reset comes before the next instruction."""

BOOT_SECTOR = (
    FLAT
    + """
        xor ax, ax
        mov ss, ax
        mov sp, 0x7c00
        mov ax, 0x2401          ; A20 open
        int 0x15
        mov ax, 0xffff
        mov ds, ax              ; the BIOS clears memory below 1 MiB
        cmp dword [0x1000], 0x600dbeef
        je again
        mov dword [0x1000], 0x600dbeef
        mov al, 'a'
        out 0xe9, al
        mov al, 0xff
        out 0x21, al
        mov ax, 0x2400          ; A20 shut
        int 0x15
        push cs
        pop ds
        cli
        {how}
        {behind}
again:  mov al, 'b'
        out 0xe9, al
        in al, 0x21             ; the BIOS has set the interrupt controller up again
        inc al
        jz bad
        mov al, 'c'
        out 0xe9, al
bad:    mov al, 1
        out 0xf4, al
"""
)
EXIT_PORT = DebugExit(0xF4, 1)


def run(source: str, **settings: object) -> tuple[int, str, str]:
    """Status, reason and what was printed on port E9h."""
    printed = []
    with Machine(image=assemble(source), memory="16M", debug_exit=EXIT_PORT, timeout=60, **settings) as machine:
        machine.on("output.debugcon", lambda vm, data: printed.append(data.decode()))
        result = machine.run()
    return result.status, result.reason, "".join(printed)


@pytest.mark.guest
@pytest.mark.parametrize("how", [*RESETS, "triple fault"])
def test_firmware_starts_again_and_ram_stays(how: str) -> None:
    code = RESETS.get(how, TRIPLE_FAULT)
    source = BOOT_SECTOR.format(how=code, behind=BEHIND) + SECTOR_END
    assert run(source) == (3, "the guest ended the run with status 3", "abc")


FPU = (
    FLAT
    + """
        xor ax, ax
        mov ss, ax
        mov sp, 0x7c00
        mov ds, ax
        mov ax, 0x2401          ; A20 open
        int 0x15
        mov eax, cr4
        or ax, 0x200            ; OSFXSR
        mov cr4, eax
        fxsave [0x1000]
        mov si, 0x1000
        mov cx, 288
        mov dx, 0xe9
        cld
        rep outsb
        mov ax, 0xffff
        mov es, ax              ; the BIOS clears memory below 1 MiB
        xor byte [es:0x1000], 1
        jz done
        fninit
        fldpi
        fldz
        fdiv st1, st0
        movups xmm0, [0x7c00]
        movups xmm7, [0x7c20]
        mov dword [0x1000], 0x7fc0
        ldmxcsr [0x1000]
        {how}
        hlt
done:   mov al, 1
        out 0xf4, al
"""
)


@pytest.mark.guest
@pytest.mark.parametrize("how", ["CF9h", "triple fault"])
def test_the_fpu_is_reset(how: str) -> None:
    """SDM vol. 3, table 9-1, column RESET; what FNINIT leaves is something else.  First at power-on."""
    printed: list[bytes] = []
    source = FPU.format(how=RESETS.get(how, TRIPLE_FAULT)) + SECTOR_END
    with Machine(image=assemble(source), memory="16M", debug_exit=EXIT_PORT, timeout=60) as machine:
        machine.on("output.debugcon", lambda vm, data: printed.append(data))
        assert machine.run().status == 3
    out = b"".join(printed)
    assert len(out) == 2 * 288
    for image in (out[:288], out[288:]):
        control, status, tags = struct.unpack_from("<HHB", image)
        (mxcsr,) = struct.unpack_from("<I", image, 24)
        assert (control, status, tags, mxcsr) == (0x40, 0, 0xFF, 0x1F80)
        assert not any(image[5:24]), "the last instruction and operand"
        assert not any(image[32:]), "ST0 to ST7, XMM0 to XMM7"


@pytest.mark.guest
@pytest.mark.parametrize("how", RESETS)
def test_no_reboot(how: str) -> None:
    source = BOOT_SECTOR.format(how=RESETS[how], behind=BEHIND) + SECTOR_END
    assert run(source, reboot=False) == (0, "the guest reset the machine (-no-reboot)", "a")


@pytest.mark.parametrize("prefix", [FLAT, KERNEL], ids=["flat", "kernel"])
@pytest.mark.parametrize("how", RESETS)
def test_without_firmware_a_reset_ends_the_run(how: str, prefix: str) -> None:
    status, reason, _ = run(prefix + RESETS[how] + BEHIND)
    assert (status, reason) == (0, "the guest reset the machine (there is no firmware to start again)")


@pytest.mark.parametrize("prefix", [FLAT, KERNEL], ids=["flat", "kernel"])
@pytest.mark.parametrize("reboot", [True, False])
def test_a_triple_fault_is_no_success(prefix: str, reboot: bool) -> None:
    status, reason, _ = run(prefix + TRIPLE_FAULT, reboot=reboot)
    assert status == 6
    assert reason.startswith("the guest's CPU shut down after a triple fault at ")


POWER_OFF = "mov dx, 0x604\n mov ax, 0x2000\n out dx, ax"


@pytest.mark.parametrize("prefix", [FLAT, KERNEL], ids=["flat", "kernel"])
def test_power_off_by_acpi(prefix: str) -> None:
    assert run(prefix + POWER_OFF + BEHIND)[:2] == (0, "the guest switched the machine off")


def test_what_was_expected_and_did_not_come_is_no_success() -> None:
    status, reason, _ = run(KERNEL + POWER_OFF, script=(Step("expect", "login:"),))
    assert (status, reason) == (8, "the guest switched the machine off while waiting for 'login:'")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("cli\n hlt", "the guest halted for ever (HLT with interrupts off)"),
        ("mov al, 0xff\n out 0x21, al\n sti\n hlt", "the guest halted for ever and no interrupt can reach it"),
    ],
)
def test_halted_for_ever(code: str, reason: str) -> None:
    assert run(KERNEL + code)[:2] == (10, reason)


def test_the_reset_button() -> None:
    with Machine(image=assemble(FLAT + "jmp $"), memory="1M") as machine:
        machine.run(max_insns=1000)
        machine.reset()
        assert machine.run().reason == "the guest reset the machine (there is no firmware to start again)"
        assert machine.run().status == 0, "and it stays so"
