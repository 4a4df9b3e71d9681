"""The integrations inside an application, in this process: lifespans, options, errors, and how streams end."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.testclient import TestClient
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.applications import Starlette

import aiotaskstore.integrations.starlette as starlette_integration
from aiotaskstore import (
    ConfigurationError,
    DatabaseUnavailableError,
    DefinitionInactiveError,
    DispatcherStopped,
    DuplicateTaskError,
    NotCancellableError,
    PayloadError,
    Retention,
    TaskContext,
    TaskNotFoundError,
    TaskStore,
    TaskStoreError,
)
from aiotaskstore.integrations.fastapi import Tasks, accepted, error_handlers, get_store, task_lifespan, task_routes
from tests.frameworks.web_server import sqlalchemy_url
from tests.helpers import LIMIT, eventually, expect

INTEGRATIONS = ("fastapi", "starlette", "litestar", "aiohttp")


@pytest.fixture
def tasks(sqlite_url: str) -> TaskStore:
    """A closed store with tasks of each kind."""
    store = TaskStore(sqlite_url, transaction_timeout=LIMIT)

    @store.task
    async def count(context: TaskContext, to: int) -> int:
        for number in range(to):
            await context.progress(str(number))
        return to

    @store.task
    async def fail(secret: str) -> None:
        raise LookupError(f"not found: {len(secret)}")

    @store.task
    async def wait() -> None:
        await asyncio.Event().wait()

    @store.task(retention=Retention(keep="none"))
    async def vanish() -> None: ...

    return store


def app_of(store: TaskStore, **options: Any) -> FastAPI:
    """Make an application that enqueues any task, and has the routes of tasks with these options."""
    app = FastAPI(lifespan=task_lifespan(store, dispatcher={"grace": 0}), exception_handlers=error_handlers)
    app.include_router(task_routes(**options))

    @app.post("/enqueue/{alias}")
    async def enqueue(alias: str, payload: dict[str, Any], request: Request, tasks: Tasks) -> Response:
        return accepted(await tasks.enqueue(alias, payload), request)

    return app


def enqueue(client: TestClient, alias: str, **payload: Any) -> str:
    location: str = client.post(f"/enqueue/{alias}", json=payload).headers["location"]
    return location


def finished(client: TestClient, location: str) -> dict[str, Any]:
    """Follow a task's stream to its end, and return what its status route shows then."""
    with client.stream("GET", f"{location}/events") as response:
        list(response.iter_lines())
    shown: dict[str, Any] = client.get(location).json()
    return shown


