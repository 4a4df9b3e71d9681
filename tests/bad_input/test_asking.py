"""Questions that cannot be meant, a store that is closed, and a dispatcher with nothing to do."""

# ruff: noqa: E501, PLW0108 - a list of calls reads by its rows, and all alike
from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from aiotaskstore import (
    ConfigurationError,
    InvalidQueryError,
    TaskFilters,
    TaskNotFoundError,
    TaskRouter,
    TaskStatus,
    TaskStore,
    noop,
)
from tests.bad_input.refusals import judge, refusal_of, together
from tests.helpers import LIMIT, eventually
from tests.unit.test_listing import BAD

PAGING = {"order_by", "descending", "offset", "after"}


def actions_of(store: TaskStore) -> list[Any]:
    """Every action that takes `where=`, what else it needs given."""
    tasks = store.tasks
    return [
        tasks.cancel, tasks.retry, tasks.delete, tasks.pause, tasks.resume, partial(tasks.reschedule, delay=1),
        tasks.soft_delete, tasks.restore, partial(tasks.update, priority=1), partial(tasks.update, payload={}),
        tasks.clone, tasks.mark_succeeded, partial(tasks.mark_succeeded, result=1), tasks.mark_failed,
    ]  # fmt: skip


async def test_a_filter_that_cannot_be_meant_is_refused_and_nothing_is_done(store: TaskStore):
    """By every call that takes filters; the tasks it might have hit are as they were."""
    handle = await store.enqueue("x", unchecked=True, delay=60)
    wrong: list[str] = []
    for filters, words in BAD:
        given: Any = filters
        calls: list[Callable[[], Any]] = [partial(store.tasks.list, **given), partial(store.tasks.count, **given)]
        if not given.keys() & PAGING:
            calls += [partial(act, where=given) for act in actions_of(store)]
        for call in calls:
            try:
                judge(await refusal_of(call), InvalidQueryError, words)
            except AssertionError as failure:
                wrong.append(f"{filters}: {failure}")
    assert not wrong, "\n".join(wrong)
    assert await handle.status() is TaskStatus.SCHEDULED


@pytest.mark.parametrize("filters", [{"order_by": "id"}, {"offset": 1}, {"descending": True}, {"after": UUID(int=7)}])
async def test_paging_chooses_nothing_to_act_on(filters: Any):
    async with TaskStore("sqlite://") as store:
        for act in actions_of(store):
            words = f"where= chooses tasks; {next(iter(filters))} has no meaning there"
            judge(await refusal_of(partial(act, where=filters)), InvalidQueryError, words)


async def test_a_filter_that_is_none_or_absent_never_means_every_task(store: TaskStore):
    """`where={"queue": request.get("queue")}` must not delete every row."""
    handles = [await store.enqueue("x", unchecked=True, delay=60) for _ in range(3)]
    acts = actions_of(store)
    for name in TaskFilters.__annotations__:
        filters: Any = {name: None}
        calls = [partial(act, where=filters) for act in acts]
        if name != "limit":
            calls += [partial(store.tasks.list, **filters), partial(store.tasks.count, **filters)]
        for call in calls:
            judge(await refusal_of(call), InvalidQueryError, f"{name} is None|where= ")
    for where in ({}, {"limit": 1}, {"include_deleted": True}, {"include_deleted": False, "limit": None}):
        for act in acts:
            judge(await refusal_of(partial(act, where=where)), InvalidQueryError, "no filter that narrows the choice")
    assert [await handle.status() for handle in handles] == [TaskStatus.SCHEDULED] * 3
    assert len(await store.tasks.list(limit=None)) == 3
    assert await store.tasks.count(limit=None) == 3
    assert await store.tasks.cancel(where={"alias": "x", "limit": 2}) == 2
    assert await store.tasks.retry(where="all") == 3
    assert await store.tasks.delete(where="all") == 3
    assert await store.tasks.count() == 0


@pytest.mark.parametrize("text", ["nope", "42", "\ud800", "\0", "x" * 1_000, "{}"])
async def test_text_that_is_no_uuid_is_an_id_that_never_was(store: TaskStore, text: str):
    """A request for /tasks/nope is a 404, not a 500."""
    tasks, handle = store.tasks, store.handle(text)
    assert await tasks.get(text) is None
    assert await tasks.status(text) is await handle.status() is None
    for call in (
        lambda: tasks.require(text), lambda: tasks.wait(text, 5), lambda: tasks.cancel(text), lambda: tasks.retry(text),
        lambda: tasks.delete(text), lambda: tasks.pause(text), lambda: tasks.resume(text), lambda: tasks.restore(text),
        lambda: tasks.reschedule(text, delay=1), lambda: tasks.soft_delete(text), lambda: tasks.clone(text),
        lambda: tasks.update(text, priority=1), lambda: tasks.mark_succeeded(text), lambda: tasks.mark_failed(text),
        handle.task, handle.wait, lambda: handle.result(5), handle.cancel,
        lambda: anext(handle.progress()), lambda: handle.id,
    ):  # fmt: skip
        error = await refusal_of(call)
        judge(error, TaskNotFoundError, "No task .* is stored: an id is a UUID, and this text is none")
        assert isinstance(error, TaskNotFoundError)
        assert error.task_id == text
    for name in ("id", "id_in", "parent_id", "definition_id", "after"):
        filters: Any = {name: [text] if name == "id_in" else text}
        judge(await refusal_of(partial(tasks.list, **filters)), InvalidQueryError, f"{name}: A task id is a UUID")


