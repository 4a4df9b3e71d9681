"""Restricts dispatchers, or lifts a restriction: those of every process learn of it at once where hints arrive."""

from __future__ import annotations

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.calls import Calls
from aiotaskstore.mechanics.hint import RESTRICTIONS_CHANGED
from aiotaskstore.mechanics.notifier import Notifier
from aiotaskstore.storage.dispatchers import OlderDispatcher
from aiotaskstore.storage.operation import Operation, Steps, T
from aiotaskstore.storage.restrictions import Restrictions, read_restrictions
from aiotaskstore.storage.storage import Storage


class Restricting:
    """Writes restrictions, hints at them after the commit, and names the dispatchers that will ignore them."""

    def __init__(self, storage: Storage, calls: Calls, notifier: Notifier, hooks: Hooks) -> None:
        self._storage, self._calls, self._notifier, self._hooks = storage, calls, notifier, hooks

    async def write(self, operation: Operation[T], joined: AmbientTransaction | None) -> T:
        """Run an operation that changes restrictions; dispatchers read them anew before their next claim."""
        notification = self._storage.database.notify_within(RESTRICTIONS_CHANGED)
        result = await self._calls.write(operation, joined, then=notification)
        if joined is not None:
            await self._calls.notify_after_commit(joined, RESTRICTIONS_CHANGED)
        else:
            self._notifier.notify(RESTRICTIONS_CHANGED)
            await self._warn()
        return result

    async def _warn(self) -> None:
        """Emit an event for each older dispatcher. What was written stays written if that fails."""
        try:
            older, restrictions = await self._calls.read(self._older, None)
        except TaskStoreError as error:
            self._hooks.emit(BackgroundFailed("restrictions", error, 0))
        else:
            for dispatcher in older:
                self._hooks.emit(dispatcher.outdated(restrictions))

    def _older(self) -> Steps[tuple[list[OlderDispatcher], Restrictions]]:
        older = yield from self._storage.dispatchers.older()
        return older, (yield from read_restrictions()) if older else Restrictions()
