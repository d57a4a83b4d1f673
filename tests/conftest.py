"""Fixtures that several folders share."""

import pytest

from tests.support.oracles import silicon
from vmm import compiled

__all__ = ["silicon"]


def pytest_configure() -> None:
    """Tests of a compiled engine that is older than its source would show nothing."""
    built = compiled.library()
    changed = compiled.outdated(built) if built else []
    if changed:
        raise pytest.UsageError(f"{changed[0]} was changed after the engine was compiled: make setup")
