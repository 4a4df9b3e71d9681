"""Explains in a sentence why a task does not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.manage.dispatcher_info import DispatcherInfo, infos
from aiotaskstore.mechanics.duration import written
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.queues import QueueRow
from aiotaskstore.storage.restrictions import Restrictions, read_restrictions
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import Task, TaskStatus


class Circumstances(NamedTuple):
    """What a task's run depends on, at one moment."""

    now: datetime
    restrictions: Restrictions
    queues: Sequence[QueueRow]
    alive: Sequence[DispatcherInfo]


def explain(storage: Storage, task_id: UUID) -> Steps[str | None]:
    """Read why a task does not run; `None` where no row is kept, or it is soft-deleted."""
    task = yield from _found(storage, task_id)
    if task is None:
        return None
    holder = None
    if task.status is TaskStatus.WAITING and task.serialization_key is not None:
        holder_id = yield from storage.tasks.key_holder(task.serialization_key)
        holder = None if holder_id is None else (yield from _found(storage, holder_id))
    circumstances = Circumstances(
        (yield from storage.tasks.now()),
        (yield from read_restrictions()),
        (yield from storage.queues.list()),
        [one for one in infos((yield from storage.dispatchers.list())) if one.alive],
    )
    return _sentence(task, holder, circumstances)


def _found(storage: Storage, task_id: UUID) -> Steps[Task | None]:
    found = yield from page(storage.tasks, Listing.parse({"id": task_id}))
    return found[0] if found else None


def _sentence(task: Task, holder: Task | None, circumstances: Circumstances) -> str:
    match task.status:
        case TaskStatus.RUNNING:
            return _running(task, circumstances)
        case TaskStatus.SCHEDULED:
            return _scheduled(task, circumstances)
        case TaskStatus.WAITING:
            return _waiting(task, holder, circumstances)
        case TaskStatus.PENDING:
            hindrances = list(_hindrances(task, circumstances))
            return (
                f"It is due, but {'; '.join(hindrances)}." if hindrances else "It is due, and runs when a slot is free."
            )
        case TaskStatus.PAUSED:
            return "It is paused: it runs only once it is resumed."
        case _:
            ended = f"{task.status} ({task.finish_reason}) at {_at(task.finished_at)}"
            return f"It has finished: {ended}. A retry runs it again."


def _running(task: Task, circumstances: Circumstances) -> str:
    since = _at(task.started_at)
    dispatcher = next((one for one in circumstances.alive if one.id == task.dispatcher_id), None)
    if dispatcher is None:
        return f"It runs since {since}, but its dispatcher shows no sign of life: it is about to be rescued."
    where = f"dispatcher {dispatcher.name} (process {dispatcher.pid} on {dispatcher.host})"
    asked = "; its cancellation was requested" if task.cancel_requested_at else ""
    return f"It runs since {since}, on {where}{asked}."


def _scheduled(task: Task, circumstances: Circumstances) -> str:
    wait = (task.run_at - circumstances.now).total_seconds()
    what = "Its next attempt is" if task.attempt else "It is"
    if wait > 0:
        return f"{what} due at {_at(task.run_at)}, in {written(wait)}."
    if not circumstances.alive:
        return f"{what} due since {_at(task.run_at)}, but no dispatcher is alive."
    return f"{what} due since {_at(task.run_at)}, and about to be promoted."


def _waiting(task: Task, holder: Task | None, circumstances: Circumstances) -> str:
    key = f'Its serialization key "{task.serialization_key}"'
    if holder is None:
        return f"{key} is free, and about to be passed on to the first task that waits for it."
    hindrances = "; ".join(_hindrances(holder, circumstances)) if holder.status is TaskStatus.PENDING else ""
    return f"{key} is held by task {holder.id}, which is {holder.status}{hindrances and f', but {hindrances}'}."


def _hindrances(task: Task, circumstances: Circumstances) -> Iterator[str]:
    """Yield what keeps a pending task from being claimed, whatever slots are free."""
    paused = next((row for row in circumstances.queues if row.name == task.queue and row.paused_at), None)
    if paused is not None:
        reason = f" ({paused.pause_reason})" if paused.pause_reason else ""
        yield f'its queue "{task.queue}" is paused since {_at(paused.paused_at)}{reason}'
    if task.alias in circumstances.restrictions.cancelled_aliases:
        yield f'its definition "{task.alias}" is cancelled'
    serving = [one for one in circumstances.alive if one.serves(task.queue)]
    if not serving:
        yield f'no dispatcher that is alive serves its queue "{task.queue}"'
    elif not any(one.version is None or task.alias in one.aliases for one in serving):
        yield f'no dispatcher that serves its queue "{task.queue}" has a handler for "{task.alias}"'


def _at(instant: datetime | None) -> str:
    return "an unknown time" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S} UTC"
