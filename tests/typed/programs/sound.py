"""A user's program that must pass mypy --strict and pyright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, assert_type
from uuid import UUID

from pydantic import BaseModel

from aiotaskstore import (
    Dispatcher,
    Draft,
    Progress,
    Queue,
    Retention,
    Retry,
    Task,
    TaskContext,
    TaskDefinition,
    TaskFilters,
    TaskFinished,
    TaskHandle,
    TaskOptions,
    TaskRouter,
    TaskStatus,
    TaskStore,
    current_context,
    exponential,
    noop,
    steps,
)

store = TaskStore("sqlite://")
router = TaskRouter()


class Order(BaseModel):
    id: int


@dataclass
class Receipt:
    total: int


class Line(TypedDict):
    article: str


@store.task
async def bare(user_id: int, *, locale: str = "en") -> str:
    return f"{user_id} {locale}"


@store.task(queue="emails", max_attempts=5, timeout=30)
async def called(user_id: int) -> Receipt:
    return Receipt(user_id)


@store.task
def sync(order: Order) -> int:
    return order.id


@router.task(alias="with-context")
async def with_context(context: TaskContext, lines: list[Line]) -> bool:
    return context.cancelled or not lines


@router.task
def sync_with_context(context: TaskContext) -> None:
    context.info("hello")


async def main(connection: object) -> None:
    handle = await bare.enqueue(42, locale="bg")
    assert_type(handle, TaskHandle[str])
    assert_type(await handle.result(timeout=5), str)
    assert_type(await handle.task(), Task)
    assert_type(await (await called.options(delay=5).enqueue(1)).result(), Receipt)
    assert_type(await (await sync.enqueue(Order(id=1))).result(), int)
    assert_type(
        await (await with_context.using(connection).options(priority=1).enqueue([{"article": "a"}])).result(), bool
    )
    assert_type(await (await sync_with_context.enqueue()).result(), None)
    assert_type(bare.draft(1), Draft[str])
    assert_type(await bare(1), str)
    assert_type(await sync(Order(id=1)), int)
    assert_type(await store.enqueue_many([bare.draft(1), called.draft(2)]), list[UUID])
    assert_type(store.enqueue_soon(bare.draft(1)), TaskHandle[str])
    assert_type(await store.tasks.cancel(handle.id), Task)
    assert_type(await store.tasks.cancel(where={"queue": "emails"}), int)
    assert_type(await store.tasks.delete(handle.id), bool)
    assert_type(await store.tasks.get(handle.id), Task | None)
    await store.tasks.list(queue="emails", status=["failed"], owner=("user", "42"), limit=50)


def wait(attempt: int, error: BaseException) -> float:
    return attempt * (2.0 if isinstance(error, OSError) else 1.0)


@store.task(
    alias="many-options", title="Many options", description="Takes what there is", queue="emails", priority=-1,
    max_attempts=3, backoff=wait, retry_on=(OSError, TimeoutError), timeout=timedelta(minutes=1),
    retention=Retention(keep="failed", period=None, payload="none"), on_stuck="interrupt", on_decode_error="cancel",
    external_id=lambda a, b=0: f"{a}-{b}", former_aliases=["old"],
)  # fmt: skip
async def many_options(a: int, b: int = 0, /, *, c: str = "x") -> list[dict[str, Receipt]]:
    raise Retry("why", delay=timedelta(seconds=5))


@store.task(backoff=steps([5, timedelta(minutes=1)], cycle=True), retry_on="retryable")
def nothing() -> None: ...


@router.task(backoff=exponential(base=1, jitter=0.1))
async def free(kind: Literal["a", "b"], **more: int) -> Literal["done"]:
    assert_type(current_context(), TaskContext)
    return "done"


@router.task
async def open_first(value: object, count: int) -> float:
    return float(count)


definition: TaskDefinition[[int], Receipt] = called
chosen: TaskOptions = {"delay": timedelta(hours=1), "owner": ("user", "42"), "metadata": {"a": [1, None]}}
filters: TaskFilters = {"status": [TaskStatus.FAILED, "cancelled"], "owner": "user", "limit": 5}


@store.on(TaskFinished)
def finished(event: TaskFinished) -> None:
    assert_type(event.status, TaskStatus)
    assert_type(event.took, float)


async def hears(event: TaskFinished) -> None:
    assert_type(event.error, BaseException | None)


store.on(TaskFinished, hears)


async def more(connection: object) -> None:
    other = TaskStore("sqlite://", queues=[Queue("emails", concurrency=20, backoff=5)], retention=Retention(period=60))
    other.include(router)
    other.include(called)
    assert_type(await (await many_options.enqueue(1, 2, c="y")).result(), list[dict[str, Receipt]])
    assert_type(await nothing.enqueue(), TaskHandle[None])
    assert_type(await noop.enqueue(), TaskHandle[None])
    assert_type(await free.enqueue("a", x=1, y=2), TaskHandle[Literal["done"]])
    assert_type(await (await open_first.enqueue("anything", 5)).result(), float)
    assert_type(await called.options(**chosen).options(run_at=datetime.now(UTC)).enqueue(1), TaskHandle[Receipt])
    assert_type(await called.using(connection).options(queue=None).enqueue(1), TaskHandle[Receipt])
    assert_type(called.options(priority=1).using(connection).draft(1), Draft[Receipt])
    assert_type(await definition.enqueue(1), TaskHandle[Receipt])
    async with other as opened:
        assert_type(opened, TaskStore)
        async with opened.dispatcher(queues={"emails": 20}, lease=timedelta(seconds=30), healer=False) as dispatcher:
            assert_type(dispatcher, Dispatcher)
            assert_type(await dispatcher.stop(grace=5), bool)
        assert_type(await opened.dispatcher(queues=["emails", Queue("slow")]).run_once(limit=1), int)
        async with opened.transaction() as ours:
            await opened.using(ours).enqueue("many-options", {"a": 1}, unchecked=True, delay=5)
        assert_type(await opened.enqueue("many-options", {"a": 1}, **chosen), TaskHandle[Any])
        assert_type(await opened.using(connection).enqueue_many([called.draft(1), nothing.draft()]), list[UUID])
        assert_type(await opened.tasks.list(**filters), Sequence[Task])
        assert_type(await opened.tasks.count(alias=["a", "b"], created_from=datetime.now(UTC)), int)
        handle = opened.handle("01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a")
        assert_type(await handle.status(), TaskStatus | None)
        assert_type(await opened.tasks.wait(handle.id, timedelta(seconds=5)), Task)
        assert_type(await opened.tasks.cancel(handle.id, strict=False), Task | Literal[False])
        assert_type(await opened.tasks.retry(handle.id, force=True), Task)
        assert_type(await opened.tasks.retry(where=filters), int)
        assert_type(await opened.tasks.delete(where={"alias": "x"}, force=True), int)
        async for progress in handle.progress():
            assert_type(progress, Progress)
        with opened.metadata(trace_id="x"):
            await opened.flush()
        await opened.notify("emails", "default")
