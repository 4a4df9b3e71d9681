"""Tasks name the record of their definition, whoever enqueued them and however."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import TaskContext, TaskRouter, TaskStore
from aiotaskstore.manage import known_definitions
from tests.helpers import LIMIT, my_connection


async def record_of(store: TaskStore, alias: str) -> UUID:
    parts = store._require_open()
    definition = await parts.storage.database.read(lambda: parts.storage.definitions.get_by_alias(alias))
    assert definition is not None
    return definition.id


async def test_a_task_names_its_definition_before_any_dispatcher_has_run(url: str):
    store = TaskStore(url)

    @store.task(external_id=lambda n: str(n) if n > 90 else None)
    async def work(context: TaskContext, n: int) -> str:
        return str(context.task.definition_id)

    async with store:
        wanted = await record_of(store, "work")
        handles = [await work.enqueue(1), await store.enqueue("work", {"n": 2}), store.enqueue_soon(work.draft(3))]
        handles += [store.handle(id_) for id_ in await store.enqueue_many([work.draft(4), work.draft(99)])]
        async with store.transaction():
            handles.append(await work.enqueue(5))
        await store.flush()
        await store.dispatcher().run_once()
        for handle in handles:
            assert (await handle.task()).definition_id == wanted
            assert await handle.result(LIMIT) == str(wanted), "its run sees it too"
        assert len(await store.tasks.list(definition_id=wanted)) == len(handles)
        await store.tasks.retry(handles[0].id, force=True)
        assert (await handles[0].task()).definition_id == wanted


async def test_a_task_registered_later_names_its_definition_too(store: TaskStore):
    router = TaskRouter()

    @router.task
    async def first(n: int) -> None: ...

    @router.task
    async def second(n: int) -> None: ...

    store.include(router)
    handles = [await first.enqueue(1), store.enqueue_soon(second.draft(1))]
    await store.flush()
    for handle, alias in zip(handles, ("first", "second"), strict=True):
        assert (await handle.task()).definition_id == await record_of(store, alias)


async def test_every_service_names_the_same_record(url: str):
    """Also those that open at once, and those that know the task by its alias alone."""

    def service() -> TaskStore:
        made = TaskStore(url)

        @made.task
        async def work(n: int) -> None: ...

        return made

    async with TaskStore(url) as by_alias:
        stores = [service() for _ in range(5)]
        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(store.open())
        try:
            enqueuers: list[Any] = [*stores, by_alias]
            tasks = [await (await store.enqueue("work", {"n": 1})).task() for store in enqueuers]
        finally:
            for store in stores:
                await store.close()
        assert {task.definition_id for task in tasks} == {await record_of(by_alias, "work")}


async def test_what_a_dispatcher_published_is_not_changed_by_who_only_enqueues(url: str):
    old, new = TaskStore(url), TaskStore(url)
    new.task(alias="work", queue="new")(_work)
    old.task(alias="work", queue="old")(_work)
    async with new, TaskStore(url) as by_alias:
        async with new.dispatcher():
            pass
        async with old:
            pass
        assert (await (await by_alias.enqueue("work")).task()).queue == "new"


async def test_definitions_are_looked_up_once_by_many_enqueues(store: TaskStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(known_definitions, "BELIEVED_FOR", inf)

    @store.task
    async def work(n: int) -> None: ...

    definitions = store._require_open().storage.definitions
    known, asked = definitions.known, 0

    def counted() -> Any:
        nonlocal asked
        asked += 1
        return known()

    definitions.known = counted  # type: ignore[method-assign]
    for n in range(5):
        await work.enqueue(n)
    await store.enqueue_many([work.draft(n) for n in range(5)])
    assert asked <= 3, "when it was not known yet, before it was written and after"


async def test_a_rolled_back_transaction_leaves_no_id_behind_that_never_was(store: TaskStore, url: str):
    @store.task
    async def work(n: int) -> None: ...

    async with my_connection(url) as mine:
        await mine.begin()
        await work.using(mine.connection).enqueue(1)
        await mine.rollback()
    handle = await work.enqueue(2)
    assert (await handle.task()).definition_id == await record_of(store, "work")


async def _work() -> None: ...


async def test_many_who_enqueue_what_was_just_registered_look_once(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    definitions = store._require_open().storage.definitions
    announce, announced = definitions.announce, 0

    def counted(records: Any) -> Any:
        nonlocal announced
        announced += 1
        return announce(records)

    definitions.announce = counted  # type: ignore[assignment]
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(work.enqueue(n)) for n in range(50)]
    assert announced == 1
    ids = {(await call.result().task()).definition_id for call in calls}
    assert ids == {await record_of(store, "work")}
