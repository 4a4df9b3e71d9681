"""What a handler may ask and tell."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.text import printable

if TYPE_CHECKING:
    from aiotaskstore.task import Claim, Task

_log = logging.getLogger("aiotaskstore.task")


class Telling(Protocol):
    """The run behind a context."""

    @property
    def claim(self) -> Claim:
        """What is being run."""

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to end."""

    def snapshot(self) -> Task:
        """Make the Task as it was claimed."""

    async def tell_progress(self, text: str, fraction: float | None) -> None:
        """Store progress."""

    def tell_detail(self, text: str) -> None:
        """Append a line to the details, soon."""


class TaskContext:
    """One run of one task, as its handler sees it.

    Reach it with `current_context()`, or declare a first parameter `context: TaskContext`.
    """

    __slots__ = (
        "_metadata",
        "_run",
        "_task",
        "last_error",
        "last_info",
        "last_success",
        "options",
        "output",
        "store",
    )

    def __init__(self, run: Telling | None, store: Any, options: dict[str, str] | None = None) -> None:
        self._run = run
        self._task: Task | None = None
        self._metadata: dict[str, Any] | None = None
        self.store: Any = store
        """The store whose dispatcher runs this task."""
        self.options: dict[str, str] = options or {}
        """What the command line gave, where a handler is run directly."""
        self.output: str | None = None
        """Stored as the result if the handler returns None."""
        self.last_info: str = ""
        self.last_success: str = ""
        self.last_error: str = ""

    @property
    def task(self) -> Task:
        """The task as it was claimed; `ConfigurationError` where the handler was called directly."""
        if self._task is None:
            self._task = self._queued().snapshot()
        return self._task

    @property
    def task_id(self) -> UUID | None:
        """The task's id; `None` where the handler was called directly."""
        return self._run.claim.id if self._run else None

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._queued().claim.attempt

    @property
    def metadata(self) -> dict[str, Any]:
        """The JSON that travels with the task."""
        if self._metadata is None:
            text = self._run.claim.metadata if self._run else None
            self._metadata = json.loads(text) if text else {}
        return self._metadata

    @property
    def cancelled(self) -> bool:
        """Whether this run was asked to end: timeout, cancel, lost claim or shutdown.

        An `async def` handler is cancelled as well; a `def` handler should look here now and then.
        """
        return self._run is not None and self._run.stopping

    async def progress(self, text: str = "", *, fraction: float | None = None) -> None:
        """Tell how far the work is; returns once it is stored.

        Raises `ClaimLostError` if the task is no longer this run's, `ConfigurationError` for a fraction outside
        0 to 1.
        """
        if fraction is not None and not (isinstance(fraction, int | float) and 0 <= fraction <= 1):
            raise ConfigurationError(f"A progress fraction is a number from 0 to 1, not {fraction!r}.")
        if self._run is None:
            _log.info("progress: %s %s", text, "" if fraction is None else f"{fraction:.0%}")
            return
        await self._run.tell_progress(printable(text), fraction)

    def info(self, message: str) -> None:
        """Append a line to the task's details; written in batches, at the latest with the outcome."""
        self.last_info = message
        self._detail(message, logging.INFO)

    def success(self, message: str) -> None:
        """Append a line about something that went well."""
        self.last_success = message
        self._detail(message, logging.INFO)

    def error(self, message: str) -> None:
        """Append a line about something that went wrong; the attempt goes on."""
        self.last_error = message
        self._detail(message, logging.ERROR)

    def param(self, name: str, default: Any = "") -> Any:
        """Give an argument as the JSON value stored, or an option of the command line."""
        if self._run is None:
            return self.options.get(name, default)
        return (self.task.payload or {}).get(name, default)

    def param_list(self, name: str) -> list[str]:
        """Split an argument's text on `;`; nothing gives an empty list."""
        value = self.param(name)
        if isinstance(value, list):
            return [str(one) for one in value]
        return [] if value in ("", None) else str(value).split(";")

    def _detail(self, message: str, level: int) -> None:
        text = printable(message)
        _log.log(level, "%s", text)
        if self._run is not None:
            self._run.tell_detail(text)

    def _queued(self) -> Telling:
        if self._run is None:
            raise ConfigurationError("This handler was called directly: there is no task behind its context.")
        return self._run


running_context: ContextVar[TaskContext | None] = ContextVar("aiotaskstore_context", default=None)


def current_context() -> TaskContext:
    """Give the context of the run this code is part of.

    Raises `ConfigurationError` outside a run.
    """
    context = running_context.get()
    if context is None:
        raise ConfigurationError(
            "current_context() works only inside a task's handler. Outside, use the handle that enqueue() gives."
        )
    return context
