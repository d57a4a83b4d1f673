"""The Python API: what docs/api.md promises."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.e2e.asm import FLAT, KERNEL, SECTOR_END, assemble, needs_nasm
from tests.e2e.test_terminal import ECHO, KEYS
from vmm import Channel, ExitStatus, Machine, NotSeen, UsageError
from vmm.callouts import HANDLERS
from vmm.guests import GuestStore
from vmm.hooks import EVENTS

pytestmark = needs_nasm

LOOP = KERNEL + "next: inc esi\n jmp next"
CPUIDS = KERNEL + "mov esi, 5\nnext: xor eax, eax\n cpuid\n dec esi\n jnz next\n cli\n hlt"
HALT = "\n cli\n hlt"


def machine(source: str, **settings: Any) -> Machine:
    return Machine(kernel=assemble(source), memory="8M", **settings)


# Serial ports ----------------------------------------------------------------------------------------------------
def test_a_conversation() -> None:
    with machine(ECHO) as vm:
        vm.serial.expect(">", timeout=60)
        vm.serial.send("root\n")
        assert vm.serial.expect(r"(ro+)t", timeout=60).group(1) == "roo"
        vm.serial.send(b"more")
        assert vm.serial.expect("m.*e").group() == "more"
        assert bytes(vm.serial.output) == b">root\nmore"
        vm.serial.send("Q")
        assert vm.run().reason == "the guest switched the machine off"


def test_each_match_begins_behind_the_last() -> None:
    with machine(ECHO) as vm:
        vm.serial.send("aXbXc")
        assert vm.serial.expect("X").start() == 2
        assert vm.serial.expect("X").start() == 1
        with pytest.raises(NotSeen):
            vm.serial.expect("X", max_insns=1_000_000)
        assert vm.serial.expect("c").group() == "c"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"max_insns": 100_000}, "100000 instructions have retired"), ({"timeout": 0.2}, "0.2 seconds have passed")],
)
def test_what_does_not_come(limits: dict[str, Any], reason: str) -> None:
    with machine(ECHO) as vm:
        with pytest.raises(NotSeen, match=f"^'login:' did not come: {reason}; the last that came was '>'$") as caught:
            vm.serial.expect("login:", **limits)
        assert caught.value.result.status == ExitStatus.TIMEOUT
        assert caught.value.text == ">"


def test_a_guest_that_ends_first() -> None:
    with machine(ECHO) as vm:
        vm.serial.send("Q")
        with pytest.raises(NotSeen, match="switched the machine off"):
            vm.serial.expect("login:")


def test_the_second_port() -> None:
    with machine(KERNEL + "mov dx, 0x2f8\n mov al, 'x'\n out dx, al" + HALT, serial=2 * (Channel("null"),)) as vm:
        vm.serials[1].expect("x")
        assert not vm.serial.output


# Running ---------------------------------------------------------------------------------------------------------
def test_a_run_goes_on_where_it_paused() -> None:
    with machine(LOOP) as vm:
        whole = vm.run(max_insns=300_001)
        assert (whole.status, whole.insns, whole.reason) == (124, 300_001, "300001 instructions have retired")
        registers = {name: getattr(vm.registers, name) for name in ("esi", "eip", "esp", "eflags")}
    with machine(LOOP) as vm:
        for part in (1, 99_999, 100_000, 100_001):
            result = vm.run(max_insns=part)
        assert result.insns == 300_001
        assert {name: getattr(vm.registers, name) for name in registers} == registers


def test_run_until_a_text_or_a_condition() -> None:
    with machine(ECHO) as vm:
        assert vm.run(until=">").reason == "everything that was expected has come"
        vm.serial.send("Q")
        assert vm.run(until=">").reason == "the guest switched the machine off"
    with machine(LOOP) as vm:
        result = vm.run(until=lambda vm: vm.registers.esi > 2_000_000)
        assert (result.status, result.reason) == (0, "what was waited for has happened")
        assert 2_000_000 < vm.registers.esi < 5_000_000


def test_what_ended_stays_ended() -> None:
    with machine(KERNEL + HALT) as vm:
        first = vm.run()
        assert (first.status, first.seconds > 0) == (10, True)
        again = vm.run(max_insns=1000)
        assert (again.status, again.reason, again.insns) == (first.status, first.reason, first.insns)


def test_control_c_pauses_and_the_machine_can_go_on() -> None:
    with machine(LOOP) as vm:

        def press(vm: Machine) -> bool:
            os.kill(os.getpid(), signal.SIGINT)
            return False

        result = vm.run(until=press)
        assert (result.status, result.reason) == (130, "interrupted by Ctrl-C")
        before = vm.registers.esi
        assert vm.run(max_insns=1000).status == 124
        assert vm.registers.esi == before + 500
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_control_c_while_something_is_expected() -> None:
    with machine(ECHO) as vm:
        vm.on("output.serial0", lambda vm, data: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            vm.serial.expect("never")


def test_two_machines_at_once() -> None:
    with machine(LOOP) as one, machine(LOOP) as two:
        one.run(max_insns=1000)
        two.run(max_insns=3000)
        one.run(max_insns=2000)
        assert one.registers.esi == two.registers.esi


# Memory and registers ----------------------------------------------------------------------------------------------
def test_memory() -> None:
    with machine(LOOP) as vm:
        assert len(vm.memory) == 8 << 20
        assert vm.memory[0x10_0000:0x10_0004] == bytes.fromhex("02b0ad1b")
        assert vm.memory[0x10_0000] == 0x02
        vm.memory[0x5000:0x5003] = b"abc"
        vm.memory[0x5001] = 0x42
        assert vm.memory[0x5000:0x5004] == b"aBc\0"
        assert vm.memory[0x900_0000:0x900_0002] == b"\xff\xff", "nothing is there"


@pytest.mark.parametrize("where", [-1, 1 << 32, slice(5, 4), slice(0, (1 << 32) + 1), slice(0, 8, 2)])
def test_addresses_that_are_none(where: Any) -> None:
    with machine(LOOP) as vm, pytest.raises(UsageError):
        vm.memory[where]


def test_a_slice_keeps_its_size() -> None:
    with machine(LOOP) as vm, pytest.raises(UsageError, match="3 bytes of memory cannot become 2"):
        vm.memory[0:3] = b"ab"


def test_code_that_is_changed_from_outside_is_translated_again() -> None:
    with machine(LOOP) as vm:
        vm.run(max_insns=1001)
        at = vm.registers.eip & ~0xF
        inc_esi = vm.memory[at : at + 64].index(0x46)
        vm.memory[at + inc_esi] = 0x47  # inc edi
        edi = vm.registers.edi
        vm.run(max_insns=1000)
        assert vm.registers.edi == edi + 500


def test_registers() -> None:
    with machine(KERNEL + "next: add eax, 3\n jmp next") as vm:
        vm.run(max_insns=3)
        assert vm.registers.eip == vm.memory[0x10_001C:0x10_0020][0] + 0x10_0000 + 5
        vm.registers.eax = 0x1_0000_0010
        vm.run(max_insns=2)
        assert vm.registers.eax == 0x13
        assert (vm.registers.cs, vm.registers.cpl, vm.registers.cr0 & 1) == (8, 0, 1)
        assert set(dir(vm.registers)) >= {"eax", "eip", "eflags", "cs", "cr3"}
        with pytest.raises(AttributeError):
            vm.registers.rax  # noqa: B018
        with pytest.raises(AttributeError):
            vm.registers.cs = 16


def test_a_register_can_send_the_guest_elsewhere() -> None:
    with machine(KERNEL + "jmp $\nthere: mov eax, 7\n" + HALT) as vm:
        vm.run(max_insns=100)
        vm.registers.eip += 2
        assert vm.run().status == 10
        assert vm.registers.eax == 7


# Screen and keyboard -----------------------------------------------------------------------------------------------
@pytest.mark.guest
def test_the_screen_and_the_keyboard() -> None:
    with Machine(image=assemble(KEYS)) as vm:
        assert vm.run(until=">", timeout=60).status == 0
        vm.keyboard.type("hello<backspace>!")
        vm.run(until="hell!", timeout=60)
        assert ">hell!" in vm.screen.text()
        picture = vm.screen.image()
        assert picture.size == (720, 400)
        assert len(picture.getcolors()) == 2, "grey on black"


def test_a_screen_without_firmware() -> None:
    with machine(KERNEL + "mov dword [0xb8000], 0x07420741" + HALT) as vm:
        vm.run()
        assert vm.screen.text().startswith("AB\n")
        if GuestStore().find("vgabios") is not None:
            assert len(vm.screen.image().getcolors()) == 2, "the characters have a shape"


def test_what_a_keyboard_cannot_type() -> None:
    with machine(LOOP) as vm, pytest.raises(UsageError, match="cannot type 'é'"):
        vm.keyboard.type("é")


# Hooks -------------------------------------------------------------------------------------------------------------
def test_a_callout_hook() -> None:
    seen = []
    with machine(CPUIDS) as vm, machine(CPUIDS) as other:
        before = HANDLERS["cpuid"]
        remove = vm.on("callout.cpuid", lambda vm, insn: seen.append((vm.registers.esi, insn.length)))
        other.run()
        assert not seen, "the other machine's are its own"
        vm.run()
        remove()
        remove()
        assert HANDLERS["cpuid"] is before, "and nothing is left"
        assert vm.stats.callouts["cpuid"] == 5
    assert seen == [(n, 2) for n in (5, 4, 3, 2, 1)]


def test_hooks_end_with_the_machine() -> None:
    before = HANDLERS["cpuid"]
    with machine(CPUIDS) as vm:
        vm.on("callout.cpuid", lambda vm, insn: None)
        vm.on("callout.cpuid", lambda vm, insn: None)
        assert HANDLERS["cpuid"] is not before
    assert HANDLERS["cpuid"] is before


def test_port_hooks() -> None:
    seen: list[tuple[str, int, int, int]] = []
    with machine(KERNEL + "mov ax, 0x1234\n out 0x80, ax\n in al, 0x64\n out 0xe9, al" + HALT) as vm:
        ports = vm.engine.cpu.ports
        remove = vm.on("port.write", lambda vm, port, size, value: seen.append(("w", port, size, value)))
        vm.on("port.read", lambda vm, port, size, value: seen.append(("r", port, size, value)))
        vm.run(max_insns=4)
        remove()
        vm.run()
        assert vm.engine.cpu.ports is not ports
    assert seen == [("w", 0x80, 2, 0x1234), ("r", 0x64, 1, 0x10)]


@pytest.mark.parametrize("event", ["callout", "callout.frobnicate", "output.printer", "port", "reset.x", ""])
def test_unknown_events(event: str) -> None:
    with machine(LOOP) as vm, pytest.raises(UsageError, match=r"there is no event .*; there are callout\.NAME, "):
        vm.on(event, lambda *arguments: None)


def test_every_event_can_be_hooked() -> None:
    with machine(LOOP) as vm:
        for event in EVENTS:
            vm.on(event.replace("NAME", "cpuid"), lambda *arguments: None)()


def test_a_hook_that_raises_ends_the_run_with_its_exception() -> None:
    with machine(CPUIDS) as vm:

        def fail(*arguments: object) -> None:
            raise LookupError("on purpose")

        vm.on("callout.cpuid", fail)
        with pytest.raises(LookupError, match="on purpose"):
            vm.run()


@pytest.mark.guest
def test_a_reset_is_heard_of() -> None:
    source = FLAT + "mov dx, 0xcf9\n mov al, 6\n out dx, al" + SECTOR_END
    resets = []
    with Machine(image=assemble(source)) as vm:
        vm.on("reset", lambda vm: resets.append(vm.stats.port_io["pci"]))
        vm.run(until=lambda vm: len(resets) == 2, timeout=60)
    assert len(resets) == 2


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="a machine has no setting 'ram'"):
        Machine(ram="8M")


def test_nothing_goes_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with machine(ECHO) as vm:
        vm.serial.expect(">")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
