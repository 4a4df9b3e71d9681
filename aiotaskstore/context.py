"""The context of a run: a handler reads its task from it, and reports progress and details through it."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast, get_origin
from uuid import UUID

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.text import on_one_line, printable
from aiotaskstore.metadata import load_metadata
from aiotaskstore.task import Task

_log = logging.getLogger("aiotaskstore.task")

S = TypeVar("S")


class ContextRun(Protocol):
    """The run behind a context."""

    @property
    def task_id(self) -> UUID | None:
        """The task's id; `None` if no task is stored."""

    @property
    def stop_reason(self) -> str | None:
        """Why the end of the run was requested; `None` if it was not."""

    @property
    def log_fields(self) -> dict[str, Any]:
        """What the log records of this run are marked with."""

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""

    @property
    def metadata(self) -> str | None:
        """The task's metadata as JSON text."""

    @property
    def stopping(self) -> bool:
        """Whether the end of the run was requested."""

    @property
    def state(self) -> Any:
        """What the store's lifespan function yielded."""

    def snapshot(self) -> Task:
        """Return the task as it was claimed."""

    async def report_progress(self, text: str, fraction: float | None) -> None:
        """Store progress."""

    def append_detail(self, text: str) -> None:
        """Append a line to the details, soon."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open the run's transaction."""


class TaskContext:
    """One run of one task, as its handler sees it.

    Reach it with `current_context()`, or declare a first parameter `context: TaskContext`.
    """

    __slots__ = (
        "__weakref__",
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

    def __init__(self, run: ContextRun, store: Any, options: dict[str, str] | None = None) -> None:
        self._run = run
        self._task: Task | None = None
        self._metadata: dict[str, Any] | None = None
        self.store: Any = store
        """The store whose dispatcher runs this task."""
        self.options: dict[str, str] = options or {}
        """The options of the command line, if it runs the handler directly."""
        self.output: str | None = None
        """Stored as the result if the handler returns None."""
        self.last_info: str = ""
        self.last_success: str = ""
        self.last_error: str = ""

    @property
    def task(self) -> Task:
        """The task as it was claimed. If the handler was called directly, a task that is not stored."""
        if self._task is None:
            self._task = self._run.snapshot()
        return self._task

    @property
    def task_id(self) -> UUID | None:
        """The task's id; `None` if the handler was called directly."""
        return self._run.task_id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._run.attempt

    @property
    def log_fields(self) -> dict[str, Any]:
        """What `TaskLogFilter` marks log records of this run with: `task_id alias queue attempt dispatcher`.

        All are text but `attempt`, a number. In a direct call `task_id` and `dispatcher` are empty.
        """
        return self._run.log_fields

    @property
    def metadata(self) -> dict[str, Any]:
        """The task's metadata: JSON of the caller, which the library does not interpret."""
        if self._metadata is None:
            self._metadata = load_metadata(self._run.metadata)
        return self._metadata

    @property
    def state(self) -> Any:
        """What the function under `@store.lifespan` yielded in this process.

        Raises `ConfigurationError` if the store has no such function, and in a direct call outside a run.
        """
        return self._run.state

    def state_as(self, kind: type[S]) -> S:
        """Return `state` as a `kind`, for type checkers. Raises `ConfigurationError` if it is something else.

        A protocol that is not `@runtime_checkable`, a `TypedDict` and the arguments of a generic are not compared.
        """
        state, compared = self.state, get_origin(kind) or kind
        if not isinstance(compared, type):
            raise ConfigurationError(f"state_as takes a class, such as Resources, not {kind!r:.100}.")
        try:
            fits = isinstance(state, compared)
        except TypeError:  # a protocol or a TypedDict
            fits = True
        if not fits:
            raise ConfigurationError(
                f"The store's lifespan yielded {state!r:.100}, which is a {type(state).__name__}, and state_as was "
                f"asked for a {compared.__name__}. Yield that, or ask for what is yielded."
            )
        return cast(S, state)

    @property
    def cancelled(self) -> bool:
        """Whether the end of this run was requested: timeout, cancel, lost claim or shutdown; a direct call: cancelled.

        An `async def` handler is cancelled as well; a `def` handler should look here now and then.
        """
        return self._run.stopping

    @property
    def stop_reason(self) -> str | None:
        """Why the end of this run was requested, `None` if it was not.

        One of `"timeout"`, `"cancel"`, `"shutdown"`, `"lost"` and `"transaction_timeout"`; a direct call: `"cancel"`.
        """
        return self._run.stop_reason

    async def progress(self, text: str = "", *, fraction: float | None = None) -> None:
        """Report how far the work is; return once the report is stored.

        Raises `ClaimLostError` if this run has lost its claim, `ConfigurationError` for a fraction outside 0 to 1.
        """
        if fraction is not None and not (isinstance(fraction, int | float) and 0 <= fraction <= 1):
            raise ConfigurationError(f"A progress fraction is a number from 0 to 1, not {fraction!r:.100}.")
        await self._run.report_progress(printable(text), fraction)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction and lend the driver's own connection: its writes are committed with the task's success.

        That is when the handler returns, so that its result is stored with them. If the handler raises, is cancelled,
        runs out of time or has lost its claim, all of it is rolled back. Until the handler returns, the enqueues, reads
        and actions of its asyncio task take part, and a connection is held; on SQLite the file's write lock. Raises
        `TimeoutError` after `transaction_timeout`, `ConfigurationError` if the run has opened one before. In a handler
        that is called directly, it is committed when the handler returns, and needs an open store.
        """
        return self._run.transaction()

    def info(self, message: str) -> None:
        """Append a line to the task's details. Lines are written in batches, at the latest with the outcome."""
        self.last_info = message
        self._detail(message, logging.INFO)

    def success(self, message: str) -> None:
        """Append a line about a success to the task's details."""
        self.last_success = message
        self._detail(message, logging.INFO)

    def error(self, message: str) -> None:
        """Append a line about an error to the task's details; the attempt goes on."""
        self.last_error = message
        self._detail(message, logging.ERROR)

    def param(self, name: str, default: Any = "") -> Any:
        """Return an option of the command line, or else an argument as the JSON value that is stored.

        Options have `_` where the command line may have had `-`.
        """
        for option in (name, name.replace("-", "_")):
            if option in self.options:
                return self.options[option]
        return (self.task.payload or {}).get(name, default)

    def param_list(self, name: str) -> list[str]:
        """Return an argument's text, split at each `;`. An empty text is an empty list."""
        value = self.param(name)
        if isinstance(value, list):
            return [str(one) for one in value]
        return [] if value in ("", None) else str(value).split(";")

    def _detail(self, message: str, level: int) -> None:
        text = printable(message)
        if _log.isEnabledFor(level):
            task_id = self._run.task_id
            name = "" if task_id is None else f"{task_id}: "
            _log.log(level, "%s%s", name, on_one_line(text), extra=self.log_fields)
        self._run.append_detail(text)


running_context: ContextVar[TaskContext | None] = ContextVar("aiotaskstore_context", default=None)


def current_context() -> TaskContext:
    """Return the context of the current run. A direct call of a handler is a run, too.

    Raises `ConfigurationError` outside a run.
    """
    context = running_context.get()
    if context is None:
        raise ConfigurationError(
            "current_context() works only inside a task's handler. Outside, use the handle that enqueue() returns."
        )
    return context
