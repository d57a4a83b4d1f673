"""The oracles by one interface: plain Unicorn, the real CPU, Bochs and QEMU.

An oracle runs cases of the environments that it can, and says what each left (``tests.support.state.Outcome``).
What it cannot tell is said in its class: ``Outcome`` has -1 for a count that is not known, None for media registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import pytest

from tests.support.bare.machines import Bochs, Qemu
from tests.support.plain import PlainUnicorn
from tests.support.silicon import Silicon
from tests.support.state import Case, Environment, Outcome


class Oracle(Protocol):
    """Something that runs cases and is not ours.  Its constructor raises ``OSError`` where it is not available."""

    name: str

    def can(self, environment: Environment) -> bool:
        """Whether it can run cases of *environment*."""
        ...

    def run_cases(self, cases: Sequence[Case]) -> list[Outcome]:
        """The outcome of each case."""
        ...

    def close(self) -> None:
        """End its process, if it has one."""
        ...


class Unicorn:
    """Plain Unicorn, one engine for real mode and one for flat 32-bit code.

    It knows no limits and rights of segments, no error codes, and no privilege: ring 3 and virtual-8086 mode run as
    ring 0 and real mode.
    """

    name = "unicorn"

    def __init__(self) -> None:
        self._engines = {False: PlainUnicorn(False), True: PlainUnicorn(True)}

    def can(self, environment: Environment) -> bool:
        """Real and virtual-8086 mode, and flat segments."""
        return environment.real or environment.v86 or not environment.segmented

    def run_cases(self, cases: Sequence[Case]) -> list[Outcome]:
        return [self._engines[c.environment.real or c.environment.v86].run_case(c) for c in cases]

    def close(self) -> None:
        """It lives in this process."""


ORACLES: Final[dict[str, Callable[[], Oracle]]] = {
    "cpu": Silicon, "bochs": Bochs, "unicorn": Unicorn, "qemu": Qemu,
}  # fmt: skip
"""By name, the most trusted first."""


@pytest.fixture(scope="session")
def silicon() -> Iterator[Silicon]:
    """The real CPU; a test that asks for it is skipped where it cannot be had."""
    try:
        found = Silicon()
    except OSError as reason:
        pytest.skip(str(reason))
    yield found
    found.close()
