"""The progress of tasks as Server-Sent Events: text/event-stream, as the HTML standard has it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager

from aiotaskstore.errors import DatabaseUnavailableError, TaskNotFoundError
from aiotaskstore.integrations.server_stop import ServerStop
from aiotaskstore.integrations.task_view import view_progress
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.queue import check_count
from aiotaskstore.task import Task
from aiotaskstore.taskstore import TaskStore

_Show = Callable[[Task], Mapping[str, object]]

FINISHED = "finished"
"""The kind of the last event, and its id: a browser that connects again sends it as `Last-Event-ID`."""
_RECONNECT = "retry: 2000\n\n"
"""After a stream that ended early, a browser connects again in two seconds."""
_HEARTBEAT = ": still here\n\n"
"""A comment: it keeps proxies from closing the connection, and finds out that the client has gone."""


class ProgressStreams:
    """The streams of one application: at most `limit` at once, each looking at its task at most `every` so often."""

    def __init__(self, *, limit: int, heartbeat: Duration, every: Duration) -> None:
        self._limit = check_count(limit, "max_streams")
        self._heartbeat = seconds(heartbeat, "stream_heartbeat", above_zero=True)
        self._every = seconds(every, "stream_interval", above_zero=True)
        self._open = 0
        self._stop = ServerStop()

    @property
    def full(self) -> bool:
        """Whether as many are open as may be."""
        return self._open >= self._limit

    async def stream(self, store: TaskStore, task: Task, show: _Show) -> AsyncGenerator[str]:
        """Yield the task's status, each progress, and its end; it ends too when the server stops.

        Ends early, for the client to connect again, also if the database cannot be reached, or the streams are full.
        """
        yield _RECONNECT
        if self.full or self._stop.begun:
            return
        with self._opened(), self._stop.listening():
            yield _event("status", show(task))
            async with aclosing(self._progress(store, task)) as texts:
                async for text in texts:
                    yield text
            if (last := await self._last(store, task, show)) is not None:
                yield last

    async def _progress(self, store: TaskStore, task: Task) -> AsyncGenerator[str]:
        """Yield each progress and the heartbeats between, until the task or the stream is to end."""
        seen = task.progress
        looks = store.tasks.watch(task.id, every=self._every)
        while not self._stop.begun:
            try:
                async with self._stop.limited(self._heartbeat):
                    progress = await anext(looks, None)
            except TimeoutError:
                yield _HEARTBEAT
                looks = store.tasks.watch(task.id, every=self._every)  # the timeout has ended the one before
                continue
            except (TaskNotFoundError, DatabaseUnavailableError):
                return
            if progress is None:
                return
            if progress != seen:
                seen = progress
                yield _event("progress", view_progress(progress))

    async def _last(self, store: TaskStore, task: Task, show: _Show) -> str | None:
        """Return the event of the task's end; `None` where it has not ended, or nobody can tell."""
        if self._stop.begun:
            return None
        try:
            ended = await store.tasks.get(task.id)
        except DatabaseUnavailableError:
            return None
        if ended is None:  # its retention kept no row
            return _event(FINISHED, {"id": str(task.id), "alias": task.alias, "status": None}, id=FINISHED)
        return _event(FINISHED, show(ended), id=FINISHED) if ended.status.finished else None

    @contextmanager
    def _opened(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


def _event(kind: str, data: Mapping[str, object], *, id: str | None = None) -> str:
    """Write an event. JSON has no line breaks, so its data is one line."""
    named = "" if id is None else f"id: {id}\n"
    return f"{named}event: {kind}\ndata: {json.dumps(data)}\n\n"
