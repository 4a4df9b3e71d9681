"""The pytest plugin: fixtures that give testers, and on which database these work.

pytest loads it wherever the library is installed, so it imports nothing of the library before a fixture is used. The
fixtures are plain functions, and what they give is entered with `async with`: so they work under pytest-asyncio, strict
or auto, under anyio's plugin, and in tests that are not async.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aiotaskstore.taskstore import TaskStore
    from aiotaskstore.testing.tester import TaskStoreTester

    MakeTester = Callable[..., TaskStoreTester]

_INI = "tasks_database"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--tasks-database`, and the option of the same name in the configuration."""
    what = "the database that testers of task_tester work on; their tables are their own, and dropped (default: memory)"
    parser.getgroup("aiotaskstore").addoption("--tasks-database", metavar="URL", default=None, help=what)
    parser.addini(_INI, what, default="sqlite://")


@pytest.fixture(scope="session")
def tasks_database(request: pytest.FixtureRequest) -> str:
    """Return the URL of the database that testers work on: of `--tasks-database`, of the configuration, or memory."""
    return str(request.config.getoption("--tasks-database") or request.config.getini(_INI))


@pytest.fixture
def task_tester(tasks_database: str) -> MakeTester:
    """Return a function that makes testers, for `async with`.

    `task_tester(store, now=…)` takes what `TaskStoreTester` takes. Without `database=` or `connection=` the tester is
    on `tasks_database`.
    """

    def make(store: TaskStore, **options: Any) -> TaskStoreTester:
        from aiotaskstore.testing.tester import TaskStoreTester  # noqa: PLC0415 - the point of it

        if options.get("connection") is None:
            options.setdefault("database", tasks_database)
        return TaskStoreTester(store, **options)

    return make


@pytest.fixture
def task_store(tasks_database: str) -> TaskStore:
    """Return a new store without tasks, not open: for the tests of a library or a router, with `task_tester`."""
    from aiotaskstore.taskstore import TaskStore  # noqa: PLC0415 - the same

    return TaskStore(tasks_database)
