"""``vmm rules``: the table that owns every instruction."""

from __future__ import annotations

from collections.abc import Sequence

from vmm.errors import UsageError

USAGE = """usage: vmm rules [TEXT]

Print how each x86 instruction is treated: copied, re-encoded, emulated in the translation cache, or left to
the VMM.  With TEXT, only the lines that contain it."""


def rules(arguments: Sequence[str]) -> int:
    """Print the rule table; the exit status."""
    if arguments and arguments[0] in ("-h", "-help", "--help"):
        print(USAGE)
        return 0
    if len(arguments) > 1 or any(word.startswith("-") for word in arguments):
        raise UsageError("vmm rules takes one word to look for")
    from translator.rules import rows
    from vmm.cli.tables import print_table

    lines = (
        (
            f"{'0F ' if row.map else ''}{row.prefixes.strip('.')}{row.opcode:02X}" + _digit(row.digit, row.form),
            row.name,
            row.treatment,
            row.how,
            CLASSES[row.privileged],
        )
        for row in rows()
    )
    wanted = arguments[0].lower() if arguments else ""
    print_table(
        ("opcode", "instruction", "treatment", "by", "class"), (l for l in lines if wanted in " ".join(l).lower())
    )
    return 0


CLASSES = {"": "", "S": "sensitive", "P": "privileged"}


def _digit(digit: int | None, form: str) -> str:
    """Intel's notation of the ModRM byte: /digit, and whether the operand is memory or a register."""
    operand = {"m": " mem", "r": " reg", "": ""}[form]
    return operand if digit is None else f" /{digit}{operand}"
