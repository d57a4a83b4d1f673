"""The options of ``vmm run``: one table, from which the parser and the help are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmm.cli.parse import Option, properties
from vmm.clock import MAX_ICOUNT
from vmm.config import (
    SLOTS,
    TECHNIQUES,
    BrokenCell,
    Channel,
    DebugExit,
    Drive,
    MachineConfig,
    Step,
    check_output,
    configure,
    parse_size,
)
from vmm.errors import Unsupported, UsageError


@dataclass(slots=True)
class Draft:
    """What the command line has said so far."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of ``MachineConfig`` that are just assigned."""
    serial: list[Channel] = field(default_factory=list)
    drives: list[tuple[str, int | None, dict[str, Any]]] = field(default_factory=list)
    """Interface, place (None: the next free one) and the other fields of ``Drive``."""
    script: list[Step] = field(default_factory=list)
    fail_on: list[str] = field(default_factory=list)
    broken_ram: list[BrokenCell] = field(default_factory=list)
    snapshot: bool = False
    nographic: bool = False
    stats: bool = False
    stats_json: Path | None = None
    json: bool = False
    help: bool = False

    def config(self, image: str | None = None) -> MachineConfig:
        """The machine that was asked for.  Raises as ``MachineConfig.check`` does."""
        settings = dict(self.settings)
        if image is not None:
            settings["image"] = Path(image)
        if self.nographic:
            settings.setdefault("display", "none")
        if self.serial:
            settings["serial"] = tuple(self.serial)
        elif self.nographic:
            settings["serial"] = (Channel("stdio", all_keys=True),)
        elif any(settings.get(name, Channel("null")).kind == "stdio" for name in ("debugcon", "bios_log")):
            settings["serial"] = (Channel("null"),)
        settings["drives"] = self._place_drives()
        settings["script"] = tuple(self.script)
        settings["fail_on"] = tuple(self.fail_on)
        settings["broken_ram"] = tuple(self.broken_ram)
        if self.stats_json is not None:
            check_output("--stats-json", self.stats_json)
        return configure(**settings)

    def _place_drives(self) -> tuple[Drive, ...]:
        taken = {(interface, index) for interface, index, _ in self.drives if index is not None}
        placed = []
        for interface, index, rest in self.drives:
            if index is None:
                places = (n for n in range(SLOTS.get(interface, 1)) if (interface, n) not in taken)
                index = next(places, None)
                if index is None:
                    raise UsageError(f"there is no place for another {interface} drive")
                taken.add((interface, index))
            placed.append(
                Drive(interface=interface, index=index, **(rest | {"snapshot": True} if self.snapshot else rest))
            )
        return tuple(placed)


Apply = Callable[[Draft, str], None]


# What the values mean ------------------------------------------------------------------------------
def _set(name: str, convert: Callable[[str], Any] = str) -> Apply:
    def apply(draft: Draft, value: str) -> None:
        draft.settings[name] = convert(value)

    return apply


def _constant(name: str, value: Any) -> Apply:
    def apply(draft: Draft, _: str) -> None:
        draft.settings[name] = value

    return apply


def _flag(name: str) -> Apply:
    def apply(draft: Draft, _: str) -> None:
        setattr(draft, name, True)

    return apply


def _size(option: str) -> Callable[[str], int]:
    return lambda text: parse_size(text, option)


def _memory(draft: Draft, value: str) -> None:
    given = properties(value, "-m", "size")
    _only(given, {"size"}, "-m")
    draft.settings["memory"] = parse_size(given["size"], "-m")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--timeout: {text!r} is not a number of seconds") from None


def count(text: str, option: str, what: str = "instructions", least: int | None = None) -> int:
    """A number of *what*, at *least* so many.  Raises ``UsageError``."""
    try:
        number = int(text.replace("_", ""), 0)
    except ValueError:
        number = None
    if number is None or (least is not None and number < least):
        raise UsageError(f"{option}: {text!r} is not a number of {what}")
    return number


def _insns(text: str) -> int:
    return count(text, "--max-insns")


def _only(given: dict[str, str], known: set[str], option: str) -> None:
    for key in given:
        if key not in known:
            raise UsageError(f"{option}: there is no property {key!r}; there are {', '.join(sorted(known))}")


def _switch(text: str, option: str) -> bool:
    values = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
    if text not in values:
        raise UsageError(f"{option}: {text!r} is neither on nor off")
    return values[text]


