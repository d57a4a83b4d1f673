"""Fixtures of this folder."""

from __future__ import annotations

import pytest

from tests.devices.ide.rig import (
    CdRig,
    Image,
    Rig,
)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def cd() -> CdRig:
    return CdRig(Image(64))
