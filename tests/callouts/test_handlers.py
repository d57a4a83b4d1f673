"""Every instruction that may leave the translation cache has a handler."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from translator import expand
from translator.expand import EMITTERS
from translator.rules import Row, rows
from vmm.callouts import HANDLERS, USES_MEDIA

RETURNS = {
    function.name: ast.unparse(function.returns)
    for source in Path(expand.__path__[0]).glob("*.py")
    for function in ast.parse(source.read_text()).body
    if isinstance(function, ast.FunctionDef) and function.returns
}
"""What each emitter returns, as its source says: compiled functions have no annotations."""


def may_leave(row: Row) -> bool:
    """A callout always leaves; an emulated instruction if its emitter may decline, as its type says."""
    if row.treatment == "emulate":
        return RETURNS[EMITTERS[row.how].__name__] == "int | None"
    return row.treatment == "callout"


LEAVING = [row for row in rows() if may_leave(row)]


@pytest.mark.parametrize("row", LEAVING, ids=lambda row: row.key)
def test_row_has_a_handler(row: Row) -> None:
    assert row.how in HANDLERS


def test_no_handler_without_a_row() -> None:
    assert set(HANDLERS) <= {row.how for row in rows() if row.treatment in ("callout", "emulate")}


def test_media_handlers_exist() -> None:
    assert set(HANDLERS) >= USES_MEDIA
