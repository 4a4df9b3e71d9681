"""The table of definitions, by which one service can enqueue another service's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aiotaskstore.definition_record import Definition, DefinitionStatus
from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.operation import BEGIN, Batch, Call, Steps
from aiotaskstore.storage.record_listing import RecordListing, RecordTable
from aiotaskstore.storage.rows import definition_from

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database

DEFINITIONS = RecordTable(
    name="aiotaskstore_definitions",
    columns="definition_record",
    noun="definition",
    orders=("id", "alias", "title", "status", "created_at", "updated_at", "deleted_at"),
    texts=("alias",),
    choices={"status": tuple(DefinitionStatus)},
)


class Published(NamedTuple):
    """The columns that a dispatcher writes for one of its definitions."""

    id: UUID
    alias: str
    title: str
    description: str
    defaults: str


class KnownDefinition(NamedTuple):
    """What an enqueue needs to know of a definition's record."""

    id: UUID
    active: bool


class Restoring(NamedTuple):
    """The record after a restore; `None` where there is none under the id, or where its alias is taken."""

    record: Definition | None
    taken_by: Definition | None = None
    """The record that has its alias by now."""


class Definitions:
    """The operations on definitions."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # ── what services publish, and what enqueuing and claiming need ───────────────────────────────────────

    def publish(self, definitions: Sequence[Published]) -> Steps[None]:
        """Insert or update definitions; status and memo belong to the operator and stay unchanged."""
        yield Batch("publish_definitions", fields_of(Published), definitions)

    def announce(self, definitions: Sequence[Published]) -> Steps[None]:
        """Insert definitions that have no row yet; existing rows stay unchanged."""
        yield Batch("announce_definitions", fields_of(Published), definitions)

    def known(self) -> Steps[dict[str, KnownDefinition]]:
        """Return what enqueuing needs of the definitions that are not deleted, by alias."""
        rows = yield Call("known_definitions")
        return {row[0]: KnownDefinition(self.database.uid(row[1]), row[2] == DefinitionStatus.ACTIVE) for row in rows}

    def all(self) -> Steps[list[Definition]]:
        """Return every definition that is not deleted, by alias."""
        return [definition_from(row, self.database) for row in (yield Call("definitions"))]

    # ── what operators read ───────────────────────────────────────────────────────────────────────────────

    def get(self, definition_id: UUID) -> Steps[Definition | None]:
        """Return the definition with this id, also a deleted one."""
        return self._first((yield Call("definition_by_id", {"id": definition_id})))

    def get_by_alias(self, alias: str) -> Steps[Definition | None]:
        """Return the definition with this alias that is not deleted, if there is one."""
        found = self._first((yield Call("definition", {"alias": alias})))
        return found if found is not None and found.alias == alias else None  # MySQL sees no spaces at the end

    def page(self, listing: RecordListing) -> Steps[list[Definition]]:
        """Return a page of definitions."""
        return [definition_from(row, self.database) for row in (yield listing.select(self.database))]

    def total(self, listing: RecordListing) -> Steps[int]:
        """Count the matches."""
        return int((yield listing.count())[0][0])

    # ── what operators change ─────────────────────────────────────────────────────────────────────────────

    def create(self, definition: Definition) -> Steps[Definition | None]:
        """Insert a definition; returns the record that has its alias then, which is another one if it was taken."""
        yield BEGIN
        columns = {
            "id": definition.id,
            "alias": definition.alias,
            "title": definition.title,
            "description": definition.description,
            "memo": definition.memo,
            "definition_status": str(definition.status),
        }
        yield Call("create_definition", columns)
        return (yield from self.get_by_alias(definition.alias))

    def update(
        self, definition_id: UUID, title: str | None, description: str | None, memo: str | None
    ) -> Steps[Definition | None]:
        """Write the texts that are not `None`; returns the record, `None` where none is left under the id."""
        texts = {"title": title, "description": description, "memo": memo}
        return (yield from self._changed("update_definition", definition_id, texts))

    def set_status(self, definition_id: UUID, status: DefinitionStatus) -> Steps[Definition | None]:
        """Activate or cancel a definition; returns the record, `None` where none is left under the id."""
        return (yield from self._changed("set_definition_status", definition_id, {"definition_status": str(status)}))

    def soft_delete(self, definition_id: UUID) -> Steps[Definition | None]:
        """Hide a definition and free its alias; returns the record, `None` where none was left under the id."""
        yield BEGIN
        before = yield from self.get(definition_id)
        if before is None or before.deleted_at is not None:
            return None
        yield Call("soft_delete_definition", {"id": definition_id})
        return (yield from self.get(definition_id))

    def restore(self, definition_id: UUID) -> Steps[Restoring]:
        """Show a soft-deleted definition again, unless another one has its alias by now."""
        yield BEGIN
        before = yield from self.get(definition_id)
        if before is None or before.deleted_at is None:
            return Restoring(before)
        taken_by = yield from self.get_by_alias(before.alias)
        if taken_by is not None:
            return Restoring(None, taken_by)
        yield Call("restore_definition", {"id": definition_id})
        return Restoring((yield from self.get(definition_id)))

    def delete(self, definition_id: UUID) -> Steps[bool]:
        """Delete a definition, also a soft-deleted one; returns whether there was one."""
        yield BEGIN
        before = yield from self.get(definition_id)
        yield Call("delete_definition", {"id": definition_id})
        return before is not None

    def _changed(self, statement: str, definition_id: UUID, values: dict[str, str | None]) -> Steps[Definition | None]:
        yield BEGIN
        yield Call(statement, {"id": definition_id, **values})
        record = yield from self.get(definition_id)
        return None if record is None or record.deleted_at is not None else record

    def _first(self, rows: Sequence[Sequence[object]]) -> Definition | None:
        return definition_from(rows[0], self.database) if rows else None
