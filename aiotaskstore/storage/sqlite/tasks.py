"""SQLite's claim: one statement a queue, all of them inside one hop to the writer."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aiotaskstore.storage.steps import Call, Unit
from aiotaskstore.storage.tasks import Tasks
from aiotaskstore.task import Claim


class SqliteTasks(Tasks):
    """Tasks under one write lock."""

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Unit[list[Claim]]:
        claims: list[Claim] = []
        for queue, limit in queues:
            rows = yield Call("claim", {"dispatcher": dispatcher, "queue": queue, "limit": limit, "aliases": aliases})
            claims += (Claim(UUID(bytes=row[0]), *row[1:]) for row in rows)
        return claims
