"""The hot statements keep their plans whatever the planner believes: a queue table is the worst case for it.

Statistics are taken while the table is empty, then it holds 20,000 rows, or 20,000 dead ones. Naive forms of these
statements were 10 to 25 times slower after one ANALYZE of an empty queue (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.operation import Batch, Call, Operation, Rows, Step, T
from aiotaskstore.storage.postgresql.binding import PostgresBinder
from aiotaskstore.storage.postgresql.database import PostgresDatabase
from aiotaskstore.storage.postgresql.session import PostgresSession
from aiotaskstore.storage.running import run_operation
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import MOST_KEYS
from aiotaskstore.storage.transitions import AttemptErrorRow, Ending, QueueReturn
from aiotaskstore.task import Claim, NewTask
from tests.helpers import eventually
from tests.postgresql.explained import Connection, Explainer, Plan
from tests.storage.harness import new_task

ROWS, LATER = 20_000, 3_000
"""Pending rows, and scheduled rows that are due."""
BATCH, FEW = 1_000, 20
"""Rows in one statement."""

BLOCKS, LOOKS = 25, 60
"""Blocks that a row may cost, and rows that may be looked at in vain for it."""
DEAD_IN_A_BLOCK = 10
"""Dead index entries that may cost a block: they lie close together."""

WAYS = {
    "insert": set(),
    "claim": {"Index Scan tasks_to_claim", "Tid Scan tasks"},
    "finish": {"Index Scan tasks_pkey", "Tid Scan tasks"},
    "promote": {"Index Scan tasks_to_promote", "Tid Scan tasks"},
    "archive": {"Index Scan tasks_pkey"},
    "return_to_queue": {"Index Scan tasks_pkey", "Tid Scan tasks"},
    "errors": set(),
    "running_of": {"Index Scan tasks_of_dispatcher"},
    "next_due": {"Index Only Scan tasks_to_promote"},
    "pending_queues": {"Index Only Scan tasks_to_claim"},
}
"""The one way that each statement may go to our rows; the others have a choice between good ones."""


class Hot:
    """One session, with the hot statements prepared on it while the tables were empty."""

    def __init__(self, storage: Storage, session: PostgresSession, url: str) -> None:
        database = storage.database
        assert isinstance(database, PostgresDatabase)
        self.tasks, self.database, self.session, self.url = storage.tasks, database, session, url
        self.connection: Connection = session._connection
        self.storage = storage
        self.explainer = Explainer(session, database, self.connection)
        self.dispatcher = new_id()
        self.dead = 0
        """Versions of rows that are dead and may still be in an index."""

    async def run(self, operation: Operation[T]) -> T:
        """Carry an operation out, as the library does."""
        return await run_operation(operation(), self.session, 60)

    async def sql(self, text: str) -> None:
        await self.connection.execute(text)

    async def fill(self) -> None:
        """Add as many pending rows, and some that are due but not promoted."""
        for _ in range(ROWS // BATCH):
            await self.run(lambda: self.tasks.enqueue(fresh(BATCH)))
        for _ in range(LATER // BATCH):
            await self.run(lambda: self.tasks.enqueue(fresh(BATCH, delay=0.000_001)))

    async def claim(self, limit: int = BATCH) -> list[Claim]:
        return await self.run(lambda: self.tasks.claim(self.dispatcher, [("default", limit), ("other", 10)], ["work"]))

    async def finish(self, claims: Sequence[Claim]) -> None:
        recorded = await self.run(lambda: self.tasks.record([(claim, EMPTY) for claim in claims]))
        assert not recorded.lost
        self.dead += 3 * len(claims)

    async def drain(self) -> None:
        """Run everything to its end."""
        while await self.run(lambda: self.tasks.promote(BATCH)):
            pass
        while claims := await self.claim():
            await self.finish(claims)

    async def measure(self, rows: int) -> dict[str, Plan]:
        """Explain every hot statement on so many rows."""
        claims = await self.claim(rows)
        ids = [claim.id for claim in claims] or [new_id() for _ in range(rows)]
        plans = {name: await self.explainer.explain(step) for name, step in self.steps(claims, ids).items()}
        self.dead += 5 * len(claims)  # what was explained was done, and taken back
        if claims:
            await self.finish(claims)
        return plans

    def judge(self, plans: dict[str, Plan], rows: int) -> None:
        """Check what every statement cost, and which way it went."""
        for name, plan in plans.items():
            allowed = BLOCKS * rows + 100 + self.dead // DEAD_IN_A_BLOCK
            assert plan.buffers <= allowed, f"{name} of {rows} read {plan.buffers} blocks by {plan.ways}"
            assert plan.in_vain <= LOOKS * rows + 100, f"{name} of {rows} looked at {plan.in_vain} by {plan.ways}"
            assert plan.ways == WAYS.get(name, plan.ways), name

    def steps(self, claims: Sequence[Claim], ids: Sequence[UUID]) -> dict[str, Step]:
        """The statements as operations send them, and those that follow in one transaction, by name."""
        tasks = self.tasks
        endings = [Ending(id_, 6, None, "E: x", FinishReason.ERROR, None, 60.0, True, True)[:-1] for id_ in ids]
        returns = [QueueReturn(id_, 1.0, 0, 1) for id_ in ids]
        errors = [AttemptErrorRow(id_, 1, 1, "E", "x", None) for id_ in ids]
        return {
            "insert": next(tasks.insert(fresh(len(ids)))),
            "claim": next(tasks.claim(self.dispatcher, [("default", len(ids)), ("other", 10)], ["work"])),
            "finish": next(tasks.record([(claim, EMPTY) for claim in claims] or [(NOBODY, EMPTY)])),
            "promote": next(tasks.promote(len(ids))),
            "lock": next(tasks.lock(ids)),
            "archive": Batch("archive", fields_of(Ending)[:-1], endings),
            "delete": next(tasks.delete_tasks(ids)),
            "return_to_queue": next(tasks.return_to_queue(returns)),
            "errors": Batch("insert_errors", fields_of(AttemptErrorRow), errors),
            "running_of": Call("running_of", {"id": self.dispatcher, "limit": 10_000}),
            "cancel_requests": next(tasks.cancel_requests(self.dispatcher)),
            "next_due": next(tasks.next_due()),
            "pending_queues": next(tasks.pending_queues()),
            "read_back": next(tasks.stored_among(ids)),
        }


NOBODY = Claim(*[None] * len(Claim._fields))._replace(id=new_id(), fence=1, retention=None)  # type: ignore[arg-type]


def fresh(count: int, **fields: Any) -> list[NewTask]:
    return [new_task(payload='{"number": 12345, "text": "some words of payload"}', **fields) for _ in range(count)]


@pytest.fixture(params=["our pool", "the application's pool"])
async def hot(request: pytest.FixtureRequest, postgresql_url: str) -> AsyncIterator[Hot]:
    """A session on which everything was prepared, and executed eight times, while nothing was stored."""
    async with AsyncExitStack() as stack:
        given = request.param != "our pool"
        pool = await stack.enter_async_context(asyncpg.create_pool(postgresql_url, min_size=1)) if given else None
        storage = connect(pool or postgresql_url)
        await storage.database.open()
        stack.push_async_callback(storage.database.close)
        await migrations.migrate(storage.database)
        assert isinstance(storage.database, PostgresDatabase)
        opened = Hot(storage, await stack.enter_async_context(storage.database.session()), postgresql_url)
        # Autovacuum would choose its own moments.
        for table in ("tasks", "history"):
            await opened.sql(f"ALTER TABLE aiotaskstore_{table} SET (autovacuum_enabled = false)")
        for _ in range(8):
            await opened.measure(FEW)
        yield opened


async def nothing(hot: Hot) -> None:
    """A new table, of which nothing is known."""


async def analyze_empty(hot: Hot) -> None:
    await hot.sql("ANALYZE aiotaskstore_tasks")


async def analyze_after_emptying(hot: Hot) -> None:
    """Its pages are there, all dead: as many pages, no rows."""
    await hot.fill()
    await hot.drain()
    await hot.sql("ANALYZE aiotaskstore_tasks, aiotaskstore_history")


async def vacuum_after_emptying(hot: Hot) -> None:
    await hot.fill()
    await hot.drain()
    await hot.sql("VACUUM ANALYZE aiotaskstore_tasks")
    hot.dead = 0


async def analyze_while_all_run(hot: Hot) -> None:
    """Statistics say that a task is always running."""
    await hot.fill()
    claims = []
    while more := await hot.claim():
        claims.append(more)
    await hot.sql("ANALYZE aiotaskstore_tasks")
    for batch in claims:
        await hot.finish(batch)


async def analyze_one_row(hot: Hot) -> None:
    await hot.run(lambda: hot.tasks.enqueue(fresh(1)))
    await hot.sql("ANALYZE aiotaskstore_tasks")


MOMENTS = [
    nothing,
    analyze_empty,
    analyze_one_row,
    analyze_after_emptying,
    vacuum_after_emptying,
    analyze_while_all_run,
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
async def test_no_plan_flips(hot: Hot, moment: Callable[[Hot], Awaitable[None]]):
    await moment(hot)
    await hot.fill()
    for rows in (BATCH, FEW):
        hot.judge(await hot.measure(rows), rows)
    await hot.sql("ANALYZE aiotaskstore_tasks, aiotaskstore_history")
    for rows in (FEW, BATCH):
        hot.judge(await hot.measure(rows), rows)


async def test_soft_deleted_rows_are_in_nobodys_way(hot: Hot):
    await hot.fill()
    await hot.sql("UPDATE aiotaskstore_tasks SET deleted_at = now()")
    await hot.sql("VACUUM ANALYZE aiotaskstore_tasks")
    await hot.fill()
    for rows in (BATCH, FEW):
        hot.judge(await hot.measure(rows), rows)


async def test_under_a_held_snapshot_only_dead_entries_are_walked(hot: Hot):
    """While somebody keeps an old snapshot, nothing dead can go: the claim walks past it, about 20 entries a block.

    There is no scan floor yet: a million dead entries are 50,000 blocks for each claim,
    each look for queues and each heartbeat. The plans stay.
    """
    other = await asyncpg.connect(hot.url)
    await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM aiotaskstore_tasks")
    for _ in range(3):
        await hot.fill()
        for rows in (BATCH, FEW):
            hot.judge(await hot.measure(rows), rows)
        await hot.drain()
        await hot.sql("ANALYZE aiotaskstore_tasks, aiotaskstore_history")
    await other.close()


async def test_a_row_that_moves_under_a_finish_is_not_lost(hot: Hot):
    """A harmless update commits while the finish waits for it: the row has another ctid then, and is skipped.

    What the statement did not find is looked at once more.
    """
    rows = fresh(10)
    ids = [row.id for row in rows]
    await hot.run(lambda: hot.tasks.enqueue(rows))
    claims = await hot.claim()
    other, watcher = await asyncpg.connect(hot.url), await asyncpg.connect(hot.url)
    await other.execute("BEGIN")
    await other.execute("UPDATE aiotaskstore_tasks SET updated_at = now() WHERE id = ANY ($1)", ids[2:5])

    session = Counting(hot.database.binder, hot.connection, joined=False)
    finish = hot.tasks.record([(claim, EMPTY) for claim in claims])
    async with asyncio.TaskGroup() as group:
        recording = group.create_task(run_operation(finish, session, 60))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        await eventually(lambda: watcher.fetchval(waits))
        await other.execute("COMMIT")

    assert session.counts["finish"] == 7, "nothing moved"
    assert not recording.result().lost
    assert await hot.connection.fetchval("SELECT count(*) FROM aiotaskstore_tasks") == 0
    found = await hot.connection.fetch("SELECT id FROM aiotaskstore_history WHERE status = 5 AND id = ANY ($1)", ids)
    assert len(found) == 10
    await other.close()
    await watcher.close()


class Counting(PostgresSession):
    """Counts the rows that each statement returns."""

    def __init__(self, binder: PostgresBinder, connection: Connection, *, joined: bool) -> None:
        super().__init__(binder, connection, joined=joined)
        self.counts: dict[str, int] = {}

    async def run(self, step: Step) -> Rows:
        rows = await super().run(step)
        assert isinstance(step, Call | Batch)
        self.counts[step.name] = len(rows)
        return rows


KEY_WAYS = {
    "grant": {"Index Scan tasks_waiting", "Index Only Scan tasks_held", "Tid Scan tasks"},
    "claim_granting": {
        "Index Scan tasks_waiting",
        "Index Only Scan tasks_held",
        "Index Scan tasks_to_claim",
        "Tid Scan tasks",
    },
    "waiting_keys": {"Index Only Scan tasks_waiting", "Index Only Scan tasks_held"},
}


async def explain_keys(hot: Hot, keys: Sequence[str]) -> dict[str, Plan]:
    """Explain what passes serialization keys on."""
    queues = [("default", len(keys)), ("other", 10)]
    steps = {
        "grant": next(hot.tasks.grant(keys)),
        "claim_granting": next(hot.tasks.claim_granting(hot.dispatcher, queues, ["work"], keys)),
        "waiting_keys": next(hot.tasks.waiting_keys("")),
    }
    return {name: await hot.explainer.explain(step) for name, step in steps.items()}


@pytest.mark.parametrize(
    "moment", [nothing, analyze_empty, analyze_one_row, analyze_after_emptying], ids=lambda moment: moment.__name__
)
async def test_what_passes_serialization_keys_on_reads_no_more_than_its_keys(
    hot: Hot, moment: Callable[[Hot], Awaitable[None]]
):
    """Many tasks wait, half of them for one key, and every second of the other keys is held."""
    keys = [f"key {number}" for number in range(BATCH)]
    for _ in range(8):
        await explain_keys(hot, keys[:FEW])
    await moment(hot)
    for number in range(ROWS // BATCH):
        of_row = ["long"] * BATCH if number % 2 else keys
        rows = [row._replace(serialization_key=key) for row, key in zip(fresh(BATCH), of_row, strict=True)]
        await hot.run(partial(hot.tasks.enqueue, rows))
    await hot.run(lambda: hot.tasks.grant(keys[::2]))
    for _ in range(2):
        for some in (keys[:FEW], [*keys[1:], "long"]):
            for name, plan in (await explain_keys(hot, some)).items():
                probes = 2 * (MOST_KEYS if name == "waiting_keys" else len(some))
                allowed = BLOCKS * probes + 100 + hot.dead // DEAD_IN_A_BLOCK
                assert plan.buffers <= allowed, f"{name} read {plan.buffers} blocks by {plan.ways}"
                assert plan.in_vain <= LOOKS * probes + 100, f"{name} looked at {plan.in_vain} by {plan.ways}"
                assert plan.ways <= KEY_WAYS[name], name
                hot.dead += 2 * len(some)  # what was explained was done, and taken back
        await hot.sql("ANALYZE aiotaskstore_tasks")


DEPTH_WAYS = {
    "pending_depth": {"Index Only Scan tasks_to_claim"},
    "scheduled_depths": {"Index Scan tasks_to_promote"},
    "waiting_depths": {"Index Scan tasks_waiting"},
    "running_depths": {"Index Scan tasks_of_dispatcher"},
}
"""The one way to what is measured of the queues."""


async def test_measuring_reads_no_more_rows_than_it_counts(hot: Hot):
    steps = {name: Call(name, {"queue": "default", "limit": FEW}) for name in DEPTH_WAYS}
    for _ in range(8):
        for step in steps.values():
            await hot.explainer.explain(step)
    await hot.sql("ANALYZE aiotaskstore_tasks")
    await hot.fill()
    for _ in range(2):
        for name, step in steps.items():
            plan = await hot.explainer.explain(step)
            assert plan.ways == DEPTH_WAYS[name], name
            assert plan.buffers <= BLOCKS * FEW + hot.dead // DEAD_IN_A_BLOCK, f"{name} read {plan.buffers} blocks"
        await hot.sql("ANALYZE aiotaskstore_tasks")
