"""The run of a handler that is called directly. Nothing of it is stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.clock import SYSTEM_CLOCK
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.metadata import load_metadata
from aiotaskstore.options import DefinitionOptions
from aiotaskstore.queue import DEFAULT_QUEUE
from aiotaskstore.retention import Retention
from aiotaskstore.run_transaction import RunTransaction, check_opening
from aiotaskstore.task import Progress, Task, TaskStatus

_log = logging.getLogger("aiotaskstore.task")


class DirectRun:
    """The run behind the context of a direct call: progress and details stay in memory."""

    task_id: UUID | None = None

    def __init__(
        self,
        alias: str,
        defaults: DefinitionOptions | None = None,
        payload: Callable[[], Any] = lambda: None,
        *,
        store: Any = None,
        attempt: int = 1,
        metadata: str | None = None,
        state: Callable[[], Any] | None = None,
    ) -> None:
        self.attempt: int = attempt
        self.metadata: str | None = metadata
        self._alias, self._defaults, self._payload, self._store = alias, defaults, payload, store
        self._state = state
        self._task: asyncio.Task[Any] | None = None
        self._transaction: RunTransaction | None = None
        self._cancelling = 0
        self.stopping = False
        """Whether the call was cancelled. A `def` handler goes on in its thread then."""
        self.progress: Progress | None = None
        """The last progress that the handler reported."""
        self.details: list[str] = []
        """The lines of details that the handler appended."""

    @property
    def state(self) -> Any:
        """What the lifespan yielded, where this call is made within one."""
        if self._state is None:
            raise ConfigurationError(
                f'"{self._alias}" is called directly, outside a run, so there is no context.state: what the lifespan '
                "yields is for runs. Run it by a dispatcher, or call a function that is given what it needs."
            )
        return self._state()

    def snapshot(self) -> Task:
        """Return a task like the one that the first attempt of an enqueued task would see."""
        defaults, now = self._defaults, self._now()
        timeout: Any = defaults.timeout if defaults else None  # normalised to seconds
        return Task(
            id=new_id(),
            alias=self._alias,
            queue=(defaults and defaults.queue) or DEFAULT_QUEUE,
            status=TaskStatus.RUNNING,
            payload=self._payload(),
            errors=[],
            attempt=self.attempt,
            max_attempts=(defaults and defaults.max_attempts) or 1,
            priority=defaults.priority if defaults else 0,
            run_at=now,
            timeout=None if timeout is None else timedelta(seconds=timeout),
            owner=None,
            source=None,
            parent_id=None,
            definition_id=None,
            external_id=None,
            serialization_key=None,
            metadata=load_metadata(self.metadata),
            retention=(defaults and defaults.retention) or Retention(),
            finish_reason=None,
            cancel_reason=None,
            cancel_requested_at=None,
            dispatcher_id=None,
            created_at=now,
            updated_at=now,
            started_at=now,
        )

    @property
    def stop_reason(self) -> str | None:
        """Why the call is to end: somebody has cancelled it."""
        return "cancel" if self.stopping else None

    @property
    def log_fields(self) -> dict[str, Any]:
        """What the log records of this call are marked with: it has no stored task and no dispatcher."""
        queue = (self._defaults and self._defaults.queue) or DEFAULT_QUEUE
        return {"task_id": "", "alias": self._alias, "queue": queue, "attempt": self.attempt, "dispatcher": ""}

    async def report_progress(self, text: str, fraction: float | None) -> None:
        """Keep progress in memory, and log it."""
        self.progress = Progress(text, fraction, self._now())
        _log.info("progress: %s %s", text, "" if fraction is None else f"{fraction:.0%}")

    def _now(self) -> datetime:
        return (SYSTEM_CLOCK if self._store is None else self._store.clock).now()

    def append_detail(self, text: str) -> None:
        """Keep a line of details in memory."""
        self.details.append(text)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Open the call's transaction, which is committed when the handler returns."""
        store = self._store
        if store is None or not store.is_open:
            raise ConfigurationError(
                f'context.transaction() in "{self._alias}", which is called directly, needs an open store that '
                "includes the task: `async with store:`."
            )
        check_opening(self._transaction, self._task)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._cancelling = task.cancelling()
        self._transaction = store.run_transaction(task.cancel)
        async with self._transaction.block() as connection:
            yield connection

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit the transaction if the handler has opened one and returned; else roll it back."""
        transaction = self._transaction
        if transaction is None:
            return
        try:
            reply = await (transaction.commit() if error is None else transaction.roll_back())
        except asyncio.CancelledError:
            reply = await transaction.roll_back()  # a commit under way goes on: the call ends after it
            if not transaction.expired:
                raise
        if transaction.expired and self._task is not None and self._task.uncancel() > self._cancelling:
            return  # the caller has been cancelled too
        too_late = transaction.expired and isinstance(error, asyncio.CancelledError)
        if reply.error is not None and (error is None or too_late):
            raise reply.error
