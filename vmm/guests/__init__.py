"""Third-party guests: a table of names, and a store that fetches them out of Debian's packages."""

from __future__ import annotations

from pathlib import Path

from vmm.guests.store import Found, GuestStore
from vmm.guests.table import GUESTS, Guest, Package

__all__ = ["GUESTS", "Found", "Guest", "GuestStore", "Package", "path"]


def path(name: str) -> Path:
    """The file of guest *name* (a key of ``GUESTS``), fetched if need be.

    Raises ``UsageError`` for an unknown name, ``ImageError`` if it cannot be had.
    """
    return GuestStore().path(name)
