"""A store of translations: a file that a run adds its own to, so that the next one need not translate the same code.

A unit is found by its bytes, the mode, the CS base and how much room there was for it.  The file belongs to one
version of the translator (a digest of its source) and of Python; another's is replaced.  Its content has a checksum,
and a file that does not hold is replaced too.  It is to be trusted as the program itself: it holds code for the
translation cache.
"""

from __future__ import annotations

import gc
import hashlib
import marshal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import translator
from translator.fragment import Fragment
from translator.mode import Mode
from translator.plain import from_plain, to_plain
from vmm.errors import ImageError, UsageError
from vmm.files import write_whole

MAGIC: Final = b"btvmm translations\n"
MAX_UNITS = 200_000
"""Units that are kept; those that the last run did not need go first."""
MAX_BYTES = 1 << 30
"""Of the content."""
HEAD: Final = 12
"""Bytes of code that units are looked up by, with their kind and the room that there was."""
_DIGEST: Final = 32
_KIND: Final = 16

_Unit = tuple[bytes, bytes]
"""The guest's bytes, and the fragment, which is made of its bytes when it is needed."""


@cache
def fingerprint() -> bytes:
    """Of all that translations depend on besides the guest's code."""
    from importlib.metadata import version  # it loads the standard library's e-mail: only who has a store waits for it

    digest = hashlib.sha256(f"{sys.version} {marshal.version}".encode())
    for package in ("capstone", "keystone-engine"):
        digest.update(f"{package} {version(package)}".encode())
    folder = Path(translator.__path__[0])
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.digest()


def kind_of(mode: Mode, cs_base: int, anywhere: bool) -> bytes:
    """What a translation depends on besides the code and the room there is for it."""
    return hashlib.sha256(repr((*mode, cs_base, anywhere)).encode()).digest()[:_KIND]


def _key(kind: bytes, code: bytes) -> bytes:
    return kind + len(code).to_bytes(2, "little") + code[:HEAD]


class Translations:
    """The store in the file *path*, which need not exist.

    Raises ``UsageError`` for a file that is something else, ``ImageError`` for one that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._units: dict[bytes, list[_Unit]] = {}
        self._used: dict[int, tuple[bytes, _Unit]] = {}
        """What this run has needed, by the identity of the fragment's bytes."""
        self._room = MAX_UNITS
        """How many units this run may still add."""
        self._changed = False
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise ImageError(f"--tc-store: {path}: {error.strerror}") from None
        if data and not data.startswith(MAGIC):
            raise UsageError(f"--tc-store: {path} is not a store of translations")
        self._load(data[len(MAGIC) :])

    def __len__(self) -> int:
        return sum(map(len, self._units.values()))

    def _load(self, data: bytes) -> None:
        content = memoryview(data)[2 * _DIGEST :]
        if data[:_DIGEST] != fingerprint() or len(content) > MAX_BYTES:
            return
        if hashlib.sha256(content).digest() != data[_DIGEST : 2 * _DIGEST]:
            return
        collects = gc.isenabled()
        gc.disable()  # it would look through all that is being made again and again
        try:
            self._units = marshal.loads(content)
        finally:
            if collects:
                gc.enable()

    def find(self, kind: bytes, mode: Mode, code: bytes) -> Fragment | None:
        """The translation of the unit at the start of *code*, at some EIP; it is movable, and of that *kind*."""
        key = _key(kind, code)
        for unit in self._units.get(key, ()):
            source, packed = unit
            if code.startswith(source):
                self._used[id(packed)] = key, unit
                return from_plain(marshal.loads(packed), mode)
        return None

    def add(self, kind: bytes, code: bytes, fragment: Fragment) -> None:
        """Keep *fragment*, which is movable and was made from the start of *code*."""
        if not self._room:
            return
        self._room -= 1
        key = _key(kind, code)
        source, packed = code[: fragment.length], marshal.dumps(to_plain(fragment))
        self._units.setdefault(key, []).append((source, packed))
        self._used[id(packed)] = key, (source, packed)
        self._changed = True

    def save(self) -> None:
        """Write the file if there is something new.  Raises ``UsageError`` if that fails."""
        if not self._changed:
            return
        kept: dict[bytes, list[_Unit]] = {}
        for _, (key, unit) in zip(range(MAX_UNITS), self._by_use(), strict=False):
            kept.setdefault(key, []).append(unit)
        content = marshal.dumps(kept)
        try:
            write_whole(self._path, MAGIC + fingerprint() + hashlib.sha256(content).digest() + content)
        except OSError as error:
            raise UsageError(f"--tc-store: {self._path}: {error.strerror}") from None
        self._changed = False

    def _by_use(self) -> Iterator[tuple[bytes, _Unit]]:
        """All units, those that this run has needed first."""
        yield from self._used.values()
        for key, units in self._units.items():
            for source, packed in units:
                if id(packed) not in self._used:
                    yield key, (source, packed)
