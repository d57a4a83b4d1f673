"""Everything that can be said about a machine before it is switched on.

``MachineConfig`` is plain data: the command line (``vmm.cli``) and the Python API (``configure``) make
one, ``MachineConfig.check`` refuses what cannot work with one sentence, the machine reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmm.clock import ICOUNT, MAX_ICOUNT
from vmm.errors import ImageError, Unsupported, UsageError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MIN_MEMORY, MAX_MEMORY = MIB, 3 * GIB
"""A PC needs its first megabyte; above 3 GiB lie PCI devices, the APICs and the BIOS."""
PAGE = 4 * KIB
MIN_TC, MAX_TC = 16 * KIB, GIB
MAX_APPEND = 2047
"""Bytes of a Linux command line without its NUL (COMMAND_LINE_SIZE of i386 is 2,048)."""
RTC_BASE = datetime(2020, 1, 1, tzinfo=UTC)
"""When a machine's clock starts if nobody says: fixed, so that runs repeat."""
SLOTS = {"floppy": 2, "ide": 4}
"""Drives that the controllers of a PC can hold."""
TECHNIQUES = ("bt", "bt-all")
DISPLAYS = ("text", "none")

_UNITS = {"b": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1 << 40}


def parse_size(text: str, what: str, unit: str = "m") -> int:
    """A size in bytes from QEMU's notation: a number and one of B K M G T (or *unit* if there is none).

    Raises ``UsageError``, which names the option *what*.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([bkmgt]?)(?:i?b)?", text.strip().lower(), re.ASCII)
    if not match:
        raise UsageError(f"{what}: {text!r} is not a size (examples: 64K, 128M, 1G)")
    number, suffix = match.groups()
    scale = _UNITS[suffix or unit]
    return int(number) * scale if number.isdecimal() else int(float(number) * scale)


def format_size(size: int) -> str:
    """A size as ``parse_size`` reads it: ``"128M"``."""
    for suffix, scale in (("G", GIB), ("M", MIB), ("K", KIB)):
        if size and size % scale == 0:
            return f"{size // scale}{suffix}"
    return f"{size}B"


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk, CD-ROM or floppy drive with a medium."""

    file: Path
    interface: str = "ide"
    """``"ide"`` or ``"floppy"``."""
    index: int = 0
    """Its place: primary master, primary slave, secondary master, secondary slave; or floppy A, B."""
    media: str = "disk"
    """``"disk"`` or ``"cdrom"``."""
    format: str = "raw"
    snapshot: bool = True
    """Writes go to an overlay that ends with the run; the file stays as it is."""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """Where characters go: ``stdio``, ``file`` (to ``path``) or ``null``."""

    kind: str
    path: Path | None = None
    all_keys: bool = False
    """Of ``stdio``: Ctrl-C and the like go to the guest, and only Ctrl-A x leaves."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the conversation with the guest: wait for a pattern, or type a text."""

    kind: str
    """``"expect"`` or ``"send"``."""
    text: str
    """A regular expression, or the characters to type."""


@dataclass(frozen=True, slots=True)
class DebugExit:
    """The isa-debug-exit device: a write of *v* ends the run with status ``(v << 1) | 1``."""

    iobase: int = 0x501
    iosize: int = 2


