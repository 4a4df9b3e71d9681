"""One attempt: its claim, what it reports, how it ended. Every write is guarded by the status and by the fence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

from aiotaskstore.outcome import Outcome, Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.storage.operation import BEGIN, Batch, Call, Steps
from aiotaskstore.storage.tasks.bounding import bound_details
from aiotaskstore.storage.tasks.rows import TaskRows
from aiotaskstore.storage.transitions import RUNNING, SUCCEEDED, Finish, LockedRow, Transitions, was_given_up
from aiotaskstore.task import Claim


class Line(NamedTuple):
    """One line of details of a run, or a marker for lines that were left out."""

    number: int
    text: str
    left_out: int = 0


class Note(NamedTuple):
    """What a running handler reported: progress, or lines of details."""

    id: UUID
    fence: int
    progress: tuple[str, float | None] | None
    lines: tuple[Line, ...]
    bounding: bool = False
    """Whether the task may have so many lines that some must be left out."""


class ClaimKey(Protocol):
    """The right to write how an attempt ended."""

    @property
    def id(self) -> UUID:
        """The task."""

    @property
    def fence(self) -> int:
        """What its row must still carry."""


class Recorded(NamedTuple):
    """What became of outcomes, or of what running handlers reported, that were to be written."""

    lost: frozenset[UUID] = frozenset()
    """Tasks whose claim another dispatcher has by now: nothing was written."""
    cancelled: frozenset[UUID] = frozenset()
    """Ended as cancelled, since somebody had requested it meanwhile."""
    succeeded: frozenset[UUID] = frozenset()
    """Found succeeded under the same claim, though another outcome was to be written: by an earlier write."""
    locked: frozenset[UUID] = frozenset()
    """Not written yet: somebody's open transaction has locked these rows, and was not waited for."""


