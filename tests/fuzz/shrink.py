"""Shrinking: the fewest lines of a program that still fail, printed as assembly."""

from __future__ import annotations

from dataclasses import replace

from tests.fuzz.families import Program
from tests.fuzz.judge import Judge, Verdicts
from tests.support.state import describe


def fails(judge: Judge, program: Program) -> list[str]:
    """What is wrong with *program*, or nothing."""
    verdicts = Verdicts()
    judge.run([program], verdicts)
    return verdicts.failures[0][1] if verdicts.failures else []


def shrink(judge: Judge, program: Program) -> Program:
    """*program* with lines taken out, half of them at a time, then fewer, as long as it fails."""
    size = max(len(program.lines) // 2, 1)
    while size:
        at, shorter = 0, False
        while at < len(program.lines):
            lines = program.lines[:at] + program.lines[at + size :]
            attempt = replace(program, lines=lines)
            if lines and fails(judge, attempt):
                program, shorter = attempt, True
            else:
                at += size
        size = size if shorter and size == 1 else size // 2
    return program


def text(judge: Judge, program: Program, lines: list[str]) -> str:
    """A failure for people: the smallest program that shows it."""
    small = shrink(judge, program)
    return "\n    ".join((f"{small.family.name}: {describe(small.case())}", *(fails(judge, small) or lines)))
