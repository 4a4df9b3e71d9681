"""What a private MySQL and a private MariaDB have in common."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.servers.server import Server, number


class MySQLFamily(Server):
    """A server that speaks MySQL's protocol."""

    user = "mysql"
    halt = signal.SIGTERM

    _program: tuple[str | Path, ...] = ()
    """The server program, behind its loader where it needs one of its own."""
    _places: tuple[str | Path, ...] = ()
    """The options that tell a server that is not installed where its files are."""

    @property
    def url(self) -> str:
        """The URL of the empty database ``aiotaskstore``, as root without a password."""
        return f"mysql://root@127.0.0.1:{self.port}/aiotaskstore"

    def _use(self, *program: str | Path) -> None:
        """Take a server program; raise OSError when it can't be run or is of the other kind."""
        printed = self._ask_version(*program)
        kind = "MariaDB" if "MariaDB" in printed else "MySQL"
        if kind != self.name:
            raise OSError(f"is {kind}")
        self._program = program
        self.version = f"{kind} {number(printed.partition('Ver ')[2])}"

    @property
    def _init_file(self) -> Path:
        return self._home / "init.sql"

    @property
    def _temporary(self) -> Path:
        """A folder of its own for temporary tables: a server that starts deletes those of all others in its folder."""
        return self._home / "temporary"

    def _prepare(self) -> None:
        """Write what the server needs beside its data."""
        self._init_file.write_text("CREATE DATABASE IF NOT EXISTS aiotaskstore;\n")
        self._temporary.mkdir(exist_ok=True)
        for path in (self._init_file, self._temporary):
            self._account.own(path)

    def _command(self) -> list[str | Path]:
        """Return the command: what a commit writes outlives the server, but need not outlive the machine."""
        return [
            *(*self._program, "--no-defaults", *self._places, f"--datadir={self.data}"),
            *("--bind-address=127.0.0.1", f"--port={self.port}", "--socket=server.sock"),
            *("--max-connections=300", "--innodb-buffer-pool-size=256M", "--loose-mysqlx=OFF"),
            *("--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0"),
            *(f"--tmpdir={self._temporary}", f"--init-file={self._init_file}"),
        ]

    def _greets(self, connection: socket.socket) -> bool:
        """Wait for the server's greeting: it greets once the init file has been run."""
        return connection.recv(5)[4:] == b"\n"  # the version of the protocol, 10


def programs(name: str, *folders: str) -> Iterator[Path]:
    """Yield the server program of this name that the machine has, if it has one."""
    path = (*os.get_exec_path(), "/usr/sbin", "/usr/libexec", "/usr/local/sbin", *folders)
    if found := shutil.which(name, path=os.pathsep.join(path)):
        yield Path(found)
