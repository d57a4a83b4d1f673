"""Fixtures that several folders share."""

from tests.support.oracles import silicon

__all__ = ["silicon"]
