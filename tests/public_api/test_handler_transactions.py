"""`context.transaction()`: what a handler writes and its task's success are committed together, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio.from_thread
import pytest

from aiotaskstore import (
    Cancel,
    ClaimLost,
    ConfigurationError,
    Fail,
    PayloadError,
    Retention,
    Retry,
    Snooze,
    TaskContext,
    TaskFinished,
    TaskStatus,
    TaskStore,
    current_context,
)
from tests.bad_input.refusals import judge, refusal_of
from tests.helpers import LIMIT, Mine, eventually, expect, my_connection


@pytest.fixture
async def other(url: str, store: TaskStore) -> AsyncIterator[Mine]:
    """A connection of somebody else's, who has made a table."""
    async with my_connection(url) as opened:
        await opened.execute("CREATE TABLE effects (number INTEGER)")
        if opened.dialect != "postgresql":
            await opened.commit()
        yield opened


PATIENT: dict[str, Any] = {"lease": 4 * LIMIT, "heartbeat": 5}
"""For a dispatcher: on SQLite the lease bounds a transaction, and a slow machine may need long for the shortest."""
UNTIL_BEGUN: dict[str, Any] = {"max_attempts": 1000, "backoff": 0}
"""For a task with a short limit, which a slow machine may exceed before the moment that the test is about."""


async def written(other: Mine) -> list[int]:
    rows = await other.execute("SELECT number FROM effects ORDER BY number")
    if other.dialect != "postgresql":
        await other.rollback()
    return [row[0] for row in rows]


async def write(other: Mine, connection: Any, number: int) -> None:
    """Write on the connection that is lent."""
    await Mine(f"{other.dialect}:", connection).execute(f"INSERT INTO effects (number) VALUES ({number})")


async def test_the_writes_and_the_success_are_seen_together_when_the_handler_has_returned(
    store: TaskStore, other: Mine
):
    left, go_on = asyncio.Event(), asyncio.Event()

    @store.task
    async def work(context: TaskContext, number: int) -> str:
        async with context.transaction() as connection:
            await write(other, connection, number)
        left.set()
        await go_on.wait()
        return f"wrote {number}"

    async with store.dispatcher(**PATIENT):
        handle = await work.enqueue(1)
        await left.wait()
        assert await written(other) == []
        assert await handle.status() is TaskStatus.RUNNING
        go_on.set()
        assert await handle.result(timeout=LIMIT) == "wrote 1"
    assert await written(other) == [1]
    task = await handle.task()
    assert (task.attempt, task.finish_reason, task.errors) == (1, "ok", [])


async def test_whatever_a_handler_raises_rolls_its_writes_back(store: TaskStore, other: Mine):
    raised: dict[str, tuple[BaseException, str]] = {
        "error": (ValueError("no good"), "failed"),
        "retry": (Retry("once more", delay=3600), "scheduled"),
        "snooze": (Snooze(3600), "scheduled"),
        "cancel": (Cancel("not wanted"), "cancelled"),
        "fail": (Fail("never"), "failed"),
    }

    @store.task(max_attempts=2, retry_on=KeyError)
    async def work(context: TaskContext, how: str, inside: bool) -> None:
        async with context.transaction() as connection:
            await write(other, connection, 1)
            await child.enqueue()
            if inside:
                raise raised[how][0]
        raise raised[how][0]

    @store.task
    async def child() -> None: ...

    handles = {(how, inside): await work.enqueue(how, inside) for how in raised for inside in (True, False)}
    assert await store.dispatcher(**PATIENT).run_once() == len(handles)
    for (how, inside), handle in handles.items():
        assert await handle.status() == raised[how][1], (how, inside)
    assert await written(other) == []
    assert await store.tasks.count(alias="child") == 0


async def test_a_block_whose_error_the_handler_handles_leaves_nothing_and_the_task_succeeds(
    store: TaskStore, other: Mine
):
    @store.task
    async def work(context: TaskContext) -> str:
        context.info("before")
        try:
            async with context.transaction() as connection:
                await write(other, connection, 1)
                raise LookupError
        except LookupError:
            context.info("handled")
            await child.enqueue()  # no longer in the transaction
        return "without it"

    @store.task
    async def child() -> None: ...

    handle = await work.enqueue()
    assert await store.dispatcher(**PATIENT).run_once() == 2
    assert await handle.result() == "without it"
    assert (await handle.task()).details.splitlines() == ["before", "handled"]
    assert await work() == "without it"
    assert await written(other) == []
    assert await store.tasks.count(alias="child") == 2


