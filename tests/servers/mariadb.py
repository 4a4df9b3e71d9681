"""A private MariaDB server: the machine's own, or Debian's packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.servers import debian
from tests.servers.cache import CACHE, filling
from tests.servers.errors import EngineMissingError, InstallError, advice
from tests.servers.mysql_family import MySQLFamily, programs

_PACKAGES = ("mariadb-server-core", "mariadb-client-core")

_ADVICE = """\
    Debian, Ubuntu:  apt-get install mariadb-server-core mariadb-client-core
    Fedora:          dnf install mariadb-server
    macOS:           brew install mariadb
    a running one:   AIOTASKSTORE_TEST_MARIADB=mysql://user:password@host:port/database"""


class MariaDB(MySQLFamily):
    """A private MariaDB server, which is never MySQL.

    As root the packages are installed; otherwise they are unpacked into the cache.
    """

    name = "MariaDB"

    def _find(self) -> None:
        tried: list[str] = []
        if self._use_any(tried):
            return
        shutil.rmtree(CACHE / "mariadb", ignore_errors=True)  # what there was could not be run
        try:
            if os.geteuid() == 0:
                debian.install(*_PACKAGES)
            else:
                with filling("mariadb") as folder:
                    debian.unpack(folder, *_PACKAGES)
        except InstallError as error:
            tried.append(str(error))
        if not self._use_any(tried):
            raise EngineMissingError(advice("MariaDB", tried, _ADVICE))

    def _use_any(self, tried: list[str]) -> bool:
        """Take the first server program that can be run."""
        for program in self._programs():
            unpacked = CACHE in program.parents
            folders = (CACHE / "mariadb").glob("**/lib/*-linux-*") if unpacked else ()
            self._libraries = os.pathsep.join(map(str, folders))
            self._places = (f"--basedir={program.parent.parent}",) if unpacked else ()
            try:
                self._use(program)
            except OSError as error:
                tried.append(f"{program}: {error}")
                continue
            return True
        tried.append("mariadbd, mysqld: not found")
        return False

    @staticmethod
    def _programs() -> Iterator[Path]:
        """Yield the server programs there are, the best first."""
        own = ("/opt/homebrew/opt/mariadb/bin", "/usr/local/opt/mariadb/bin", str(CACHE / "mariadb" / "usr" / "sbin"))
        for name in ("mariadbd", "mysqld"):
            yield from programs(name, *own)

    def _initialise(self) -> None:
        self._prepare()
        folder = Path(self._program[0]).parent
        path = os.pathsep.join([str(folder), str(folder.parent / "bin"), *os.get_exec_path()])
        tools = (shutil.which(name, path=path) for name in ("mariadb-install-db", "mysql_install_db"))
        tool = next(filter(None, tools), None)
        if tool is None:
            raise EngineMissingError(advice("MariaDB", [f"{self._program[0]}: no mariadb-install-db"], _ADVICE))
        self._run(
            *(tool, "--no-defaults", *self._places, f"--datadir={self.data}", "--force"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        )