@dataclass(frozen=True, slots=True)
class BrokenCell:
    """A bit of RAM that does not change: bit *bit* of the byte at guest-physical *address* is always *stuck*."""

    address: int
    bit: int = 0
    stuck: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """A machine and a run of it."""

    memory: int = 128 * MIB
    """Guest RAM in bytes."""
    image: Path | None = None
    """Something to run that is recognised by its content."""
    bios: Path | None = None
    """The firmware; without one, Debian's SeaBIOS is used if firmware is needed."""
    vgabios: Path | None = None
    """The VGA option ROM; without one, Debian's."""
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    """The kernel's command line."""
    drives: tuple[Drive, ...] = ()
    boot: str = ""
    """Boot order: letters a (floppy), c (hard disk), d (CD-ROM); empty is the firmware's own."""
    serial: tuple[Channel, ...] = (Channel("stdio"),)
    """COM1, COM2, ..."""
    debugcon: Channel = Channel("null")
    """Where the debug console at port E9h goes."""
    bios_log: Channel = Channel("null")
    """Where the debug console at port 402h goes: SeaBIOS's log."""
    display: str = "text"
    debug_exit: DebugExit | None = None
    broken_ram: tuple[BrokenCell, ...] = ()
    """RAM cells that are broken on purpose."""
    rtc_base: datetime = RTC_BASE
    """The time of day at power-on."""
    apic: bool = False
    """There are a local APIC and an I/O APIC besides the 8259A pair."""
    reboot: bool = True
    """A reset starts the machine again; else it ends the run."""
    timeout: float | None = None
    """Seconds of wall time after which the run ends."""
    max_insns: int | None = None
    """Guest instructions after which the run ends."""
    script: tuple[Step, ...] = ()
    fail_on: tuple[str, ...] = ()
    """Regular expressions; the guest's printing one ends the run with status 8."""
    technique: str = "bt"
    tc_size: int = 32 * MIB
    """Capacity of the translation cache in bytes."""
    tc_store: Path | None = None
    """A file of translations that runs share; it need not exist."""
    icount: int = ICOUNT
    """An instruction takes 2**icount nanoseconds of guest time, at most 2**10 (QEMU's ``-icount shift=``)."""
    chaining: bool = True
    """Fragments jump to each other; else every fragment returns to the VMM."""
    realtime: bool | None = None
    """Guest time does not run ahead of wall time; None: it does not if somebody can type and there is no script."""
    debug_log: tuple[str, ...] = ()
    """What to log (``-d``)."""
    debug_file: Path | None = None
    """Where to log it (``-D``)."""
    gdb: str | None = None
    """Where a debugger may connect: ``tcp:HOST:PORT``."""
    stopped: bool = False
    """Wait for the debugger before the first instruction."""

    def images(self) -> dict[str, Path]:
        """Every file that the guest is to be given, by the option that names it."""
        named = {"image": self.image, "-bios": self.bios, "-kernel": self.kernel}
        if self.initrd is not None and not (set(str(self.initrd)) & set(" ,")):  # else these may be several modules
            named["-initrd"] = self.initrd
        found = {option: path for option, path in named.items() if path is not None}
        if self.vgabios is not None:
            found["-device VGA,romfile="] = self.vgabios
        for drive in self.drives:
            found[f"{drive.interface} drive {drive.index}"] = drive.file
        return found

    def check(self) -> MachineConfig:
        """This configuration, if it can work.

        Raises ``UsageError`` (a value out of range), ``ImageError`` (a file that is not there) or
        ``Unsupported`` (a feature that is not there), each with one sentence.
        """
        _check_ranges(self)
        _check_choices(self)
        _check_drives(self.drives)
        _check_patterns(self)
        for name, sentence in NOT_THERE.items():
            if getattr(self, name):
                raise Unsupported(sentence)
        for option, path in self.images().items():
            check_image(option, path)
        for option, target in _outputs(self).items():
            check_output(option, target)
        return self


NOT_THERE = {
    "gdb": "-gdb and -s: there is no debugger stub yet",
    "stopped": "-S: there is no debugger stub yet",
    "debug_log": "-d: there is no execution log yet",
}
"""Fields of ``MachineConfig`` that the machine does not act on yet, and what to say if one is set."""


def _check_ranges(config: MachineConfig) -> None:
    if not MIN_MEMORY <= config.memory <= MAX_MEMORY:
        raise UsageError(f"-m: guest memory must be between {format_size(MIN_MEMORY)} and {format_size(MAX_MEMORY)}")
    if config.memory % PAGE:
        raise UsageError("-m: guest memory must be a multiple of 4K")
    if not MIN_TC <= config.tc_size <= MAX_TC:
        raise UsageError(f"--tc-size: must be between {format_size(MIN_TC)} and {format_size(MAX_TC)}")
    if not 0 <= config.icount <= MAX_ICOUNT:
        raise UsageError(f"-icount: shift={config.icount} is not a number from 0 to {MAX_ICOUNT}")
    if config.timeout is not None and not 0 < config.timeout < float("inf"):
        raise UsageError("--timeout: must be a positive number of seconds")
    if config.max_insns is not None and config.max_insns <= 0:
        raise UsageError("--max-insns: must be a positive number of instructions")
    if len(config.append.encode()) > MAX_APPEND:
        raise UsageError(f"-append: the command line is longer than {MAX_APPEND} bytes")
    if (exit_port := config.debug_exit) is not None:
        if exit_port.iosize not in (1, 2, 4):
            raise UsageError("-device isa-debug-exit: iosize must be 1, 2 or 4")
        if not 0 <= exit_port.iobase <= 0x1_0000 - exit_port.iosize:
            raise UsageError("-device isa-debug-exit: iobase must be a port (0 to 0xffff)")
    for cell in config.broken_ram:
        if not 0 <= cell.address < config.memory or 0xA_0000 <= cell.address < MIB:
            raise UsageError(f"-device broken-ram: there is no RAM at {cell.address:#x}")
        if not 0 <= cell.bit <= 7:
            raise UsageError("-device broken-ram: bit must be 0 to 7")
        if cell.stuck not in (0, 1):
            raise UsageError("-device broken-ram: stuck must be 0 or 1")