async def test_a_run_that_was_given_up_as_stuck_leaves_nothing_however_it_ends(store: TaskStore, other: Mine):
    stubborn, ended = asyncio.Event(), asyncio.Event()

    @store.task(timeout=0.2, **UNTIL_BEGUN)
    async def work(context: TaskContext) -> str:
        async with context.transaction() as connection:
            await write(other, connection, 1)
            while not ended.is_set():
                try:
                    await ended.wait()
                except asyncio.CancelledError:
                    stubborn.set()
        return "all the same"

    async with store.dispatcher(stuck_grace=0.2, **PATIENT):
        handle = await work.enqueue()
        await stubborn.wait()
        assert (await handle.wait(timeout=LIMIT)).finish_reason == "stuck"
        ended.set()
    assert await handle.status() is TaskStatus.FAILED
    assert await written(other) == []


async def test_another_attempt_writes_once(store: TaskStore, other: Mine):
    @store.task(max_attempts=3, backoff=0)
    async def work(context: TaskContext) -> int:
        async with context.transaction() as connection:
            await write(other, connection, context.attempt)
        if context.attempt < 3:
            raise ValueError(context.attempt)
        return context.attempt

    handle = await work.enqueue()
    assert await store.dispatcher(**PATIENT).run_once() == 3
    assert await handle.result() == 3
    assert await written(other) == [3]


@pytest.mark.parametrize("how", ["timeout", "cancel", "shutdown"])
async def test_a_run_that_is_ended_from_outside_leaves_nothing(url: str, other: Mine, how: str):
    # On SQLite a request to cancel is written only after the transaction's own end, between two attempts or in one.
    limit = 0.5 if (other.dialect, how) == ("sqlite", "cancel") else LIMIT
    inside = asyncio.Event()
    async with TaskStore(url, transaction_timeout=limit) as store:

        @store.task(timeout=0.3 if how == "timeout" else None, **UNTIL_BEGUN)
        async def work(context: TaskContext) -> None:
            if inside.is_set() and how == "timeout":
                raise Fail("once is enough")
            async with context.transaction() as connection:
                await write(other, connection, 1)
                inside.set()
                await asyncio.Event().wait()

        async with store.dispatcher(**PATIENT) as dispatcher:
            handle = await work.enqueue()
            await inside.wait()
            match how:
                case "timeout":
                    task = await handle.wait(timeout=LIMIT)
                    assert [error.type for error in task.errors[-2:]] == ["TimeoutError", "Fail"]
                    assert "timeout of 0.3 s" in task.errors[-2].message
                case "cancel":
                    await handle.cancel("enough")
                    assert (await handle.wait(timeout=LIMIT)).finish_reason == "request"
                case _:
                    assert not await dispatcher.stop(grace=0)
                    task = await handle.task()
                    assert (task.status, task.attempt) == (TaskStatus.PENDING, 0)
    assert await written(other) == []


async def test_what_is_done_until_the_handler_returns_takes_part(store: TaskStore, other: Mine):
    seen: list[Any] = []

    @store.task
    async def child(n: int) -> None: ...

    @store.task
    async def work(context: TaskContext, fails: bool) -> None:
        context.info("before")
        async with context.transaction() as connection:
            await write(other, connection, 1)
            context.info("inside")
            await context.progress("half", fraction=0.5)
            handle = await child.enqueue(1)
            seen.append(await handle.status())
            await store.enqueue_many([child.draft(2), child.draft(3)])
        await child.options(external_id="after").enqueue(4)
        context.info("after")
        seen.append(await store.tasks.count(alias="child"))
        if fails:
            raise ValueError

    lost = await work.enqueue(fails=True)
    assert await store.dispatcher(**PATIENT).run_once() == 1
    assert await store.tasks.count(alias="child") == 0
    assert (await lost.task()).details.splitlines() == ["before", "inside", "after"]
    kept = await work.enqueue(fails=False)
    async with store.dispatcher(poll_interval=50, **PATIENT):
        await kept.result(timeout=LIMIT)
        await eventually(lambda: _children(store, 4))
    assert seen == ["pending", 4, "pending", 4]
    task = await kept.task()
    assert task.details.splitlines() == ["before", "inside", "after"]
    assert task.progress is not None
    assert task.progress.fraction == 0.5
    assert await written(other) == [1]


