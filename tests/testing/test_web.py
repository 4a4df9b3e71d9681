"""A web application under test: its own lifespan opens and closes the store, and runs a dispatcher."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import ASGITransport, AsyncClient

from aiotaskstore import TaskStore
from aiotaskstore.testing import TaskStoreTester

store = TaskStore("postgresql://shop@shop.invalid/shop")


@store.task
async def send_welcome(user_id: int) -> int:
    return user_id


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with store:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/signup/{user_id}")
async def sign_up(user_id: int) -> str:
    return str((await send_welcome.enqueue(user_id)).id)


async def test_an_application_on_the_loop_of_the_test():
    async with TaskStoreTester(store) as tester:
        async with (
            app.router.lifespan_context(app),
            AsyncClient(transport=ASGITransport(app), base_url="http://test") as client,
        ):
            for user_id in (1, 2):
                assert (await client.post(f"/signup/{user_id}")).status_code == 200
            await tester.assert_enqueued(send_welcome, {"count": 1}, user_id=2)
        assert (await tester.drain()).succeeded == 2


def test_an_application_on_a_loop_of_its_own():
    with TaskStoreTester(store) as tester, TestClient(app) as client:
        assert client.post("/signup/3").status_code == 200
        assert client.portal is not None
        assert client.portal.call(tester.drain).succeeded == 1
        assert client.portal.call(tester.assert_enqueued, send_welcome).payload == {"user_id": 3}
    assert not store.is_open
    with pytest.raises(AssertionError), TaskStoreTester(store) as tester, TestClient(app) as client:
        assert client.portal is not None
        client.portal.call(tester.assert_enqueued, send_welcome)
