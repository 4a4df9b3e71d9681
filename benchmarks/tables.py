"""The tables that a benchmark works on: under a prefix of their own, dropped afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiotaskstore import TaskStatus, TaskStore
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.table_names import TABLES, TableNames
from aiotaskstore.storage.url import parse_url
from benchmarks.product import declare

_CHUNK = 10_000


class Tables:
    """Our tables in one database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"bench_{os.urandom(3).hex()}_"
        self.dialect = parse_url(url).dialect
        self.version = asyncio.run(self._version())

    def fill(self, tasks: int, *, keys: int = 0, waiting: int = 0) -> None:
        """Make them anew, with so many due tasks in them, which take turns at so many serialization keys.

        So many more wait for one key, whose holder is in a queue that nobody serves.
        """
        asyncio.run(self._fill(tasks, keys, waiting))

    def verify(self, tasks: int, status: TaskStatus) -> None:
        """Void the benchmark unless exactly so many tasks have this status."""
        found = asyncio.run(self._count(status))
        if found != tasks:
            raise SystemExit(f"The database has {found:,} tasks that are {status}, not {tasks:,}: void.")

    async def _version(self) -> str:
        database = connect(self.url).database
        await database.open()
        try:
            return await database.version()
        finally:
            await database.close()

    async def _fill(self, tasks: int, keys: int, waiting: int) -> None:
        await self.drop()
        async with TaskStore(self.url, prefix=self.prefix) as store:
            work = declare(store)
            held = work.options(serialization_key="held", queue="unserved")
            of_key = [work.options(serialization_key=f"key {n}") for n in range(keys)] or [work.options()]
            for start in range(0, waiting, _CHUNK):
                await store.enqueue_many([held.draft(n) for n in range(start, min(start + _CHUNK, waiting))])
            for start in range(0, tasks, _CHUNK):
                numbers = range(start, min(start + _CHUNK, tasks))
                await store.enqueue_many([of_key[n % len(of_key)].draft(n) for n in numbers])

    async def _count(self, status: TaskStatus) -> int:
        async with TaskStore(self.url, prefix=self.prefix) as store:
            return await store.tasks.count(status=status)

    async def drop(self) -> None:
        database = connect(self.url, table_names=TableNames(self.prefix)).database
        await database.open()
        try:
            async with database.session() as session:
                for table in TABLES:
                    await session.script(f"DROP TABLE IF EXISTS {self.prefix}{table}")
        finally:
            await database.close()


@contextmanager
def tables(url: str) -> Iterator[Tables]:
    """Lend fresh tables; a SQLite file that was not there before is gone afterwards."""
    address = parse_url(url)
    file = Path(address.path) if address.dialect == "sqlite" else None
    existed = file is None or file.exists()
    ours = Tables(url)
    try:
        yield ours
    finally:
        asyncio.run(ours.drop())
        if file is not None and not existed:
            for left in file.parent.glob(f"{file.name}*"):
                left.unlink()
