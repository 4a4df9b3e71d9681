"""What the routes of a task reply, whatever framework serves them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TypedDict

from aiotaskstore.integrations.http_reply import CLIENT_ERRORS, HttpReply, busy_reply, error_reply
from aiotaskstore.integrations.progress_streams import FINISHED, ProgressStreams
from aiotaskstore.integrations.task_view import TaskView, view_task
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.mechanics.flag import check_flag
from aiotaskstore.task import Task
from aiotaskstore.taskstore import TaskStore

STATUS_ROUTE, CANCEL_ROUTE, STREAM_ROUTE = "task_status", "cancel_task", "task_events"
"""The names of the routes."""
EVENT_STREAM = "text/event-stream"
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second has nginx pass each event on at once."""


class TaskRouteOptions(TypedDict, total=False):
    """The options of `task_routes(…)`."""

    cancel: bool
    """Whether there is a route to cancel a task: `POST …/{task_id}/cancel`. Default: no."""
    stream: bool
    """Whether there is a route with a task's progress as Server-Sent Events: `GET …/{task_id}/events`. Default: no."""
    include_result: bool
    """Whether what a handler returned is shown. Default: no."""
    include_error: bool
    """Whether the type and the message of the error that ended a task are shown. Default: no."""
    max_streams: int
    """How many streams this process has open at once; further ones get 503. Default: 100."""
    stream_interval: Duration
    """How often a stream looks at its task: one short query. Default: 0.5 seconds."""
    stream_heartbeat: Duration
    """How long a stream is silent at most. Default: 15 seconds."""


class TaskResource:
    """The replies of the routes; with the options of `TaskRouteOptions`, which also say what routes there are."""

    def __init__(
        self,
        *,
        cancel: bool = False,
        stream: bool = False,
        include_result: bool = False,
        include_error: bool = False,
        max_streams: int = 100,
        stream_interval: Duration = 0.5,
        stream_heartbeat: Duration = 15,
    ) -> None:
        self.cancellable: bool = check_flag(cancel, "cancel")
        self.streamable: bool = check_flag(stream, "stream")
        self._include_result = check_flag(include_result, "include_result")
        self._include_error = check_flag(include_error, "include_error")
        self._streams = ProgressStreams(limit=max_streams, heartbeat=stream_heartbeat, every=stream_interval)

    async def status(self, store: TaskStore, task_id: str) -> HttpReply:
        """Reply what the task is now: 200, or 404."""
        try:
            return HttpReply(200, self._show(await store.tasks.require(task_id)))
        except CLIENT_ERRORS as error:
            return error_reply(error)

    async def cancel(self, store: TaskStore, task_id: str) -> HttpReply:
        """Cancel the task: 200 if that has ended it, 202 if its handler is being cancelled, 409 if it had finished."""
        try:
            task = await store.tasks.cancel(task_id, "cancelled over HTTP")
        except CLIENT_ERRORS as error:
            return error_reply(error)
        return HttpReply(200 if task.status.finished else 202, self._show(task))

    async def events(
        self, store: TaskStore, task_id: str, last_event_id: str | None
    ) -> HttpReply | AsyncGenerator[str]:
        """Stream the task's progress; 404 without the task, 503 over `max_streams`.

        A client that connects again although it has seen the end gets 204, by which a browser ceases to try.
        """
        if last_event_id == FINISHED:
            return HttpReply(204, None)
        if self._streams.full:
            return busy_reply("Too many streams are open for now.")
        try:
            task = await store.tasks.require(task_id)
        except CLIENT_ERRORS as error:
            return error_reply(error)
        return self._streams.stream(store, task, self._show)

    def _show(self, task: Task) -> TaskView:
        return view_task(task, include_result=self._include_result, include_error=self._include_error)
