"""What an operator does to a task's place: pause, resume, reschedule, hide and restore."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from aiotaskstore.storage.operation import BEGIN, Call, Steps
from aiotaskstore.storage.tasks.both_halves import ActionResult, BothHalves, Still
from aiotaskstore.storage.transitions import PAUSED, QUEUED


class Placing(BothHalves):
    """The operations after which the one rule places a row, or nothing does: each returns an `ActionResult` a task.

    They keep the fence, so a late success still counts.
    """

    def pause(self, ids: Sequence[UUID], *, still: Still | None = None) -> Steps[dict[UUID, ActionResult]]:
        """Set aside what waits to run."""
        yield BEGIN
        rows = yield from self.lock_both(ids, still)
        chosen = [row.id for row in rows.live.values() if row.status in QUEUED]
        if chosen:
            yield from self.withdraw(chosen)
            yield Call("pause", {"ids": chosen})
        return rows.results(chosen)

    def resume(self, ids: Sequence[UUID], *, still: Still | None = None) -> Steps[dict[UUID, ActionResult]]:
        """Place what is paused."""
        yield BEGIN
        rows = yield from self.lock_both(ids, still)
        chosen = [row.id for row in rows.live.values() if row.status == PAUSED]
        if chosen:
            yield Call("resume", {"ids": chosen})
            yield from self.offer(chosen)
        return rows.results(chosen)

    def reschedule(
        self, ids: Sequence[UUID], run_at: datetime | None, delay: float | None, *, still: Still | None = None
    ) -> Steps[dict[UUID, ActionResult]]:
        """Give what has not finished and does not run another due time; what is paused stays paused."""
        yield BEGIN
        rows = yield from self.lock_both(ids, still)
        chosen = [row.id for row in rows.live.values() if row.status in QUEUED or row.status == PAUSED]
        if chosen:
            yield from self.withdraw(chosen)
            yield Call("reschedule", {"ids": chosen, "run_at": run_at, "delay": delay})
            yield from self.offer(chosen)
        return rows.results(chosen)

    def soft_delete(self, ids: Sequence[UUID], *, still: Still | None = None) -> Steps[dict[UUID, ActionResult]]:
        """Hide tasks, and take them from where claims look; what runs goes on, and its end is recorded."""
        yield BEGIN
        rows = yield from self.lock_both(ids, still, hidden=True)
        live = [row.id for row in rows.live.values() if row.deleted_at is None]
        finished = [one.row.id for one in rows.finished.values() if one.row.deleted_at is None]
        if live:
            yield from self.withdraw(live)
            yield Call("soft_delete", {"ids": live})
        if finished:
            yield Call("soft_delete_history", {"ids": finished})
        return rows.results([*live, *finished])

    def restore(self, ids: Sequence[UUID], *, still: Still | None = None) -> Steps[dict[UUID, ActionResult]]:
        """Show hidden tasks again, and place those that wait to run."""
        yield BEGIN
        rows = yield from self.lock_both(ids, still, hidden=True)
        live = [row.id for row in rows.live.values() if row.deleted_at is not None]
        finished = [one.row.id for one in rows.finished.values() if one.row.deleted_at is not None]
        if live:
            yield Call("restore", {"ids": live})
            yield from self.offer(live)
        if finished:
            yield Call("restore_history", {"ids": finished})
        return rows.results([*live, *finished])
