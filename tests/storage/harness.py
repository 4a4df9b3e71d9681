"""One storage with a clock that a test turns, and short words for what tests do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import Outcome
from aiotaskstore.recurrence import Every
from aiotaskstore.schedule import Schedule
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.external_ids import KeyedRow
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.operation import Operation, Query, Rows, Steps
from aiotaskstore.storage.rows import CODES
from aiotaskstore.storage.schedule_rows import ScheduleRow, schedule_row
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.tasks import ActionResult, Changes, Claimed, ClaimKey, Recorded
from aiotaskstore.storage.transitions import Marked
from aiotaskstore.task import Claim, NewTask, Task, TaskStatus
from tests.helpers import clock_of

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


def new_schedule(**fields: Any) -> ScheduleRow:
    """A schedule to be, every minute, with nothing said but what `fields` says."""
    schedule = Schedule(name=fields.get("name", "every minute"), alias="work", recurrence=Every(60))
    return schedule_row(schedule, 2**20)._replace(**fields)


class Harness:
    """A storage and its clock."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.storage, self.clock = storage, clock
        self.tasks, self.database = storage.tasks, storage.database
        self.dispatcher = new_id()
        """Who claims, unless `by` says otherwise; no row of its own."""

    async def add(self, **fields: Any) -> UUID:
        """Store one task."""
        row = new_task(**fields)
        if row.external_id is None:
            await self.database.write(lambda: self.tasks.enqueue([row]))
        else:
            taken = await self.add_keyed(row)
            assert not taken
        return row.id

    async def add_keyed(self, *rows: NewTask, live_only: bool = False) -> dict[UUID, UUID]:
        """Store rows with external ids; return those that were taken."""
        keyed = [KeyedRow(row, live_only) for row in rows]
        taken = await self.database.write(lambda: self.tasks.enqueue_keyed(keyed))
        return dict(taken.owners)

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

    async def claim_granting(
        self, queues: Sequence[tuple[str, int]], *keys: str, by: UUID | None = None, aliases: Sequence[str] = ("work",)
    ) -> Claimed:
        """Grant these serialization keys, and claim, in one operation."""
        me = by or self.dispatcher
        return await self.database.write(lambda: self.tasks.claim_granting(me, queues, list(aliases), keys))

    async def run_one(self, **fields: Any) -> Claim:
        """Store a task and claim it."""
        task_id = await self.add(**fields)
        claims = await self.claim(1000, queue=fields.get("queue", "default"), aliases=[fields.get("alias", "work")])
        return next(claim for claim in claims if claim.id == task_id)

    async def record(self, claim: ClaimKey, outcome: Outcome, *, again: bool = False) -> Recorded:
        """Write how an attempt ended."""
        return await self.database.write(lambda: self.tasks.record([(claim, outcome)], again=again))

    async def cancel(self, task_id: UUID, reason: str = "", *, force: bool = False) -> bool:
        """Cancel as an operator; return whether it was done."""
        answers = await self.database.write(lambda: self.tasks.cancel([task_id], reason, force=force))
        return answers[task_id].done if task_id in answers else False

    async def retry(self, task_id: UUID, *, force: bool = False) -> bool:
        """Retry as an operator; return whether it was done."""
        answers = await self.database.write(lambda: self.tasks.retry([task_id], force=force))
        return answers[task_id].done if task_id in answers else False

    async def delete(self, task_id: UUID, *, force: bool = False) -> bool:
        """Delete as an operator; return whether it was done."""
        answers = await self.database.write(lambda: self.tasks.delete([task_id], force=force))
        return answers[task_id].done if task_id in answers else False

    async def act(self, operation: Operation[dict[UUID, ActionResult]]) -> bool:
        """Act as an operator on one task; return whether it was done."""
        (result,) = (await self.database.write(operation)).values() or (ActionResult(None, done=False),)
        return result.done

    async def pause(self, task_id: UUID) -> bool:
        """Pause as an operator; return whether it was done."""
        return await self.act(lambda: self.tasks.pause([task_id]))

    async def resume(self, task_id: UUID) -> bool:
        """Resume as an operator; return whether it was done."""
        return await self.act(lambda: self.tasks.resume([task_id]))

    async def reschedule(self, task_id: UUID, delay: float) -> bool:
        """Reschedule as an operator; return whether it was done."""
        return await self.act(lambda: self.tasks.reschedule([task_id], None, delay))

    async def soft_delete(self, task_id: UUID) -> bool:
        """Soft-delete as an operator; return whether it was done."""
        return await self.act(lambda: self.tasks.soft_delete([task_id]))

    async def restore(self, task_id: UUID) -> bool:
        """Restore as an operator; return whether it was done."""
        return await self.act(lambda: self.tasks.restore([task_id]))

    async def mark(self, task_id: UUID, *, succeeded: bool, text: str | None = None) -> bool:
        """Say how a task ended, as an operator; return whether it was done."""
        return await self.act(lambda: self.tasks.mark([task_id], {None: Marked(succeeded, text)}))

    async def update(self, task_id: UUID, payload: str | None = None, **changes: Any) -> bool:
        """Change values as an operator; return whether it was done."""
        payloads = None if payload is None else {"work": payload}
        return await self.act(lambda: self.tasks.update([task_id], Changes(**changes), payloads))

    async def clone(self, task_id: UUID, payload: str | None = None, queue: str | None = None) -> UUID | None:
        """Clone as an operator; return the new task's id if it was done."""
        new, payloads = new_id(), None if payload is None else {"work": payload}
        done = await self.act(lambda: self.tasks.clone({task_id: new}, queue, payloads))
        return new if done else None

    async def promote(self, limit: int = 1000) -> list[str]:
        """Make what is due pending, or waiting for its serialization key; return the queues, one a task."""
        promoted = await self.database.write(lambda: self.tasks.promote(limit))
        return [one.queue for one in promoted]

    async def grant(self, *keys: str) -> frozenset[str]:
        """Make the first waiting task of each of these serialization keys pending, where the key is free."""
        return await self.database.write(lambda: self.tasks.grant(keys))

    async def clean(self, limit: int = 1000) -> int:
        """Delete what is past its retention."""
        return await self.database.write(lambda: self.tasks.clean(limit))

    async def register(self, dispatcher: UUID | None = None) -> UUID:
        """Make a dispatcher known, alive from now on."""
        me = dispatcher or new_id()
        await self.database.write(
            lambda: self.storage.dispatchers.register(me, name="harness", host="here", pid=1, lease=LEASE)
        )
        return me

    async def rescue(self, dispatcher: UUID, limit: int = 1000) -> dict[UUID, TaskStatus]:
        """Rescue the tasks of a dead dispatcher."""
        rescued = await self.database.write(lambda: self.tasks.rescue(dispatcher, limit))
        return {one.id: one.status for one in rescued}

    async def status(self, task_id: UUID) -> TaskStatus | None:
        """Return a task's status."""
        return await self.database.read(lambda: self.tasks.status(task_id))

    async def get(self, task_id: UUID) -> Task:
        """Return a task."""
        listing = Listing.parse({"id": task_id, "include_deleted": True})
        (task,) = await self.database.read(lambda: page(self.tasks, listing))
        return task

    async def sql(self, text: str, **params: Any) -> Rows:
        """Run a statement that no operation has."""

        def ask() -> Steps[Rows]:
            return (yield Query(text, params))

        return await self.database.write(ask)

    async def force_status(self, task_id: UUID, status: TaskStatus) -> None:
        """Put a live row into a status that no operation reaches yet."""
        await self.sql(
            "UPDATE aiotaskstore_tasks SET status = :status WHERE id = :id", status=CODES[status], id=task_id
        )
        if self.database.kind == "mysql":
            await self.sql("DELETE FROM aiotaskstore_ready WHERE id = :id", id=task_id)

    async def side_rows(self, task_id: UUID) -> int:
        """Count the side rows of a task, and its keys."""
        counts = [
            await self.sql(f"SELECT count(*) FROM aiotaskstore_{table} WHERE task_id = :id", id=task_id)
            for table in ("task_errors", "task_progress", "task_details", "task_keys")
        ]
        return sum(int(rows[0][0]) for rows in counts)


@asynccontextmanager
async def harness_on(
    url: str, clock: Clock | None = None, table_names: TableNames | None = None
) -> AsyncIterator[Harness]:
    """Open a harness on a database, its tables made."""
    turned = clock or Clock()
    storage = connect(url, clock=clock_of(turned), table_names=table_names)
    await storage.database.open()
    try:
        await migrations.migrate(storage.database)
        yield Harness(storage, turned)
    finally:
        await storage.database.close()
