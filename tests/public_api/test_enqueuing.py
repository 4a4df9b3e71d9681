"""Enqueue: what its options mean, and what concurrent callers share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import (
    ConfigurationError,
    DatabaseUnavailableError,
    DefinitionInactiveError,
    DuplicateHandlerError,
    DuplicateTaskError,
    PayloadError,
    Queue,
    Retention,
    TaskContext,
    TaskEnqueued,
    TaskHandle,
    TaskOptions,
    TaskRouter,
    TaskStatus,
    TaskStore,
    UnknownAliasError,
    noop,
)
from aiotaskstore.storage.operation import Query, Rows, Steps
from tests.bad_input.refusals import judge, refusal_of
from tests.helpers import LIMIT, answers_lost, eventually, expect, kept_from_writing


async def test_every_option_is_stored_with_the_task(store: TaskStore):
    @store.task
    async def work() -> None: ...

    at = datetime(2040, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone(timedelta(hours=2)))
    handle = await work.options(
        queue="emails", run_at=at, priority=-5, max_attempts=7, timeout=timedelta(minutes=1), external_id="order-1",
        owner=("user", "42"), source="web", metadata={"trace": ["x"]}, retention=Retention(keep="failed", period=60),
    ).enqueue()  # fmt: skip
    task = await handle.task()
    assert (task.queue, task.run_at, task.priority, task.max_attempts) == ("emails", at, -5, 7)
    assert (task.timeout, task.external_id, task.owner) == (timedelta(minutes=1), "order-1", ("user", "42"))
    assert (task.source, task.metadata, task.retention) == ("web", {"trace": ["x"]}, Retention("failed", 60))
    assert (task.status, task.alias, task.attempt, task.parent_id) == (TaskStatus.SCHEDULED, "work", 0, None)
    assert task.run_at.tzinfo is UTC
    assert task.id.version == 7


async def test_a_tasks_option_wins_over_its_definitions_over_its_queues_over_the_librarys(url: str):
    queue = Queue("special", timeout=3, max_attempts=3, retention=Retention(period=3))
    async with TaskStore(url, queues=[queue], retention=Retention(period=4)) as store:

        @store.task(timeout=2, max_attempts=2, retention=Retention(period=2), queue="special", priority=2)
        async def says() -> None: ...

        @store.task
        async def silent() -> None: ...

        async def seconds(handle) -> tuple[float | None, int, float, str, int]:
            task = await handle.task()
            period = task.retention.period.total_seconds()
            return task.timeout and task.timeout.total_seconds(), task.max_attempts, period, task.queue, task.priority

        own: TaskOptions = {"timeout": 1, "max_attempts": 1, "retention": Retention(period=1), "priority": 1}
        assert await seconds(await says.options(**own).enqueue()) == (1, 1, 1, "special", 1)
        assert await seconds(await says.enqueue()) == (2, 2, 2, "special", 2)
        assert await seconds(await silent.options(queue="special").enqueue()) == (3, 3, 3, "special", 0)
        assert await seconds(await silent.enqueue()) == (None, 1, 4, "default", 0)


@pytest.mark.acceptance("A19")
async def test_nothing_means_the_default_queue(store: TaskStore):
    @store.task
    async def work() -> None: ...

    for queue in ("", None, "default"):
        handle = await work.options(queue=queue).enqueue()
        assert (await handle.task()).queue == "default"


async def test_a_task_is_due_by_the_databases_clock(store: TaskStore):
    @store.task
    async def work() -> None: ...

    now = datetime.now(UTC)
    past = await work.options(run_at=now - timedelta(days=1)).enqueue()
    none = await work.options(delay=0).enqueue()
    hour = await work.options(delay=timedelta(hours=1)).enqueue()
    assert [await handle.status() for handle in (past, none, hour)] == ["pending", "pending", "scheduled"]
    task = await hour.task()
    assert task.run_at - task.created_at == timedelta(hours=1)
    assert await store.dispatcher().run_once() == 2


@pytest.mark.acceptance("A101")
async def test_ids_grow_and_are_known_in_order(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    ids = await store.enqueue_many([work.draft(n) for n in range(1500)])
    ids += [(await work.enqueue(n)).id for n in range(3)]
    assert ids == sorted(set(ids))
    assert await store.tasks.count() == 1503
    assert [task.payload["n"] for task in await store.tasks.list(descending=False, limit=3)] == [0, 1, 2]


@pytest.mark.acceptance("A101")
async def test_many_are_stored_all_or_none(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    first = await work.options(external_id="taken").enqueue(0)
    drafts = [work.draft(n) for n in range(3)] + [work.options(external_id="taken").draft(9)]
    with pytest.raises(DuplicateTaskError) as caught:
        await store.enqueue_many(drafts)
    assert caught.value.existing_id == first.id
    assert await store.tasks.count() == 1
    drafts[-1] = work.options(external_id="taken", on_conflict="return").draft(9)
    ids = await store.enqueue_many(drafts)
    assert ids[-1] == first.id
    assert await store.tasks.count() == 4
    assert await store.enqueue_many([]) == []


@pytest.mark.parametrize("joined", [False, True])
async def test_two_drafts_with_one_external_id_are_told_by_their_positions(store: TaskStore, joined: bool):
    @store.task
    async def work(n: int) -> None: ...

    same, returning = work.options(external_id="same"), work.options(external_id="same", on_conflict="return")
    async with store.transaction() if joined else nullcontext():
        for second in (same, same.options(unique_while="live"), same.options(id=UUID(int=1))):
            with pytest.raises(DuplicateTaskError, match=r'drafts\[1\] and drafts\[3\].*"same".*nothing was') as caught:
                await store.enqueue_many([work.draft(0), returning.draft(1), work.draft(2), second.draft(3)])
            assert (caught.value.positions, caught.value.external_id) == ((1, 3), "same")
            assert await store.tasks.count() == 0
        first = await same.enqueue(0)
    with pytest.raises(DuplicateTaskError, match=str(first.id)) as caught:
        await store.enqueue_many([work.draft(0), same.draft(1)])
    assert caught.value.positions is None


@pytest.mark.parametrize("joined", [False, True])
async def test_of_drafts_with_one_external_id_the_first_is_stored_and_the_others_return_it(
    store: TaskStore, joined: bool
):
    @store.task
    async def work(n: int) -> None: ...

    returning = work.options(external_id="same", on_conflict="return")
    early = returning.options(id=UUID(int=1))
    for first in (work.options(external_id="same"), returning, returning.options(unique_while="live"), early):
        async with store.transaction() if joined else nullcontext():
            ids = await store.enqueue_many([first.draft(1), work.draft(2), early.draft(3), returning.draft(4)])
        assert ids[0] == ids[2] == ids[3]
        assert (await store.tasks.require(ids[0])).payload == {"n": 1}
        assert await store.tasks.count() == 2
        await store.tasks.delete(where="all")


@pytest.mark.parametrize("joined", [False, True])
async def test_two_drafts_with_one_chosen_id_are_told_by_their_positions(store: TaskStore, joined: bool):
    @store.task
    async def work(n: int) -> None: ...

    chosen = work.options(id=UUID(int=7))
    returning = chosen.options(external_id="x", on_conflict="return")
    async with store.transaction() if joined else nullcontext():
        for first, second in ((chosen, chosen), (chosen, returning), (returning, returning.options(external_id="y"))):
            with pytest.raises(
                DuplicateTaskError, match=r"drafts\[0\] and drafts\[2\] have the same id.*nothing"
            ) as caught:
                await store.enqueue_many([first.draft(1), work.draft(2), second.draft(3)])
            error = caught.value
            assert (error.positions, error.external_id, error.existing_id) == ((0, 2), None, UUID(int=7))
        assert await store.tasks.count() == 0
        ids = await store.enqueue_many([returning.draft(1), work.draft(2), returning.draft(3)])
    assert ids[0] == ids[2] == UUID(int=7)
    assert await store.tasks.count() == 2


@pytest.mark.acceptance("A101")
async def test_tasks_of_several_kinds_are_stored_together_and_in_order_or_not_at_all(store: TaskStore):
    @store.task
    async def number(n: int) -> None: ...

    @store.task(queue="letters")
    async def letter(text: str) -> None: ...

    def some(count: int) -> list[Any]:
        return [letter.draft(str(n)) if n % 3 else number.draft(n) for n in range(count)]

    for unfit in (
        lambda: number.draft("many"),  # type: ignore[arg-type]
        lambda: store.draft("letter", {"text": 7}),
        lambda: store.draft("elsewhere", {"a": object()}, unchecked=True),
    ):
        with pytest.raises(PayloadError):
            await store.enqueue_many([*some(5), unfit()])
    assert await store.tasks.count() == 0
    ids = await store.enqueue_many([*some(20), store.draft("elsewhere", {"a": 1}, unchecked=True)])
    assert ids == sorted(ids)
    tasks = await store.tasks.list(descending=False)
    assert [task.id for task in tasks] == ids
    assert [task.alias for task in tasks] == ["letter" if n % 3 else "number" for n in range(20)] + ["elsewhere"]
    assert len({task.created_at for task in tasks}) == 1, "one statement stored them all"
    assert await store.enqueue_many([]) == []


@pytest.mark.acceptance("A106")
async def test_a_payload_that_is_no_json_object_is_refused_and_nothing_is_stored(store: TaskStore):
    bad: list[Any] = ['{"a": 1', "null", b"{}", [1], 7, {"a": object()}, {"a": float("nan")}]
    for payload in bad:
        error = await refusal_of(lambda: store.enqueue("elsewhere", payload, unchecked=True))  # noqa: B023
        judge(error, PayloadError, "elsewhere")
    assert await store.tasks.count() == 0


@pytest.mark.acceptance("A108")
async def test_an_enqueue_in_a_cancelled_task_raises_and_stores_nothing(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    await store.tasks.delete((await work.enqueue(0)).id)  # known from now on
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: work.enqueue(1),
        lambda: work.options(external_id="one").enqueue(1),
        lambda: store.enqueue("work", {"n": 1}),
        lambda: store.enqueue_many([work.draft(1), work.draft(2)]),
    ]

    async def cancelled(call: Callable[[], Awaitable[Any]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await call()

    for call in calls:
        done = asyncio.get_running_loop().create_task(cancelled(call))
        await asyncio.wait([done])
        assert done.cancelled()
    assert await store.tasks.count() == 0
    await work.options(external_id="one").enqueue(1)


async def test_a_draft_may_be_enqueued_again(store: TaskStore):
    @store.task
    async def work() -> None: ...

    draft = work.draft()
    ids = await store.enqueue_many([draft, draft])
    assert len({*ids, *await store.enqueue_many([draft])}) == 3


@pytest.mark.acceptance("A44")
async def test_an_alias_is_known_once_a_dispatcher_somewhere_has_it(store: TaskStore, url: str):
    @store.task(queue="emails", max_attempts=4, priority=3, timeout=9, retention=Retention(period=5))
    async def send_welcome(user_id: int) -> None: ...

    async with TaskStore(url) as elsewhere:
        with pytest.raises(UnknownAliasError, match="send_welcome"):
            await elsewhere.enqueue("send_welcome", {"user_id": 42})
        unchecked = await elsewhere.enqueue("send_welcome", {"user_id": 42}, unchecked=True)
        assert (await unchecked.task()).queue == "default"
        await store.dispatcher().run_once()
        with pytest.raises(UnknownAliasError, match='Did you mean "send_welcome"'):
            await elsewhere.enqueue("send_welcom", {"user_id": 42})
        handle = await elsewhere.enqueue("send_welcome", {"user_id": 42})
        task = await handle.task()
        assert (task.queue, task.max_attempts, task.priority, task.timeout, task.retention) == (
            "emails", 4, 3, timedelta(seconds=9), Retention(period=5),
        )  # fmt: skip
        assert task.definition_id is not None
        own = await elsewhere.enqueue("send_welcome", {"user_id": 1}, queue="other", max_attempts=2)
        assert ((await own.task()).queue, (await own.task()).max_attempts) == ("other", 2)
        ids = await elsewhere.enqueue_many([elsewhere.draft("send_welcome", {"user_id": n}) for n in range(3)])
        assert await elsewhere.tasks.count(id_in=ids, queue="emails") == 3


async def test_a_definition_that_an_operator_cancelled_is_not_enqueued_by_its_alias(store: TaskStore, url: str):
    @store.task
    async def work() -> None: ...

    await store.dispatcher().run_once()

    def cancel() -> Steps[Rows]:
        return (yield Query("UPDATE aiotaskstore_definitions SET status = 'cancelled'", {}))

    await store._require_open().storage.database.write(cancel)
    async with TaskStore(url) as elsewhere:
        with pytest.raises(DefinitionInactiveError, match="work"):
            await elsewhere.enqueue("work")


async def test_routers_declare_tasks_and_a_store_includes_them(store: TaskStore):
    router = TaskRouter()

    @router.task(alias="greet", queue="polite")
    async def greeting(name: str) -> str:
        """Greet somebody."""
        return f"Hello {name}!"

    with pytest.raises(ConfigurationError, match="include"):
        await greeting.enqueue("you")
    store.include(router)
    store.include(router)
    store.include(noop)
    first = store.handlers[0]
    assert (first.alias, first.title, first.description) == ("greet", "Greet", "Greet somebody.")
    handle = await greeting.enqueue("you")
    await noop.enqueue()
    assert await store.dispatcher().run_once() == 2
    assert await handle.result() == "Hello you!"
    with pytest.raises(DuplicateHandlerError):

        @store.task(alias="Gr-eet")
        async def other() -> None: ...


async def test_an_external_id_is_unique_as_long_as_the_earlier_row_is_kept(store: TaskStore):
    @store.task
    async def work() -> None: ...

    @store.task(external_id=lambda n: f"n-{n}")
    async def keyed(n: int) -> None: ...

    first = await work.options(external_id="one").enqueue()
    await store.dispatcher().run_once()
    with pytest.raises(DuplicateTaskError) as caught:
        await work.options(external_id="one").enqueue()
    assert caught.value.existing_id == first.id
    again = await work.options(external_id="one", on_conflict="return").enqueue()
    assert again.id == first.id
    live = await work.options(external_id="one", unique_while="live").enqueue()
    assert live.id != first.id
    await store.tasks.delete(live.id)
    assert (await work.options(external_id="one").enqueue()).id != first.id
    await keyed.enqueue(1)
    with pytest.raises(DuplicateTaskError, match="n-1"):
        await keyed.enqueue(1)
    await keyed.options(external_id="other").enqueue(1)


async def test_of_many_who_enqueue_one_external_id_at_once_one_stores_and_all_learn_which(store: TaskStore, url: str):
    @store.task
    async def work() -> None: ...

    async with TaskStore(url) as elsewhere:
        for round_ in range(5):
            options: TaskOptions = {"external_id": f"{round_}", "on_conflict": "return"}
            async with asyncio.TaskGroup() as group:
                calls: list[asyncio.Task[TaskHandle[Any]]] = []
                for _ in range(10):
                    calls.append(group.create_task(work.options(**options).enqueue()))
                    calls.append(group.create_task(elsewhere.enqueue("work", unchecked=True, **options)))
            assert len({call.result().id for call in calls}) == 1
        assert await store.tasks.count() == 5


async def test_concurrent_callers_share_an_insert(store: TaskStore, caplog: pytest.LogCaptureFixture):
    @store.task
    async def work(n: int) -> None: ...

    await work.enqueue(0)
    with caplog.at_level(logging.DEBUG, "aiotaskstore.sql"):
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(work.enqueue(n)) for n in range(300)]
    inserts = sum("INSERT INTO aiotaskstore_tasks" in record.getMessage() for record in caplog.records)
    assert inserts <= 4
    assert len({call.result().id for call in calls}) == 300
    assert await store.tasks.count() == 301


@pytest.mark.acceptance("A108")
async def test_a_caller_cancelled_before_its_batch_is_sent_stores_nothing(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
):
    @store.task
    async def work(name: str) -> None: ...

    await store.tasks.delete((await work.enqueue("known from now on")).id)
    for external_ids in (False, True):

        def enqueue(name: str, external_ids: bool = external_ids) -> asyncio.Task[object]:
            bound = work.options(external_id=name) if external_ids else work
            return asyncio.ensure_future(bound.enqueue(name))  # noqa: TID251

        enqueuing = store._require_open().enqueuing
        batcher = enqueuing._keyed if external_ids else enqueuing._plain
        sent = asyncio.Event()
        monkeypatch.setattr(batcher, "_flush", partial(_once_sent, sent, batcher._flush))
        first = enqueue("first")
        await eventually(partial(getattr, batcher, "_in_flight"))
        cancelled, other = enqueue("cancelled"), enqueue("other")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        sent.set()
        await first
        await other
        assert cancelled.cancelled()
        assert {task.payload["name"] for task in await store.tasks.list()} == {"first", "other"}
        await store.tasks.delete(where="all")


async def _once_sent(sent: asyncio.Event, flush: Callable[[Any], Awaitable[Any]], batch: Any) -> Any:
    await sent.wait()
    return await flush(batch)


async def test_a_caller_cancelled_once_its_batch_is_sent_hurts_no_other(store: TaskStore, url: str):
    @store.task
    async def work(n: int) -> None: ...

    await store.tasks.delete((await work.enqueue(0)).id)
    plain = store._require_open().enqueuing._plain
    async with kept_from_writing(url, "aiotaskstore_tasks"):
        calls = [asyncio.ensure_future(work.enqueue(n)) for n in range(5)]  # noqa: TID251
        await eventually(lambda: plain._in_flight)
        calls[0].cancel()
        calls[3].cancel()
    done = [call for call in calls if call not in {calls[0], calls[3]}]
    for call in done:
        assert await (await call).status() is TaskStatus.PENDING
    assert len(done) <= await store.tasks.count() <= 5


async def test_an_enqueue_that_somebodys_open_transaction_stalls_is_given_up_after_its_timeout(url: str):
    async with TaskStore(url, enqueue_timeout=0.3) as store:

        @store.task
        async def work() -> None: ...

        async with kept_from_writing(url, "aiotaskstore_tasks"):
            with pytest.raises(DatabaseUnavailableError, match="enqueue_timeout"):
                await work.enqueue()
        stored: list[TaskHandle[Any]] = []

        async def enqueued() -> bool:  # a slow machine may exceed the limit with nobody's transaction in the way
            with suppress(DatabaseUnavailableError):
                stored.append(await work.enqueue())
            return bool(stored)

        await eventually(enqueued)
        assert await stored[0].status() is TaskStatus.PENDING


async def test_an_open_transaction_that_holds_an_external_id_stalls_only_those_who_want_ids(store: TaskStore, url: str):
    if url.startswith("sqlite"):
        return  # a transaction holds the whole file there

    @store.task
    async def work() -> None: ...

    async with store.transaction():
        await work.options(external_id="one").enqueue()
        outside = asyncio.ensure_future(_elsewhere(work.options(external_id="one", on_conflict="return").enqueue))  # noqa: TID251
        plain = await asyncio.ensure_future(_elsewhere(work.enqueue))  # noqa: TID251
        assert await plain.status() is TaskStatus.PENDING
        assert not outside.done()
    async with asyncio.timeout(LIMIT):
        await outside
    assert await store.tasks.count() == 2


async def test_an_enqueue_whose_answer_was_lost_is_stored_once(store: TaskStore):
    @store.task
    async def work() -> None: ...

    taken = await work.options(external_id="taken").enqueue()
    database = store._require_open().storage.database
    with answers_lost(database):
        plain = await work.enqueue()
    with answers_lost(database):
        keyed = await work.options(external_id="one").enqueue()
    with answers_lost(database):
        many = await store.enqueue_many([work.draft(), work.options(external_id="two").draft()])
    with answers_lost(database):
        drafts = [work.draft(), work.options(external_id="taken", on_conflict="return").draft()]
        some = await store.enqueue_many(drafts)
    assert some[1] == taken.id
    with answers_lost(database), pytest.raises(DuplicateTaskError):
        await work.options(external_id="taken").enqueue()
    with answers_lost(database):
        again = await work.options(external_id="taken", on_conflict="return").enqueue()
    assert again.id == taken.id
    stored = {task.id for task in await store.tasks.list()}
    assert stored == {taken.id, plain.id, keyed.id, *many, *some}


@pytest.mark.acceptance("A107")
async def test_what_is_enqueued_soon_is_stored_by_flush_at_the_latest(store: TaskStore):
    @store.task
    async def work(n: int) -> int:
        return n

    handles = [store.enqueue_soon(work.draft(n)) for n in range(50)]
    await store.flush()
    assert await store.tasks.count() == 50
    await store.dispatcher().run_once()
    assert [await handle.result() for handle in handles] == list(range(50))


@pytest.mark.acceptance("A107")
async def test_closing_stores_what_was_enqueued_soon(url: str):
    store = TaskStore(url)

    @store.task
    async def work() -> None: ...

    async with store:
        handle = store.enqueue_soon(work.draft())
    async with store:
        assert await store.tasks.status(handle.id) is TaskStatus.PENDING


async def test_what_goes_wrong_soon_goes_to_on_error(url: str):
    errors: list[tuple[str | None, UUID | None, BaseException]] = []
    async with TaskStore(url, on_error=lambda *error: errors.append(error)) as store:

        @store.task
        async def work() -> None: ...

        await work.options(external_id="one").enqueue()
        store.enqueue_soon(work.options(external_id="one").draft())
        store.enqueue_soon(store.draft("nobody knows this"))
        await store.flush()
        assert await store.tasks.count() == 1
    assert {type(error) for _, _, error in errors} == {DuplicateTaskError, UnknownAliasError}


async def test_what_is_enqueued_is_told(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with expect(store, *[TaskEnqueued] * 3) as facts:
        handle = await work.enqueue()
        ids = await store.enqueue_many([work.options(queue="q").draft(), work.draft()])
    assert [(fact.task_id, fact.queue) for fact in facts if isinstance(fact, TaskEnqueued)] == [
        (handle.id, "default"), (ids[0], "q"), (ids[1], "default"),
    ]  # fmt: skip


@pytest.mark.acceptance("A68", "A70")
async def test_metadata_is_added_inside_the_block_and_inherited_by_what_a_handler_enqueues(store: TaskStore):
    @store.task
    async def child(n: int) -> None: ...

    @store.task
    async def parent(context: TaskContext) -> None:
        assert context.metadata == {"trace": "x", "own": 1}
        await child.enqueue(1)
        with store.metadata(trace="y"):
            await child.options(metadata={"own": 2}).enqueue(2)

    with store.metadata(trace="x", own=0):
        handle = await parent.options(metadata={"own": 1}).enqueue()
    after = await child.enqueue(0)
    await store.dispatcher().run_once()
    children = {task.payload["n"]: task for task in await store.tasks.list(alias="child")}
    assert children[1].metadata == {"trace": "x", "own": 1}
    assert children[2].metadata == {"trace": "y", "own": 2}
    assert children[0].metadata == {}
    assert [children[n].parent_id for n in range(3)] == [None, handle.id, handle.id]
    assert await store.tasks.count(parent_id=handle.id) == 2
    assert after.id == children[0].id


async def _elsewhere(call):
    return await call()
