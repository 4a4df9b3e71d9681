"""A private PgBouncer, which lends a few sessions of a PostgreSQL server to many clients, one transaction at a time."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from tests.servers import debian
from tests.servers.cache import CACHE, filling
from tests.servers.errors import EngineMissingError, InstallError, advice
from tests.servers.postgresql import greets
from tests.servers.server import Server, number

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_CACHED = CACHE / "pgbouncer"

_ADVICE = """\
    Debian, Ubuntu:  apt-get install pgbouncer
    Fedora:          dnf install pgbouncer
    macOS:           brew install pgbouncer"""

_SETTINGS = """\
[databases]
* = host={host} port={port} user={user}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
server_reset_query_always = 0
"""
"""As its documentation recommends for transaction mode: no session is reset between the clients that share it."""


class PgBouncer(Server):
    """A pooler in transaction mode before the PostgreSQL server of a URL. It holds few sessions, so clients mix."""

    name = "PgBouncer"
    user = "postgres"
    halt = signal.SIGTERM  # at once; SIGINT would wait for clients

    def __init__(self, before: str, sessions: int = 3) -> None:
        super().__init__()
        self._server: SplitResult = urlsplit(before)
        self._sessions = sessions
        self._program = Path()

    @property
    def url(self) -> str:
        """The same database, through the pooler."""
        parts = self._server
        return urlunsplit(parts._replace(netloc=f"{parts.username or 'postgres'}@127.0.0.1:{self.port}"))

    def _find(self) -> None:
        tried: list[str] = []
        if self._use_any(tried):
            return
        shutil.rmtree(_CACHED, ignore_errors=True)  # what there was could not be run
        try:
            with filling("pgbouncer") as folder:
                debian.unpack(folder, "pgbouncer")
        except InstallError as error:
            tried.append(str(error))
        if not self._use_any(tried):
            raise EngineMissingError(advice(self.name, tried, _ADVICE))

    def _use_any(self, tried: list[str]) -> bool:
        """Take the first program that can be run."""
        for program in self._programs():
            unpacked = program.parents[2].name == _CACHED.name
            folders = program.parents[2].glob("usr/lib/*-linux-*") if unpacked else ()
            self._libraries = os.pathsep.join(map(str, folders))
            try:
                self.version = f"PgBouncer {number(self._ask_version(program))}"
            except OSError as error:
                tried.append(f"{program}: {error}")
                continue
            self._program = program
            return True
        tried.append("pgbouncer: not found")
        return False

    def _programs(self) -> Iterator[Path]:
        """Yield the programs there are."""
        path = os.pathsep.join([*os.get_exec_path(), "/usr/sbin", "/opt/homebrew/bin"])
        if found := shutil.which("pgbouncer", path=path):
            yield Path(found)
        if (_CACHED).exists():
            yield self._within_reach(_CACHED) / "usr" / "sbin" / "pgbouncer"

    def _initialise(self) -> None:
        """Write nothing yet: the settings name the port, which is chosen later."""

    def _command(self) -> list[str | Path]:
        parts, users, settings = self._server, self._home / "users.txt", self._home / "pgbouncer.ini"
        user = unquote(parts.username or "postgres")
        password = f" password={unquote(parts.password)}" if parts.password else ""
        users.write_text(f'"{user}" "{unquote(parts.password or "")}"\n')
        settings.write_text(
            _SETTINGS.format(
                host=parts.hostname, port=parts.port or 5432, user=user, password=password, own_port=self.port,
                users=users, sessions=self._sessions,
            )
        )  # fmt: skip
        return [self._program, settings]

    def _greets(self, connection: socket.socket) -> bool:
        return greets(connection)
