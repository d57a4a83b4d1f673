"""Debian's unmodified i386 kernel, with a first process of ours and with the installer's BusyBox."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import guest
from tests.guests.build import GCC_FLAGS
from vmm.cpio import Archive
from vmm.machine import Machine

SOURCE = Path(__file__).parent / "linux" / "init.c"
BRIEF = "console=ttyS0 panic=-1 cryptomgr.notests"
"""Without the self-tests of the crypto API, most of the boot's instructions."""
PROMPT = r"~ # "
SECONDS = 400
"""After which a run hangs."""

pytestmark = [pytest.mark.guest, pytest.mark.slow]


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initial RAM disk with ``init.c`` as its first process."""
    if not shutil.which("gcc"):
        pytest.skip("gcc makes the first process")
    folder = tmp_path_factory.mktemp("initrd")
    program = folder / "init"
    subprocess.run(["gcc", *GCC_FLAGS, "-Wl,-z,noexecstack", "-o", program, SOURCE], check=True)
    archive = Archive()
    archive.device("dev/console", "c", 5, 1)
    archive.file("init", program.read_bytes(), mode=0o755)
    path = folder / "initrd.gz"
    path.write_bytes(archive.build(compress=True))
    return path


FOUND = (
    r"ACPI: PM-Timer IO Port: 0x608",
    r"tsc: Fast TSC calibration using PIT",
    r"ACPI: Interpreter enabled",
    r"ttyS0 at I/O 0x3f8 \(irq = 4, base_baud = 115200\) is a 16550A",
    r"serio: i8042 KBD port at 0x60,0x64 irq 1",
    r"input: AT Translated Set 2 keyboard",
    r"rtc_cmos 00:0\d: setting system clock to 2020-01-01T00:00",
)
"""What the kernel finds on the board, in this order."""
PIC = (r"ACPI: Using PIC for interrupt routing",)
APIC = (r"Enabling APIC mode:  Flat\.  Using 1 I/O APICs", r"ACPI: Using IOAPIC for interrupt routing")
PROCESS = (
    r"first process",
    r"children that saw wrong memory: 0\b",
    r"a second has milliseconds: 1000\b",
    r"reboot: Power down",
)


@pytest.mark.parametrize(
    ("settings", "shows"),
    [
        pytest.param({"append": "console=ttyS0 panic=-1"}, PIC, id="as it is"),
        pytest.param({"append": BRIEF, "apic": True}, APIC, id="with APICs"),
    ],
)
def test_the_first_process_switches_the_machine_off(
    settings: dict[str, Any], shows: tuple[str, ...], initrd: Path
) -> None:
    with Machine(kernel=guest("debian-i386-kernel"), initrd=initrd, **settings) as vm:
        result = vm.run(timeout=SECONDS)
        heard = vm.serial.output.decode(errors="replace")
    assert result.reason == "the guest switched the machine off"
    assert result.status == 0
    for pattern in (*FOUND, *shows, *PROCESS):
        assert re.search(pattern, heard), pattern
    assert "segfault" not in heard


TYPED = (
    ("uname -a", r"^Linux \(none\) 6\.1\.\S+ .* i686 GNU/Linux$"),
    ("mount -t proc proc /proc", ""),
    ("cat /proc/cpuinfo", r"^model name\s*: Binary-translated virtual CPU$"),
    ("echo one two three | tr a-z A-Z | wc -w", r"^3$"),
    ("cat /bin/busybox | md5sum; md5sum < /bin/busybox", r"^(\w{32})  -\n\1  -$"),
    ("sleep 1 & jobs; wait; echo done", r"\[1\]\+  Running.*\n(.*\n)?done$"),
    ("cut -d. -f1 /proc/uptime > /a; sleep 1; cut -d. -f1 /proc/uptime > /b; expr `cat /b` - `cat /a`", r"^[12]$"),
    ("poweroff -f", r"reboot: Power down"),
)
"""What is typed at BusyBox's prompt, and what it answers."""


def test_busybox_obeys_what_is_typed() -> None:
    settings: dict[str, Any] = {"memory": "512M", "append": f"{BRIEF} norandmaps rdinit=/bin/sh"}
    with Machine(kernel=guest("debian-i386-kernel"), initrd=guest("debian-i386-initrd"), **settings) as vm:
        vm.serial.expect(r"built-in shell \(ash\)", timeout=SECONDS)
        for command, answer in TYPED:
            vm.serial.expect(PROMPT, timeout=SECONDS)
            vm.serial.send(command + "\n")
            if answer:
                vm.serial.expect(answer, timeout=SECONDS)
        result = vm.run(timeout=SECONDS)
        heard = vm.serial.output.decode(errors="replace")
    assert result.reason == "the guest switched the machine off"
    assert "segfault" not in heard
