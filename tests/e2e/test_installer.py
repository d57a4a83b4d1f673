"""What the installer and the demonstration show, in minutes of CPU time: ``make boots``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.e2e.cli import ROOT, guest
from vmm.cli.demo import COMMANDS
from vmm.machine import Machine

pytestmark = [pytest.mark.boots, pytest.mark.guest]
SECONDS = 1800
"""After which a run hangs."""


def test_the_installer_comes_to_its_language_menu_and_goes_on() -> None:
    kernel, initrd = guest("debian-i386-kernel"), guest("debian-i386-initrd")
    with Machine(kernel=kernel, initrd=initrd, memory="512M", append="console=ttyS0 TERM=vt102") as vm:
        vm.serial.expect(r"Select a language", timeout=SECONDS)
        vm.serial.expect(r"English", timeout=SECONDS)
        vm.serial.send("\r")
        vm.serial.expect(r"Select your location", timeout=SECONDS)
        vm.serial.expect(r"United States", timeout=SECONDS)
        assert "segfault" not in vm.serial.output.decode(errors="replace")


def test_make_run_shows_what_it_promises() -> None:
    """A shell that obeys, a power-off, statistics."""
    guest("debian-i386-kernel"), guest("debian-i386-initrd")
    command = [sys.executable, "-m", "vmm", "demo"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    for typed, answer in COMMANDS:
        assert typed in done.stdout
        assert re.search(answer, done.stdout, re.MULTILINE), typed
    for name in ("guest_insns", "translations", "exits_per_million_insns", "seconds{translate}"):
        assert re.search(rf"^{re.escape(name)} +[\d,.]+ ", done.stderr, re.MULTILINE), name
    assert done.stderr.endswith("(status 0)\n")
