"""The lifecycle on a real database, walked at random, compared with the model after every step."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Verbosity, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aiotaskstore import DuplicateTaskError
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.outcome import EMPTY, RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed
from aiotaskstore.retention import Keep, Retention
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.storage.tasks import Line, Note
from aiotaskstore.task import Claim, NewTask, TaskStatus
from tests.model.model import Claimed, Model, Row
from tests.storage.harness import LEASE, Clock, Harness, harness_on, new_task

EXAMPLES = os.environ.get("AIOTASKSTORE_TEST_EXAMPLES")
"""How many walks, each another time other ones; unset: 25, always the same."""

KEEPS: list[Keep] = ["all", "failed", "none"]
RETENTIONS = st.sampled_from(
    [None, *(Retention(keep, period, payload) for keep in KEEPS for period in (None, 30) for payload in KEEPS)]
)
KEYS = ("x", "y")
"""Serialization keys."""
TABLES = ("tasks", "history", "task_keys", "task_errors", "task_progress", "task_details", "dispatchers")
SIDES = ("task_errors", "task_progress", "task_details")


class Lifecycle(RuleBasedStateMachine):
    """One walk. `harness` and `runner` are the test's, shared by all its walks."""

    harness: Harness
    runner: asyncio.Runner
    say: Callable[[str], object] = staticmethod(note)

    tasks: Bundle[NewTask] = Bundle("tasks")
    claims: Bundle[Claim] = Bundle("claims")

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.harness.clock.now = Clock().now
        self.model = Model(self.harness.clock.now, LEASE)
        tables = [*TABLES, "ready"] if self.harness.database.kind == "mysql" else TABLES
        for table in tables:
            self.do(self.harness.sql(f"DELETE FROM aiotaskstore_{table}"))
        self.dispatchers = [self.do(self.harness.register()) for _ in range(2)]
        self.model.heartbeats = dict.fromkeys(self.dispatchers, self.model.now)

    # ── in ────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(
        target=tasks,
        delay=st.sampled_from([None, 0, 30, 60]),
        priority=st.integers(0, 1),
        max_attempts=st.integers(1, 4),
        on_stuck=st.sampled_from(ON_STUCK),
        external_id=st.sampled_from([None, None, "a", "b"]),
        live_only=st.booleans(),
        retention=RETENTIONS,
        key=st.sampled_from([None, *KEYS]),
        strict=st.booleans(),
    )
    def enqueue(
        self, *, delay, priority, max_attempts, on_stuck, external_id, live_only: bool, retention: Retention | None,
        key: str | None, strict: bool,
    ):  # fmt: skip
        row = new_task(
            delay=delay, priority=priority, max_attempts=max_attempts, on_stuck=ON_STUCK.index(on_stuck),
            external_id=external_id, retention=retention and retention.dump(), serialization_key=key, strict=strict,
        )  # fmt: skip
        mirror = Row(
            row.id, TaskStatus.PENDING, self.model.now, priority, max_attempts, on_stuck, external_id,
            retention or Retention(), key, strict,
        )  # fmt: skip
        owner = self.model.enqueue(mirror, delay, live_only=live_only)
        if external_id is None:
            self.do(self.harness.database.write(lambda: self.harness.tasks.enqueue([row])))
        else:
            taken = self.do(self.harness.add_keyed(row, live_only=live_only))
            assert taken == ({} if owner is None else {row.id: owner})
        return row if owner is None else multiple()

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────

    @rule(target=claims, which=st.integers(0, 1), limit=st.integers(1, 3), keys=st.sampled_from([(), KEYS]))
    def claim(self, which: int, limit: int, keys: tuple[str, ...]):
        for key in keys:
            self.model.grant(key)
        dispatcher = self.dispatchers[which]
        expected = self.model.claim(dispatcher, limit)
        if keys:
            claimed = self.do(self.harness.claim_granting([("default", limit)], *keys, by=dispatcher)).claims
        else:
            claimed = self.do(self.harness.claim(limit, by=dispatcher))
        assert {(claim.id, claim.fence, claim.attempt) for claim in claimed} == {
            (row.id, row.fence, row.attempt) for row in expected
        }
        return multiple(*claimed)

    @rule(
        claim=claims,
        kind=st.sampled_from(["succeeded", "succeeded", "failed", "cancelled", "retrying", "snoozed", "released"]),
        delay=st.sampled_from([0, 30]),
        again=st.booleans(),
    )
    def record(self, claim: Claim, kind: str, delay: float, again: bool) -> None:
        became = self.model.record(Claimed(claim.id, claim.fence), kind, delay, again=again)
        self.say(f"model says: {became}")
        recorded = self.do(self.harness.record(claim, _outcome(kind, delay), again=again))
        assert recorded.lost == ({claim.id} if became == "lost" else set())
        assert recorded.cancelled == ({claim.id} if became == "cancelled" else set())

    @rule(claim=claims)
    def report(self, claim: Claim) -> None:
        row = self.model.rows.get(claim.id)
        ours = row is not None and row.status is TaskStatus.RUNNING and row.fence == claim.fence
        notes = [Note(claim.id, claim.fence, ("half", 0.5), (Line(1, "line"),))]
        told = self.do(self.harness.database.write(lambda: self.harness.tasks.report(notes)))
        assert told.lost == (set() if ours else {claim.id})

    # ── upkeep ────────────────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.sampled_from([1, 16, 31]))
    def time_passes(self, seconds: int) -> None:
        self.harness.clock.advance(seconds)
        self.model.now = self.harness.clock.now

    @rule()
    def promote(self) -> None:
        assert len(self.do(self.harness.promote())) == self.model.promote()

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=2))
    def grant(self, keys: Sequence[str]) -> None:
        self.do(self.harness.grant(*keys))
        for key in keys:
            self.model.grant(key)

    @rule()
    def clean(self) -> None:
        assert self.do(self.harness.clean()) == self.model.clean()

    @rule(which=st.integers(0, 1))
    def heartbeat(self, which: int) -> None:
        me = self.dispatchers[which]
        assert self.do(
            self.harness.database.write(lambda: self.harness.storage.dispatchers.heartbeat(me))
        ) == self.model.heartbeat(me)

    @rule(which=st.integers(0, 1))
    def rescue(self, which: int) -> None:
        assert self.do(self.harness.rescue(self.dispatchers[which])) == self.model.rescue(self.dispatchers[which])

    @precondition(lambda self: any(one not in self.model.heartbeats for one in self.dispatchers))
    @rule()
    def register_again(self) -> None:
        for one in self.dispatchers:
            if one not in self.model.heartbeats:
                self.do(self.harness.register(one))
                self.model.heartbeats[one] = self.model.now

    # ── operators ─────────────────────────────────────────────────────────────────────────────────────────

    @rule(task=tasks, force=st.booleans())
    def cancel(self, task: NewTask, force: bool) -> None:
        done = self.model.cancel(task.id, force=force)
        assert self.do(self.harness.cancel(task.id, "why", force=force)) == bool(done)

    @rule(task=tasks, force=st.booleans())
    def retry(self, task: NewTask, force: bool) -> None:
        done = self.model.retry(task.id, force=force)
        if isinstance(done, UUID):
            with pytest.raises(DuplicateTaskError) as caught:
                self.do(self.harness.retry(task.id, force=force))
            assert caught.value.existing_id == done
        else:
            assert self.do(self.harness.retry(task.id, force=force)) == bool(done)

    @rule(task=tasks, force=st.booleans())
    def delete(self, task: NewTask, force: bool) -> None:
        done = self.model.delete(task.id, force=force)
        assert self.do(self.harness.delete(task.id, force=force)) == bool(done)

    @rule(task=tasks, delay=st.sampled_from([None, None, 0, 30]))
    def pause_or_resume(self, task: NewTask, delay: float | None) -> None:
        if delay is not None:
            assert self.do(self.harness.reschedule(task.id, delay)) == self.model.reschedule(task.id, delay)
        if not self.model.pause(task.id):
            assert not self.do(self.harness.pause(task.id))
            assert self.do(self.harness.resume(task.id)) == self.model.resume(task.id)
        else:
            assert self.do(self.harness.pause(task.id))

    @rule(task=tasks, delay=st.sampled_from([0, 30]))
    def reschedule(self, task: NewTask, delay: float) -> None:
        assert self.do(self.harness.reschedule(task.id, delay)) == self.model.reschedule(task.id, delay)

    @rule(task=tasks, restores=st.booleans())
    def hide(self, task: NewTask, restores: bool) -> None:
        if restores:
            assert self.do(self.harness.restore(task.id)) == self.model.restore(task.id)
        else:
            assert self.do(self.harness.soft_delete(task.id)) == self.model.soft_delete(task.id)

    @rule(task=tasks, succeeded=st.booleans(), text=st.sampled_from([None, '"so"']))
    def mark(self, task: NewTask, succeeded: bool, text: str | None) -> None:
        done = self.model.mark(task.id, succeeded=succeeded, text=text)
        assert self.do(self.harness.mark(task.id, succeeded=succeeded, text=text)) == done

    @rule(task=tasks, priority=st.integers(0, 1), payload=st.sampled_from([None, '{"n": 1}']))
    def update(self, task: NewTask, priority: int, payload: str | None) -> None:
        done = self.model.update(task.id, priority=priority, payload=payload)
        assert self.do(self.harness.update(task.id, payload, priority=priority)) == done

    @rule(target=tasks, task=tasks)
    def clone(self, task: NewTask):
        new = self.do(self.harness.clone(task.id))
        row = self.model.seen(task.id)
        assert (new is not None) == (row is not None and row.payload_kept)
        if new is None:
            return multiple()
        self.model.clone(task.id, new)
        return new_task(id=new)

    # ── what holds after every step ───────────────────────────────────────────────────────────────────────

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        if hasattr(self, "model"):
            self.do(self._compare())

    async def _compare(self) -> None:
        harness, rows = self.harness, self.model.rows
        stored = await harness.database.read(lambda: page(harness.tasks, Listing.parse({"include_deleted": True})))
        fences = await harness.sql(
            "SELECT id, fence FROM aiotaskstore_tasks UNION ALL SELECT id, fence FROM aiotaskstore_history"
        )
        fence_of = {harness.database.uid(row[0]): row[1] for row in fences}
        assert len(fences) == len(fence_of) == len(stored), "a task is in both halves"
        assert {task.id for task in stored} == rows.keys()
        for task in stored:
            row = rows[task.id]
            found = (
                task.status, task.attempt, fence_of[task.id], task.run_at, task.finish_reason, task.expires_at,
                task.payload is not None, len(task.errors), task.external_id,
                task.deleted_at is not None, task.priority,
            )  # fmt: skip
            assert found == (
                row.status, row.attempt, row.fence, row.run_at, row.reason, row.expires_at,
                row.payload_kept, len(row.errors), row.external_id,
                row.hidden, row.priority,
            )  # fmt: skip
            if row.live:
                assert (task.dispatcher_id, task.cancel_requested_at is not None) == (
                    row.dispatcher,
                    row.cancel_requested,
                )
        await self._look_at_side_rows()
        await self._look_at_keys()

    async def _look_at_keys(self) -> None:
        harness, model = self.harness, self.model
        held = await harness.sql("SELECT held_key, id FROM aiotaskstore_tasks WHERE held_key IS NOT NULL")
        assert [harness.database.uid(row[1]) for row in sorted(held, key=lambda row: str(row[0]))] == [
            row.id for key in KEYS if (row := model.holder(key)) is not None
        ]
        waiting = await harness.database.read(lambda: harness.tasks.waiting_keys(""))
        assert waiting == [(key, model.holder(key) is None) for key in KEYS if model.waiting(key)]

    async def _look_at_side_rows(self) -> None:
        harness, rows = self.harness, self.model.rows
        keys = await harness.sql("SELECT external_id, task_id FROM aiotaskstore_task_keys")
        assert {row[0]: harness.database.uid(row[1]) for row in keys} == self.model.keys
        for side in SIDES:
            found = await harness.sql(f"SELECT DISTINCT task_id FROM aiotaskstore_{side}")
            assert {harness.database.uid(row[0]) for row in found} <= rows.keys(), f"{side} of tasks that are gone"
        if harness.database.kind == "mysql":
            ready = await harness.sql("SELECT id FROM aiotaskstore_ready")
            pending = {row.id for row in rows.values() if row.status is TaskStatus.PENDING and not row.hidden}
            assert {harness.database.uid(row[0]) for row in ready} == pending


