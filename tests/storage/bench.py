"""One storage with a clock that a test turns, and short words for what tests do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aiotaskstore.ids import new_id
from aiotaskstore.outcome import Outcome
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.rows import CODES
from aiotaskstore.storage.statements import Naming
from aiotaskstore.storage.steps import Query, Rows, Unit
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import Fenced, Recorded, Wanted
from aiotaskstore.task import Claim, NewTask, Task, TaskStatus

LEASE = 15.0


class Clock:
    """The database's clock, turned by hand."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def new_task(**fields: Any) -> NewTask:
    """A row to be, with nothing said but what `fields` says."""
    row = NewTask(
        id=new_id(), queue="default", alias="work", priority=0, run_at=None, delay=None, payload="{}", max_attempts=1,
        timeout=None, on_stuck=0, owner_type=None, owner_id=None, source=None, parent_id=None, definition_id=None,
        external_id=None, serialization_key=None, strict=False, metadata=None, retention=None,
    )  # fmt: skip
    return row._replace(**fields)


class Bench:
    """A storage and its clock."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.storage, self.clock = storage, clock
        self.tasks, self.database = storage.tasks, storage.database
        self.dispatcher = new_id()
        """Who claims, unless told otherwise; no row of its own."""

    async def add(self, **fields: Any) -> UUID:
        """Store one task."""
        row = new_task(**fields)
        if row.external_id is None:
            await self.database.write(lambda: self.tasks.enqueue([row]))
        else:
            taken = await self.want(row)
            assert not taken
        return row.id

    async def want(self, *rows: NewTask, live_only: bool = False) -> dict[UUID, UUID]:
        """Store rows with external ids; gives those that were taken."""
        wanted = [Wanted(row, live_only) for row in rows]
        return await self.database.write(lambda: self.tasks.enqueue_wanted(wanted))

    async def claim(
        self, limit: int = 1, *, by: UUID | None = None, queue: str = "default", aliases: Sequence[str] = ("work",)
    ) -> list[Claim]:
        """Claim from one queue."""
        return await self.claim_from([(queue, limit)], by=by, aliases=aliases)

    async def claim_from(
        self, queues: Sequence[tuple[str, int]], *, by: UUID | None = None, aliases: Sequence[str] = ("work",)
    ) -> list[Claim]:
        """Claim from several queues in one operation."""
        return await self.database.write(lambda: self.tasks.claim(by or self.dispatcher, queues, list(aliases)))

    async def run_one(self, **fields: Any) -> Claim:
        """Store a task and claim it."""
        task_id = await self.add(**fields)
        claims = await self.claim(1000, queue=fields.get("queue", "default"), aliases=[fields.get("alias", "work")])
        return next(claim for claim in claims if claim.id == task_id)

    async def record(self, claim: Fenced, outcome: Outcome, *, again: bool = False) -> Recorded:
        """Write how an attempt ended."""
        return await self.database.write(lambda: self.tasks.record([(claim, outcome)], again=again))

    async def cancel(self, task_id: UUID, reason: str = "", *, force: bool = False) -> bool:
        """Cancel as an operator; gives whether it was done."""
        answers = await self.database.write(lambda: self.tasks.cancel([task_id], reason, force=force))
        return answers[task_id].done if task_id in answers else False

    async def retry(self, task_id: UUID, *, force: bool = False) -> bool:
        """Retry as an operator; gives whether it was done."""
        answers = await self.database.write(lambda: self.tasks.retry([task_id], force=force))
        return answers[task_id].done if task_id in answers else False

    async def delete(self, task_id: UUID, *, force: bool = False) -> bool:
        """Delete as an operator; gives whether it was done."""
        answers = await self.database.write(lambda: self.tasks.delete([task_id], force=force))
        return answers[task_id].done if task_id in answers else False

    async def promote(self, limit: int = 1000) -> list[str]:
        """Make what is due pending."""
        return await self.database.write(lambda: self.tasks.promote(limit))

    async def clean(self, limit: int = 1000) -> int:
        """Delete what is past its retention."""
        return await self.database.write(lambda: self.tasks.clean(limit))

    async def register(self, dispatcher: UUID | None = None) -> UUID:
        """Make a dispatcher known, alive from now on."""
        me = dispatcher or new_id()
        await self.database.write(
            lambda: self.storage.dispatchers.register(me, name="bench", host="here", pid=1, lease=LEASE)
        )
        return me

    async def rescue(self, dispatcher: UUID, limit: int = 1000) -> dict[UUID, TaskStatus]:
        """Rescue the tasks of a dead dispatcher."""
        rescued = await self.database.write(lambda: self.tasks.rescue(dispatcher, limit))
        return {one.id: one.status for one in rescued}

    async def status(self, task_id: UUID) -> TaskStatus | None:
        """Give a task's status."""
        return await self.database.read(lambda: self.tasks.status(task_id))

    async def get(self, task_id: UUID) -> Task:
        """Give a task."""
        listing = Listing.parse({"id": task_id, "include_deleted": True})
        (task,) = await self.database.read(lambda: page(self.tasks, listing))
        return task

    async def sql(self, text: str, **params: Any) -> Rows:
        """Run a statement that no operation has."""

        def ask() -> Unit[Rows]:
            return (yield Query(text, params))

        return await self.database.write(ask)

    async def force_status(self, task_id: UUID, status: TaskStatus) -> None:
        """Put a live row into a status that only later issues reach."""
        await self.sql(
            "UPDATE aiotaskstore_tasks SET status = :status WHERE id = :id", status=CODES[status], id=task_id
        )
        if self.database.kind == "mysql":
            await self.sql("DELETE FROM aiotaskstore_ready WHERE id = :id", id=task_id)

    async def rows_beside(self, task_id: UUID) -> int:
        """Count what stands beside a task, and the keys it holds."""
        counts = [
            await self.sql(f"SELECT count(*) FROM aiotaskstore_{table} WHERE task_id = :id", id=task_id)
            for table in ("task_errors", "task_progress", "task_details", "task_keys")
        ]
        return sum(int(rows[0][0]) for rows in counts)


@asynccontextmanager
async def bench_on(url: str, clock: Clock | None = None, naming: Naming | None = None) -> AsyncIterator[Bench]:
    """Open a bench on a database, its tables made."""
    turned = clock or Clock()
    storage = connect(url, clock=turned, naming=naming)
    await storage.database.open()
    try:
        await migrations.migrate(storage.database)
        yield Bench(storage, turned)
    finally:
        await storage.database.close()
