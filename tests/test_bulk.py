"""Repeated string instructions that go many elements at a time, against the real CPU: counts, overlaps, DF, faults."""

from __future__ import annotations

from random import Random

import pytest

from tests.support.engine import CONFIGURATIONS, BareEngine
from tests.support.makers import repeated_comparison_faults
from tests.support.silicon import Silicon
from tests.support.state import CODE, DATA, DATA_END, ENVIRONMENTS, Case, describe, differences
from translator.layout import DF, EAX, ECX, EDI, ESI, ESP

CODES = {
    "rep movsb": "f3 a4",
    "rep movsw": "66 f3 a5",
    "rep movsd": "f3 a5",
    "rep stosb": "f3 aa",
    "rep stosw": "66 f3 ab",
    "rep stosd": "f3 ab",
    "repe cmpsb": "f3 a6",
    "repe cmpsw": "66 f3 a7",
    "repe cmpsd": "f3 a7",
    "repne cmpsb": "f2 a6",
    "repne scasb": "f2 ae",
}
ROUNDS = 60
FLAGS = 0x8D5


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def engine(request: pytest.FixtureRequest) -> BareEngine:
    return BareEngine(**CONFIGURATIONS[request.param])


def cases(name: str) -> list[Case]:
    """Long and short ones, near and far operands, up and down, within the data and out of it at either end."""
    dice = Random(name)
    found = []
    for n in range(ROUNDS):
        count = dice.choice((0, 1, 31, 32, 63, 64, 65, 127, 128, 129, 200, 700, dice.randrange(2000)))
        source = DATA + dice.randrange(DATA_END - DATA)
        near = source + dice.choice((-65, -64, -63, -9, -1, 0, 1, 4, 63, 64, 65))
        target = near if n % 3 == 0 else DATA + dice.randrange(DATA_END - DATA)
        gpr = [dice.getrandbits(32) for _ in range(8)]
        gpr[ECX], gpr[ESI], gpr[EDI], gpr[ESP] = count, source, target, DATA + 0x800
        same = bytes(dice.randrange(2) for _ in range(3)) * 0x400
        patches = ((DATA, same), (DATA + 0x1000, same)) if n % 2 else ((DATA, bytes((gpr[EAX] & 0xFF,)) * 0x2800),)
        flags = dice.getrandbits(12) & FLAGS | (DF if n % 5 == 4 else 0) | 2
        code = bytes.fromhex(CODES[name])
        found.append(Case(code, ENVIRONMENTS["flat32u"], tuple(gpr), flags, patches, at=CODE + 0x100))
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("name", CODES)
def test_like_the_real_cpu(engine: BareEngine, silicon: Silicon, name: str) -> None:
    subjects = cases(name)
    for subject, expected in zip(subjects, silicon.run_cases(subjects), strict=True):
        ours = engine.run_case(subject)
        lines = differences(subject, expected, ours)
        if lines and repeated_comparison_faults(subject, expected, ours):
            lines = [] if ours.flags == subject.flags else lines
        assert not lines, "\n".join((describe(subject), *lines))
