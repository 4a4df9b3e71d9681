"""A user's program whose every marked line must be refused by mypy --strict."""

from __future__ import annotations

from datetime import timedelta

from aiotaskstore import (
    Backoff,
    Queue,
    Retention,
    Task,
    TaskContext,
    TaskFinished,
    TaskHandle,
    TaskHandler,
    TaskStarted,
    TaskStore,
    steps,
)

store = TaskStore("sqlite://")


@store.task(max_attempts=3)
async def send(user_id: int, *, locale: str = "en") -> str:
    return f"{user_id} {locale}"


@store.task
async def with_context(context: TaskContext, n: int) -> int:
    return n


async def main() -> None:
    await send.enqueue("42")  # wrong
    await send.enqueue()  # wrong
    await send.enqueue(1, locale=2)  # wrong
    await send.enqueue(1, unknown=2)  # wrong
    await send.options(delay="soon").enqueue(1)  # wrong
    await send.options(later=5).enqueue(1)  # wrong
    send.draft(None)  # wrong
    number: int = await (await send.enqueue(1)).result()  # wrong
    await with_context.enqueue("1")  # wrong
    await with_context.enqueue(1, 2)  # wrong
    await store.tasks.list(statuses=["failed"])  # wrong
    store.dispatcher(concurrency="many")  # wrong
    assert number


@store.task(max_attempts="five")  # wrong
async def bad_option() -> None: ...


@store.task(on_stuck="explode")  # wrong
async def bad_choice() -> None: ...


@store.task(on_decode_error=None)  # wrong
async def bad_none() -> None: ...


@store.task
async def positions(a: int, /, *, b: str) -> bytes:
    return b.encode() * a


@store.task
def sync(a: timedelta) -> int:
    return a.days


async def more(connection: object) -> None:
    await positions.enqueue(a=1, b="x")  # wrong
    await positions.enqueue(1, "x")  # wrong
    await sync.enqueue(5)  # wrong
    await send.options(priority="high").enqueue(1)  # wrong
    await send.options(owner="user").enqueue(1)  # wrong
    await send.options(metadata=5).enqueue(1)  # wrong
    await send.options(on_conflict="ignore").enqueue(1)  # wrong
    await send.options(delay=5).enqueue("1")  # wrong
    await send.using(connection).enqueue("1")  # wrong
    await send.options(delay=5).using(connection).options(queue="x").enqueue()  # wrong
    await send("1")  # wrong
    abandoned: TaskHandle[str] = send.enqueue(1)  # wrong
    handle = await positions.enqueue(1, b="x")
    text: str = await handle.result()  # wrong
    await handle.result(timeout="5")  # wrong
    task: Task = await store.tasks.get(handle.id)  # wrong
    task = await store.tasks.cancel(where={"alias": "x"})  # wrong
    await store.tasks.cancel()  # wrong
    await store.tasks.cancel(handle.id, where={"alias": "x"})  # wrong
    await store.tasks.cancel(where={"colour": "red"})  # wrong
    await store.tasks.list(limit="5")  # wrong
    await store.tasks.update(handle.id, status="failed")  # wrong
    await store.tasks.update(handle.id, priority="1")  # wrong
    await store.tasks.pause()  # wrong
    task = await store.tasks.pause(where={"alias": "x"})  # wrong
    await store.tasks.clone(handle.id, payload=[1])  # wrong
    await store.enqueue("send", [1])  # wrong
    await store.enqueue("send", {"user_id": 1}, prio=1)  # wrong
    await store.enqueue_many([send.enqueue(1)])  # wrong
    store.enqueue_soon(send)  # wrong
    store.include("router")  # wrong
    store.on(TaskFinished, wants_started)  # wrong
    Queue("x", concurrency="5")  # wrong
    Retention(keep="some")  # wrong
    steps(5)  # wrong
    assert abandoned
    assert text
    assert task


def wants_started(event: TaskStarted) -> None: ...


def waits_for_nothing(attempt: int) -> float:
    return attempt


@store.task
async def reads_context(context: TaskContext, name: str) -> str:
    return name


async def options(context: TaskContext) -> None:
    await store.run(queue="emails")  # wrong
    await store.run(concurrency="5")  # wrong
    await store.run(on_missing="ignore")  # wrong
    store.dispatcher(on_missing="ignore")  # wrong
    TaskStore.from_env(prefx="jobs_")  # wrong
    TaskStore.from_env(pool_size="5")  # wrong
    await store.tasks.delete(where="every")  # wrong
    await store.tasks.delete(where={"order_by": "id"})  # wrong
    await store.tasks.list(queue=None)  # wrong
    await store.tasks.count(alias=None)  # wrong
    await reads_context(context)  # wrong
    await reads_context(context, 5)  # wrong
    await reads_context(context, context, "x")  # wrong
    await reads_context.enqueue(context, "x")  # wrong
    backoff: Backoff = waits_for_nothing  # wrong
    assert backoff


class Resize(TaskHandler):
    async def handle(self, context: TaskContext, path: str) -> int:
        return len(path)


class Priceless(TaskHandler):
    priority = "high"  # wrong


async def handlers() -> None:
    resize = await store.register(Resize())
    await resize.enqueue(5)  # wrong
    await resize.enqueue("a.png", width=5)  # wrong
    text: str = await (await resize.enqueue("a.png")).result()  # wrong
    await store.register(5)  # wrong
    await store.definitions.update("report", status="active")  # wrong
    await store.definitions.list(queue="emails")  # wrong
    assert text


async def schedules() -> None:
    reads_context.schedule(5)  # wrong
    reads_context.schedule("@daily", misfire="ignore")  # wrong
    reads_context.schedule("@daily", colour="red")  # wrong
    store.schedule("x", 5, "@daily")  # wrong
    await store.schedules.update("x", next_run_at=None)  # wrong
    await store.schedules.list(owner="x")  # wrong
