"""Debian's packages, unpacked without installing them: the system stays as it is."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.servers.errors import InstallError

LIMIT = 900
"""Seconds for one run of apt-get: a slow mirror is waited for, a silent one is not (see below)."""

_OPTIONS = (
    *("-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20", "-o", "Acquire::Retries=2"),
    *("-o", "Acquire::Languages=none", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"),
)


def install(*packages: str) -> None:
    """Install packages into the system; only root can."""
    apt("update")
    apt("install", "--yes", "--no-install-recommends", *packages)


def unpack(folder: Path, *packages: str) -> None:
    """Unpack packages and the libraries that this machine lacks for them."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        _download(Path(work), packages)
        _extract(Path(work), folder)


def unpack_from_sid(folder: Path, *packages: str) -> None:
    """Unpack packages of Debian's unstable suite with everything that they need, down to the C library."""
    failures = []
    for mirror in _mirrors():
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            work = Path(temporary)
            (work / "sid.list").write_text(f"deb [signed-by={_keyring()}] {mirror} sid main\n")
            (work / "status").touch()  # as if nothing was installed
            own = {
                "Dir::Etc::SourceList": work / "sid.list",
                "Dir::Etc::SourceParts": os.devnull,
                "Dir::Etc::Preferences": os.devnull,
                "Dir::Etc::PreferencesParts": os.devnull,
                "Dir::State::Status": work / "status",
                "APT::Default-Release": "",
                "APT::Update::Error-Mode": "any",  # else a mirror that is away is a warning
            }
            try:
                _download(work, packages, *(word for key, value in own.items() for word in ("-o", f"{key}={value}")))
            except InstallError as error:
                failures.append(f"{mirror}: {error}")
                continue
            _extract(work, folder)
            return
    raise InstallError("\n    ".join(failures))


def apt(*words: str) -> str:
    """Run ``apt-get`` to its end and return what it printed."""
    try:
        done = subprocess.run(
            ["apt-get", *words],
            check=False,
            text=True,
            timeout=LIMIT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"apt-get: {error}") from error
    if done.returncode != 0:
        raise InstallError("\n    ".join([f"apt-get {words[-1]}:", *done.stdout.splitlines()[-10:]]))
    return done.stdout


def _download(work: Path, packages: tuple[str, ...], *options: str) -> None:
    """Download packages into a directory, with lists and a cache of its own."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    own = (*_OPTIONS, "-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}/cache", *options)
    apt(*own, "update")
    # --reinstall: what the machine has already is to be unpacked too.
    apt(*own, "install", "--yes", "--no-install-recommends", "--download-only", "--reinstall", *packages)


def _extract(work: Path, folder: Path) -> None:
    """Unpack what was downloaded, without Perl: only the packages' own maintenance scripts need it."""
    for package in (work / "cache" / "archives").glob("*.deb"):
        if package.name.startswith(("perl", "libperl")):
            continue
        try:
            subprocess.run(["dpkg", "-x", package, folder], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InstallError(f"dpkg -x {package.name}: {getattr(error, 'stderr', None) or error}") from error


def _mirrors() -> Iterator[str]:
    """Yield the mirror that this machine's own Debian comes from, then the one for everybody."""
    everybodys = "http://deb.debian.org/debian"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    if release.get("ID") == "debian":
        suites = {release.get("VERSION_CODENAME"), "oldstable", "stable", "testing", "unstable", "sid"}
        targets = apt("indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
        for uri, suite, component in (line.split()[:3] for line in targets.splitlines() if line.count(" ") > 1):
            if suite in suites and component == "main" and uri.rstrip("/") != everybodys:
                yield uri
                break
    yield everybodys


def _keyring() -> Path:
    """Return the keys that Debian signs with, as Debian installed them here."""
    for name in ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp"):
        if (found := Path("/usr/share/keyrings") / name).exists():
            return found
    raise InstallError("no Debian keys in /usr/share/keyrings (package debian-archive-keyring)")
