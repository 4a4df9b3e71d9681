"""A user's program that must pass mypy --strict and pyright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, assert_type
from uuid import UUID

from pydantic import BaseModel

from aiotaskstore import Draft, Task, TaskContext, TaskHandle, TaskRouter, TaskStore

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
