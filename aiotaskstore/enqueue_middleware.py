"""Enqueue middleware: functions of the application, each of which is called around the rest of an enqueue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from aiotaskstore.definition import Draft, check_drafts
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.handler_call import is_async
from aiotaskstore.hooks import name_of
from aiotaskstore.mechanics.arguments import check_takes

StoreDrafts = Callable[[Sequence[Draft[Any]]], Awaitable[list[UUID]]]
"""Goes on with the enqueue: calls the next middleware, or stores the drafts, and returns their ids in order."""
EnqueueMiddleware = Callable[[Sequence[Draft[Any]], StoreDrafts], Awaitable[Any]]
"""Takes the drafts of one call, and what goes on with it."""


class EnqueueMiddlewareStack:
    """The enqueue middleware of one store, in the order of registration: the first is the outermost."""

    def __init__(self) -> None:
        self._stack: tuple[EnqueueMiddleware, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any middleware."""
        return bool(self._stack)

    def add(self, middleware: EnqueueMiddleware) -> None:
        """Call `middleware` around each enqueue from now on, inside those that were added before."""
        self._stack = (*self._stack, _checked(middleware))

    async def call(self, drafts: Sequence[Draft[Any]], store: StoreDrafts) -> list[UUID]:
        """Call every middleware around `store`; return the ids, or raise what the outermost raises."""
        storing = _Storing(len(drafts), store)
        rest: StoreDrafts = storing.store
        for middleware in reversed(self._stack):
            rest = partial(storing.within, middleware, rest)
        try:
            return await rest(drafts)
        finally:
            storing.close()


class _Storing:
    """The innermost part of one enqueue. What has become of it cannot be hidden from whoever enqueues."""

    def __init__(self, count: int, store: StoreDrafts) -> None:
        self._count, self._store = count, store
        self._begun = self._closed = False
        self._ids: list[UUID] | None = None
        self._error: BaseException | None = None

    async def store(self, drafts: Sequence[Draft[Any]]) -> list[UUID]:
        """Store the drafts, once."""
        if self._begun:
            raise ConfigurationError("An enqueue middleware called call_next twice; one enqueue stores its tasks once.")
        if self._closed:
            raise ConfigurationError(
                "The enqueue had ended when an enqueue middleware called call_next, so nothing is stored. Await "
                "call_next(drafts) inside the middleware."
            )
        given = check_drafts(drafts)
        if len(given) != self._count:
            raise ConfigurationError(
                f"An enqueue middleware passed {len(given)} drafts on, of {self._count}. It may change them, not their "
                "number, since whoever enqueues is given an id for each. Nothing was stored."
            )
        self._begun = True
        try:
            self._ids = await self._store(given)
        except BaseException as error:
            self._error = error
            raise
        return self._ids

    async def within(
        self, middleware: EnqueueMiddleware, rest: StoreDrafts, drafts: Sequence[Draft[Any]]
    ) -> list[UUID]:
        """Call a middleware around the rest, whatever it returns."""
        await middleware(drafts, rest)
        return self._stored()

    def close(self) -> None:
        """Store nothing any more: whoever enqueues has been told how it ended."""
        self._closed = True

    def _stored(self) -> list[UUID]:
        """Return the ids of what was stored; raise why it was not."""
        if self._ids is not None:
            return self._ids
        if self._error is not None:
            raise self._error
        if self._begun:
            raise ConfigurationError(
                "An enqueue middleware returned before call_next(drafts) had ended, so the tasks may be stored or not. "
                "Await it."
            )
        raise ConfigurationError(
            "An enqueue middleware returned and had not awaited call_next(drafts), so nothing is stored. "
            "To refuse an enqueue, raise an error."
        )


def _checked(middleware: Any) -> EnqueueMiddleware:
    """Return an enqueue middleware; raise `ConfigurationError` for what cannot be one."""
    expected = "An enqueue middleware is an `async def` of (drafts, call_next)"
    if isinstance(middleware, type) or not callable(middleware):
        raise ConfigurationError(f"{expected}, not {middleware!r:.100}.")
    check_takes(middleware, "drafts, call_next", "enqueue middleware")
    if not is_async(middleware):
        raise ConfigurationError(
            f"{expected}, and {name_of(middleware)} is none, so it cannot wait for what it wraps. Write "
            "`async def` and `return await call_next(drafts)`."
        )
    checked: EnqueueMiddleware = middleware
    return checked
