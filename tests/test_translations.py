"""The store of translations: what goes in comes out in another run, and no file does harm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.cli import GUESTS_OWN
from tests.guests.build import build
from translator.fragment import Fragment
from translator.mode import FLAT, Mode
from translator.plain import to_plain
from translator.unit import Translator
from vmm import Machine, UsageError, VmmError, translations
from vmm.config import DebugExit
from vmm.translations import MAGIC, Translations, kind_of

MODE = Mode(True, True, True, False, False, True, True, False, (FLAT,) * 6)
KIND = kind_of(MODE, 0, False)
PAGES = [bytes((0xB8, n, 0, 0, 0, 0x40, 0xC3)) + bytes(9) for n in range(8)]  # mov eax, n; inc eax; ret
needs_guests = pytest.mark.skipif(not shutil.which("nasm"), reason="nasm assembles the guest")


def translated(code: bytes) -> Fragment:
    return Translator().translate(code, lambda: b"", 0x1000, MODE, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def filled(path: Path, pages: list[bytes]) -> Translations:
    store = Translations(path)
    for page in pages:
        store.add(KIND, page, translated(page))
    store.save()
    return store


def found(store: Translations, code: bytes, mode: Mode = MODE, base: int = 0, anywhere: bool = False) -> bool:
    return store.find(kind_of(mode, base, anywhere), mode, code) is not None


def test_what_was_kept_is_found_by_its_bytes(path: Path) -> None:
    filled(path, PAGES[:2])
    store = Translations(path)
    assert len(store) == 2
    for page in PAGES[:2]:
        fragment = store.find(KIND, MODE, page)
        assert fragment is not None
        assert to_plain(fragment) == to_plain(translated(page))
    assert not found(store, PAGES[2])
    assert not found(store, PAGES[0] + b"\0"), "there is more room: the unit might go on"
    assert not found(store, PAGES[0], base=0x10)
    assert not found(store, PAGES[0], anywhere=True)
    assert not found(store, PAGES[0], mode=MODE._replace(code32=False))


def test_bytes_behind_the_head_count(path: Path) -> None:
    nops = b"\x90" * translations.HEAD
    first, second = nops + b"\x40\xc3", nops + b"\x48\xc3"
    store = filled(path, [first])
    assert found(store, first)
    assert not found(store, second)


def test_nothing_new_writes_nothing(path: Path) -> None:
    filled(path, PAGES[:1])
    before = path.stat().st_mtime_ns, path.read_bytes()
    store = Translations(path)
    assert found(store, PAGES[0])
    store.save()
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_what_was_not_needed_goes_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "MAX_UNITS", 3)
    filled(path, PAGES[:3])
    store = Translations(path)
    assert found(store, PAGES[1])
    store.add(KIND, PAGES[3], translated(PAGES[3]))
    store.save()
    again = Translations(path)
    assert len(again) == 3
    assert [found(again, page) for page in PAGES[:4]] == [True, True, False, True]


def test_a_run_adds_no_more_than_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "MAX_UNITS", 3)
    assert len(filled(path, PAGES[:5])) == 3


@pytest.mark.parametrize("damage", ["a bit", "the end", "all but the name", "another version", "too large"])
def test_a_file_that_does_not_hold_is_made_anew(path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, PAGES[:2])
    data = path.read_bytes()
    if damage == "a bit":
        path.write_bytes(data[:-20] + bytes((data[-20] ^ 4,)) + data[-19:])
    elif damage == "the end":
        path.write_bytes(data[:-9])
    elif damage == "all but the name":
        path.write_bytes(MAGIC)
    elif damage == "another version":
        monkeypatch.setattr(translations, "fingerprint", lambda: bytes(32))
    else:
        monkeypatch.setattr(translations, "MAX_BYTES", 100)
    store = Translations(path)
    assert len(store) == 0
    monkeypatch.undo()
    store.add(KIND, PAGES[0], translated(PAGES[0]))
    store.save()
    assert found(Translations(path), PAGES[0])


def test_another_file_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("my thesis")
    with pytest.raises(UsageError, match="is not a store of translations"):
        Translations(path)
    assert path.read_text() == "my thesis"


@pytest.mark.parametrize("where", [".", "missing/store"])
def test_a_place_for_no_file_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(VmmError, match=r"^--tc-store: "):
        Machine(kernel=__file__, tc_store=tmp_path / where)


@needs_guests
@pytest.mark.guest
@pytest.mark.parametrize(("name", "share"), [("anywhere", 0.8), ("segment_loads", 0.9), ("selfmod32", 0.4)])
def test_the_next_run_translates_little(path: Path, name: str, share: float) -> None:
    """Units that run on into another page, or check their source, are translated again."""
    stats = []
    for _ in range(3):
        with Machine(kernel=build(name), debug_exit=DebugExit(0xF4, 4), tc_store=path, memory="16M") as vm:
            assert vm.run(timeout=60).status == 1
            stats.append(vm.stats)
    first, second, third = stats
    assert [getattr(second, each) for each in GUESTS_OWN] == [getattr(first, each) for each in GUESTS_OWN]
    assert second.recalled > share * first.translations
    assert third.as_dict(deterministic=True) == second.as_dict(deterministic=True)
