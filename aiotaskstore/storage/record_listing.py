"""Lists the records of a small table, such as the definitions: checked filters, an order, a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from aiotaskstore.errors import InvalidQueryError
from aiotaskstore.mechanics.text import printable
from aiotaskstore.storage.filter_values import (
    check_filter_id,
    check_filter_instant,
    check_filter_text,
    check_flag,
    check_many,
    check_names,
    check_page,
    listed,
)
from aiotaskstore.storage.operation import Query

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database

_BOUNDS = {
    "created_from": ("created_at", ">="),
    "created_to": ("created_at", "<="),
    "updated_before": ("updated_at", "<="),
}
_ALWAYS = ("id", "id_in", *_BOUNDS, "include_deleted", "order_by", "descending", "limit", "offset")


class RecordFilters(TypedDict, total=False):
    """What `list` and `count` take of every table of records; all given must hold."""

    id: UUID | str
    id_in: Sequence[UUID | str]
    alias: str | Sequence[str]
    status: str | Sequence[str]
    created_from: datetime
    created_to: datetime
    updated_before: datetime
    include_deleted: bool
    """Whether soft-deleted ones count too."""
    order_by: str
    descending: bool
    limit: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class RecordTable:
    """A table with the columns `id`, `created_at`, `updated_at` and `deleted_at`, and how its records are listed."""

    name: str
    columns: str
    """The column list of its records, by its name in the .sql files."""
    noun: str
    """The word for its records, for messages."""
    orders: tuple[str, ...]
    """The columns by which records may be ordered."""
    texts: tuple[str, ...] = ()
    """The columns whose filter takes one text or a list."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The columns whose filter takes one or a list of these."""

    @property
    def filters(self) -> tuple[str, ...]:
        """The names of all filters."""
        return (*_ALWAYS, *self.texts, *self.choices)


@dataclass(frozen=True, slots=True)
class RecordListing:
    """Checked filters as statements; without an order, the newest record comes first."""

    table: RecordTable
    conditions: tuple[str, ...]
    params: dict[str, Any]
    order: str = "id"
    descending: bool = True
    limit: int | None = None
    offset: int = 0

    @classmethod
    def parse(cls, table: RecordTable, filters: Mapping[str, Any]) -> RecordListing:
        """Check filters; raise `InvalidQueryError` for one that cannot be meant."""
        check_names(filters, table.filters)
        order = filters.get("order_by", "id")
        if order not in table.orders:
            raise InvalidQueryError(
                f'{table.noun.capitalize()}s cannot be ordered by "{printable(order, limit=100)}"; take one of '
                f"{listed(table.orders)}."
            )
        found = _conditions(table, filters)
        if not check_flag("include_deleted", filters.get("include_deleted", False)):
            found["deleted_at IS NULL"] = {}
        return cls(
            table,
            tuple(found),
            {name: value for params in found.values() for name, value in params.items()},
            order,
            check_flag("descending", filters.get("descending", True)),
            check_page("limit", filters.get("limit")),
            check_page("offset", filters.get("offset")) or 0,
        )

    def select(self, database: Database) -> Query:
        """Compose the statement that reads the page."""
        columns = database.statements.lists[self.table.columns]
        direction = "DESC" if self.descending else "ASC"
        order = f"{self.order} {direction}" + ("" if self.order == "id" else f", id {direction}")
        params, page = dict(self.params), ""
        if self.limit is not None:
            params |= {"limit": self.limit, "offset": self.offset}
            page = " LIMIT :limit OFFSET :offset"
        elif self.offset:
            params["offset"] = self.offset
            page = f"{database.no_limit} OFFSET :offset"
        return Query(f"SELECT {columns} FROM {self.table.name}{self._where()} ORDER BY {order}{page}", params)

    def count(self) -> Query:
        """Compose the statement that counts every match."""
        return Query(f"SELECT count(*) FROM {self.table.name}{self._where()}", self.params)

    def _where(self) -> str:
        return f" WHERE {' AND '.join(self.conditions)}" if self.conditions else ""


def _conditions(table: RecordTable, filters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the conditions that filters make, each with its parameters."""
    found: dict[str, dict[str, Any]] = {}
    if "id" in filters:
        found["id = :id"] = {"id": check_filter_id("id", filters["id"])}
    for name, (column, sign) in _BOUNDS.items():
        if name in filters:
            found[f"{column} {sign} :{name}"] = {name: check_filter_instant(name, filters[name])}
    for name in ("id_in", *table.texts, *table.choices):
        if name in filters:
            values = [_member(table, name, one) for one in check_many(name, filters[name])]
            found[f"{name.removesuffix('_in')} IN :{name}"] = {name: values}
    return found


def _member(table: RecordTable, name: str, value: Any) -> Any:
    """Return one value of a filter that takes several."""
    if name == "id_in":
        return check_filter_id(name, value)
    if name in table.texts:
        return check_filter_text(name, value)
    known = table.choices[name]
    if value not in known:
        raise InvalidQueryError(f"There is no {name} {value!r:.100}; take one of {listed(known)}.")
    return str(value)