def _number(text: str, option: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a number") from None


def _channel(option: str) -> Callable[[str], Channel]:
    def convert(text: str) -> Channel:
        kind, _, rest = text.partition(":")
        if text in ("stdio", "null", "none"):
            return Channel("null" if text == "none" else text)
        if text == "mon:stdio":
            return Channel("stdio", all_keys=True)
        if kind == "file" and rest:
            return Channel("file", Path(rest))
        raise UsageError(f"{option}: {text!r} is not one of stdio, mon:stdio, file:PATH, null")

    return convert


def _serial(draft: Draft, value: str) -> None:
    draft.serial.append(_channel("-serial")(value))


def _disk(interface: str, index: int, **more: Any) -> Apply:
    def apply(draft: Draft, value: str) -> None:
        draft.drives.append((interface, index, {"file": Path(value), **more}))

    return apply


DRIVE_PROPERTIES = {"file", "if", "index", "media", "format", "snapshot", "readonly", "read-only"}
HOST_DRIVE_PROPERTIES = {"id", "cache", "aio"}
"""How QEMU names a drive and reaches its file: nothing that the guest could see."""


def _drive(draft: Draft, value: str) -> None:
    given = properties(value, "-drive")
    _only(given, DRIVE_PROPERTIES | HOST_DRIVE_PROPERTIES, "-drive")
    if not given.get("file"):
        raise UsageError("-drive: file= is missing")
    rest: dict[str, Any] = {"file": Path(given["file"])}
    rest |= {key: given[key] for key in ("media", "format") if key in given}
    if "snapshot" in given:
        rest["snapshot"] = _switch(given["snapshot"], "-drive: snapshot")
    for key in ("readonly", "read-only"):
        if key in given:
            rest["read_only"] = _switch(given[key], f"-drive: {key}")
    index = _number(given["index"], "-drive: index") if "index" in given else None
    draft.drives.append((given.get("if", "ide"), index, rest))


def _boot(text: str) -> str:
    given = properties(text, "-boot", "order")
    _only(given, {"order", "menu", "strict"}, "-boot")
    return given.get("order", "")


def _icount(draft: Draft, value: str) -> None:
    given = properties(value, "-icount", "shift")
    _only(given, {"shift", "sleep", "align"}, "-icount")
    shift = given.get("shift", "")
    if shift == "auto":
        raise Unsupported("-icount: shift=auto is not supported, time is counted in instructions")
    if not shift.isascii() or not shift.isdigit() or int(shift) > MAX_ICOUNT:
        raise UsageError(f"-icount: shift={shift} is not a number from 0 to {MAX_ICOUNT}")
    for name in ("sleep", "align"):  # of real time, which only -realtime brings
        if given.get(name, "off") not in ("on", "off"):
            raise UsageError(f"-icount: {name}={given[name]} is neither on nor off")
    draft.settings["icount"] = int(shift)


def _rtc(draft: Draft, value: str) -> None:
    given = properties(value, "-rtc")
    _only(given, {"base", "clock"}, "-rtc")
    if given.get("clock", "vm") != "vm":
        raise Unsupported("-rtc: clock=vm is the only clock there is, time is counted in instructions")
    base = given.get("base")
    if base == "utc":
        draft.settings["rtc_base"] = datetime.now(UTC)
    elif base == "localtime":
        draft.settings["rtc_base"] = datetime.now().astimezone().replace(tzinfo=UTC)
    elif base is not None:
        try:
            draft.settings["rtc_base"] = datetime.fromisoformat(base).replace(tzinfo=UTC)
        except ValueError:
            raise UsageError(f"-rtc: base={base} is not utc, localtime or a date like 2020-01-01T00:00:00") from None


def _display(text: str) -> str:
    """QEMU's curses is our text."""
    return "text" if text == "curses" else text


def _device(draft: Draft, value: str) -> None:
    given = properties(value, "-device", "driver")
    name = given.pop("driver", "")
    if name == "isa-debug-exit":
        _only(given, {"iobase", "iosize"}, "-device isa-debug-exit")
        numbers = {key: _number(text, f"-device isa-debug-exit: {key}") for key, text in given.items()}
        draft.settings["debug_exit"] = DebugExit(**numbers)
    elif name == "broken-ram":
        _only(given, {"address", "bit", "stuck"}, "-device broken-ram")
        if "address" not in given:
            raise UsageError("-device broken-ram: address= is missing")
        numbers = {key: _number(text, f"-device broken-ram: {key}") for key, text in given.items()}
        draft.broken_ram.append(BrokenCell(**numbers))
    elif name == "VGA" and set(given) <= {"romfile"}:
        if "romfile" in given:
            draft.settings["vgabios"] = Path(given["romfile"])
    else:
        raise Unsupported(f"-device: there is no device {value!r}, there are isa-debug-exit, broken-ram and VGA")


def _debug_items(text: str) -> tuple[str, ...]:
    return tuple(item for item in text.split(",") if item)


def _gdb(text: str) -> str:
    if not text.startswith("tcp:"):
        raise UsageError(f"-gdb: {text!r} is not of the form tcp:HOST:PORT")
    return text


def _send(draft: Draft, value: str) -> None:
    draft.script.append(Step("send", unescape(value)))


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "e": "\x1b", "b": "\b", "0": "\0", "\\": "\\"}


