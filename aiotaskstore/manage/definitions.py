"""`store.definitions`: the records of definitions, to read, to change, to cancel and to activate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict, Unpack
from uuid import UUID

from aiotaskstore.alias import check_alias
from aiotaskstore.definition_record import Definition, DefinitionStatus
from aiotaskstore.errors import (
    ConfigurationError,
    DefinitionNotFoundError,
    DuplicateAliasError,
    InvalidQueryError,
)
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.mechanics.ids import find_id
from aiotaskstore.mechanics.text import NAME_LIMIT, check_text
from aiotaskstore.storage.definitions import DEFINITIONS, Definitions
from aiotaskstore.storage.faults import AlreadyStored
from aiotaskstore.storage.operation import Steps, T
from aiotaskstore.storage.record_listing import RecordFilters, RecordListing

_LIMITS = {"title": NAME_LIMIT, "description": 10_000, "memo": 10_000}
"""The texts that may be written, and how many characters each may have."""


class DefinitionChanges(TypedDict, total=False):
    """What `store.definitions.update` takes: only what is named is written."""

    title: str
    description: str
    memo: str


class DefinitionFilters(RecordFilters, total=False):
    """What `store.definitions.list` and `count` take; all given must hold."""


class DefinitionManager:
    """`store.definitions`: what the database knows of definitions, whichever process registered them.

    Where a definition is to be named, its id or its alias does; text that is a UUID is an id. `get` returns `None` for
    one that is not stored or is soft-deleted, all others raise `DefinitionNotFoundError`. An empty text, or another
    type, is an `InvalidQueryError`.
    """

    def __init__(self, require_open: Callable[[], OpenStore]) -> None:
        self._require_open = require_open

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, id: UUID | str) -> Definition | None:
        """Return a definition by its id; `None` where none is stored under it, or it is soft-deleted."""
        wanted = find_id(id)
        if wanted is None:
            self._require_open()
            return None
        found = await self._read(lambda definitions: definitions.get(wanted))
        return None if found is None or found.deleted_at is not None else found

    async def get_by_alias(self, alias: str) -> Definition | None:
        """Return the definition that has exactly this alias; `None` where there is none, or it is soft-deleted."""
        wanted = _named(alias)
        return await self._read(lambda definitions: definitions.get_by_alias(wanted))

    async def require(self, definition: UUID | str) -> Definition:
        """Return a definition by its id or its alias; raises `DefinitionNotFoundError` where there is none."""
        wanted = find_id(definition)
        found = await (self.get_by_alias(str(definition)) if wanted is None else self.get(wanted))
        if found is None:
            raise DefinitionNotFoundError(definition)
        return found

    async def list(self, **filters: Unpack[DefinitionFilters]) -> Sequence[Definition]:
        """List definitions, newest first by default; raises `InvalidQueryError`."""
        listing = RecordListing.parse(DEFINITIONS, filters)
        return await self._read(lambda definitions: definitions.page(listing))

    async def count(self, **filters: Unpack[DefinitionFilters]) -> int:
        """Count definitions; order and page do not matter."""
        listing = RecordListing.parse(DEFINITIONS, filters)
        return await self._read(lambda definitions: definitions.total(listing))

    # ── changing ──────────────────────────────────────────────────────────────────────────────────────────

    async def create(self, alias: str | Definition, **texts: Unpack[DefinitionChanges]) -> Definition:
        """Store a definition that no service has published; it is active unless a `Definition` says otherwise.

        Takes an alias and texts, or a `Definition`, of which id, alias, texts and status are written. Raises
        `DuplicateAliasError` where another definition that is not deleted has the alias.
        """
        if isinstance(alias, Definition):
            if texts:
                raise ConfigurationError("Give create() a Definition, or an alias with texts, not both.")
            wanted = alias
        else:
            _checked(texts)
            wanted = Definition(alias=alias, **texts)
        _check_new(wanted)
        found = await self._write(lambda definitions: definitions.create(wanted))
        if found is None or found.id != wanted.id:
            raise DuplicateAliasError(wanted.alias, wanted.id if found is None else found.id)
        return found

    async def update(self, definition: UUID | str | Definition, **changes: Unpack[DefinitionChanges]) -> Definition:
        """Write the texts that are named, or all those of a `Definition`, and nothing else; returns the record.

        Title and description are those of the code again when a service that has registered the handler starts a
        dispatcher. The memo is the operator's.
        """
        if isinstance(definition, Definition):
            if changes:
                raise ConfigurationError("Give update() a Definition, or its id or alias with texts, not both.")
            changes = {"title": definition.title, "description": definition.description, "memo": definition.memo}
            definition = definition.id
        texts = _checked(changes)
        if not texts:
            raise ConfigurationError(f"update() changes what is named: {', '.join(_LIMITS)}. Nothing was.")
        wanted = await self._id_of(definition)
        title, description, memo = (texts.get(name) for name in _LIMITS)
        found = await self._write(lambda definitions: definitions.update(wanted, title, description, memo))
        return _found(found, definition)

    async def activate(self, definition: UUID | str) -> Definition:
        """Have tasks of a cancelled definition enqueued and claimed again; an active one stays as it is."""
        return await self._set_status(definition, DefinitionStatus.ACTIVE)

    async def cancel(self, definition: UUID | str) -> Definition:
        """Switch a definition off: nothing of it is enqueued or claimed until it is activated.

        Enqueuing is refused at once here (`DefinitionInactiveError`), and within a second in other processes, where
        dispatchers stop claiming as soon. What runs goes on; what is stored stays.
        """
        return await self._set_status(definition, DefinitionStatus.CANCELLED)

    async def delete(self, definition: UUID | str) -> bool:
        """Delete the record of a definition, also a soft-deleted one; returns false where there is none.

        An alias means the record that has it; where none has, the one soft-deleted last. Its tasks stay. A service that
        has registered the handler writes a new record when it next needs one.
        """
        try:
            wanted = await self._deleted_id_of(definition)
        except DefinitionNotFoundError:
            return False
        return await self._write(lambda definitions: definitions.delete(wanted))

    async def soft_delete(self, definition: UUID | str) -> Definition:
        """Hide a definition and free its alias; its tasks stay. Raises for one that is soft-deleted already."""
        wanted = await self._id_of(definition)
        found = await self._write(lambda definitions: definitions.soft_delete(wanted))
        return _found(found, definition)

    async def restore(self, definition: UUID | str) -> Definition:
        """Show a soft-deleted definition again (of an alias the newest); one that is not deleted stays as it is.

        Raises `DuplicateAliasError` where another definition has its alias by now.
        """
        wanted = await self._deleted_id_of(definition)
        try:
            result = await self._write(lambda definitions: definitions.restore(wanted))
        except AlreadyStored as error:  # somebody wrote the alias at this moment
            record = await self._read(lambda definitions: definitions.get(wanted))
            owner = record and await self.get_by_alias(record.alias)
            if owner is None:
                raise
            raise DuplicateAliasError(owner.alias, owner.id) from error
        if result.taken_by is not None:
            raise DuplicateAliasError(result.taken_by.alias, result.taken_by.id)
        return _found(result.record, definition)

    # ── within ────────────────────────────────────────────────────────────────────────────────────────────

    async def _set_status(self, definition: UUID | str, status: DefinitionStatus) -> Definition:
        wanted = await self._id_of(definition)
        return _found(await self._write(lambda definitions: definitions.set_status(wanted, status)), definition)

    async def _id_of(self, definition: UUID | str) -> UUID:
        return find_id(definition) or (await self.require(definition)).id

    async def _deleted_id_of(self, definition: UUID | str) -> UUID:
        wanted = find_id(definition)
        if wanted is not None:
            return wanted
        alias = _named(definition)
        found = await self.list(alias=alias) or await self.list(
            alias=alias, include_deleted=True, order_by="deleted_at", limit=1
        )
        if not found:
            raise DefinitionNotFoundError(definition)
        return found[0].id

    async def _read(self, operation: Callable[[Definitions], Steps[T]]) -> T:
        store = self._require_open()
        return await store.calls.read(partial(operation, store.storage.definitions), store.calls.joined())

    async def _write(self, operation: Callable[[Definitions], Steps[T]]) -> T:
        store = self._require_open()
        change = partial(operation, store.storage.definitions)
        try:
            return await store.restricting.write(change, store.calls.joined())
        finally:
            store.known_definitions.outdate()  # also where it is not certain that nothing was written


def _named(alias: object) -> str:
    """Return an alias that could be one."""
    if not isinstance(alias, str) or not alias:
        raise InvalidQueryError(f"An alias is a text that is not empty, not {alias!r:.100}.")
    return alias


def _check_new(definition: Definition) -> None:
    check_alias(definition.alias)
    _checked({name: getattr(definition, name) for name in _LIMITS})
    if not isinstance(definition.id, UUID):
        raise ConfigurationError(f"The id of a definition is a UUID, not {definition.id!r:.100}.")
    if definition.status not in tuple(DefinitionStatus):
        raise ConfigurationError(
            f"The status of a definition is {' or '.join(DefinitionStatus)}, not {definition.status!r:.100}."
        )


def _checked(texts: object) -> dict[str, str]:
    """Return texts that may be written; raise `ConfigurationError` for others, and for what never changes."""
    given: dict[str, object] = dict(texts)  # type: ignore[call-overload] # a TypedDict is a mapping
    unknown = sorted(given.keys() - _LIMITS.keys())
    if unknown:
        why = (
            " An alias stays, since stored tasks carry it: rename the handler and give it former_aliases=."
            if "alias" in unknown
            else ""
        )
        raise ConfigurationError(
            f"A definition's {', '.join(unknown)} cannot be written. Known: {', '.join(_LIMITS)}.{why}"
        )
    return {name: check_text(value, name, limit=_LIMITS[name]) for name, value in given.items()}


def _found(record: Definition | None, named: UUID | str) -> Definition:
    if record is None:
        raise DefinitionNotFoundError(named)
    return record
