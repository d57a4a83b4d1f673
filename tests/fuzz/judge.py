"""Runs programs by binary translation and by their oracles, and says what nobody explains."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.fuzz.families import Family, Program
from tests.fuzz.quick import QuickUnicorn
from tests.support.engine import BareEngine
from tests.support.makers import repeated_comparison_faults
from tests.support.plain import RUNS_DATA, PlainUnicorn
from tests.support.silicon import Silicon
from tests.support.state import HLT, SELECTORS, STACK, Case, Outcome, differences, initial_memory
from tests.vectors.vector import INSTRUCTION_FETCH, PAGE_FAULT, SSE_EXCEPTIONS, X87_EXCEPTIONS

STACK_FAULT, PROTECTION = 12, 13
PRESENT: Final = 1
"""Bit of a page fault's error code."""
COUNTED: Final = 8
"""Of so many programs that end, one has its instructions counted by plain Unicorn too."""


FLUSH_EVERY: Final = 8
PLACES: Final = 4
"""How often the real CPU's process is started anew to get its own memory out of a program's way."""


@dataclass(slots=True)
class Verdicts:
    """What became of the programs."""

    counts: Counter[str] = field(default_factory=Counter)
    """How many were judged by whom, and how many differences have which explanation."""
    failures: list[tuple[Program, list[str]]] = field(default_factory=list)


