"""A pool of connections, and the places for transactions, without any database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from aiotaskstore.errors import ConfigurationError, DatabaseUnavailableError
from aiotaskstore.storage import pool as pools
from aiotaskstore.storage.pool import Connector, Pool
from aiotaskstore.storage.transaction_limiter import TransactionLimiter
from aiotaskstore.storage.watchdog import Watchdog


class Link:
    def __init__(self) -> None:
        self.open = True


class Links(Connector[Link]):
    def __init__(self) -> None:
        self.opened: list[Link] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.quits = True

    async def connect(self) -> Link:
        await self.gate.wait()
        self.opened.append(Link())
        return self.opened[-1]

    async def quit(self, connection: Link) -> None:
        if not self.quits:
            await asyncio.Event().wait()
        connection.open = False

    def abort(self, connection: Link) -> None:
        connection.open = False

    def usable(self, connection: Link) -> bool:
        return connection.open


async def test_the_connection_used_last_is_used_next():
    links = Links()
    pool = Pool(links, 3)
    first, second = await pool.acquire(9), await pool.acquire(9)
    pool.release(first)
    pool.release(second)
    assert await pool.acquire(9) is second
    assert await pool.acquire(9) is first
    assert len(links.opened) == 2


async def test_who_asks_first_is_served_first_and_nobody_waits_longer_than_the_deadline():
    pool = Pool(Links(), 1)
    held = await pool.acquire(9)
    order: list[int] = []

    async def use(number: int) -> None:
        connection = await pool.acquire(9)
        order.append(number)
        await asyncio.sleep(0)
        pool.release(connection)

    with pytest.raises(DatabaseUnavailableError, match="no connection within") as caught:
        await pool.acquire(0.01)
    assert caught.value.nothing_done
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(use(number))
        await asyncio.sleep(0)
        pool.release(held)
    assert order == [0, 1, 2, 3, 4]


async def test_a_cancelled_or_failed_connect_leaves_its_place():
    links = Links()
    pool = Pool(links, 1)
    links.gate.clear()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pool.acquire(9)
        with pytest.raises(DatabaseUnavailableError):
            await pool.acquire(0.01)
    links.gate.set()
    assert await pool.acquire(9)


async def test_one_that_comes_back_dead_takes_the_idle_ones_with_it():
    links = Links()
    pool = Pool(links, 4)
    used = [await pool.acquire(9) for _ in range(4)]
    for connection in used[1:]:
        pool.release(connection)
    used[0].open = False
    pool.release(used[0])
    assert not any(link.open for link in links.opened)
    assert (await pool.acquire(9)).open
    assert len(links.opened) == 5


async def test_what_lies_idle_for_long_is_closed(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    links = Links()
    pool = Pool(links, 2)
    one, two = await pool.acquire(9), await pool.acquire(9)
    pool.release(one)
    now += 200
    pool.release(two)
    now += 200
    again = await pool.acquire(9)
    assert again is two
    pool.release(again)
    assert not one.open


@pytest.mark.parametrize("quits", [True, False])
async def test_closing_closes_all_and_waits_for_nobody_for_long(quits: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pools, "CLEANUP", 0.05)
    links = Links()
    links.quits = quits
    pool = Pool(links, 3)
    idle, held = await pool.acquire(9), await pool.acquire(9)
    pool.release(idle)
    await pool.close()
    assert not idle.open
    assert not held.open
    pool.release(held)
    with pytest.raises(DatabaseUnavailableError, match="closed"):
        await pool.acquire(9)


async def test_a_close_that_is_cancelled_leaves_nothing_open():
    links = Links()
    pool = Pool(links, 2)
    idle, held = await pool.acquire(9), await pool.acquire(9)
    pool.release(idle)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.close()
    assert not idle.open
    assert not held.open


class Clock:
    """An event loop's clock, on which time passes as the test says, and one timer."""

    def __init__(self) -> None:
        self.now, self.when = 0.0, float("inf")
        self.callback: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Clock:
        self.when, self.callback = when, callback
        return self

    def cancel(self) -> None:
        self.when = float("inf")

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.when:
            self.when = float("inf")
            self.callback()


def test_a_watchdog_closes_what_does_not_answer_in_time_and_leaves_what_does(monkeypatch: pytest.MonkeyPatch):
    clock, closed = Clock(), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", lambda: clock)
        with Watchdog(lambda: closed.append(1), 5) as watchdog:
            for _ in range(4):
                clock.advance(4)
                watchdog.extend()
            assert not closed
            assert not watchdog.expired
            clock.advance(4)
            assert not closed
            clock.advance(1)
            assert closed
            assert watchdog.expired


async def test_a_watchdog_needs_nobody_to_look():
    ended = asyncio.Event()
    with Watchdog(ended.set, 0.01) as watchdog:
        await ended.wait()
    assert watchdog.expired


async def test_places_are_given_in_turn_and_refused_where_none_would_come_free():
    limiter = TransactionLimiter(2)
    entered: list[str] = []
    leave = asyncio.Event()

    async def hold(name: str) -> None:
        async with limiter.place():
            entered.append(name)
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(hold(name))
        await asyncio.sleep(0.01)
        assert entered == ["a", "b"]
        leave.set()
    assert entered == ["a", "b", "c", "d"]
    async with limiter.place(), limiter.place():
        with pytest.raises(ConfigurationError, match="inside 2 others"):
            await limiter.place().__aenter__()
    async with limiter.place(), limiter.place():
        pass


async def test_a_cancelled_wait_for_a_place_leaves_nothing():
    limiter = TransactionLimiter(1)
    inside, leave = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with limiter.place():
            inside.set()
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        await inside.wait()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await limiter.place().__aenter__()
        leave.set()
    async with limiter.place():
        assert limiter.open == 1


async def test_no_place_at_all_says_why():
    with pytest.raises(ConfigurationError, match="because"):
        await _enter(TransactionLimiter(0, "because"))


async def _enter(limiter: TransactionLimiter) -> Any:
    return await limiter.place().__aenter__()
