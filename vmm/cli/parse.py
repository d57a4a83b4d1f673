"""A parser of options made of a table.

Options have QEMU's names and take one dash or two; a value is the next argument or follows an equals sign.
argparse is not used: it takes ``-snapshot`` for ``-s``, and loses the order of different options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vmm.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One option of a command."""

    names: tuple[str, ...]
    """Without dashes; the first is the one that is printed."""
    value: str
    """What its value is called in the help, such as ``FILE``; empty if it takes none."""
    help: str
    apply: Callable[[T, str], None]
    """Writes the option into the target.  Raises ``UsageError``."""

    @property
    def shown(self) -> str:
        """The option as the user writes it."""
        dashes = "--" if "-" in self.names[0] or self.names[0] in _TWO_DASHES else "-"
        return dashes + self.names[0] + (f" {self.value}" if self.value else "")


_TWO_DASHES = (
    *("help", "timeout", "expect", "send", "stats", "json", "technique", "force", "prometheus"),
    *("suite", "rounds", "peers", "quick", "chart"),
    *("interval", "level", "from", "to", "at", "bits", "units", "log", "until", "blocks"),
)


def parse(
    options: Iterable[Option[T]], target: T, arguments: Sequence[str], command: str, operands: int | None = None
) -> list[str]:
    """Apply *arguments* to *target*, in order, and return the operands: what is not an option.

    After ``--`` everything is an operand; *operands* is the greatest number of them.
    Raises ``UsageError`` with the option's name in it.
    """
    by_name = {name: option for option in options for name in option.names}
    rest = list(arguments)
    found: list[str] = []
    while rest:
        word = rest.pop(0)
        if word == "--":
            found += rest
            break
        if word == "-" or not word.startswith("-"):
            found.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        option = by_name.get(name)
        if option is None or word.startswith("---"):
            raise UsageError(
                f"unknown option {word.partition('=')[0]}{suggest(name, by_name)} ({command} --help lists them)"
            )
        if equals and not option.value:
            raise UsageError(f"{option.shown} takes no value")
        if option.value and not equals:
            if not rest:
                raise UsageError(f"{option.shown}: the value is missing")
            value = rest.pop(0)
        option.apply(target, value)
    if operands is not None and len(found) > operands:
        raise UsageError(f"{command}: one argument too many: {found[operands]!r}")
    return found


def suggest(word: str, known: Iterable[str]) -> str:
    """``", did you mean ...?"`` if *word* is nearly one of *known*, else nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""


def properties(text: str, option: str, first: str = "") -> dict[str, str]:
    """QEMU's ``key=value,key=value``; ``,,`` is a comma.  A first part without a key is *first*.

    Raises ``UsageError`` for a part without "=" and a key that comes twice.
    """
    result: dict[str, str] = {}
    for n, part in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = part.replace("\0", ",").partition("=")
        if not equals:
            if n or not first:
                raise UsageError(f"{option}: {key!r} is not of the form key=value")
            key, value = first, key
        if key in result:
            raise UsageError(f"{option}: {key} is given twice")
        result[key] = value
    return result


def print_help(usage: str, sentence: str, options: Iterable[Option[T]], epilogue: str = "") -> None:
    """Print the help of a command."""
    print(f"usage: {usage}\n\n{sentence}\n\noptions:")
    for option in options:
        if option.help:
            print(
                f"  {option.shown:<28}{option.help}"
                if len(option.shown) < 28
                else f"  {option.shown}\n{'':30}{option.help}"
            )
    if epilogue:
        print(f"\n{epilogue}")