async def test_a_second_block_in_one_run_is_refused(store: TaskStore, other: Mine):
    refused: list[BaseException] = []

    @store.task
    async def work(context: TaskContext) -> None:
        async with context.transaction() as connection:
            await write(other, connection, 1)
            refused.append(await refusal_of(context.transaction().__aenter__))
        refused.append(await refusal_of(context.transaction().__aenter__))

    handle = await work.enqueue()
    assert await store.dispatcher(**PATIENT).run_once() == 1
    for error in refused:
        judge(error, ConfigurationError, "second time in one run")
    assert await handle.status() is TaskStatus.SUCCEEDED
    assert await written(other) == [1]


async def test_where_it_cannot_be_opened_it_says_so(store: TaskStore, other: Mine):
    contexts: list[TaskContext] = []
    refused: list[BaseException] = []

    async def enter(context: TaskContext) -> None:
        async with context.transaction():
            raise AssertionError("entered")

    async def refused_in(context: TaskContext) -> None:
        refused.append(await refusal_of(lambda: enter(context)))

    @store.task
    async def nested(context: TaskContext) -> None:
        contexts.append(context)
        async with store.transaction():
            await refused_in(context)
        async with asyncio.TaskGroup() as group:
            group.create_task(refused_in(context))

    @store.task
    def threaded(context: TaskContext) -> None:
        anyio.from_thread.run(refused_in, context)

    handles = [await nested.enqueue()]
    assert await store.dispatcher(**PATIENT).run_once() == 1
    handles.append(await threaded.enqueue())
    assert await store.dispatcher(**PATIENT).run_once() == 1
    await refused_in(contexts[0])
    judge(refused[0], ConfigurationError, r"inside store\.transaction\(\)")
    for error in refused[1:]:
        judge(error, ConfigurationError, "outside its handler's own asyncio task")
    assert len(refused) == 4
    assert [await handle.status() for handle in handles] == ["succeeded", "succeeded"]


async def test_a_transaction_ended_by_hand_is_an_error(store: TaskStore, other: Mine):
    @store.task
    async def work(context: TaskContext) -> None:
        async with context.transaction() as connection:
            await write(other, connection, 1)
            mine = Mine(f"{other.dialect}:", connection)
            await mine.rollback()

    handle = await work.enqueue()
    assert await store.dispatcher(**PATIENT).run_once() == 1
    task = await handle.task()
    assert task.status is TaskStatus.FAILED
    assert "ended inside the handler" in (task.error or "")


async def test_a_result_that_cannot_be_stored_rolls_the_writes_back(store: TaskStore, other: Mine):
    @store.task
    async def work(context: TaskContext) -> str:
        async with context.transaction() as connection:
            await write(other, connection, 1)
        return "x" * 2_000_000

    handle = await work.enqueue()
    assert await store.dispatcher(**PATIENT).run_once() == 1
    task = await handle.task()
    assert task.status is TaskStatus.FAILED
    assert task.errors[0].type == PayloadError.__name__
    assert await written(other) == []


async def test_where_no_row_is_kept_the_writes_are(store: TaskStore, other: Mine):
    @store.task(retention=Retention(keep="none"), external_id=lambda: "one")
    async def work(context: TaskContext) -> None:
        async with context.transaction() as connection:
            context.info("inside")
            await write(other, connection, 1)

    for _ in range(2):  # the external id is free again
        async with expect(store, TaskFinished, status=TaskStatus.SUCCEEDED):
            handle = await work.enqueue()
            assert await store.dispatcher(**PATIENT).run_once() == 1
        assert await handle.status() is None
    assert await written(other) == [1, 1]


async def test_a_claim_that_is_lost_rolls_the_writes_back(store: TaskStore, other: Mine):
    if other.dialect == "sqlite":
        return  # nobody can take the claim while the transaction is open

    @store.task
    async def work(context: TaskContext) -> str:
        async with context.transaction() as connection:
            await write(other, connection, 1)
            await asyncio.shield(asyncio.ensure_future(_delete(store, context)))  # noqa: TID251 - as somebody else
        return "done"

    async with store.dispatcher(**PATIENT), expect(store, ClaimLost):
        handle = await work.enqueue()
    assert await handle.status() is None
    assert await written(other) == []


async def _delete(store: TaskStore, context: TaskContext) -> None:
    assert context.task_id is not None
    await store.tasks.delete(context.task_id, force=True)


