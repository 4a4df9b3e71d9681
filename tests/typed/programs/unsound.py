"""A user's program whose every marked line must be refused by mypy --strict."""

from __future__ import annotations

from aiotaskstore import TaskContext, TaskStore

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
