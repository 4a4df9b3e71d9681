"""What Litestar's plugin and aiohttp's contexts add to what the frameworks have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer
from litestar import Litestar, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.testing import AsyncTestClient

from aiotaskstore import ConfigurationError, PayloadError, TaskStore
from aiotaskstore.integrations import aiohttp, litestar
from tests.helpers import LIMIT

WRONG: list[tuple[str, Any]] = [("max_streams", 0), ("stream_interval", 0), ("cancel", "yes"), ("include_error", 1)]


@pytest.fixture
def tasks(sqlite_url: str) -> TaskStore:
    """A closed store with one task."""
    store = TaskStore(sqlite_url, transaction_timeout=LIMIT)

    @store.task
    async def work(number: int) -> int:
        return number

    return store


# ── Litestar ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_litestars_own_lifespans_are_entered_with_an_open_store_and_left_after_the_last_run(tasks: TaskStore):
    plugin = litestar.TaskStorePlugin(tasks, dispatcher=True)
    assert plugin.dispatcher is not None
    told: list[tuple[str, bool, bool]] = []

    def tell(moment: str) -> None:
        assert plugin.dispatcher is not None
        told.append((moment, tasks.is_open, plugin.dispatcher.running))

    @asynccontextmanager
    async def own(_app: Litestar) -> AsyncIterator[None]:
        tell("entered")
        yield
        tell("left")

    @get("/")
    async def look(tasks: litestar.Tasks) -> bool:
        tell("served")
        return tasks is not None

    async with AsyncTestClient(Litestar([look], plugins=[plugin], lifespan=[own])) as client:
        assert (await client.get("/")).json() is True
    assert told == [("entered", True, False), ("served", True, True), ("left", True, False)]
    assert not tasks.is_open


async def test_litestars_guards_protect_every_route(tasks: TaskStore):
    seen = []

    def refuse(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        seen.append(connection.path_params["task_id"])
        raise PermissionDeniedException

    routes = litestar.task_routes(cancel=True, stream=True, guards=[refuse])
    async with AsyncTestClient(Litestar([routes], plugins=[litestar.TaskStorePlugin(tasks)])) as client:
        replies = [
            await client.get("/tasks/a"), await client.post("/tasks/b/cancel"), await client.get("/tasks/c/events"),
        ]  # fmt: skip
    assert [reply.status_code for reply in replies] == [403] * 3
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize(("ours", "status"), [(True, 422), (False, 500)])
async def test_litestar_replies_to_our_errors_if_that_is_wanted(tasks: TaskStore, ours: bool, status: int):
    @post("/")
    async def start(tasks: litestar.Tasks, request: Request[Any, Any, Any]) -> Response[Any]:
        return litestar.accepted(await tasks.enqueue("work", {"number": "many"}), request)

    app = Litestar([start], plugins=[litestar.TaskStorePlugin(tasks, error_handlers=ours)])
    async with AsyncTestClient(app, raise_server_exceptions=False) as client:
        assert (await client.post("/")).status_code == status


async def test_litestars_application_has_its_own_handler_of_an_error_if_it_wants(tasks: TaskStore):
    def own(_request: Request[Any, Any, Any], _error: PayloadError) -> Response[Any]:
        return Response("mine", status_code=418)

    @post("/")
    async def start(tasks: litestar.Tasks) -> None:
        await tasks.enqueue("work", {"number": "many"})

    plugin = litestar.TaskStorePlugin(tasks, error_handlers=True)
    async with AsyncTestClient(Litestar([start], plugins=[plugin], exception_handlers={PayloadError: own})) as client:
        assert (await client.post("/")).status_code == 418


async def test_without_a_status_route_litestar_gives_no_location(tasks: TaskStore):
    @post("/")
    async def start(tasks: litestar.Tasks, request: Request[Any, Any, Any]) -> Response[Any]:
        return litestar.accepted(await tasks.enqueue("work", {"number": 1}), request)

    async with AsyncTestClient(Litestar([start], plugins=[litestar.TaskStorePlugin(tasks)])) as client:
        reply = await client.post("/")
    assert (reply.status_code, reply.json()["location"]) == (202, None)


def test_a_dependency_of_litestars_that_has_our_name_is_refused(tasks: TaskStore):
    with pytest.raises(ConfigurationError, match='dependency "tasks"'):
        Litestar([], plugins=[litestar.TaskStorePlugin(tasks)], dependencies={"tasks": dict})


# ── aiohttp ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_aiohttps_contexts_nest_and_a_sub_application_finds_the_store(tasks: TaskStore):
    told: list[tuple[str, bool, bool]] = []

    def tell(moment: str, app: web.Application) -> None:
        dispatcher = app.get(aiohttp.DISPATCHER)
        told.append((moment, tasks.is_open, dispatcher is not None and dispatcher.running))

    async def own(app: web.Application) -> AsyncIterator[None]:
        tell("entered", app)
        yield
        tell("left", app)

    async def start(request: web.Request) -> web.Response:
        tell("served", app)
        return aiohttp.accepted(await aiohttp.get_store(request).enqueue("work", {"number": 1}), request)

    app, part = web.Application(), web.Application()
    part.add_routes([web.post("/start", start)])
    app.add_subapp("/part", part)
    app.add_routes(aiohttp.task_routes())
    app.cleanup_ctx.extend([aiohttp.store_context(tasks), own, aiohttp.dispatcher_context(tasks, concurrency=2)])
    async with AiohttpClient(TestServer(app)) as client:
        reply = await client.post("/part/start")
        assert reply.status == 202
        assert (await client.get(reply.headers["Location"])).status == 200
    assert told == [("entered", True, False), ("served", True, True), ("left", True, False)]
    assert not tasks.is_open


async def test_aiohttps_decorator_protects_every_route(tasks: TaskStore):
    seen = []

    def refused(_endpoint: Any) -> Any:
        async def refuse(request: web.Request) -> web.Response:
            seen.append(request.match_info["task_id"])
            raise web.HTTPForbidden

        return refuse

    app = web.Application()
    app.add_routes(aiohttp.task_routes(cancel=True, stream=True, decorator=refused))
    async with AiohttpClient(TestServer(app)) as client:
        replies = [
            await client.get("/tasks/a"), await client.post("/tasks/b/cancel"), await client.get("/tasks/c/events"),
        ]  # fmt: skip
    assert [reply.status for reply in replies] == [403] * 3
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize(("ours", "status"), [(True, 422), (False, 500)])
async def test_aiohttp_replies_to_our_errors_if_that_is_wanted(tasks: TaskStore, ours: bool, status: int):
    async def start(request: web.Request) -> web.Response:
        return aiohttp.accepted(await aiohttp.get_store(request).enqueue("work", {"number": "many"}), request)

    app = web.Application(middlewares=[aiohttp.task_errors] if ours else [])
    app.add_routes([web.post("/", start)])
    app.cleanup_ctx.append(aiohttp.store_context(tasks))
    async with AiohttpClient(TestServer(app)) as client:
        assert (await client.post("/")).status == status


async def test_a_client_of_aiohttps_that_leaves_frees_its_stream(tasks: TaskStore):
    app = web.Application()
    app.add_routes(aiohttp.task_routes(stream=True, max_streams=1, stream_heartbeat=0.02, stream_interval=0.01))
    app.cleanup_ctx.append(aiohttp.store_context(tasks))
    async with AiohttpClient(TestServer(app)) as client:
        path = f"/tasks/{(await tasks.enqueue('work', {'number': 1})).id}/events"
        async with client.get(path) as first:
            await first.content.readuntil(b"event: status")
            async with client.get(path) as second:
                assert second.status == 503
        while (again := await client.get(path)).status == 503:
            again.release()
        assert again.status == 200
        again.close()


async def test_without_a_context_aiohttps_store_is_asked_for_in_words():
    async def look(request: web.Request) -> web.Response:
        with pytest.raises(ConfigurationError, match="store_context"):
            aiohttp.get_store(request)
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", look)])
    async with AiohttpClient(TestServer(app)) as client:
        assert (await client.get("/")).status == 200


# ── both ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("module", [litestar, aiohttp], ids=["litestar", "aiohttp"])
@pytest.mark.parametrize(("option", "value"), WRONG)
def test_a_wrong_option_of_the_routes_is_refused_where_it_is_named(module: Any, option: str, value: Any):
    with pytest.raises(ConfigurationError, match=option):
        module.task_routes(**{option: value})


def test_a_wrong_dispatcher_is_refused_where_it_is_named(tasks: TaskStore):
    with pytest.raises(ConfigurationError, match="grace"):
        litestar.TaskStorePlugin(tasks, dispatcher={"grace": -1})
    with pytest.raises(ConfigurationError, match="grace"):
        aiohttp.dispatcher_context(tasks, grace=-1)
    with pytest.raises(ConfigurationError, match="speed"):
        aiohttp.dispatcher_context(tasks, speed=3)  # type: ignore[call-arg]
