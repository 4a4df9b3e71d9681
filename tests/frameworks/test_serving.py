"""What each framework's example promises its customers."""

from __future__ import annotations

import httpx2
import pytest

from aiotaskstore import TaskStore
from tests.frameworks.customer import ended, events, new_item, order, orders, progressing, start_import, task


async def test_an_order_is_accepted_with_the_location_of_the_task_that_then_confirms_it(client: httpx2.AsyncClient):
    item = new_item()
    accepted = await order(client, item)
    assert accepted.status_code == 202
    assert accepted.headers["location"] == accepted.json()["location"] == f"/tasks/{accepted.json()['id']}"
    shown = await ended(client, accepted.headers["location"])
    assert shown == {
        "id": accepted.json()["id"], "alias": "confirm_order", "status": "succeeded", "progress": None, "result": None,
    }  # fmt: skip
    assert [found["confirmations"] for found in await orders(client, item)] == [1]


async def test_an_order_whose_request_fails_leaves_neither_a_row_nor_a_task(
    client: httpx2.AsyncClient, store: TaskStore
):
    item, before = new_item(), await store.tasks.count(alias="confirm_order")
    refused = await order(client, item, card="refused")
    assert refused.status_code == 402
    assert await orders(client, item) == []
    assert await store.tasks.count(alias="confirm_order") == before


async def test_an_order_that_does_not_fit_is_refused_as_the_framework_refuses_it(client: httpx2.AsyncClient):
    item = new_item()
    refused = await order(client, item, quantity=0)
    assert refused.status_code in {400, 422}
    assert "quantity" in refused.text
    assert await orders(client, item) == []


async def test_a_task_shows_its_progress_but_not_its_payload(client: httpx2.AsyncClient):
    location = await start_import(client, 3, 0.05)
    shown = await task(client, location)
    assert shown.keys() == {"id", "alias", "status", "progress", "result"}
    finished = await ended(client, location)
    assert finished["progress"]["text"] == "item 2"
    assert finished["progress"]["fraction"] == 1
    assert finished["result"] == 3


@pytest.mark.parametrize("wrong", ["01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a", "no-uuid", "%00", "x" * 2000])
async def test_an_unknown_task_is_404_whatever_is_asked_of_it(client: httpx2.AsyncClient, wrong: str):
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        response = await client.request(method, f"/tasks/{wrong}{path}")
        assert response.status_code == 404, response.text
        assert response.json() == {"detail": "There is no such task."}


async def test_a_stream_tells_every_progress_up_to_the_end(client: httpx2.AsyncClient):
    location = await start_import(client, 3, 0.6)
    told = [event async for event in events(client, location)]
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "status"
    assert kinds[-1] == "finished"
    assert set(kinds[1:-1]) == {"progress"}
    fractions = [data["fraction"] for kind, data in told if kind == "progress"]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) >= 2
    assert told[-1][1]["status"] == "succeeded"
    assert told[-1][1] == await task(client, location)


async def test_a_browser_that_connects_again_after_the_end_is_told_to_cease(client: httpx2.AsyncClient):
    location = (await order(client, new_item())).headers["location"]
    await ended(client, location)
    assert [kind for kind, _ in [event async for event in events(client, location)]] == ["status", "finished"]
    again = await client.get(f"{location}/events", headers={"Last-Event-ID": "finished"})
    assert (again.status_code, again.content) == (204, b"")


async def test_a_running_task_is_cancelled_and_what_has_finished_is_not(client: httpx2.AsyncClient):
    location = await start_import(client, 1000, 0.1)
    await progressing(client, location)
    cancelled = await client.post(f"{location}/cancel")
    assert cancelled.status_code == 202
    assert (await ended(client, location))["status"] == "cancelled"
    again = await client.post(f"{location}/cancel")
    assert again.status_code == 409
    assert again.json() == {"detail": "The task has finished: it is cancelled."}
