"""MySQL's hot path: lock and delete in `ready`, write `tasks` by primary key."""

from __future__ import annotations

import random
from collections.abc import Sequence
from uuid import UUID

from aiotaskstore.storage.ledger import GiveBack
from aiotaskstore.storage.mysql.database import MySQLDatabase
from aiotaskstore.storage.steps import BEGIN, Batch, Call, Unit
from aiotaskstore.storage.tasks import NEW_TASK, Tasks
from aiotaskstore.task import Claim, NewTask

_SPREAD = 4
"""How many times the rows wanted are looked at where claims compete."""


class MySQLTasks(Tasks):
    """Tasks whose pending rows also stand in `ready`."""

    database: MySQLDatabase

    insert_takes_two = True

    def insert(self, rows: Sequence[NewTask]) -> Unit[None]:
        yield Batch("insert_tasks", NEW_TASK, rows)
        yield Call("insert_ready", {"ids": [row.id for row in rows]})

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Unit[list[Claim]]:
        if len(queues) > 1:
            pending = {row[0] for row in (yield Call("pending_queues"))}
            queues = [one for one in queues if one[0] in pending]
            if not queues:
                return []
        yield BEGIN
        if not self.database.skips_locked:
            return (yield from self._compete(dispatcher, queues, aliases))
        claims: list[Claim] = []
        for queue, limit in queues:
            rows = yield Call("claim", {"queue": queue, "limit": limit, "aliases": aliases})
            claims += (Claim(UUID(bytes=row[0]), *row[1:]) for row in rows)
        if claims:
            ids = [claim.id for claim in claims]
            yield Call("take_ready", {"ids": ids})
            yield Call("mark_running", {"ids": ids, "dispatcher": dispatcher})
        return claims

    def _compete(
        self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]
    ) -> Unit[list[Claim]]:
        """Claim without SKIP LOCKED: of those who want the same rows, each row's guarded update chooses one.

        Looks at more rows than are wanted, from a random place on, so that competitors seldom meet.
        """
        wanted: list[UUID] = []
        for queue, limit in queues:
            rows = yield Call("claim_candidates", {"queue": queue, "limit": limit * _SPREAD, "aliases": aliases})
            start = random.randrange(max(1, len(rows) - limit + 1))  # noqa: S311 - spreads load
            wanted += (UUID(bytes=row[0]) for row in rows[start : start + limit])
        if not wanted:
            return []
        yield Call("mark_running", {"ids": sorted(wanted), "dispatcher": dispatcher})
        rows = yield Call("claimed_among", {"ids": wanted, "dispatcher": dispatcher})
        claims = [Claim(UUID(bytes=row[0]), *row[1:]) for row in rows]
        if claims:
            yield Call("take_ready", {"ids": [claim.id for claim in claims]})
        return claims

    def remove(self, ids: Sequence[UUID]) -> Unit[None]:
        yield Call("delete_ready", {"ids": list(ids)})
        yield Call("delete_tasks", {"ids": list(ids)})

    def give_back(self, returns: Sequence[GiveBack]) -> Unit[None]:
        yield from super().give_back(returns)
        yield Call("insert_ready", {"ids": [one.id for one in returns]})

    def restart(self, ids: Sequence[UUID]) -> Unit[None]:
        yield Call("delete_ready", {"ids": list(ids)})
        yield from super().restart(ids)
        yield Call("insert_ready", {"ids": list(ids)})

    def revive(self, ids: Sequence[UUID]) -> Unit[None]:
        yield from super().revive(ids)
        yield Call("insert_ready", {"ids": list(ids)})

    def promote(self, limit: int) -> Unit[list[str]]:
        yield BEGIN
        rows = yield Call("due", {"limit": limit})
        if rows:
            ids = [UUID(bytes=row[0]) for row in rows]
            yield Call("place_pending", {"ids": ids})
            yield Call("insert_ready", {"ids": ids})
        return [row[1] for row in rows]
