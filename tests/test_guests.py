"""Guests out of Debian's packages: the table, the store, what is built."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli import guest
from vmm import builtin
from vmm.errors import ExitStatus, VmmError
from vmm.guests import GUESTS, GuestStore
from vmm.guests import store as store_module
from vmm.guests.grub import MODULES, RECIPES, core, resolve
from vmm.guests.store import cache_folder
from vmm.guests.table import GRUB, Guest, Package

PROMISED = (
    *("seabios", "vgabios", "vgabios-std", "ipxe", "memtest86+"),
    *("debian-i386-kernel", "debian-i386-initrd", "grub-iso", "grub-image"),
)


def test_promised_names() -> None:
    assert set(PROMISED) <= set(GUESTS)


@pytest.mark.parametrize("guest", GUESTS.values(), ids=lambda guest: guest.name)
def test_rows_are_sound(guest: Guest) -> None:
    for files in guest.package.versions.values():
        assert all(len(bytes.fromhex(digest)) == 32 for digest in files.values())
    if guest.recipe:
        assert guest.recipe in RECIPES
        assert guest.package.folder
    else:
        assert guest.file in guest.package.files


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"BTVMM_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/btvmm"),
        ({"HOME": "/c"}, "/c/.cache/btvmm"),
        ({"BTVMM_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/btvmm"),
    ],
)
def test_the_cache_folder(environment: dict[str, str], folder: str) -> None:
    assert cache_folder(environment) == Path(folder)


# The store, with Debian packages of our own -------------------------------------------------------------
CONTENT = b"not really a BIOS"
TOY = Package("toy", {"2": {"opt/toy": hashlib.sha256(CONTENT).hexdigest()}}, acceptable="2.*")
NEEDS_DPKG = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb builds the toy packages")


class Archive:
    """A folder in $PATH with an apt-get that has one version of one package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"

    def offers(self, version: str, content: bytes = CONTENT, needs_update: bool = False) -> None:
        tree = self.folder / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "opt").mkdir()
        (tree / "opt" / "toy").write_bytes(content)
        (tree / "DEBIAN" / "control").write_text(
            f"Package: toy\nVersion: {version}\nArchitecture: all\nMaintainer: none\nDescription: toy\n"
        )
        deb = self.folder / "made.deb"
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, deb], check=True, stdout=subprocess.DEVNULL)
        updated = self.folder / "updated"
        if not needs_update:
            updated.touch()
        apt = self.folder / "apt-get"
        apt.write_text(
            f"""#!/bin/sh
for what; do :; done
echo "$what" >>{self.log}
[ "$what" = update ] && touch {updated} && exit 0
[ -e {updated} ] || {{ echo "E: Unable to locate package $what"; exit 100; }}
case $what in toy|toy={version}) cp {deb} toy.deb;; *) echo "E: Version '$what' was not found"; exit 100;; esac
"""
        )
        apt.chmod(0o755)

    def asked(self) -> list[str]:
        """The last argument of every call of apt-get."""
        return self.log.read_text().split()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(store_module, "GUESTS", {"toy": Guest("toy", "a toy", TOY, "opt/toy")})
    return Archive(tmp_path / "bin")


@pytest.fixture
def store(tmp_path: Path) -> GuestStore:
    (tmp_path / "root" / "opt").mkdir(parents=True)
    return GuestStore(tmp_path / "cache", tmp_path / "root")


@NEEDS_DPKG
def test_fetched_once(archive: Archive, store: GuestStore) -> None:
    archive.offers("2")
    assert store.find("toy") is None
    found = store.fetch("toy")
    assert (found.path.read_bytes(), found.version, found.where, found.pinned) == (CONTENT, "2", "cached", True)
    assert store.path("toy") == found.path
    assert archive.asked() == ["toy=2"]
    assert sorted(entry.name for entry in store.cache.iterdir()) == ["lock", "packages"], "nothing is left over"


@NEEDS_DPKG
def test_another_version_of_the_series(archive: Archive, store: GuestStore) -> None:
    archive.offers("2.1", b"newer")
    found = store.fetch("toy")
    assert (found.path.read_bytes(), found.version, found.pinned) == (b"newer", "2.1", False)
    assert archive.asked() == ["toy=2", "toy"]
    assert store.find("toy") == found


@NEEDS_DPKG
def test_package_lists_that_are_missing(archive: Archive, store: GuestStore) -> None:
    archive.offers("2", needs_update=True)
    assert store.fetch("toy").version == "2"
    assert archive.asked() == ["toy=2", "toy", "update", "toy=2"]


@NEEDS_DPKG
@pytest.mark.parametrize(
    ("version", "content", "sentence"),
    [
        ("2", b"forged", "opt/toy of toy 2 is not the file that was pinned"),
        ("3", CONTENT, "Debian has version 3 of toy, which is none of those that are known to work (2 or 2.*)"),
    ],
)
def test_what_is_refused(archive: Archive, store: GuestStore, version: str, content: bytes, sentence: str) -> None:
    archive.offers(version, content)
    with pytest.raises(VmmError) as caught:
        store.fetch("toy")
    assert (str(caught.value), caught.value.status) == (sentence, ExitStatus.BAD_IMAGE)
    assert store.find("toy") is None
    assert not (store.cache / "packages").exists()


