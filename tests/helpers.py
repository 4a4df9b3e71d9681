"""How tests wait: for facts, never for time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiotaskstore import TaskStore
from aiotaskstore.events import Event

LIMIT = 30.0
"""Seconds until what a test waits for counts as not happening; no test passes because it ended early."""


@asynccontextmanager
async def expect(
    store: TaskStore, *kinds: type[Event], limit: float = LIMIT, **fields: Any
) -> AsyncIterator[list[Event]]:
    """At the end of the block, wait until the store has told every kind named, as often as it is named.

    `fields` must match (`task_id=handle.id`, `status="failed"`). Gives the list of facts, in the order told.
    """
    missing = Counter(kinds)
    facts: list[Event] = []
    told = asyncio.Event()
    over = False

    def hear(event: Event) -> None:
        kind = type(event)
        if over or any(getattr(event, name, None) != value for name, value in fields.items()):
            return
        facts.append(event)
        missing[kind] -= 1
        if all(count <= 0 for count in missing.values()):
            told.set()

    for kind in missing:
        store.on(kind, hear)
    try:
        yield facts
        try:
            async with asyncio.timeout(limit):
                await told.wait()
        except TimeoutError:
            short = ", ".join(f"{kind.__name__} × {count}" for kind, count in missing.items() if count > 0)
            raise AssertionError(f"not told within {limit:g} s: {short}; told: {facts}") from None
    finally:
        over = True


async def eventually(condition: Callable[[], Awaitable[Any] | Any], limit: float = LIMIT) -> Any:
    """Ask until the answer is true, and give it. Only for facts of other processes, which tell this one nothing."""
    until = time.monotonic() + limit
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"not so within {limit:g} s: {condition}")
        await asyncio.sleep(0.02)
