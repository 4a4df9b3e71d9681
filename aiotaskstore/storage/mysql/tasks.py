"""MySQL's hot path: claims lock and delete rows of `ready`, and write `tasks` by primary key."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import ClassVar
from uuid import UUID

from aiotaskstore.storage.external_ids import KEY, ExternalIds, Key, KeyedRow
from aiotaskstore.storage.mysql.database import MySQLDatabase
from aiotaskstore.storage.operation import BEGIN, Batch, Call, Rows, Steps
from aiotaskstore.storage.tasks import Claimed, Promoted, Tasks
from aiotaskstore.storage.tasks.rows import Finished
from aiotaskstore.storage.tasks.serialization_keys import in_turn
from aiotaskstore.storage.transitions import RUNNING, WAITING, LockedRow
from aiotaskstore.task import Claim, NewTask

_SPREAD = 4
"""A claim without SKIP LOCKED reads so many times the rows that it wants."""


class MySQLExternalIds(ExternalIds):
    """External ids on MySQL, where a caller's transaction reads a snapshot and lock timeouts are whole seconds."""

    database: MySQLDatabase

    unlocked = "key_owners_unlocked"

    def insert(self, keyed: Sequence[KeyedRow], *, joined: bool) -> Steps[dict[Key, UUID]]:
        """Insert external ids; on a connection of ours, first lock the existing ones with NOWAIT."""
        first: dict[Key, UUID] = {}
        for one in keyed:
            first.setdefault(one.key, one.row.id)
        owners = {} if joined else (yield from self.owners(first, "lock_keys_now"))
        absent = [(*key, id_) for key, id_ in first.items() if key not in owners]
        if absent:
            written = yield Batch("insert_keys", KEY, absent)
            if sum(row[0] for row in written) == len(absent):
                owners |= {(alias, external_id): id_ for alias, external_id, id_ in absent}
            else:
                owners |= yield from self.owners((alias, external_id) for alias, external_id, _ in absent)
        return owners

    def held(self, keys: Sequence[Key]) -> Steps[set[Key]]:
        if self.database.skips_locked:
            return (yield from super().held(keys))
        return set()

    def live(self, ids: Sequence[UUID], *, joined: bool) -> Steps[set[UUID]]:
        """In a caller's transaction, combine the committed state with the changes of this transaction.

        A locking read would be current too, but would keep a live owner from finishing, and would lock a gap, in which
        others insert, if there is no owner.
        """
        if not joined:
            return (yield from super().live(ids, joined=joined))
        committed = _liveness((yield Call("halves", {"ids": list(ids)}, apart=True)))
        seen = _liveness((yield Call("halves", {"ids": list(ids)})))
        live = seen | committed
        differing = [id_ for id_ in committed.keys() & seen.keys() if committed[id_] != seen[id_]]
        if differing:  # moved by this transaction, or since its snapshot by another one
            finished = {self.database.uid(row[0]) for row in (yield Call("lock_finished", {"ids": sorted(differing)}))}
            live |= {id_: id_ not in finished for id_ in differing}
        return {id_ for id_, is_live in live.items() if is_live}


def _liveness(rows: Rows) -> dict[UUID, bool]:
    """Return for each task whether its row is in a live table, not in the history."""
    return {UUID(bytes=row[0]): bool(row[1]) for row in rows}


