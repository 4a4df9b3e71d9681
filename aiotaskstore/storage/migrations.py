"""Migrations: numbered .sql files, applied in order, each once, under a lock."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from aiotaskstore.errors import SchemaOutdatedError, SchemaTooNewError
from aiotaskstore.storage.faults import explain_conflict
from aiotaskstore.storage.operation import Call, Rows, Steps
from aiotaskstore.storage.table_names import TableNames

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
"""The schema version that this library needs; the same number on every dialect."""


async def migrate(database: Database) -> int:
    """Bring the tables to `LATEST`; return how many migrations were applied. Safe to repeat and to race.

    Raises `SchemaTooNewError` if a newer library has migrated the tables.
    """
    applied: list[Migration] = []

    async def work(session: Any) -> None:
        for statement in split(_versions_table(database.kind, database.table_names)):
            await session.script(statement)
        found = (await session.run(Call("schema_version")))[0][0] or 0
        if found > LATEST:
            raise SchemaTooNewError(found, LATEST)
        for migration in migrations(database.kind):
            if migration.version <= found:
                continue
            for statement in split(database.table_names.apply(migration.sql)):
                await session.script(statement)
            await session.run(Call("record_migration", {"version": migration.version, "name": migration.name}))
            applied.append(migration)

    with explain_conflict(
        "A migration met somebody's open transaction. Migrate again once that is over; the database says:"
    ):
        await database.migrate_on(work)
    return len(applied)


async def check(database: Database) -> None:
    """Raise `SchemaOutdatedError` or `SchemaTooNewError` unless the tables have the version `LATEST`."""
    found = await version(database)
    if found is None or found < LATEST:
        raise SchemaOutdatedError(found, LATEST, f"Looked for: {database.table_names.described}.")
    if found > LATEST:
        raise SchemaTooNewError(found, LATEST)


def check_file(database: Database) -> None:
    """Raise `SchemaOutdatedError` where opening the database would make it, empty."""
    missing = database.missing()
    if missing:
        raise SchemaOutdatedError(None, LATEST, missing)


async def version(database: Database) -> int | None:
    """Return the schema version of the tables; `None` where there are no tables."""

    def schema_version() -> Steps[Rows]:
        return (yield Call("schema_version"))

    try:
        rows = await database.read(schema_version)
    except SchemaOutdatedError:
        return None
    found: int | None = rows[0][0]
    return found


def ddl(kind: str, table_names: TableNames, *, until: int = LATEST) -> str:
    """Return every statement that `migrate` runs, as one text for people who run DDL themselves."""
    parts = [f"CREATE SCHEMA IF NOT EXISTS {table_names.quoted_schema};"] if table_names.schema else []
    parts.append(_versions_table(kind, table_names))
    for migration in migrations(kind)[:until]:
        parts.append(table_names.apply(migration.sql).strip())
        parts.append(
            table_names.apply(
                "INSERT INTO aiotaskstore_migrations (version, name, applied_at) "  # noqa: S608 - our own constants
                f"VALUES ({migration.version}, '{migration.name}', {_NOW[kind]});"
            )
        )
    return "\n\n".join(parts) + "\n"


def split(sql: str) -> list[str]:
    """Split a text into its statements."""
    bare = re.sub(r"^\s*--.*$\n?", "", sql, flags=re.MULTILINE)
    return [part.strip() for part in re.split(r";\s*(?:\n|$)", bare) if part.strip()]


_NOW = {
    "postgresql": "now()",
    "mysql": "UTC_TIMESTAMP(6)",
    "sqlite": "CAST(strftime('%s', 'now') AS INTEGER) * 1000000",
}
_INSTANT = {"postgresql": "timestamptz", "mysql": "DATETIME(6)", "sqlite": "INTEGER"}
_TEXT = {"postgresql": "text", "mysql": "VARCHAR(100)", "sqlite": "TEXT"}


def _versions_table(kind: str, table_names: TableNames) -> str:
    return table_names.apply(
        "CREATE TABLE IF NOT EXISTS aiotaskstore_migrations (\n"
        "    version INTEGER PRIMARY KEY,\n"
        f"    name {_TEXT[kind]} NOT NULL,\n"
        f"    applied_at {_INSTANT[kind]} NOT NULL\n);"
    )