@pytest.mark.parametrize("value", ["", 42, b"0123456789abcdef", ["x"], True])
async def test_what_is_no_text_is_no_id_at_all(store: TaskStore, value: Any):
    tasks = store.tasks
    for call in (
        lambda: tasks.get(value), lambda: tasks.status(value), lambda: tasks.require(value), lambda: tasks.wait(value),
        lambda: tasks.cancel(value), lambda: tasks.retry(value), lambda: tasks.delete(value), lambda: store.handle(value),
        lambda: tasks.pause(value), lambda: tasks.resume(value), lambda: tasks.restore(value), lambda: tasks.clone(value),
        lambda: tasks.reschedule(value, delay=1), lambda: tasks.soft_delete(value), lambda: tasks.mark_failed(value),
        lambda: tasks.update(value, priority=1), lambda: tasks.mark_succeeded(value, 1),
        lambda: anext(tasks.watch(value)), lambda: tasks.list(parent_id=value),
    ):  # fmt: skip
        judge(await refusal_of(call), InvalidQueryError, "A task id is a UUID such as")


@pytest.mark.parametrize("flag", ["no", None, 0, 1])
async def test_what_is_neither_true_nor_false_ends_no_task(flag: Any):
    async with TaskStore("sqlite://") as store:
        handle = await store.enqueue("anything", {}, unchecked=True)
        tasks = store.tasks
        for name, call in (
            ("strict", lambda: tasks.cancel(handle.id, strict=flag)), ("force", lambda: tasks.cancel(handle.id, force=flag)),
            ("force", lambda: tasks.retry(handle.id, force=flag)), ("force", lambda: tasks.delete(handle.id, force=flag)),
            ("force", lambda: tasks.delete(where="all", force=flag)),
        ):  # fmt: skip
            judge(await refusal_of(call), ConfigurationError, f"{name} must be True or False, not {flag!r}")
        assert await handle.status() is TaskStatus.PENDING


@pytest.mark.parametrize("where", ["alias = 'x'", 5, ["alias"]])
async def test_a_where_that_is_no_mapping_is_refused(where: Any):
    async with TaskStore("sqlite://") as store:
        judge(await refusal_of(lambda: store.tasks.cancel(where=where)), InvalidQueryError, "where= takes filters")


@pytest.mark.acceptance("A77")
async def test_a_task_that_is_not_there_is_said_not_to_be(store: TaskStore):
    absent = uuid4()
    handle = store.handle(absent)
    for call in (
        lambda: store.tasks.require(absent), lambda: store.tasks.wait(absent, 5), lambda: store.tasks.cancel(absent),
        lambda: store.tasks.retry(absent), handle.task, lambda: handle.wait(5), lambda: handle.result(5), handle.cancel,
        lambda: anext(handle.progress()),
    ):  # fmt: skip
        judge(
            await refusal_of(call),
            TaskNotFoundError,
            f"No task {absent} is stored. It was never committed, was deleted",
        )
    assert await store.tasks.get(absent) is None
    assert await handle.status() is None
    assert await store.tasks.delete(absent) is False


# ── a store that is closed ────────────────────────────────────────────────────────────────────────────────────


def everything_of(store: TaskStore, task: Any) -> list[Callable[[], Any]]:
    handle = store.handle(uuid4())

    async def joined() -> None:
        with store.joined(object()):
            pass

    async def transaction() -> None:
        async with store.transaction():
            pass

    return [
        lambda: task.enqueue(1), lambda: task.options(delay=5).enqueue(1), lambda: task.using(object()).enqueue(1),
        lambda: store.enqueue("add", {"a": 1}), lambda: store.enqueue("x", unchecked=True),
        lambda: store.enqueue_many([task.draft(1)]), lambda: store.enqueue_soon(task.draft(1)), lambda: store.notify("x"),
        lambda: store.using(object()).enqueue("add", {"a": 1}), lambda: store.using(object()).enqueue_many([task.draft(1)]),
        lambda: store.using(object()).tasks.list(), joined, transaction,
        lambda: store.tasks.get(uuid4()), lambda: store.tasks.require(uuid4()), store.tasks.list, store.tasks.count,
        lambda: store.tasks.wait(uuid4()), lambda: store.tasks.cancel(uuid4()), lambda: store.tasks.cancel(where={"alias": "x"}),
        *(partial(act, where={"alias": "x"}) for act in actions_of(store)), store.tasks.peek, store.tasks.rescue,
        lambda: store.tasks.clone(uuid4()), lambda: store.tasks.mark_succeeded(uuid4(), 1),
        lambda: store.tasks.retry(uuid4()), lambda: store.tasks.delete(uuid4()), lambda: store.tasks.delete(where={"alias": "x"}),
        handle.result, handle.wait, handle.task, handle.status, handle.cancel, lambda: anext(handle.progress()),
        store.dispatcher().start, store.dispatcher().run_once,
    ]  # fmt: skip