class MySQLTasks(Tasks):
    """The operations on tasks; each pending task also has a row in `ready`."""

    database: MySQLDatabase

    insert_takes_two = True
    look_limit: ClassVar[int] = 5_000
    keys_of: ClassVar[type[ExternalIds]] = MySQLExternalIds

    def insert(self, rows: Sequence[NewTask]) -> Steps[None]:
        yield from super().insert(rows)
        yield from self.offer([row.id for row in rows])

    def claim(self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Steps[list[Claim]]:
        queues = yield from self._with_pending(queues)
        if not queues:
            return []
        yield BEGIN
        if not self.database.skips_locked:
            return (yield from self._compete(dispatcher, queues, aliases))
        claims = yield from self._lock_pending(queues, aliases)
        yield from self._run_pending(claims, dispatcher)
        return claims

    def claim_granting(
        self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str], keys: Sequence[str]
    ) -> Steps[Claimed]:
        first = yield from self._first_waiting(keys)
        if not first:
            return Claimed((yield from self.claim(dispatcher, queues, aliases)), frozenset())
        with_pending = yield from self._with_pending(queues)
        yield BEGIN
        if not self.database.skips_locked:
            granted = yield from self._grant_to(first)
            return Claimed((yield from self._compete(dispatcher, queues, aliases)), granted)
        pending = yield from self._lock_pending(with_pending, aliases)
        rows = yield Call("lock_waiting", {"ids": first})
        free = [Claim(UUID(bytes=row[0]), *row[1:]) for row in rows]
        claims = in_turn([*pending, *free], queues, aliases)
        chosen = {claim.id for claim in claims}
        yield from self._run_pending([claim for claim in pending if claim.id in chosen], dispatcher)
        waited = [claim.id for claim in free if claim.id in chosen]
        if waited:
            yield Call("run_waiting", {"ids": waited, "dispatcher": dispatcher})
        left = [claim for claim in free if claim.id not in chosen]
        yield from self._make_pending([claim.id for claim in left])
        return Claimed(claims, frozenset(claim.queue for claim in left))

    def _with_pending(self, queues: Sequence[tuple[str, int]]) -> Steps[Sequence[tuple[str, int]]]:
        """Return the queues that have pending tasks; a single one is not looked at."""
        if len(queues) < 2:  # noqa: PLR2004
            return queues
        named = [(queue,) for queue, _ in queues]
        pending = {row[0] for row in (yield Batch("pending_among", ("queue",), named))}
        return [one for one in queues if one[0] in pending]

    def _lock_pending(self, queues: Sequence[tuple[str, int]], aliases: Sequence[str]) -> Steps[list[Claim]]:
        claims: list[Claim] = []
        for queue, limit in queues:
            rows = yield Call("claim", {"queue": queue, "limit": limit, "aliases": aliases})
            claims += (Claim(UUID(bytes=row[0]), *row[1:]) for row in rows)
        return claims

    def _run_pending(self, claims: Sequence[Claim], dispatcher: UUID) -> Steps[None]:
        if claims:
            ids = [claim.id for claim in claims]
            yield Call("take_ready", {"ids": ids})
            yield Call("mark_running", {"ids": ids, "dispatcher": dispatcher})

    def _compete(
        self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str]
    ) -> Steps[list[Claim]]:
        """Claim without SKIP LOCKED: if several claims want a row, its guarded update succeeds for one of them.

        Reads more rows than are wanted and takes some from a random place on, so that claims seldom want the same row.
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

    def withdraw(self, ids: Sequence[UUID]) -> Steps[None]:
        yield Call("delete_ready", {"ids": list(ids)})

    def offer(self, ids: Sequence[UUID]) -> Steps[None]:
        yield Call("insert_ready", {"ids": list(ids)})

    def lock_dispatcher(self, dispatcher: UUID) -> Steps[Rows]:
        if self.database.skips_locked:
            return (yield from super().lock_dispatcher(dispatcher))
        return (yield Call("wait_for_dispatcher", {"id": dispatcher}))

    def lock_running_of(self, dispatcher: UUID, limit: int) -> Steps[dict[UUID, LockedRow]]:
        if self.database.skips_locked:
            return (yield from super().lock_running_of(dispatcher, limit))
        fences = dict((yield from self.running_of(dispatcher, limit)))
        locked = yield from self.lock(fences)
        return {id_: row for id_, row in locked.items() if row.status == RUNNING and row.fence == fences[id_]}

    def lock_free(self, ids: Iterable[UUID]) -> Steps[dict[UUID, LockedRow]]:
        if self.database.skips_locked:
            return (yield from super().lock_free(ids))
        return (yield from self.lock(ids))

    def lock_finished(self, ids: Iterable[UUID], *, wait: bool = True) -> Steps[dict[UUID, Finished]]:
        return (yield from super().lock_finished(ids, wait=wait or not self.database.skips_locked))

    def lock_running(self, ids: Sequence[UUID], *, wait: bool) -> Steps[list[int]]:
        return (yield from super().lock_running(ids, wait=wait or not self.database.skips_locked))

    def ids_in_use(self, ids: Sequence[UUID], *, joined: bool) -> Steps[set[UUID]]:
        """Look at what is committed, too, where a caller's transaction may see only the past.

        On a connection of ours, find what other open transactions have stored: a duplicate would wait for them.
        """
        seen = yield from self.stored_among(ids)
        if joined:
            return seen | {self.database.uid(row[0]) for row in (yield Call("stored_among", {"ids": ids}, apart=True))}
        if not seen:
            yield Call("lock_ids_now", {"ids": ids})
        return seen

    def seen_finished(self, ids: Sequence[UUID]) -> Steps[frozenset[UUID]]:
        """Read without locking: under REPEATABLE READ, locking an absent row locks the gap in which others insert."""
        live = _liveness((yield Call("halves", {"ids": list(ids)})))
        return frozenset(id_ for id_, is_live in live.items() if not is_live)

    def delete_attempt_rows(self, ids: Sequence[UUID]) -> Steps[None]:
        """Delete side rows only of tasks that have some, to lock no gap; nobody adds any while the task is locked."""
        found: dict[str, list[UUID]] = {}
        for name, id_ in (yield Call("with_side_rows", {"ids": list(ids)}, apart=True)):
            found.setdefault(name, []).append(UUID(bytes=id_))
        for name, some in found.items():
            yield Call(f"delete_{name}", {"ids": some})

    def promote(self, limit: int) -> Steps[list[Promoted]]:
        yield BEGIN
        rows = yield Call("lock_due", {"limit": limit})
        if rows:
            ids = [UUID(bytes=row[0]) for row in rows]
            yield Call("mark_pending", {"ids": ids})
            yield from self.offer(ids)
        return [Promoted(*row[1:]) for row in rows]

    def grant(self, keys: Sequence[str]) -> Steps[frozenset[str]]:
        first = yield from self._first_waiting(keys)
        if not first:
            return frozenset()
        yield BEGIN
        return (yield from self._grant_to(first))

    def _first_waiting(self, keys: Sequence[str]) -> Steps[list[UUID]]:
        """Return the first waiting task of each of these keys that nobody holds."""
        rows = yield Batch("first_waiting", ("serialization_key",), [(key,) for key in keys])
        found = (UUID(bytes=row[0]) for row in rows if row[0])  # NULL where no task waits
        return list(dict.fromkeys(found))  # keys that differ only in spaces at their end are one key

    def _grant_to(self, first: Sequence[UUID]) -> Steps[frozenset[str]]:
        """Make those of these tasks pending that wait still and that nobody has locked; return their queues."""
        locked = yield from self.lock_free(first)
        waiting = [row for row in locked.values() if row.status == WAITING]
        yield from self._make_pending([row.id for row in waiting])
        return frozenset(row.queue for row in waiting)

    def _make_pending(self, ids: Sequence[UUID]) -> Steps[None]:
        if ids:
            yield Call("grant_keys", {"ids": list(ids)})
            yield from self.offer(ids)
