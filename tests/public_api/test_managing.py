"""`store.tasks`: look, list, count, wait, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from aiotaskstore import (
    DuplicateTaskError,
    InvalidQueryError,
    InvalidTransitionError,
    NotCancellableError,
    Retention,
    Task,
    TaskNotFoundError,
    TaskStarted,
    TaskStatus,
    TaskStore,
)
from aiotaskstore.mechanics.ids import new_id
from tests.helpers import LIMIT, expect


async def test_a_task_is_found_by_its_id_in_either_form(store: TaskStore):
    @store.task
    async def work() -> None: ...

    handle = await work.enqueue()
    for task_id in (handle.id, str(handle.id), handle.id.hex):
        task = await store.tasks.get(task_id)
        assert task == await store.tasks.require(task_id) == await store.handle(task_id).task()
    for absent in (uuid4(), new_id()):
        assert await store.tasks.get(absent) is None
        assert await store.handle(absent).status() is None
        for ask in (store.tasks.require, store.tasks.wait, store.tasks.cancel, store.tasks.retry):
            with pytest.raises(TaskNotFoundError, match=str(absent)):
                await ask(absent)
        assert await store.tasks.delete(absent) is False
    for nonsense in ("", 7, None):
        with pytest.raises(InvalidQueryError):
            await store.tasks.get(nonsense)  # type: ignore[arg-type]


async def test_a_task_is_a_frozen_value(store: TaskStore):
    @store.task
    async def work() -> None: ...

    task = await (await work.enqueue()).task()
    with pytest.raises(AttributeError):
        task.status = TaskStatus.FAILED  # type: ignore[misc]


@pytest.mark.acceptance("A17")
async def test_tasks_are_listed_newest_first_whichever_half_they_stand_in(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    ids = await store.enqueue_many([work.options(priority=-n).draft(n) for n in range(6)])
    await store.dispatcher(concurrency=1).run_once(limit=3)
    assert [task.id for task in await store.tasks.list()] == ids[::-1]
    assert [task.id for task in await store.tasks.list(descending=False)] == ids
    assert [task.id for task in await store.tasks.list(limit=2, offset=1)] == ids[4:2:-1]
    assert [task.id for task in await store.tasks.list(offset=4)] == ids[1::-1]
    assert [task.id for task in await store.tasks.list(limit=0)] == []
    assert await store.tasks.count() == 6
    assert await store.tasks.count(limit=1) == 6
    assert await store.tasks.count(limit=1, after=(await store.tasks.list(limit=4))[-1].id) == 6


@pytest.mark.acceptance("A16")
async def test_pages_follow_each_other_by_the_last_id_of_the_one_before(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    ids = await store.enqueue_many([work.draft(n) for n in range(25)])
    await store.dispatcher().run_once(limit=10)
    for descending in (True, False):
        pages: list[UUID] = []
        page: Sequence[Task] = await store.tasks.list(limit=7, descending=descending)
        while page:
            pages += [task.id for task in page]
            page = await store.tasks.list(limit=7, descending=descending, after=pages[-1])
        assert pages == (ids[::-1] if descending else ids)


@pytest.mark.acceptance("A16", "A17")
async def test_every_filter_finds_its_tasks_and_no_others(store: TaskStore):
    @store.task
    async def one() -> None: ...

    @store.task
    async def two() -> None:
        raise ValueError

    parent = uuid4()
    a = await one.options(queue="a", owner=("user", "1"), source="web", external_id="x").enqueue()
    b = await two.options(queue="b", owner=("user", 2), source="cli").enqueue()
    c = await one.options(queue="c", owner=("group", "1"), delay=3600).enqueue()
    await store.dispatcher().run_once()
    names = {a.id: "a", b.id: "b", c.id: "c"}
    first, second = await a.task(), await b.task()
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"id": a.id}, "a"), ({"id": str(a.id)}, "a"), ({"id_in": [a.id, c.id, parent]}, "ac"),
        ({"alias": "one"}, "ac"), ({"alias": ["one", "two"]}, "abc"), ({"alias": "three"}, ""),
        ({"queue": "b"}, "b"), ({"queue": ("a", "c")}, "ac"),
        ({"status": "scheduled"}, "c"), ({"status": TaskStatus.FAILED}, "b"),
        ({"status": ["succeeded", TaskStatus.SCHEDULED]}, "ac"),
        ({"owner": "user"}, "ab"), ({"owner": ("user", "2")}, "b"), ({"owner": ("user", "3")}, ""),
        ({"owner": ("user", 2)}, "b"), ({"owner": ["user", 2]}, "b"),
        ({"source": "web"}, "a"), ({"external_id": "x"}, "a"), ({"parent_id": parent}, ""),
        ({"definition_id": parent}, ""), ({"serialization_key": "k"}, ""),
        ({"created_from": first.created_at}, "abc"), ({"created_from": now + hour}, ""),
        ({"created_to": second.created_at, "created_from": second.created_at, "alias": "two"}, "b"),
        ({"finished_from": now - hour}, "ab"), ({"finished_to": now - hour}, ""),
        ({"finished_from": first.finished_at, "finished_to": first.finished_at, "alias": "one"}, "a"),
        ({"updated_before": now + hour}, "abc"), ({"updated_before": first.created_at}, ""),
        ({"include_deleted": True}, "abc"), ({"queue": "a", "status": "failed"}, ""),
        ({"queue": "a", "alias": "one", "owner": ("user", "1"), "status": ["succeeded"]}, "a"),
    ]  # fmt: skip
    for filters, wanted in cases:
        found = sorted(names[task.id] for task in await store.tasks.list(**filters))
        assert found == sorted(wanted), filters
        assert await store.tasks.count(**filters) == len(wanted), filters


@pytest.mark.acceptance("A16")
async def test_lists_come_in_the_order_asked_for(store: TaskStore):
    @store.task
    async def work() -> None: ...

    now = datetime.now(UTC)
    drafts = [
        work.options(priority=priority, queue=queue, run_at=now + timedelta(hours=hours)).draft()
        for priority, queue, hours in ((3, "b", 2), (-1, "c", 1), (3, "a", 3))
    ]
    ids = await store.enqueue_many(drafts)
    for order_by, wanted in (
        ("priority", [1, 0, 2]), ("queue", [2, 0, 1]), ("run_at", [1, 0, 2]), ("created_at", [0, 1, 2]),
        ("alias", [0, 1, 2]), ("status", [0, 1, 2]),
    ):  # fmt: skip
        found = [task.id for task in await store.tasks.list(order_by=order_by, descending=False)]
        assert found == [ids[n] for n in wanted], order_by


async def test_an_order_by_creation_is_that_of_the_clock_whatever_ids_callers_chose(store: TaskStore):
    @store.task
    async def work() -> None: ...

    for chosen in (UUID(int=9), UUID(int=2**127), UUID(int=5)):
        await work.options(id=chosen).enqueue()
    for descending in (False, True):
        found = await store.tasks.list(order_by="created_at", descending=descending)
        assert found == sorted(found, key=lambda task: (task.created_at, task.id), reverse=descending)
    assert [task.id.int for task in await store.tasks.list()] == [2**127, 9, 5], "unless told, by id"


async def test_tasks_that_lack_what_orders_them_come_last(store: TaskStore):
    @store.task(max_attempts=2, backoff=3600)
    async def work(fails: bool) -> None:
        if fails:
            raise ValueError

    done, failing, waiting = [(await work.enqueue(fails)).id for fails in (False, True, True)]
    first, second = await store.dispatcher().run_once(limit=1), await store.dispatcher().run_once(limit=1)
    assert (first, second) == (1, 1)
    for limit in (None, 2, 3):
        for order_by, descending, wanted in (
            ("finished_at", False, [done, failing, waiting]), ("finished_at", True, [done, waiting, failing]),
            ("started_at", False, [done, failing, waiting]), ("started_at", True, [failing, done, waiting]),
        ):  # fmt: skip
            found = await store.tasks.list(order_by=order_by, descending=descending, limit=limit)
            assert [task.id for task in found] == wanted[:limit], (order_by, descending)
    attempts = [task.attempt for task in await store.tasks.list(order_by="attempt", descending=False)]
    assert attempts == [0, 1, 1]


@pytest.mark.parametrize(
    "filters",
    [
        {"queue": ""}, {"queue": []}, {"alias": [""]}, {"status": "lost"}, {"status": []}, {"limit": -1},
        {"limit": 1.5}, {"offset": -1}, {"order_by": "payload"}, {"order_by": "id; DROP TABLE x"}, {"unknown": 1},
        {"id": "no id"}, {"id_in": []}, {"owner": ""}, {"owner": ("user",)}, {"owner": 3},
        {"created_from": datetime(2030, 1, 1)}, {"created_to": "2030"}, {"after": "no id"},  # noqa: DTZ001
        {"after": UUID(int=7), "order_by": "priority"}, {"source": "a\0b"}, {"external_id": "\ud800"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.acceptance("A15")
async def test_a_filter_that_cannot_be_meant_is_refused_before_any_sql(filters: dict[str, Any]):
    async with TaskStore("sqlite://") as store:
        for ask in (store.tasks.list, store.tasks.count):
            with pytest.raises(InvalidQueryError):
                await ask(**filters)
        with pytest.raises(InvalidQueryError):
            await store.tasks.delete(where=filters)  # type: ignore[call-overload]


@pytest.mark.acceptance("A72")
async def test_cancelling_gives_the_new_value_or_says_that_it_is_too_late(store: TaskStore):
    @store.task
    async def work() -> str:
        return "done"

    pending, scheduled = await work.enqueue(), await work.options(delay=60).enqueue()
    for handle in (pending, scheduled):
        task = await store.tasks.cancel(handle.id, "not wanted")
        assert (task.status, task.cancel_reason, task.finish_reason) == (TaskStatus.CANCELLED, "not wanted", "request")
        with pytest.raises(NotCancellableError, match="cancelled"):
            await store.tasks.cancel(handle.id)
        assert await store.tasks.cancel(handle.id, strict=False) is False
    finished = await work.enqueue()
    await store.dispatcher().run_once()
    with pytest.raises(NotCancellableError, match="succeeded"):
        await finished.cancel("too late")
    with pytest.raises(NotCancellableError):
        await store.tasks.cancel(finished.id, force=True)
    assert await finished.result() == "done"


async def test_retrying_gives_the_new_value_or_says_why_not(store: TaskStore):
    fail = True

    @store.task(max_attempts=2, backoff=0)
    async def work() -> str:
        if fail:
            raise ValueError("not yet")
        return "done"

    handle = await work.enqueue()
    await store.dispatcher().run_once()
    assert (await handle.task()).attempt == 2
    fail = False
    task = await store.tasks.retry(handle.id)
    assert (task.status, task.attempt, task.finished_at) == (TaskStatus.PENDING, 0, None)
    await store.dispatcher().run_once()
    assert await handle.result() == "done"
    with pytest.raises(InvalidTransitionError, match="force=True"):
        await store.tasks.retry(handle.id)
    assert (await store.tasks.retry(handle.id, force=True)).status is TaskStatus.PENDING
    assert await store.dispatcher().run_once() == 1
    gone = await work.options(retention=Retention(payload="none")).enqueue()
    await store.dispatcher().run_once()
    with pytest.raises(InvalidTransitionError, match="payload"):
        await store.tasks.retry(gone.id, force=True)


async def test_a_running_task_is_neither_retried_nor_deleted(store: TaskStore):
    let_go = asyncio.Event()

    @store.task
    async def work() -> None:
        await let_go.wait()

    async with store.dispatcher():
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        with pytest.raises(InvalidTransitionError, match="running"):
            await store.tasks.retry(handle.id)
        with pytest.raises(InvalidTransitionError, match="force=True"):
            await store.tasks.delete(handle.id)
        assert await store.tasks.delete(where={"id": handle.id}) == 0
        let_go.set()
        await handle.wait(timeout=LIMIT)
    assert await store.tasks.delete(handle.id) is True
    assert await store.tasks.delete(handle.id) is False


async def test_a_retry_wakes_an_idle_dispatcher(store: TaskStore):
    runs = []

    @store.task
    async def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError

    async with store.dispatcher(poll_interval=50):
        handle = await work.enqueue()
        await handle.wait(timeout=LIMIT)
        await store.tasks.retry(handle.id)
        assert (await handle.wait(timeout=LIMIT)).status is TaskStatus.SUCCEEDED


async def test_actions_with_where_run_on_every_match_and_count_what_they_changed(store: TaskStore):
    @store.task
    async def work(n: int) -> None:
        if n % 2:
            raise ValueError

    await store.enqueue_many([work.options(queue=f"q{n % 3}").draft(n) for n in range(2400)])
    assert await store.tasks.cancel(where={"queue": "q0"}, reason="all of them") == 800
    assert await store.tasks.cancel(where={"queue": "q0"}) == 0
    assert await store.tasks.count(status="cancelled") == 800
    assert await store.tasks.delete(where={"queue": "q1", "limit": 300}) == 300
    assert await store.tasks.count(queue="q1") == 500
    await store.dispatcher(queues=["q2"], concurrency=200).run_once()
    assert await store.tasks.retry(where={"queue": "q2"}) == 400, "only the failed ones"
    assert await store.tasks.retry(where={"queue": ["q2"], "status": ["succeeded"]}, force=True) == 400
    assert await store.tasks.delete(where="all") == 2100
    assert await store.tasks.count() == 0


async def test_an_action_wants_an_id_or_filters(store: TaskStore):
    for act in (store.tasks.cancel, store.tasks.retry, store.tasks.delete):
        with pytest.raises(InvalidQueryError):
            await act()  # type: ignore[call-overload]
        for paging in ({"order_by": "queue"}, {"offset": 3}, {"after": uuid4()}):
            with pytest.raises(InvalidQueryError, match="where="):
                await act(where=paging)  # type: ignore[call-overload]


async def test_an_action_is_for_what_exists_at_the_call(store: TaskStore):
    """Else it would never end where what it does makes more, or others enqueue meanwhile."""
    await store.enqueue_many([store.draft("work", {"n": n}, unchecked=True) for n in range(1500)])
    act, more = store.tasks._actions._on, 0

    async def enqueuing_more(*given: Any) -> Any:
        nonlocal more
        await store.enqueue_many([store.draft("work", {"n": n}, unchecked=True) for n in range(100)])
        more += 100
        return await act(*given)

    store.tasks._actions._on = enqueuing_more  # type: ignore[assignment]
    assert await store.tasks.cancel(where={"alias": "work"}) == 1500
    assert more == 200
    assert await store.tasks.count(status="pending") == more


async def test_an_action_leaves_alone_what_no_longer_matches_when_it_is_written(store: TaskStore):
    @store.task
    async def work() -> None:
        raise ValueError

    await store.enqueue_many([work.draft() for _ in range(3)])
    await store.dispatcher().run_once()
    saved, *_ = failed = await store.tasks.list(status="failed")
    act = store.tasks._actions._on

    async def retried_first(*given: Any) -> Any:
        store.tasks._actions._on = act  # type: ignore[method-assign]
        await store.tasks.retry(saved.id)
        return await act(*given)

    store.tasks._actions._on = retried_first  # type: ignore[assignment]
    assert await store.tasks.delete(where={"status": "failed"}) == len(failed) - 1
    assert [task.id for task in await store.tasks.list()] == [saved.id]


async def test_a_limit_counts_what_was_changed_not_what_was_skipped(store: TaskStore):
    @store.task
    async def work() -> None: ...

    await store.enqueue_many([work.draft() for _ in range(4)])
    await store.dispatcher().run_once()
    await store.enqueue_many([work.draft() for _ in range(4)])
    assert await store.tasks.cancel(where={"alias": "work", "limit": 0}) == 0
    assert await store.tasks.cancel(where={"alias": "work", "limit": 3}) == 3, "the finished ones are skipped"
    assert await store.tasks.count(status="pending") == 1


async def test_an_action_with_where_inside_a_transaction_is_all_or_nothing(store: TaskStore):
    await store.enqueue_many([store.draft("work", {"n": n}, unchecked=True) for n in range(20)])
    with pytest.raises(ZeroDivisionError):
        async with store.transaction():
            assert await store.tasks.cancel(where={"alias": "work"}) == 20
            raise ZeroDivisionError
    assert await store.tasks.count(status="pending") == 20


async def test_a_retry_of_many_skips_the_one_whose_external_id_was_taken_over(store: TaskStore):
    @store.task
    async def work() -> None:
        raise ValueError

    first = await work.options(external_id="one").enqueue()
    others = await store.enqueue_many([work.draft() for _ in range(5)])
    await store.dispatcher().run_once()
    second = await work.options(external_id="one", unique_while="live").enqueue()
    assert await store.tasks.retry(where={"status": "failed"}) == 5
    assert await first.status() is TaskStatus.FAILED
    assert [await store.tasks.status(task_id) for task_id in (second.id, *others)] == [TaskStatus.PENDING] * 6


async def test_of_two_that_had_one_external_id_a_retry_brings_one_back(store: TaskStore):
    """Also where the last owner was deleted, so that nobody holds it at that moment."""

    @store.task
    async def work() -> None:
        raise ValueError

    options = work.options(external_id="one", unique_while="live")
    handles = []
    for _ in range(3):
        handles.append(await options.enqueue())
        await store.dispatcher().run_once()
    assert await store.tasks.delete(handles.pop().id)
    assert await store.tasks.retry(where={"alias": "work"}) == 1
    assert sorted([await handle.status() for handle in handles], key=str) == ["failed", "pending"]
    assert await store.tasks.retry(where={"alias": "work", "status": "failed"}) == 0
    with pytest.raises(DuplicateTaskError):
        await options.enqueue()


async def test_a_retry_whose_external_id_was_taken_over_says_by_whom(store: TaskStore):
    @store.task
    async def work() -> None:
        raise ValueError

    first = await work.options(external_id="one").enqueue()
    await store.dispatcher().run_once()
    second = await work.options(external_id="one", unique_while="live").enqueue()
    with pytest.raises(DuplicateTaskError) as caught:
        await store.tasks.retry(first.id)
    assert caught.value.existing_id == second.id


async def test_two_who_cancel_and_retry_at_once_leave_one_clear_state(store: TaskStore):
    @store.task
    async def work() -> None: ...

    for _ in range(5):
        handle = await work.enqueue()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(store.tasks.cancel(handle.id, strict=False))
                group.create_task(_quietly(store.tasks.retry(handle.id)))
        task = await handle.task()
        assert task.status in {TaskStatus.PENDING, TaskStatus.CANCELLED}
        assert await store.tasks.count(id=handle.id) == 1
        await store.tasks.delete(handle.id)


async def _quietly(call) -> None:
    try:
        await call
    except InvalidTransitionError:
        return
