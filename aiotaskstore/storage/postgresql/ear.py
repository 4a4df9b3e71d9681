"""The listening connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.storage.database import Ear
from aiotaskstore.storage.postgresql.trouble import translated

_PING = 5.0
"""Seconds between signs of life."""


class PostgresEar(Ear):
    """The listening connection, pinged so that a half-open one is noticed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._gone = asyncio.Event()
        connection.add_termination_listener(lambda _connection: self._gone.set())

    async def lost(self) -> None:
        while not self._gone.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_PING):
                    await self._gone.wait()
                    return
            try:
                with translated():
                    await self._connection.execute("SELECT 1")
            except DatabaseUnavailableError:
                return
