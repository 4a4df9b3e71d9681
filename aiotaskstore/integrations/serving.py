"""A store, and a dispatcher if one is wanted, for as long as a web application serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.dispatch.dispatcher_settings import DispatcherOptions
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.taskstore import TaskStore

S = TypeVar("S")


def embedded_dispatcher(store: TaskStore, dispatcher: bool | DispatcherOptions) -> Dispatcher | None:  # noqa: FBT001 - as of `task_lifespan`
    """Return the dispatcher that an application embeds: `True`, or its options; `False` for none.

    Raises `ConfigurationError` for an option that cannot work.
    """
    if dispatcher is False:
        return None
    if dispatcher is True:
        return store.dispatcher()
    if not isinstance(dispatcher, Mapping):
        raise ConfigurationError(
            f'dispatcher must be True, False or options such as {{"concurrency": 20}}, not {dispatcher!r:.100}.'
        )
    try:
        return store.dispatcher(**dispatcher)
    except TypeError as error:
        raise ConfigurationError(f"dispatcher has an option that there is not: {error}.") from error


@asynccontextmanager
async def opened(store: TaskStore) -> AsyncIterator[None]:
    """Keep the store open inside the block. A store that was open before stays open after it."""
    if store.is_open:
        yield
    else:
        async with store:
            yield


@asynccontextmanager
async def dispatching(dispatcher: Dispatcher | None) -> AsyncIterator[None]:
    """Run tasks inside the block, then let the runs end within the dispatcher's grace.

    A dispatcher that fails does not end the block: the application goes on to serve and to enqueue. `running` is false
    then, the log says why, and the end of the block raises the error.
    """
    async with AsyncExitStack() as stack:
        if dispatcher is not None:
            stack.push_async_callback(dispatcher.stop)  # also for a start that is cancelled
            await dispatcher.start()
        yield


@asynccontextmanager
async def serving(
    store: TaskStore, dispatcher: Dispatcher | None, own: AbstractAsyncContextManager[S]
) -> AsyncIterator[S]:
    """Open the store, enter the application's own context, then dispatch; left in the reverse order.

    So the own context may enqueue from its start to its end, and what it holds is there for every run.
    """
    async with opened(store), own as state, dispatching(dispatcher):
        yield state
