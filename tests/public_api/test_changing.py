"""Values of tasks that are changed, and new tasks made of old ones."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aiotaskstore import (
    ConfigurationError,
    DefinitionInactiveError,
    InvalidTransitionError,
    PayloadError,
    Retention,
    TaskEnqueued,
    TaskStarted,
    TaskStatus,
    TaskStore,
)
from tests.helpers import LIMIT, expect


async def test_an_update_writes_what_is_named_and_nothing_else(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    draft = work.options(queue="a", priority=3, max_attempts=2, timeout=5, metadata={"trace": 1}, external_id="one")
    handle = await draft.enqueue(1)
    before = await handle.task()
    values: dict[str, Any] = {
        "queue": "b", "priority": -7, "payload": {"n": 2}, "metadata": {"other": True}, "max_attempts": 9,
        "timeout": timedelta(minutes=1),
    }  # fmt: skip
    changed: dict[str, Any] = {}
    for name, value in values.items():
        task = await store.tasks.update(handle.id, **{name: value})
        changed[name] = value
        for other in values:
            assert getattr(task, other) == changed.get(other, getattr(before, other)), f"{other} after {name}"
        assert (task.status, task.run_at, task.external_id) == (before.status, before.run_at, before.external_id)
    cleared = await store.tasks.update(handle.id, timeout=None, metadata={}, queue=None)
    assert (cleared.timeout, cleared.metadata, cleared.queue) == (None, {}, "default")
    assert (cleared.payload, cleared.priority, cleared.max_attempts) == ({"n": 2}, -7, 9)
    assert cleared.updated_at > before.updated_at


async def test_two_who_change_different_values_of_one_task_lose_neither(store: TaskStore):
    handle = await store.enqueue("work", unchecked=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(store.tasks.update(handle.id, priority=5))
        group.create_task(store.tasks.update(handle.id, metadata={"by": "the other"}))
    task = await handle.task()
    assert (task.priority, task.metadata) == (5, {"by": "the other"})


async def test_a_task_runs_with_what_was_changed(store: TaskStore):
    runs: list[int] = []

    @store.task
    async def work(n: int) -> None:
        runs.append(n)

    first, second, third = [await work.enqueue(n) for n in range(3)]
    await store.tasks.update(first.id, priority=1)
    await store.tasks.update(second.id, payload={"n": 7})
    await store.tasks.update(third.id, queue="other")
    await store.dispatcher(queues="default", concurrency=1).run_once()
    assert runs == [7, 0]
    await store.dispatcher(queues="other").run_once()
    assert runs == [7, 0, 2]


async def test_what_is_moved_to_another_queue_wakes_its_dispatcher(store: TaskStore):
    @store.task
    async def work() -> None: ...

    handle = await work.options(queue="one").enqueue()
    async with store.dispatcher(queues="two", poll_interval=50):
        await store.tasks.update(handle.id, queue="two")
        await handle.wait(timeout=LIMIT)


async def test_a_finished_task_is_changed_and_retried_with_that(store: TaskStore):
    @store.task(retention=Retention(payload="none"))
    async def work(n: int) -> int:
        if n < 0:
            raise ValueError
        return n

    handle = await work.enqueue(-1)
    await store.dispatcher().run_once()
    task = await store.tasks.update(handle.id, payload={"n": 5}, max_attempts=2)
    assert (task.status, task.payload, task.max_attempts) == (TaskStatus.FAILED, {"n": 5}, 2)
    await store.tasks.retry(handle.id)
    await store.dispatcher().run_once()
    assert await handle.result() == 5


async def test_many_are_changed_in_batches_and_running_ones_skipped(store: TaskStore):
    let_go = asyncio.Event()

    @store.task
    async def wait() -> None:
        await let_go.wait()

    @store.task
    async def work(n: int) -> None: ...

    ids = await store.enqueue_many([work.options(queue="later").draft(n) for n in range(1200)])
    async with store.dispatcher(queues="default"):
        async with expect(store, TaskStarted):
            running = await wait.enqueue()
        with pytest.raises(InvalidTransitionError, match="running"):
            await store.tasks.update(running.id, priority=1)
        assert await store.tasks.update(where="all", priority=1) == 1200
        assert await store.tasks.update(where={"queue": "later", "limit": 1100}, payload={"n": 7}) == 1100
        let_go.set()
    assert await store.tasks.count(alias="work") == len(ids)
    assert sum(task.payload == {"n": 7} for task in await store.tasks.list(alias="work")) == 1100
    assert {task.priority for task in await store.tasks.list(alias="work")} == {1}


async def test_a_payload_is_checked_for_every_task_that_it_is_for(store: TaskStore):
    @store.task
    async def one(n: int) -> None: ...

    @store.task
    async def two(n: str) -> None: ...

    handles = [await one.enqueue(1), await two.enqueue("1"), await store.enqueue("else", {"x": 1}, unchecked=True)]
    before = [await handle.task() for handle in handles]
    wrong: list[Any] = [{"n": "a"}, {"m": 1}, {}, [1], "n", None, {1: 2}, {"n": float("nan")}, {"n": "x" * 2_000_000}]
    for payload in wrong:
        for act in (store.tasks.update, store.tasks.clone):
            if payload is None and act == store.tasks.clone:
                continue
            with pytest.raises((PayloadError, ConfigurationError), match=r"payload"):
                await act(handles[0].id, payload=payload)
    with pytest.raises(PayloadError, match='"two"'):
        await store.tasks.update(where={"alias": ["one", "two"]}, payload={"n": 1})
    with pytest.raises(PayloadError, match=r'"one"|"two"'):
        await store.tasks.clone(where="all", payload={"m": 1})
    assert [await handle.task() for handle in handles] == before
    assert await store.tasks.count() == 3
    assert await store.tasks.update(where={"alias": ["one", "else"]}, payload={"n": 7}) == 2
    assert [(await handle.task()).payload for handle in handles] == [{"n": 7}, {"n": "1"}, {"n": 7}]


async def test_a_change_that_cannot_be_is_refused_and_nothing_is_written(store: TaskStore):
    handle = await store.enqueue("work", unchecked=True)
    before = await handle.task()
    wrong: list[dict[str, Any]] = [
        {}, {"status": "failed"}, {"run_at": 1}, {"priority": None}, {"priority": "1"},
        {"priority": 2**40}, {"max_attempts": 0}, {"max_attempts": None}, {"timeout": 0}, {"timeout": -1},
        {"metadata": None}, {"metadata": [1]}, {"metadata": {"a": object()}}, {"queue": "x" * 101}, {"queue": 7},
        {"queue": "ok", "priority": 1.5},
    ]  # fmt: skip
    for changes in wrong:
        with pytest.raises(ConfigurationError) as caught:
            await store.tasks.update(handle.id, **changes)
        assert any(name in str(caught.value) for name in [*changes, "nothing to change", "A queue name"]), changes
        with pytest.raises(ConfigurationError):
            await store.tasks.update(where="all", **changes)
    assert await handle.task() == before


async def test_a_clone_is_a_new_task_like_the_old_one_without_its_past(store: TaskStore):
    @store.task(max_attempts=3, backoff=0)
    async def work(n: int) -> None:
        raise ValueError

    options = work.options(
        queue="q", priority=4, timeout=9, external_id="one", owner=("user", "1"), source="web", metadata={"t": 1},
        retention=Retention(period=60),
    )  # fmt: skip
    handle = await options.enqueue(1)
    await store.dispatcher().run_once()
    async with expect(store, TaskEnqueued) as events:
        clone = await store.tasks.clone(handle.id)
    old = await handle.task()
    assert [getattr(event, "task_id", None) for event in events] == [clone.id]
    assert clone.id != old.id
    same = (
        "alias", "queue", "priority", "payload", "max_attempts", "timeout", "owner", "source", "metadata", "retention",
        "definition_id",
    )  # fmt: skip
    assert {name: getattr(clone, name) for name in same} == {name: getattr(old, name) for name in same}
    assert (clone.status, clone.attempt, clone.errors, clone.error) == (TaskStatus.PENDING, 0, [], None)
    assert (clone.external_id, clone.finish_reason, clone.finished_at, clone.expires_at) == (None,) * 4
    assert clone.created_at > old.created_at
    other = await store.tasks.clone(clone.id, payload={"n": 8}, queue="")
    assert (other.payload, other.queue, other.priority) == ({"n": 8}, "default", 4)
    assert await store.tasks.get(handle.id) == old


async def test_a_clone_wakes_an_idle_dispatcher(store: TaskStore):
    @store.task
    async def work() -> str:
        return "done"

    async with store.dispatcher(poll_interval=50):
        handle = await work.enqueue()
        await handle.wait(timeout=LIMIT)
        clone = await store.tasks.clone(handle.id)
        assert await store.handle(clone.id).result(timeout=LIMIT) == "done"


async def test_many_are_cloned_each_once(store: TaskStore):
    await store.enqueue_many([store.draft("work", {"n": n}, unchecked=True) for n in range(1100)])
    done = await store.enqueue("done", unchecked=True)
    await store.tasks.mark_succeeded(done.id)
    assert await store.tasks.clone(where="all", queue="again") == 1101
    clones = await store.tasks.list(queue="again", alias="work")
    assert sorted(task.payload["n"] for task in clones) == list(range(1100))
    assert await store.tasks.count() == 2202
    assert await store.tasks.clone(where={"queue": "again", "limit": 5}) == 5


async def test_what_kept_no_payload_is_cloned_only_with_one(store: TaskStore):
    @store.task(retention=Retention(payload="none"))
    async def work(n: int) -> None: ...

    handle = await work.enqueue(1)
    await store.dispatcher().run_once()
    with pytest.raises(InvalidTransitionError, match="payload="):
        await store.tasks.clone(handle.id)
    assert await store.tasks.clone(where={"alias": "work"}) == 0
    assert (await store.tasks.clone(handle.id, payload={"n": 3})).payload == {"n": 3}


async def test_nothing_is_cloned_of_a_cancelled_definition(store: TaskStore):
    @store.task
    async def work() -> None: ...

    @store.task
    async def other() -> None: ...

    handle, _ = await work.enqueue(), await other.enqueue()
    definition = await store.definitions.get_by_alias("work")
    assert definition is not None
    await store.definitions.cancel(definition.id)
    with pytest.raises(DefinitionInactiveError, match='"work"'):
        await store.tasks.clone(handle.id)
    assert await store.tasks.clone(where="all") == 1, "the others"
    await store.definitions.activate(definition.id)
    assert (await store.tasks.clone(handle.id)).status is TaskStatus.PENDING
