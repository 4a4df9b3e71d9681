"""Hooks: functions of the application that are called before and after each run of a handler."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any
from uuid import UUID

from aiotaskstore.context import TaskContext
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.hooks import Hooks
from aiotaskstore.task import Task

BeforeHook = Callable[[TaskContext], Any]
"""Takes the context of a run that is about to call its handler."""
AfterHook = Callable[[TaskContext, Task, BaseException | None], Any]
"""Takes the context of a run that has ended, its task as it is stored now, and the error that ended the run."""


class RunHooks:
    """The hooks of one store, in the order in which they were registered; each may be a coroutine function.

    An error of a hook is logged and emitted as `ListenerFailed`, and changes nothing else.
    """

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._before: tuple[BeforeHook, ...] = ()
        self._after: tuple[AfterHook, ...] = ()

    @property
    def has_before(self) -> bool:
        """Whether there is a hook to call before a run."""
        return bool(self._before)

    @property
    def has_after(self) -> bool:
        """Whether there is a hook to call after a run."""
        return bool(self._after)

    def before(self, hook: BeforeHook) -> None:
        """Call `hook` before each run that begins from now on."""
        self._before = (*self._before, _checked(hook, "context"))

    def after(self, hook: AfterHook) -> None:
        """Call `hook` after each run that begins from now on."""
        self._after = (*self._after, _checked(hook, "context, task, error"))

    async def call_before(self, context: TaskContext, queue: str) -> None:
        """Call the hooks before a run. Raises `CancelledError` only if the run is cancelled."""
        for hook in self._before:
            await self._call(hook, (context,), queue, context.task_id)

    async def call_after(self, context: TaskContext, task: Task, error: BaseException | None) -> None:
        """Call the hooks after a run, whose outcome is stored. Raises `CancelledError` only if it is cancelled."""
        for hook in self._after:
            await self._call(hook, (context, task, error), task.queue, task.id)

    async def _call(
        self, hook: Callable[..., Any], arguments: tuple[Any, ...], queue: str, task_id: UUID | None
    ) -> None:
        current = asyncio.current_task()
        cancelled_before = current.cancelling() if current is not None else 0
        try:
            returned = hook(*arguments)
            if inspect.isawaitable(returned):
                await returned
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if (
                isinstance(error, asyncio.CancelledError)
                and current is not None
                and current.cancelling() > cancelled_before
            ):
                raise
            self._hooks.report_failure(hook, error, queue, task_id)


def _checked(hook: Any, arguments: str) -> Any:
    if not callable(hook):
        raise ConfigurationError(f"A hook is a function of ({arguments}), not {hook!r:.100}.")
    try:
        inspect.signature(hook).bind(*arguments.split(", "))
    except TypeError as error:
        raise ConfigurationError(
            f"This hook is called with ({arguments}), which {hook!r:.100} does not take: {error}."
        ) from error
    except ValueError:  # a builtin without a signature
        pass
    return hook
