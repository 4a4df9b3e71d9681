"""The notification listener."""

from __future__ import annotations

from typing import Any

from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.storage.database import NotificationListener
from aiotaskstore.storage.postgresql.error_translation import translated

_PING = 5.0
"""Seconds between pings."""


class PostgresListener(NotificationListener):
    """The connection that receives notifications, pinged so that a half-open one is noticed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._gone = TimedEvent()
        connection.add_termination_listener(lambda _connection: self._gone.set())

    async def lost(self) -> None:
        while not self._gone.is_set():
            if await self._gone.wait(_PING):
                return
            try:
                with translated():
                    await self._connection.execute("SELECT 1")
            except DatabaseUnavailableError:
                return
