"""PostgreSQL's hot path: one statement claims from all queues, and one records all successes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from aiotaskstore.outcome import Outcome
from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.external_ids import ExternalIds
from aiotaskstore.storage.operation import Batch, Call, Steps
from aiotaskstore.storage.tasks import Claimed, ClaimKey, Recorded, Tasks
from aiotaskstore.storage.transitions import Finish
from aiotaskstore.task import Claim


class PostgresExternalIds(ExternalIds):
    """External ids; an advisory lock marks an external id that an open transaction holds."""

    insert_joined = "insert_keys_joined"


class PostgresTasks(Tasks):
    """Tasks, with claims of many queues and finishes of many tasks in one round trip."""

    keys_of: ClassVar[type[ExternalIds]] = PostgresExternalIds

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Steps[list[Claim]]:
        names, limits = zip(*queues, strict=True)
        rows = yield Call("claim", {"dispatcher": dispatcher, "queues": names, "limits": limits, "aliases": aliases})
        return [Claim(*row) for row in rows]

    def grant(self, keys: Sequence[str]) -> Steps[frozenset[str]]:
        return frozenset(row[0] for row in (yield Call("grant_keys", {"keys": list(keys)})))

    def claim_granting(
        self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str], keys: Sequence[str]
    ) -> Steps[Claimed]:
        names, limits = zip(*queues, strict=True)
        given = {"dispatcher": dispatcher, "queues": names, "limits": limits, "aliases": aliases, "keys": list(keys)}
        rows = yield Call("claim_granting", given)
        granted = frozenset(row[-1] for row in rows if row[-1] is not None)
        return Claimed([Claim(*row[:-1]) for row in rows if row[-1] is None], granted)

    def record(
        self, ended: Sequence[tuple[ClaimKey, Outcome]], *, again: bool = False, wait: bool = True
    ) -> Steps[Recorded]:
        """Record successes in one statement of their own, and every other outcome by locking its row.

        The one statement skips rows that another transaction has locked; those are recorded by locking too.
        """
        finishes = [finish for claim, outcome in ended if (finish := Finish.of(claim, outcome))]
        found = {row[0] for row in (yield Batch("finish", fields_of(Finish), finishes))} if finishes else set()
        if len(found) == len(ended):
            return Recorded()
        return (yield from super().record([one for one in ended if one[0].id not in found], again=again, wait=wait))
