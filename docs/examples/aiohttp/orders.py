"""A shop with aiohttp and no ORM: an order is stored together with the task that confirms it.

export DATABASE_URL=sqlite:///orders.db             # or postgresql://user@host/shop
python orders.py                                    # makes the shop's table; once
python -m aiohttp.web -P 8000 orders:create_app
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from aiotaskstore import TaskContext, TaskStore
from aiotaskstore.integrations.aiohttp import (
    DISPATCHER,
    TASKS,
    accepted,
    dispatcher_context,
    store_context,
    task_errors,
    task_routes,
)

URL = os.environ["DATABASE_URL"]
POSTGRESQL = URL.startswith("postgresql")
# The library's own defaults: `dispatcher_context(store)` is enough. The tests of this example set shorter ones.
GRACE = float(os.environ.get("GRACE", "20"))  # seconds that a stop waits for tasks; what then still runs goes back
LEASE = float(os.environ.get("LEASE", "15"))  # seconds until the tasks of a killed server are run by another

store = TaskStore(URL)


class NewOrder(BaseModel):
    """What a customer sends."""

    item: str
    quantity: int = Field(gt=0)
    card: str = "4242"


class PriceList(BaseModel):
    """The items whose prices the supplier is asked for, each of which takes a while."""

    items: list[str]
    seconds_each: float = 0.5


async def fetch(connection: Any, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement on the connection that a transaction lends: asyncpg's, or aiosqlite's."""
    if POSTGRESQL:
        return [tuple(row) for row in await connection.fetch(sql, *values)]
    async with connection.execute(re.sub(r"\$\d+", "?", sql), values) as cursor:
        return [tuple(row) for row in await cursor.fetchall()]


@store.task(max_attempts=5)
async def confirm_order(context: TaskContext, order: int) -> None:
    """Tell the customer: noted together with the task's success, or not at all."""
    async with context.transaction() as connection:
        await fetch(connection, "UPDATE orders SET confirmations = confirmations + 1 WHERE id = $1", order)


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
        raise web.HTTPPaymentRequired(text="The bank has refused the card.")


async def place_order(request: web.Request) -> web.Response:
    """Store an order, and with it the task that confirms it: both or neither."""
    order = NewOrder.model_validate_json(await request.read())
    async with store.transaction() as connection:  # what is enqueued inside joins it
        insert = "INSERT INTO orders (item, quantity, confirmations) VALUES ($1, $2, 0) RETURNING id"
        ((order_id,),) = await fetch(connection, insert, order.item, order.quantity)
        handle = await confirm_order.enqueue(order_id)
        charge(order.card)
    return accepted(handle, request)


async def list_orders(request: web.Request) -> web.Response:
    """Return the orders of an item."""
    select = "SELECT id, quantity, confirmations FROM orders WHERE item = $1 ORDER BY id"
    async with store.transaction() as connection:
        found = await fetch(connection, select, request.query["item"])
    return web.json_response([dict(zip(("id", "quantity", "confirmations"), row, strict=True)) for row in found])


async def start_import(request: web.Request) -> web.Response:
    """Start an import; its progress is under `Location`."""
    wanted = PriceList.model_validate_json(await request.read())
    return accepted(await import_prices.enqueue(wanted.items, wanted.seconds_each), request)


async def health(request: web.Request) -> web.Response:
    """Tell a load balancer whether this process serves and dispatches. It asks no database."""
    told = {"open": request.app[TASKS].is_open, "dispatching": request.app[DISPATCHER].running}
    return web.json_response(told, status=200 if all(told.values()) else 503)


@web.middleware
async def refuse(request: web.Request, handler: Any) -> web.StreamResponse:
    """Tell a client what does not fit."""
    try:
        response: web.StreamResponse = await handler(request)
    except ValidationError as error:
        return web.json_response({"detail": error.errors(include_url=False, include_context=False)}, status=422)
    return response


def create_app(_arguments: list[str] | None = None) -> web.Application:
    """Make the application."""
    app = web.Application(middlewares=[task_errors, refuse])
    app.add_routes(
        [
            web.post("/orders", place_order),
            web.get("/orders", list_orders),
            web.post("/prices", start_import),
            web.get("/health", health),
            *task_routes(cancel=True, stream=True, include_result=True),  # decorator=your_login_required
        ]
    )
    app.cleanup_ctx.append(store_context(store))
    # What handlers need is appended here: entered before the first run, and left after the last.
    app.cleanup_ctx.append(dispatcher_context(store, grace=GRACE, lease=LEASE, heartbeat=LEASE / 3, healer=LEASE / 3))
    return app


async def create_tables() -> None:
    """Make the shop's table. The store makes its own when it opens."""
    key = "SERIAL" if POSTGRESQL else "INTEGER"
    columns = f"id {key} PRIMARY KEY, item TEXT NOT NULL, quantity INTEGER NOT NULL, confirmations INTEGER NOT NULL"
    async with store, store.transaction() as connection:
        await fetch(connection, f"CREATE TABLE IF NOT EXISTS orders ({columns})")


if __name__ == "__main__":
    asyncio.run(create_tables())
