"""Sends claims to the database, one at a time; releases the tasks of a claim whose reply came too late."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.dispatch.freed_keys import FreedKeys
from aiotaskstore.dispatch.restriction_reader import RestrictionReader
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.registry import Registry
from aiotaskstore.storage.restrictions import Restrictions
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import Claim

_LONG = 0.5
"""Seconds after which a reply is compared with the restrictions of its own time."""


class ClaimCounts(NamedTuple):
    """Claims of a dispatcher so far."""

    sent: int
    ended: int


class ClaimSender:
    """Sends the claims of one dispatcher instance, with the aliases that it may claim."""

    def __init__(
        self,
        dispatcher_id: UUID,
        storage: Storage,
        registry: Registry,
        *,
        restrictions: RestrictionReader,
        release: Callable[[Sequence[Claim]], Awaitable[None]],
        freed_keys: FreedKeys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher_id, self._storage, self._registry, self._release = dispatcher_id, storage, registry, release
        self._restrictions, self._clock = restrictions, clock
        self.freed_keys: FreedKeys = freed_keys
        """Keys that go with the next claim."""
        self._missing: set[str] = set()
        self._refusing = False
        self.replied: TimedEvent = TimedEvent()
        """Set while no claim waits for its reply."""
        self.replied.set()
        self._sent = 0
        self.took: float = 0.0
        """Seconds from sending the latest claim to its reply."""

    async def claim(self, wanted: Sequence[tuple[str, int]]) -> list[Claim]:
        """Claim up to so many tasks of each queue, but none of a cancelled definition; grant the freed keys with it.

        If the reply comes after `refuse`, release them and return none. If it took long, or restrictions have changed
        meanwhile, release those whose queue is paused now, or whose definition is cancelled.
        """
        aliases = self._claimable()
        self.replied.clear()
        self._sent += 1
        try:
            sent, heeded = self._clock(), self._restrictions.current
            claims = await self._send(wanted, aliases)
            self.took = self._clock() - sent
            if claims and (self.took > _LONG or self._restrictions.differ_from(heeded)):
                claims = await self._still_allowed(claims)
        finally:
            self.replied.set()
        if not self._refusing:
            return claims
        await self._release(claims)
        return []

    @property
    def counts(self) -> ClaimCounts:
        """How many claims were sent so far, and how many of them have ended, with a reply or without one."""
        return ClaimCounts(self._sent, self._sent - (not self.replied.is_set()))

    async def find_missing_handlers(self) -> None:
        """From now on, claim pending tasks without a handler here too, so that they fail (`on_missing="fail"`)."""
        pending = await self._storage.database.read(self._storage.tasks.pending_aliases)
        self._missing |= set(pending) - set(self._aliases)

    async def paused_queues(self) -> frozenset[str]:
        """Return the queues of which nothing may be claimed now."""
        return (await self._restrictions.latest()).paused_queues

    async def pending_queues(self) -> list[str]:
        """Return every queue that has pending tasks."""
        return await self._storage.database.read(self._storage.tasks.pending_queues)

    def refuse(self) -> None:
        """From now on, release the tasks of later replies, since no run may begin."""
        self._refusing = True

    async def _send(self, wanted: Sequence[tuple[str, int]], aliases: Sequence[str]) -> list[Claim]:
        tasks, write = self._storage.tasks, self._storage.database.write
        keys = self.freed_keys.take()
        if not keys:
            return await write(partial(tasks.claim, self._dispatcher_id, wanted, aliases))
        try:
            claimed = await write(partial(tasks.claim_granting, self._dispatcher_id, wanted, aliases, keys))
        except BaseException:
            self.freed_keys.refused()
            raise
        self.freed_keys.granted(claimed.granted)
        return claimed.claims

    async def _still_allowed(self, claims: list[Claim]) -> list[Claim]:
        """Release what may not run any more, as the database knows now; return the other claims."""
        try:
            restrictions = await self._restrictions.read_anew()
        except TaskStoreError:
            await self._release(claims)
            raise
        refused = [
            claim
            for claim in claims
            if claim.queue in restrictions.paused_queues or self._is_cancelled(claim.alias, restrictions)
        ]
        if not refused:
            return claims
        await self._release(refused)
        released = {claim.id for claim in refused}
        return [claim for claim in claims if claim.id not in released]

    def _claimable(self) -> list[str]:
        """Return the aliases without those of cancelled definitions."""
        restrictions = self._restrictions.current
        if not restrictions.cancelled_aliases:
            return self._aliases
        return [alias for alias in self._aliases if not self._is_cancelled(alias, restrictions)]

    def _is_cancelled(self, alias: str, restrictions: Restrictions) -> bool:
        """Return whether the definition of an alias is cancelled; a former alias counts too."""
        cancelled = restrictions.cancelled_aliases
        return alias in cancelled or bool((known := self._registry.get(alias)) and known.alias in cancelled)

    @property
    def _aliases(self) -> list[str]:
        """The aliases to claim, with those that were registered after the start."""
        return [*self._registry.aliases, *self._missing]
