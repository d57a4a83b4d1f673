"""``vmm rules``: the table that owns every instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmm.cli.parse import Option, parse, print_help

if TYPE_CHECKING:
    from translator.rules import Row

COLUMNS = ("opcode", "instruction", "treatment", "by", "class")
TREATMENTS = {
    "ident": "copied, with an address-size prefix and whatever its operands in memory need",
    "emulate": "done by other instructions in the translation cache",
    "branch": "a transfer of control, chained or looked up in the translation cache",
    "callout": "left to the VMM",
    "undefined": "#UD",
}
CLASSES = {"": "", "S": "sensitive", "P": "privileged"}
PREFIXES = {".": "NP", "6": "66", "3": "F3", "2": "F2"}
"""As Intel prints mandatory prefixes; NP: none."""
OPERANDS = {"": "", "m": " mem", "r": " reg"}

MARKDOWN = """# How every instruction is treated

Made by `vmm rules --markdown` from the one table that the translator reads; a test keeps it so. An opcode that is not
here is undefined (#UD) and never copied. Sensitive instructions are Robin and Irvine's; NP, 66, F3 and F2 are mandatory
prefixes (NP: none of them); /digit is the reg field of ModRM.

"""


@dataclass(slots=True)
class _Wanted:
    markdown: bool = False
    help: bool = False


_OPTIONS: tuple[Option[_Wanted], ...] = (
    Option(("markdown",), "", "print docs/rules.md", lambda wanted, _: setattr(wanted, "markdown", True)),
    Option(("help", "h"), "", "print this", lambda wanted, _: setattr(wanted, "help", True)),
)


def rules(arguments: Sequence[str]) -> int:
    """Print the rule table; the exit status."""
    wanted = _Wanted()
    words = parse(_OPTIONS, wanted, arguments, "vmm rules", operands=1)
    if wanted.help:
        print_help(
            "vmm rules [--markdown] [TEXT]",
            "Print how each x86 instruction is treated: copied, re-encoded, emulated in the translation cache, or\n"
            "left to the VMM.  With TEXT, only the lines that contain it.",
            _OPTIONS,
        )
        return 0
    if wanted.markdown:
        print(markdown(), end="")
        return 0
    from vmm.cli.tables import print_table

    text = words[0].lower() if words else ""
    print_table(COLUMNS, (line for line in lines() if text in " ".join(line).lower()))
    return 0


def lines() -> list[tuple[str, str, str, str, str]]:
    """The table as text, a row an instruction."""
    from translator.rules import rows

    return [(opcode(row), row.name, row.treatment, row.how, CLASSES[row.privileged]) for row in rows()]


def opcode(row: Row) -> str:
    """The opcode in Intel's notation: mandatory prefixes, map, opcode, /digit, and which kind of operand."""
    prefixes = "/".join(PREFIXES[prefix] for prefix in row.prefixes)
    digit = "" if row.digit is None else f" /{row.digit}"
    parts = (prefixes, "0F" if row.map else "", f"{row.opcode:02X}{digit}{OPERANDS[row.form]}")
    return " ".join(part for part in parts if part)


def markdown() -> str:
    """The whole document."""
    table = lines()
    counts = Counter(line[2] for line in table)
    summary = [f"| {name} | {counts[name]} | {TREATMENTS[name]} |\n" for name in TREATMENTS if counts[name]]
    head = "| treatment | rows | what that means |\n| --- | ---: | --- |\n"
    body = "".join("| " + " | ".join(line) + " |\n" for line in table)
    return MARKDOWN + head + "".join(summary) + "\n| " + " | ".join(COLUMNS) + " |\n" + "| --- " * 5 + "|\n" + body
