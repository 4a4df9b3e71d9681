"""What is carried from where a task is enqueued to its runs: context variables, and what carriers capture."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from aiotaskstore import (
    ConfigurationError,
    ListenerFailed,
    OutgoingTask,
    Retry,
    TaskContext,
    TaskHandle,
    TaskStore,
)
from tests.helpers import ended, expect, my_connection

tenant: ContextVar[Any] = ContextVar("tenant", default="nobody")
locale: ContextVar[str] = ContextVar("locale")


@asynccontextmanager
async def acting_for(name: Any) -> AsyncIterator[None]:
    token = tenant.set(name)
    try:
        yield
    finally:
        tenant.reset(token)


async def test_a_variable_travels_by_every_way_of_enqueuing_and_to_the_children(store: TaskStore, url: str):
    store.carry(tenant, locale)
    seen: dict[str, tuple[Any, Any, Mapping[str, Any]]] = {}

    @store.task(max_attempts=2, backoff=0)
    async def work(context: TaskContext, way: str) -> None:
        seen[way] = (tenant.get(), locale.get(None), context.metadata)
        if way == "retried" and context.attempt == 1:
            raise Retry("again", delay=0)
        if way == "parent":
            await work.enqueue("child")
            tenant.set("another")
            await work.enqueue("child of another")

    @store.task
    def in_thread() -> None:
        seen["thread"] = (tenant.get(), locale.get(None), {})

    async with acting_for("acme"):
        handles: list[TaskHandle[Any]] = [
            await work.enqueue("one"),
            await work.options(metadata={"trace": 1}).enqueue("with metadata"),
            await store.enqueue("work", {"way": "by alias"}),
            await work.enqueue("retried"),
            await work.options(external_id="x").enqueue("with an external id"),
            await in_thread.enqueue(),
            await work.enqueue("parent"),
            store.enqueue_soon(work.draft("soon")),
            store.enqueue_soon(store.draft("elsewhere", {"way": "soon by alias"}, unchecked=True)),
        ]
        ids = await store.enqueue_many([work.draft("first of many"), work.draft("second of many")])
        async with store.transaction():
            handles.append(await work.enqueue("in a transaction"))
        draft = work.draft("a draft")
    async with acting_for({"id": 7}):
        ids += await store.enqueue_many([draft])
    await work.enqueue("with none set")
    if url != "sqlite://":
        async with my_connection(url) as mine, acting_for("acme"):
            await mine.begin()
            await work.using(mine.connection).enqueue("on a connection of the caller's")
            await mine.commit()
    await store.flush()
    elsewhere = next(one for one in await store.tasks.list(alias="elsewhere"))
    assert elsewhere.metadata == {}
    store.task(alias="elsewhere")(work.handler)
    await store.dispatcher().run_once()
    await ended(store, [*(one.id for one in handles), *ids])
    expected: dict[str, Any] = {
        way: ("acme", None, {})
        for way in (
            "one", "by alias", "retried", "with an external id", "thread", "parent", "child", "soon", "soon by alias",
            "first of many", "second of many", "in a transaction",
        )
    }  # fmt: skip
    expected["with metadata"] = ("acme", None, {"trace": 1})
    expected["a draft"] = ({"id": 7}, None, {})
    expected["child of another"] = ("another", None, {})
    expected["with none set"] = ("nobody", None, {})
    if url != "sqlite://":
        expected["on a connection of the caller's"] = ("acme", None, {})
    assert seen == expected


async def test_other_metadata_and_a_clone_keep_what_is_carried(store: TaskStore):
    store.carry(tenant)
    seen: list[tuple[Any, Any]] = []

    @store.task
    async def work(context: TaskContext) -> None:
        seen.append((tenant.get(), context.metadata))

    async with acting_for("acme"):
        first = await work.options(metadata={"a": 1}).enqueue()
        await work.options(metadata={"a": 2}).enqueue()
    async with acting_for("other"):
        await work.enqueue()
    await work.options(metadata={"a": 3}).enqueue()
    clone = await store.tasks.clone(first.id)
    assert clone.metadata == {"a": 1}
    assert await store.tasks.update(where="all", metadata={"b": 1}) == 5
    assert (await store.tasks.update(first.id, metadata={})).metadata == {}
    await store.dispatcher().run_once()
    assert sorted(seen, key=str) == sorted(
        [
            ("acme", {}),
            ("acme", {"b": 1}),
            ("acme", {"b": 1}),
            ("other", {"b": 1}),
            ("nobody", {"b": 1}),
        ],
        key=str,
    )
    await store.tasks.update(first.id, metadata={"c": 1})
    await store.tasks.retry(first.id, force=True)
    await store.dispatcher().run_once()
    assert seen[-1] == ("acme", {"c": 1})


async def test_what_is_enqueued_soon_by_alias_is_a_child_like_any_other():
    store = TaskStore("sqlite://")

    @store.task
    async def parent() -> None:
        with store.metadata(trace="t"):
            store.enqueue_soon(store.draft("elsewhere", unchecked=True))

    async with store:
        handle = await parent.enqueue()
        await store.dispatcher().run_once()
        await store.flush()
        (child,) = await store.tasks.list(alias="elsewhere")
    assert (child.parent_id, child.metadata) == (handle.id, {"trace": "t"})


@pytest.mark.parametrize(
    "value",
    [datetime.now(UTC), (1, 2), {1: "a"}, {"a", "b"}, b"raw", float("nan"), object(), "\0", "x" * 20_000],
    ids=["datetime", "tuple", "number as key", "set", "bytes", "nan", "object", "NUL", "too long"],
)
async def test_a_value_that_is_no_json_is_refused_when_enqueuing(value: Any):
    store = TaskStore("sqlite://")
    store.carry(tenant)

    @store.task
    async def work() -> None: ...

    async with store, acting_for(value):
        for enqueue in (work.enqueue, lambda: store.enqueue_many([work.draft()])):
            with pytest.raises(ConfigurationError, match=r"Nothing was stored") as refused:
                await enqueue()
            assert "tenant" in str(refused.value) or "What is carried" in str(refused.value)
        with pytest.raises(ConfigurationError):
            store.enqueue_soon(work.draft())
        assert await store.tasks.count() == 0


@pytest.mark.parametrize("value", ["", 0, False, None, 1.5, [], {"a": [None, {"b": True}]}, "Ω"])
async def test_a_value_that_is_json_arrives_as_it_was(value: Any):
    store = TaskStore("sqlite://")
    store.carry(tenant)
    seen: list[Any] = []

    @store.task
    async def work() -> None:
        seen.append(tenant.get())

    async with store:
        async with acting_for(value):
            await work.enqueue()
        await store.dispatcher().run_once()
    assert seen == [value]
    assert type(seen[0]) is type(value)


async def test_the_reserved_key_is_nobodys():
    store = TaskStore("sqlite://")

    @store.task
    async def work() -> None: ...

    with pytest.raises(ConfigurationError, match="keeps for itself"):
        work.options(metadata={"aiotaskstore": 1})
    with pytest.raises(ConfigurationError, match="keeps for itself"), store.metadata(aiotaskstore=1):
        pass
    async with store:
        task = await work.enqueue()
        with pytest.raises(ConfigurationError, match="keeps for itself"):
            await store.tasks.update(task.id, metadata={"aiotaskstore": 1})


class Stamp:
    """A carrier: what it captures names the task."""

    name = "stamp"

    def __init__(self) -> None:
        self.restored: list[Any] = []

    def capture(self, task: OutgoingTask) -> Mapping[str, Any] | None:
        if task.alias == "unstamped":
            return None
        return {"id": str(task.id), "queue": task.queue, "size": len(task.payload)}

    def restore(self, values: Mapping[str, Any], context: TaskContext) -> None:
        self.restored.append((values["id"] == str(context.task_id), values["queue"], values["size"]))


async def test_a_carrier_captures_and_restores_once_a_task_and_a_run():
    store, stamp = TaskStore("sqlite://"), Stamp()
    store.carry(stamp)
    store.carry(stamp)  # the same again

    @store.task(queue="mails")
    async def work(n: int) -> None: ...

    @store.task
    async def unstamped() -> None: ...

    async with store:
        await work.enqueue(1)
        await unstamped.enqueue()
        await store.dispatcher().run_once()
    assert stamp.restored == [(True, "mails", len('{"n":1}'))]


async def test_a_carrier_that_raises_fails_the_enqueue_and_never_a_run():
    class Broken(Stamp):
        broken = True

        def capture(self, task: OutgoingTask) -> Mapping[str, Any] | None:
            if self.broken:
                raise LookupError("no stamp")
            return super().capture(task)

        def restore(self, values: Mapping[str, Any], context: TaskContext) -> None:
            raise LookupError("no ink")

    store, carrier = TaskStore("sqlite://"), Broken()
    store.carry(carrier)

    @store.task
    async def work() -> int:
        return 1

    async with store:
        with pytest.raises(ConfigurationError, match='"stamp" raised LookupError: no stamp'):
            await work.enqueue()
        carrier.broken = False
        handle = await work.enqueue()
        async with expect(store, ListenerFailed, task_id=handle.id):
            await store.dispatcher().run_once()
        assert await handle.result() == 1


@pytest.mark.parametrize("captured", [["id"], "id", 0, {1: "id"}], ids=repr)
async def test_what_is_captured_is_a_mapping_with_text_keys(captured: Any):
    class Odd(Stamp):
        def capture(self, task: OutgoingTask) -> Mapping[str, Any] | None:
            return cast("Mapping[str, Any]", captured)

    store = TaskStore("sqlite://")
    store.carry(Odd())

    @store.task
    async def work() -> None: ...

    async with store:
        with pytest.raises(ConfigurationError, match=r'"stamp" captured .* a mapping with text keys'):
            await work.enqueue()
        assert await store.tasks.count() == 0


def test_a_carrier_that_would_not_be_called_right_is_refused():
    class Odd:
        name = "odd"

        def __init__(self, capture: Any, restore: Any) -> None:
            self.capture, self.restore = capture, restore

    async def later(values: Mapping[str, Any], context: TaskContext) -> None: ...

    with pytest.raises(ConfigurationError, match=r"is called with \(task\), which .* does not take"):
        TaskStore("sqlite://").carry(Odd(lambda: None, lambda values, context: None))
    with pytest.raises(ConfigurationError, match="`async def`, which nobody would await"):
        TaskStore("sqlite://").carry(Odd(lambda task: None, later))


def test_what_cannot_be_carried_is_refused():
    store = TaskStore("sqlite://")
    store.carry(tenant, tenant)
    with pytest.raises(ConfigurationError, match='named "tenant"'):
        store.carry(ContextVar("tenant"))
    for wrong in ("tenant", None, Stamp, object()):
        with pytest.raises(ConfigurationError, match="takes context variables"):
            store.carry(wrong)  # type: ignore[arg-type] # wrong on purpose
    store.carry(Stamp())
    with pytest.raises(ConfigurationError, match='named "stamp" is there already'):
        store.carry(Stamp())
