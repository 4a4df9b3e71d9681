"""What an operator does to tasks as a whole: cancel, retry, delete, and say how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.outcome import Cancelled
from aiotaskstore.side_row_limits import DETAILS
from aiotaskstore.storage.external_ids import KEY
from aiotaskstore.storage.faults import Conflict
from aiotaskstore.storage.operation import BEGIN, Batch, Call, Steps
from aiotaskstore.storage.tasks.both_halves import ActionResult, BothHalves, Still
from aiotaskstore.storage.tasks.bounding import bound_details
from aiotaskstore.storage.transitions import RUNNING, SUCCEEDED, LockedRow, Marked, Transitions, may_be_marked


class Actions(BothHalves):
    """The operations of operators: each returns an `ActionResult` for every task that has a row."""

    def cancel(
        self, ids: Sequence[UUID], reason: str, *, force: bool, still: Still | None = None
    ) -> Steps[dict[UUID, ActionResult]]:
        """Cancel what has not finished; a running one is requested to end, or with `force` ended, its claim voided."""
        yield BEGIN
        rows = yield from self.lock_both(ids, still)
        transitions = Transitions()
        requested = []
        for row in rows.live.values():
            if row.status == RUNNING and not force:
                requested.append(row.id)
            else:
                transitions.end(row, Cancelled(FinishReason.REQUEST, row.cancel_reason or reason))
        if requested:
            yield Call("request_cancel", {"ids": requested, "reason": reason})
        yield from self.apply(transitions, rows.live)
        return rows.results(rows.live)

    def retry(self, ids: Sequence[UUID], *, force: bool, still: Still | None = None) -> Steps[dict[UUID, ActionResult]]:
        """Start from the beginning: what is scheduled, waiting, pending, paused or finished. Its details note it.

        A succeeded one only with `force`. One whose payload was not kept, or whose external id is another task's
        by now, stays as it is (`done` is false).
        """
        yield BEGIN
        rows = yield from self.lock_both(ids, still)
        waiting = [row for row in rows.live.values() if row.status != RUNNING]
        live = [row.id for row in waiting]
        if live:
            yield from self.restart(live)
        results = rows.results(live)
        back: list[LockedRow] = []
        for id_, (row, _, payload_gone) in rows.finished.items():
            done = not payload_gone and (force or row.status != SUCCEEDED)
            results[id_] = results[id_]._replace(done=done, payload_gone=payload_gone)
            if done:
                back.append(row)
        taken = yield from self._own_keys(back)
        for id_, owner in taken.items():
            results[id_] = results[id_]._replace(done=False, taken_by=owner)
        free = [row for row in back if row.id not in taken]
        if free:
            yield from self.revive([row.id for row in free])
        yield from self._note_retry([*waiting, *free])
        return results

    def delete(
        self, ids: Sequence[UUID], *, force: bool, still: Still | None = None
    ) -> Steps[dict[UUID, ActionResult]]:
        """Delete tasks with their side rows, soft-deleted ones too.

        A running one only with `force`, which voids its claim.
        """
        yield BEGIN
        rows = yield from self.lock_both(ids, still, hidden=True)
        gone = [row for row in rows.live.values() if force or row.status != RUNNING]
        if gone:
            yield from self.delete_tasks([row.id for row in gone])
        if rows.finished:
            yield Call("delete_history", {"ids": list(rows.finished)})
        gone += [one.row for one in rows.finished.values()]
        yield from self.delete_side_rows([(row.id, row.alias, row.external_id) for row in gone])
        return rows.results(row.id for row in gone)

    def mark(
        self, ids: Sequence[UUID], ends: Mapping[str | None, Marked], *, still: Still | None = None
    ) -> Steps[dict[UUID, ActionResult]]:
        """End tasks as the operator says, by alias; under `None` stands what is said of every other alias.

        Whoever is marked as succeeded has its claim voided; marked as failed, a late success still counts. What has
        succeeded stays as it is unless a result is given.
        """
        yield BEGIN
        rows = yield from self.lock_both(ids, still)
        live, finished = Transitions(), Transitions()
        for row in rows.every.values():
            marked = ends.get(row.alias) or ends.get(None)
            if marked is not None and may_be_marked(row.status, marked):
                (live if row.id in rows.live else finished).mark(row, marked)
        done = [ending.id for ending in (*live.endings, *finished.endings)]
        void = any(marked.succeeded for marked in ends.values())
        if void and live.endings:
            yield Call("void_claims", {"ids": [ending.id for ending in live.endings]})
        yield from self.apply(live, rows.live)
        yield from self.correct(finished, rows.every, void=void)
        return rows.results(done)

    def _note_retry(self, rows: Sequence[LockedRow]) -> Steps[None]:
        """Add a line to the details of tasks whose attempts count from the start again."""
        tried = [row for row in rows if row.attempt]
        if not tried:
            return
        now = (yield Call("now"))[0][0]
        at = f"{self.database.instant(now):%Y-%m-%d %H:%M:%S} UTC"
        lines = [(row.id, row.fence + 1, 0, f"{at}: retried, after attempt {row.attempt}", 0) for row in tried]
        yield Batch("insert_details", ("task_id", "fence", "line", "text", "left_out"), lines)
        yield from bound_details([row.id for row in tried if row.fence > DETAILS.first])

    def _own_keys(self, rows: Sequence[LockedRow]) -> Steps[dict[UUID, UUID]]:
        """Take the external ids of tasks that are to be revived; return the owner of each that another task has.

        One that nobody has any more, since its owner was deleted, is taken again: of two tasks that had it, one.
        """
        keyed = sorted(
            (row for row in rows if row.external_id is not None),
            key=lambda row: (row.alias, row.external_id or "", row.id),
        )
        if not keyed:
            return {}
        yield Batch(self.external_ids.insert_joined, KEY, [(row.alias, row.external_id, row.id) for row in keyed])
        owner = yield from self.external_ids.owners(((row.alias, row.external_id or "") for row in keyed), "lock_keys")
        if any((row.alias, row.external_id or "") not in owner for row in keyed):
            raise Conflict("a task that held one of these external ids has just been deleted")
        holders = {row.id: owner[row.alias, row.external_id or ""] for row in keyed}
        # Written, not only locked: a transaction whose snapshot still has the task as finished must not take it over.
        ours = [(row.alias, row.external_id, row.id, row.id) for row in keyed if holders[row.id] == row.id]
        if ours:
            yield Batch("take_over_keys", (*KEY, "old_id"), ours)
        return {id_: holder for id_, holder in holders.items() if holder != id_}
