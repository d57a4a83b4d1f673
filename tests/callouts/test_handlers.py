"""Every instruction that may leave the translation cache has a handler."""

from __future__ import annotations

import pytest

from translator.rules import Row, rows
from vmm.callouts import HANDLERS, USES_MEDIA

LEAVING = [row for row in rows() if row.treatment in ("callout", "emulate")]


@pytest.mark.parametrize("row", LEAVING, ids=lambda row: row.key)
def test_row_has_a_handler(row: Row) -> None:
    assert row.how in HANDLERS


def test_no_handler_without_a_row() -> None:
    assert set(HANDLERS) == {row.how for row in LEAVING}


def test_media_handlers_exist() -> None:
    assert set(HANDLERS) >= USES_MEDIA
