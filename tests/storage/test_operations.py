"""Operations are pure: started twice from the beginning, or in another thread, they come to the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from aiotaskstore.definition_record import Definition, DefinitionStatus
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.outcome import EMPTY, RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed
from aiotaskstore.storage.definitions import DEFINITIONS, Published
from aiotaskstore.storage.external_ids import KeyedRow
from aiotaskstore.storage.listing import Listing, matching, page, still_matching, total
from aiotaskstore.storage.operation import BEGIN, Begin, Operation, Rows, Steps, T
from aiotaskstore.storage.record_listing import RecordListing
from aiotaskstore.storage.restrictions import read_restrictions
from aiotaskstore.storage.schedules import SCHEDULES, Firing
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.tasks import Changes, ClaimKey, Line, Note
from aiotaskstore.storage.transitions import Marked
from tests.storage.harness import Clock, Harness, harness_on, new_schedule, new_task


class StartAgainError(TaskStoreError):
    """The operation was begun in vain."""


def in_vain(operation: Operation[T]) -> Operation[T]:
    """An operation that does everything in one transaction, and then undoes it."""

    def start() -> Steps[T]:
        steps, begun = operation(), False
        rows: Rows = ()
        while True:
            try:
                step = steps.send(rows) if begun else next(steps)
            except StopIteration:
                raise StartAgainError from None
            if not begun and not isinstance(step, Begin):
                yield BEGIN
            begun = True
            rows = yield step

    return start


async def once(harness: Harness, operation: Operation[Any]) -> Any:
    return await harness.database.write(operation)


async def twice(harness: Harness, operation: Operation[Any]) -> Any:
    with pytest.raises(StartAgainError):
        await harness.database.write(in_vain(operation))
    return await harness.database.write(operation)


class LostClaim(NamedTuple):
    id: UUID
    fence: int


def uid(number: int) -> UUID:
    return UUID(int=number)


def script(harness: Harness) -> Iterator[Callable[[], Steps[Any]]]:
    """Every operation that there is, in an order in which each has something to do."""
    tasks, storage, clock = harness.tasks, harness.storage, harness.clock
    me, other, nobody = uid(1), uid(2), uid(3)
    published = [Published(uid(10), "work", "Work", "", "{}"), Published(uid(11), "idle", "Idle", "", "{}")]
    yield lambda: storage.definitions.announce(published[:1])
    yield lambda: storage.definitions.publish(published)
    yield storage.definitions.known
    yield storage.definitions.all
    yield lambda: storage.definitions.get_by_alias("work")
    yield lambda: storage.definitions.create(Definition(id=uid(12), alias="own", memo="mine"))
    yield lambda: storage.definitions.create(Definition(id=uid(13), alias="own"))
    yield lambda: storage.definitions.update(uid(12), "Own", None, None)
    yield lambda: storage.definitions.set_status(uid(12), DefinitionStatus.CANCELLED)
    yield lambda: storage.definitions.soft_delete(uid(12))
    yield lambda: storage.definitions.restore(uid(12))
    yield lambda: storage.definitions.get(uid(12))
    listing = RecordListing.parse(DEFINITIONS, {"status": "cancelled", "limit": 5})
    yield lambda: storage.definitions.page(listing)
    yield lambda: storage.definitions.total(listing)
    yield lambda: storage.definitions.delete(uid(12))
    yield lambda: storage.dispatchers.register(me, name="me", host="here", pid=1, lease=5.0)
    yield lambda: storage.dispatchers.register(other, name="other", host="here", pid=2, lease=5.0)
    yield lambda: storage.dispatchers.set_idle(me, idle=True)
    plain = [new_task(id=uid(100 + n), priority=n, max_attempts=3) for n in range(12)]
    later = [new_task(id=uid(200 + n), delay=30) for n in range(3)]
    keyed = [KeyedRow(new_task(id=uid(300 + n), external_id=str(n)), live_only=True) for n in range(3)]
    same = [KeyedRow(new_task(id=uid(310 + n), external_id=str(n)), live_only=True) for n in range(3)]
    yield lambda: tasks.enqueue(plain)
    yield lambda: tasks.enqueue_keyed(keyed)
    yield lambda: tasks.enqueue_mixed(later, same, frozenset(one.row.id for one in same))
    chosen = new_task(id=uid(320))
    yield lambda: tasks.enqueue_mixed([chosen], [], frozenset(), chosen={chosen.id: chosen})
    yield lambda: tasks.read_back([chosen.id], [], {chosen.id: chosen._replace(alias="other")})
    yield lambda: tasks.enqueue([new_task(id=uid(450 + n), serialization_key="k", queue="serial") for n in range(3)])
    yield lambda: tasks.waiting_keys("")
    yield lambda: tasks.grant(["k", "nobody's"])
    yield lambda: tasks.grant(["k"])
    more = [new_task(id=uid(460 + n), serialization_key=f"k{n}", queue=("serial", "other")[n % 2]) for n in range(4)]
    yield lambda: tasks.enqueue(more)
    yield lambda: tasks.claim_granting(me, [("serial", 2), ("idle", 5)], ["work"], ["k", "k0", "k1", "k2", "k3"])
    yield lambda: tasks.claim_granting(me, [("other", 1)], ["work"], ["k1", "nobody's"])
    yield lambda: tasks.stored_among([uid(100), uid(310)])
    yield lambda: tasks.read_back([uid(300), uid(310)], [keyed[0], same[0]])
    yield lambda: tasks.external_ids.owners([keyed[0].key], tasks.external_ids.unlocked)
    yield tasks.pending_aliases
    yield tasks.pending_queues
    yield lambda: tasks.claim(me, [("default", 10)], ["work"])
    yield lambda: tasks.claim(other, [("default", 2)], ["work"])
    yield lambda: tasks.claim(nobody, [("default", 1)], ["work"])
    notes = [Note(uid(100), 1, ("half", 0.5), (Line(1, "one"), Line(2, "two"))), Note(uid(99), 1, ("none", None), ())]
    yield lambda: tasks.report(notes)
    yield lambda: tasks.progress(uid(100))
    outcomes: list[Outcome] = [
        EMPTY, Failed("E", "no", FinishReason.ERROR), Retrying("E", "no", 20.0), Snoozed(0), RELEASED,
        Cancelled(FinishReason.HANDLER, "why"), EMPTY,
    ]  # fmt: skip
    ended: list[tuple[ClaimKey, Outcome]] = [
        (LostClaim(uid(100 + n), 1), outcome) for n, outcome in enumerate(outcomes)
    ]
    yield lambda: tasks.record(ended)
    yield lambda: tasks.record(ended, again=True)
    yield lambda: tasks.report(notes, wait=False)
    yield lambda: tasks.record([(LostClaim(uid(300), 1), EMPTY)], wait=False)
    yield lambda: tasks.running_of(me, 100)
    yield lambda: tasks.cancel([uid(100), uid(107), uid(200)], "enough", force=False)
    yield lambda: tasks.cancel([uid(108)], "enough", force=True)
    yield lambda: tasks.cancel_requests(other)
    yield lambda: tasks.retry([uid(100), uid(101), uid(105), uid(201)], force=True)
    yield lambda: tasks.delete([uid(106), uid(109), uid(202)], force=False)
    yield lambda: tasks.pause([uid(104), uid(107), uid(111), uid(201)])
    yield lambda: tasks.reschedule([uid(104), uid(200), uid(201)], clock.now + timedelta(seconds=50), None)
    yield lambda: tasks.reschedule([uid(110)], None, 20.0)
    yield lambda: tasks.resume([uid(104), uid(201)])
    yield lambda: tasks.update([uid(104), uid(102), uid(107)], Changes(queue="other", priority=7, timeout=3.0), None)
    yield lambda: tasks.update([uid(104), uid(101)], Changes(keep_timeout=False), {"work": '{"n": 1}'})
    yield lambda: tasks.clone({uid(104): uid(400), uid(103): uid(401)}, "other", {"work": '{"n": 2}'})
    yield lambda: tasks.clone({uid(100): uid(402)}, None, None)
    yield lambda: tasks.soft_delete([uid(101), uid(104), uid(111)])
    yield lambda: tasks.restore([uid(101), uid(104), uid(111)])
    yield lambda: tasks.mark([uid(101), uid(104), uid(111)], {"work": Marked(True, '"so"')})
    yield lambda: tasks.mark([uid(402), uid(103)], {None: Marked(False, "so")})
    yield lambda: tasks.peek("default")
    yield lambda: tasks.key_holder("nobody's")
    yield lambda: tasks.status(uid(105))
    yield lambda: tasks.finished_among([uid(101), uid(106), uid(107)])
    yield lambda: tasks.results_among([uid(101), uid(106), uid(107)])
    yield lambda: tasks.side_rows([uid(100), uid(101), uid(102)])
    yield lambda: page(tasks, Listing.parse({"alias": "work", "limit": 50}))
    yield lambda: total(Listing.parse({"alias": "work"}))
    yield lambda: matching(tasks, Listing.parse({"queue": "default"}), 5, uid(0), clock.now + timedelta(days=1))
    yield lambda: still_matching(tasks, Listing.parse({"queue": "default"}), [uid(100)], [uid(108)])
    yield storage.counts
    yield tasks.next_due
    clock.advance(40)
    yield lambda: tasks.promote(10)
    yield lambda: storage.dispatchers.heartbeat(me)
    yield lambda: storage.dispatchers.heartbeats(me)
    yield storage.dispatchers.list
    yield storage.dispatchers.older
    yield lambda: storage.queues.pause("slow", "first")
    yield lambda: storage.queues.pause("slow", "second")
    yield storage.queues.list
    yield read_restrictions
    yield lambda: storage.queues.resume("slow")
    yield tasks.orphaned_dispatchers
    yield lambda: tasks.stuck(None)
    yield lambda: tasks.stuck(10.0)
    yield lambda: tasks.rescue_runs({uid(107): 1}, other)
    yield lambda: tasks.rescue_runs({uid(108): 1, uid(110): 1}, None)
    yield lambda: tasks.rescue(other, 100)
    yield lambda: tasks.rescue(nobody, 100)
    yield lambda: tasks.record([(LostClaim(uid(110), 1), EMPTY), (LostClaim(uid(111), 1), EMPTY)])
    clock.advance(timedelta(days=400).total_seconds())
    yield lambda: tasks.clean(100)
    yield lambda: storage.dispatchers.deregister(me)
    yield tasks.now
    yield from schedules_script(harness)


def schedules_script(harness: Harness) -> Iterator[Callable[[], Steps[Any]]]:
    """Every operation on schedules."""
    schedules, clock = harness.storage.schedules, harness.clock
    one, other, third = (new_schedule(id=uid(500 + n), name=f"s{n}", status="active") for n in range(3))
    yield lambda: schedules.create(one)
    yield lambda: schedules.declare([one._replace(description="anew", code_owned=True), other])
    yield lambda: schedules.create(third._replace(run_on_start=True))
    yield schedules.look
    yield lambda: schedules.get(one.id)
    yield lambda: schedules.named(["s0", "s1"])
    yield lambda: schedules.to_start(15.0, None, 10)
    yield lambda: schedules.change(third.id, lambda row, _now: row._replace(next_run_at=None))
    yield lambda: schedules.without_next(None, 10)
    clock.advance(100)
    yield lambda: schedules.due(clock.now, None, 10)
    task = KeyedRow(new_task(id=uid(600), external_id="schedule:1", run_at=clock.now), live_only=False)
    firings = [
        Firing(one.id, 2, clock.now + timedelta(days=1), "active", tasks=(task,)),
        Firing(other.id, 99, None, "completed"),
    ]
    yield lambda: schedules.fire(firings)
    by_hand = KeyedRow(new_task(id=uid(601), external_id="schedule:2"), live_only=False)
    yield lambda: schedules.run_now(third.id, by_hand, joined=False)
    yield lambda: page_of_schedules(harness)
    yield lambda: schedules.total(RecordListing.parse(SCHEDULES, {}))
    yield lambda: schedules.delete(other.id)


def page_of_schedules(harness: Harness) -> Steps[Any]:
    return harness.storage.schedules.page(RecordListing.parse(SCHEDULES, {"status": "active", "limit": 5}))


HELPERS = {
    "lock", "lock_free", "lock_running", "lock_running_of", "lock_dispatcher", "lock_finished", "lock_both",
    "ids_in_use",    "seen_finished", "apply", "archive", "correct", "withdraw", "offer", "insert", "restart", "revive",
    "return_to_queue", "delete_tasks", "delete_side_rows", "delete_attempt_rows",
}  # fmt: skip
"""Parts of operations, which nothing starts by themselves."""

ROWS = {
    "tasks": "id, status, attempt, fence, run_at, dispatcher_id, cancel_reason, external_id, deleted_at, payload, "
    "held_key",
    "history": "id, status, attempt, fence, finish_reason, error, result, finished_at, expires_at, deleted_at, payload",
    "task_keys": "alias, external_id, task_id",
    "task_errors": "task_id, fence, attempt, message",
    "task_progress": "task_id, text",
    "task_details": "task_id, fence, line, text",
    "dispatchers": "id, name, idle, heartbeat_at, version, serves",
    "queues": "name, paused_at, pause_reason",
    "definitions": "id, alias, title, memo, status, deleted_at",
    "schedules": "id, name, description, status, execution_count, last_run_at, next_run_at, revision",
}


async def outcome_of(harness: Harness, start: Callable[[Harness, Operation[Any]], Any]) -> list[Any]:
    """Run the script; return each operation's result and what the tables hold afterwards."""
    results = []
    for operation in script(harness):
        result = await start(harness, operation)
        rows = {
            table: sorted(repr(tuple(row)) for row in await harness.sql(f"SELECT {columns} FROM aiotaskstore_{table}"))
            for table, columns in ROWS.items()
        }
        results.append((getattr(result, "__dict__", result), rows))
    return results


async def test_an_operation_that_is_started_twice_does_and_returns_what_it_does_once(url: str):
    async with (
        harness_on(url, Clock(), TableNames("once_")) as straight,
        harness_on(url, Clock(), TableNames("twice_")) as again,
    ):
        straight_on = await outcome_of(straight, once)
        for number, (found, promised) in enumerate(zip(await outcome_of(again, twice), straight_on, strict=True)):
            assert found == promised, f"operation {number} of the script"


async def test_the_script_starts_every_operation_that_there_is(harness: Harness):
    started = {name for operation in script(harness) for name in named_by(operation)}
    storage = harness.storage
    there = {
        name
        for part in (
            storage.tasks,
            storage.dispatchers,
            storage.definitions,
            storage.queues,
            storage.schedules,
            storage,
        )
        for name, method in inspect.getmembers(type(part), inspect.isgeneratorfunction)
        if not name.startswith("_")
    }
    assert there - started - HELPERS == set()


def named_by(operation: Callable[[], Steps[Any]]) -> set[str]:
    return {operation.__name__, *operation.__code__.co_names}
