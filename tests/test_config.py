"""What a machine's configuration takes and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmm.config import (
    GIB,
    KIB,
    MIB,
    BrokenCell,
    Channel,
    DebugExit,
    Drive,
    MachineConfig,
    Step,
    configure,
    format_size,
    parse_size,
)
from vmm.errors import ExitStatus, VmmError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128", 128 * MIB),
        ("128M", 128 * MIB),
        ("128m", 128 * MIB),
        ("128MiB", 128 * MIB),
        ("1G", GIB),
        ("1.5G", 3 * GIB // 2),
        ("64K", 64 * KIB),
        ("4096b", 4096),
        (" 2g ", 2 * GIB),
        ("0", 0),
        ("1T", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "-m") == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1X", "1 G", "0x10", "1e3", "٣", "1.M", ".5G", "9" * 40])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(VmmError, match=r"-m: .* is not a size") as caught:
        parse_size(text, "-m")
    assert caught.value.status == ExitStatus.USAGE


@pytest.mark.parametrize("size", [1, 4096, 64 * KIB, 3 * MIB, GIB, 1500 * MIB])
def test_a_printed_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size), "") == size


def test_the_defaults_can_work() -> None:
    config = MachineConfig().check()
    assert (config.memory, config.technique, config.serial) == (128 * MIB, "bt", (Channel("stdio"),))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "image").write_bytes(b"x")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_strings_are_converted(files: Path) -> None:
    config = configure(memory="64M", kernel=str(files / "image"), tc_size="1M")
    assert (config.memory, config.kernel, config.tc_size) == (64 * MIB, files / "image", MIB)


USAGE, IMAGE, UNSUPPORTED = ExitStatus.USAGE, ExitStatus.BAD_IMAGE, ExitStatus.UNSUPPORTED
HERE = Path(__file__)


@pytest.mark.parametrize(
    ("settings", "status", "sentence"),
    [
        ({"memory": 0}, USAGE, "-m: guest memory must be between 1M and 3G"),
        ({"memory": "999G"}, USAGE, "-m: guest memory must be between 1M and 3G"),
        ({"memory": 3 * GIB + 4096}, USAGE, "-m: guest memory must be between 1M and 3G"),
        ({"memory": MIB + 1}, USAGE, "-m: guest memory must be a multiple of 4K"),
        ({"tc_size": "1K"}, USAGE, "--tc-size: must be between 16K and 1G"),
        ({"timeout": 0.0}, USAGE, "--timeout: must be a positive number of seconds"),
        ({"timeout": float("nan")}, USAGE, "--timeout: must be a positive number of seconds"),
        ({"timeout": float("inf")}, USAGE, "--timeout: must be a positive number of seconds"),
        ({"max_insns": 0}, USAGE, "--max-insns: must be a positive number of instructions"),
        ({"append": "x" * 2048, "kernel": HERE}, USAGE, "-append: the command line is longer than 2047 bytes"),
        ({"append": "x"}, USAGE, "-append needs -kernel"),
        ({"initrd": HERE}, USAGE, "-initrd needs -kernel"),
        ({"technique": "magic"}, USAGE, "--technique: 'magic' is not one of bt, bt-all"),
        ({"display": "gtk"}, USAGE, "-display: 'gtk' is not one of text, none"),
        ({"boot": "n"}, USAGE, "-boot: 'n' is not one of a (floppy), c (hard disk), d (CD-ROM)"),
        ({"serial": (Channel("null"),) * 5}, USAGE, "-serial: a PC has no more than four serial ports"),
        ({"serial": (Channel("stdio"),) * 2}, USAGE, "only one of -serial, -debugcon and --bios-log can be stdio"),
        ({"debug_exit": DebugExit(0xF4, 3)}, USAGE, "-device isa-debug-exit: iosize must be 1, 2 or 4"),
        ({"debug_exit": DebugExit(0xFFFF, 2)}, USAGE, "-device isa-debug-exit: iobase must be a port (0 to 0xffff)"),
        ({"broken_ram": (BrokenCell(0xA0000),)}, USAGE, "-device broken-ram: there is no RAM at 0xa0000"),
        ({"broken_ram": (BrokenCell(128 * MIB),)}, USAGE, "-device broken-ram: there is no RAM at 0x8000000"),
        ({"broken_ram": (BrokenCell(0, 8),)}, USAGE, "-device broken-ram: bit must be 0 to 7"),
        ({"broken_ram": (BrokenCell(0, 0, 2),)}, USAGE, "-device broken-ram: stuck must be 0 or 1"),
        ({"debug_exit": DebugExit(-1, 1)}, USAGE, "-device isa-debug-exit: iobase must be a port (0 to 0xffff)"),
        ({"script": (Step("expect", "("),)}, USAGE, "--expect: '(' is not a regular expression: "),
        ({"fail_on": ("[",)}, USAGE, "--fail-on: '[' is not a regular expression: "),
        ({"drives": (Drive(HERE), Drive(HERE))}, USAGE, "two drives are in the same place, ide 0"),
        ({"drives": (Drive(HERE, index=4),)}, USAGE, "-drive: ide has no place 4"),
        ({"drives": (Drive(HERE, "floppy", 2),)}, USAGE, "-drive: floppy has no place 2"),
        ({"drives": (Drive(HERE, "scsi"),)}, USAGE, "-drive: if=scsi is not one of floppy, ide"),
        ({"drives": (Drive(HERE, media="tape"),)}, USAGE, "-drive: media=tape is not one of cdrom, disk"),
        ({"drives": (Drive(HERE, format="qcow2"),)}, UNSUPPORTED, "-drive: format=qcow2 is not supported"),
        ({"gdb": "tcp::1234"}, UNSUPPORTED, "-gdb and -s: there is no debugger stub yet"),
        ({"colour": 3}, USAGE, "a machine has no setting 'colour'"),
        ({"kernel": "/nonexistent/kernel"}, IMAGE, "-kernel: /nonexistent/kernel: No such file or directory"),
        ({"bios": "/dev"}, IMAGE, "-bios: /dev is a directory"),
        ({"image": "/dev/null"}, IMAGE, "image: /dev/null is empty"),
        ({"image": "a\0b"}, IMAGE, "image: a\0b: embedded null byte"),
        ({"drives": (Drive(Path("/none")),)}, IMAGE, "ide drive 0: /none: No such file or directory"),
        ({"serial": (Channel("file", Path("/none/x")),)}, USAGE, "-serial number 0: there is no directory /none"),
        ({"debugcon": Channel("file", Path("/dev"))}, USAGE, "-debugcon: /dev is a directory"),
    ],
)
def test_what_is_refused(settings: dict[str, object], status: ExitStatus, sentence: str) -> None:
    with pytest.raises(VmmError) as caught:
        configure(**settings)
    assert caught.value.status == status
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
