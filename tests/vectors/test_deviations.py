"""What we knowingly do otherwise than a CPU: each row a strict xfail, so that a change shows.

Random vectors and programs keep clear of these.
"""

from __future__ import annotations

import pytest

from tests.support.engine import BareEngine
from tests.support.state import CODE, DATA, ENVIRONMENTS, Case, fx_image
from translator.layout import EAX, EBX, ESP

GP, SS_FAULT = (13, 0), (12, 0)


@pytest.fixture(scope="module")
def engine() -> BareEngine:
    return BareEngine()


def registers(**values: int) -> tuple[int, ...]:
    found = [0] * 8
    for name, value in values.items():
        found[{"eax": EAX, "ebx": EBX, "esp": ESP}[name]] = value
    return tuple(found)


ROWS = {
    "a word at the end of 64 KiB raises #GP": ("real16", "a1 ff ff", registers(), GP),
    "a push across the end of a 64 KiB stack raises #SS": ("real16", "50", registers(esp=1), SS_FAULT),
    "a jump beyond CS's limit raises #GP at the jump": ("limited32", "ff e0", registers(eax=0x5000), GP),
    "a return beyond CS's limit leaves ESP alone": ("limited32", "c3", registers(esp=0x800), GP),
    "MOVAPS of an odd address raises #GP": ("flat32", "0f 28 03", registers(ebx=DATA + 1), GP),
}


@pytest.mark.xfail(strict=True, reason="not checked: it would cost every access, and no known guest relies on it")
@pytest.mark.parametrize(("mode", "code", "gpr", "end"), ROWS.values(), ids=ROWS)
def test_fault(engine: BareEngine, mode: str, code: str, gpr: tuple[int, ...], end: tuple[int, int]) -> None:
    subject = Case(bytes.fromhex(code), ENVIRONMENTS[mode], gpr)
    outcome = engine.run_case(subject)
    assert (outcome.end, outcome.eip, outcome.gpr) == (end, subject.eip, gpr)


@pytest.mark.xfail(strict=True, reason="Unicorn's x87 keeps no tags for its operands")
def test_an_empty_x87_register_is_an_invalid_operand(engine: BareEngine) -> None:
    outcome = engine.run_case(Case(bytes.fromhex("d8c1"), ENVIRONMENTS["flat32"], registers(), fx=fx_image((1 << 63,))))
    assert outcome.fx is not None
    assert outcome.fx.fsw & 0x41 == 0x41  # IE and SF


@pytest.mark.xfail(strict=True, reason="Unicorn keeps no precision exception")
def test_an_inexact_quotient_sets_the_precision_flag(engine: BareEngine) -> None:
    st = (0x3FFF << 64 | 1 << 63, 0x4000 << 64 | 3 << 62)  # 1 and 3
    outcome = engine.run_case(Case(bytes.fromhex("d8f1"), ENVIRONMENTS["flat32"], registers(), fx=fx_image(st)))
    assert outcome.fx is not None
    assert outcome.fx.fsw & 0x20


@pytest.mark.xfail(strict=True, reason="FXSAVE and FNSTENV show where the host's code stands")
def test_the_x87_instruction_pointer_is_the_guests(engine: BareEngine) -> None:
    code = bytes.fromhex("d9e8 d933")  # fld1; fnstenv [ebx]
    outcome = engine.run_case(Case(code, ENVIRONMENTS["flat32"], registers(ebx=DATA)))
    pointer = int.from_bytes(bytes(outcome.memory.get(DATA + 12 + n, 0) for n in range(4)), "little")
    assert pointer == CODE + 0x100


@pytest.mark.xfail(strict=True, reason="Unicorn's FBSTP stores +0 where a CPU stores -0")
def test_fbstp_stores_minus_zero(engine: BareEngine) -> None:
    case = Case(
        bytes.fromhex("df33"), ENVIRONMENTS["flat32"], registers(ebx=DATA), memory=((DATA, bytes(10)),),
        fx=fx_image((1 << 79,)),
    )  # fmt: skip
    assert engine.run_case(case).memory == {DATA + 9: 0x80}


@pytest.mark.xfail(strict=True, reason="of two NaNs Unicorn keeps the one with the larger significand, a CPU the first")
def test_of_two_nans_sse_keeps_the_first(engine: BareEngine) -> None:
    code = bytes.fromhex("0f5cc1")  # subps xmm0, xmm1
    first, second = 0xFFF8_0000, 0xFFFF_FFFF
    outcome = engine.run_case(Case(code, ENVIRONMENTS["flat32"], registers(), fx=fx_image(xmm=(first, second))))
    assert outcome.fx is not None
    assert outcome.fx.xmm[0] == first
