"""Is this change faster?  Two checkouts of ours run the compute kernels in turn.

``python -m perf.compare A B [--rounds N] [--kernels A,B] [--json FILE]``: A and B are directories or git revisions,
which are checked out for the time being.  Both run the same images, those of this checkout.  Printed are the ratio of
B's seconds to A's (below 1: B is faster), its 95 % interval (bootstrap) and the chance of such a difference if there
were none (permutation test).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perf.kernels.build import KERNELS, BuildError, build
from perf.peer import Peer, PeerError
from perf.peers import Ours
from perf.significance import Verdict, judge
from perf.suite import pick
from vmm.compiled import LIBRARY, library
from vmm.config import check_output
from vmm.errors import UsageError
from vmm.files import write_whole

ROOT = Path(__file__).parents[1]
ROUNDS = 7
"""Seven pairs that all point one way have a chance of 1 in 64."""
ALL = "all"

Pairs = dict[str, list[tuple[float, float]]]
"""Kernel -> seconds of A and B, a pair a round."""


@contextmanager
def checkout(given: str) -> Iterator[Path]:
    """The folder of *given*, a directory with our sources or a git revision.  Raises ``UsageError``."""
    folder = Path(given)
    if folder.is_dir():
        if not (folder / "vmm" / "__main__.py").exists():
            raise UsageError(f"{given}: there is no vmm in this directory")
        yield folder.resolve()
        return
    if _git("rev-parse", "--verify", "--quiet", f"{given}^{{commit}}"):
        raise UsageError(f"{given}: neither a directory nor a git revision")
    with tempfile.TemporaryDirectory(prefix="vmm-compare-") as name:
        folder = Path(name, "checkout")
        if reason := _git("worktree", "add", "--detach", "--quiet", str(folder), given):
            raise UsageError(f"{given}: {reason}")
        try:
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def is_compiled(folder: Path) -> bool:
    """Whether the engine of the checkout in *folder* is compiled."""
    return any(folder.glob(f"{LIBRARY}.*.so"))


def compile_(folder: Path) -> None:
    """Compile the engine of a checkout; one of before there was ``setup.py`` stays interpreted."""
    if (folder / "setup.py").exists():
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder, check=False)


def _git(*arguments: str) -> str:
    """Run git on this repository; what is wrong, or nothing."""
    try:
        result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "git is not installed"
    return "" if not result.returncode else result.stderr.strip() or f"git {arguments[0]} fails"


def measure(kernels: Sequence[str], a: Peer, b: Peer, rounds: int, builder: Callable[[str], Path] = build) -> Pairs:
    """Run the kernels on both, in turn; who goes first alternates.  Raises ``PeerError`` and ``BuildError``."""
    pairs: Pairs = {kernel: [] for kernel in kernels}
    for round_ in range(rounds):
        for kernel in kernels:
            image = builder(kernel)
            runs = {machine.name: machine.run(image) for machine in ((a, b) if round_ % 2 == 0 else (b, a))}
            first, second = runs[a.name], runs[b.name]
            if first.output != second.output:
                raise PeerError(f"{kernel}: {a.name} prints {first.output!r}, {b.name} {second.output!r}")
            pairs[kernel].append((first.seconds, second.seconds))
    return pairs


def verdicts(pairs: Pairs) -> dict[str, Verdict]:
    """The verdict on each kernel and on ``ALL``."""
    return {kernel: judge({kernel: rounds}) for kernel, rounds in pairs.items()} | {ALL: judge(pairs)}


def show(found: dict[str, Verdict], console: Console) -> None:
    """Print the table."""
    table = Table(title="B's seconds as a multiple of A's (below 1: B is faster)")
    table.add_column("kernel")
    for name in ("ratio", "95 % from", "to", "p"):
        table.add_column(name, justify="right")
    for kernel, verdict in found.items():
        if kernel == ALL:
            table.add_section()
        numbers = (verdict.ratio, verdict.low, verdict.high, verdict.p)
        table.add_row(kernel, *(f"{number:.3f}" for number in numbers))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 if a run failed or the two printed different results, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m perf.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("a", metavar="A", help="a directory or a git revision")
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--kernels", default=",".join(KERNELS), help=f"of {', '.join(KERNELS)}")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args(arguments)
    try:
        if given.rounds < 1:
            raise UsageError("--rounds: at least 1")
        if given.json:
            check_output("--json", given.json)
        kernels = pick(given.kernels, KERNELS, "kernel")
        with ExitStack() as stack:
            a, b = (stack.enter_context(checkout(name)) for name in (given.a, given.b))
            for name, folder in ((given.a, a), (given.b, b)):
                if library() and not Path(name).is_dir():
                    compile_(folder)
            if is_compiled(a) is not is_compiled(b):
                raise UsageError("one of the two is compiled and the other is not: make setup in both directories")
            pairs = measure(kernels, Ours("A", a), Ours("B", b), given.rounds)
    except (BuildError, UsageError) as error:
        print(error, file=sys.stderr)
        return 2
    except PeerError as error:
        print(error, file=sys.stderr)
        return 1
    found = verdicts(pairs)
    show(found, Console())
    if given.json:
        report = {"seconds": pairs, "verdicts": {kernel: asdict(verdict) for kernel, verdict in found.items()}}
        write_whole(given.json, (json.dumps(report, indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
