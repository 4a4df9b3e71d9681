"""Makes prepared tasks from drafts. A definition that is not registered here is read from the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import replace
from typing import Any
from uuid import UUID

from aiotaskstore.definition import AnyDefinition, Draft
from aiotaskstore.definition_record import Definition
from aiotaskstore.errors import ConfigurationError, DatabaseUnavailableError, DefinitionInactiveError, UnknownAliasError
from aiotaskstore.manage.ambient_metadata import inherited
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.calls import Calls
from aiotaskstore.manage.known_definitions import KnownDefinitions
from aiotaskstore.manage.publishing import Publishing
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.options import DefinitionOptions
from aiotaskstore.prepared_task import Preparation, PreparedTask
from aiotaskstore.storage.definitions import Definitions, KnownDefinition

_PAUSE = 0.05
"""Seconds before a definition that could not be made known is tried again on another connection."""


class Preparing:
    """Makes prepared tasks. `registered` returns the aliases known here, which the error about another alias lists."""

    def __init__(
        self,
        preparation: Preparation,
        publishing: Publishing,
        known: KnownDefinitions,
        definitions: Definitions,
        calls: Calls,
        *,
        registered: Callable[[], Iterable[str]],
        enqueue_timeout: float,
    ) -> None:
        self._preparation, self._publishing, self._known = preparation, publishing, known
        self._definitions, self._calls = definitions, calls
        self._registered, self._limit = registered, enqueue_timeout

    async def prepare(
        self,
        draft: Draft[Any],
        joined: AmbientTransaction | None = None,
        *,
        task_id: UUID | None = None,
        enqueued_in: Context | None = None,
    ) -> PreparedTask:
        """Make a row of a draft. `enqueued_in` is the context of whoever enqueues, where that is another one.

        Raises `UnknownAliasError` for an alias that nobody knows, `DefinitionInactiveError` for a cancelled definition.
        """
        try:
            alias, defaults, definition_id = await self._defaults(draft, joined)
        except DatabaseUnavailableError as error:
            error.nothing_done = True  # for the task, whatever was done about its definition
            raise
        if alias != draft.alias:
            draft = replace(draft, alias=alias)

        def prepare() -> PreparedTask:
            return self._preparation.prepare(draft, task_id or new_id(), defaults, definition_id, inherited())

        return prepare() if enqueued_in is None else enqueued_in.run(prepare)

    def prepare_now(self, draft: Draft[Any], task_id: UUID) -> PreparedTask | None:
        """Make a row of a draft whose definition is at hand; `None` where it must be read from the database.

        Its definition's record is not looked at yet: `identify` does that.
        """
        if draft.definition is None:
            return None
        return self._preparation.prepare(draft, task_id, draft.definition.defaults, None, inherited())

    async def identify(self, draft: Draft[Any], prepared: PreparedTask) -> PreparedTask:
        """Name the definition's record in a row of `prepare_now`; raise `DefinitionInactiveError` if cancelled."""
        if draft.definition is None or prepared.row.definition_id is not None:
            return prepared
        definition_id = await self._id_of(draft.definition, None)
        return prepared._replace(row=prepared.row._replace(definition_id=definition_id))

    async def _defaults(
        self, draft: Draft[Any], joined: AmbientTransaction | None
    ) -> tuple[str, DefinitionOptions, UUID | None]:
        definition = draft.definition
        if definition is None:
            return await self._look_up(draft, joined)
        return draft.alias, definition.defaults, await self._id_of(definition, joined)

    async def _id_of(self, definition: AnyDefinition, joined: AmbientTransaction | None) -> UUID | None:
        known = await self._known.get(definition.alias, joined) or await self._learn(definition, joined)
        if known is None:
            return None
        if not known.active:
            raise DefinitionInactiveError(definition.alias)
        return known.id

    async def _learn(self, definition: AnyDefinition, joined: AmbientTransaction | None) -> KnownDefinition | None:
        try:
            async with asyncio.timeout(self._limit) as deadline:
                return await self._learn_on_any_connection(definition, joined)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise DatabaseUnavailableError(
                f'The definition "{definition.alias}" could not be made known within enqueue_timeout '
                f"({self._limit:g} s), so its task was not stored. Try again; on SQLite any open transaction keeps it "
                "waiting, also one of your own (then enqueue with .using(connection))."
            ) from error

    async def _learn_on_any_connection(
        self, definition: AnyDefinition, joined: AmbientTransaction | None
    ) -> KnownDefinition | None:
        while True:
            try:
                return await self._publishing.learn(definition, joined, limit=self._limit)
            except DatabaseUnavailableError as error:
                if joined is not None or (error.nothing_done and not error.timed_out):
                    raise
            await asyncio.sleep(_PAUSE)  # that connection is closed by now

    async def _look_up(
        self, draft: Draft[Any], joined: AmbientTransaction | None
    ) -> tuple[str, DefinitionOptions, UUID | None]:
        definition = await self._known.look_up(draft.alias, joined, limit=self._limit)
        if definition is None:
            if draft.unchecked:
                return draft.alias, DefinitionOptions(), None
            known = await self._calls.read(self._definitions.known, joined, limit=self._limit)
            raise UnknownAliasError(draft.alias, {*known, *self._registered()})
        if not definition.active:
            raise DefinitionInactiveError(definition.alias)
        _check_made_elsewhere(draft, definition)
        return definition.alias, DefinitionOptions.from_published(definition.defaults), definition.id


def _check_made_elsewhere(draft: Draft[Any], definition: Definition) -> None:
    """Raise `ConfigurationError` where an option is missing that only a function in another service can make."""
    for name in definition.defaults.get("functions", ()):
        if name not in draft.options:
            raise ConfigurationError(
                f'Enqueuing "{draft.alias}" by alias needs {name}=…: its definition makes that of the arguments, by a '
                "function that only the service has where it is declared. Nothing was stored."
            )
