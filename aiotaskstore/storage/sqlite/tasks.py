"""SQLite's claim: one statement for each queue, all in one operation of the writer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from aiotaskstore.storage.operation import BEGIN, Batch, Call, Rows, Steps
from aiotaskstore.storage.tasks import Claimed, Tasks
from aiotaskstore.storage.tasks.serialization_keys import in_turn
from aiotaskstore.task import Claim

_FEW = 3
"""Up to so many queues are claimed from without reading first which of them have pending tasks. That read costs as
much as two claims, and without it a process that has seen 10,000 queues would run a claim for each."""


class Candidate(NamedTuple):
    """A task that a claim may take."""

    id: UUID
    queue: str
    alias: str
    priority: int
    run_at: Any
    serialization_key: str | None


class SqliteTasks(Tasks):
    """Tasks under one write lock."""

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Steps[list[Claim]]:
        claims: list[Claim] = []
        for queue, limit in (yield from self._with_pending(queues)):
            rows = yield Call("claim", {"dispatcher": dispatcher, "queue": queue, "limit": limit, "aliases": aliases})
            claims += (Claim(UUID(bytes=row[0]), *row[1:]) for row in rows)
        return claims

    def claim_granting(
        self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str], keys: Sequence[str]
    ) -> Steps[Claimed]:
        yield BEGIN
        free = _candidates((yield Call("first_of_keys", {"document": json.dumps(list(keys))})))
        if not free:
            return Claimed((yield from self.claim(dispatcher, queues, aliases)), frozenset())
        found = list(free)
        for queue, limit in (yield from self._with_pending(queues)):
            rows = yield Call("claim_candidates", {"queue": queue, "limit": limit, "aliases": aliases})
            found += _candidates(rows)
        chosen = [one.id for one in in_turn(found, queues, aliases)]
        rows = (yield Call("run", {"ids": chosen, "dispatcher": dispatcher})) if chosen else ()
        claims = [Claim(UUID(bytes=row[0]), *row[1:]) for row in rows]
        runs = set(chosen)
        left = [one for one in free if one.id not in runs]
        if left:
            yield Batch("grant_keys", ("serialization_key",), [(one.serialization_key,) for one in left])
        return Claimed(claims, frozenset(one.queue for one in left))

    def _with_pending(self, queues: Sequence[tuple[str, int]]) -> Steps[Sequence[tuple[str, int]]]:
        """Return the queues that have pending tasks; a few are not looked at."""
        if len(queues) <= _FEW:
            return queues
        pending = {row[0] for row in (yield Call("pending_queues"))}
        return [one for one in queues if one[0] in pending]

    def grant(self, keys: Sequence[str]) -> Steps[frozenset[str]]:
        yield BEGIN
        yield Batch("grant_keys", ("serialization_key",), [(key,) for key in keys])
        return frozenset(row[0] for row in (yield Call("queues_of_holders", {"keys": list(keys)})))


def _candidates(rows: Rows) -> list[Candidate]:
    return [Candidate(UUID(bytes=row[0]), *row[1:]) for row in rows]
