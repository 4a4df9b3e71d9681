"""`context.transaction()` and every way to lose a process or a reply: effects and success together, or neither."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiotaskstore import ClaimLost, DatabaseUnavailableError, Retention, TaskFinished, TaskStore
from tests.crash.crew import SHORT, Crew, end_lease
from tests.crash.effects import POINTS, effects
from tests.crash.proxy import Cut, proxy
from tests.helpers import LIMIT, Mine, ended, expect, my_connection

pytestmark = pytest.mark.crash


@pytest.fixture
async def other(url: str) -> AsyncIterator[Mine]:
    async with my_connection(url) as opened:
        await make_table(opened)
        yield opened


async def make_table(other: Mine) -> None:
    await other.execute("CREATE TABLE effects (number INTEGER)")
    if other.dialect != "postgresql":
        await other.commit()


async def written(other: Mine) -> list[int]:
    rows = await other.execute("SELECT number FROM effects ORDER BY number")
    if other.dialect != "postgresql":
        await other.rollback()
    return [row[0] for row in rows]


async def test_a_worker_killed_between_any_two_steps_leaves_both_or_neither(url: str, crew: Crew, other: Mine):
    async with TaskStore(url) as store:
        store.include(effects(url))
        ids = [
            (await store.enqueue("effect", {"number": number}, queue=point)).id for number, point in enumerate(POINTS)
        ]
        victims = [
            crew._start("effects_worker", {"url": url, "point": point, "dispatcher": SHORT | {"queues": [point]}})
            for point in POINTS
        ]
        for point, victim in zip(POINTS, victims, strict=True):
            assert await victim.ends() == -9, f"not killed at {point}: {victim.text}"
        succeeded = {task.payload["number"] for task in await store.tasks.list(id_in=ids, status="succeeded")}
        assert set(await written(other)) == succeeded == {POINTS.index("committed"), POINTS.index("told")}
        for victim in victims:
            await end_lease(store, victim)
        async with store.dispatcher(**SHORT):
            assert {task.status for task in await ended(store, ids)} == {"succeeded"}
        assert await written(other) == list(range(len(POINTS)))


@pytest.mark.parametrize("keep", ["all", "none"])
async def test_a_commit_whose_reply_was_lost_is_found_out(url: str, other: Mine, keep: Any):
    async with TaskStore(url, retention=Retention(keep=keep)) as store:
        store.include(effects(url))
        lost = replies_lost(store, committed=True)
        async with store.dispatcher(), expect(store, TaskFinished, status="succeeded"):
            handle = await store.enqueue("effect", {"number": 1})
        assert lost == ["committed"]
        assert await written(other) == [1]
        if keep == "all":
            assert (await handle.task()).attempt == 1
            assert await handle.result() == "wrote 1"
        else:
            assert await handle.status() is None


async def test_a_commit_that_never_arrived_is_made_up_for_by_another_attempt(url: str, other: Mine):
    async with TaskStore(url) as store:
        store.include(effects(url))
        lost = replies_lost(store, committed=False)
        async with store.dispatcher():
            handle = await store.enqueue("effect", {"number": 1}, max_attempts=1)
            assert await handle.result(timeout=LIMIT) == "wrote 1"
        assert lost == ["rolled back"]
        task = await handle.task()
        assert (task.attempt, len(task.errors)) == (2, 1)
        assert task.errors[0].type == "DatabaseUnavailableError"
    assert await written(other) == [1]


@pytest.mark.parametrize("arrives", [True, False], ids=["reply_lost", "never_sent"])
async def test_a_link_that_breaks_in_the_commit_leaves_one_effect(server_url: str, arrives: bool):
    """The COMMIT arrives, and only its reply is lost; or it never arrives."""
    async with (
        my_connection(server_url) as other,
        proxy(server_url) as way,
        TaskStore(way.url) as store,
    ):
        await make_table(other)
        store.include(effects(way.url))
        way.cuts.append(Cut(b"COMMIT", after=b"INSERT INTO effects (number) VALUES (424242)", forward=arrives))
        async with store.dispatcher(poll_interval=0.2):
            handle = await store.enqueue("effect", {"number": 424242})
            assert await handle.result(timeout=LIMIT) == "wrote 424242"
        assert not way.cuts, "the link broke where it should"
        assert (await handle.task()).attempt == (1 if arrives else 2)
        assert await written(other) == [424242]


def replies_lost(store: TaskStore, *, committed: bool) -> list[str]:
    """Lose the reply to the next COMMIT of a transaction that is lent; gives what really became of it."""
    database = store._lifecycle.require_open().storage.database
    transaction = database.transaction
    became: list[str] = []

    class NeverArrivedError(Exception):
        pass

    @asynccontextmanager
    async def losing() -> AsyncIterator[Any]:
        if became:
            async with transaction() as connection:
                yield connection
            return
        try:
            async with transaction() as connection:
                yield connection
                if not committed:
                    raise NeverArrivedError
        except NeverArrivedError:
            became.append("rolled back")
        else:
            became.append("committed")
        raise DatabaseUnavailableError("the connection was lost before the answer came")

    database.transaction = losing  # type: ignore[method-assign]
    return became


async def test_a_claim_that_is_lost_meanwhile_takes_the_effects_with_it(url: str, other: Mine):
    """Somebody deletes the task by force; the handler notices nothing, and returns."""
    async with TaskStore(url) as store:
        reached: list[str] = []
        store.include(effects(url, reached.append))
        database = store._lifecycle.require_open().storage.database
        if other.dialect == "sqlite":
            return  # nobody can delete it while the transaction is open
        run_on = database.run_on

        async def overtaken(*args: Any, **kwargs: Any) -> Any:
            await store.tasks.delete(handle.id, force=True)
            return await run_on(*args, **kwargs)

        async with store.dispatcher(), expect(store, ClaimLost):
            handle = await store.enqueue("effect", {"number": 1})
            database.run_on = overtaken  # type: ignore[method-assign]
        assert reached[-1] == "left"
        assert await handle.status() is None
    assert await written(other) == []
