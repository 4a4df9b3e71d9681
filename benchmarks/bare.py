"""The raw limit: the library's own compiled statements on the bare driver, in a bare loop.

No payload is read, no handler called, no timeout armed, no outcome decided; what remains is what the database, the
driver and the network need for batches of the same size.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.operation import Batch, Call, Step
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.transitions import Ending, Finish
from aiotaskstore.storage.url import parse_url
from aiotaskstore.task import Claim, NewTask
from benchmarks.apart import at_once
from benchmarks.meter import Meter
from benchmarks.product import ALIAS

_QUEUE = "default"
_WEEK = 7 * 86400.0
_MOVED = fields_of(Ending)[:-1]
_SUCCESS = (5, "null", None, "ok", None, _WEEK, True)
"""The fields of Ending behind the id."""
_FENCE = Claim._fields.index("fence")

Taken = Sequence[tuple[Any, int]]
"""What was claimed: (id, fence) each."""


# ── in a process of its own ───────────────────────────────────────────────────────────────────────────────


async def drain(meter: Meter, url: str, prefix: str, batch: int) -> None:
    """Claim the next batch while the last one is being finished, until nothing is left."""
    bare = await _open(url, prefix, connections=2)
    with meter:
        taken = await bare.claim(batch)
        while taken and meter.done < meter.tasks:
            meter.count(len(taken))
            taken = await bare.turn(taken, batch)
    await bare.close()


async def one_by_one(meter: Meter, url: str, prefix: str) -> None:
    """Claim one task and finish one, each with a commit of its own."""
    bare = await _open(url, prefix, connections=2)
    with meter:
        while meter.done < meter.tasks:
            await bare.finish(await bare.claim(1))
            meter.count()
    await bare.close()


async def insert(meter: Meter, url: str, prefix: str, batch: int) -> None:
    """Insert so many rows a statement, one after the other on one connection."""
    bare, rows = await _open(url, prefix, connections=1), _rows(meter.tasks)
    with meter:
        for start in range(0, len(rows), batch):
            await bare.insert(bare.connections[0], rows[start : start + batch])
            meter.count(batch)
    await bare.close()


async def insert_each(meter: Meter, url: str, prefix: str, callers: int, pool: int) -> None:
    """Insert one row a statement, from so many callers who share a pool: enqueueing without group commit."""
    bare, rows = await _open(url, prefix, connections=min(pool, callers)), _rows(meter.tasks)
    idle: asyncio.Queue[Any] = asyncio.Queue()
    for connection in bare.connections:
        idle.put_nowait(connection)

    async def caller(number: int) -> None:
        for row in rows[number::callers]:
            connection = await idle.get()
            await bare.insert(connection, [row])
            idle.put_nowait(connection)
            meter.count()

    with meter:
        await at_once(caller, callers)
    await bare.close()


async def answer(meter: Meter, url: str, prefix: str, gap: float) -> None:
    """Insert one row, notify where the database can, and claim it, at once: the round trips and nothing else."""
    bare = await _open(url, prefix, connections=2)
    await bare.listen()
    with meter:
        for row in _rows(meter.tasks):
            await asyncio.sleep(gap)
            started = time.perf_counter()
            await bare.insert(bare.connections[-1], [row])
            await bare.notify()
            taken = await bare.claim(1)
            meter.samples.append((time.perf_counter() - started) * 1e3)
            await bare.finish(taken)
            meter.count()
    await bare.close()


async def _open(url: str, prefix: str, *, connections: int) -> Bare:
    kinds: dict[str, Callable[[str, str], Bare]] = {
        "postgresql": BarePostgres, "mysql": BareMySQL, "sqlite": BareSqlite,
    }  # fmt: skip
    bare = kinds[parse_url(url).dialect](url, prefix)
    await bare.open(connections)
    return bare


def _rows(tasks: int) -> list[NewTask]:
    row = NewTask(
        id=new_id(), queue=_QUEUE, alias=ALIAS, priority=0, run_at=None, delay=None, payload="", max_attempts=3,
        timeout=60.0, on_stuck=0, owner_type=None, owner_id=None, source=None, parent_id=None, definition_id=None,
        external_id=None, serialization_key=None, strict=False, metadata=None, retention=None,
    )  # fmt: skip
    return [row._replace(id=new_id(), payload=f'{{"n":{n}}}') for n in range(tasks)]


# ── the three databases ───────────────────────────────────────────────────────────────────────────────────


class Bare(ABC):
    """One dialect's statements and a few connections: the first claims, the last finishes."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url = url
        self.database: Any = connect(url, table_names=TableNames(prefix)).database  # never opened: it only compiles
        self.me = new_id()
        self.connections: list[Any] = []

    @abstractmethod
    async def open(self, connections: int) -> None:
        """Connect."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def insert(self, connection: Any, rows: Sequence[NewTask]) -> None:
        """Store rows and commit."""

    @abstractmethod
    async def claim(self, limit: int) -> Taken:
        """Take pending tasks and commit."""

    @abstractmethod
    async def finish(self, taken: Taken) -> None:
        """Move them to the history and commit."""

    async def turn(self, taken: Taken, limit: int) -> Taken:
        """Finish these while the next are being claimed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.finish(taken))
            claim = group.create_task(self.claim(limit))
        return claim.result()

    async def listen(self) -> None:
        """Listen for what `notify` says, where the database can."""
        return

    async def notify(self) -> None:
        """Notify, and wait until that is received."""
        return


