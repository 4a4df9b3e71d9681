"""A private MySQL server: the machine's own, or Debian's packages, unpacked and never installed."""

from __future__ import annotations

import shutil

from tests.servers import debian
from tests.servers.cache import CACHE, filling
from tests.servers.errors import EngineMissingError, InstallError, advice
from tests.servers.mysql_family import MySQLFamily, programs

_ADVICE = """\
    Debian:          apt-get install debian-archive-keyring   (then it is downloaded from sid into .cache)
    Ubuntu:          apt-get install mysql-server-core-8.0   (24.10 and later: mysql-server-core)
    Fedora:          dnf install community-mysql-server
    macOS:           brew install mysql
    a running one:   AIOTASKSTORE_TEST_MYSQL=mysql://user:password@host:port/database"""


class MySQL(MySQLFamily):
    """A private MySQL server, which is never MariaDB.

    Stable Debian has MariaDB only. Its suite *sid* has MySQL, built for a newer C library than this
    machine's: the packages bring theirs, and its own loader starts the server.
    """

    name = "MySQL"

    def _find(self) -> None:
        tried: list[str] = []
        if self._use_machines(tried) or self._use_unpacked(tried):
            return
        shutil.rmtree(CACHE / "mysql", ignore_errors=True)  # what there was could not be run
        try:
            with filling("mysql") as folder:
                debian.unpack_from_sid(folder, "mysql-server-core")
        except InstallError as error:
            tried.append(str(error))
        if not self._use_unpacked(tried):
            raise EngineMissingError(advice("MySQL", tried, _ADVICE))

    def _use_machines(self, tried: list[str]) -> bool:
        found = list(programs("mysqld", "/opt/homebrew/opt/mysql/bin", "/usr/local/opt/mysql/bin"))
        for program in found:
            try:
                self._use(program)
            except OSError as error:
                tried.append(f"{program}: {error}")
            else:
                return True
        if not found:
            tried.append("mysqld: not found")
        return False

    def _use_unpacked(self, tried: list[str]) -> bool:
        """Take the server in the cache, with the loader and the libraries beside it."""
        if not (CACHE / "mysql" / "usr" / "sbin" / "mysqld").exists():
            tried.append(f"{CACHE / 'mysql'}: no mysqld")
            return False
        usr = self._within_reach(CACHE / "mysql") / "usr"
        loader = next(usr.glob("lib/*-linux-gnu*/ld-linux*.so.*"), None)
        if loader is None:
            tried.append(f"{usr}: no loader")
            return False
        try:
            self._use(loader, "--library-path", loader.parent, usr / "sbin" / "mysqld")
        except OSError as error:
            tried.append(f"{usr}: {error}")
            return False
        self._places = (f"--basedir={usr}", f"--lc-messages-dir={usr / 'share' / 'mysql'}", "--secure-file-priv=NULL")
        return True

    def _initialise(self) -> None:
        self._prepare()
        self._run(
            *(*self._program, "--no-defaults", *self._places, "--initialize-insecure", f"--datadir={self.data}"),
        )
