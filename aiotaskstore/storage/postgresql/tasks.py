"""PostgreSQL's hot path: one statement each, for as many queues and tasks as there are."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aiotaskstore.outcome import Outcome
from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.ledger import Finish
from aiotaskstore.storage.steps import Batch, Call, Unit
from aiotaskstore.storage.tasks import Fenced, Recorded, Tasks
from aiotaskstore.task import Claim


class PostgresTasks(Tasks):
    """Tasks, with claims of many queues and finishes of many tasks in one round trip."""

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Unit[list[Claim]]:
        names, limits = zip(*queues, strict=True)
        rows = yield Call("claim", {"dispatcher": dispatcher, "queues": names, "limits": limits, "aliases": aliases})
        return [Claim(*row) for row in rows]

    def record(self, ended: Sequence[tuple[Fenced, Outcome]], *, again: bool = False) -> Unit[Recorded]:
        """Successes go in one statement of their own; what it does not find is looked at once more, by lock.

        A ctid moves when a harmless update commits beside the statement, which then skips the row though its
        fence still matches (241 of 12,000 in a test made to provoke it).
        """
        finishes = [finish for claim, outcome in ended if (finish := Finish.of(claim, outcome))]
        found = {row[0] for row in (yield Batch("finish", fields_of(Finish), finishes))} if finishes else set()
        if len(found) == len(ended):
            return Recorded()
        return (yield from super().record([one for one in ended if one[0].id not in found], again=again))
