"""The application whose handlers the tests run by `exec`."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

from aiotaskstore import Retry, TaskContext, TaskHandler, TaskStore

store = TaskStore(os.environ.get("AIOTASKSTORE_URL", "sqlite://"))


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Colour(Enum):
    RED = "red"


@dataclass
class Size:
    width: int


class HelloWorld(TaskHandler):
    title = "Hello World"
    description = "Say hello"

    async def handle(self, context: TaskContext) -> bool:
        if context.task_id is None and context.param("enqueue") == "yes":
            await context.store.enqueue(self.alias or "HelloWorld", {"name": context.param("name")})
            context.info("enqueued")
            return True
        context.info(f"Hello {context.param('name') or 'World'}!")
        return bool(context.param("fail") != "yes")


@store.task(alias="my-task", title="My task", former_aliases=["old_task"])
async def my_task(context: TaskContext, **given: Any) -> dict[str, Any]:
    """Return what was given."""
    await context.progress("half", fraction=0.5)
    return given | {"options": context.options, "attempt": context.attempt, "stored": context.task_id is not None}


class Texts(TaskHandler):
    """Return the options as they are."""

    async def handle(self, context: TaskContext) -> dict[str, Any]:
        context.success("looked")
        tags = context.param_list("tags")
        return {
            "options": context.options,
            "tags": tags,
            "by": context.param("user-id"),
            "payload": context.task.payload,
        }


class Output(TaskHandler):
    def handle(self, context: TaskContext) -> bool:
        context.output = f"in {threading.current_thread() is not threading.main_thread()}"
        return True


store.include(HelloWorld())
store.include(Texts())
store.include(Output())


@store.task
async def typed(
    first: int, /, user_id: UUID, *, on: date | None = None, at: datetime | None = None, price: Decimal = Decimal(0),
    numbers: list[int] | None = None, size: Size | None = None, level: Level = Level.LOW, colour: Colour = Colour.RED,
    kind: Literal["a", "b"] = "a", loud: bool = False, text: str = "",
) -> str:  # fmt: skip
    return repr((first, user_id.int, on, at and at.isoformat(), price, numbers, size, level, colour, kind, loud, text))


@store.task
async def visit(url: str, json: bool = False, help: str = "", app: str = "") -> list[Any]:  # noqa: A002 - the point
    return [url, json, help, app]


@store.task
async def fails(how: str = "raise") -> int:
    match how:
        case "raise":
            raise ValueError("no luck")
        case "retry":
            raise Retry("later", delay=5)
        case "cancel":
            raise asyncio.CancelledError
        case "unknown":
            await store.enqueue("nobody-knows-it")
        case _:
            pass
    return "no number"  # type: ignore[return-value] # as a mistake would
