"""SeaBIOS beside QEMU, block by block, to the boot sector; every difference of a device is explained in the docs."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.cli import guest
from vmm.config import Drive, MachineConfig
from vmm.errors import UsageError
from vmm.trace.lockstep import Lockstep, run, run_with_log
from vmm.trace.oracle import QEMU, find
from vmm.trace.records import REGISTERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "divergences.md"
BOOT_SECTOR = 0x7C00
SEABIOS = "2da2018c7555e50b660a84a273a14a79cb87b9070fe6a90e9f151a53e357f7e6"
"""SHA-256 of the firmware that the document is about."""
LOOPS = (range(0xEA65F, 0xEA66A), range(0xEA58D, 0xEA597), range(0xE81BB, 0xE81C3), range(0xC3DC2, 0xC3DD0))
"""SeaBIOS 1.16.2 clears, sums and compares memory byte by byte there: a block a byte, which nobody needs to see."""


def documented() -> set[str]:
    """The ports of the table in docs/divergences.md."""
    return set(re.findall(r"^\| `([0-9a-f]{4}(?:/[0-9a-f]+)?)` \|", DOCUMENT.read_text(), re.MULTILINE))


def disk(folder: Path) -> Path:
    """A disk whose boot sector jumps to itself."""
    path = folder / "disk.img"
    path.write_bytes(b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    return path


def machine(folder: Path) -> MachineConfig:
    return MachineConfig(bios=guest("seabios"), drives=(Drive(disk(folder)),), icount=3)


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.guest
@pytest.mark.skipif(not shutil.which(QEMU), reason="QEMU is the oracle")
def test_seabios_to_the_boot_sector(tmp_path: Path) -> None:
    if find()[1] != (7, 2) or hashlib.sha256(guest("seabios").read_bytes()).hexdigest() != SEABIOS:
        pytest.skip("docs/divergences.md lists what QEMU 7.2 and SeaBIOS 1.16.2 do")
    done = run(machine(tmp_path), BOOT_SECTOR, hidden=LOOPS)
    assert done.difference is None, done.difference.sentence()
    assert done.arrived
    assert done.compared > 200_000
    assert {each.where for each in done.inputs} == documented()


# Logs -----------------------------------------------------------------------------------------------------------

START = {"edx": 0x695, "eip": 0xFFF0, "eflags": 2, "cr0": 0x6000_0010, "cs": 0xF000}
"""Our CPU behind a reset; the first jump goes to F000:E05B."""


def text(registers: dict[str, int]) -> str:
    """A block as QEMU 7.2 writes it."""
    r = dict.fromkeys(REGISTERS, 0) | registers
    segments = "".join(
        f"{n.upper()} ={r[n]:04x} {r[n] << 4:08x} 0000ffff 00009300\n" for n in ("es", "cs", "ss", "ds", "fs", "gs")
    )
    return (
        f"Trace 0: 0x7fdc3c000100 [ffff0000/{r['eip']:08x}/00000040/ff020200] \n"
        f"EAX={r['eax']:08x} EBX={r['ebx']:08x} ECX={r['ecx']:08x} EDX={r['edx']:08x}\n"
        f"ESI={r['esi']:08x} EDI={r['edi']:08x} EBP={r['ebp']:08x} ESP={r['esp']:08x}\n"
        f"EIP={r['eip']:08x} EFL={r['eflags']:08x} [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n{segments}"
        "LDT=0000 00000000 0000ffff 00008200\nTR =0000 00000000 0000ffff 00008b00\n"
        "GDT=     00000000 0000ffff\nIDT=     00000000 0000ffff\n"
        f"CR0={r['cr0']:08x} CR2={r['cr2']:08x} CR3={r['cr3']:08x} CR4={r['cr4']:08x}\n"
        "DR0=00000000 DR1=00000000 DR2=00000000 DR3=00000000 \nDR6=ffff0ff0 DR7=00000400\n"
        "CCS=00000000 CCD=00000000 CCO=EFLAGS\nEFER=0000000000000000\n"
    )


def held(folder: Path, log: str) -> Lockstep:
    (folder / "log").write_text(log)
    return run_with_log(machine(folder), folder / "log", BOOT_SECTOR)


@pytest.mark.guest
def test_a_log_that_agrees(tmp_path: Path) -> None:
    done = held(tmp_path, text(START) + text(START | {"eip": 0xE05B}))
    assert (done.compared, done.difference, done.inputs) == (2, None, [])


@pytest.mark.guest
def test_a_block_that_was_stopped_and_one_that_began_twice_are_no_difference(tmp_path: Path) -> None:
    stopped = text(START | {"eip": 0x1234}) + "Stopped execution of TB chain before 0x7fdc3c000100 [f1234] \n"
    done = held(tmp_path, text(START) + stopped + 2 * text(START | {"eip": 0xE05B}))
    assert (done.compared, done.difference) == (2, None)


@pytest.mark.guest
@pytest.mark.parametrize(
    ("other", "registers"),
    [({"eip": 0xE05B, "ebx": 1}, ("ebx",)), ({"eip": 0xE05C}, ("eip",)), ({"eip": 0xE05B, "eflags": 3}, ("eflags",))],
)
def test_a_difference_is_named(tmp_path: Path, other: dict[str, int], registers: tuple[str, ...]) -> None:
    done = held(tmp_path, text(START) + text(START | other))
    assert done.difference is not None
    assert done.difference.registers == registers
    assert "instruction 1, 'ljmp 0xf000:0xe05b' at f000:0000fff0, leaves other values" in done.difference.sentence()


def test_machines_without_a_counterpart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="starts from firmware"):
        run(MachineConfig(kernel=disk(tmp_path)), BOOT_SECTOR)
