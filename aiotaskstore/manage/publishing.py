"""Writes the records of definitions: other services enqueue by them, and tasks refer to them by id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from aiotaskstore.definition import AnyDefinition
from aiotaskstore.errors import DefinitionNotFoundError
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.calls import Calls
from aiotaskstore.manage.known_definitions import KnownDefinitions
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.payload import ANYTHING, dump
from aiotaskstore.registry import Registry
from aiotaskstore.storage.definitions import Definitions, KnownDefinition, Published

_DEFAULTS_LIMIT = 2**20


class Publishing:
    """Writes a definition's record where there is none, or where it is outdated."""

    def __init__(self, definitions: Definitions, registry: Registry, calls: Calls, known: KnownDefinitions) -> None:
        self._definitions, self._registry, self._calls, self._known = definitions, registry, calls, known
        self._learning = asyncio.Lock()
        """Many who enqueue what was registered a moment ago look once."""

    async def open(self) -> None:
        """Write what is missing of the definitions registered so far; what others published stays as it is."""
        await self._make_known(self._declared())

    async def learn(
        self, definition: AnyDefinition, joined: AmbientTransaction | None, *, limit: float
    ) -> KnownDefinition | None:
        """Find the record of a definition registered later; write it if need be. Each step has `limit` seconds.

        Not inside a caller's transaction: that may be rolled back, or keep others waiting who write the same record.
        """
        if joined is not None:
            # By the database's own limit: a silent connection is closed by that, not by whoever cancels us at ours.
            return (await self._calls.read(self._definitions.known, joined)).get(definition.alias)
        async with self._learning:
            if self._known.at_hand(definition.alias) is None:
                await self._make_known([definition], limit=limit)
        return self._known.at_hand(definition.alias)

    async def require_record(self, definition: AnyDefinition, *, create: bool) -> None:
        """Write a definition's record if it has none, or raise `DefinitionNotFoundError` unless `create`.

        What is written outlives the caller's transaction: its handler is registered whether that commits or not.
        """
        alias = definition.alias
        if await self._calls.read(partial(self._definitions.get_by_alias, alias), self._calls.joined()) is not None:
            return
        if not create:
            raise DefinitionNotFoundError(alias, " Pass create_if_missing=True to store it now.")
        records = _records([definition])
        await self._calls.write(partial(self._definitions.announce, records), None)
        self._known.outdate()

    async def publish(self) -> None:
        """Write every definition as it is declared here, over what others published."""
        records = _records(self._declared())
        await self._calls.write(lambda: self._definitions.publish(records), None)

    def _declared(self) -> list[AnyDefinition]:
        return sorted(self._registry, key=lambda one: one.alias)

    async def _make_known(self, definitions: list[AnyDefinition], *, limit: float | None = None) -> None:
        if not definitions:
            return
        known = await self._known.read(limit=limit)
        missing = [one for one in definitions if one.alias not in known]
        if missing:
            records = _records(missing)
            await self._calls.write(lambda: self._definitions.announce(records), None, limit=limit)
            await self._known.read(limit=limit)


def _records(definitions: Iterable[AnyDefinition]) -> list[Published]:
    return [
        Published(
            new_id(),
            one.alias,
            one.title,
            one.description,
            dump(ANYTHING, one.defaults.published(), "defaults", _DEFAULTS_LIMIT),
        )
        for one in definitions
    ]
