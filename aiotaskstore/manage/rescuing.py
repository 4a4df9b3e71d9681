"""Rescues when somebody asks for one, rather than a dispatcher's healer by itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from aiotaskstore.events import TaskRescued
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.mechanics.hint import ANY_QUEUE
from aiotaskstore.storage.listing import Listing
from aiotaskstore.storage.tasks import MOST_ROWS, StuckRun


async def rescue(store: OpenStore, connection: Any, queue: str | None, older_than: Duration | None) -> int:
    """End the runs of dead dispatchers, or all that have lasted so long; see `TaskManager.rescue`."""
    queues = None if queue is None else Listing.parse({"queue": queue}).params["queue"]
    span = None if older_than is None else seconds(older_than, "older_than")
    tasks, joined = store.storage.tasks, store.calls.joined(connection)
    runs = await store.calls.read(partial(tasks.stuck, span), joined)
    chosen = [run for run in runs if queues is None or run.queue in queues]
    notification = store.storage.database.notify_within(ANY_QUEUE)
    done = 0
    for dead, batch in _batches(chosen, by_dispatcher=span is None):
        fences = {run.id: run.fence for run in batch}
        rescued = await store.calls.write(partial(tasks.rescue_runs, fences, dead), joined, then=notification)
        dispatchers = {run.id: run.dispatcher for run in batch}
        for one in rescued:
            store.hooks.emit(TaskRescued(one.id, one.alias, one.queue, one.status, dispatchers[one.id]))
        done += len(rescued)
        keys = {one.serialization_key for one in rescued if one.serialization_key is not None}
        if joined is not None:
            joined.wanted_keys |= keys
        elif keys:
            await store.granter.grant(keys)
        if rescued and joined is not None:
            await store.calls.notify_after_commit(joined, ANY_QUEUE)
        elif rescued:
            store.notifier.notify(ANY_QUEUE)
    return done


def _batches(runs: list[StuckRun], *, by_dispatcher: bool) -> Iterator[tuple[UUID | None, list[StuckRun]]]:
    """Cut runs into batches; with `by_dispatcher` each is of one dispatcher, which must still be dead when they end."""
    ordered = sorted(runs, key=lambda run: run.dispatcher) if by_dispatcher else runs
    for dispatcher, group in groupby(ordered, key=lambda run: run.dispatcher if by_dispatcher else None):
        some = list(group)
        for start in range(0, len(some), MOST_ROWS):
            yield dispatcher, some[start : start + MOST_ROWS]
