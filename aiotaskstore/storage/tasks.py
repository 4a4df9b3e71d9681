"""What may happen to a task's row. Every move is guarded by its status and fenced by its claim.

A dialect overrides the few operations on the hot path whose steps differ; the decisions are made here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol
from uuid import UUID

from aiotaskstore.errors import DuplicateTaskError
from aiotaskstore.outcome import Cancelled, Outcome, Succeeded
from aiotaskstore.storage.database import Conflict, fields_of
from aiotaskstore.storage.ledger import RUNNING, SUCCEEDED, Ending, Finish, GiveBack, Held, Ledger, Trace, was_given_up
from aiotaskstore.storage.rows import STATUSES, Beside, read_beside
from aiotaskstore.storage.steps import BEGIN, Batch, Call, Rows, Unit
from aiotaskstore.task import Claim, NewTask, Progress, TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database

NEW_TASK = fields_of(NewTask)
MOST_ROWS = 1_000
"""Rows in one statement."""
MOST_BYTES = 2_000_000
"""Payload or result bytes in one statement; MySQL's smallest default packet takes 16 MB, escaped."""
_LOOKS = 3
"""How often a row is looked for that may be moving between the halves."""


class Wanted(NamedTuple):
    """A row to be that carries an external id."""

    row: NewTask
    live_only: bool
    """Whether a finished task may keep its row and still give the external id away."""


class Note(NamedTuple):
    """What a running handler told: progress, or lines of details."""

    id: UUID
    fence: int
    progress: tuple[str, float | None] | None
    lines: tuple[tuple[int, str], ...]


class Rescue(NamedTuple):
    """What became of one task of a dead dispatcher."""

    id: UUID
    alias: str
    queue: str
    status: TaskStatus


class Fenced(Protocol):
    """The right to write how an attempt ended."""

    @property
    def id(self) -> UUID:
        """The task."""

    @property
    def fence(self) -> int:
        """What its row must still carry."""


class Recorded(NamedTuple):
    """What became of outcomes that were to be written."""

    lost: frozenset[UUID] = frozenset()
    """Somebody else's now: nothing was written."""
    cancelled: frozenset[UUID] = frozenset()
    """Ended as cancelled, since somebody had asked for it meanwhile."""


class Answer(NamedTuple):
    """What an operator's action did to one task."""

    status: TaskStatus | None
    """The status it was found in; `None` where no row is kept."""
    done: bool
    payload_gone: bool = False


