"""A journal and a crew for each test, and private servers that tests may kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.crew import Crew
from tests.crash.journal import Journal
from tests.crash.proxy import Proxy, proxy
from tests.servers import MariaDB, MySQL, PostgreSQL, Server

KINDS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MariaDB}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have all tests of one private server run in one process, which starts it. The items are those of every folder."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        if isinstance(item, pytest.Function) and "server" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(f"server {item.callspec.params['server']}"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal")
    yield opened
    opened.close()


@pytest.fixture
def crew(tmp_path: Path, journal: Journal) -> Iterator[Crew]:
    gathered = Crew(tmp_path, journal)
    yield gathered
    gathered.close()


@pytest.fixture(scope="package")
def servers() -> Iterator[dict[str, Server]]:
    """The private servers, started when first asked for; a test that killed one leaves it running again."""
    with ExitStack() as stack:

        class Started(dict[str, Server]):
            def __missing__(self, name: str) -> Server:
                self[name] = server = stack.enter_context(KINDS[name]())
                return server

        yield Started()


@pytest.fixture(params=list(KINDS))
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """A private server of each kind in turn. Tests share it, so each takes a prefix of its own."""
    found = servers[request.param]
    if not found.running:
        found.restart()
    return found


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """Names for the tables of one test alone."""
    return f"t{abs(hash(tmp_path)) % 10**12}_"


@pytest.fixture
async def way(server_url: str) -> AsyncIterator[Proxy]:
    """A way to a server that a test may slow down, cut or freeze."""
    async with proxy(server_url) as opened:
        yield opened