@NEEDS_DPKG
def test_an_archive_without_the_package(archive: Archive, store: GuestStore) -> None:
    archive.offers("2")
    (archive.folder / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package toy'\nexit 100\n")
    with pytest.raises(VmmError) as caught:
        store.fetch("toy")
    assert str(caught.value) == "toy cannot be fetched: E: Unable to locate package toy"


def test_no_apt_get(archive: Archive, store: GuestStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(VmmError, match="there is no apt-get"):
        store.fetch("toy")


@pytest.mark.parametrize(("content", "where"), [(CONTENT, "installed"), (b"other", None), (None, None)])
def test_an_installed_file_is_used_if_it_is_the_pinned_one(
    archive: Archive, store: GuestStore, content: bytes | None, where: str | None
) -> None:
    if content is not None:
        (store.root / "opt" / "toy").write_bytes(content)
    found = store.find("toy")
    assert (found and found.where) == where


def test_a_cache_that_cannot_be_written(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VmmError, match=r"guests cannot be kept in .*/file/cache: Not a directory"):
        GuestStore(tmp_path / "file" / "cache", tmp_path / "root").fetch("toy")


def test_an_unknown_name(store: GuestStore) -> None:
    with pytest.raises(VmmError, match="there is no guest 'dos'; there are seabios, ") as caught:
        store.path("dos")
    assert caught.value.status == ExitStatus.USAGE


# GRUB ------------------------------------------------------------------------------------------------------
DEPENDENCIES = "a: b c\nb: d\nc: d\nd:\nloop1: loop2\nloop2: loop1\nlost: nowhere\n"


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        (["d"], ["d"]),
        (["a"], ["d", "b", "c", "a"]),
        (["c", "a"], ["d", "c", "b", "a"]),
        (["loop1"], ["loop2", "loop1"]),
    ],
)
def test_modules_come_after_what_they_need(wanted: list[str], order: list[str]) -> None:
    assert resolve(DEPENDENCIES, wanted) == order


@pytest.mark.parametrize("wanted", ["lost", "unheard-of"])
def test_modules_that_are_missing(wanted: str) -> None:
    with pytest.raises(VmmError, match="there is no module"):
        resolve(DEPENDENCIES, [wanted])


@pytest.fixture(scope="session")
def grub() -> Path:
    """The folder of GRUB's modules; skips where Debian's package was not fetched."""
    guest("grub-image")
    source = GuestStore()._package_folder(GRUB)
    assert source is not None
    return source[0] / GRUB.folder


def modules_in(image: bytes, start: int) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Unpack a core image whose decompressor is at *start*: the kernel, and the objects after it."""
    packed, plain = struct.unpack_from("<II", image, start + 8)
    head = 2848  # lzma_decompress.img of 2.06
    settings = {"id": lzma.FILTER_LZMA1, "lc": 3, "lp": 0, "pb": 2, "dict_size": 1 << 16}
    data = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[settings]).decompress(
        image[start + head : start + head + packed], plain
    )
    assert len(data) == plain
    at = data.rindex(b"mimg")
    kernel, objects = data[:at], []
    _, offset, size = struct.unpack_from("<4sII", data, at)
    end, position = at + size, at + offset
    while position < end:
        kind, length = struct.unpack_from("<II", data, position)
        objects.append((kind, data[position + 8 : position + length].rstrip(b"\0")))
        position += length
    return kernel, objects


@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("grub-mkimage") is None, reason="grub-mkimage is the oracle")
def test_the_core_is_what_grub_mkimage_makes(grub: Path, tmp_path: Path) -> None:
    from vmm.guests.grub import CONFIGURATION

    (tmp_path / "grub.cfg").write_text(CONFIGURATION)
    command = ["grub-mkimage", "-d", str(grub), "-O", "i386-pc", "-p", "(hd0)/x", "-c", str(tmp_path / "grub.cfg")]
    subprocess.run([*command, "-o", str(tmp_path / "core.img"), *MODULES], check=True)
    expected = modules_in((tmp_path / "core.img").read_bytes(), 512)
    actual = modules_in(core(grub, "(hd0)/x"), 0)
    assert actual[0] == expected[0]
    assert sorted(actual[1]) == sorted(expected[1])


@pytest.mark.oracle
@pytest.mark.guest
@pytest.mark.skipif(shutil.which("qemu-system-i386") is None, reason="QEMU is the oracle")
@pytest.mark.parametrize(("name", "option"), [("grub-image", "-hda"), ("grub-iso", "-cdrom")])
def test_qemu_boots_it(grub: Path, name: str, option: str) -> None:
    """GRUB comes to its prompt on the serial port, and reboots when it is told to."""
    image = GuestStore().path(name)
    command = ["timeout", "60", "qemu-system-i386", option, str(image), "-snapshot", "-display", "none"]
    command += ["-serial", "stdio", "-net", "none", "-no-reboot"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        seen = b""
        while b"grub> " not in seen and (byte := qemu.stdout.read(1)):
            seen += byte
        assert b"grub> " in seen
        qemu.stdin.write(b"reboot\r")
        qemu.stdin.flush()
        qemu.stdout.read()
    assert qemu.returncode == 0


# The guest of our own ------------------------------------------------------------------------------------
@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("nasm") is None, reason="nasm is the oracle")
def test_the_listing_is_of_its_source(tmp_path: Path) -> None:
    source = [line.partition(";")[2].strip() for line in builtin.LISTING.splitlines()]
    lines = ["bits 32", "org 0x100000", *(line for line in source if line != "..."), "end:"]
    (tmp_path / "guest.asm").write_text("\n".join(lines))
    subprocess.run(["nasm", "-f", "bin", "-o", "guest.bin", "guest.asm"], cwd=tmp_path, check=True)
    assert (tmp_path / "guest.bin").read_bytes() == builtin.image()