async def test_a_closed_store_says_that_it_is_closed(url: str):
    store = TaskStore(url)

    @store.task
    async def add(a: int) -> int:
        return a

    words = r"The store is closed. Use `async with store:`, or `await store\.open\(\)` first"
    for _ in range(2):  # before it is opened, and after it was
        for call in everything_of(store, add):
            judge(await refusal_of(call), ConfigurationError, words)
        assert add.draft(1).payload == '{"a":1}'
        await store.flush()
        await store.close()
        async with store:
            assert await store.tasks.count() == 0


async def test_whoever_waits_when_the_store_closes_is_told(url: str):
    store = TaskStore(url)
    await store.open()
    handle = await store.enqueue("never", unchecked=True)
    waiting = [
        asyncio.get_running_loop().create_task(refusal_of(call))
        for call in (handle.result, handle.wait, lambda: store.tasks.wait(handle.id, 60))
    ]
    await eventually(lambda: len(store._require_open().waiting._waiters.get(handle.id, [])) == 3)
    await store.close()
    async with asyncio.timeout(LIMIT):
        for waiter in waiting:
            judge(await waiter, ConfigurationError, "The store is closed")


@pytest.mark.parametrize("turns", [0, 2, 5, 50])
async def test_what_is_being_enqueued_when_the_store_closes_is_stored_or_refused(url: str, turns: int):
    """Nobody is left waiting, and what an enqueue acknowledged is there."""
    store = TaskStore(url)
    await store.open()
    calls = [store.enqueue("x", {"n": n}, unchecked=True) for n in range(50)]
    calls += [store.enqueue("x", {"n": n}, unchecked=True, external_id=str(n)) for n in range(20)]
    calling = asyncio.get_running_loop().create_task(together(*calls))
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT):
        await store.close()
        answers = await calling
    stored = {answer.id for answer in answers if not isinstance(answer, BaseException)}
    for answer in answers:
        if isinstance(answer, BaseException):
            judge(answer, ConfigurationError, "The store is closed")
    async with store:
        assert stored <= {task.id for task in await store.tasks.list()}


async def test_a_store_closed_twice_or_never_opened_is_closed(url: str):
    store = TaskStore(url)
    await store.close()
    async with store:
        await store.open()
    await store.close()
    assert not store.is_open


# ── dispatchers ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_dispatcher_without_a_task_does_not_start(store: TaskStore):
    words = (
        r"No task is registered, so there is nothing to run. Import the modules that declare tasks, or store\.include"
    )
    threads = threading.active_count()
    for call in (store.dispatcher().start, store.dispatcher().run_once, store.run):
        judge(await refusal_of(call), ConfigurationError, words)
    assert threading.active_count() <= threads
    parts = store._require_open()
    assert await parts.storage.database.read(parts.storage.dispatchers.list) == []


async def test_a_running_dispatcher_is_not_run_once(store: TaskStore):
    store.include(noop)
    try:
        async with store.dispatcher() as dispatcher:
            judge(await refusal_of(dispatcher.run_once), ConfigurationError, "this one is running")
            limits: list[Any] = [0, -1, 1.5, True]
            for limit in limits:
                judge(
                    await refusal_of(partial(store.dispatcher().run_once, limit=limit)),
                    ConfigurationError,
                    "limit must be",
                )
            judge(await refusal_of(lambda: dispatcher.stop(grace=-1)), ConfigurationError, "grace must be zero or more")
            assert dispatcher.running
    finally:
        noop._stores._stores.clear()


async def test_a_current_context_is_only_to_be_had_inside_a_run(store: TaskStore):
    from aiotaskstore import current_context

    router = TaskRouter()

    @router.task
    async def asks() -> str:
        return current_context().task.alias

    with pytest.raises(ConfigurationError, match=r"works only inside a task's handler. Outside, use the handle"):
        current_context()
    store.include(router)
    handle = await asks.enqueue()
    await store.dispatcher().run_once()
    assert await handle.result(5) == "asks"
