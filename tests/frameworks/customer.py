"""What a shop's customers do over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2

from tests.helpers import eventually

FINISHED = {"succeeded", "failed", "cancelled", "interrupted"}


async def order(client: httpx2.AsyncClient, item: str, **given: Any) -> httpx2.Response:
    return await client.post("/orders", json={"item": item, "quantity": 1, **given})


async def orders(client: httpx2.AsyncClient, item: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/orders", params={"item": item})).json()
    return found


async def start_import(client: httpx2.AsyncClient, items: int, seconds_each: float) -> str:
    """Start an import, and return where its task is."""
    wanted = {"items": [f"item {n}" for n in range(items)], "seconds_each": seconds_each}
    accepted = await client.post("/prices", json=wanted)
    assert accepted.status_code == 202, accepted.text
    return accepted.headers["location"]


async def task(client: httpx2.AsyncClient, location: str) -> dict[str, Any]:
    shown = await client.get(location)
    assert shown.status_code == 200, shown.text
    found: dict[str, Any] = shown.json()
    return found


async def progressing(client: httpx2.AsyncClient, location: str) -> dict[str, Any]:
    """Wait until a task runs and has reported some progress."""

    async def look() -> dict[str, Any] | None:
        found = await task(client, location)
        assert found["status"] not in FINISHED, found
        return found if found["status"] == "running" and found["progress"] else None

    found: dict[str, Any] = await eventually(look)
    return found


async def ended(client: httpx2.AsyncClient, location: str) -> dict[str, Any]:
    """Wait until a task has finished."""

    async def look() -> dict[str, Any] | None:
        found = await task(client, location)
        return found if found["status"] in FINISHED else None

    found: dict[str, Any] = await eventually(look)
    return found


async def events(client: httpx2.AsyncClient, location: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield the kind and the data of each event of a task's stream, until the server ends it."""
    async with client.stream("GET", f"{location}/events") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        kind = ""
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)


def new_item() -> str:
    """Return the name of an item that nobody else orders."""
    return f"book {uuid4()}"
