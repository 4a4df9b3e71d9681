"""The one composed query: filters, order and page, pushed into both halves."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self
from uuid import UUID

from aiotaskstore.storage.filters import NOT_DELETED, Filters
from aiotaskstore.storage.operation import Query, Row, Steps
from aiotaskstore.storage.rows import task_from
from aiotaskstore.storage.statement_size import MOST_LISTED
from aiotaskstore.task import Task

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.tasks import Tasks


class _Half(NamedTuple):
    table: str
    ended: str
    """The column list for what only a finished task has."""
    name: str


_MAY_BE_NULL = frozenset({"started_at", "finished_at"})
"""The columns for orders that a task may lack."""
_LIVE = _Half("aiotaskstore_tasks", "not_ended", "l")
_FINISHED = _Half("aiotaskstore_history", "ended", "h")


@dataclass(frozen=True, slots=True)
class Listing(Filters):
    """Checked filters as statements."""

    def parts(self, above: UUID | None = None) -> Iterator[Listing]:
        """Yield listings that together match what this one does, each with no more ids than one statement takes.

        Those come in the order of ids, and begin with the first id above `above`.
        """
        ids: Sequence[UUID] = self.params.get("id_in", ())
        if len(ids) <= MOST_LISTED:
            yield self
            return
        for start in range(0 if above is None else bisect_right(ids, above), len(ids), MOST_LISTED):
            yield replace(self, params={**self.params, "id_in": ids[start : start + MOST_LISTED]})

    def whole(self) -> Listing:
        """Return the listing of all that may be on this one's page."""
        return replace(self, limit=None if self.limit is None else self.limit + self.offset, offset=0)

    def arranged(self, rows: Sequence[Row], database: Database) -> Sequence[Row]:
        """Put rows of several parts in order; return the page."""
        lists = database.statements.lists
        columns = [name.strip().partition("::")[0] for name in f"{lists['kept']}, {lists['ended']}".split(",")]
        place = columns.index(self.order)
        none = [row for row in rows if row[place] is None]
        some = [row for row in rows if row[place] is not None]
        ordered = sorted(some, key=lambda row: (row[place], row[0]), reverse=self.descending)
        ordered += sorted(none, key=lambda row: row[0], reverse=self.descending)
        return ordered[self.offset : None if self.limit is None else self.offset + self.limit]

    def select(self, database: Database) -> Query:
        """Compose the statement that reads the page."""
        lists = database.statements.lists
        params = dict(self.params)
        page = ""
        if self.limit is not None:
            params |= {"limit": self.limit, "inner": self.limit + self.offset, "offset": self.offset}
            page = " LIMIT :limit OFFSET :offset"
        elif self.offset:
            params["offset"] = self.offset
            page = f"{database.no_limit} OFFSET :offset"
        union = " UNION ALL ".join(
            f"SELECT * FROM (SELECT {_named(lists['kept'])}, {_named(lists[half.ended], lists['ended'])} "
            f"FROM {half.table}{self._where()}{self._first(half)}) {half.name}"
            for half in self._halves()
        )
        return Query(f"SELECT * FROM ({union}) page{self._order(self.order)}{page}", params)

    def ids(self, limit: int, beyond: UUID, until: datetime) -> Query:
        """Compose the statement that reads the next matching ids, smallest first.

        They lie above `beyond` and are of tasks that were stored by `until`; at most `limit`.
        """
        where = self._where("id > :beyond", "created_at <= :until")
        union = " UNION ALL ".join(
            f"SELECT id FROM (SELECT id FROM {half.table}{where} ORDER BY id LIMIT :inner) {half.name}"
            for half in self._halves()
        )
        return Query(
            f"SELECT id FROM ({union}) page ORDER BY id LIMIT :inner",
            self.params | {"inner": limit, "beyond": beyond, "until": until},
        )

    def still(self, live: Sequence[UUID], finished: Sequence[UUID], database: Database) -> list[Query]:
        """Compose the statements, one a half, that read which of these locked rows match as they are now.

        Each half is asked only for ids that it has: looking for others may lock the gap where they would be.
        """
        queries = []
        for half in self._halves():
            ids = live if half is _LIVE else finished
            if not ids:
                continue
            params = self.params | {"ids": list(ids)}
            if "id_in" in params:
                params["id_in"] = list(ids)  # which were chosen by it
            source, condition = database.by_ids(half.table)
            where = self._where(*condition)
            queries.append(Query(f"SELECT {half.table}.id FROM {source}{where}{database.locking}", params))
        return queries

    def deleted(self) -> Self:
        """Return the listing of those that match this one's other conditions, and are soft-deleted."""
        others = tuple(condition for condition in self.conditions if condition != NOT_DELETED)
        return replace(self, conditions=(*others, "deleted_at IS NOT NULL"))

    def distinct_aliases(self) -> Query:
        """Compose the statement that reads which aliases the matches have."""
        union = " UNION ".join(f"SELECT alias FROM {half.table}{self._where()}" for half in self._halves())
        return Query(f"SELECT DISTINCT alias FROM ({union}) found", self.params)

    def count(self) -> Query:
        """Compose the statement that counts every match."""
        counts = [f"(SELECT count(*) FROM {half.table}{self._where()})" for half in self._halves()]
        return Query(f"SELECT {' + '.join(counts)}", self.params)

    def _first(self, half: _Half) -> str:
        """Compose the end of the statement that reads what one half may have of the page."""
        if self.limit is None:
            return ""
        unknown = half is _LIVE and self.order == "finished_at"  # no unfinished task has one
        return f"{self._order('id' if unknown else self.order)} LIMIT :inner"

    def _order(self, column: str) -> str:
        """Compose the order by a column, then by id; rows without a value come last on every database."""
        direction = "DESC" if self.descending else "ASC"
        if column == "id":
            return f" ORDER BY id {direction}"
        last = f"{column} IS NULL, " if column in _MAY_BE_NULL else ""
        return f" ORDER BY {last}{column} {direction}, id {direction}"

    def _halves(self) -> list[_Half]:
        return [half for half, wanted in ((_LIVE, self.live), (_FINISHED, self.finished)) if wanted]

    def _where(self, *more: str) -> str:
        conditions = (*self.conditions, *more)
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def page(tasks: Tasks, listing: Listing) -> Steps[list[Task]]:
    """Read a page of tasks, with their side rows."""
    database = tasks.database
    parts = list(listing.parts())
    if len(parts) == 1:
        rows = yield listing.select(database)
    else:
        found: list[Row] = []
        for part in parts:
            found += yield part.whole().select(database)
        rows = listing.arranged(found, database)
    side_rows = yield from tasks.side_rows([database.uid(row[0]) for row in rows])
    return [task_from(row, database, side_rows) for row in rows]