class Judge:
    """The engine and its oracles.  Raises ``OSError`` where the real CPU cannot be had."""

    def __init__(self, silicon: Silicon | None = None) -> None:
        self._silicon = silicon or Silicon()
        self._engine = self._new_engine()
        self._quick = {real: QuickUnicorn(real) for real in (False, True)}
        self._plain = {real: PlainUnicorn(real) for real in (False, True)}
        self._turn = 0

    @staticmethod
    def _new_engine() -> BareEngine:
        engine = BareEngine()
        engine.flush_every = FLUSH_EVERY
        return engine

    def ours(self, program: Program, case: Case) -> Outcome | list[str]:
        """The outcome by binary translation, or what was raised: nothing that ends the engine is passed over."""
        self._engine.media = program.family.media
        try:
            return self._engine.run_case(case)
        except Exception:  # noqa: BLE001 - any is a finding
            self._engine = self._new_engine()
            return ["the engine raised:", *traceback.format_exc().splitlines()[-4:]]

    def unicorn(self, family: Family, case: Case, ours: Outcome) -> Outcome:
        """Plain Unicorn's outcome; counted to the instruction where ours was cut short, or now and then."""
        real = case.environment.real
        self._turn += 1
        changing = any(kind.__name__.startswith("patch") for kind in family.kinds)
        if family.media or ours.end == "timeout" or (self._turn % COUNTED == 0 and not changing):
            found = self._plain[real].run_case(case)
            return found if family.media else replace(found, fx=None)
        return self._quick[real].run_case(case)

    def run(self, programs: Sequence[Program], verdicts: Verdicts) -> None:
        """Judge *programs*; adds to *verdicts*."""
        cases = [program.case() for program in programs]
        results = [self.ours(p, c) for p, c in zip(programs, cases, strict=True)]
        for_cpu = [
            n for n, (p, r) in enumerate(zip(programs, results, strict=True))
            if "cpu" in p.family.oracles and isinstance(r, Outcome) and r.end != "timeout"
        ]  # fmt: skip
        silicon = dict(zip(for_cpu, self._on_cpu([programs[n].for_cpu(cases[n]) for n in for_cpu]), strict=True))
        for n, (program, case, ours) in enumerate(zip(programs, cases, results, strict=True)):
            lines = (
                ours if isinstance(ours, list) else self._judge(program, case, ours, silicon.get(n), verdicts.counts)
            )
            if lines and n in silicon and not self._repeats(program, case, ours):
                verdicts.counts["not judged: a new process of the real CPU's says otherwise"] += 1
            elif lines:
                verdicts.failures.append((program, lines))

    def _on_cpu(self, cases: Sequence[Case]) -> list[Outcome]:
        """The real CPU's outcomes; one that ended the runner's process says so."""
        try:
            return self._silicon.run_cases(cases)
        except OSError:
            if len(cases) > 1:
                return [outcome for case in cases for outcome in self._on_cpu([case])]
            return [Outcome(cases[0].gpr, cases[0].flags, cases[0].eip, "the runner ended")]

    def _repeats(self, program: Program, case: Case, ours: Outcome | list[str]) -> bool:
        """Whether a new process of the real CPU's finds the same: the old one's memory may have been hit by a store."""
        if isinstance(ours, list):
            return True
        self._silicon.close()
        (cpu,) = self._on_cpu([program.for_cpu(case)])
        return bool(self._judge(program, case, ours, cpu, Counter()))

    def _judge(
        self, program: Program, case: Case, ours: Outcome, cpu: Outcome | None, counts: Counter[str]
    ) -> list[str]:
        judges = 0
        counts["programs"] += 1
        counts[f"ended by {ours.end if isinstance(ours.end, str) else f'exception {ours.end[0]}'}"] += 1
        if cpu is not None:
            media = program.family.media
            lines = differences(case, told_alike(cpu), told_alike(ours), fx=media)
            for _ in range(PLACES):
                if not lines or not self._in_the_way(ours):
                    break
                self._silicon.close()  # the next process has its stack elsewhere
                (cpu,) = self._on_cpu([program.for_cpu(case)])
                lines = differences(case, told_alike(cpu), told_alike(ours), fx=media)
            why = beyond(program.family, cpu, ours)
            if lines and self._in_the_way(ours):
                counts["not judged: the real CPU's process has memory of its own there"] += 1
                return []
            elif why and lines:
                counts[f"not judged: {why}"] += 1
                return []
            elif lines and pushed_selectors(program.for_cpu(case), told_alike(cpu), ours):
                counts["explained: PUSH of a segment register as 32 bits stores 16 on Intel's CPUs"] += 1
                return []
            elif lines and repeated_comparison_faults(case, told_alike(cpu), told_alike(ours)):
                counts[
                    "explained: a REP CMPS or SCAS that faults leaves the flags alone on Intel's CPUs, not on AMD's"
                ] += 1
                return []
            elif lines and media and self._unicorns_own(program, case, ours, lines):
                counts["explained: Unicorn's own choice of a NaN, plain Unicorn says as we do"] += 1
                return []
            elif lines:
                return ["against the real CPU:", *lines]
            else:
                judges += 1
                counts["judged by the real CPU"] += 1
        if "unicorn" in program.family.oracles:
            expected = self.unicorn(program.family, case, ours)
            lines = against_unicorn(program.family, case, expected, ours)
            if lines is None:
                counts["not judged: plain Unicorn has no memory there, or counts otherwise"] += 1
            elif lines and cpu is None and self._limit(program, case, ours):
                counts["explained: plain Unicorn checks no limits, the real CPU faults as we do"] += 1
            elif lines and cpu is None and self._up_to_its_loop(program, case, ours):
                counts["explained: plain Unicorn differs, the real CPU and we agree up to the endless loop"] += 1
            elif lines and cpu is None:
                return ["against plain Unicorn:", *lines]
            elif lines:
                what = lines[0].partition(":")[0] if lines[0][0] != "[" else "memory"
                counts[f"explained: plain Unicorn differs in {what}, the real CPU and we agree"] += 1
            else:
                judges += 1
                counts["judged by plain Unicorn"] += 1
        counts[f"judged by {judges} oracles"] += 1
        return []

    def _unicorns_own(self, program: Program, case: Case, ours: Outcome, lines: list[str]) -> bool:
        """Whether no more than XMM registers differ, and plain Unicorn has in them what we have."""
        if not all(line.startswith("xmm") for line in lines):
            return False
        return against_unicorn(program.family, case, self.unicorn(program.family, case, ours), ours) == []

    def _up_to_its_loop(self, program: Program, case: Case, ours: Outcome) -> bool:
        """Whether the real CPU agrees with us about a program that does not end, up to where it was stopped."""
        at = ours.eip - case.eip
        if ours.end != "timeout" or "cpu" not in program.family.oracles or not 0 <= at < len(case.code):
            return False
        ended = replace(case, code=case.code[:at] + HLT + case.code[at + 1 :])
        mine = self.ours(program, ended)
        if not isinstance(mine, Outcome) or mine.end != "halt":
            return False
        cpu = self._silicon.run_case(program.for_cpu(ended))
        return not differences(ended, told_alike(cpu), told_alike(mine), fx=program.family.media)

    def _limit(self, program: Program, case: Case, ours: Outcome) -> bool:
        """Whether ours is a fault of a segment limit, and the real CPU's too."""
        if ours.end not in ((STACK_FAULT, 0), (PROTECTION, 0)) or not case.environment.segmented:
            return False
        cpu = self._silicon.run_case(program.for_cpu(case))
        return (cpu.end, cpu.eip) == (ours.end, ours.eip)

    def _in_the_way(self, ours: Outcome) -> bool:
        """Whether ours is a page fault where the real CPU's process has memory of its own."""
        return ours.address >= 0 and self._silicon.has_memory_at(ours.address)

    def close(self) -> None:
        """End the real CPU's process."""
        self._silicon.close()


