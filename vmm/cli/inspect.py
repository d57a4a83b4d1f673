"""``vmm inspect``: what an image is, and what its first code becomes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vmm.cli.parse import Option, parse, print_help
from vmm.config import parse_size
from vmm.errors import UsageError

if TYPE_CHECKING:
    from vmm.inspection import Inspection, Unit

USAGE = "vmm inspect [options] IMAGE"
SENTENCE = """Say what an image is, where its parts go and how it starts, and show what its first code becomes: each
guest instruction with the rule that owns it (vmm rules), and the host code of the unit.  Nothing is run."""
DEFAULT_MEMORY = 128 << 20
MEMORY_LIMITS = (1 << 20, 3 << 30)
MAX_UNITS = 10_000


@dataclass(slots=True)
class _Wanted:
    memory: int = DEFAULT_MEMORY
    at: int | None = None
    bits: int | None = None
    units: int = 1
    json: bool = False
    help: bool = False


def _memory(wanted: _Wanted, text: str) -> None:
    wanted.memory = parse_size(text, "-m")
    if not MEMORY_LIMITS[0] <= wanted.memory <= MEMORY_LIMITS[1]:
        raise UsageError("-m: guest memory must be between 1M and 3G")


def _address(wanted: _Wanted, text: str) -> None:
    try:
        wanted.at = int(text, 0)
    except ValueError:
        raise UsageError(f"--at: {text!r} is not an address (example: 0x100000)") from None
    if not 0 <= wanted.at < 1 << 32:
        raise UsageError(f"--at: {text} is not below 4 GiB")


def _bits(wanted: _Wanted, text: str) -> None:
    if text not in ("16", "32"):
        raise UsageError(f"--bits: {text!r} is neither 16 nor 32")
    wanted.bits = int(text)


def _units(wanted: _Wanted, text: str) -> None:
    if not text.isdecimal() or not 0 <= int(text) <= MAX_UNITS:
        raise UsageError(f"--units: {text!r} is not a number from 0 to {MAX_UNITS}")
    wanted.units = int(text)


_OPTIONS: tuple[Option[_Wanted], ...] = (
    Option(("at",), "ADDRESS", "the code at this linear address (default: the first instruction)", _address),
    Option(("bits",), "16|32", "take it for real mode or flat protected mode (default: as the guest starts)", _bits),
    Option(("units",), "N", "so many translation units, by following direct exits (1)", _units),
    Option(("m",), "SIZE", "guest memory that the image has to fit (128M)", _memory),
    Option(("json",), "", "print all of it as JSON", lambda wanted, _: setattr(wanted, "json", True)),
    Option(("help", "h"), "", "print this", lambda wanted, _: setattr(wanted, "help", True)),
)


def inspect(arguments: Sequence[str]) -> int:
    """Print what is known of an image before it runs; the exit status."""
    wanted = _Wanted()
    images = parse(_OPTIONS, wanted, arguments, "vmm inspect", operands=1)
    if wanted.help:
        print_help(USAGE, SENTENCE, _OPTIONS)
        return 0
    if not images:
        raise UsageError("vmm inspect: the IMAGE is missing")
    from vmm import inspection

    found = inspection.inspect(images[0], wanted.memory, wanted.at, wanted.bits, wanted.units)
    if wanted.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print("\n".join(_lines(found)))
    return 0


def _lines(found: Inspection) -> Iterator[str]:
    yield found.image
    width = max(len(name) for name, _ in found.headers)
    yield from (f"  {name:<{width}}  {value}" for name, value in found.headers)
    yield "memory"
    yield from (f"  {part.address:08x}..{part.address + part.size - 1:08x}  {part.what}" for part in found.parts)
    yield "start" if not found.firmware else "start, by the BIOS"
    yield f"  {found.entry:08x}  " + " ".join(f"{name}={value:x}" for name, value in found.registers.items() if value)
    if found.units:
        yield f"code, in {found.mode}"
    for unit in found.units:
        yield ""
        yield from _unit(unit)


def _unit(unit: Unit) -> Iterator[str]:
    yield f"unit {unit.address:08x}: {unit.guest_bytes} bytes of guest code, {unit.host_bytes} of host code"
    for insn in unit.instructions:
        rule = " ".join(
            filter(None, (insn.treatment, insn.how, {"S": "sensitive", "P": "privileged"}.get(insn.privileged)))
        )
        yield f"  {insn.address:08x}  {insn.code:<24} {insn.text:<40} {insn.opcode}: {rule}"
    texts = {insn.address: insn.text for insn in unit.instructions}
    stubs = {way.stub: way for way in unit.ways}
    for part in unit.emitted:
        way = stubs.get(part.host[0][0])
        if way is not None:
            yield f"    exit: {way.kind} {way.address:08x}" + (
                f" vector {way.vector}" if way.vector is not None else ""
            )
        elif part.address is not None:
            yield f"    {part.address:08x} {texts[part.address]}"
        yield from (f"      {at:4x}  {text}" for at, text in part.host)
