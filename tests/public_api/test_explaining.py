"""`store.tasks.why`: a sentence for every reason why a task does not run."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest

from aiotaskstore import InvalidQueryError, TaskNotFoundError, TaskStarted, TaskStore
from aiotaskstore.mechanics.ids import new_id
from tests.helpers import LIMIT, expect


async def test_a_task_that_does_not_run_is_explained(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async def why(task_id: object, words: str) -> None:
        told = await store.tasks.why(task_id)  # type: ignore[arg-type]
        assert re.search(words, told), told
        assert told.endswith(".")

    later, due, other = (
        await work.options(delay=3600).enqueue(), await work.enqueue(), await store.enqueue("other", unchecked=True),
    )  # fmt: skip
    await why(later.id, r"^It is due at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, in (59m\d+s|1h)\.$")
    await why(due.id, 'It is due, but no dispatcher that is alive serves its queue "default"')
    async with store.dispatcher(queues="default", poll_interval=50):
        await why(other.id, 'no dispatcher that serves its queue "default" has a handler for "other"')
        await due.wait(timeout=LIMIT)
        await why(str(due.id), r"^It has finished: succeeded \(ok\) at .* UTC\. A retry runs it again\.$")
        await store.queues.pause("default", "a holiday")
        await why(other.id, r'its queue "default" is paused since .* UTC \(a holiday\); no dispatcher')
        held = await work.enqueue()
        await why(held.id, r'^It is due, but its queue "default" is paused since [^;]*\.$')
        await store.tasks.pause(held.id)
        await why(held.id, "It is paused: it runs only once it is resumed")
        await store.queues.resume("default")
    definition = await store.definitions.get_by_alias("work")
    assert definition is not None
    await store.tasks.resume(held.id)
    await store.definitions.cancel(definition.id)
    await why(held.id, 'its definition "work" is cancelled; no dispatcher')


async def test_a_task_that_waits_for_its_key_or_runs_is_explained(store: TaskStore):
    let_go = asyncio.Event()

    @store.task(serialization_key=lambda: "tenant-7")
    async def work() -> None:
        while not let_go.is_set():  # whoever cancels it
            with suppress(asyncio.CancelledError):
                await let_go.wait()

    async with store.dispatcher(queues="default", name="alpha"):
        async with expect(store, TaskStarted):
            running = await work.enqueue()
        waiting = await work.enqueue()
        assert re.fullmatch(
            r"It runs since .* UTC, on dispatcher alpha \(process \d+ on .*\)\.", await store.tasks.why(running.id)
        )
        told = await store.tasks.why(waiting.id)
        assert told == f'Its serialization key "tenant-7" is held by task {running.id}, which is running.'
        await store.tasks.cancel(running.id)
        assert "its cancellation was requested" in await store.tasks.why(running.id)
        let_go.set()
        await waiting.wait(timeout=LIMIT)
    await store.queues.pause("default")
    holder, behind = await work.enqueue(), await work.enqueue()
    told = await store.tasks.why(behind.id)
    assert f"is held by task {holder.id}, which is pending, but its queue" in told


async def test_nothing_is_explained_of_what_is_not_there(store: TaskStore):
    hidden = await store.enqueue("work", unchecked=True)
    await store.tasks.soft_delete(hidden.id)
    for absent in (new_id(), hidden.id, "nope"):
        with pytest.raises(TaskNotFoundError):
            await store.tasks.why(absent)
    with pytest.raises(InvalidQueryError):
        await store.tasks.why("")
