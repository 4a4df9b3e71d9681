"""The lifecycle on a real database, walked at random, compared with the model after every step."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
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
from aiotaskstore.outcome import EMPTY, RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed
from aiotaskstore.retention import Keep, Retention
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.storage.tasks import Note
from aiotaskstore.task import Claim, NewTask, TaskStatus
from tests.model.model import Claimed, Model, Row
from tests.storage.bench import LEASE, Bench, Clock, bench_on, new_task

EXAMPLES = os.environ.get("AIOTASKSTORE_TEST_EXAMPLES")
"""How many walks, each another time other ones; unset: 25, always the same."""

KEEPS: list[Keep] = ["all", "failed", "none"]
RETENTIONS = st.sampled_from(
    [None, *(Retention(keep, period, payload) for keep in KEEPS for period in (None, 30) for payload in KEEPS)]
)
TABLES = ("tasks", "history", "task_keys", "task_errors", "task_progress", "task_details", "dispatchers")
SIDES = ("task_errors", "task_progress", "task_details")


class Lifecycle(RuleBasedStateMachine):
    """One walk. `bench` and `runner` are the test's, shared by all its walks."""

    bench: Bench
    runner: asyncio.Runner

    tasks: Bundle[NewTask] = Bundle("tasks")
    claims: Bundle[Claim] = Bundle("claims")

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.bench.clock.now = Clock().now
        self.model = Model(self.bench.clock.now, LEASE)
        tables = [*TABLES, "ready"] if self.bench.database.kind == "mysql" else TABLES
        for table in tables:
            self.do(self.bench.sql(f"DELETE FROM aiotaskstore_{table}"))
        self.dispatchers = [self.do(self.bench.register()) for _ in range(2)]
        self.model.heard = dict.fromkeys(self.dispatchers, self.model.now)

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
    )
    def enqueue(
        self, *, delay, priority, max_attempts, on_stuck, external_id, live_only: bool, retention: Retention | None
    ):
        row = new_task(
            delay=delay, priority=priority, max_attempts=max_attempts, on_stuck=ON_STUCK.index(on_stuck),
            external_id=external_id, retention=retention and retention.dump(),
        )  # fmt: skip
        mirror = Row(
            row.id, TaskStatus.PENDING, self.model.now, priority, max_attempts, on_stuck, external_id,
            retention or Retention(),
        )  # fmt: skip
        owner = self.model.enqueue(mirror, delay, live_only=live_only)
        if external_id is None:
            self.do(self.bench.database.write(lambda: self.bench.tasks.enqueue([row])))
        else:
            taken = self.do(self.bench.want(row, live_only=live_only))
            assert taken == ({} if owner is None else {row.id: owner})
        return row if owner is None else multiple()

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────

    @rule(target=claims, which=st.integers(0, 1), limit=st.integers(1, 3))
    def claim(self, which: int, limit: int):
        dispatcher = self.dispatchers[which]
        expected = self.model.claim(dispatcher, limit)
        claimed = self.do(self.bench.claim(limit, by=dispatcher))
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
        note(f"model says: {became}")
        recorded = self.do(self.bench.record(claim, _outcome(kind, delay), again=again))
        assert recorded.lost == ({claim.id} if became == "lost" else set())
        assert recorded.cancelled == ({claim.id} if became == "cancelled" else set())

    @rule(claim=claims)
    def tell(self, claim: Claim) -> None:
        row = self.model.rows.get(claim.id)
        ours = row is not None and row.status is TaskStatus.RUNNING and row.fence == claim.fence
        notes = [Note(claim.id, claim.fence, ("half", 0.5), ((1, "line"),))]
        lost = self.do(self.bench.database.write(lambda: self.bench.tasks.tell(notes)))
        assert lost == (set() if ours else {claim.id})

    # ── upkeep ────────────────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.sampled_from([1, 16, 31]))
    def time_passes(self, seconds: int) -> None:
        self.bench.clock.advance(seconds)
        self.model.now = self.bench.clock.now

    @rule()
    def promote(self) -> None:
        assert len(self.do(self.bench.promote())) == self.model.promote()

    @rule()
    def clean(self) -> None:
        assert self.do(self.bench.clean()) == self.model.clean()

    @rule(which=st.integers(0, 1))
    def beat(self, which: int) -> None:
        me = self.dispatchers[which]
        assert self.do(self.bench.database.write(lambda: self.bench.storage.dispatchers.beat(me))) == self.model.beat(
            me
        )

    @rule(which=st.integers(0, 1))
    def rescue(self, which: int) -> None:
        assert self.do(self.bench.rescue(self.dispatchers[which])) == self.model.rescue(self.dispatchers[which])

    @precondition(lambda self: any(one not in self.model.heard for one in self.dispatchers))
    @rule()
    def register_again(self) -> None:
        for one in self.dispatchers:
            if one not in self.model.heard:
                self.do(self.bench.register(one))
                self.model.heard[one] = self.model.now

    # ── operators ─────────────────────────────────────────────────────────────────────────────────────────

    @rule(task=tasks, force=st.booleans())
    def cancel(self, task: NewTask, force: bool) -> None:
        done = self.model.cancel(task.id, force=force)
        assert self.do(self.bench.cancel(task.id, "why", force=force)) == bool(done)

    @rule(task=tasks, force=st.booleans())
    def retry(self, task: NewTask, force: bool) -> None:
        done = self.model.retry(task.id, force=force)
        if isinstance(done, UUID):
            with pytest.raises(DuplicateTaskError) as caught:
                self.do(self.bench.retry(task.id, force=force))
            assert caught.value.existing_id == done
        else:
            assert self.do(self.bench.retry(task.id, force=force)) == bool(done)

    @rule(task=tasks, force=st.booleans())
    def delete(self, task: NewTask, force: bool) -> None:
        done = self.model.delete(task.id, force=force)
        assert self.do(self.bench.delete(task.id, force=force)) == bool(done)

    # ── what holds after every step ───────────────────────────────────────────────────────────────────────

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        if hasattr(self, "model"):
            self.do(self._compare())

    async def _compare(self) -> None:
        bench, rows = self.bench, self.model.rows
        stored = await bench.database.read(lambda: page(bench.tasks, Listing.parse({})))
        fences = await bench.sql(
            "SELECT id, fence FROM aiotaskstore_tasks UNION ALL SELECT id, fence FROM aiotaskstore_history"
        )
        fence_of = {bench.database.uid(row[0]): row[1] for row in fences}
        assert len(fences) == len(fence_of) == len(stored), "a task stands in both halves"
        assert {task.id for task in stored} == rows.keys()
        for task in stored:
            row = rows[task.id]
            found = (
                task.status, task.attempt, fence_of[task.id], task.run_at, task.finish_reason, task.expires_at,
                task.payload is not None, len(task.errors), task.external_id,
            )  # fmt: skip
            assert found == (
                row.status, row.attempt, row.fence, row.run_at, row.reason, row.expires_at,
                row.payload_kept, len(row.errors), row.external_id,
            )  # fmt: skip
            if row.live:
                assert (task.dispatcher_id, task.cancel_requested_at is not None) == (row.dispatcher, row.cancel_asked)
        await self._look_beside()

    async def _look_beside(self) -> None:
        bench, rows = self.bench, self.model.rows
        keys = await bench.sql("SELECT external_id, task_id FROM aiotaskstore_task_keys")
        assert {row[0]: bench.database.uid(row[1]) for row in keys} == self.model.keys
        for side in SIDES:
            beside = await bench.sql(f"SELECT DISTINCT task_id FROM aiotaskstore_{side}")
            assert {bench.database.uid(row[0]) for row in beside} <= rows.keys(), f"{side} of tasks that are gone"
        if bench.database.kind == "mysql":
            ready = await bench.sql("SELECT id FROM aiotaskstore_ready")
            pending = {row.id for row in rows.values() if row.status is TaskStatus.PENDING}
            assert {bench.database.uid(row[0]) for row in ready} == pending


def _outcome(kind: str, delay: float) -> Outcome:
    match kind:
        case "succeeded":
            return EMPTY
        case "failed":
            return Failed("ValueError", "no good", "error")
        case "cancelled":
            return Cancelled("handler")
        case "retrying":
            return Retrying("OSError", "down", delay)
        case "snoozed":
            return Snoozed(delay)
        case _:
            return RELEASED


@pytest.mark.timeout(300)
def test_every_walk_through_the_lifecycle_ends_where_the_model_says(url: str):
    with asyncio.Runner() as runner:
        opening = bench_on(url)
        Lifecycle.bench, Lifecycle.runner = runner.run(opening.__aenter__()), runner
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
