"""SQLite's claim: one statement for each queue, all in one operation of the writer."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aiotaskstore.storage.operation import BEGIN, Batch, Call, Steps
from aiotaskstore.storage.tasks import Tasks
from aiotaskstore.task import Claim

_FEW = 3
"""Up to so many queues are claimed from without reading first which of them have pending tasks. That read costs as
much as two claims, and without it a process that has seen 10,000 queues would run a claim for each."""


class SqliteTasks(Tasks):
    """Tasks under one write lock."""

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Steps[list[Claim]]:
        claims: list[Claim] = []
        if len(queues) > _FEW:
            rows = yield Call("pending_queues")
            pending = {row[0] for row in rows}
            queues = [one for one in queues if one[0] in pending]
        for queue, limit in queues:
            rows = yield Call("claim", {"dispatcher": dispatcher, "queue": queue, "limit": limit, "aliases": aliases})
            claims += (Claim(UUID(bytes=row[0]), *row[1:]) for row in rows)
        return claims

    def grant(self, keys: Sequence[str]) -> Steps[frozenset[str]]:
        yield BEGIN
        yield Batch("grant_keys", ("serialization_key",), [(key,) for key in keys])
        return frozenset(row[0] for row in (yield Call("queues_of_holders", {"keys": list(keys)})))
