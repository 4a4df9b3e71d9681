"""Databases on MySQL and MariaDB that keep their tables for the next test: they are quicker to empty than to make."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from uuid import uuid4

import pymysql

_GONE = 1094
"""The error of `KILL` when the session has ended meanwhile."""
_LIMIT = 20.0
"""Seconds until a session that was killed must be gone."""


class KeptDatabases:
    """The databases on one server, as many as are in use at once."""

    def __init__(self, server: str, make_tables: Callable[[str], None]) -> None:
        self._parts = urlsplit(server)
        self._make_tables = make_tables
        """Makes the tables in the empty database at a URL."""
        self._idle: list[str] = []
        self._definition: dict[str, str] = {}
        """What defines the tables as they were made, by their names."""

    @contextlib.contextmanager
    def lend(self) -> Iterator[str]:
        """Give the URL of a database that has its tables and no rows; it is dropped unless they are as they were."""
        name = self._idle.pop() if self._idle else self._make()
        kept = False
        try:
            yield _url(self._parts, name)
            kept = self._empty(name)
        finally:
            if kept:
                self._idle.append(name)
            else:
                self._drop(name)

    def close(self) -> None:
        """Drop what is kept."""
        while self._idle:
            self._drop(self._idle.pop())

    def _make(self) -> str:
        name = f"aiotaskstore_{uuid4().hex[:16]}"
        with _cursor(self._parts) as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            self._make_tables(_url(self._parts, name))
            self._definition = _definition(cursor, name)
        return name

    def _drop(self, name: str) -> None:
        with _cursor(self._parts) as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")

    def _empty(self, name: str) -> bool:
        """Empty every table and drop those that are not ours; return False if ours are not as they were made."""
        with _cursor(self._parts) as cursor:
            _end_sessions(cursor, name)
            found = _definition(cursor, name)
            if self._definition.items() - found.items():
                return False
            for table in found.keys() - self._definition.keys():
                cursor.execute(f"DROP TABLE {name}.`{table}`")
            for table in self._definition.keys() - {"aiotaskstore_migrations"}:
                if cursor.execute(f"SELECT 1 FROM {name}.{table} LIMIT 1"):
                    cursor.execute(f"TRUNCATE TABLE {name}.{table}")  # leaves no dead entry behind, as DELETE would
        return True


@contextlib.contextmanager
def _cursor(parts: SplitResult) -> Iterator[pymysql.cursors.Cursor]:
    connection = pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        connect_timeout=20,
        autocommit=True,
        ssl_disabled=True,
    )
    with connection, connection.cursor() as cursor:
        yield cursor


def _url(parts: SplitResult, name: str) -> str:
    return urlunsplit(parts._replace(path=f"/{name}"))


def _end_sessions(cursor: pymysql.cursors.Cursor, name: str) -> None:
    """End every session on the database: what one of them still carries out would be found by the next test."""
    until = time.monotonic() + _LIMIT
    while left := _sessions(cursor, name):
        assert time.monotonic() < until, f"sessions {left} on {name} were killed and are still there"
        for session in left:
            try:
                cursor.execute(f"KILL {session}")
            except pymysql.err.MySQLError as error:
                if error.args[0] != _GONE:
                    raise
        time.sleep(0.005)


def _sessions(cursor: pymysql.cursors.Cursor, name: str) -> list[int]:
    cursor.execute("SHOW PROCESSLIST")
    return [row[0] for row in cursor.fetchall() if row[3] == name]


def _definition(cursor: pymysql.cursors.Cursor, name: str) -> dict[str, str]:
    """Return what defines each table, its triggers too, and which migrations are recorded, by the tables' names."""
    cursor.execute(f"SHOW TABLES FROM {name}")
    found = {table: _asked(cursor, f"SHOW CREATE TABLE {name}.`{table}`") for (table,) in cursor.fetchall()}
    triggers = _asked(cursor, f"SHOW TRIGGERS FROM {name}")
    migrations = "aiotaskstore_migrations"
    if migrations in found:
        rows = _asked(cursor, f"SELECT version, name FROM {name}.{migrations} ORDER BY version")
        found[migrations] = f"{found[migrations]} {rows} {triggers}"
    return found


def _asked(cursor: pymysql.cursors.Cursor, sql: str) -> str:
    cursor.execute(sql)
    return re.sub(r" AUTO_INCREMENT=\d+", "", repr(cursor.fetchall()))
