"""A shop with FastAPI and SQLAlchemy: an order is stored together with the task that confirms it.

export DATABASE_URL=sqlite+aiosqlite:///orders.db   # or postgresql+asyncpg://user@host/shop
python orders.py                                    # makes the shop's table; once
uvicorn orders:app --timeout-graceful-shutdown 10
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aiotaskstore import TaskContext, TaskStore
from aiotaskstore.integrations.fastapi import Tasks, accepted, error_handlers, task_lifespan, task_routes

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
        raise HTTPException(402, "The bank has refused the card.")


async def get_session() -> AsyncIterator[AsyncSession]:
    """Begin a transaction; commit it when the path operation has returned, roll it back if that raises."""
    async with Session.begin() as session:
        yield session


# scope="function": committed before the response is sent. Else a client would be told of an order that may yet fail.
Transaction = Annotated[AsyncSession, Depends(get_session, scope="function")]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Hold what is the application's own. It is there before the first task runs, and until the last has ended."""
    yield
    await engine.dispose()


app = FastAPI(
    lifespan=task_lifespan(
        store,
        dispatcher={"grace": GRACE, "lease": LEASE, "heartbeat": LEASE / 3, "healer": LEASE / 3},
        lifespan=lifespan,
    ),
    exception_handlers=error_handlers,
)
app.include_router(task_routes(cancel=True, stream=True, include_result=True))  # dependencies=[Depends(your_user)]


@app.post("/orders", status_code=202)
async def place_order(order: NewOrder, session: Transaction, request: Request) -> Response:
    """Store an order, and with it the task that confirms it: both or neither."""
    row = Order(item=order.item, quantity=order.quantity)
    session.add(row)
    await session.flush()  # gives the row its id
    handle = await confirm_order.using(session).enqueue(row.id)
    charge(order.card)
    return accepted(handle, request)


@app.get("/orders")
async def list_orders(session: Transaction, item: str) -> list[dict[str, Any]]:
    """Return the orders of an item."""
    found = await session.scalars(select(Order).where(Order.item == item).order_by(Order.id))
    return [{"id": order.id, "quantity": order.quantity, "confirmations": order.confirmations} for order in found]


@app.post("/prices", status_code=202)
async def start_import(wanted: PriceList, request: Request) -> Response:
    """Start an import; its progress is under `Location`."""
    return accepted(await import_prices.enqueue(wanted.items, wanted.seconds_each), request)


@app.get("/health")
async def health(request: Request, response: Response, tasks: Tasks) -> dict[str, bool]:
    """Tell a load balancer whether this process serves and dispatches. It asks no database."""
    told = {"open": tasks.is_open, "dispatching": request.state.dispatcher.running}
    response.status_code = 200 if all(told.values()) else 503
    return told


async def create_tables() -> None:
    """Make the shop's table. The store makes its own when it opens."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(create_tables())
