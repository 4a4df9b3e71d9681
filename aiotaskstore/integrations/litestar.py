"""Litestar: a plugin with a store in the application's lifespan, and a router by which its clients follow tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Unpack

from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.dispatch.dispatcher_settings import DispatcherOptions
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.handle import TaskHandle
from aiotaskstore.integrations.http_reply import CLIENT_ERRORS, JSON, HttpReply, accepted_reply, error_reply
from aiotaskstore.integrations.required_package import required_package
from aiotaskstore.integrations.serving import dispatching, embedded_dispatcher, opened
from aiotaskstore.integrations.task_resource import (
    CANCEL_ROUTE,
    EVENT_STREAM,
    STATUS_ROUTE,
    STREAM_HEADERS,
    STREAM_ROUTE,
    TaskResource,
    TaskRouteOptions,
)
from aiotaskstore.taskstore import TaskStore

with required_package("Litestar", "litestar"):
    from litestar import Litestar, Request, Response, Router, get, post
    from litestar.config.app import AppConfig
    from litestar.di import NamedDependency, Provide
    from litestar.exceptions import NoRouteMatchFoundException
    from litestar.params import FromPath
    from litestar.plugins import InitPlugin
    from litestar.response import Stream

AnyRequest = Request[Any, Any, Any]
AnyResponse = Response[Any]
RouteGuard = Callable[[Any, Any], Awaitable[None] | None]
"""Litestar's own `Guard`: takes the connection and the route handler, and raises to refuse."""
Tasks = NamedDependency[TaskStore]
"""The application's store, as a parameter of a route handler; it must be named so: `async def order(tasks: Tasks)`."""


class TaskStorePlugin(InitPlugin):
    """Opens the store with the application, dispatches in it if that is wanted, and provides the store as `tasks`.

    The store is open before every lifespan of the application's own is entered, and the dispatcher starts after them;
    they are left in the reverse order, the dispatcher draining within its grace. `dispatcher` is `True`, or the options
    of `store.dispatcher(…)`. With `error_handlers`, our errors that a client or an outage causes have a response of
    their own; an exception handler of the application's for the same error wins.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        dispatcher: bool | DispatcherOptions = False,
        error_handlers: bool = False,
    ) -> None:
        self._store = store
        self._error_handlers = error_handlers
        self.dispatcher: Dispatcher | None = embedded_dispatcher(store, dispatcher)
        """The embedded dispatcher, or `None`; `running` tells whether it runs."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the lifespans, the dependency `tasks`, and the exception handlers."""
        if "tasks" in app_config.dependencies:
            raise ConfigurationError(
                'The application has a dependency "tasks", which TaskStorePlugin provides itself. Give yours another '
                "name."
            )
        app_config.lifespan.insert(0, self._opened)
        app_config.lifespan.append(self._dispatching)
        app_config.dependencies["tasks"] = Provide(self._provide, sync_to_thread=False)
        app_config.signature_namespace.setdefault("TaskStore", TaskStore)
        if self._error_handlers:
            for error in CLIENT_ERRORS:
                app_config.exception_handlers.setdefault(error, respond_to_error)
        return app_config

    def _provide(self) -> TaskStore:
        return self._store

    @asynccontextmanager
    async def _opened(self, _app: Litestar) -> AsyncIterator[None]:
        async with opened(self._store):
            yield

    @asynccontextmanager
    async def _dispatching(self, _app: Litestar) -> AsyncIterator[None]:
        async with dispatching(self.dispatcher):
            yield


def accepted(handle: TaskHandle[Any], request: AnyRequest, *, location: str | None = None) -> AnyResponse:
    """Respond 202 Accepted: the task is stored and will run. `Location` is the path of its status route.

    Without `task_routes()` there is no `Location`, unless it is passed.
    """
    if location is None:
        try:
            path = request.app.route_reverse(STATUS_ROUTE, task_id=str(handle.id))
            location = request.scope.get("root_path", "").rstrip("/") + path
        except NoRouteMatchFoundException:
            location = None
    return response_of(accepted_reply(handle.id, location))


def task_routes(
    path: str = "/tasks", *, guards: Sequence[RouteGuard] | None = None, **options: Unpack[TaskRouteOptions]
) -> Router:
    """Make a router with the routes of tasks: status, and if wanted cancellation and progress as Server-Sent Events.

    Anybody who knows a task's id may call them, unless `guards` refuse: `connection.path_params["task_id"]` tells which
    task it is. Raises `ConfigurationError` for an option that cannot work.
    """
    resource = TaskResource(**options)

    @get("/{task_id:str}", name=STATUS_ROUTE)
    async def task_status(task_id: FromPath[str], tasks: Tasks) -> AnyResponse:
        """Return what the task is now."""
        return response_of(await resource.status(tasks, task_id))

    @post("/{task_id:str}/cancel", name=CANCEL_ROUTE)
    async def cancel_task(task_id: FromPath[str], tasks: Tasks) -> AnyResponse:
        """Cancel the task, or the handler that runs it."""
        return response_of(await resource.cancel(tasks, task_id))

    @get("/{task_id:str}/events", name=STREAM_ROUTE, media_type=EVENT_STREAM)
    async def task_events(task_id: FromPath[str], tasks: Tasks, request: AnyRequest) -> AnyResponse:
        """Stream the task's progress as Server-Sent Events."""
        texts = await resource.events(tasks, task_id, request.headers.get("last-event-id"))
        if isinstance(texts, HttpReply):
            return response_of(texts)
        return Stream(texts, headers=STREAM_HEADERS, media_type=EVENT_STREAM)

    handlers = [task_status]
    if resource.cancellable:
        handlers.append(cancel_task)
    if resource.streamable:
        handlers.append(task_events)
    return Router(path, route_handlers=handlers, guards=guards, tags=["tasks"])


def respond_to_error(request: AnyRequest, error: Exception) -> AnyResponse:  # noqa: ARG001 - as Litestar calls it
    """Respond to one of our errors that a client or an outage causes."""
    return response_of(error_reply(error))


def response_of(reply: HttpReply) -> AnyResponse:
    """Make Litestar's response of a reply."""
    return Response(reply.content, status_code=reply.status, headers=reply.all_headers, media_type=JSON)
