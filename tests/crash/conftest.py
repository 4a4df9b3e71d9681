"""A ledger and a crew for each test, and private servers that tests may kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.crew import Crew
from tests.crash.ledger import Ledger
from tests.servers import MariaDB, PostgreSQL, Server


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger")
    yield opened
    opened.close()


@pytest.fixture
def crew(tmp_path: Path, ledger: Ledger) -> Iterator[Crew]:
    gathered = Crew(tmp_path, ledger)
    yield gathered
    gathered.close()


@pytest.fixture(scope="package")
def servers() -> Iterator[dict[str, Server]]:
    """The private servers, started when first asked for; a test that killed one leaves it running again."""
    with ExitStack() as stack:

        class Started(dict[str, Server]):
            def __missing__(self, name: str) -> Server:
                self[name] = server = stack.enter_context({"postgresql": PostgreSQL, "mysql": MariaDB}[name]())
                return server

        yield Started()


@pytest.fixture(params=["postgresql", "mysql"])
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
