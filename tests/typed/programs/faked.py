"""A user's program, and its fakes, that must pass mypy --strict and pyright: what is annotated with the protocols."""

# ruff: noqa: ASYNC109 - the signatures of the protocols
from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, Generic, TypeVar, Unpack
from uuid import UUID, uuid4

from aiotaskstore import (
    Draft,
    EnqueueableTask,
    EnqueuedTask,
    HandlerContext,
    HandlerStore,
    Progress,
    Task,
    TaskContext,
    TaskEnqueuer,
    TaskFilters,
    TaskHandle,
    TaskOptions,
    TaskReader,
    TaskStatus,
    TaskStore,
)

R = TypeVar("R")
store = TaskStore("sqlite://")


@store.task
async def send_welcome(user_id: int, *, locale: str = "en") -> str:
    return f"{user_id} {locale}"


# ── the application's code, which knows the protocols alone ──


async def register(user_id: int, tasks: TaskEnqueuer) -> UUID:
    handle = await tasks.enqueue("send_welcome", {"user_id": user_id}, priority=-1)
    return handle.id


async def register_typed(user_id: int, welcome: EnqueueableTask[[int], str]) -> EnqueuedTask[str]:
    return await welcome.enqueue(user_id)


async def fan_out(names: Sequence[str], context: HandlerContext, tasks: HandlerStore) -> int:
    with tasks.metadata(parent=str(context.task.id)):
        for name in names:
            await tasks.enqueue("greet", {"name": name})
            await context.progress(name)
            context.info(f"enqueued {name}")
    return await tasks.tasks.count(alias="greet")


# ── what satisfies them here ──


async def real(context: TaskContext, connection: object, handle: TaskHandle[str]) -> None:
    enqueuer: TaskEnqueuer = store
    on_connection: TaskEnqueuer = store.using(connection)
    handler_store: HandlerStore = store
    reader: TaskReader = store.tasks
    given: HandlerContext = context
    enqueued: EnqueuedTask[str] = handle
    with_options: EnqueueableTask[[int], str] = send_welcome.options(priority=1)
    await register(1, enqueuer)
    await register(2, on_connection)
    await register_typed(3, send_welcome)
    await register_typed(4, with_options)
    await fan_out(["Ada"], given, handler_store)
    await reader.get(enqueued.id)


# ── and in a test ──


class FakeEnqueued(Generic[R]):
    def __init__(self, value: R) -> None:
        self.id = uuid4()
        self._value = value

    async def result(self, timeout: float | timedelta | None = None) -> R:
        return self._value

    async def wait(self, timeout: float | timedelta | None = None) -> Task:
        raise NotImplementedError

    async def task(self) -> Task:
        raise NotImplementedError

    async def status(self) -> TaskStatus | None:
        return TaskStatus.SUCCEEDED

    async def cancel(self, reason: str = "") -> None:
        return None

    async def progress(self) -> AsyncIterator[Progress]:
        for progress in list[Progress]():
            yield progress


class FakeStore:
    def __init__(self) -> None:
        self.enqueued: list[tuple[str, dict[str, Any]]] = []
        self.tasks = FakeTasks(self.enqueued)

    async def enqueue(
        self,
        alias: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unchecked: bool = False,
        **options: Unpack[TaskOptions],
    ) -> FakeEnqueued[Any]:
        self.enqueued.append((alias, dict(payload or {})))
        return FakeEnqueued(None)

    async def enqueue_many(self, drafts: Sequence[Draft[Any]]) -> list[UUID]:
        return [uuid4() for _ in drafts]

    def metadata(self, **values: Any) -> AbstractContextManager[None]:
        return nullcontext()


class FakeTasks:
    def __init__(self, enqueued: list[tuple[str, dict[str, Any]]]) -> None:
        self._enqueued = enqueued

    async def get(self, task_id: UUID | str) -> Task | None:
        return None

    async def require(self, task_id: UUID | str) -> Task:
        raise NotImplementedError

    async def status(self, task_id: UUID | str) -> TaskStatus | None:
        return None

    async def list(self, **filters: Unpack[TaskFilters]) -> Sequence[Task]:
        return []

    async def count(self, **filters: Unpack[TaskFilters]) -> int:
        return len(self._enqueued)

    async def wait(self, task_id: UUID | str, timeout: float | timedelta | None = None) -> Task:
        raise NotImplementedError

    async def cancel(self, task_id: UUID | str, reason: str = "") -> None:
        return None


class FakeWelcome:
    async def enqueue(self, user_id: int, /) -> FakeEnqueued[str]:
        return FakeEnqueued(f"sent to {user_id}")


async def faked() -> tuple[list[tuple[str, dict[str, Any]]], str]:
    fake = FakeStore()
    await register(42, fake)
    handler_store: HandlerStore = fake
    assert await handler_store.tasks.count() == 1
    handle = await register_typed(7, FakeWelcome())
    return fake.enqueued, await handle.result()