def told_alike(outcome: Outcome) -> Outcome:
    """*outcome* without what one machine cannot tell: that a fault was a fetch's, and exception flags of media."""
    fx, end = outcome.fx, outcome.end
    if fx is not None:
        fx = replace(fx, fsw=fx.fsw & ~X87_EXCEPTIONS, mxcsr=fx.mxcsr & ~SSE_EXCEPTIONS)
    if isinstance(end, tuple) and end[0] == PAGE_FAULT:
        end = (PAGE_FAULT, end[1] & ~INSTRUCTION_FETCH)
    return replace(outcome, fx=fx, end=end)


def beyond(family: Family, cpu: Outcome, ours: Outcome) -> str:
    """The known deviation that a difference between the real CPU and us may be, or nothing.

    See tests/vectors/test_deviations.py: limits of code and operands across the end of 64 KiB are not checked, and
    without PAE there is no execute-disable.
    """
    if not isinstance(cpu.end, tuple):
        return ""
    vector, error = cpu.end
    if vector == PAGE_FAULT and family.cpu_mode:
        return "the program leaves the windows, around which there is memory without paging"
    if vector == PAGE_FAULT and error & INSTRUCTION_FETCH and error & PRESENT:
        return "the program comes to data, which is executable without PAE"
    if vector == STACK_FAULT or (vector == PROTECTION and cpu.eip != ours.eip):
        return "limits of code and of the end of 64 KiB are not checked"
    return ""


def pushed_selectors(case: Case, cpu: Outcome, ours: Outcome) -> bool:
    """Whether all that differs are upper halves of pushed selectors, which are zero for us.

    A program that changes itself, or jumps into the middle of an instruction, may come to such a PUSH.
    """
    stack = initial_memory(case)[STACK]

    def ours_at(at: int, size: int) -> int:
        found = (ours.memory.get(at + n, stack[at + n - STACK]) for n in range(size))
        return int.from_bytes(bytes(found), "little")

    selectors = [SELECTORS[segment] for segment in case.environment.segments]
    upper = {
        at + half
        for at in range(STACK, STACK + len(stack) - 4)
        if ours_at(at, 4) in selectors
        for half in (2, 3)
    }  # fmt: skip
    one, other = (replace(o, memory={a: b for a, b in o.memory.items() if a not in upper}) for o in (cpu, ours))
    return not differences(case, one, other)


def against_unicorn(family: Family, case: Case, expected: Outcome, ours: Outcome) -> list[str] | None:
    """Differences; None where plain Unicorn is no judge."""
    if isinstance(expected.end, tuple):
        if expected.end == RUNS_DATA:
            return None
        if expected.end[0] == PAGE_FAULT and not case.environment.paged:
            return None  # a return into nowhere: the engine has memory there
        if isinstance(ours.end, tuple):
            expected = replace(expected, end=(expected.end[0], ours.end[1]))  # it tells no error codes
    changed = any(case.at <= at < case.at + len(case.code) for at in expected.memory)
    if changed and "timeout" in (expected.end, ours.end):
        return None  # it counts again what it starts over after a store into its own block
    if changed:
        expected = replace(expected, insns=-1)
    return differences(case, expected, ours, fx=family.media)