async def test_a_transaction_that_takes_too_long_ends_with_an_error(url: str, other: Mine):
    waited: list[int] = []
    async with TaskStore(url, transaction_timeout=0.5) as store:

        @store.task(**UNTIL_BEGUN)
        async def work(context: TaskContext) -> int:
            async with context.transaction() as connection:
                await write(other, connection, context.attempt)
            if not waited:
                waited.append(context.attempt)
                await asyncio.Event().wait()
            return context.attempt

        async with store.dispatcher(**PATIENT):
            handle = await work.enqueue()
            last = await handle.result(timeout=LIMIT)
        assert last > waited[0]
        (error,) = [error for error in (await handle.task()).errors if error.attempt == waited[0]]
        assert error.type == "TimeoutError"
        assert "longer than transaction_timeout (0.5 s)" in error.message
    assert await written(other) == [last]


async def test_a_handler_that_ignores_the_end_of_its_transaction_keeps_nobody_waiting(url: str, other: Mine):
    """On SQLite nobody else could write while it goes on."""
    cancelled, ended = asyncio.Event(), asyncio.Event()
    async with TaskStore(url, transaction_timeout=0.5) as store:

        @store.task(**UNTIL_BEGUN)
        async def stubborn(context: TaskContext) -> str:
            if cancelled.is_set():
                raise Fail("once is enough")
            async with context.transaction() as connection:
                await write(other, connection, 1)
                while not ended.is_set():
                    try:
                        await ended.wait()
                    except asyncio.CancelledError:
                        cancelled.set()
            return "all the same"

        @store.task
        async def quick() -> str:
            return "done"

        async with store.dispatcher(stuck_grace=4 * LIMIT, **PATIENT):
            handle = await stubborn.enqueue()
            await cancelled.wait()
            other_handle = await quick.enqueue()
            assert await other_handle.result(timeout=LIMIT) == "done"
            ended.set()
            task = await handle.wait(timeout=LIMIT)
        assert [error.type for error in task.errors[-2:]] == ["TimeoutError", "Fail"]
        assert "longer than transaction_timeout" in task.errors[-2].message
    assert await written(other) == []


@pytest.mark.parametrize("how", ["expired", "stuck"])
async def test_what_a_handler_writes_after_its_transaction_was_taken_away_is_in_no_other(
    url: str, other: Mine, how: str
):
    """Neither in the next run's transaction, which may have been given the same connection, nor without any."""
    taken_away, in_the_next, tried, ended = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    refused: list[Exception] = []
    async with TaskStore(url, transaction_timeout=0.5 if how == "expired" else LIMIT) as store:

        @store.task(timeout=0.3 if how == "stuck" else None, **UNTIL_BEGUN)
        async def late(context: TaskContext) -> None:
            if taken_away.is_set():
                raise Fail("once is enough")
            async with context.transaction() as connection:
                await write(other, connection, 1)
                for moment in (asyncio.Event(), in_the_next):
                    with suppress(asyncio.CancelledError):
                        await moment.wait()
                    taken_away.set()
                    try:
                        await write(other, connection, 2)
                    except Exception as error:  # noqa: BLE001 - of any driver
                        refused.append(error)
                tried.set()
                await ended.wait()

        @store.task(**UNTIL_BEGUN)
        async def following(context: TaskContext) -> None:
            async with context.transaction() as connection:
                await write(other, connection, 3)
                in_the_next.set()
                await tried.wait()

        async with store.dispatcher(stuck_grace=0.2 if how == "stuck" else 4 * LIMIT, **PATIENT):
            handle = await late.enqueue()
            await taken_away.wait()
            if how == "stuck":
                assert (await handle.wait(timeout=LIMIT)).finish_reason == "stuck"
            await (await following.enqueue()).result(timeout=LIMIT)
            ended.set()
            assert (await handle.wait(timeout=LIMIT)).status is TaskStatus.FAILED
    assert refused
    assert await written(other) == [3]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_run_whose_asyncio_task_somebody_cancels_while_its_transaction_ends_still_ends(
    store: TaskStore, other: Mine, monkeypatch: pytest.MonkeyPatch, fails: bool
):
    """By code of the application, or of a library, which holds on to the handler's asyncio task."""
    database = store._lifecycle.require_open().storage.database
    transaction, ending, go_on = database.transaction, asyncio.Event(), asyncio.Event()
    runs: list[asyncio.Task[Any] | None] = []

    @asynccontextmanager
    async def slow() -> AsyncIterator[Any]:
        async with transaction() as connection:
            try:
                yield connection
            finally:
                ending.set()
                await go_on.wait()

    @store.task
    async def work(context: TaskContext, number: int) -> int:
        runs.append(asyncio.current_task())
        async with context.transaction() as connection:
            await write(other, connection, number)
        if fails:
            raise ValueError(number)
        return number

    @store.task
    async def following() -> str:
        return "has the slot"

    async with store.dispatcher(concurrency=1, **PATIENT):
        monkeypatch.setattr(database, "transaction", slow)
        handle = await work.enqueue(1)
        await ending.wait()
        for _ in range(3):
            assert runs[0] is not None
            runs[0].cancel()
            await asyncio.sleep(0)
        go_on.set()
        expected = TaskStatus.FAILED if fails else TaskStatus.SUCCEEDED
        assert (await handle.wait(timeout=LIMIT)).status is expected
        assert await (await following.enqueue()).result(timeout=LIMIT) == "has the slot"
    assert await written(other) == ([] if fails else [1])


