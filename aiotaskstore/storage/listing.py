"""The one composed query: filters, order and page, pushed into both halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from aiotaskstore.errors import ConfigurationError, InvalidQueryError
from aiotaskstore.ids import as_id
from aiotaskstore.options import check_instant
from aiotaskstore.storage.rows import CODES, STATUSES, task_from
from aiotaskstore.storage.steps import Query, Unit
from aiotaskstore.task import Task, TaskStatus
from aiotaskstore.text import storable

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.tasks import Tasks


class TaskFilters(TypedDict, total=False):
    """What `store.tasks.list`, `count` and `where=` take; all given must hold."""

    id: UUID | str
    id_in: Sequence[UUID | str]
    alias: str | Sequence[str]
    queue: str | Sequence[str]
    status: str | Sequence[str]
    owner: str | tuple[str, str]
    """A type alone, or (type, id)."""
    source: str
    parent_id: UUID | str
    definition_id: UUID | str
    serialization_key: str
    external_id: str
    created_from: datetime
    created_to: datetime
    finished_from: datetime
    finished_to: datetime
    updated_before: datetime
    include_deleted: bool
    order_by: str
    descending: bool
    limit: int
    offset: int
    after: UUID | str
    """The last id of the page before."""


_ORDERS = ("id", "created_at", "updated_at", "run_at", "priority", "queue", "alias", "status")
_EQUAL = ("source", "serialization_key", "external_id")
_IDS = ("parent_id", "definition_id")
_BOUNDS = {
    "created_from": ("created_at", ">="),
    "created_to": ("created_at", "<="),
    "finished_from": ("finished_at", ">="),
    "finished_to": ("finished_at", "<="),
    "updated_before": ("updated_at", "<"),
}
_KNOWN = frozenset(TaskFilters.__annotations__)


@dataclass(frozen=True, slots=True)
class Listing:
    """A checked query: conditions with their parameters, an order, a page."""

    conditions: tuple[str, ...]
    params: dict[str, Any]
    order: str = "id"
    descending: bool = True
    limit: int | None = None
    offset: int = 0
    live: bool = True
    """Whether the unfinished half can match."""
    finished: bool = True

    @staticmethod
    def parse(filters: TaskFilters) -> Listing:
        """Check filters; one that cannot be meant is an `InvalidQueryError`."""
        return _Parser(filters).listing()

    def select(self, database: Database) -> Query:
        """Compose the statement that reads the page."""
        lists = database.statements.lists
        direction = "DESC" if self.descending else "ASC"
        order = f"{self.order} {direction}" + ("" if self.order == "id" else f", id {direction}")
        params = dict(self.params)
        page, inner = "", ""
        if self.limit is not None:
            params |= {"limit": self.limit, "inner": self.limit + self.offset, "offset": self.offset}
            inner, page = f" ORDER BY {order} LIMIT :inner", " LIMIT :limit OFFSET :offset"
        elif self.offset:
            params["offset"] = self.offset
            page = f"{database.no_limit} OFFSET :offset"
        halves = [
            f"SELECT {_named(lists['kept'])}, {_named(lists[ended], lists['ended'])} FROM {table}{self._where()}{inner}"
            for table, ended in self._halves()
        ]
        union = " UNION ALL ".join(f"SELECT * FROM ({half}) {name}" for half, name in zip(halves, "lh", strict=False))
        return Query(f"SELECT * FROM ({union}) page ORDER BY {order}{page}", params)

    def ids(self, limit: int, beyond: UUID) -> Query:
        """Compose the statement that reads at most `limit` matching ids above `beyond`, smallest first."""
        where = f"{self._where()} AND id > :beyond" if self.conditions else " WHERE id > :beyond"
        halves = [f"SELECT id FROM {table}{where} ORDER BY id LIMIT :inner" for table, _ in self._halves()]
        union = " UNION ALL ".join(f"SELECT id FROM ({half}) {name}" for half, name in zip(halves, "lh", strict=False))
        return Query(
            f"SELECT id FROM ({union}) page ORDER BY id LIMIT :inner",
            self.params | {"inner": limit, "beyond": beyond},
        )

    def count(self) -> Query:
        """Compose the statement that counts every match."""
        halves = [f"(SELECT count(*) FROM {table}{self._where()})" for table, _ in self._halves()]
        return Query(f"SELECT {' + '.join(halves)}", self.params)

    def _halves(self) -> list[tuple[str, str]]:
        halves = []
        if self.live:
            halves.append(("aiotaskstore_tasks", "not_ended"))
        if self.finished:
            halves.append(("aiotaskstore_history", "ended"))
        return halves

    def _where(self) -> str:
        return f" WHERE {' AND '.join(self.conditions)}" if self.conditions else ""


class _Parser:
    def __init__(self, filters: TaskFilters) -> None:
        self.filters: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
        unknown = set(filters) - _KNOWN
        if unknown:
            raise InvalidQueryError(f"There is no filter {_listed(unknown)}. Known: {_listed(_KNOWN)}.")
        self.conditions: list[str] = []
        self.params: dict[str, Any] = {}
        self.live = self.finished = True

    def listing(self) -> Listing:
        self._identity()
        self._names()
        self._owner()
        self._instants()
        if not self.filters.get("include_deleted", False):
            self.conditions.append("deleted_at IS NULL")
        order = self.filters.get("order_by", "id")
        if order not in _ORDERS:
            raise InvalidQueryError(f'Tasks cannot be ordered by "{order}"; take one of {_listed(_ORDERS)}.')
        if "after" in self.filters and order not in {"id", "created_at"}:
            raise InvalidQueryError("after= pages by id: leave order_by out, or use offset=.")
        return Listing(
            tuple(self.conditions),
            self.params,
            order="id" if order == "created_at" else order,
            descending=bool(self.filters.get("descending", True)),
            limit=self._count("limit"),
            offset=self._count("offset") or 0,
            live=self.live,
            finished=self.finished,
        )

    def _identity(self) -> None:
        if "id" in self.filters:
            self._add("id = :id", id=self._id("id", self.filters["id"]))
        if "id_in" in self.filters:
            ids = self._many("id_in")
            self._add("id IN :id_in", id_in=[self._id("id_in", one) for one in ids])
        for name in _IDS:
            if name in self.filters:
                self._add(f"{name} = :{name}", **{name: self._id(name, self.filters[name])})
        if "after" in self.filters:
            sign = "<" if self.filters.get("descending", True) else ">"
            self._add(f"id {sign} :after", after=self._id("after", self.filters["after"]))

    def _names(self) -> None:
        for name in ("alias", "queue"):
            if name in self.filters:
                self._add(f"{name} IN :{name}", **{name: [self._text(name, one) for one in self._many(name)]})
        for name in _EQUAL:
            if name in self.filters:
                self._add(f"{name} = :{name}", **{name: self._text(name, self.filters[name])})
        if "status" in self.filters:
            statuses = [self._status(one) for one in self._many("status")]
            self._add("status IN :status", status=[CODES[one] for one in statuses])
            self.live = any(not one.finished for one in statuses)
            self.finished = any(one.finished for one in statuses)

    def _owner(self) -> None:
        if "owner" not in self.filters:
            return
        owner = self.filters["owner"]
        if isinstance(owner, str):
            self._add("owner_type = :owner_type", owner_type=self._text("owner", owner))
        elif isinstance(owner, tuple) and len(owner) == 2:  # noqa: PLR2004 - (type, id)
            type_, id_ = (self._text("owner", part) for part in owner)
            self._add("owner_type = :owner_type", owner_type=type_)
            self._add("owner_id = :owner_id", owner_id=id_)
        else:
            raise InvalidQueryError(f'owner= takes "type" or ("type", "id"), not {owner!r}.')

    def _instants(self) -> None:
        for name, (column, sign) in _BOUNDS.items():
            if name not in self.filters:
                continue
            try:
                value = check_instant(self.filters[name], name)
            except ConfigurationError as error:
                raise InvalidQueryError(str(error)) from None
            self._add(f"{column} {sign} :{name}", **{name: value})
            if column == "finished_at":
                self.live = False

    def _add(self, condition: str, **params: Any) -> None:
        self.conditions.append(condition)
        self.params |= params

    def _many(self, name: str) -> list[Any]:
        value = self.filters[name]
        if isinstance(value, str):
            value = [value]
        try:
            values = list(value)
        except TypeError:
            raise InvalidQueryError(f"{name} takes one or a list, not {value!r}.") from None
        if not values:
            raise InvalidQueryError(f"{name} is an empty list, which nothing can match; leave it out.")
        return values

    def _text(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise InvalidQueryError(f"{name} must be a text that is not empty, not {value!r}.")
        if "\0" in value or not storable(value):
            raise InvalidQueryError(f"{name} must be storable text, but {value!r} is not.")
        return value

    def _id(self, name: str, value: Any) -> UUID:
        try:
            return as_id(value)
        except ConfigurationError as error:
            raise InvalidQueryError(f"{name}: {error}") from None

    def _status(self, value: Any) -> TaskStatus:
        try:
            return TaskStatus(value)
        except ValueError:
            raise InvalidQueryError(
                f"There is no status {value!r}; take one of {_listed(STATUSES.values())}."
            ) from None

    def _count(self, name: str) -> int | None:
        value = self.filters.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise InvalidQueryError(f"{name} must be a whole number of zero or more, below 2**31, not {value!r}.")
        return value


def page(tasks: Tasks, listing: Listing) -> Unit[list[Task]]:
    """Read a page of tasks, with what stands beside them."""
    database = tasks.database
    rows = yield listing.select(database)
    beside = yield from tasks.beside([database.uid(row[0]) for row in rows])
    return [task_from(row, database, beside) for row in rows]


def matching(tasks: Tasks, listing: Listing, limit: int, beyond: UUID) -> Unit[list[UUID]]:
    """Read the next ids that match."""
    rows = yield listing.ids(limit, beyond)
    return [tasks.database.uid(row[0]) for row in rows]


def total(listing: Listing) -> Unit[int]:
    """Count the matches."""
    rows = yield listing.count()
    return int(rows[0][0])


def _named(values: str, names: str | None = None) -> str:
    """Name the columns of a list, whatever casts stand on them."""
    columns = [name.strip().partition("::")[0] for name in (names or values).split(",")]
    return ", ".join(f"{value.strip()} AS {name}" for value, name in zip(values.split(","), columns, strict=True))


def _listed(names: Any) -> str:
    return ", ".join(sorted(str(name) for name in names))
