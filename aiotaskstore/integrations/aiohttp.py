"""aiohttp's server: a store in the application's cleanup contexts, and routes by which its clients follow tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
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

with required_package("aiohttp", "aiohttp"):
    from aiohttp import web

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]
Context = Callable[[web.Application], AsyncIterator[None]]
"""What `app.cleanup_ctx` takes."""

TASKS = web.AppKey("tasks", TaskStore)
"""The application's store: `request.config_dict[TASKS]`, also in a sub-application."""
DISPATCHER = web.AppKey("dispatcher", Dispatcher)
"""The embedded dispatcher, where there is one."""


def store_context(store: TaskStore) -> Context:
    """Make a cleanup context that opens the store, puts it under `TASKS`, and closes it.

    Append it before what enqueues at its own start or end.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[TASKS] = store
        async with opened(store):
            yield

    return context


def dispatcher_context(store: TaskStore, **options: Unpack[DispatcherOptions]) -> Context:
    """Make a cleanup context that runs tasks in this process; at its end the dispatcher drains within its grace.

    Append it last: contexts are left in the reverse order, so what handlers need is there until the last run has ended.
    Takes the options of `store.dispatcher(…)`, and raises `ConfigurationError` for one that cannot work.
    """
    dispatcher = embedded_dispatcher(store, options)
    assert dispatcher is not None  # noqa: S101 - since options are given

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[DISPATCHER] = dispatcher
        async with dispatching(dispatcher):
            yield

    return context


def get_store(request: web.Request) -> TaskStore:
    """Return the application's store. Raises `ConfigurationError` without one."""
    store = request.config_dict.get(TASKS)
    if store is None:
        raise ConfigurationError(
            "The application has no store. Append store_context(store) to app.cleanup_ctx, or set app[TASKS]."
        )
    return store


def accepted(handle: TaskHandle[Any], request: web.Request, *, location: str | None = None) -> web.Response:
    """Respond 202 Accepted: the task is stored and will run. `Location` is the path of its status route.

    Without `task_routes()` in this application or in one that it is a part of, there is no `Location` unless it is
    passed.
    """
    if location is None:
        for app in reversed(request.match_info.apps):
            if STATUS_ROUTE in app.router:
                location = str(app.router[STATUS_ROUTE].url_for(task_id=str(handle.id)))
                break
    return response_of(accepted_reply(handle.id, location))


def task_routes(
    prefix: str = "/tasks",
    *,
    decorator: Callable[[Endpoint], Endpoint] | None = None,
    **options: Unpack[TaskRouteOptions],
) -> list[web.RouteDef]:
    """Make the routes of tasks: status, and if wanted cancellation and progress as Server-Sent Events.

    Anybody who knows a task's id may call them, unless a middleware or `decorator` refuses, which is what you put
    around your own endpoints; `request.match_info["task_id"]` tells which task it is. Raises `ConfigurationError` for
    an option that cannot work.
    """
    resource = TaskResource(**options)
    protect = decorator or (lambda endpoint: endpoint)

    async def status(request: web.Request) -> web.StreamResponse:
        return response_of(await resource.status(get_store(request), request.match_info["task_id"]))

    async def cancel(request: web.Request) -> web.StreamResponse:
        return response_of(await resource.cancel(get_store(request), request.match_info["task_id"]))

    async def events(request: web.Request) -> web.StreamResponse:
        return await _stream(resource, request)

    routes = [web.get(f"{prefix}/{{task_id}}", protect(status), name=STATUS_ROUTE)]
    if resource.cancellable:
        routes.append(web.post(f"{prefix}/{{task_id}}/cancel", protect(cancel), name=CANCEL_ROUTE))
    if resource.streamable:
        routes.append(web.get(f"{prefix}/{{task_id}}/events", protect(events), name=STREAM_ROUTE, allow_head=False))
    return routes


@web.middleware
async def task_errors(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Respond to our errors that a client or an outage causes: `web.Application(middlewares=[task_errors])`.

    404 for an unknown task, 409 for a duplicate one and for cancelling a finished one, 422 for a payload that does not
    fit; 503 with `Retry-After` while the database cannot be reached, or a definition is cancelled.
    """
    try:
        return await handler(request)
    except CLIENT_ERRORS as error:
        return response_of(error_reply(error))


def response_of(reply: HttpReply) -> web.Response:
    """Make aiohttp's response of a reply."""
    return web.Response(
        body=reply.content,
        status=reply.status,
        headers=reply.all_headers,
        content_type=None if reply.body is None else JSON,
    )


async def _stream(resource: TaskResource, request: web.Request) -> web.StreamResponse:
    """Send the texts of the route with a task's progress, until they end or the client has gone."""
    texts = await resource.events(
        get_store(request), request.match_info["task_id"], request.headers.get("Last-Event-ID")
    )
    if isinstance(texts, HttpReply):
        return response_of(texts)
    response = web.StreamResponse(headers={**STREAM_HEADERS, "Content-Type": EVENT_STREAM})
    async with aclosing(texts):
        await response.prepare(request)
        try:
            async for text in texts:
                await response.write(text.encode())
            await response.write_eof()
        except ConnectionResetError:  # the client has gone
            pass
    return response
