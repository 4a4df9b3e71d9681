"""No statement reads more than the rows it is for, whatever the planner believes of the tables.

A queue's table is the worst case: its statistics are taken while it is empty, and then it holds 20,000 rows. A scan
is not only slow here: where it locks, it waits for every row that any open transaction has touched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.mysql.database import MySQLDatabase
from aiotaskstore.storage.mysql.session import MySQLSession
from aiotaskstore.storage.mysql.tasks import MySQLTasks
from aiotaskstore.storage.operation import Batch, Call, Operation, Rows, Step, T
from aiotaskstore.storage.running import run_operation
from aiotaskstore.storage.tasks import Changes
from aiotaskstore.storage.transitions import Marked
from aiotaskstore.task import Claim, NewTask
from tests.storage.harness import new_task

ROWS, BATCH, FEW = 20_000, 1_000, 20
"""Tasks that are there, and rows in one statement."""

READS = 16
"""Rows and index entries that a row may cost; a document of ids is read twice, and those of it that run are found."""


class Reading(MySQLSession):
    """A connection that notes how many rows and index entries each statement reads."""

    def __init__(self, database: MySQLDatabase, connection: Any) -> None:
        super().__init__(database, connection, joined=False)
        self.reads: dict[str, int] = {}

    async def run(self, step: Step) -> Rows:
        assert isinstance(step, Call | Batch)
        before = await self.total()
        asking = await self.total() - before  # to ask reads something, too
        rows = await super().run(step)
        self.reads[step.name] = await self.total() - before - 2 * asking
        return rows

    async def total(self) -> int:
        rows = await self.query("SHOW SESSION STATUS LIKE 'Handler\\_read%'")
        return sum(int(row[1]) for row in rows)


class Hot:
    def __init__(self, tasks: MySQLTasks, session: Reading) -> None:
        self.tasks, self.session, self.dispatcher = tasks, session, new_id()

    async def run(self, operation: Operation[T]) -> T:
        return await run_operation(operation(), self.session, 60)

    async def fill(self) -> None:
        for _ in range(ROWS // BATCH):
            await self.run(lambda: self.tasks.enqueue(fresh(BATCH)))

    async def manage(self, ids: list[UUID]) -> None:
        """Run every action that leaves these tasks as they were."""
        tasks, at = self.tasks, datetime(2020, 1, 1, tzinfo=UTC)
        await self.run(lambda: tasks.pause(ids))
        await self.run(lambda: tasks.reschedule(ids, at, None))
        await self.run(lambda: tasks.resume(ids))
        await self.run(lambda: tasks.soft_delete(ids))
        await self.run(lambda: tasks.restore(ids))
        await self.run(lambda: tasks.update(ids, Changes(priority=0), {"work": "{}"}))
        copies = {id_: new_id() for id_ in ids}
        await self.run(lambda: tasks.clone(copies, "elsewhere", None))
        await self.run(lambda: tasks.mark(list(copies.values()), {None: Marked(succeeded=False, text="no")}))
        await self.run(lambda: tasks.mark(list(copies.values()), {None: Marked(succeeded=True, text="1")}))
        await self.run(lambda: tasks.soft_delete(list(copies.values())))
        await self.run(lambda: tasks.restore(list(copies.values())))
        await self.run(lambda: tasks.delete(list(copies.values()), force=False))

    async def everything(self, size: int) -> dict[str, int]:
        """Run every operation that a busy queue lives on, on so many rows; return what each statement read."""
        tasks, me = self.tasks, self.dispatcher
        self.session.reads = {}
        rows = fresh(size, delay=0.000_001)
        ids = [row.id for row in rows]
        await self.run(lambda: tasks.enqueue(rows))
        await self.run(lambda: tasks.promote(size))
        await self.run(tasks.next_due)
        for name in ("pending_depth", "scheduled_depths", "waiting_depths", "running_depths"):
            await self.session.run(Call(name, {"queue": "default", "limit": size}))
        await self.manage(ids)
        claims = await self.run(lambda: tasks.claim(me, [("default", size), ("other", 10)], ["work"]))
        assert len(claims) == size
        await self.run(lambda: tasks.cancel_requests(me))
        await self.run(lambda: tasks.cancel([claim.id for claim in claims], "why", force=False))
        await self.run(lambda: tasks.record([(claim, EMPTY) for claim in claims]))
        claims = await self.run(lambda: tasks.claim(me, [("default", size)], ["work"]))
        await self.run(lambda: tasks.record([(claim, EMPTY) for claim in claims]))
        claims = await self.run(lambda: tasks.claim(me, [("default", size)], ["work"]))
        await self.run(lambda: tasks.rescue(me, size))
        await self.run(lambda: tasks.stored_among(ids))
        return self.session.reads

    async def end(self, claims: Sequence[Claim]) -> None:
        """Have these tasks end, and free their keys."""
        await self.run(lambda: self.tasks.record([(claim, EMPTY) for claim in claims]))

    def check(self, rows: int, moment: str) -> None:
        """Check what each statement has read since `reads` was emptied."""
        for name, reads in self.session.reads.items():
            assert reads <= READS * rows + 100, f"{name} of {rows} read {reads} rows, analysed {moment}"


def fresh(count: int, **fields: Any) -> list[NewTask]:
    return [new_task(max_attempts=5, **fields) for _ in range(count)]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Hot]:
    storage = connect(url)
    await storage.database.open()
    await migrations.migrate(storage.database)
    assert isinstance(storage.database, MySQLDatabase)
    assert isinstance(storage.tasks, MySQLTasks)
    try:
        connection = await storage.database._pool.acquire(10)
        yield Hot(storage.tasks, Reading(storage.database, connection))
        storage.database._pool.release(connection)
    finally:
        await storage.database.close()


async def test_soft_deleted_rows_are_in_nobodys_way(mysql_url: str):
    async with opened(mysql_url) as hot:
        await hot.fill()
        await hot.session.query("UPDATE aiotaskstore_tasks SET status = 0, deleted_at = UTC_TIMESTAMP(6)")
        await hot.session.query("DELETE FROM aiotaskstore_ready")
        await hot.session.query("ANALYZE TABLE aiotaskstore_tasks, aiotaskstore_ready")
        for size in (FEW, BATCH):
            for name, reads in (await hot.everything(size)).items():
                assert reads <= READS * size + 100, f"{name} of {size} read {reads} rows"


async def test_nothing_scans(mysql_url: str):
    async with opened(mysql_url) as hot:
        tables = ", ".join(f"aiotaskstore_{name}" for name in ("tasks", "ready", "history"))
        for table in tables.split(", "):  # the server would choose its own moments
            await hot.session.query(f"ALTER TABLE {table} STATS_PERSISTENT = 1, STATS_AUTO_RECALC = 0")
        await hot.session.query(f"ANALYZE TABLE {tables}")
        await hot.fill()
        for moment in ("while empty", "while full"):
            for size in (FEW, BATCH):
                for name, reads in (await hot.everything(size)).items():
                    assert reads <= READS * size + 100, f"{name} of {size} read {reads} rows, analysed {moment}"
            await hot.session.query(f"ANALYZE TABLE {tables}")


async def test_what_passes_serialization_keys_on_scans_nothing(mysql_url: str):
    """Many tasks wait, half of them for one key, and every second of the other keys is held."""
    keys = [f"key {number}" for number in range(BATCH)]
    async with opened(mysql_url) as hot:
        await hot.session.query("ALTER TABLE aiotaskstore_tasks STATS_PERSISTENT = 1, STATS_AUTO_RECALC = 0")
        await hot.session.query("ANALYZE TABLE aiotaskstore_tasks")
        for number in range(ROWS // BATCH):
            of_row = ["long"] * BATCH if number % 2 else keys
            rows = [row._replace(serialization_key=key) for row, key in zip(fresh(BATCH), of_row, strict=True)]
            await hot.run(partial(hot.tasks.enqueue, rows))
        await hot.run(lambda: hot.tasks.grant(keys[::2]))
        for moment in ("while empty", "while full"):
            for some in ([*keys[:FEW], "long"], keys):
                hot.session.reads = {}
                await hot.run(partial(hot.tasks.grant, some))
                hot.check(len(some), moment)
                await hot.end(await hot.run(lambda: hot.tasks.claim(hot.dispatcher, [("default", BATCH)], ["work"])))
                hot.session.reads = {}
                queues = [("default", len(some)), ("other", 10)]
                claimed = await hot.run(partial(hot.tasks.claim_granting, hot.dispatcher, queues, ["work"], some))
                assert len(claimed.claims) == len(some)
                assert "run_waiting" in hot.session.reads
                hot.check(len(some), moment)
                await hot.end(claimed.claims)
                hot.session.reads = {}
                await hot.run(lambda: hot.tasks.waiting_keys(""))
                (reads,) = hot.session.reads.values()
                assert reads <= 3 * hot.tasks.look_limit + 100, f"waiting_keys read {reads} rows, analysed {moment}"
            await hot.session.query("ANALYZE TABLE aiotaskstore_tasks")