def unescape(text: str) -> str:
    r"""*text* with ``\n \r \t \e \b \0 \\`` and ``\xHH`` replaced by what they mean.

    Raises ``UsageError`` for another letter after a backslash.
    """
    parts = text.split("\\")
    result = [parts.pop(0)]
    while parts:
        part = parts.pop(0)
        if not part:  # two backslashes, or one at the end
            result.append("\\" + (parts.pop(0) if parts else ""))
        elif part[0] in _ESCAPES:
            result.append(_ESCAPES[part[0]] + part[1:])
        elif part[0] == "x" and len(part) > 2 and all(digit in "0123456789abcdefABCDEF" for digit in part[1:3]):
            result.append(chr(int(part[1:3], 16)) + part[3:])
        else:
            raise UsageError(f"--send: \\{part[0]} is not one of \\n \\r \\t \\e \\b \\0 \\\\ \\xHH")
    return "".join(result)


def _fixed(option: str, *accepted: str, first: str = "") -> Apply:
    """An option of QEMU's that says what this machine is anyway.

    Of several properties each must be so: *first* is the key of a value that has none, *accepted* holds the values, the
    plainest first, and one that ends in "-" stands for all that begin with it (versions of a machine).
    """

    def is_so(value: str) -> bool:
        return any(value == known or (known.endswith("-") and value.startswith(known)) for known in accepted)

    def apply(_: Draft, value: str) -> None:
        for text in properties(value, option, first or "value").values():
            if not is_so(text):
                raise Unsupported(f"{option}: {value!r} is not supported, only {accepted[0]}")

    return apply


def _nothing(_draft: Draft, _value: str) -> None:
    """An option of QEMU's that has nothing to change here."""


def _row(names: str, value: str, text: str, apply: Apply) -> Option[Draft]:
    return Option(tuple(names.split()), value, text, apply)


