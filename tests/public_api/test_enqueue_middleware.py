"""Enqueue middleware: called around every enqueue, and unable to lose one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from aiotaskstore import ConfigurationError, Draft, DuplicateTaskError, ListenerFailed, TaskContext, TaskStore
from aiotaskstore.enqueue_middleware import StoreDrafts
from tests.helpers import expect


async def test_it_is_around_every_enqueue_and_the_first_is_the_outermost(store: TaskStore):
    seen: list[Any] = []

    @store.enqueue_middleware
    async def outer(drafts: Sequence[Draft[Any]], call_next: StoreDrafts) -> Any:
        seen.append(("outer", len(drafts)))
        ids = await call_next(drafts)
        seen.append(("stored", await store.tasks.count(id_in=ids)))
        return ids

    @store.enqueue_middleware
    async def inner(drafts: Sequence[Draft[Any]], call_next: StoreDrafts) -> None:
        seen.append("inner")
        await call_next([replace(one, options={**one.options, "source": "inner"}) for one in drafts])

    @store.task
    async def work(n: int) -> int:
        return n

    one = await work.enqueue(1)
    assert seen == [("outer", 1), "inner", ("stored", 1)]
    seen.clear()
    ids = await store.enqueue_many([work.draft(2), work.draft(3)])
    assert seen == [("outer", 2), "inner", ("stored", 2)]
    seen.clear()
    async with store.transaction() as connection:
        await store.using(connection).enqueue("work", {"n": 4})
        await store.using(connection).enqueue_many([work.draft(5)])
    assert await store.enqueue_many([]) == []
    store.enqueue_soon(work.draft(6))
    await store.flush()
    assert [one for one in seen if one == "inner"] == ["inner", "inner"], "not for what is enqueued soon"
    assert [(await store.tasks.require(id)).source for id in (one.id, *ids)] == ["inner"] * 3
    await store.dispatcher().run_once()
    assert await one.result() == 1


async def test_what_an_enqueue_ends_with_cannot_be_hidden():
    store = TaskStore("sqlite://")
    doing = ""

    @store.enqueue_middleware
    async def middleware(drafts: Sequence[Draft[Any]], call_next: StoreDrafts) -> Any:
        match doing:
            case "twice":
                await call_next(drafts)
                await call_next(drafts)
            case "more":
                await call_next([*drafts, *drafts])
            case "no drafts":
                await call_next(["work"])  # type: ignore[list-item] # wrong on purpose
            case "swallow":
                with pytest.raises(DuplicateTaskError):
                    await call_next(drafts)
            case "refuse":
                raise PermissionError("not today")
            case "pass":
                await call_next(drafts)
            case _:
                pass

    @store.task
    async def work() -> None: ...

    async with store:
        refused: list[tuple[str, type[Exception], str]] = [
            ("nothing", ConfigurationError, "nothing is stored"),
            ("more", ConfigurationError, "2 drafts on, of 1"),
            ("no drafts", ConfigurationError, "takes drafts"),
            ("refuse", PermissionError, "not today"),
        ]
        for wanted, error, text in refused:
            doing = wanted
            with pytest.raises(error, match=text):
                await work.enqueue()
            assert await store.tasks.count() == 0
        doing = "twice"
        with pytest.raises(ConfigurationError, match="twice"):
            await work.enqueue()
        doing = "pass"
        await work.options(external_id="a").enqueue()
        doing = "swallow"
        with pytest.raises(DuplicateTaskError):
            await work.options(external_id="a").enqueue()
    wrong_ones: list[Any] = [None, 1, TaskStore, lambda drafts, call_next: None]
    for wrong in wrong_ones:
        with pytest.raises(ConfigurationError, match="An enqueue middleware is"):
            store.enqueue_middleware(wrong)

    async def takes_nothing() -> None: ...

    with pytest.raises(ConfigurationError, match="enqueue middleware is called with"):
        store.enqueue_middleware(takes_nothing)  # type: ignore[type-var] # wrong on purpose


async def test_call_next_stores_nothing_once_whoever_enqueues_was_told_so():
    store = TaskStore("sqlite://")
    kept: list[Any] = []

    @store.enqueue_middleware
    async def forgetful(drafts: Sequence[Draft[Any]], call_next: StoreDrafts) -> None:
        if not kept:
            kept.append(partial(call_next, drafts))
            return
        kept.append(group.create_task(cast("Coroutine[Any, Any, Any]", call_next(drafts))))
        await asyncio.sleep(0)  # it has begun

    @store.task
    async def work() -> None: ...

    async with store:
        with pytest.raises(ConfigurationError, match="nothing is stored"):
            await work.enqueue()
        with pytest.raises(ConfigurationError, match=r"had ended when .* called call_next, so nothing is stored"):
            await kept[0]()
        assert await store.tasks.count() == 0
        async with asyncio.TaskGroup() as group:
            with pytest.raises(ConfigurationError, match=r"returned before .* the tasks may be stored or not"):
                await work.enqueue()
        assert [await store.tasks.count(id=id) for id in kept[1].result()] == [1]


async def test_hooks_are_called_inside_a_context_manager_that_sees_their_errors():
    store = TaskStore("sqlite://")
    seen: list[Any] = []

    @store.around_hooks
    def outer(name: str, context: TaskContext) -> AbstractContextManager[None]:
        return watching("outer", name.rpartition(".")[2], context)

    @contextmanager
    def watching(who: str, name: str, context: TaskContext) -> Any:
        seen.append((who, name, context.task.alias))
        try:
            yield
        except ValueError as error:
            seen.append((who, str(error)))
            raise

    store.around_hooks(lambda name, context: watching("inner", name.rpartition(".")[2], context))

    @store.before
    def looks(context: TaskContext) -> None:
        seen.append("looks")

    @store.after
    async def fails(context: TaskContext, task: Any, error: BaseException | None) -> None:
        raise ValueError("no good")

    @store.task
    async def work() -> int:
        seen.append("works")
        return 1

    async with store:
        handle = await work.enqueue()
        async with expect(store, ListenerFailed):
            await store.dispatcher().run_once()
        assert await handle.result() == 1
    assert seen == [
        ("outer", "looks", "work"), ("inner", "looks", "work"), "looks", "works",
        ("outer", "fails", "work"), ("inner", "fails", "work"), ("inner", "no good"), ("outer", "no good"),
    ]  # fmt: skip
    with pytest.raises(ConfigurationError):
        store.around_hooks(lambda: None)  # type: ignore[type-var] # wrong on purpose


async def test_a_context_tells_why_its_run_is_to_end():
    store = TaskStore("sqlite://")
    reasons: list[str | None] = []

    @store.task(timeout=0.05)
    async def work(context: TaskContext) -> None:
        reasons.append(context.stop_reason)
        try:
            await expect_cancellation()
        finally:
            reasons.append(context.stop_reason)

    async def expect_cancellation() -> None:
        await asyncio.Event().wait()

    async with store:
        await work.enqueue()
        await store.dispatcher().run_once()
    assert reasons == [None, "timeout"]
