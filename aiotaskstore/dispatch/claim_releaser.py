"""Releases claims: returns their tasks to the queue, before a run has begun here."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from aiotaskstore.dispatch.wakeup import Wakeup
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.hint import ANY_QUEUE
from aiotaskstore.outcome import RELEASED, Outcome
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import ClaimKey


class UnseenClaim(NamedTuple):
    """A claim that the database made, but whose reply did not arrive here."""

    id: UUID
    fence: int


class Spawn(Protocol):
    """Starts a background task that ends by itself."""

    def __call__(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> object:
        """Start it."""


class ClaimReleaser:
    """Releases claims of this dispatcher instance. `heartbeat` is the seconds from one heartbeat to the next."""

    def __init__(self, heartbeat: float, storage: Storage, hooks: Hooks, wakeup: Wakeup, spawn: Spawn) -> None:
        self._heartbeat, self._storage, self._hooks = heartbeat, storage, hooks
        self._wakeup, self._spawn = wakeup, spawn

    def release_unseen(self, claims: Iterable[tuple[UUID, int]]) -> None:
        """Release claims, soon, whose reply did not arrive here, so that their tasks can be claimed again."""
        self._spawn(self.release([UnseenClaim(*claim) for claim in claims]), name="aiotaskstore release")

    async def release(self, claims: Sequence[ClaimKey]) -> None:
        """Release claims: return their tasks to the queue. If it fails, a later heartbeat's reply lists them again."""
        ended: list[tuple[ClaimKey, Outcome]] = [(claim, RELEASED) for claim in claims]
        try:
            await self._storage.database.write(lambda: self._storage.tasks.record(ended))
        except TaskStoreError as error:
            self._hooks.emit(BackgroundFailed("release", error, self._heartbeat))
        else:
            self._wakeup.receive(ANY_QUEUE)