async def test_a_transaction_that_would_outlast_the_lease_ends_before_and_its_attempt_counts(url: str, other: Mine):
    """On SQLite, where it keeps the heartbeats out; elsewhere it may take its time."""
    async with TaskStore(url, transaction_timeout=LIMIT) as store:
        attempts: list[int] = []

        @store.task(max_attempts=2, backoff=0)
        async def work(context: TaskContext) -> None:
            attempts.append(context.attempt)
            async with context.transaction() as connection:
                await write(other, connection, context.attempt)
                await asyncio.sleep(6 if other.dialect == "sqlite" else 0)

        lease: dict[str, Any] = {"heartbeat": 4, "lease": 8} if other.dialect == "sqlite" else PATIENT
        async with store.dispatcher(**lease):
            task = await (await work.enqueue()).wait(timeout=LIMIT)
    if other.dialect == "sqlite":
        assert (task.status, attempts[-1]) == (TaskStatus.FAILED, 2)
        assert "longer than 1 s. On SQLite" in (task.error or "")
        assert await written(other) == []
    else:
        assert (task.status, attempts) == (TaskStatus.SUCCEEDED, [1])
        assert await written(other) == [1]


async def test_many_runs_at_once_write_once_each(url: str, other: Mine):
    """With failures among them, and on SQLite one transaction after the other."""
    async with TaskStore(url, transaction_timeout=LIMIT) as store:

        @store.task(max_attempts=3, backoff=0)
        async def work(context: TaskContext, number: int) -> int:
            async with context.transaction() as connection:
                await write(other, connection, number)
                await asyncio.sleep(0)
            if (number + context.attempt) % 3 == 0 and context.attempt < 3:
                raise ValueError(number)
            return number

        ids = await store.enqueue_many([work.draft(number) for number in range(40)])
        async with store.dispatcher(concurrency=8, **PATIENT):
            results = [(await store.tasks.wait(task_id, timeout=LIMIT)).result for task_id in ids]
    assert results == list(range(40))
    assert await written(other) == list(range(40))


