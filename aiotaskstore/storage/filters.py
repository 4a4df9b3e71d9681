"""Filters for tasks: what a caller may say, and its check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self, TypedDict
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
from aiotaskstore.storage.rows import CODES, STATUSES
from aiotaskstore.task import TaskStatus


class TaskSelection(TypedDict, total=False):
    """What `where=` takes; all given must hold, and one at least must narrow the choice."""

    id: UUID | str
    id_in: Sequence[UUID | str]
    alias: str | Sequence[str]
    queue: str | Sequence[str]
    status: str | Sequence[str]
    owner: str | tuple[str, object]
    """A type alone, or (type, id); the id is made text, as when the task was enqueued."""
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
    """Whether soft-deleted tasks count too."""
    limit: int | None
    """The most tasks listed; with `where=`, the most changed."""


class TaskFilters(TaskSelection, total=False):
    """What `store.tasks.list` and `count` take; all given must hold."""

    order_by: str
    """By id unless said: that is by time, but for ids that callers chose, and needs no sort. `created_at` sorts."""
    descending: bool
    offset: int
    after: UUID | str
    """The last id of the page before."""


Where = TaskSelection | Literal["all"]
"""Which tasks an action is for: filters, or every task."""


_ORDERS = (
    "id", "created_at", "updated_at", "run_at", "started_at", "finished_at", "priority", "attempt", "queue", "alias",
    "status",
)  # fmt: skip
_EQUAL = ("source", "serialization_key", "external_id")
_IDS = ("parent_id", "definition_id")
_BOUNDS = {
    "created_from": ("created_at", ">="),
    "created_to": ("created_at", "<="),
    "finished_from": ("finished_at", ">="),
    "finished_to": ("finished_at", "<="),
    "updated_before": ("updated_at", "<="),
}
NOT_DELETED = "deleted_at IS NULL"
_KNOWN = frozenset(TaskFilters.__annotations__)
_PAGING = ("after", "descending", "offset", "order_by")
_NARROWING = _KNOWN - {*_PAGING, "include_deleted", "limit"}


@dataclass(frozen=True, slots=True)
class Filters:
    """Checked filters: conditions with their parameters, an order, a page."""

    conditions: tuple[str, ...]
    params: dict[str, Any]
    order: str = "id"
    descending: bool = True
    limit: int | None = None
    offset: int = 0
    live: bool = True
    """Whether the unfinished half can match."""
    finished: bool = True

    @classmethod
    def parse(cls, filters: TaskFilters) -> Self:
        """Check filters; raise `InvalidQueryError` for one that cannot be meant."""
        return cls(**_Parser(filters).parsed())

    @classmethod
    def choose(cls, where: object) -> Self:
        """Check the `where=` of an action; raise `InvalidQueryError` for what cannot be meant."""
        if isinstance(where, str) and where == "all":
            return cls.parse({})
        if not isinstance(where, Mapping):
            raise InvalidQueryError(
                f'where= takes filters, such as {{"queue": "emails"}}, or "all" for every task, not {where!r:.100}.'
            )
        paging = [name for name in _PAGING if name in where]
        if paging:
            raise InvalidQueryError(f"where= chooses tasks; {listed(paging)} has no meaning there.")
        chosen = cls(**_Parser(where).parsed())
        if not _NARROWING & where.keys():
            raise InvalidQueryError(
                f"where= has no filter that narrows the choice: {dict(where)!r:.100} would take every task. "
                'Add one, such as queue=, or write where="all".'
            )
        return chosen


class _Parser:
    def __init__(self, filters: Mapping[str, Any]) -> None:
        self.filters: dict[str, Any] = dict(filters)
        check_names(filters, _KNOWN)
        self.conditions: list[str] = []
        self.params: dict[str, Any] = {}
        self.live = self.finished = True

    def parsed(self) -> dict[str, Any]:
        """Return the fields of `Filters`."""
        self._identity()
        self._names()
        self._owner()
        self._instants()
        if not self._flag("include_deleted", otherwise=False):
            self.conditions.append(NOT_DELETED)
        order, descending = self.filters.get("order_by", "id"), self._flag("descending", otherwise=True)
        if order not in _ORDERS:
            raise InvalidQueryError(
                f'Tasks cannot be ordered by "{printable(order, limit=100)}"; take one of {listed(_ORDERS)}.'
            )
        if "after" in self.filters and order not in {"id", "created_at"}:
            raise InvalidQueryError("after= pages by id: leave order_by out, or use offset=.")
        return {
            "conditions": tuple(self.conditions),
            "params": self.params,
            "order": "id" if "after" in self.filters else order,
            "descending": descending,
            "limit": check_page("limit", self.filters.get("limit")),
            "offset": check_page("offset", self.filters.get("offset")) or 0,
            "live": self.live,
            "finished": self.finished,
        }

    def _identity(self) -> None:
        if "id" in self.filters:
            self._add("id = :id", id=check_filter_id("id", self.filters["id"]))
        if "id_in" in self.filters:
            ids = self._many("id_in")
            self._add("id IN :id_in", id_in=sorted({check_filter_id("id_in", one) for one in ids}))
        for name in _IDS:
            if name in self.filters:
                self._add(f"{name} = :{name}", **{name: check_filter_id(name, self.filters[name])})
        if "after" in self.filters:
            sign = "<" if self._flag("descending", otherwise=True) else ">"
            self._add(f"id {sign} :after", after=check_filter_id("after", self.filters["after"]))

    def _names(self) -> None:
        for name in ("alias", "queue"):
            if name in self.filters:
                self._add(f"{name} IN :{name}", **{name: [check_filter_text(name, one) for one in self._many(name)]})
        for name in _EQUAL:
            if name in self.filters:
                self._add(f"{name} = :{name}", **{name: check_filter_text(name, self.filters[name])})
        if "status" in self.filters:
            statuses = [_status(one) for one in self._many("status")]
            self._add("status IN :status", status=[CODES[one] for one in statuses])
            self.live = any(not one.finished for one in statuses)
            self.finished = any(one.finished for one in statuses)

    def _owner(self) -> None:
        if "owner" not in self.filters:
            return
        owner = self.filters["owner"]
        if isinstance(owner, str):
            self._add("owner_type = :owner_type", owner_type=check_filter_text("owner", owner))
        elif isinstance(owner, tuple | list) and len(owner) == 2:  # noqa: PLR2004 - (type, id)
            type_ = check_filter_text("owner", owner[0])
            id_ = check_filter_text("owner", owner[1] if owner[1] is None else str(owner[1]))
            self._add("owner_type = :owner_type", owner_type=type_)
            self._add("owner_id = :owner_id", owner_id=id_)
        else:
            raise InvalidQueryError(f'owner= takes "type" or ("type", "id"), not {owner!r:.100}.')

    def _instants(self) -> None:
        for name, (column, sign) in _BOUNDS.items():
            if name not in self.filters:
                continue
            value = check_filter_instant(name, self.filters[name])
            self._add(f"{column} {sign} :{name}", **{name: value})
            if column == "finished_at":
                self.live = False

    def _add(self, condition: str, **params: Any) -> None:
        self.conditions.append(condition)
        self.params |= params

    def _many(self, name: str) -> list[Any]:
        return check_many(name, self.filters[name])

    def _flag(self, name: str, *, otherwise: bool) -> bool:
        return check_flag(name, self.filters.get(name, otherwise))


def _status(value: Any) -> TaskStatus:
    try:
        return TaskStatus(value)
    except ValueError:
        raise InvalidQueryError(
            f"There is no status {value!r:.100}; take one of {listed(STATUSES.values())}."
        ) from None