RUN_OPTIONS: tuple[Option[Draft], ...] = (
    _row("m", "SIZE", "guest memory: 64M, 1G; a bare number is in MiB (128M)", _memory),
    _row("kernel", "FILE", "a kernel: multiboot, ELF or Linux bzImage", _set("kernel", Path)),
    _row("initrd", "FILE", "the kernel's initial RAM disk, or multiboot modules", _set("initrd", Path)),
    _row("append", "TEXT", "the kernel's command line", _set("append")),
    _row("bios", "FILE", "the firmware (Debian's SeaBIOS)", _set("bios", Path)),
    _row("fda", "FILE", "floppy disk A", _disk("floppy", 0)),
    _row("fdb", "FILE", "floppy disk B", _disk("floppy", 1)),
    _row("hda", "FILE", "hard disk, primary master", _disk("ide", 0)),
    _row("hdb", "FILE", "hard disk, primary slave", _disk("ide", 1)),
    _row("hdc", "FILE", "hard disk, secondary master", _disk("ide", 2)),
    _row("hdd", "FILE", "hard disk, secondary slave", _disk("ide", 3)),
    _row("cdrom", "FILE", "CD-ROM, secondary master", _disk("ide", 2, media="cdrom", read_only=True)),
    _row("drive", "file=,if=,index=,media=,format=,snapshot=,readonly=", "any drive (if: ide, floppy)", _drive),
    _row("snapshot", "", "no write reaches a disk image, whatever -drive says", _flag("snapshot")),
    _row("boot", "a|c|d", "what the firmware boots first", _set("boot", _boot)),
    _row("serial", "stdio|file:PATH|null", "where COM1 goes, again for COM2 (stdio)", _serial),
    _row(
        "debugcon",
        "stdio|file:PATH|null",
        "where port E9h goes (null)",
        _set("debugcon", _channel("-debugcon")),
    ),
    _row(
        "bios-log",
        "stdio|file:PATH|null",
        "where port 402h goes: SeaBIOS's log (null)",
        _set("bios_log", _channel("--bios-log")),
    ),
    _row("display", "text|none", "show the text screen on the terminal (text)", _set("display", _display)),
    _row("nographic", "", "no screen; COM1 is the terminal, Ctrl-A x leaves", _flag("nographic")),
    _row(
        "device",
        "isa-debug-exit,iobase=,iosize=|broken-ram,address=,bit=,stuck=",
        "lets the guest choose the exit status; a bit of RAM that never changes",
        _device,
    ),
    _row("rtc", "base=,clock=vm", "the time at power-on (2020-01-01)", _rtc),
    _row("icount", "shift=N", "guest time of an instruction: 2**N ns, N from 0 to 10 (2)", _icount),
    _row("no-reboot", "", "a reset ends the run", _constant("reboot", False)),
    _row("timeout", "SECONDS", "end the run after this wall time, status 124", _set("timeout", _seconds)),
    _row("max-insns", "N", "end the run after this many guest instructions", _set("max_insns", _insns)),
    _row(
        "expect",
        "REGEX",
        "wait for the guest to print this; after the last, status 0",
        lambda draft, value: draft.script.append(Step("expect", value)),
    ),
    _row("send", "TEXT", r"then type this (\n \r \t \e \xHH)", _send),
    _row(
        "fail-on",
        "REGEX",
        "end with status 8 when the guest prints this",
        lambda draft, value: draft.fail_on.append(value),
    ),
    _row("technique", "|".join(TECHNIQUES), "how guest code runs (bt)", _set("technique")),
    _row("tc-size", "SIZE", "capacity of the translation cache (32M)", _set("tc_size", _size("--tc-size"))),
    _row("tc-store", "FILE", "a file of translations that runs share, for a faster next start", _set("tc_store", Path)),
    _row("no-chaining", "", "every fragment returns to the VMM", _constant("chaining", False)),
    _row("realtime", "", "guest time does not run ahead of wall time", _constant("realtime", True)),
    _row("stats", "", "print the statistics at the end, on stderr", _flag("stats")),
    _row("stats-json", "FILE", "write the statistics", lambda draft, value: setattr(draft, "stats_json", Path(value))),
    _row("json", "", "print how the run ended as JSON, on stdout", _flag("json")),
    _row("help h", "", "print this", _flag("help")),
    # Understood, and refused by MachineConfig.check until the machine has them; not in the help.
    _row("d", "LIST", "", _set("debug_log", _debug_items)),
    _row("D", "FILE", "", _set("debug_file", Path)),
    _row("gdb", "tcp:HOST:PORT", "", _set("gdb", _gdb)),
    _row("s", "", "", _constant("gdb", "tcp::1234")),
    _row("S", "", "", _constant("stopped", True)),
    # What scripts for QEMU say that is so anyway; not in the help.
    _row("nic", "none", "", _fixed("-nic", "none")),
    _row("net", "none", "", _fixed("-net", "none")),
    _row("machine M", "pc", "", _fixed("-machine", "pc", "tcg", "pc-i440fx-")),
    _row("accel", "tcg", "", _fixed("-accel", "tcg", "single")),
    _row("smp", "1", "", _fixed("-smp", "1")),
    _row("cpu", "qemu32", "", _fixed("-cpu", "qemu32", "max", "base")),
    _row("vga", "std", "", _fixed("-vga", "std")),
    _row("k", "en-us", "", _fixed("-k", "en-us")),
    _row("monitor", "none", "", _fixed("-monitor", "none", "null", "/dev/null")),
    _row("parallel", "none", "", _fixed("-parallel", "none", "null")),
    _row("audio", "none", "", _fixed("-audio", "none")),
    _row("curses", "", "", _constant("display", "text")),
    _row("name", "TEXT", "", _nothing),
    _row("uuid", "UUID", "", _nothing),
    _row("nodefaults", "", "", _nothing),
    _row("no-user-config", "", "", _nothing),
    _row("no-fd-bootchk", "", "", _nothing),
    _row("no-hpet", "", "", _nothing),
)
