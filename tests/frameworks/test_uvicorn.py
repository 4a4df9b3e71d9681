"""uvicorn's own ways to run several processes, and to replace one."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

from aiotaskstore import TaskStore
from tests.frameworks.conftest import DATABASES, Shop
from tests.frameworks.customer import ended, new_item, order, orders, start_import
from tests.frameworks.web_server import EXAMPLES, web_server
from tests.helpers import LIMIT, eventually

pytestmark = pytest.mark.parametrize(
    "shop", [("fastapi", engine) for engine in DATABASES], ids="-".join, indirect=True, scope="package"
)

ORDERS = 30


async def dispatching(store: TaskStore) -> set[int]:
    """Return the processes that have a dispatcher."""
    return {found.pid for found in await store.dispatchers.list() if found.alive}


async def test_each_of_several_workers_dispatches_and_every_order_is_confirmed_once(
    shop: Shop, store: TaskStore, tmp_path: Path
):
    item, before = new_item(), await dispatching(store)
    with web_server(*shop, tmp_path / "log", "--workers", "2", grace=1, lease=LIMIT) as server:
        await eventually(lambda: _more(store, before, 2))
        async with server.client() as client:
            async with asyncio.TaskGroup() as group:
                placed = [group.create_task(order(client, item)) for _ in range(ORDERS)]
            for one in placed:
                assert (await ended(client, one.result().headers["location"]))["status"] == "succeeded"
            assert [found["confirmations"] for found in await orders(client, item)] == [1] * ORDERS
        server.ask_to_stop()
        await asyncio.to_thread(server.ends)
    assert await dispatching(store) <= before


async def test_a_reload_replaces_the_process_and_loses_nothing(shop: Shop, store: TaskStore, tmp_path: Path):
    program = Path(shutil.copy(EXAMPLES / "fastapi" / "orders.py", tmp_path))
    before = await dispatching(store)
    with web_server(
        *shop, tmp_path / "log", "--reload", "--reload-delay", "0.1", folder=tmp_path, grace=0.2, lease=LIMIT
    ) as server:
        old = await eventually(lambda: _more(store, before, 1))
        async with server.client() as client:
            location = await start_import(client, 10, 0.1)
            later = time.time() + 10
            os.utime(program, (later, later))
            await eventually(lambda: _more(store, before | old, 1))
            assert (await ended(client, location))["result"] == 10
            assert (await store.tasks.require(location.rpartition("/")[2])).attempt == 1
            accepted = await order(client, new_item())
            assert (await ended(client, accepted.headers["location"]))["status"] == "succeeded"
        assert not old & await dispatching(store)


async def _more(store: TaskStore, before: set[int], number: int) -> set[int]:
    """Return the dispatching processes that are new, once there are so many."""
    new = await dispatching(store) - before
    return new if len(new) >= number else set()
