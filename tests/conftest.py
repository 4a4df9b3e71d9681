"""The databases that every test runs on: a fresh, empty one for each test, on real servers."""

from __future__ import annotations

import asyncio
import atexit
import gc
import inspect
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import uuid4

import aiomysql
import asyncpg
import pytest

from aiotaskstore import TaskStore
from tests.helpers import LIMIT
from tests.kept_databases import KeptDatabases

EVERY_ENGINE = ("postgresql", "mysql", "mariadb", "sqlite")
ENGINES = tuple(os.environ.get("AIOTASKSTORE_TEST_ON", ",".join(EVERY_ENGINE)).split(","))
"""The databases to run on: every one, unless tests/run.py was told `--on` which some."""
SERVERS = tuple(engine for engine in ENGINES if engine != "sqlite")
MEMORY = ("memory",) if "sqlite" in ENGINES else ()
"""SQLite's database in memory, `sqlite://`."""


@pytest.fixture(autouse=True)
def leaves_nothing_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a connection that a test left open reported by that test, and not by the next one that runs."""
    yield
    if inspect.iscoroutinefunction(request.function):
        gc.collect()


def pytest_collection_finish() -> None:
    """Have `leaves_nothing_open` look only at what is made from here on, not at thousands of collected tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=[*ENGINES, *MEMORY])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh, empty database, on each engine in turn.

    In memory there is one store's database and nobody else's, so a test that opens more on the URL does not run there,
    unless it is marked `memory`. Where `store` or `harness` opens it, its tables may be there already.
    """
    with _database(request) as text:
        yield text


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh, empty database, on each engine that is a server in turn, otherwise as `url`."""
    with _database(request) as text:
        yield text


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """The URL of a fresh, empty database on PostgreSQL."""
    with _fresh_postgresql() as text:
        yield text


@pytest.fixture(params=[engine for engine in ENGINES if engine in {"mysql", "mariadb"}])
def mysql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh, empty database, on MySQL and on MariaDB in turn."""
    with _FRESH[request.param]() as text:
        yield text


@pytest.fixture
def sqlite_url() -> Iterator[str]:
    """The URL of a SQLite file that does not exist yet."""
    with _fresh_sqlite() as text:
        yield text


@pytest.fixture
async def store(url: str) -> AsyncIterator[TaskStore]:
    """An open store on `url`, on the test's own loop. Its transactions may take as long as a slow machine needs."""
    async with TaskStore(url, transaction_timeout=LIMIT) as opened:
        yield opened


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests in memory that need a database which others can open, too."""
    items[:] = [item for item in items if not _in_memory(item) or _is_for_memory(item)]
    if getattr(config.option, "loadgroup", False):
        for item in items:
            _write_group(item)


def _write_group(item: Any) -> None:
    """Write a test's group into its id, where `--dist loadgroup` looks: pytest-xdist 3.8 does not on pytest 9.2.

    Where pytest has no such attribute, pytest-xdist writes the id itself.
    """
    group, kept = item.get_closest_marker("xdist_group"), getattr(item, "_id", None)
    if group is not None and kept is not None and "@" not in item.nodeid:
        item._id = type(kept).parse(f"{item.nodeid}@{group.args[0]}")


def _in_memory(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("url") == "memory"


def _is_for_memory(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("memory")
    if marker is not None:
        return marker.args != (False,)
    return item.path.parent.name in {"public_api", "storage"} and not _opens_more(item)


def _opens_more(item: Any) -> bool:
    """Return whether a test, or a fixture that it uses, takes the URL to open something else than its one store."""
    fixtures = item._fixtureinfo.name2fixturedefs
    takers = {name for name, found in fixtures.items() if "url" in found[-1].argnames}
    return "url" in inspect.signature(item.function).parameters or bool(takers - {"store", "harness"})


SHOWN = 20_000
"""Characters of what a test printed or logged that are kept for its report, for each kind: some log megabytes."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: Any, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a test printed fit to be sent and to be kept: some print what is no Unicode, to see it refused."""
    item._report_sections[:] = [
        (when, name, _shown(text) if when == call.when else text) for when, name, text in item._report_sections
    ]
    return (yield)


def _shown(text: str) -> str:
    shown = text if len(text) <= SHOWN else f"… the last {SHOWN:,} of {len(text):,} characters:\n{text[-SHOWN:]}"
    return shown.encode(errors="backslashreplace").decode()