def _outcome(kind: str, delay: float) -> Outcome:
    match kind:
        case "succeeded":
            return EMPTY
        case "failed":
            return Failed("ValueError", "no good", FinishReason.ERROR)
        case "cancelled":
            return Cancelled(FinishReason.HANDLER)
        case "retrying":
            return Retrying("OSError", "down", delay)
        case "snoozed":
            return Snoozed(delay)
        case _:
            return RELEASED


@pytest.mark.timeout(300)
def test_every_walk_through_the_lifecycle_ends_where_the_model_says(url: str):
    with asyncio.Runner() as runner:
        opening = harness_on(url)
        Lifecycle.harness, Lifecycle.runner = runner.run(opening.__aenter__()), runner
        try:
            run_state_machine_as_test(
                Lifecycle,
                settings=settings(
                    max_examples=int(EXAMPLES or 25),
                    stateful_step_count=30,
                    derandomize=EXAMPLES is None,
                    deadline=None,
                    database=None,
                    verbosity=Verbosity.normal,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(opening.__aexit__(None, None, None))


@pytest.mark.timeout(300)
@pytest.mark.acceptance("A81", "A84")
def test_every_walk_of_tasks_that_share_keys_ends_where_the_model_says(url: str):
    """Denser than the walks above: every task has one of two keys, and most steps are about those."""
    with asyncio.Runner() as runner:
        opening = harness_on(url)
        Lifecycle.harness, Lifecycle.runner = runner.run(opening.__aenter__()), runner
        try:
            for seed in range(int(EXAMPLES or 25) // 8):
                _walk_keys(Lifecycle(), Random(seed))
        finally:
            runner.run(opening.__aexit__(None, None, None))


def _walk_keys(machine: Lifecycle, random: Random) -> None:
    machine.say = print
    machine.begin()
    tasks: list[Any] = []
    claims: list[Any] = []

    def enqueue() -> None:
        row = machine.enqueue(
            delay=random.choice([None, None, None, 30]), priority=random.randint(0, 1), max_attempts=4,
            on_stuck=random.choice(ON_STUCK), external_id=None, live_only=False, retention=None,
            key=random.choice(KEYS), strict=random.random() < 0.5,
        )  # fmt: skip
        tasks.append(row)

    def claim() -> None:
        claimed: Any = machine.claim(random.randint(0, 1), 2, KEYS)
        claims.extend(claimed.values)

    def record() -> None:
        if claims:
            kind = random.choice(["succeeded", "failed", "retrying", "snoozed", "released"])
            machine.record(claims.pop(random.randrange(len(claims))), kind, random.choice([0, 30]), again=False)

    def act() -> None:
        if tasks:
            task = random.choice(tasks[-8:])
            random.choice(
                [
                    lambda: machine.cancel(task, force=random.random() < 0.3),
                    lambda: machine.retry(task, force=True),
                    lambda: machine.delete(task, force=random.random() < 0.3),
                    lambda: machine.pause_or_resume(task, None),
                    lambda: machine.reschedule(task, random.choice([0, 30])),
                    lambda: machine.hide(task, restores=random.random() < 0.5),
                    lambda: machine.mark(task, succeeded=True, text=None),
                    lambda: machine.update(task, random.randint(0, 1), None),
                    lambda: machine.clone(task),
                ]
            )()

    def time_passes() -> None:
        machine.time_passes(31)
        machine.promote()
        machine.rescue(random.randint(0, 1))
        machine.register_again()

    steps = [enqueue, enqueue, claim, claim, record, record, record, act, act, time_passes]
    for _ in range(80):
        random.choice(steps)()
        machine.the_database_says_what_the_model_says()