# ── the lifespan ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_own_lifespan_holds_its_state_from_before_the_first_run_until_after_the_last(tasks: TaskStore):
    told: list[tuple[str, bool, bool]] = []
    dispatchers: list[Any] = []

    def tell(moment: str) -> None:
        told.append((moment, tasks.is_open, bool(dispatchers) and dispatchers[0].running))

    @asynccontextmanager
    async def own(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        tell("entered")
        yield {"mine": "there"}
        tell("left")

    app = FastAPI(lifespan=task_lifespan(tasks, dispatcher=True, lifespan=own))

    @app.get("/")
    async def look(request: Request) -> str:
        dispatchers.append(request.state.dispatcher)
        tell("served")
        assert request.state.tasks is tasks
        mine: str = request.state.mine
        return mine

    for _ in range(2):  # and again, on another event loop
        told.clear()
        dispatchers.clear()
        with TestClient(app) as client:
            assert client.get("/").json() == "there"
        assert told == [("entered", True, False), ("served", True, True), ("left", True, False)]
        assert not tasks.is_open


def test_the_lifespan_may_be_entered_inside_another_one(tasks: TaskStore):
    @asynccontextmanager
    async def outer(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with starlette_integration.task_lifespan(tasks)(app) as state:
            yield {**state, "mine": "there"}

    async def look(request: Any) -> Response:
        return Response(f"{request.state.mine} {starlette_integration.get_store(request) is tasks}")

    app = Starlette(lifespan=outer)
    app.add_route("/", look)
    with TestClient(app) as client:
        assert client.get("/").text == "there True"


@pytest.mark.parametrize("name", ["tasks", "dispatcher"])
def test_a_state_that_has_our_names_is_refused_at_the_start(tasks: TaskStore, name: str):
    @asynccontextmanager
    async def own(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {name: 1}

    with (
        pytest.raises(ConfigurationError, match=f'has "{name}"'),
        TestClient(FastAPI(lifespan=task_lifespan(tasks, lifespan=own))),
    ):
        pass
    assert not tasks.is_open


@pytest.mark.parametrize(("dispatcher", "told"), [
    ("yes", "True, False or"), ({"grace": -1}, "grace"), ({"speed": 3}, "speed"), (None, "True, False or"),
])  # fmt: skip
def test_a_wrong_dispatcher_is_refused_where_it_is_named(tasks: TaskStore, dispatcher: Any, told: str):
    with pytest.raises(ConfigurationError, match=told):
        task_lifespan(tasks, dispatcher=dispatcher)


def test_a_database_that_cannot_be_reached_ends_the_start_before_the_own_lifespan():
    entered = []

    @asynccontextmanager
    async def own(_app: FastAPI) -> AsyncIterator[None]:
        entered.append(1)
        yield

    store = TaskStore("postgresql://nobody@127.0.0.1:1/nothing")
    app = FastAPI(lifespan=task_lifespan(store, lifespan=own))
    with pytest.raises(DatabaseUnavailableError), TestClient(app):
        pass
    assert entered == []


async def test_a_store_that_was_open_before_stays_open_after(tasks: TaskStore):
    async with tasks:
        async with task_lifespan(tasks)(None):
            pass
        assert tasks.is_open


async def test_a_dispatcher_that_fails_leaves_the_application_serving_and_is_told_at_the_end(tasks: TaskStore):
    with pytest.raises(TaskStoreError, match="claimer"):
        async with task_lifespan(tasks, dispatcher=True)(None) as state:
            async with expect(tasks, DispatcherStopped):
                claimer = next(one for one in asyncio.all_tasks() if one.get_name() == "aiotaskstore claimer")
                claimer.cancel()
            assert not state["dispatcher"].running
            assert await (await tasks.enqueue("wait")).status() == "pending"
    assert not tasks.is_open


# ── the store and the routes ──────────────────────────────────────────────────────────────────────────────────────


def test_without_the_lifespan_the_store_is_asked_for_in_words(tasks: TaskStore):
    app = app_of(tasks)
    with pytest.raises(ConfigurationError, match="task_lifespan"):
        TestClient(app).get(f"/tasks/{uuid4()}")  # no lifespan: it is no context manager here


def test_a_test_may_put_another_store_in_the_place_of_the_applications(tasks: TaskStore, tmp_path):
    other = TaskStore(f"sqlite:///{tmp_path / 'other.db'}")
    app = FastAPI(lifespan=task_lifespan(other))
    app.include_router(task_routes())
    app.dependency_overrides[get_store] = lambda: tasks
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get(f"/tasks/{uuid4()}").status_code == 500  # `tasks` is closed
        assert not tasks.is_open


def test_dependencies_protect_every_route_and_see_whose_task_it_is(tasks: TaskStore):
    seen: list[str] = []

    async def refuse(task_id: str) -> None:
        seen.append(task_id)
        raise HTTPException(403)

    app = FastAPI(lifespan=task_lifespan(tasks))
    app.include_router(task_routes(cancel=True, stream=True, dependencies=[Depends(refuse)]))
    with TestClient(app) as client:
        replies = [client.get("/tasks/a"), client.post("/tasks/b/cancel"), client.get("/tasks/c/events")]
    assert [reply.status_code for reply in replies] == [403] * 3
    assert seen == ["a", "b", "c"]


def test_only_the_status_is_routed_unless_more_is_wanted_and_nothing_more_is_shown(tasks: TaskStore):
    app = app_of(tasks)
    with TestClient(app) as client:
        location = enqueue(client, "fail", secret="hidden")
        assert client.get(f"{location}/events").status_code == 404
        assert client.post(f"{location}/cancel").status_code == 404
        shown = client.get(location)
        assert shown.json().keys() == {"id", "alias", "status", "progress"}
        assert shown.headers["cache-control"] == "no-store"


def test_errors_are_shown_only_where_they_are_wanted(tasks: TaskStore):
    with TestClient(app_of(tasks, stream=True, cancel=True, include_error=True)) as client:
        shown = finished(client, enqueue(client, "fail", secret="hidden"))
        assert shown["error"] == {"type": "LookupError", "message": "not found: 6"}
        location = enqueue(client, "wait")
        client.post(f"{location}/cancel")
        assert finished(client, location)["error"] == {"type": "cancelled", "message": "cancelled over HTTP"}
        assert finished(client, enqueue(client, "count", to=1))["error"] is None


def test_without_a_status_route_there_is_no_location(tasks: TaskStore):
    app = FastAPI(lifespan=task_lifespan(tasks))

    @app.post("/")
    async def start(request: Request, tasks: Tasks, location: str | None = None) -> Response:
        return accepted(await tasks.enqueue("wait"), request, location=location)

    with TestClient(app) as client:
        none, given = client.post("/"), client.post("/?location=/elsewhere")
    assert none.status_code == given.status_code == 202
    assert "location" not in none.headers
    assert none.json()["location"] is None
    assert given.headers["location"] == "/elsewhere"


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (TaskNotFoundError("x"), 404, {"detail": "There is no such task."}),
        (NotCancellableError(uuid4(), "failed"), 409, {"detail": "The task has finished: it is failed."}),
        (PayloadError("to: Input should be a valid integer"), 422, {"detail": "to: Input should be a valid integer"}),
        (DatabaseUnavailableError("10.0.0.7 refused"), 503, {"detail": "The database cannot be reached for now."}),
        (DefinitionInactiveError("count"), 503, {"detail": "Tasks of this kind are switched off for now."}),
    ],
)
def test_an_error_that_a_client_or_an_outage_causes_has_a_reply(error: Exception, status: int, body: dict[str, Any]):
    app = FastAPI(exception_handlers=error_handlers)

    @app.get("/")
    async def fails() -> None:
        raise error

    reply = TestClient(app).get("/")
    assert (reply.status_code, reply.json()) == (status, body)
    assert ("retry-after" in reply.headers) == (status == 503)


def test_a_duplicate_names_the_task_that_is_there(tasks: TaskStore):
    existing = uuid4()
    app = FastAPI(exception_handlers=error_handlers)

    @app.get("/")
    async def fails() -> None:
        raise DuplicateTaskError("count", "order-1", existing)

    reply = TestClient(app).get("/")
    assert (reply.status_code, reply.json()["id"]) == (409, str(existing))
    assert "order-1" not in reply.text


def test_a_mistake_of_the_applications_stays_a_500(tasks: TaskStore):
    with TestClient(app_of(tasks), raise_server_exceptions=False) as client:
        assert client.post("/enqueue/no_such_alias", json={}).status_code == 500
        assert client.post("/enqueue/count", json={"to": "many"}).status_code == 422


@pytest.mark.parametrize(("option", "value"), [
    ("max_streams", 0), ("stream_interval", 0), ("stream_heartbeat", -1), ("cancel", "yes"), ("include_result", None),
])  # fmt: skip
def test_a_wrong_option_of_the_routes_is_refused_where_it_is_named(option: str, value: Any):
    with pytest.raises(ConfigurationError, match=option):
        task_routes(**{option: value})


def test_the_schema_names_every_route(tasks: TaskStore):
    paths = app_of(tasks, cancel=True, stream=True).openapi()["paths"]
    assert {"/tasks/{task_id}", "/tasks/{task_id}/cancel", "/tasks/{task_id}/events"} <= paths.keys()
    shown = paths["/tasks/{task_id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert shown["$ref"].endswith("TaskView")


# ── streams ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Reader:
    """A client of a stream that reads, and leaves when it likes."""

    def __init__(
        self, app: Any, path: str, state: dict[str, Any], look: Callable[[], Awaitable[int]] | None = None
    ) -> None:
        self._look = look
        self.seen: int | None = None
        """What `look` has returned when the response began."""
        self._leaves = asyncio.Event()
        self.status = 0
        self.text = ""
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "GET", "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": [], "scheme": "http", "root_path": "",
            "server": ("testserver", 80), "client": ("testclient", 1), "http_version": "1.1", "state": dict(state),
        }  # fmt: skip
        self.run = app(scope, self._receive, self._send)

    async def leave(self) -> None:
        self._leaves.set()

    async def _receive(self) -> dict[str, Any]:
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self._look is not None and message["type"] == "http.response.start":
            self.seen = await self._look()
        self.status = message.get("status", self.status)
        self.text += message.get("body", b"").decode()


async def test_a_client_that_leaves_frees_its_stream_and_one_too_many_is_told_to_come_later(tasks: TaskStore):
    app = app_of(tasks, stream=True, max_streams=1, stream_interval=0.01)
    async with app.router.lifespan_context(app) as state, asyncio.TaskGroup() as group:
        assert state is not None
        path = f"/tasks/{(await tasks.enqueue('wait')).id}/events"
        first, second, third = (Reader(app, path, dict(state)) for _ in range(3))
        reading = group.create_task(first.run)
        await eventually(lambda: "event: status" in first.text)
        await second.run
        assert second.status == 503
        await first.leave()
        await reading
        again = group.create_task(third.run)
        await eventually(lambda: "event: status" in third.text)
        assert third.status == 200
        await third.leave()
        await again


async def test_a_head_request_of_a_stream_ends_at_once_and_opens_none(tasks: TaskStore):
    routes = starlette_integration.task_routes(stream=True, max_streams=1)
    app = Starlette(routes=routes, lifespan=starlette_integration.task_lifespan(tasks))
    with TestClient(app) as client:
        assert client.portal is not None
        path = f"/tasks/{client.portal.call(tasks.enqueue, 'wait').id}/events"  # which never ends
        for _ in range(2):
            reply = client.head(path)
            assert (reply.status_code, reply.text) == (200, "")
            assert reply.headers["content-type"].startswith("text/event-stream")


async def test_a_silent_stream_has_heartbeats(tasks: TaskStore):
    app = app_of(tasks, stream=True, stream_heartbeat=0.02, stream_interval=LIMIT)
    async with app.router.lifespan_context(app) as state, asyncio.TaskGroup() as group:
        assert state is not None
        reader = Reader(app, f"/tasks/{(await tasks.enqueue('wait')).id}/events", dict(state))
        reading = group.create_task(reader.run)
        await eventually(lambda: reader.text.count(": still here\n\n") >= 3)
        await reader.leave()
        await reading
        assert "finished" not in reader.text


def test_a_task_whose_row_is_not_kept_has_an_end_too(tasks: TaskStore):
    app = FastAPI(lifespan=task_lifespan(tasks))
    app.include_router(task_routes(stream=True, stream_interval=0.01))

    @app.post("/run")
    async def run(tasks: Tasks) -> int:
        return await tasks.dispatcher().run_once()

    with TestClient(app) as client:
        assert client.portal is not None
        location = f"/tasks/{client.portal.call(tasks.enqueue, 'vanish').id}"
        with client.stream("GET", f"{location}/events") as response:
            lines = response.iter_lines()
            assert "event: status" in [next(lines) for _ in range(3)]
            client.post("/run")
            rest = "\n".join(lines)
        assert '"status": null' in rest
        assert client.get(location).status_code == 404


def test_a_stream_whose_database_goes_away_ends_without_an_end_of_the_task(
    tasks: TaskStore, monkeypatch: pytest.MonkeyPatch
):
    async def unavailable(*_: Any, **__: Any) -> AsyncIterator[Any]:
        raise DatabaseUnavailableError("gone")
        yield

    with TestClient(app_of(tasks, stream=True)) as client:
        location = enqueue(client, "wait")
        monkeypatch.setattr(type(tasks.tasks), "watch", unavailable)
        with client.stream("GET", f"{location}/events") as response:
            text = "".join(response.iter_text())
    assert text.startswith("retry: ")
    assert "event: status" in text
    assert "finished" not in text


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("scope", "stored"), [("function", 1), ("request", 0)])
async def test_a_session_whose_scope_is_the_function_commits_before_the_response_is_sent(
    tasks: TaskStore, sqlite_url: str, scope: Any, stored: int
):
    """And with FastAPI's default scope it does not: that is why the guide names the other."""
    engine = create_async_engine(sqlalchemy_url(sqlite_url))

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session, session.begin():
            yield session

    async def start(tasks: Any, session: Any, request: Any) -> Response:
        return accepted(await tasks.using(session).enqueue("wait"), request)

    start.__annotations__ |= {
        "tasks": Tasks, "session": Annotated[AsyncSession, Depends(get_session, scope=scope)], "request": Request,
    }  # fmt: skip
    app = FastAPI(lifespan=task_lifespan(tasks))
    app.add_api_route("/", start)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        reader = Reader(app, "/", dict(state), look=lambda: tasks.tasks.count(alias="wait"))
        await reader.run
        assert (reader.status, reader.seen) == (202, stored)
        assert await tasks.tasks.count(alias="wait") == 1
    await engine.dispose()


# ── packages ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_library_imports_no_framework():
    program = (
        "import aiotaskstore, sys\nassert not {'fastapi', 'starlette', 'litestar', 'aiohttp'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have a package, and what was imported from it, not be there."""
    kept = {name: module for name, module in sys.modules.items() if name.startswith("aiotaskstore.integrations")}

    def hide(package: str) -> None:
        for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
            monkeypatch.setitem(sys.modules, name, None)

    yield hide
    sys.modules.update(kept)


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_a_missing_package_is_told_with_what_to_install(name: str, without_packages: Callable[[str], None]):
    without_packages(name)
    sys.modules.pop(f"aiotaskstore.integrations.{name}", None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'aiotaskstore\[{name}\]'"):
        importlib.import_module(f"aiotaskstore.integrations.{name}")
