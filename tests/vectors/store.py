"""The file of recorded vectors: lines of JSON, compressed by xz.  Numbers in hexadecimal where they stand in strings.

The first line says what made the file.  Each other is one vector: its case, what of its outcome is undefined, the
outcome as far as it differs from the start, and who confirmed it.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from tests.support.state import ENVIRONMENTS, INITIAL_FX, Case, FxState, Outcome, parse_fx
from tests.vectors.vector import Vector
from translator.rules import Row, rows

PATH: Final = Path(__file__).with_name("recorded.jsonl.xz")
VERSION: Final = 1
_FX: Final = tuple(f.name for f in fields(FxState))


@dataclass(slots=True)
class Recorded:
    """A vector with its outcome."""

    vector: Vector
    expected: Outcome
    oracles: tuple[str, ...]
    """Who agrees on the outcome, the one that it was taken from first."""
    disputed: dict[str, str] = field(default_factory=dict)
    """Who does not, and the first difference."""
    deviation: str = ""
    """Why we are known to differ (``deviations.KNOWN``), or nothing."""


ROWS: Final[dict[str, Row]] = {f"{r.map} {r.key} {r.name} {r.prefixes}": r for r in rows()}


def _row_name(row: Row) -> str:
    return f"{row.map} {row.key} {row.name} {row.prefixes}"


def _runs(memory: dict[int, int]) -> list[list[Any]]:
    """Bytes by address as runs: [address, hex]."""
    found: list[tuple[int, bytearray]] = []
    for at in sorted(memory):
        if found and found[-1][0] + len(found[-1][1]) == at:
            found[-1][1].append(memory[at])
        else:
            found.append((at, bytearray((memory[at],))))
    return [[at, data.hex()] for at, data in found]


def _trimmed(image: bytes) -> str:
    return image.rstrip(b"\0").hex()


def pack(recorded: Recorded) -> dict[str, Any]:
    """What JSON can hold; empty fields are left out."""
    vector, expected = recorded.vector, recorded.expected
    case = vector.case
    start = parse_fx(case.fx or INITIAL_FX)
    media = {}
    if expected.fx is not None:
        for name in _FX:
            before, after = getattr(start, name), getattr(expected.fx, name)
            if isinstance(after, tuple):
                media.update(
                    {f"{name}{n}": f"{b:x}" for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
                )
            elif before != after:
                media[name] = f"{after:x}"
    line = {
        "mode": case.environment.name,
        "row": _row_name(vector.row),
        "code": case.code.hex(),
        "prelude": vector.prelude,
        "at": case.at,
        "gpr": " ".join(f"{v:x}" for v in case.gpr),
        "flags": case.flags,
        "memory": [[at, data.hex()] for at, data in case.memory],
        "fx": _trimmed(case.fx),
        "operand": vector.memory,
        "undefined": vector.flags_undefined,
        "nothing": vector.result_undefined,
        "unknown": sorted(vector.memory_undefined),
        "end": expected.end,
        "eip": expected.eip,
        "to": {str(n): f"{b:x}" for n, (a, b) in enumerate(zip(case.gpr, expected.gpr, strict=True)) if a != b},
        "leaves": expected.flags,
        "stores": _runs(expected.memory),
        "media": media,
        "no media": expected.fx is None,
        "oracles": list(recorded.oracles),
        "disputed": recorded.disputed,
        "deviation": recorded.deviation,
    }
    return {key: value for key, value in line.items() if value not in ("", [], {}, 0, False)}


def unpack(line: dict[str, Any]) -> Recorded:
    """What ``pack`` packed.  Raises ``KeyError`` for a row that the table has no longer: record anew."""
    gpr = tuple(int(v, 16) for v in line["gpr"].split())
    fx = bytes.fromhex(line["fx"]).ljust(512, b"\0") if "fx" in line else b""
    case = Case(
        bytes.fromhex(line["code"]), ENVIRONMENTS[line["mode"]], gpr, line.get("flags", 0),
        tuple((at, bytes.fromhex(data)) for at, data in line.get("memory", ())), line["at"], fx, max_insns=300,
    )  # fmt: skip
    vector = Vector(
        ROWS[line["row"]], case, line.get("undefined", 0), line.get("nothing", False),
        frozenset(line.get("unknown", ())), line.get("operand", False), prelude=line.get("prelude", 0),
    )  # fmt: skip
    after = list(gpr)
    for n, value in line.get("to", {}).items():
        after[int(n)] = int(value, 16)
    stores = {at + n: b for at, data in line.get("stores", ()) for n, b in enumerate(bytes.fromhex(data))}
    end = tuple(line["end"]) if isinstance(line["end"], list) else line["end"]
    state = None if line.get("no media") else _media(parse_fx(fx or INITIAL_FX), line.get("media", {}))
    expected = Outcome(
        tuple(after),
        line.get("leaves", 0),
        line.get("eip", 0),
        tuple(end) if isinstance(end, list) else end,
        stores,
        state,
    )
    return Recorded(vector, expected, tuple(line["oracles"]), line.get("disputed", {}), line.get("deviation", ""))


def _media(start: FxState, changed: dict[str, str]) -> FxState:
    values: dict[str, Any] = {}
    for name in _FX:
        old = getattr(start, name)
        if isinstance(old, tuple):
            values[name] = tuple(
                int(changed[f"{name}{n}"], 16) if f"{name}{n}" in changed else v for n, v in enumerate(old)
            )
        elif name in changed:
            values[name] = int(changed[name], 16)
    return replace(start, **values)


def write(recorded: Iterable[Recorded], path: Path = PATH) -> None:
    """Write the file; the same vectors make the same bytes."""
    lines = [json.dumps({"version": VERSION})]
    lines += [json.dumps(pack(each), separators=(",", ":")) for each in recorded]
    path.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))


def read(mode: str = "", path: Path = PATH) -> list[Recorded]:
    """All recorded vectors, or those of one mode, in the order of the file."""
    header, *lines = lzma.decompress(path.read_bytes()).decode().split("\n")
    if json.loads(header) != {"version": VERSION}:
        raise ValueError(f"{path} was made by another version: {header}")
    start = f'{{"mode":"{mode}"' if mode else ""
    return [unpack(json.loads(line)) for line in lines if line.startswith(start)]
