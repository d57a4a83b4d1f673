"""Every instruction that may leave the translation cache has a handler."""

from __future__ import annotations

import pytest

from translator.expand import EMITTERS
from translator.rules import Row, rows
from vmm.callouts import HANDLERS, USES_MEDIA


def may_leave(row: Row) -> bool:
    """A callout always leaves; an emulated instruction if its emitter may decline, as its type says."""
    if row.treatment == "emulate":
        return EMITTERS[row.how].__annotations__["return"] == "int | None"
    return row.treatment == "callout"


LEAVING = [row for row in rows() if may_leave(row)]


@pytest.mark.parametrize("row", LEAVING, ids=lambda row: row.key)
def test_row_has_a_handler(row: Row) -> None:
    assert row.how in HANDLERS


def test_no_handler_without_a_row() -> None:
    assert set(HANDLERS) <= {row.how for row in rows() if row.treatment in ("callout", "emulate")}


def test_media_handlers_exist() -> None:
    assert set(HANDLERS) >= USES_MEDIA