class Attempts(TaskRows):
    """The operations by which a dispatcher runs tasks."""

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Steps[list[Claim]]:
        """Take at most so many tasks of each queue that are pending and of one of these aliases."""
        raise NotImplementedError

    def report(self, notes: Sequence[Note], *, wait: bool = True) -> Steps[Recorded]:
        """Write progress and details, but nothing for tasks whose claim was lost.

        Unless `wait`, nor for tasks whose rows somebody else has locked.
        """
        yield BEGIN
        locked, elsewhere = yield from self._lock_for([note.id for note in notes], wait=wait)
        ours = [
            note for note in notes if (row := locked.get(note.id)) and row.fence == note.fence and row.status == RUNNING
        ]
        progress = {note.id: (note.id, *note.progress) for note in ours if note.progress}
        if progress:
            yield Batch("put_progress", ("task_id", "text", "fraction"), list(progress.values()))
        lines = [(note.id, note.fence, *line) for note in ours for line in note.lines]
        if lines:
            yield Batch("insert_details", ("task_id", "fence", "line", "text", "left_out"), lines)
            yield from bound_details([note.id for note in ours if note.bounding])
        lost = {note.id for note in notes} - {note.id for note in ours} - elsewhere
        return Recorded(frozenset(lost), locked=elsewhere)

    def record(
        self, ended: Sequence[tuple[ClaimKey, Outcome]], *, again: bool = False, wait: bool = True
    ) -> Steps[Recorded]:
        """Write how attempts ended. With `again`, an earlier call may have done so and its reply was lost.

        Unless `wait`, tasks whose rows somebody else has locked are left out, and returned as `locked`.
        """
        yield BEGIN
        ended = yield from self._finish(ended, wait=wait)
        if not ended:
            return Recorded()
        locked, elsewhere = yield from self._lock_for([claim.id for claim, _ in ended], wait=wait)
        elsewhere |= yield from self._whose_keys_are_held(locked.values(), wait=wait)
        transitions = Transitions()
        gone: list[tuple[ClaimKey, Outcome]] = []
        lost: set[UUID] = set()
        for claim, outcome in ended:
            row = locked.get(claim.id)
            if claim.id in elsewhere:
                continue
            if row is None:
                gone.append((claim, outcome))
            elif row.fence == claim.fence and row.status == RUNNING:
                transitions.decide(row, outcome)
            elif row.fence == claim.fence and isinstance(outcome, Succeeded):
                transitions.end(row, outcome)  # rescued, but nobody has claimed it again: a late success counts
            elif not (again and row.fence == claim.fence + 1):
                lost.add(claim.id)
        yield from self.apply(transitions, locked)
        gone_for_good, succeeded, held = yield from self._correct(gone, again=again, wait=wait)
        lost |= gone_for_good
        return Recorded(frozenset(lost), frozenset(transitions.cancelled), succeeded, elsewhere | held)

    def running_of(self, dispatcher: UUID, limit: int) -> Steps[list[tuple[UUID, int]]]:
        """List what a dispatcher runs, as far as the database knows: `(id, fence)` each."""
        rows = yield Call("running_of", {"id": dispatcher, "limit": limit})
        return [(self.database.uid(row[0]), row[1]) for row in rows]

    def cancel_requests(self, dispatcher: UUID) -> Steps[list[tuple[UUID, int, str | None]]]:
        """List the running tasks of a dispatcher whose cancellation was requested: `(id, fence, reason)` each."""
        rows = yield Call("cancel_requests", {"id": dispatcher})
        return [(self.database.uid(row[0]), row[1], row[2]) for row in rows]

    def lock_running(self, ids: Sequence[UUID], *, wait: bool) -> Steps[list[int]]:
        """Lock the running ones of these rows, without `wait` only the free ones; return fences in the order of ids."""
        rows = yield Call("lock_running" if wait else "lock_running_free", {"ids": ids})
        return [row[0] for row in rows]

    def _lock_for(self, ids: Sequence[UUID], *, wait: bool) -> Steps[tuple[dict[UUID, LockedRow], frozenset[UUID]]]:
        """Lock rows of the live half; return also the ids of those there that somebody else has locked."""
        if wait:
            return (yield from self.lock(ids)), frozenset()
        locked = yield from self.lock_free(ids)
        missing = set(ids) - locked.keys()
        if not missing:
            return locked, frozenset()
        rows = yield Call("live_among", {"ids": sorted(missing)})
        return locked, frozenset(self.database.uid(row[0]) for row in rows)

    def _finish(
        self, ended: Sequence[tuple[ClaimKey, Outcome]], *, wait: bool
    ) -> Steps[Sequence[tuple[ClaimKey, Outcome]]]:
        """Write the plain successes if all of their claims hold; return what is left to write with more care."""
        finishes = sorted(finish for claim, outcome in ended if (finish := Finish.of(claim, outcome)))
        if not finishes:
            return ended
        ids = [finish.id for finish in finishes]
        fences = yield from self.lock_running(ids, wait=wait)
        if fences != [finish.fence for finish in finishes]:
            return ended
        yield from self.archive([finish.ending for finish in finishes])
        yield Call("delete_tasks", {"ids": ids})
        written = set(ids)
        return [one for one in ended if one[0].id not in written]

    def _whose_keys_are_held(self, rows: Iterable[LockedRow], *, wait: bool) -> Steps[frozenset[UUID]]:
        """Return, unless `wait`, the tasks whose external ids somebody else has locked, though they may go now.

        These are tasks of which perhaps no row is kept; the free external ids of such are locked by this.
        """
        if wait:
            return frozenset()
        keys = {
            (row.alias, row.external_id): row.id
            for row in rows
            if row.external_id is not None and Retention.load(row.retention).keep != "all"
        }
        held = (yield from self.external_ids.held(sorted(keys))) if keys else set()
        return frozenset(keys[key] for key in held)

    def _correct(
        self, gone: Sequence[tuple[ClaimKey, Outcome]], *, again: bool, wait: bool
    ) -> Steps[tuple[set[UUID], frozenset[UUID], frozenset[UUID]]]:
        """Turn what a rescue gave up into the success it was after all.

        Returns the ids that really are lost, those that have succeeded under the same claim already, and, unless
        `wait`, those that somebody else has locked.
        """
        if not gone:
            return set(), frozenset(), frozenset()
        finished = yield from self.lock_finished([claim.id for claim, _ in gone], wait=wait)
        elsewhere: frozenset[UUID] = frozenset()
        if not wait:
            missing = sorted({claim.id for claim, _ in gone} - finished.keys())
            rows = (yield Call("history_among", {"ids": missing})) if missing else ()
            elsewhere = frozenset(self.database.uid(row[0]) for row in rows)
            elsewhere |= yield from self._whose_keys_are_held((found.row for found in finished.values()), wait=wait)
            gone = [(claim, outcome) for claim, outcome in gone if claim.id not in elsewhere]
        transitions, lost, succeeded = Transitions(), set(), set()
        for claim, outcome in gone:
            found = finished.get(claim.id)
            if found is not None and found.row.fence == claim.fence and found.row.status == SUCCEEDED:
                succeeded.add(claim.id)
            if found is None or found.row.fence != claim.fence:
                lost.add(claim.id)
            elif isinstance(outcome, Succeeded) and was_given_up(found.row.status, found.reason):
                transitions.end(found.row, outcome)
            elif not again:
                lost.add(claim.id)
        yield from self.correct(transitions, {id_: found.row for id_, found in finished.items()})
        return lost, frozenset(succeeded), elsewhere
