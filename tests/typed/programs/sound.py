"""A user's program that must pass mypy --strict and pyright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, assert_type
from uuid import UUID

from psycopg import AsyncConnection
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from aiotaskstore import (
    Backoff,
    Definition,
    DefinitionFilters,
    DefinitionStatus,
    Dispatcher,
    DispatcherOptions,
    Draft,
    Every,
    Progress,
    Queue,
    Retention,
    Retry,
    Schedule,
    StoreOptions,
    Task,
    TaskContext,
    TaskDefinition,
    TaskFilters,
    TaskFinished,
    TaskHandle,
    TaskHandler,
    TaskOptions,
    TaskRouter,
    TaskSelection,
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


async def directly(context: TaskContext) -> None:
    assert_type(await bare(1, locale="bg"), str)
    assert_type(await with_context([]), bool)
    assert_type(await with_context(context, []), bool)
    assert_type(await sync_with_context(), None)
    await sync_with_context(context)


def waits(attempt: int, error: BaseException) -> float:
    return attempt if isinstance(error, OSError) else 1.5


backoff: Backoff = waits
constant_backoff: Backoff = exponential(base=5)
dispatching: DispatcherOptions = {"queues": {"emails": 5}, "on_missing": "fail", "cleaner": False}
opening: StoreOptions = {"prefix": "jobs_", "wait_interval": timedelta(seconds=1), "queues": [Queue("emails")]}


@store.task(backoff=backoff)
async def backs_off() -> None: ...


async def options(where: TaskSelection, filters: TaskFilters) -> None:
    assert_type(TaskStore.from_env(**opening), TaskStore)
    assert_type(TaskStore.from_env(pool_size=5, migrate=False, retention=Retention(keep="none")), TaskStore)
    assert_type(await store.run(**dispatching), bool)
    assert_type(await store.run(queues=["emails"], concurrency=5, grace=timedelta(seconds=5)), bool)
    assert_type(store.dispatcher(on_missing="fail", name="worker"), Dispatcher)
    assert_type(await store.tasks.cancel(where={"queue": "emails"}, strict=False), int)
    assert_type(await store.tasks.cancel(where="all", reason="all of them", force=True), int)
    assert_type(await store.tasks.retry(where=where), int)
    assert_type(await store.tasks.delete(where={"status": ["failed"], "limit": 5, "include_deleted": True}), int)
    assert_type(await store.tasks.list(**filters), Sequence[Task])
    assert_type(await store.tasks.list(limit=None), Sequence[Task])
    assert_type(await store.tasks.pause(where="all"), int)
    assert_type(await store.tasks.reschedule(where=where, delay=60), int)
    assert_type(await store.tasks.update(where=where, queue="bulk", timeout=None), int)
    assert_type(await store.tasks.clone(where=where, payload={"user_id": 1}), int)
    assert_type(await store.tasks.mark_failed(where=where, reason="no more"), int)
    assert_type(await store.tasks.rescue("emails", older_than=timedelta(minutes=10)), int)


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
    assert_type(await store.tasks.resume(str(handle.id)), Task)
    assert_type(await store.tasks.reschedule(handle.id, delay=timedelta(hours=1)), Task)
    assert_type(await store.tasks.update(handle.id, payload={"user_id": 1}, priority=-1, queue=None), Task)
    assert_type(await store.tasks.clone(handle.id, queue="bulk"), Task)
    assert_type(await store.tasks.mark_succeeded(handle.id, "done"), Task)
    assert_type(await store.tasks.soft_delete(handle.id), Task)
    assert_type(await store.tasks.peek("emails"), Task | None)
    assert_type(await store.tasks.why(handle.id), str)
    assert_type(await store.tasks.get(handle.id), Task | None)
    assert_type(await store.tasks.require(id=str(handle.id)), Task)
    assert_type(await store.tasks.cancel(id=handle.id, reason="no more"), Task)
    assert_type(await store.tasks.clone(id=handle.id), Task)
    assert_type(store.handle(id=handle.id), TaskHandle[Any])
    assert_type(store.using(connection).draft("elsewhere", {"n": 1}, unchecked=True), Draft[Any])
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


async def receives(event: TaskFinished) -> None:
    assert_type(event.error, BaseException | None)


store.on(TaskFinished, receives)


async def in_transactions(context: TaskContext, session: AsyncSession, psycopgs: AsyncConnection[Any]) -> None:
    assert_type(await called.using(session).enqueue(1), TaskHandle[Receipt])
    assert_type(await store.using(psycopgs).enqueue_many([called.draft(1)]), list[UUID])
    with store.joined(session):
        assert_type(await called.enqueue(1), TaskHandle[Receipt])
    async with context.transaction() as lent:
        await lent.execute("UPDATE accounts SET balance = 0")


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


class HelloWorld(TaskHandler):
    alias = "HelloWorld"
    title = "Hello World"
    queue = "greetings"
    max_attempts = 3
    timeout = timedelta(minutes=1)
    backoff = exponential(base=1)
    retry_on = (OSError, TimeoutError)
    former_aliases = ["Hello"]

    def __init__(self, greeting: str = "Hello") -> None:
        self.greeting = greeting

    async def handle(self, context: TaskContext) -> bool:
        context.info(f"{self.greeting} {context.param('name') or 'World'}!")
        return True


class Resize(TaskHandler):
    async def handle(self, context: TaskContext, path: str, *, width: int) -> Receipt:
        return Receipt(width)


class Compress(TaskHandler):
    def handle(self, context: TaskContext, path: str) -> int:
        return len(path)


class Tidy(TaskHandler):
    def handle(self, context: TaskContext) -> None: ...


async def handlers(records: DefinitionFilters) -> None:
    store.include(HelloWorld())
    hello = await store.register(HelloWorld("Hi"), create_if_missing=True)
    assert_type(await hello.enqueue(name="Tom"), TaskHandle[bool])
    resize = await store.register(Resize())
    assert_type(await (await resize.enqueue("a.png", width=5)).result(), Receipt)
    assert_type(await (await (await store.register(Compress())).enqueue("a.png")).result(), int)
    assert_type(await (await store.register(Tidy())).enqueue(), TaskHandle[None])
    assert_type(await (await store.register(called, create_if_missing=True)).enqueue(1), TaskHandle[Receipt])
    assert_type(await store.definitions.list(**records), Sequence[Definition])
    assert_type(await store.definitions.count(status="active", created_from=datetime.now(UTC)), int)
    record = await store.definitions.create("report", title="Report")
    assert_type(record.status, DefinitionStatus)
    assert_type(await store.definitions.get(record.id), Definition | None)
    assert_type(await store.definitions.cancel(record.id), Definition)
    assert_type(await store.definitions.update("report", memo="later"), Definition)
    assert_type(await store.definitions.delete(record.id), bool)


async def schedules() -> None:
    assert_type(bare.schedule("0 9 * * mon-fri", timezone="Europe/Sofia", payload={"number": 1}), Schedule)
    assert_type(
        bare.options(priority=1).schedule(Every(hours=1), name="hourly", payload=lambda: {"number": 1}), Schedule
    )
    assert_type(store.schedule("nightly", bare.draft(1), lambda last: last + timedelta(days=1)), Schedule)
    assert_type(store.schedule("often", bare, "@hourly", run_on_start=True, misfire="skip"), Schedule)
    made = await store.schedules.create(Schedule(name="x", alias="bare", recurrence="@daily", status="active"))
    assert_type(made.id, UUID)
    assert_type(await store.schedules.update(made.id, max_executions=3), Schedule)
    assert_type(await store.schedules.get_by_name("x"), Schedule | None)
    assert_type(await store.schedules.list(status=["active"], limit=None), Sequence[Schedule])
    assert_type(await store.schedules.preview("x", 3), Sequence[datetime])
    assert_type(await store.schedules.run_now("x"), TaskHandle[Any])
    assert_type(await store.schedules.delete("x"), bool)
