"""How PostgreSQL carries out a step of ours: which way it went to our rows, and how much it read for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from aiotaskstore.storage.operation import Step
from aiotaskstore.storage.postgresql.database import PostgresDatabase
from aiotaskstore.storage.postgresql.session import PostgresSession

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True)
class Plan:
    """One execution, as EXPLAIN (ANALYZE, BUFFERS) reports it."""

    root: dict[str, Any]

    @property
    def buffers(self) -> int:
        """Blocks touched, found in memory or not."""
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    @property
    def in_vain(self) -> int:
        """Rows looked at and thrown away, by filters and by joins."""
        keys = ("Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")
        return sum(int(node.get(key, 0)) * int(node["Actual Loops"]) for node in self.nodes() for key in keys)

    @property
    def ways(self) -> set[str]:
        """The ways it went to the rows of tables: a kind of scan, and the index or the table."""
        found = set()
        for node in self.nodes():
            if node["Node Type"].endswith("Scan") and ("Relation Name" in node or "Index Name" in node):
                where = node.get("Index Name") or node["Relation Name"]
                found.add(f"{node['Node Type']} {where.removeprefix('aiotaskstore_')}")
        return found

    def nodes(self) -> Iterator[dict[str, Any]]:
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", [])
            yield node


@dataclass
class Explainer:
    """Prepares our statements once, as a session of ours does, and runs them again and again."""

    session: PostgresSession
    database: PostgresDatabase
    connection: Connection
    _prepared: dict[str, str] = field(default_factory=dict)

    async def explain(self, step: Step) -> Plan:
        """Run a step for real, and take back what it did."""
        name, arguments = await self._prepare(step)
        await self.session.begin()
        try:
            text = await self.connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name}{arguments}")
        finally:
            await self.session.rollback()
        return Plan(json.loads(text)[0]["Plan"])

    async def _prepare(self, step: Step) -> tuple[str, str]:
        compiled, arguments = self.database.binder.bind(step)
        name = self._prepared.get(compiled.sql)
        if name is None:
            types = [kind.name for kind in (await self.connection.prepare(compiled.sql)).get_parameters()]
            name = self._prepared[compiled.sql] = f"ours_{len(self._prepared)}"
            await self.connection.execute(f"PREPARE {name} {_listed(types)} AS {compiled.sql}")
        return name, _listed([literal(argument) for argument in arguments])


def _listed(words: list[str]) -> str:
    return f"({', '.join(words)})" if words else ""


def literal(value: Any) -> str:
    """Write an argument as SQL."""
    if value is None:
        return "NULL"
    text = "{" + ",".join(map(_element, value)) + "}" if isinstance(value, list | tuple) else _plain(value)
    return "'" + text.replace("'", "''") + "'"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    return '"' + _plain(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "t" if value else "f"
        case datetime():
            return value.isoformat()
        case UUID() | int() | float() | str():
            return str(value)
        case _:
            raise AssertionError(f"no SQL for {value!r}")
