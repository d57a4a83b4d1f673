"""Is one build faster than another?  Statistics without assumptions about how the times are distributed.

Times are taken in pairs, one of each build in the same round, so that a slow spell of the host hits both.  What is
looked at is the logarithm of each pair's ratio.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

SEED = 1
"""The same times give the same answer."""
RESAMPLES = 4000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many times as long B takes as A; below 1 B is faster."""

    ratio: float
    low: float
    high: float
    """The ends of the interval of ``CONFIDENCE``."""
    p: float
    """How often chance alone makes a difference as great, if there is none."""


def judge(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> Verdict:
    """The verdict on (A, B) times in seconds of one or more kernels, each with at least one pair.

    The ratio is the geometric mean over the kernels of the median over the rounds.
    """
    logs = [[math.log(b / a) for a, b in rounds] for rounds in pairs.values()]
    generator = random.Random(SEED)
    samples = sorted(_centre([generator.choices(rounds, k=len(rounds)) for rounds in logs]) for _ in range(RESAMPLES))
    margin = (1 - CONFIDENCE) / 2
    low, high = samples[int(margin * RESAMPLES)], samples[math.ceil((1 - margin) * RESAMPLES) - 1]
    return Verdict(math.exp(_centre(logs)), math.exp(low), math.exp(high), _permutation_p(logs, generator))


def _centre(logs: Sequence[Sequence[float]]) -> float:
    return statistics.fmean(statistics.median(rounds) for rounds in logs)


def _permutation_p(logs: Sequence[Sequence[float]], generator: random.Random) -> float:
    """Under no difference A and B of a pair could be exchanged: the share of such exchanges with as great a sum."""
    values = [value for rounds in logs for value in rounds]
    seen = abs(math.fsum(values)) * (1 - 1e-9)  # rounding must not make the pairs as they are a lesser case
    count = hits = 0
    for signs in _signs(len(values), generator):
        count += 1
        hits += abs(math.fsum(map(math.prod, zip(signs, values, strict=True)))) >= seen
    return hits / count


def _signs(size: int, generator: random.Random) -> Iterator[Sequence[int]]:
    """All choices of signs, or, where those are too many, a sample with the pairs as they are in it."""
    if 1 << size <= RESAMPLES:
        yield from itertools.product((1, -1), repeat=size)
        return
    yield (1,) * size
    for _ in range(RESAMPLES - 1):
        yield generator.choices((1, -1), k=size)