def pytest_sessionfinish() -> None:
    """Drop the databases that were kept to be used again."""
    while _idle:
        name = urlsplit(_idle.pop()).path.removeprefix("/")
        sql = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
        _aside(lambda sql=sql: _run_on_postgresql(_server("postgresql"), sql))  # type: ignore[misc]
    for databases in _kept.values():
        databases.close()


def _server(engine: str) -> str:
    if engine not in ENGINES:
        pytest.skip(f"runs on {engine}, and --on names {', '.join(ENGINES)}")
    variable = f"AIOTASKSTORE_TEST_{engine.upper()}"
    text = os.environ.get(variable)
    if not text:
        pytest.fail(
            f"{variable} names no database. Run python3 tests/run.py --on {engine} -- …, which starts one, set it to "
            "a URL, or choose the tests on SQLite, which need none: -k sqlite.",
            pytrace=False,
        )
    return text


_EMPTY = """
DO $$ DECLARE name text; BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
END $$
"""
_idle: list[str] = []
"""Databases on PostgreSQL that are empty again: making one takes ten times as long as emptying it."""


@contextmanager
def _fresh_postgresql() -> Iterator[str]:
    server = _server("postgresql")
    if not _idle:
        name = f"aiotaskstore_{uuid4().hex[:16]}"
        _aside(lambda: _run_on_postgresql(server, f"CREATE DATABASE {name} TEMPLATE template0"))
        _idle.append(urlunsplit(urlsplit(server)._replace(path=f"/{name}")))
    text = _idle.pop()
    yield text
    _aside(lambda: _run_on_postgresql(text, _EMPTY))
    _idle.append(text)


async def _run_on_postgresql(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=20)
    try:
        await connection.execute("SET client_min_messages = error")
        await connection.execute(sql)
    finally:
        await connection.close()


@contextmanager
def _fresh_mysql(engine: str) -> Iterator[str]:
    server = _server(engine)
    parts = urlsplit(server)
    name = f"aiotaskstore_{uuid4().hex[:16]}"

    async def run(sql: str) -> None:
        connection = await aiomysql.connect(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 3306,
            user=unquote(parts.username or "root"),
            password=unquote(parts.password or ""),
            connect_timeout=20,
        )
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(sql)
        finally:
            await connection.ensure_closed()

    _aside(lambda: run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        _aside(lambda: run(f"DROP DATABASE IF EXISTS {name}"))


def _database(request: pytest.FixtureRequest) -> AbstractContextManager[str]:
    """Return a database on the engine that is the fixture's parameter; `store` and `harness` would make its tables."""
    kept = request.param in {"mysql", "mariadb"} and {"store", "harness"} & set(request.fixturenames)
    return _kept_on(request.param).lend() if kept else _FRESH[request.param]()


_kept: dict[str, KeptDatabases] = {}
"""By the engine: MySQL's and MariaDB's."""


def _kept_on(engine: str) -> KeptDatabases:
    if engine not in _kept:
        _kept[engine] = KeptDatabases(_server(engine), lambda url: _aside(lambda: _open_store(url)))
    return _kept[engine]


async def _open_store(url: str) -> None:
    """Have a store make its tables."""
    async with TaskStore(url):
        pass


@contextmanager
def _fresh_memory() -> Iterator[str]:
    yield "sqlite://"


@contextmanager
def _fresh_sqlite() -> Iterator[str]:
    folder = _sqlite_folder()
    file = folder / f"{uuid4().hex[:16]}.db"
    try:
        yield f"sqlite:///{file}"
    finally:
        for left in folder.glob(f"{file.name}*"):
            left.unlink()


@cache
def _sqlite_folder() -> Path:
    """Return the folder of the file that the variable names, else a temporary one; nothing is in it afterwards."""
    named = os.environ.get("AIOTASKSTORE_TEST_SQLITE")
    if not named:
        folder = tempfile.mkdtemp(prefix="aiotaskstore-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
    path = Path(unquote(urlsplit(named).path).removeprefix("/")).absolute().parent
    path.mkdir(parents=True, exist_ok=True)
    return path


_FRESH: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "postgresql": _fresh_postgresql,
    "mysql": partial(_fresh_mysql, "mysql"),
    "mariadb": partial(_fresh_mysql, "mariadb"),
    "sqlite": _fresh_sqlite,
    "memory": _fresh_memory,
}


@pytest.fixture(scope="session")
def databases() -> dict[str, Callable[[], AbstractContextManager[str]]]:
    """By the engine: a fresh, empty database for as long as a `with` block lasts, for fixtures of a wider scope."""
    return _FRESH


def _aside(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on a loop and a thread of its own: the test's loop may not exist yet, or be in use."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