def _check_choices(config: MachineConfig) -> None:
    if config.technique not in TECHNIQUES:
        raise UsageError(f"--technique: {config.technique!r} is not one of {', '.join(TECHNIQUES)}")
    if config.display not in DISPLAYS:
        raise UsageError(f"-display: {config.display!r} is not one of {', '.join(DISPLAYS)}")
    if bad := set(config.boot) - set("acd"):
        raise UsageError(f"-boot: {min(bad)!r} is not one of a (floppy), c (hard disk), d (CD-ROM)")
    if config.initrd is not None and config.kernel is None and config.image is None:
        raise UsageError("-initrd needs -kernel")
    if config.append and config.kernel is None and config.image is None:
        raise UsageError("-append needs -kernel")
    if len(config.serial) > 4:
        raise UsageError("-serial: a PC has no more than four serial ports")
    if sum(channel.kind == "stdio" for channel in (*config.serial, config.debugcon, config.bios_log)) > 1:
        raise UsageError("only one of -serial, -debugcon and --bios-log can be stdio")


def _check_drives(drives: Sequence[Drive]) -> None:
    taken: set[tuple[str, int]] = set()
    for drive in drives:
        if drive.interface not in SLOTS:
            raise UsageError(f"-drive: if={drive.interface} is not one of {', '.join(sorted(SLOTS))}")
        if not 0 <= drive.index < SLOTS[drive.interface]:
            raise UsageError(f"-drive: {drive.interface} has no place {drive.index}")
        if (drive.interface, drive.index) in taken:
            raise UsageError(f"two drives are in the same place, {drive.interface} {drive.index}")
        taken.add((drive.interface, drive.index))
        if drive.media not in ("disk", "cdrom"):
            raise UsageError(f"-drive: media={drive.media} is not one of cdrom, disk")
        if drive.format != "raw":
            raise Unsupported(f"-drive: format={drive.format} is not supported, only raw images are")


def _check_patterns(config: MachineConfig) -> None:
    patterns = [("--expect", step.text) for step in config.script if step.kind == "expect"]
    for option, pattern in [*patterns, *(("--fail-on", text) for text in config.fail_on)]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{option}: {pattern!r} is not a regular expression: {error}") from None


def check_image(option: str, path: Path) -> None:
    """Raise ``ImageError`` unless *path* is a file with something in it that can be read."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ImageError(f"{option}: {path} is a directory")
        with path.open("rb") as file:
            if not size and not file.read(1):
                raise ImageError(f"{option}: {path} is empty")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{option}: {path}: {why or error}") from None


def check_output(option: str, path: Path) -> None:
    """Raise ``UsageError`` unless a file can be written at *path*."""
    if path.is_dir():
        raise UsageError(f"{option}: {path} is a directory")
    if not path.parent.is_dir():
        raise UsageError(f"{option}: there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{option}: {path} cannot be written")


def _outputs(config: MachineConfig) -> dict[str, Path]:
    named = {f"-serial number {n}": channel.path for n, channel in enumerate(config.serial)}
    named |= {"-debugcon": config.debugcon.path, "--bios-log": config.bios_log.path, "-D": config.debug_file}
    named |= {"--tc-store": config.tc_store}
    return {option: path for option, path in named.items() if path is not None}


# The Python API ------------------------------------------------------------------------------------
_PATHS = {"image", "bios", "vgabios", "kernel", "initrd", "debug_file", "tc_store"}
_SIZES = {"memory": "-m", "tc_size": "--tc-size"}


def configure(base: MachineConfig | None = None, **settings: Any) -> MachineConfig:
    """A checked configuration from keywords: ``configure(memory="128M", kernel="linux")``.

    The keywords are the fields of ``MachineConfig``; sizes and paths may be strings.
    Raises as ``MachineConfig.check`` does.
    """
    names = {entry.name for entry in fields(MachineConfig)}
    for name, value in settings.items():
        if name not in names:
            raise UsageError(f"a machine has no setting {name!r}")
        if name in _PATHS and value is not None:
            settings[name] = Path(value)
        elif name in _SIZES and isinstance(value, str):
            settings[name] = parse_size(value, _SIZES[name])
    return replace(base or MachineConfig(), **settings).check()