class Tasks:
    """The operations on tasks, as generators of steps (`steps.py`)."""

    insert_takes_two: ClassVar[bool] = False
    """Whether this dialect's insert is more than one statement."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # ── in ────────────────────────────────────────────────────────────────────────────────────────────────

    def enqueue(self, rows: Sequence[NewTask]) -> Unit[None]:
        """Store rows without external ids: all of them or none."""
        chunks = list(chunked(rows, lambda row: len(row.payload)))
        if len(chunks) > 1 or self.insert_takes_two:
            yield BEGIN
        for chunk in chunks:
            yield from self.insert(chunk)

    def insert(self, rows: Sequence[NewTask]) -> Unit[None]:
        """Store one statement's worth of rows."""
        yield Batch("insert_tasks", NEW_TASK, rows)

    def enqueue_mixed(
        self, rows: Sequence[NewTask], wanted: Sequence[Wanted], returning: frozenset[UUID]
    ) -> Unit[dict[UUID, UUID]]:
        """Store rows of both kinds, all or none; gives the existing id for those whose external id is taken.

        Raises `DuplicateTaskError` for a taken one that is not among `returning`.
        """
        if not wanted:
            yield from self.enqueue(rows)
            return {}
        yield BEGIN
        for chunk in chunked(rows, lambda row: len(row.payload)):
            yield from self.insert(chunk)
        taken: dict[UUID, UUID] = yield from self._insert_wanted(wanted)
        for one, existing in ((one.row, taken[one.row.id]) for one in wanted if one.row.id in taken):
            if one.id not in returning:
                raise DuplicateTaskError(one.alias, one.external_id or "", existing)
        return taken

    def enqueue_wanted(self, wanted: Sequence[Wanted]) -> Unit[dict[UUID, UUID]]:
        """Store rows whose external ids are free; gives the existing id for each of the others."""
        yield BEGIN
        return (yield from self._insert_wanted(wanted))

    def stored(self, ids: Sequence[UUID]) -> Unit[set[UUID]]:
        """Tell which of these have a row."""
        rows = yield Call("stored_among", {"ids": list(ids)})
        return {self.database.uid(row[0]) for row in rows}

    def read_back(self, ids: Sequence[UUID], wanted: Sequence[Wanted]) -> Unit[dict[UUID, UUID] | None]:
        """Tell how an insert has ended whose answer was lost: give that answer, or `None` if nothing is stored."""
        stored = yield from self.stored(ids)
        if not stored:
            return None
        missing = [one for one in wanted if one.row.id not in stored]
        owners = (yield from self._key_owners(missing)) if missing else {}
        return {one.row.id: owners[_key(one)] for one in missing if _key(one) in owners}

    def _insert_wanted(self, wanted: Sequence[Wanted]) -> Unit[dict[UUID, UUID]]:
        if not wanted:
            return {}
        # One order for everybody, so that two batches with the same keys wait for, not deadlock, each other.
        ordered = sorted(wanted, key=lambda one: (one.row.alias, one.row.external_id, one.row.id))
        keys = [(one.row.alias, one.row.external_id, one.row.id) for one in ordered]
        yield Batch("insert_keys", ("alias", "external_id", "task_id"), keys)
        owners = yield from self._owners(ordered)
        ours = {one.row.id for one in ordered}
        claimants = [one for one in ordered if one.live_only and owners[_key(one)] not in ours]
        if claimants:
            yield from self._take_over(claimants)
            owners = yield from self._owners(ordered)
        mine = [one.row for one in wanted if owners[_key(one)] == one.row.id]
        for chunk in chunked(mine, lambda row: len(row.payload)):
            yield from self.insert(chunk)
        return {one.row.id: owners[_key(one)] for one in wanted if owners[_key(one)] != one.row.id}

    def _owners(
        self, wanted: Sequence[Wanted], statement: str = "key_owners"
    ) -> Unit[dict[tuple[str, str | None], UUID]]:
        owners = yield from self._key_owners(wanted, statement)
        if any(_key(one) not in owners for one in wanted):
            raise Conflict("a task that held one of these external ids has just been deleted")
        return owners

    def _key_owners(
        self, wanted: Sequence[Wanted], statement: str = "key_owners"
    ) -> Unit[dict[tuple[str, str | None], UUID]]:
        rows = yield Call(
            statement,
            {
                "aliases": sorted({one.row.alias for one in wanted}),
                "external_ids": sorted({one.row.external_id or "" for one in wanted}),
            },
        )
        return {(row[0], row[1]): self.database.uid(row[2]) for row in rows}

    def _take_over(self, claimants: Sequence[Wanted]) -> Unit[None]:
        # Locked before we look whether the owner lives, so that a retry of it waits for us, or we for that.
        owners = yield from self._owners(claimants, "lock_keys")
        rows = yield Call("live_among", {"ids": [owners[_key(one)] for one in claimants]})
        live = {self.database.uid(row[0]) for row in rows}
        free: dict[tuple[str, str | None], Wanted] = {}
        for one in claimants:
            if owners[_key(one)] not in live:
                free.setdefault(_key(one), one)
        if free:
            yield Batch(
                "take_over_keys",
                ("alias", "external_id", "task_id", "old_id"),
                [(*key, one.row.id, owners[key]) for key, one in free.items()],
            )

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Unit[list[Claim]]:
        """Take at most so many tasks of each queue that are pending and of one of these aliases."""
        raise NotImplementedError

    def record(self, ended: Sequence[tuple[Fenced, Outcome]], *, again: bool = False) -> Unit[Recorded]:
        """Write how attempts ended. With `again`, an earlier call may have done so and lost its answer."""
        yield BEGIN
        ended = yield from self._finish(ended)
        if not ended:
            return Recorded()
        held = yield from self.lock([claim.id for claim, _ in ended])
        ledger = Ledger()
        gone: list[tuple[Fenced, Outcome]] = []
        lost: set[UUID] = set()
        for claim, outcome in ended:
            row = held.get(claim.id)
            if row is None:
                gone.append((claim, outcome))
            elif row.fence == claim.fence and row.status == RUNNING:
                ledger.decide(row, outcome)
            elif row.fence == claim.fence and isinstance(outcome, Succeeded):
                ledger.end(row, outcome)  # rescued, but nobody has claimed it again: a late success counts
            elif not (again and row.fence == claim.fence + 1):
                lost.add(claim.id)
        yield from self.settle(ledger, held)
        lost |= yield from self._correct(gone, again=again)
        return Recorded(frozenset(lost), frozenset(ledger.cancelled))

    def settle(self, ledger: Ledger, held: Mapping[UUID, Held]) -> Unit[None]:
        """Write decided moves of locked rows."""
        if ledger.traces:
            yield Batch("insert_errors", fields_of(Trace), ledger.traces)
        if ledger.endings:
            yield from self._bury([ending for ending in ledger.endings if ending.keep])
            yield from self.remove([ending.id for ending in ledger.endings])
            gone = [held[ending.id] for ending in ledger.endings if not ending.keep]
            yield from self.forget([(row.id, row.alias, row.external_id) for row in gone])
        if ledger.returns:
            yield from self.give_back(ledger.returns)

    def give_back(self, returns: Sequence[GiveBack]) -> Unit[None]:
        """Place locked running rows where they may run again."""
        yield Batch("give_back", fields_of(GiveBack), returns)

    def remove(self, ids: Sequence[UUID]) -> Unit[None]:
        """Delete rows of the live half."""
        yield Call("delete_tasks", {"ids": list(ids)})

    def forget(self, gone: Sequence[tuple[UUID, str, str | None]]) -> Unit[None]:
        """Delete what stands beside rows of which none is kept: `(id, alias, external id)` each."""
        if not gone:
            return
        ids = [id_ for id_, _, _ in gone]
        for statement in ("drop_errors", "drop_progress", "drop_details"):
            yield Call(statement, {"ids": ids})
        keyed = [one for one in gone if one[2] is not None]
        if keyed:
            yield Call(
                "drop_keys",
                {
                    "ids": [id_ for id_, _, _ in keyed],
                    "aliases": sorted({alias for _, alias, _ in keyed}),
                    "external_ids": sorted({key or "" for _, _, key in keyed}),
                },
            )

    def tell(self, notes: Sequence[Note]) -> Unit[set[UUID]]:
        """Write progress and details; gives the ids whose claim was lost, for which nothing is written."""
        yield BEGIN
        held = yield from self.lock([note.id for note in notes])
        ours = [
            note for note in notes if (row := held.get(note.id)) and row.fence == note.fence and row.status == RUNNING
        ]
        progress = {note.id: (note.id, *note.progress) for note in ours if note.progress}
        if progress:
            yield Batch("put_progress", ("task_id", "text", "fraction"), list(progress.values()))
        lines = [(note.id, note.fence, number, text) for note in ours for number, text in note.lines]
        if lines:
            yield Batch("insert_details", ("task_id", "fence", "line", "text"), lines)
        return {note.id for note in notes} - {note.id for note in ours}

    def lock(self, ids: Iterable[UUID]) -> Unit[dict[UUID, Held]]:
        """Lock rows of the live half, in the order of their ids."""
        rows = yield Call("lock", {"ids": sorted(set(ids))})
        uid = self.database.uid
        return {(id_ := uid(row[0])): Held(id_, *row[1:]) for row in rows}

    def _finish(self, ended: Sequence[tuple[Fenced, Outcome]]) -> Unit[Sequence[tuple[Fenced, Outcome]]]:
        """Write the plain successes if all of their claims hold; gives what is left to write with more care."""
        finishes = sorted(finish for claim, outcome in ended if (finish := Finish.of(claim, outcome)))
        if not finishes:
            return ended
        ids = [finish.id for finish in finishes]
        fences = yield Call("lock_running", {"ids": ids})
        if [row[0] for row in fences] != [finish.fence for finish in finishes]:
            return ended
        yield from self._bury([finish.ending for finish in finishes])
        yield Call("delete_tasks", {"ids": ids})
        written = set(ids)
        return [one for one in ended if one[0].id not in written]

    def _bury(self, endings: Sequence[Ending]) -> Unit[None]:
        for chunk in chunked(endings, lambda ending: len(ending.result or "")):
            yield Batch("bury", fields_of(Ending)[:-1], [ending[:-1] for ending in chunk])

    def _correct(self, gone: Sequence[tuple[Fenced, Outcome]], *, again: bool) -> Unit[set[UUID]]:
        """Turn what a rescue gave up into the success it was after all; gives the ids that really are lost."""
        if not gone:
            return set()
        rows = yield Call("lock_finished", {"ids": sorted(claim.id for claim, _ in gone)})
        finished = {self.database.uid(row[0]): row for row in rows}
        lost = set()
        for claim, outcome in gone:
            row = finished.get(claim.id)
            if row is None or row[1] != claim.fence:
                lost.add(claim.id)
            elif isinstance(outcome, Succeeded) and was_given_up(row):
                yield Call("correct_history", {"id": claim.id, "fence": claim.fence, "result": outcome.result})
            elif not again:
                lost.add(claim.id)
        return lost

    # ── upkeep ────────────────────────────────────────────────────────────────────────────────────────────

    def promote(self, limit: int) -> Unit[list[str]]:
        """Make at most `limit` scheduled tasks whose time has come pending; gives their queues, one a task."""
        rows = yield Call("promote", {"limit": limit})
        return [row[0] for row in rows]

    def next_due(self) -> Unit[float | None]:
        """Give the seconds until the next scheduled task is due; `None` where there is none."""
        rows = yield Call("next_due")
        due, now = rows[0]
        if due is None:
            return None
        instant = self.database.instant
        return max(0.0, (instant(due) - instant(now)).total_seconds())

    def pending_queues(self) -> Unit[list[str]]:
        """Name the queues that have pending tasks."""
        rows = yield Call("pending_queues")
        return [row[0] for row in rows]

    def pending_aliases(self) -> Unit[list[str]]:
        """Name the aliases that pending tasks have; reads every pending row."""
        return [row[0] for row in (yield Call("pending_aliases"))]

    def rescue(self, dispatcher: UUID, limit: int) -> Unit[list[Rescue]]:
        """End the runs of a dead dispatcher, at most `limit`, each as its `on_stuck` says.

        One that has given a sign of life meanwhile is left alone. With its last run the dispatcher's row goes, so
        that it learns of its death should it ever come back.
        """
        yield BEGIN
        if (yield Call("lives", {"id": dispatcher})):
            return []
        running = yield Call("running_of", {"id": dispatcher, "limit": limit})
        if len(running) < limit:
            yield Call("leave", {"id": dispatcher})
        if not running:
            return []
        held = yield from self.lock(self.database.uid(row[0]) for row in running)
        fences = {self.database.uid(row[0]): row[1] for row in running}
        ledger = Ledger()
        rescued = []
        for row in held.values():
            if row.status == RUNNING and row.fence == fences[row.id]:
                rescued.append(Rescue(row.id, row.alias, row.queue, ledger.rescue(row)))
        yield from self.settle(ledger, held)
        return rescued

    def clean(self, limit: int) -> Unit[int]:
        """Delete at most `limit` finished tasks past their retention, with all that stands beside them."""
        yield BEGIN
        rows = yield Call("expired", {"limit": limit})
        if rows:
            gone = [(self.database.uid(row[0]), row[1], row[2]) for row in rows]
            yield Call("delete_history", {"ids": [id_ for id_, _, _ in gone]})
            yield from self.forget(gone)
        return len(rows)

    # ── operators ─────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self, ids: Sequence[UUID], reason: str, *, force: bool) -> Unit[dict[UUID, Answer]]:
        """Cancel what has not finished; a running one is asked, or with `force` ended and its claim voided."""
        yield BEGIN
        held, finished = yield from self._lock_both(ids)
        ledger = Ledger()
        asked = []
        for row in held.values():
            if row.status == RUNNING and not force:
                asked.append(row.id)
            else:
                ledger.end(row, Cancelled("request", row.cancel_reason or reason))
        if asked:
            yield Call("request_cancel", {"ids": asked, "reason": reason})
        yield from self.settle(ledger, held)
        answers = {row.id: Answer(STATUSES[row.status], done=True) for row in held.values()}
        return answers | {row.id: Answer(STATUSES[row.status], done=False) for row, _ in finished}

    def retry(self, ids: Sequence[UUID], *, force: bool) -> Unit[dict[UUID, Answer]]:
        """Start from the beginning: what is scheduled, waiting, pending, paused or finished.

        A succeeded one only with `force`; one whose payload was not kept stays as it is (`done` is false).
        """
        yield BEGIN
        held, finished = yield from self._lock_both(ids)
        answers = {row.id: Answer(STATUSES[row.status], done=row.status != RUNNING) for row in held.values()}
        live = [id_ for id_, answer in answers.items() if answer.done]
        if live:
            yield from self.restart(live)
        back: list[Held] = []
        for row, payload_gone in finished:
            done = not payload_gone and (force or row.status != SUCCEEDED)
            answers[row.id] = Answer(STATUSES[row.status], done, payload_gone)
            if done:
                back.append(row)
        if back:
            yield from self._own_keys(back)
            yield from self.revive([row.id for row in back])
        return answers

    def restart(self, ids: Sequence[UUID]) -> Unit[None]:
        """Make locked live rows pending from the start."""
        yield Call("restart", {"ids": list(ids)})

    def revive(self, ids: Sequence[UUID]) -> Unit[None]:
        """Move locked finished rows back to pending."""
        yield Call("revive", {"ids": list(ids)})
        yield Call("delete_history", {"ids": list(ids)})

    def delete(self, ids: Sequence[UUID], *, force: bool) -> Unit[dict[UUID, Answer]]:
        """Delete tasks and all that stands beside them; a running one only with `force`, which voids its claim."""
        yield BEGIN
        held, ended = yield from self._lock_both(ids)
        finished = [row for row, _ in ended]
        gone = [row for row in held.values() if force or row.status != RUNNING]
        if gone:
            yield from self.remove([row.id for row in gone])
        if finished:
            yield Call("delete_history", {"ids": [row.id for row in finished]})
        yield from self.forget([(row.id, row.alias, row.external_id) for row in [*gone, *finished]])
        deleted = {row.id for row in [*gone, *finished]}
        return {row.id: Answer(STATUSES[row.status], done=row.id in deleted) for row in [*held.values(), *finished]}

    def _lock_both(self, ids: Sequence[UUID]) -> Unit[tuple[dict[UUID, Held], list[tuple[Held, bool]]]]:
        """Lock rows in whichever half they stand; with a finished one goes whether its payload is gone.

        A row that moves to the other half between two looks is in neither, so what is missing is looked for again.
        """
        held: dict[UUID, Held] = {}
        finished: list[tuple[Held, bool]] = []
        missing = set(ids)
        for _ in range(_LOOKS):
            held |= yield from self.lock(missing)
            missing -= held.keys()
            if not missing:
                break
            rows = yield Call("lock_finished", {"ids": sorted(missing)})
            finished += ((Held(self.database.uid(row[0]), *row[1:-2]), bool(row[-1])) for row in rows)
            missing -= {row.id for row, _ in finished}
            if not missing:
                break
        return held, finished

    def _own_keys(self, rows: Sequence[Held]) -> Unit[None]:
        """Refuse to revive a task whose external id another task has taken over meanwhile."""
        keyed = [row for row in rows if row.external_id is not None]
        if not keyed:
            return
        owners = yield Call(
            "lock_keys",
            {
                "aliases": sorted({row.alias for row in keyed}),
                "external_ids": sorted({row.external_id or "" for row in keyed}),
            },
        )
        owner = {(alias, key): self.database.uid(id_) for alias, key, id_ in owners}
        for row in keyed:
            holder = owner.get((row.alias, row.external_id or ""))
            if holder is not None and holder != row.id:
                raise DuplicateTaskError(row.alias, row.external_id or "", holder)

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────

    def status(self, task_id: UUID) -> Unit[TaskStatus | None]:
        """Give one task's status; `None` where no row is kept."""
        rows = yield Call("status_of", {"id": task_id})
        return STATUSES[rows[0][0]] if rows else None

    def finished_among(self, ids: Sequence[UUID]) -> Unit[set[UUID]]:
        """Tell which of these are not waiting to end any more: finished, or without a row."""
        rows = yield Call("live_among", {"ids": list(ids)})
        return set(ids) - {self.database.uid(row[0]) for row in rows}

    def cancel_requests(self, dispatcher: UUID) -> Unit[list[tuple[UUID, int, str | None]]]:
        """List the running tasks of a dispatcher that somebody asked to cancel."""
        rows = yield Call("cancel_requests", {"id": dispatcher})
        return [(self.database.uid(row[0]), row[1], row[2]) for row in rows]

    def orphans(self) -> Unit[list[UUID]]:
        """List the dispatchers that running tasks name and that no row is left of."""
        rows = yield Call("orphaned_dispatchers")
        return [self.database.uid(row[0]) for row in rows]

    def running_of(self, dispatcher: UUID, limit: int) -> Unit[list[tuple[UUID, int]]]:
        """List what the database believes a dispatcher runs: `(id, fence)` each."""
        rows = yield Call("running_of", {"id": dispatcher, "limit": limit})
        return [(self.database.uid(row[0]), row[1]) for row in rows]

    def progress(self, task_id: UUID) -> Unit[tuple[Progress | None, TaskStatus | None]]:
        """Give what a task's handler last told, and the task's status."""
        rows = yield Call("progress_of", {"ids": [task_id]})
        progress = None
        if rows:
            _, text, fraction, at = rows[0]
            progress = Progress(text, fraction, self.database.instant(at))
        return progress, (yield from self.status(task_id))

    def beside(self, ids: Sequence[UUID]) -> Unit[Beside]:
        """Read what stands beside these tasks."""
        if not ids:
            return Beside()
        found: list[Rows] = []
        for statement in ("errors_of", "progress_of", "details_of"):
            found.append((yield Call(statement, {"ids": list(ids)})))
        return read_beside(self.database, *found)


def chunked(rows: Sequence[Any], weigh: Callable[[Any], int]) -> Iterator[Sequence[Any]]:
    """Cut rows into statements' worth: at most `MOST_ROWS`, and not many more than `MOST_BYTES`."""
    if len(rows) <= MOST_ROWS and sum(map(weigh, rows)) <= MOST_BYTES:
        if rows:
            yield rows
        return
    chunk: list[Any] = []
    weight = 0
    for row in rows:
        heavy = weigh(row)
        if chunk and (len(chunk) == MOST_ROWS or weight + heavy > MOST_BYTES):
            yield chunk
            chunk, weight = [], 0
        chunk.append(row)
        weight += heavy
    yield chunk


def _key(one: Wanted) -> tuple[str, str | None]:
    return one.row.alias, one.row.external_id
