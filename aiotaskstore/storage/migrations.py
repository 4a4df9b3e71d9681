"""Numbered forward migrations: the .sql files in order, each applied once, under a lock."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from aiotaskstore.errors import SchemaOutdatedError, SchemaTooNewError
from aiotaskstore.storage.statements import Naming
from aiotaskstore.storage.steps import Call, Rows, Unit

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database


class Migration(NamedTuple):
    """One numbered file."""

    version: int
    name: str
    sql: str


@cache
def migrations(kind: str) -> tuple[Migration, ...]:
    """Read a dialect's migrations, oldest first."""
    found = []
    for file in files("aiotaskstore.storage").joinpath("sql", "migrations", kind).iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    return tuple(sorted(found))


LATEST = migrations("sqlite")[-1].version
"""The version this library needs; the same number on every dialect."""


async def migrate(database: Database) -> int:
    """Bring the tables to `LATEST`; gives how many migrations were applied. Safe to repeat and to race.

    Raises `SchemaTooNewError` when a newer library has been here.
    """
    applied: list[Migration] = []

    async def work(session: Any) -> None:
        for statement in split(_versions_table(database.kind, database.naming)):
            await session.script(statement)
        found = (await session.run(Call("schema_version")))[0][0] or 0
        if found > LATEST:
            raise SchemaTooNewError(found, LATEST)
        for migration in migrations(database.kind):
            if migration.version <= found:
                continue
            for statement in split(database.naming.apply(migration.sql)):
                await session.script(statement)
            await session.run(Call("record_migration", {"version": migration.version, "name": migration.name}))
            applied.append(migration)

    await database.migrate_on(work)
    return len(applied)


async def check(database: Database) -> None:
    """Raise `SchemaOutdatedError` or `SchemaTooNewError` unless the tables are at `LATEST`."""
    found = await version(database)
    if found is None or found < LATEST:
        raise SchemaOutdatedError(found, LATEST)
    if found > LATEST:
        raise SchemaTooNewError(found, LATEST)


async def version(database: Database) -> int | None:
    """Give the version the tables are at; `None` where there are none."""

    def ask() -> Unit[Rows]:
        return (yield Call("schema_version"))

    try:
        rows = await database.read(ask)
    except SchemaOutdatedError:
        return None
    found: int | None = rows[0][0]
    return found


def ddl(kind: str, naming: Naming) -> str:
    """Give every statement that `migrate` runs, as one text for people who run DDL themselves."""
    parts = [f"CREATE SCHEMA IF NOT EXISTS {naming.schema};"] if naming.schema else []
    parts.append(_versions_table(kind, naming))
    for migration in migrations(kind):
        parts.append(naming.apply(migration.sql).strip())
        parts.append(
            naming.apply(
                "INSERT INTO aiotaskstore_migrations (version, name, applied_at) "  # noqa: S608 - our own constants
                f"VALUES ({migration.version}, '{migration.name}', {_NOW[kind]});"
            )
        )
    return "\n\n".join(parts) + "\n"


def split(sql: str) -> list[str]:
    """Cut a text into its statements."""
    bare = re.sub(r"^\s*--.*$\n?", "", sql, flags=re.MULTILINE)
    return [part.strip() for part in re.split(r";\s*(?:\n|$)", bare) if part.strip()]


_NOW = {
    "postgresql": "now()",
    "mysql": "UTC_TIMESTAMP(6)",
    "sqlite": "CAST(strftime('%s', 'now') AS INTEGER) * 1000000",
}
_INSTANT = {"postgresql": "timestamptz", "mysql": "DATETIME(6)", "sqlite": "INTEGER"}
_TEXT = {"postgresql": "text", "mysql": "VARCHAR(100)", "sqlite": "TEXT"}


def _versions_table(kind: str, naming: Naming) -> str:
    return naming.apply(
        "CREATE TABLE IF NOT EXISTS aiotaskstore_migrations (\n"
        "    version INTEGER PRIMARY KEY,\n"
        f"    name {_TEXT[kind]} NOT NULL,\n"
        f"    applied_at {_INSTANT[kind]} NOT NULL\n);"
    )
