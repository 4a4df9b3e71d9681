"""The lifespan of a store: what the application opens for its runs, and closes after them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.hooks import name_of
from aiotaskstore.mechanics.arguments import check_takes

LifespanFunction = Callable[[], AsyncIterator[Any] | AbstractAsyncContextManager[Any]]
"""An async generator function without parameters that yields once, or such a one under `@asynccontextmanager`."""

_EXPECTED = (
    "A lifespan is an async generator function without parameters: `async def resources(): …; yield …`, also under "
    "@asynccontextmanager"
)


class Lifespan:
    """The lifespan function of one store, if it has one."""

    def __init__(self) -> None:
        self.function: LifespanFunction | None = None
        self._open: Callable[[], AbstractAsyncContextManager[Any]] | None = None

    def register(self, function: LifespanFunction) -> None:
        """Take the store's lifespan function; raise `ConfigurationError` for a second, and for what cannot be one."""
        opening = _as_context_manager(function)
        if self.function is not None:
            raise ConfigurationError(
                f"The store has a lifespan, {name_of(self.function)}, and {name_of(function)} would be a second. Open "
                "everything in one function; contextlib.AsyncExitStack puts several together."
            )
        self.function, self._open = function, opening

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        """Enter what the function returns, and leave it. Raises what it raises."""
        assert self._open is not None  # noqa: S101 - there is a function
        try:
            async with self._open() as state:
                yield state
        except RuntimeError as error:
            if error.args == ("generator didn't yield",):
                raise ConfigurationError(f"{_EXPECTED} that yields once; it returned without.") from error
            raise


def _as_context_manager(function: Any) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Return a lifespan function as one that returns a context manager."""
    if not callable(function):
        raise ConfigurationError(f"{_EXPECTED}; not {function!r:.100}.")
    generates = inspect.isasyncgenfunction(function)
    if not generates and (inspect.iscoroutinefunction(function) or not inspect.isasyncgenfunction(_within(function))):
        raise ConfigurationError(f"{_EXPECTED}; {name_of(function)} is neither.")
    check_takes(function, "", "lifespan")
    return asynccontextmanager(function) if generates else function


def _within(function: Any) -> Any:
    """Return the function beneath a decorator such as `@asynccontextmanager`."""
    return inspect.unwrap(getattr(function, "__func__", function))
