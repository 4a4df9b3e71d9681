"""The event loop that asyncpg is given: it dials as `dialer.py` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiotaskstore.storage.dialer import Dialer


class DialingLoop:
    """Passes every call on to the running event loop, except for opening connections, which a `Dialer` does.

    Passing addresses to asyncpg instead of names would not do: TLS must verify the name, and a URL with several hosts
    must verify the name of each.
    """

    def __init__(self, dialer: Dialer) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer = dialer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def __eq__(self, other: object) -> bool:  # asyncio finds the current task by its loop
        return other is self or other is self._loop

    def __hash__(self) -> int:
        return hash(self._loop)

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future whose error is always read, so that asyncio does not warn of an error that nobody retrieved.

        The driver leaves such futures behind when a connection is lost while the waiting task is being cancelled.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(_read_error)
        return future

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int, *, ssl: Any = None) -> Any:
        """Connect to a host by any of its addresses; TLS verifies its name."""
        server_hostname = host if ssl else None
        return await self._dialer.dial_host(
            host,
            port,
            lambda address: self._loop.create_connection(
                factory, address, port, ssl=ssl, server_hostname=server_hostname
            ),
        )

    async def create_unix_connection(self, factory: Callable[[], Any], path: str) -> Any:
        """Connect to a Unix socket."""
        return await self._dialer.dial(path, lambda: self._loop.create_unix_connection(factory, path))


def _read_error(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
