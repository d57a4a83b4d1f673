"""The oracles themselves: known programs, and a runner that dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.oracles import ORACLES, Oracle
from tests.support.silicon import Silicon
from tests.support.state import BACKGROUND, CODE, DATA, DATA_END, ENVIRONMENTS, STACK, Case
from translator.layout import EAX, EBX, ESP

GPR = tuple({EBX: DATA, ESP: STACK + 0x800}.get(n, 0) for n in range(8))
PROGRAMS = {
    "halt": ("b8 05 00 00 00", "halt", CODE + 0x105),
    "undefined": ("0f 0b", (6, 0), CODE + 0x100),
    "division": ("31 c0 f7 f0", (0, 0), CODE + 0x102),
    "store outside": (f"89 1d {DATA_END.to_bytes(4, 'little').hex()}", (14, 6), CODE + 0x100),
}


def case(code: str, mode: str = "flat32u") -> Case:
    return Case(bytes.fromhex(code), ENVIRONMENTS[mode], GPR)


@pytest.fixture(params=list(ORACLES))
def oracle(request: pytest.FixtureRequest) -> Iterator[Oracle]:
    try:
        found = ORACLES[request.param]()
    except OSError as reason:
        pytest.skip(str(reason))
    yield found
    found.close()


@pytest.mark.oracle
def test_known_programs(oracle: Oracle) -> None:
    outcomes = oracle.run_cases([case(code) for code, _, _ in PROGRAMS.values()])
    for (_, end, eip), outcome in zip(PROGRAMS.values(), outcomes, strict=True):
        if oracle.name == "unicorn" and isinstance(end, tuple):
            end = (end[0], 0)  # it tells no error codes
        assert (outcome.end, outcome.eip) == (end, eip)
    assert outcomes[0].gpr[EAX] == 5


@pytest.mark.oracle
@pytest.mark.parametrize("mode", ENVIRONMENTS)
def test_what_it_can_it_does(oracle: Oracle, mode: str) -> None:
    """A store by DS, an addition and the end, in every mode that it says it can."""
    environment = ENVIRONMENTS[mode]
    if not oracle.can(environment):
        return
    wide = environment.code32
    offset = DATA + 0x200 - environment.segments[3].base & 0xFFFF_FFFF
    store = "c605" + offset.to_bytes(4, "little").hex() if wide else "c606" + offset.to_bytes(4, "little")[:2].hex()
    (outcome,) = oracle.run_cases([Case(bytes.fromhex(store + "a504f9"), environment, GPR)])
    assert outcome.end == "halt"
    assert BACKGROUND[DATA][0x200] != 0xA5
    assert outcome.memory == {DATA + 0x200: 0xA5}
    assert outcome.gpr[EAX] == 0xF9


@pytest.mark.oracle
def test_a_case_that_ends_the_runner_is_named_and_the_next_runs(silicon: Silicon) -> None:
    """Only system calls do; a forbidden one kills the process."""
    killer, harmless = case("b8 27 00 00 00 cd 80"), case("b8 05 00 00 00")
    with pytest.raises(OSError, match="int 0x80"):
        silicon.run_cases([harmless, killer, harmless])
    assert [outcome.end for outcome in silicon.run_cases([harmless] * 3)] == ["halt"] * 3
