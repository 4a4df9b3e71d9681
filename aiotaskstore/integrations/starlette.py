"""Starlette: a store in the application's lifespan, and routes by which its clients follow tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from typing import Any, Unpack

from aiotaskstore.dispatch.dispatcher_settings import DispatcherOptions
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.handle import TaskHandle
from aiotaskstore.integrations.http_reply import CLIENT_ERRORS, JSON, HttpReply, accepted_reply, error_reply
from aiotaskstore.integrations.required_package import required_package
from aiotaskstore.integrations.serving import embedded_dispatcher, serving
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

with required_package("Starlette", "starlette"):
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import NoMatchFound, Route
    from starlette.types import Send

__all__ = ["accepted", "error_handlers", "get_store", "task_lifespan", "task_routes"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]
"""What `Starlette(lifespan=…)` and `FastAPI(lifespan=…)` take."""
OwnLifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""The application's own lifespan, with or without a state."""

_STATE = ("tasks", "dispatcher")


def task_lifespan(
    store: TaskStore, *, dispatcher: bool | DispatcherOptions = False, lifespan: OwnLifespan | None = None
) -> Lifespan:
    """Make a lifespan that opens the store, enters the application's own `lifespan`, and then dispatches.

    Left in the reverse order: the dispatcher drains within its grace before the own lifespan ends and the store is
    closed. `dispatcher` is `True`, or the options of `store.dispatcher(…)`; without it the application only enqueues,
    and workers run the tasks. The state is that of the own lifespan, with `tasks` (the store) and `dispatcher` (the
    `Dispatcher`, or `None`) added; a state that has these already is a `ConfigurationError`.
    """
    embedded = embedded_dispatcher(store, dispatcher)

    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[dict[str, Any]]:
        own = nullcontext() if lifespan is None else lifespan(app)
        async with serving(store, embedded, own) as state:
            yield {**_free(state or {}), "tasks": store, "dispatcher": embedded}

    return around


def get_store(connection: HTTPConnection) -> TaskStore:
    """Return the store of the application's lifespan. Raises `ConfigurationError` without one."""
    store = getattr(connection.state, "tasks", None)
    if not isinstance(store, TaskStore):
        raise ConfigurationError(
            f"The application's state has no store under `tasks`, but {store!r:.100}. Give the application the "
            "lifespan task_lifespan(store), and have the server run it (TestClient: as a context manager)."
        )
    return store


def accepted(handle: TaskHandle[Any], request: Request, *, location: str | None = None) -> Response:
    """Respond 202 Accepted: the task is stored and will run. `Location` is the path of its status route.

    Without a mounted status route, or in an application mounted beneath the one that has it, there is no `Location`
    unless it is passed.
    """
    if location is None:
        try:
            location = request.url_for(STATUS_ROUTE, task_id=str(handle.id)).path
        except NoMatchFound:
            location = None
    return response_of(accepted_reply(handle.id, location))


def task_routes(prefix: str = "/tasks", **options: Unpack[TaskRouteOptions]) -> list[Route]:
    """Make the routes of tasks: status, and if wanted cancellation and progress as Server-Sent Events.

    Anybody who knows a task's id may call them: mount them behind what protects your other routes. Raises
    `ConfigurationError` for an option that cannot work.
    """
    resource = TaskResource(**options)

    async def status(request: Request) -> Response:
        return response_of(await resource.status(get_store(request), request.path_params["task_id"]))

    async def cancel(request: Request) -> Response:
        return response_of(await resource.cancel(get_store(request), request.path_params["task_id"]))

    async def events(request: Request) -> Response:
        return await stream_response(resource, get_store(request), request)

    routes = [Route(f"{prefix}/{{task_id}}", status, name=STATUS_ROUTE)]
    if resource.cancellable:
        routes.append(Route(f"{prefix}/{{task_id}}/cancel", cancel, methods=["POST"], name=CANCEL_ROUTE))
    if resource.streamable:
        routes.append(Route(f"{prefix}/{{task_id}}/events", events, name=STREAM_ROUTE))
    return routes


async def respond_to_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as Starlette calls it
    """Respond to one of `error_handlers`."""
    return response_of(error_reply(error))


ErrorHandler = Callable[[Request, Any], Coroutine[Any, Any, Response]]
error_handlers: dict[int | type[Exception], ErrorHandler] = dict.fromkeys(CLIENT_ERRORS, respond_to_error)
"""For `exception_handlers=`: 404 for an unknown task, 409 for a duplicate one and for cancelling a finished one, 422
for a payload that does not fit; 503 with `Retry-After` while the database cannot be reached, or a definition is
cancelled."""


def response_of(reply: HttpReply) -> Response:
    """Make Starlette's response of a reply."""
    return Response(reply.content, reply.status, reply.all_headers, None if reply.body is None else JSON)


async def stream_response(resource: TaskResource, store: TaskStore, request: Request) -> Response:
    """Make the response of the route with a task's progress."""
    texts = await resource.events(store, request.path_params["task_id"], request.headers.get("last-event-id"))
    if isinstance(texts, HttpReply):
        return response_of(texts)
    if request.method == "HEAD":  # a server would drop the whole stream, until the task has ended
        return Response(headers=STREAM_HEADERS, media_type=EVENT_STREAM)
    return _EventStream(texts)


class _EventStream(StreamingResponse):
    """Closes its stream as soon as the response has ended, whatever ended it."""

    def __init__(self, texts: AsyncGenerator[str]) -> None:
        super().__init__(texts, headers=STREAM_HEADERS, media_type=EVENT_STREAM)
        self._texts = texts

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._texts):
            await super().stream_response(send)


def _free(state: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _STATE:
        if name in state:
            raise ConfigurationError(
                f'The state of the application\'s own lifespan has "{name}", which task_lifespan() adds itself. '
                "Give yours another name."
            )
    return state
