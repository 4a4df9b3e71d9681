"""Servers that are replaced while tasks run, or killed: nothing is lost, and nothing runs more often than it must."""

from __future__ import annotations

import asyncio
from uuid import UUID

import httpx2

from aiotaskstore import TaskStore
from tests.frameworks.customer import ended, events, new_item, order, orders, progressing, start_import, task
from tests.frameworks.web_server import Fleet, WebServer
from tests.helpers import change, eventually

ORDERS = 20


def id_in(location: str) -> UUID:
    return UUID(location.rpartition("/")[2])


async def test_a_deploy_in_the_middle_of_orders_and_of_a_run_loses_nothing_and_counts_no_attempt(
    fleet: Fleet, server: WebServer, store: TaskStore
):
    """The old server hands its run back when its grace is over, and leaves although somebody follows that run."""
    item = new_item()
    async with server.client() as at_old:
        location = await start_import(at_old, 10_000, 0.1)
        await progressing(at_old, location)
        with_old = await store.tasks.require(id_in(location))
        new = await asyncio.to_thread(fleet.start)
        async with new.client() as at_new, asyncio.TaskGroup() as group:
            follows = asyncio.Event()
            following = group.create_task(_kinds(at_old, location, follows))
            await follows.wait()
            accepted = [await order(at, item) for _ in range(ORDERS // 4) for at in (at_old, at_new)]
            server.ask_to_stop()
            accepted += [await order(at_new, item) for _ in range(ORDERS // 2)]
            kinds = await following
            await asyncio.to_thread(server.ends)
            assert kinds[0] == "status"
            assert "finished" not in kinds
            assert {response.status_code for response in accepted} == {202}
            for response in accepted:
                assert (await ended(at_new, response.headers["location"]))["status"] == "succeeded"
            assert [found["confirmations"] for found in await orders(at_new, item)] == [1] * ORDERS

            await progressing(at_new, location)
            with_new = await store.tasks.require(id_in(location))
            assert with_new.dispatcher_id != with_old.dispatcher_id
            assert (with_old.attempt, with_new.attempt) == (1, 1)
            await at_new.post(f"{location}/cancel")
            assert (await ended(at_new, location))["status"] == "cancelled"


async def test_the_run_of_a_server_that_is_killed_is_run_again_by_another(
    fleet: Fleet, server: WebServer, store: TaskStore
):
    async with server.client() as at_dead:
        location = await start_import(at_dead, 20, 0.1)
        await progressing(at_dead, location)
        order_before = await order(at_dead, new_item())
    server.kill()
    await change(
        store._require_open().storage.database,
        "UPDATE aiotaskstore_dispatchers SET lease = 0 WHERE pid = :pid",
        pid=server.process.pid,
    )
    other = await asyncio.to_thread(lambda: fleet.start(lease=3))
    async with other.client() as at_other:
        assert (await ended(at_other, location))["result"] == 20
        assert (await store.tasks.require(id_in(location))).attempt >= 2
        assert (await ended(at_other, order_before.headers["location"]))["status"] == "succeeded"


async def test_a_server_that_is_asked_to_stop_lets_a_short_run_end(server: WebServer, store: TaskStore):
    async with server.client() as client:
        location = await start_import(client, 2, 0.2)
        await eventually(lambda: _running(store, location))
        assert (await task(client, location))["status"] in {"running", "succeeded"}
    server.ask_to_stop()
    await asyncio.to_thread(server.ends)
    done = await store.tasks.require(id_in(location))
    assert (done.status, done.attempt) == ("succeeded", 1)


async def _kinds(client: httpx2.AsyncClient, location: str, first: asyncio.Event) -> list[str]:
    kinds = []
    async for kind, _ in events(client, location):
        kinds.append(kind)
        first.set()
    return kinds


async def _running(store: TaskStore, location: str) -> bool:
    return (await store.tasks.require(id_in(location))).status in {"running", "succeeded"}
