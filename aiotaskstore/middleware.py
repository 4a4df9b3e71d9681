"""Middleware: functions of the application, each of which is called around the rest of a run."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from aiotaskstore.context import TaskContext
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.handler_call import is_async
from aiotaskstore.hooks import name_of
from aiotaskstore.mechanics.arguments import check_takes


class CallNext(Protocol):
    """What a middleware awaits to go on with the run."""

    def __call__(self, context: TaskContext = ..., /) -> Awaitable[Any]:
        """Call the next middleware, or the handler; return what it returns, raise what it raises.

        There is one context in a run, so it may be left out.
        """


class Middleware(Protocol):
    """A coroutine function, or an object with an async `__call__`, that is called around the rest of each run."""

    def __call__(self, context: TaskContext, call_next: CallNext, /) -> Awaitable[Any]:
        """Return the result of the run, such as what `await call_next(context)` returns."""


_Rest = Callable[[TaskContext], Coroutine[Any, Any, Any]]


class MiddlewareStack:
    """The middleware of one store, in the order of registration: the first is the outermost."""

    def __init__(self) -> None:
        self.stack: tuple[Middleware, ...] = ()

    def add(self, middleware: Middleware) -> None:
        """Call `middleware` around each run that begins from now on, inside those that were added before."""
        self.stack = (*self.stack, _checked(middleware))

    async def call(self, context: TaskContext, handler: _Rest) -> Any:
        """Call every middleware around `handler`; return what the outermost returns, raise what it raises."""
        rest = handler
        for middleware in reversed(self.stack):
            rest = partial(_around, middleware, rest)
        return await rest(context)


async def _around(middleware: Middleware, rest: _Rest, context: TaskContext) -> Any:
    call_next = _CallNext(middleware, rest, context)
    try:
        value = await middleware(context, call_next)
    finally:
        unfinished = call_next.close()
    if unfinished:
        raise ConfigurationError(
            f"The middleware {name_of(middleware)} returned before what it called with call_next had ended. "
            "Await it: `result = await call_next(context)`."
        )
    return value


class _CallNext:
    """What one middleware of one run is given as `call_next`. It goes on with the run, once."""

    __slots__ = ("_closed", "_context", "_ended", "_middleware", "_rest", "_running")

    def __init__(self, middleware: Middleware, rest: _Rest, context: TaskContext) -> None:
        self._middleware, self._rest, self._context = middleware, rest, context
        self._running: Coroutine[Any, Any, Any] | None = None
        self._ended = self._closed = False

    def __call__(self, context: TaskContext | None = None) -> Coroutine[Any, Any, Any]:
        name = name_of(self._middleware)
        if context is not None and context is not self._context:
            raise ConfigurationError(
                f"The middleware {name} called call_next with {context!r:.100}. It takes the context that the "
                "middleware was given: `await call_next(context)`."
            )
        if self._running is not None:
            raise ConfigurationError(
                f"The middleware {name} called call_next twice in one run, and an attempt runs its handler once. To "
                "have another attempt, raise Retry."
            )
        if self._closed:
            raise ConfigurationError(
                f"The middleware {name} had returned when call_next was called, so its run has ended. Await "
                "call_next(context) inside the middleware."
            )
        self._running = self._run()
        return self._running

    async def _run(self) -> Any:
        try:
            return await self._rest(self._context)
        finally:
            self._ended = True

    def close(self) -> bool:
        """Refuse to go on from now on; return whether the rest of the run was called and has not ended."""
        running, self._closed = self._running, True
        if running is None:
            return False
        if inspect.getcoroutinestate(running) == inspect.CORO_CREATED:
            running.close()  # it was never awaited, and would warn of that
        return not self._ended


def _checked(middleware: Any) -> Any:
    """Return a middleware; raise `ConfigurationError` for what cannot be one."""
    expected = "A middleware is an `async def` of (context, call_next)"
    if isinstance(middleware, type):
        raise ConfigurationError(
            f"{expected}, and {middleware.__name__} is a class. Give an object with an async __call__: "
            f"store.middleware({middleware.__name__}())."
        )
    if not callable(middleware):
        raise ConfigurationError(f"{expected}, not {middleware!r:.100}.")
    check_takes(middleware, "context, call_next", "middleware")
    if not is_async(middleware):
        raise ConfigurationError(
            f"{expected}, and {name_of(middleware)} is none, so it cannot wait for the handler. Write "
            "`async def` and `return await call_next(context)`."
        )
    return middleware
