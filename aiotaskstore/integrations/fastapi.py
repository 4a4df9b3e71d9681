"""FastAPI: a store in the application's lifespan, the dependency `Tasks`, and routes by which clients follow tasks."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any, Unpack

from aiotaskstore.integrations.required_package import required_package
from aiotaskstore.integrations.task_resource import (
    CANCEL_ROUTE,
    EVENT_STREAM,
    STATUS_ROUTE,
    STREAM_ROUTE,
    TaskResource,
    TaskRouteOptions,
)
from aiotaskstore.integrations.task_view import TaskView
from aiotaskstore.taskstore import TaskStore

with required_package("FastAPI", "fastapi"):
    from fastapi import APIRouter, Depends, Request, Response
    from fastapi.params import Depends as Dependency
    from fastapi.requests import HTTPConnection

from aiotaskstore.integrations import starlette
from aiotaskstore.integrations.starlette import accepted, error_handlers, task_lifespan

__all__ = ["Tasks", "accepted", "error_handlers", "get_store", "task_lifespan", "task_routes"]


async def get_store(connection: HTTPConnection) -> TaskStore:
    """Return the store of the application's lifespan: the dependency behind `Tasks`.

    In tests, `app.dependency_overrides[get_store] = lambda: another_store`. Raises `ConfigurationError` where there is
    none.
    """
    return starlette.get_store(connection)


Tasks = Annotated[TaskStore, Depends(get_store)]
"""The application's store, as a parameter of a path operation: `async def order(tasks: Tasks)`."""

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such task."}}
_FINISHED: dict[int | str, dict[str, Any]] = {
    **_NOT_FOUND,
    202: {"description": "The task's handler is being cancelled.", "model": TaskView},
    409: {"description": "The task has finished."},
}
_STREAMED: dict[int | str, dict[str, Any]] = {
    **_NOT_FOUND,
    200: {"description": "The task's progress, until it ends.", "content": {EVENT_STREAM: {}}},
    204: {"description": "The client has seen the end."},
    503: {"description": "Too many streams are open."},
}


def task_routes(
    prefix: str = "/tasks",
    *,
    dependencies: Sequence[Dependency] | None = None,
    tags: list[str | Enum] | None = None,
    **options: Unpack[TaskRouteOptions],
) -> APIRouter:
    """Make a router with the routes of tasks: status, and if wanted cancellation and progress as Server-Sent Events.

    Anybody who knows a task's id may call them, unless `dependencies` refuses: one with a parameter `task_id` can tell
    whose task it is. Raises `ConfigurationError` for an option that cannot work.
    """
    resource = TaskResource(**options)
    router = APIRouter(prefix=prefix, dependencies=dependencies, tags=["tasks"] if tags is None else tags)

    @router.get("/{task_id}", name=STATUS_ROUTE, response_model=TaskView, responses=_NOT_FOUND)
    async def task_status(task_id: str, tasks: Tasks) -> Response:
        """Return what the task is now."""
        return starlette.response_of(await resource.status(tasks, task_id))

    if resource.cancellable:

        @router.post("/{task_id}/cancel", name=CANCEL_ROUTE, response_model=TaskView, responses=_FINISHED)
        async def cancel_task(task_id: str, tasks: Tasks) -> Response:
            """Cancel the task, or the handler that runs it."""
            return starlette.response_of(await resource.cancel(tasks, task_id))

    if resource.streamable:

        @router.get("/{task_id}/events", name=STREAM_ROUTE, response_class=Response, responses=_STREAMED)
        async def task_events(task_id: str, tasks: Tasks, request: Request) -> Response:  # noqa: ARG001 - for the docs
            """Stream the task's progress as Server-Sent Events."""
            return await starlette.stream_response(resource, tasks, request)

    return router
