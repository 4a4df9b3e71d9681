"""The rows by which one service knows another's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aiotaskstore.definition_record import Definition
from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.rows import definition_from
from aiotaskstore.storage.steps import Batch, Call, Unit

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database


class Published(NamedTuple):
    """What a dispatcher publishes of a definition."""

    id: UUID
    alias: str
    title: str
    description: str
    defaults: str


class Definitions:
    """The operations on definitions, as generators of steps."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def publish(self, definitions: Sequence[Published]) -> Unit[None]:
        """Make definitions known, or refresh what is known; status and memo are an operator's and stay."""
        yield Batch("publish_definitions", fields_of(Published), definitions)

    def get_by_alias(self, alias: str) -> Unit[Definition | None]:
        """Find a definition that is not deleted."""
        rows = yield Call("definition", {"alias": alias})
        return definition_from(rows[0], self.database) if rows else None

    def aliases(self) -> Unit[list[str]]:
        """Name every definition that is not deleted."""
        return [row[0] for row in (yield Call("definition_aliases"))]
