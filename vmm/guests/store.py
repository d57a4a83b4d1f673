"""Where guests are kept: the machine's own copy, the cache folder, Debian's archive, in this order.

The cache folder is ``$BTVMM_CACHE``, else ``$XDG_CACHE_HOME/btvmm``, else ``~/.cache/btvmm``.  A package is
downloaded by ``apt-get``, as any user, and unpacked by ``dpkg-deb``; nothing is installed.  Folders and files of
the cache appear whole or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from vmm.errors import ImageError, UsageError
from vmm.files import write_whole
from vmm.guests.table import GUESTS, Guest, Package

RECIPE = "1"
"""Part of the name of what is built; changes when the recipe does."""
_DOWNLOAD_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Found:
    """A guest that is at hand."""

    path: Path
    version: str
    """Version of the Debian package."""
    where: str
    """``"installed"`` or ``"cached"``."""
    pinned: bool
    """The version is one of those that were tried."""


def cache_folder(environment: os._Environ[str] | dict[str, str] = os.environ) -> Path:
    """The folder that everything fetched goes to; it need not exist."""
    if chosen := environment.get("BTVMM_CACHE"):
        return Path(chosen)
    if base := environment.get("XDG_CACHE_HOME"):
        return Path(base) / "btvmm"
    return Path(environment.get("HOME") or os.path.expanduser("~")) / ".cache" / "btvmm"


class GuestStore:
    """Finds and fetches guests.

    *root* is where installed packages have their files, *cache* the cache folder.
    """

    def __init__(self, cache: Path | None = None, root: Path = Path("/")) -> None:
        self.cache = cache or cache_folder()
        self.root = root

    def path(self, name: str) -> Path:
        """The file of guest *name*, fetched if need be.

        Raises ``UsageError`` for a name that is not in the table, ``ImageError`` if it cannot be had.
        """
        return self.fetch(name).path

    def fetch(self, name: str) -> Found:
        """Guest *name*, from Debian's archive if it is not at hand.  Raises as ``path`` does."""
        guest = lookup(name)
        if found := self._find(guest):
            return found
        with self._locked():
            if not self._package_folder(guest.package):
                self._download(guest.package)
            if guest.recipe:
                self._build(guest)
        found = self._find(guest)
        if found is None:
            raise ImageError(f"the package {guest.package.name} has no file {guest.file}")
        return found

    def find(self, name: str) -> Found | None:
        """Guest *name* if it is at hand.  Raises ``UsageError`` for a name that is not in the table."""
        return self._find(lookup(name))

    # What is at hand -------------------------------------------------------------------------------
    def _find(self, guest: Guest) -> Found | None:
        package = guest.package
        source = self._package_folder(package)
        if source is None:
            return None
        folder, version, where = source
        path = self._built(guest, version) if guest.recipe else folder / guest.file
        return Found(path, version, where, version in package.versions) if path.is_file() else None

    def _built(self, guest: Guest, version: str) -> Path:
        return self.cache / "built" / f"{version}-{RECIPE}" / guest.file

    def _package_folder(self, package: Package) -> tuple[Path, str, str] | None:
        """Where the package's files are, their version, and "installed" or "cached"."""
        for version, files in package.versions.items():
            if all(_sha256(self.root / name) == digest for name, digest in files.items()):
                return self.root, version, "installed"
        folder = self.cache / "packages" / package.name
        known = [*package.versions, *sorted(entry.name for entry in _folders(folder))]
        for version in known:
            if (folder / version).is_dir():
                return folder / version, version, "cached"
        return None

    # Fetching ----------------------------------------------------------------------------------------
    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time fetches."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with (self.cache / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise ImageError(f"guests cannot be kept in {self.cache}: {error.strerror}") from None

    def _build(self, guest: Guest) -> None:
        from vmm.guests.grub import RECIPES

        source = self._package_folder(guest.package)
        if source is None:
            return
        folder, version, _ = source
        target = self._built(guest, version)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, RECIPES[guest.recipe](folder / guest.package.folder))

    def _download(self, package: Package) -> None:
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise ImageError(
                    f"{package.name} cannot be fetched: there is no {tool}, guests come from Debian packages"
                )
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="fetch-") as scratch:
            folder = Path(scratch)
            archive = self._apt_download(package, folder)
            version = _run(["dpkg-deb", "--field", str(archive), "Version"], folder).strip()
            if version not in package.versions and not fnmatchcase(version, package.acceptable):
                raise ImageError(
                    f"Debian has version {version} of {package.name}, which is none of those that are known to work "
                    f"({', '.join(package.versions)} or {package.acceptable})"
                )
            _run(["dpkg-deb", "--extract", str(archive), "all"], folder)
            self._verify(package, version, folder / "all")
            self._keep(package, folder / "all", folder / "kept")
            target = self.cache / "packages" / package.name / version
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / "kept").rename(target)

    def _apt_download(self, package: Package, folder: Path) -> Path:
        """The .deb, in *folder*: by the system's package lists, or by lists of our own where those are stale."""
        lists = self.cache / "apt"
        private = [
            *("-o", f"Dir::State::Lists={lists}/lists", "-o", f"Dir::Cache={lists}/cache"),
            *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="),
        ]
        wanted = [*(f"{package.name}={version}" for version in package.versions), package.name]
        problem = ""
        for options in ((), private):
            if options:
                for part in ("lists/partial", "cache/archives/partial"):
                    (lists / part).mkdir(parents=True, exist_ok=True)
                _run(["apt-get", "-q", *options, "update"], folder, check=False)
            for name in wanted:
                problem = _run(["apt-get", "-q", *options, "download", name], folder, check=False)
                if archives := list(folder.glob("*.deb")):
                    return archives[0]
        complaints = [line for line in problem.splitlines() if line.startswith("E:")]
        raise ImageError(f"{package.name} cannot be fetched: {complaints[-1] if complaints else 'apt-get failed'}")

    @staticmethod
    def _verify(package: Package, version: str, folder: Path) -> None:
        for name, digest in package.versions.get(version, {}).items():
            if _sha256(folder / name) != digest:
                raise ImageError(f"{name} of {package.name} {version} is not the file that was pinned")

    @staticmethod
    def _keep(package: Package, unpacked: Path, kept: Path) -> None:
        """Move what is wanted of *unpacked* to *kept*."""
        for name in (package.folder,) if package.folder else package.files:
            if not (unpacked / name).exists():
                raise ImageError(f"the package {package.name} has no file {name}")
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / name).rename(kept / name)


def lookup(name: str) -> Guest:
    """The row of guest *name*.  Raises ``UsageError``."""
    try:
        return GUESTS[name]
    except KeyError:
        raise UsageError(f"there is no guest {name!r}; there are {', '.join(GUESTS)}") from None


def _folders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _run(command: Sequence[str], folder: Path, check: bool = True) -> str:
    """The output of a command, errors included.  With *check*, raises ``ImageError`` when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_DOWNLOAD_SECONDS,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired:
        raise ImageError(f"{command[0]} took more than {_DOWNLOAD_SECONDS} seconds") from None
    if check and done.returncode:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise ImageError(f"{command[0]} failed: {last}")
    return done.stdout
