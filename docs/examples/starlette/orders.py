"""A shop with Starlette and SQLAlchemy's Core: an order is stored together with the task that confirms it.

export DATABASE_URL=sqlite+aiosqlite:///orders.db   # or postgresql+asyncpg://user@host/shop
python orders.py                                    # makes the shop's table; once
uvicorn orders:app --timeout-graceful-shutdown 10
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aiotaskstore import TaskContext, TaskStore
from aiotaskstore.integrations.starlette import accepted, error_handlers, get_store, task_lifespan, task_routes

URL = os.environ["DATABASE_URL"]
# The library's own defaults, for which `dispatcher=True` is enough: the tests of this example set shorter ones.
GRACE = float(os.environ.get("GRACE", "20"))  # seconds that a stop waits for tasks; what then still runs goes back
LEASE = float(os.environ.get("LEASE", "15"))  # seconds until the tasks of a killed server are run by another

store = TaskStore(URL)
engine = create_async_engine(URL, connect_args={"timeout": 30})
metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("item", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("confirmations", Integer, nullable=False, default=0),
)


class NewOrder(BaseModel):
    """What a customer sends."""

    item: str
    quantity: int = Field(gt=0)
    card: str = "4242"


class PriceList(BaseModel):
    """The items whose prices the supplier is asked for, each of which takes a while."""

    items: list[str]
    seconds_each: float = 0.5


@store.task(max_attempts=5)
async def confirm_order(order: int) -> None:
    """Tell the customer."""
    async with engine.begin() as connection:
        more = orders.c.confirmations + 1
        await connection.execute(update(orders).where(orders.c.id == order).values(confirmations=more))


@store.task(max_attempts=3, timeout=3600)
async def import_prices(context: TaskContext, items: list[str], seconds_each: float) -> int:
    """Ask the supplier for the price of each item."""
    for done, item in enumerate(items, 1):
        await asyncio.sleep(seconds_each)
        await context.progress(item, fraction=done / len(items))
    return len(items)


def charge(card: str) -> None:
    """Charge a card. A bank may refuse it."""
    if card == "refused":
        raise HTTPException(402, "The bank has refused the card.")


async def place_order(request: Request) -> Response:
    """Store an order, and with it the task that confirms it: both or neither, and committed before the response."""
    order = NewOrder.model_validate_json(await request.body())
    async with request.state.engine.begin() as connection:
        row = insert(orders).values(item=order.item, quantity=order.quantity)
        (order_id,) = (await connection.execute(row)).inserted_primary_key
        handle = await confirm_order.using(connection).enqueue(order_id)
        charge(order.card)
    return accepted(handle, request)


async def list_orders(request: Request) -> Response:
    """Return the orders of an item."""
    wanted = select(orders).where(orders.c.item == request.query_params["item"]).order_by(orders.c.id)
    async with request.state.engine.connect() as connection:
        found = (await connection.execute(wanted)).mappings()
        return JSONResponse([{name: row[name] for name in ("id", "quantity", "confirmations")} for row in found])


async def start_import(request: Request) -> Response:
    """Start an import; its progress is under `Location`."""
    wanted = PriceList.model_validate_json(await request.body())
    return accepted(await import_prices.enqueue(wanted.items, wanted.seconds_each), request)


async def health(request: Request) -> Response:
    """Tell a load balancer whether this process serves and dispatches. It asks no database."""
    told = {"open": get_store(request).is_open, "dispatching": request.state.dispatcher.running}
    return JSONResponse(told, 200 if all(told.values()) else 503)


async def refuse(_request: Request, error: Exception) -> Response:
    """Tell a client what does not fit."""
    assert isinstance(error, ValidationError)  # noqa: S101 - the only error it is registered for
    return JSONResponse({"detail": error.errors(include_url=False, include_context=False)}, 422)


class State(TypedDict):
    """What the application's own lifespan holds."""

    engine: AsyncEngine


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    """Hold what is the application's own. It is there before the first task runs, and until the last has ended."""
    yield {"engine": engine}
    await engine.dispose()


app = Starlette(
    routes=[
        Route("/orders", place_order, methods=["POST"]),
        Route("/orders", list_orders, methods=["GET"]),
        Route("/prices", start_import, methods=["POST"]),
        Route("/health", health),
        *task_routes(cancel=True, stream=True, include_result=True),  # or in a Mount with middleware of yours
    ],
    lifespan=task_lifespan(
        store,
        dispatcher={"grace": GRACE, "lease": LEASE, "heartbeat": LEASE / 3, "healer": LEASE / 3},
        lifespan=lifespan,
    ),
    exception_handlers={**error_handlers, ValidationError: refuse},
)


async def create_tables() -> None:
    """Make the shop's table. The store makes its own when it opens."""
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(create_tables())