async def test_a_run_that_is_cancelled_while_it_waits_for_its_transaction_leaves_nothing_behind(url: str, other: Mine):
    """At any moment of the opening, the first one included."""
    async with TaskStore(url, pool_size=1, transaction_timeout=LIMIT) as store:

        @store.task
        async def work(context: TaskContext, at_once: bool = False) -> None:
            if at_once and (task := asyncio.current_task()):
                task.cancel()
            async with context.transaction() as connection:
                await write(other, connection, 1)

        for turns in range(12):
            call = asyncio.get_running_loop().create_task(_run(work, at_once=not turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns:
                call.cancel()
            await asyncio.wait([call], timeout=LIMIT)
            assert call.done()
        count = len(await written(other))
        await work()
        assert len(await written(other)) == count + 1


async def _run(work: Any, **arguments: Any) -> None:
    await work(**arguments)


async def test_a_serialization_key_goes_on_at_the_commit(store: TaskStore, other: Mine):
    """To who waits for the key that the run has held, and to the tasks that it has enqueued."""

    @store.task
    async def work(context: TaskContext, number: int) -> None:
        async with context.transaction() as connection:
            await write(other, connection, number)
            await child.options(serialization_key=f"child {number % 2}").enqueue(number)

    @store.task
    async def child(number: int) -> int:
        return number

    async with store.dispatcher(poll_interval=50, **PATIENT):
        ids = await store.enqueue_many([work.options(serialization_key="one").draft(n) for n in range(4)])
        for task_id in ids:
            await store.tasks.wait(task_id, timeout=LIMIT)
        await eventually(lambda: _children(store, 4))
    assert await written(other) == [0, 1, 2, 3]


async def _children(store: TaskStore, count: int) -> bool:
    return await store.tasks.count(alias="child", status="succeeded") == count


async def test_a_memory_database_has_them_too():
    async with TaskStore("sqlite://", transaction_timeout=LIMIT) as store:
        async with store.transaction() as connection:
            await connection.execute("CREATE TABLE effects (number INTEGER)")

        @store.task(max_attempts=2, backoff=0)
        async def work(context: TaskContext) -> int:
            async with context.transaction() as connection:
                await connection.execute("INSERT INTO effects VALUES (?)", (context.attempt,))
            if context.attempt == 1:
                raise ValueError
            return context.attempt

        handle = await work.enqueue()
        assert await store.dispatcher(**PATIENT).run_once() == 2
        assert await handle.result() == 2
        async with store.transaction() as connection, connection.execute("SELECT number FROM effects") as cursor:
            assert list(await cursor.fetchall()) == [(2,)]


# ── called directly ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_direct_call_commits_when_the_handler_returns(store: TaskStore, other: Mine):
    @store.task
    async def work(number: int, fails: bool = False) -> int:
        async with current_context().transaction() as connection:
            await write(other, connection, number)
            await child.enqueue()
        await child.enqueue()
        if fails:
            raise LookupError
        return number

    @store.task
    async def child() -> None: ...

    assert await work(1) == 1
    assert (await written(other), await store.tasks.count()) == ([1], 2)
    with pytest.raises(LookupError):
        await work(2, fails=True)
    assert (await written(other), await store.tasks.count()) == ([1], 2)
    assert await work(3) == 3
    await child.enqueue()  # not in any transaction
    assert (await written(other), await store.tasks.count()) == ([1, 3], 5)


async def test_a_direct_call_that_is_cancelled_in_its_commit_ends_after_it(
    store: TaskStore, other: Mine, monkeypatch: pytest.MonkeyPatch
):
    database = store._lifecycle.require_open().storage.database
    transaction, committing, go_on = database.transaction, asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[Any]:
        async with transaction() as connection:
            yield connection
            committing.set()
            await go_on.wait()

    monkeypatch.setattr(database, "transaction", slow)

    @store.task
    async def work(context: TaskContext) -> None:
        async with context.transaction() as connection:
            await write(other, connection, 1)

    call = asyncio.get_running_loop().create_task(_run(work))
    await committing.wait()
    call.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not call.done(), "its commit is under way"
    go_on.set()
    await asyncio.wait([call])
    assert call.cancelled()
    assert await written(other) == [1]


async def test_a_direct_call_obeys_the_same_limits(url: str, other: Mine):
    inside = asyncio.Event()
    async with TaskStore(url, transaction_timeout=0.5) as store:

        @store.task
        async def slow(context: TaskContext, waits: bool) -> None:
            async with context.transaction() as connection:
                await write(other, connection, 1)
                inside.set()
                if waits:
                    await asyncio.Event().wait()
            judge(await refusal_of(context.transaction().__aenter__), ConfigurationError, "second time")

        while not inside.is_set():  # within the limit, which a slow machine may exceed before
            with pytest.raises(TimeoutError, match=r"transaction_timeout \(0\.5 s\)") as raised:
                await slow(waits=True)
        assert "longer than" in str(raised.value)
        assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]
        assert await written(other) == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await slow(waits=True)
        store._transactions.limit = LIMIT
        await slow(waits=False)
        assert await written(other) == [1]
    judge(await refusal_of(lambda: slow(waits=False)), ConfigurationError, "needs an open store")


async def test_a_direct_call_inside_a_run_takes_part_in_its_transaction(store: TaskStore, other: Mine):
    @store.task
    async def inner(number: int) -> None:
        async with current_context().transaction() as connection:
            await write(other, connection, number)

    @store.task
    async def outer(fails: bool) -> None:
        await inner(1)
        if fails:
            raise ValueError

    await outer.enqueue(fails=True)
    await store.dispatcher(**PATIENT).run_once()
    assert await written(other) == []
    await outer.enqueue(fails=False)
    await store.dispatcher(**PATIENT).run_once()
    assert await written(other) == [1]
