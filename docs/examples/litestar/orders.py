"""A shop with Litestar and SQLAlchemy: an order is stored together with the task that confirms it.

export DATABASE_URL=sqlite+aiosqlite:///orders.db   # or postgresql+asyncpg://user@host/shop
python orders.py                                    # makes the shop's table; once
uvicorn orders:app --timeout-graceful-shutdown 10
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import FromQuery, JSONBody
from pydantic import BaseModel, Field
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aiotaskstore import TaskContext, TaskStore
from aiotaskstore.integrations.litestar import Tasks, TaskStorePlugin, accepted, task_routes

URL = os.environ["DATABASE_URL"]
# The library's own defaults, for which `dispatcher=True` is enough: the tests of this example set shorter ones.
GRACE = float(os.environ.get("GRACE", "20"))  # seconds that a stop waits for tasks; what then still runs goes back
LEASE = float(os.environ.get("LEASE", "15"))  # seconds until the tasks of a killed server are run by another

store = TaskStore(URL)
engine = create_async_engine(URL, connect_args={"timeout": 30})
Session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The shop's tables."""


class Order(Base):
    """One order."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    quantity: Mapped[int]
    confirmations: Mapped[int] = mapped_column(default=0)


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
    async with Session.begin() as session:
        more = Order.confirmations + 1
        await session.execute(update(Order).where(Order.id == order).values(confirmations=more))


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
        raise HTTPException("The bank has refused the card.", status_code=402)


async def begin_transaction() -> AsyncIterator[AsyncSession]:
    """Begin a transaction; Litestar ends it when the handler has returned or raised, before the response is sent."""
    async with Session.begin() as session:
        yield session


@asynccontextmanager
async def lifespan(_app: Litestar) -> AsyncIterator[None]:
    """Hold what is the application's own. It is there before the first task runs, and until the last has ended."""
    yield
    await engine.dispose()


@post("/orders", dependencies={"session": begin_transaction})
async def place_order(
    data: JSONBody[NewOrder], session: NamedDependency[AsyncSession], request: Request[Any, Any, Any]
) -> Response[Any]:
    """Store an order, and with it the task that confirms it: both or neither."""
    row = Order(item=data.item, quantity=data.quantity)
    session.add(row)
    await session.flush()  # gives the row its id
    handle = await confirm_order.using(session).enqueue(row.id)
    charge(data.card)
    return accepted(handle, request)


@get("/orders", dependencies={"session": begin_transaction})
async def list_orders(session: NamedDependency[AsyncSession], item: FromQuery[str]) -> list[dict[str, Any]]:
    """Return the orders of an item."""
    found = await session.scalars(select(Order).where(Order.item == item).order_by(Order.id))
    return [{"id": order.id, "quantity": order.quantity, "confirmations": order.confirmations} for order in found]


@post("/prices")
async def start_import(data: JSONBody[PriceList], request: Request[Any, Any, Any]) -> Response[Any]:
    """Start an import; its progress is under `Location`."""
    return accepted(await import_prices.enqueue(data.items, data.seconds_each), request)


@get("/health")
async def health(tasks: Tasks) -> Response[dict[str, bool]]:
    """Tell a load balancer whether this process serves and dispatches. It asks no database."""
    told = {"open": tasks.is_open, "dispatching": plugin.dispatcher is not None and plugin.dispatcher.running}
    return Response(told, status_code=200 if all(told.values()) else 503)


plugin = TaskStorePlugin(
    store,
    dispatcher={"grace": GRACE, "lease": LEASE, "heartbeat": LEASE / 3, "healer": LEASE / 3},
    error_handlers=True,
)
app = Litestar(
    [
        place_order,
        list_orders,
        start_import,
        health,
        task_routes(cancel=True, stream=True, include_result=True),  # guards=[your_guard]
    ],
    plugins=[plugin],
    lifespan=[lifespan],
)


async def create_tables() -> None:
    """Make the shop's table. The store makes its own when it opens."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(create_tables())
