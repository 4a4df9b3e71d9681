"""A small pure model of a task's life and the real databases walk the same random paths, and must agree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from aiotaskstore.ids import new_id
from aiotaskstore.outcome import EMPTY, RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed, Succeeded
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.storage.steps import Unit
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import MOVES, Claim, NewTask, TaskStatus

EXAMPLES, STEPS = 25, 40
KEPT_FOR = timedelta(days=7)
LEAST_STUCK_TRIES = 3
OUTCOMES: dict[str, Outcome] = {
    "succeeds": EMPTY,
    "fails": Failed("ValueError", "no", "error"),
    "retries": Retrying("ValueError", "again", 5.0),
    "snoozes": Snoozed(5.0),
    "snoozes for no time": Snoozed(0.0),
    "is released": RELEASED,
    "cancels itself": Cancelled("handler", "why"),
}


@dataclass
class Life:
    """What the model knows of one task."""

    status: TaskStatus
    run_at: datetime
    max_attempts: int
    on_stuck: str
    priority: int
    attempt: int = 0
    fence: int = 0
    dispatcher: UUID | None = None
    cancel_asked: bool = False
    given_up: bool = False
    """Whether a rescue, not its run, ended it."""
    finished_at: datetime | None = None

    def move(self, status: TaskStatus) -> None:
        assert status in MOVES[self.status], f"{self.status} to {status} is not in the table"
        self.status = status

    def finish(self, status: TaskStatus, now: datetime, *, given_up: bool = False) -> None:
        self.move(status)
        self.finished_at, self.given_up = now, given_up

    def place(self, now: datetime, *, delay: float | None = None) -> None:
        """The one rule that places a row that may run."""
        if delay is not None:
            self.run_at = now + timedelta(seconds=delay)
        self.move(TaskStatus.SCHEDULED if self.run_at > now else TaskStatus.PENDING)
        self.dispatcher = None


@dataclass
class Model:
    """Every task that has a row."""

    now: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    lives: dict[UUID, Life] = field(default_factory=dict)

    def end(self, task_id: UUID, fence: int, outcome: Outcome) -> None:
        life = self.lives.get(task_id)
        if life is None or life.fence != fence:
            return
        if life.status is TaskStatus.RUNNING:
            self._end_running(life, outcome)
        elif isinstance(outcome, Succeeded) and (not life.status.finished or life.given_up):
            life.finish(TaskStatus.SUCCEEDED, self.now)

    def _end_running(self, life: Life, outcome: Outcome) -> None:
        match outcome:
            case Succeeded():
                life.finish(TaskStatus.SUCCEEDED, self.now)
            case _ if life.cancel_asked:
                life.finish(TaskStatus.CANCELLED, self.now)
            case Failed():
                life.finish(TaskStatus.FAILED, self.now)
            case Cancelled():
                life.finish(TaskStatus.CANCELLED, self.now)
            case Retrying(delay=delay):
                life.fence += 1
                life.place(self.now, delay=delay)
            case Snoozed(delay=delay):
                life.fence, life.attempt = life.fence + 1, life.attempt - 1
                life.place(self.now, delay=delay)
            case _:
                life.fence, life.attempt = life.fence + 1, life.attempt - 1
                life.place(self.now)

    def rescue(self, dispatcher: UUID) -> None:
        for life in self.lives.values():
            if life.status is not TaskStatus.RUNNING or life.dispatcher != dispatcher:
                continue
            if life.cancel_asked:
                life.finish(TaskStatus.CANCELLED, self.now)
            elif life.on_stuck == "interrupt":
                life.finish(TaskStatus.INTERRUPTED, self.now, given_up=True)
            elif life.on_stuck == "retry" and life.attempt < max(life.max_attempts, LEAST_STUCK_TRIES):
                life.place(self.now)
            else:
                life.finish(TaskStatus.FAILED, self.now, given_up=True)


class Lifecycle(RuleBasedStateMachine):
    """Does to a real database what it does to the model."""

    url: str
    tasks = Bundle("tasks")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.runner = asyncio.Runner()
        self.dispatchers = [new_id(), new_id()]
        self.storage: Storage = connect(self.url, clock=lambda: self.model.now)
        self.runner.run(self.storage.database.open())
        self.runner.run(migrations.migrate(self.storage.database))

    def teardown(self) -> None:
        ids = list(self.model.lives)
        if ids:
            self.do(lambda: self.storage.tasks.delete(ids, force=True))
        self.runner.run(self.storage.database.close())
        self.runner.close()

    def do(self, operation: Callable[[], Unit[Any]]) -> Any:
        return self.runner.run(self.storage.database.write(operation))

    # ── rules ─────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(target=tasks)
    def begin(self) -> MultipleResults[UUID]:
        return multiple(*(self.enqueue_one(None, most, on_stuck, 0) for most in (1, 3) for on_stuck in ON_STUCK))

    @rule(
        target=tasks,
        delay=st.sampled_from([None, 5.0]),
        max_attempts=st.integers(1, 4),
        on_stuck=st.sampled_from(ON_STUCK),
        priority=st.integers(-1, 1),
    )
    def enqueue(self, delay: float | None, max_attempts: int, on_stuck: str, priority: int) -> UUID:
        return self.enqueue_one(delay, max_attempts, on_stuck, priority)

    def enqueue_one(self, delay: float | None, max_attempts: int, on_stuck: str, priority: int) -> UUID:
        task_id, stuck = new_id(), ON_STUCK.index(on_stuck)
        row = NewTask(
            id=task_id, queue="q", alias="noop", priority=priority, run_at=None, delay=delay, payload="{}",
            max_attempts=max_attempts, timeout=None, on_stuck=stuck, owner_type=None, owner_id=None, source=None,
            parent_id=None, definition_id=None, external_id=None, serialization_key=None, strict=False, metadata=None,
            retention=None,
        )  # fmt: skip
        self.do(lambda: self.storage.tasks.enqueue([row]))
        status = TaskStatus.SCHEDULED if delay else TaskStatus.PENDING
        run_at = self.model.now + timedelta(seconds=delay or 0)
        self.model.lives[task_id] = Life(status, run_at, max_attempts, on_stuck, priority)
        return task_id

    @rule(seconds=st.sampled_from([1, 5, 60]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += timedelta(seconds=seconds)

    @rule()
    def promote(self) -> None:
        self.do(lambda: self.storage.tasks.promote(1000))
        for life in self.model.lives.values():
            if life.status is TaskStatus.SCHEDULED and life.run_at <= self.model.now:
                life.move(TaskStatus.PENDING)

    @rule(target=claims, who=st.integers(0, 1), most=st.integers(1, 3))
    def claim(self, who: int, most: int) -> MultipleResults[Claim]:
        me = self.dispatchers[who]
        got: list[Claim] = self.do(lambda: self.storage.tasks.claim(me, [("q", most)], ["noop"]))
        pending = [(one.priority, one.run_at, id_) for id_, one in self.model.lives.items() if one.status == "pending"]
        wanted = [id_ for _, _, id_ in sorted(pending)[:most]]
        assert {claim.id for claim in got} == set(wanted)
        for claim in got:
            life = self.model.lives[claim.id]
            life.move(TaskStatus.RUNNING)
            life.attempt, life.fence, life.dispatcher = life.attempt + 1, life.fence + 1, me
            assert (claim.attempt, claim.fence) == (life.attempt, life.fence)
        return multiple(*got)

    @rule(held=claims, how=st.sampled_from(sorted(OUTCOMES)), again=st.booleans())
    def end(self, held: Claim, how: str, *, again: bool) -> None:
        """Also claims that were lost long ago."""
        self.do(lambda: self.storage.tasks.record([(held, OUTCOMES[how])], again=again))
        self.model.end(held.id, held.fence, OUTCOMES[how])

    @rule(who=st.integers(0, 1))
    def rescue(self, who: int) -> None:
        self.do(lambda: self.storage.tasks.rescue(self.dispatchers[who], 1000))
        self.model.rescue(self.dispatchers[who])

    @rule(task_id=tasks, force=st.booleans())
    def cancel(self, task_id: UUID, *, force: bool) -> None:
        self.do(lambda: self.storage.tasks.cancel([task_id], "enough", force=force))
        life = self.model.lives.get(task_id)
        if life is None or life.status.finished:
            return
        if life.status is TaskStatus.RUNNING and not force:
            life.cancel_asked = True
        else:
            life.finish(TaskStatus.CANCELLED, self.model.now)

    @rule(task_id=tasks, force=st.booleans())
    def retry(self, task_id: UUID, *, force: bool) -> None:
        self.do(lambda: self.storage.tasks.retry([task_id], force=force))
        life = self.model.lives.get(task_id)
        if life is None or life.status is TaskStatus.RUNNING or (life.status is TaskStatus.SUCCEEDED and not force):
            return
        life.attempt, life.fence, life.run_at = 0, life.fence + 1, self.model.now
        life.cancel_asked, life.given_up, life.finished_at = False, False, None
        life.place(self.model.now)

    @rule(task_id=tasks, force=st.booleans())
    def delete(self, task_id: UUID, *, force: bool) -> None:
        self.do(lambda: self.storage.tasks.delete([task_id], force=force))
        life = self.model.lives.get(task_id)
        if life is not None and (force or life.status is not TaskStatus.RUNNING):
            del self.model.lives[task_id]

    @rule(week=st.booleans())
    def clean(self, *, week: bool) -> None:
        if week:
            self.model.now += KEPT_FOR
        self.do(lambda: self.storage.tasks.clean(1000))
        for task_id, life in list(self.model.lives.items()):
            if life.finished_at is not None and life.finished_at + KEPT_FOR <= self.model.now:
                del self.model.lives[task_id]

    # ── agreement ─────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def the_database_and_the_model_agree(self) -> None:
        everything = Listing.parse({})
        found = self.do(lambda: page(self.storage.tasks, everything))
        stored = {task.id: (task.status, task.attempt, task.run_at) for task in found}
        assert stored == {id_: (one.status, one.attempt, one.run_at) for id_, one in self.model.lives.items()}
        for task in found:
            assert (task.finished_at is not None) == task.status.finished
            assert (task.finish_reason is not None) == task.status.finished


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_databases_walk_the_lifecycle_as_the_model_does(url: str):
    machine = type("LifecycleHere", (Lifecycle,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
