"""Hooks: functions of the application that are called before and after each run of a handler."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any
from uuid import UUID

from aiotaskstore.context import TaskContext
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.hooks import Hooks, name_of
from aiotaskstore.mechanics.arguments import check_takes
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.task import Task

AFTER_LIMIT = 30.0
"""Seconds that one hook after a run may take. A hook before a run has the time of its run."""

BeforeHook = Callable[[TaskContext], Any]
"""Takes the context of a run that is about to call its handler."""
AfterHook = Callable[[TaskContext, Task, BaseException | None], Any]
"""Takes the context of a run that has ended, its task as it is stored now, and the error that ended the run."""


HookManager = Callable[[str, TaskContext], AbstractContextManager[Any]]
"""Takes the name of a hook and the context of its run; the hook is called inside what it returns."""
Hook = BeforeHook | AfterHook


class RunHooks:
    """The hooks of one store, in the order in which they were registered; each may be a coroutine function.

    An error of a hook is logged and emitted as `ListenerFailed`, and changes nothing else.
    """

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._before: tuple[BeforeHook, ...] = ()
        self._after: tuple[AfterHook, ...] = ()
        self._manager: HookManager = _no_manager

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

    def around(self, manager: HookManager) -> None:
        """Call each hook inside what `manager` returns, and that inside what an earlier one returns."""
        self._manager = partial(_both, self._manager, _checked(manager, "name, context"))

    async def call_before(self, context: TaskContext, queue: str) -> None:
        """Call the hooks before a run. Raises `CancelledError` only if the run is cancelled."""
        for hook in self._before:
            await self._call(hook, partial(_call_before, hook, context), context, queue, context.task_id)

    async def call_after(
        self, context: TaskContext, task: Task, error: BaseException | None, tasks: BackgroundTasks
    ) -> None:
        """Call the hooks after a run, whose outcome is stored. Raises `CancelledError` only if it is cancelled.

        A hook that takes longer than `AFTER_LIMIT` is cancelled and reported; the next hook is called also if the
        cancelled one does not end. So each coroutine has an asyncio task of its own among `tasks`.
        """
        for hook in self._after:
            call = partial(_call_after, hook, (context, task, error), tasks)
            await self._call(hook, call, context, task.queue, task.id)

    async def _call(
        self, hook: Hook, call: Callable[[], Awaitable[None]], context: TaskContext, queue: str, task_id: UUID | None
    ) -> None:
        """Call a hook; report what it raises, but let a cancellation of the caller pass."""
        current = asyncio.current_task()
        cancelled_before = current.cancelling() if current is not None else 0
        try:
            with self._manager(name_of(hook), context):
                await call()
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


async def _call_before(hook: BeforeHook, context: TaskContext) -> None:
    returned = hook(context)
    if inspect.isawaitable(returned):
        await returned


async def _call_after(
    hook: AfterHook, arguments: tuple[TaskContext, Task, BaseException | None], tasks: BackgroundTasks
) -> None:
    returned = hook(*arguments)
    if inspect.isawaitable(returned):
        failure = await _error_within_limit(hook, returned, arguments[1], tasks)
        if failure is not None:
            raise failure


async def _error_within_limit(
    hook: AfterHook, returned: Awaitable[Any], task: Task, tasks: BackgroundTasks
) -> BaseException | None:
    """Return what a hook after a run raises, or the error for a hook that takes too long, which is cancelled."""
    name, limit = name_of(hook), AFTER_LIMIT
    calling = tasks.spawn(_error_of(returned), name=f"the hook {name}", context=copy_context())
    try:
        await asyncio.wait([calling], timeout=limit)
    finally:
        calling.cancel()  # it may have ended, or this wait is cancelled
    if not calling.done():
        return TimeoutError(f"{name} took longer than {limit:g} s after {task.alias} {task.id}, and was cancelled")
    if not calling.cancelled():
        return calling.result()
    if inspect.iscoroutine(returned):
        returned.close()  # it was cancelled before its first step, and would warn that it was never awaited
    return asyncio.CancelledError("its asyncio task was cancelled")


async def _error_of(returned: Awaitable[Any]) -> BaseException | None:
    try:
        await returned
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - reported by whoever waits; after the limit, by nobody
        return error
    return None


def _no_manager(_name: str, _context: TaskContext) -> AbstractContextManager[Any]:
    return nullcontext()


@contextmanager
def _both(outer: HookManager, inner: HookManager, name: str, context: TaskContext) -> Iterator[None]:
    with outer(name, context), inner(name, context):
        yield


def _checked(hook: Any, arguments: str) -> Any:
    if not callable(hook):
        raise ConfigurationError(f"A hook is a function of ({arguments}), not {hook!r:.100}.")
    check_takes(hook, arguments, "hook")
    return hook