def matching(tasks: Tasks, listing: Listing, limit: int, beyond: UUID, until: datetime) -> Steps[list[UUID]]:
    """Read the next ids that match."""
    found: list[UUID] = []
    for part in listing.parts(beyond):
        rows = yield part.ids(limit - len(found), beyond, until)
        found += (tasks.database.uid(row[0]) for row in rows)
        if len(found) >= limit:
            break
    return found


def still_matching(tasks: Tasks, listing: Listing, live: Sequence[UUID], finished: Sequence[UUID]) -> Steps[set[UUID]]:
    """Read which of these locked rows match as they are now."""
    found: set[UUID] = set()
    for query in listing.still(live, finished, tasks.database):
        found |= {tasks.database.uid(row[0]) for row in (yield query)}
    return found


def aliases(listing: Listing) -> Steps[list[str]]:
    """Read which aliases the matches have."""
    found: set[str] = set()
    for part in listing.parts():
        found |= {row[0] for row in (yield part.distinct_aliases())}
    return sorted(found)


def total(listing: Listing) -> Steps[int]:
    """Count the matches."""
    count = 0
    for part in listing.parts():
        rows = yield part.count()
        count += int(rows[0][0])
    return count


def _named(values: str, names: str | None = None) -> str:
    """Name the columns of a list, whatever casts they have."""
    columns = [name.strip().partition("::")[0] for name in (names or values).split(",")]
    return ", ".join(f"{value.strip()} AS {name}" for value, name in zip(values.split(","), columns, strict=True))