class BarePostgres(Bare):
    """asyncpg, one statement each."""

    async def open(self, connections: int) -> None:
        import asyncpg

        self.connections = [await asyncpg.connect(self.url) for _ in range(connections)]
        self._received = asyncio.Event()

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()

    async def insert(self, connection: Any, rows: Sequence[NewTask]) -> None:
        await self._run(connection, Batch("insert_tasks", fields_of(NewTask), rows))

    async def claim(self, limit: int) -> Taken:
        params = {"dispatcher": self.me, "queues": [_QUEUE], "limits": [limit], "aliases": [ALIAS]}
        rows = await self._run(self.connections[0], Call("claim", params))
        return [(row["id"], row["fence"]) for row in rows]

    async def finish(self, taken: Taken) -> None:
        rows = [(id_, fence, "null", _WEEK, True) for id_, fence in taken]
        await self._run(self.connections[-1], Batch("finish", fields_of(Finish), rows))

    async def listen(self) -> None:
        await self.connections[0].add_listener(self.database.channel, lambda *_: self._received.set())

    async def notify(self) -> None:
        self._received.clear()
        params = {"channel": self.database.channel, "payload": json.dumps([_QUEUE])}
        await self._run(self.connections[-1], Call("notify_always", params))
        await self._received.wait()

    async def _run(self, connection: Any, step: Step) -> Any:
        compiled, arguments = self.database.binder.bind(step)
        return await connection.fetch(compiled.sql, *arguments)


class BareMySQL(Bare):
    """aiomysql, which takes whole texts; a transaction each."""

    async def open(self, connections: int) -> None:
        import aiomysql

        from aiotaskstore.storage.mysql.options import connect_options

        options = connect_options(parse_url(self.url))
        self.connections = [await aiomysql.connect(**options) for _ in range(connections)]
        for connection in self.connections:
            await self._query(connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            await self._query(connection, "SET SESSION sql_notes = 0")

    async def close(self) -> None:
        for connection in self.connections:
            await connection.ensure_closed()

    async def insert(self, connection: Any, rows: Sequence[NewTask]) -> None:
        await self._query(connection, "START TRANSACTION")
        await self._run(connection, Batch("insert_tasks", fields_of(NewTask), rows))
        await self._run(connection, Call("insert_ready", {"ids": [row.id for row in rows]}))
        await self._query(connection, "COMMIT")

    async def claim(self, limit: int) -> Taken:
        connection = self.connections[0]
        await self._query(connection, "START TRANSACTION")
        rows = await self._run(connection, Call("claim", {"queue": _QUEUE, "limit": limit, "aliases": [ALIAS]}))
        if rows:
            ids = [UUID(bytes=row[0]) for row in rows]
            await self._run(connection, Call("take_ready", {"ids": ids}))
            await self._run(connection, Call("mark_running", {"ids": ids, "dispatcher": self.me}))
        await self._query(connection, "COMMIT")
        return [(id_, row[_FENCE]) for id_, row in zip(ids, rows, strict=True)] if rows else []

    async def finish(self, taken: Taken) -> None:
        connection, ids = self.connections[-1], [id_ for id_, _ in taken]
        await self._query(connection, "START TRANSACTION")
        await self._run(connection, Call("lock_running", {"ids": ids}))
        await self._run(connection, Batch("archive", _MOVED, [(id_, *_SUCCESS) for id_ in ids]))
        await self._run(connection, Call("delete_tasks", {"ids": ids}))
        await self._query(connection, "COMMIT")

    async def _run(self, connection: Any, step: Step) -> Any:
        return await self._query(connection, self.database.binder.render(step, connection))

    async def _query(self, connection: Any, text: str) -> Any:
        cursor = await connection.cursor()
        await cursor.execute(text)
        rows = await cursor.fetchall()
        await cursor.close()
        return rows


class BareSqlite(Bare):
    """One sqlite3 connection, in this thread."""

    async def open(self, connections: int) -> None:  # noqa: ARG002 - there is one writer
        self._raw = sqlite3.connect(self.database.path, isolation_level=None, cached_statements=32)
        self._raw.execute("PRAGMA journal_mode = WAL")
        self._raw.execute("PRAGMA synchronous = FULL")
        self._raw.execute("PRAGMA temp_store = MEMORY")
        self._raw.execute("PRAGMA cache_size = -16000")
        self.connections = [self._raw]

    async def close(self) -> None:
        self._raw.close()

    async def insert(self, connection: Any, rows: Sequence[NewTask]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        self._run_many(Batch("insert_tasks", fields_of(NewTask), rows))
        connection.execute("COMMIT")

    async def claim(self, limit: int) -> Taken:
        return await self.turn([], limit)

    async def finish(self, taken: Taken) -> None:
        await self.turn(taken, 0)

    async def turn(self, taken: Taken, limit: int) -> Taken:
        """Finish these and claim the next in one transaction, as the library's writer does."""
        await asyncio.sleep(0)
        rows = []
        self._raw.execute("BEGIN IMMEDIATE")
        if taken:
            ids = [id_ for id_, _ in taken]
            self._run(Call("lock_running", {"ids": ids}))
            self._run_many(Batch("archive", _MOVED, [(id_, *_SUCCESS) for id_ in ids]))
            self._run(Call("delete_tasks", {"ids": ids}))
        if limit:
            params = {"dispatcher": self.me, "queue": _QUEUE, "limit": limit, "aliases": [ALIAS]}
            rows = self._run(Call("claim", params))
        self._raw.execute("COMMIT")
        return [(UUID(bytes=row[0]), row[_FENCE]) for row in rows]

    def _run(self, step: Step) -> Any:
        return self._raw.execute(*self.database.binder.bind(step)).fetchall()

    def _run_many(self, step: Batch) -> None:
        for sql, rows in self.database.binder.bind_batch(step):
            self._raw.executemany(sql, rows)
