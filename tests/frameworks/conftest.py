"""The examples of the guide on each framework and database, and the servers that tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import httpx2
import pytest

from aiotaskstore import TaskStore
from tests.conftest import ENGINES
from tests.frameworks.web_server import Fleet, WebServer, create_tables
from tests.helpers import LIMIT

FRAMEWORKS = ("fastapi", "starlette", "litestar", "aiohttp")
DATABASES = [engine for engine in ("sqlite", "postgresql") if engine in ENGINES]


class Shop(NamedTuple):
    """An example, and a database with its tables."""

    framework: str
    url: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have all tests of one shop run in one process, which starts its server."""
    for item in items:
        if isinstance(item, pytest.Function) and "shop" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(f"shop {item.callspec.params['shop']}"))


@pytest.fixture(
    scope="package",
    params=[(framework, engine) for framework in FRAMEWORKS for engine in DATABASES],
    ids=lambda given: f"{given[0]}-{given[1]}",
)
def shop(
    request: pytest.FixtureRequest, databases: dict[str, Callable[[], AbstractContextManager[str]]]
) -> Iterator[Shop]:
    """Each example on each database in turn."""
    framework, engine = request.param
    with databases[engine]() as url:
        create_tables(framework, url)
        yield Shop(framework, url)


@pytest.fixture(scope="package")
def fleet(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The servers of the shop, one after the other."""
    started = Fleet(shop.framework, shop.url, tmp_path_factory.mktemp("servers"))
    yield started
    started.close()


@pytest.fixture
def server(fleet: Fleet) -> WebServer:
    """The server that serves the shop now."""
    return fleet.serving()


@pytest.fixture
async def client(server: WebServer) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the server."""
    async with server.client() as opened:
        yield opened


@pytest.fixture
async def store(shop: Shop) -> AsyncIterator[TaskStore]:
    """The shop's store, to look into."""
    async with TaskStore(shop.url, transaction_timeout=LIMIT) as opened:
        yield opened
