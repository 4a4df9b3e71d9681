"""The dispatchers that use the database: `store.dispatchers`."""

from __future__ import annotations

from collections.abc import Callable

from aiotaskstore.manage.dispatcher_info import DispatcherInfo, infos
from aiotaskstore.manage.open_store import OpenStore


class DispatcherManager:
    """`store.dispatchers`: the dispatchers of every process that uses the database."""

    def __init__(self, require_open: Callable[[], OpenStore]) -> None:
        self._require_open = require_open

    async def list(self) -> list[DispatcherInfo]:
        """List the dispatchers that have started and not stopped, the oldest first."""
        store = self._require_open()
        return infos(await store.calls.read(store.storage.dispatchers.list, store.calls.joined()))
