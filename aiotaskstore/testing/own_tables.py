"""Tables of a test's own in a database that others use: made for it, and dropped after it.

Their names tell when they were made, so that what a killed test has left is dropped by a later one.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from aiotaskstore.storage.location import Location
from aiotaskstore.storage.operation import Query
from aiotaskstore.storage.session import Session
from aiotaskstore.storage.table_names import TABLES, TableNames

_NAMED = "ats_test_"
_OURS = re.compile(rf"({_NAMED}([0-9a-f]{{8}})_[0-9a-f]{{8}}_?)")
"""The name of a schema, or the beginning of the names of tables: when it was made, in seconds, and a random part."""
LEFT_BEHIND = 86_400
"""Seconds after which tables that a test has made are left behind by one that was killed."""
_LISTED = {
    "postgresql": "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ats_test_%'",
    "mysql": "SELECT table_name FROM information_schema.tables "
    "WHERE table_schema = DATABASE() AND table_name LIKE 'ats_test_%'",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'ats_test_%'",
}


def own_names(kind: str, *, made_at: float | None = None) -> TableNames:
    """Return names that nobody else has: a schema on PostgreSQL, elsewhere a prefix."""
    made = int(time.time() if made_at is None else made_at)
    name = f"{_NAMED}{made:08x}_{secrets.token_hex(4)}"
    return TableNames(schema=name) if kind == "postgresql" else TableNames(prefix=f"{name}_")


async def drop_tables(location: Location) -> None:
    """Drop the tables of a location made by `own_names`, and those that killed tests have left behind."""
    database = location.connect().database
    await database.open()
    try:
        async with database.session() as session:
            names = location.table_names
            await _drop(session, location.kind, names.schema or names.prefix)
            for name in await _left_behind(session, location.kind):
                await _drop(session, location.kind, name)
    finally:
        await database.close()


async def _left_behind(session: Session, kind: str) -> list[str]:
    rows = await session.run(Query(_LISTED[kind], {}))
    found = {match[1]: int(match[2], 16) for row in rows if (match := _OURS.match(_text(row[0])))}
    return [name for name, made in found.items() if made < time.time() - LEFT_BEHIND]


async def _drop(session: Session, kind: str, name: str) -> None:
    if kind == "postgresql":
        await session.script(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
        return
    for table in TABLES:
        await session.script(f"DROP TABLE IF EXISTS {name}{table}")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
