"""What the database said of definitions a moment ago: an enqueue asks here, and not the database each time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from math import inf

from aiotaskstore.definition_record import Definition
from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.calls import Calls
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.storage.definitions import Definitions, KnownDefinition

BELIEVED_FOR = 1.0
"""Seconds that is believed what was read: a cancelled definition is refused after so long at the latest."""
_READ_LIMIT, _READ_LIMIT_JOINED = 5.0, 0.5
"""Seconds that an enqueue waits to learn anew of definitions; less inside a caller's transaction, which holds locks."""


class KnownDefinitions:
    """The definitions' records as they were read last, at most `BELIEVED_FOR` seconds ago."""

    def __init__(self, definitions: Definitions, calls: Calls) -> None:
        self._definitions, self._calls = definitions, calls
        self._records: Mapping[str, KnownDefinition] = {}
        self._looked_up: dict[str, tuple[float, Definition]] = {}
        self._read_at, self._changes = -inf, 0
        self._reading = asyncio.Lock()
        """Many who enqueue at once read once."""

    def at_hand(self, alias: str) -> KnownDefinition | None:
        """Return what was read of a definition last, however long ago."""
        return self._records.get(alias)

    def receive(self, hint: Hint) -> None:
        """Take a hint: after the commit of a change, what was read before it is outdated."""
        if hint.restrictions_changed:
            self.outdate()

    def outdate(self) -> None:
        """Believe nothing that was read so far, nor what is being read: something has changed."""
        self._read_at = -inf
        self._changes += 1
        self._looked_up.clear()

    async def get(self, alias: str, joined: AmbientTransaction | None) -> KnownDefinition | None:
        """Return what is known of a definition, read anew if that is older than `BELIEVED_FOR`.

        If the database cannot be read now, what was known counts on: the enqueue itself will find out, and dispatchers
        claim nothing of a cancelled definition.
        """
        if not self._fresh:
            if joined is not None and self._definitions.database.shared_memory:  # its one connection is the caller's
                return (await self._calls.read(self._definitions.known, joined)).get(alias)
            await self._read_anew(_READ_LIMIT if joined is None else _READ_LIMIT_JOINED)
        return self._records.get(alias)

    async def read(self, *, limit: float | None = None) -> Mapping[str, KnownDefinition]:
        """Read all definitions now."""
        begun, changes = self._now, self._changes
        self._records = await self._calls.read(self._definitions.known, None, limit=limit)
        if changes == self._changes:
            self._read_at = begun
        return self._records

    async def look_up(self, alias: str, joined: AmbientTransaction | None, *, limit: float) -> Definition | None:
        """Return the record of a definition that is not registered here; `alias` may be a former alias of it."""
        believed = self._looked_up.get(alias)
        if believed is not None and self._now - believed[0] < BELIEVED_FOR:
            return believed[1]
        begun, changes = self._now, self._changes
        record = await self._calls.read(partial(self._definitions.get_by_alias, alias), joined, limit=limit)
        if record is None:
            everything = await self._calls.read(self._definitions.all, joined, limit=limit)
            record = next((one for one in everything if alias in one.defaults.get("former_aliases", ())), None)
        if record is not None and joined is None and changes == self._changes:  # what is rolled back never was
            self._looked_up[alias] = (begun, record)
        return record

    async def _read_anew(self, limit: float) -> None:
        """Read unless somebody else has just done so; give up in silence after `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                await self._reading.acquire()
        except TimeoutError:
            return
        changes = self._changes
        try:
            if not self._fresh:
                await self.read(limit=limit)
        except DatabaseUnavailableError:
            if changes == self._changes:
                self._read_at = self._now
        finally:
            self._reading.release()

    @property
    def _fresh(self) -> bool:
        return self._now - self._read_at < BELIEVED_FOR

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()
