"""The kinds of actions on stored tasks: what each does, what dispatchers hear of it, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.hint import ANY_QUEUE, CANCEL_REQUESTED, NOTHING, SCHEDULED, Hint, queue_hint
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage.operation import Operation
from aiotaskstore.storage.tasks import ActionResult, Changes, Payloads, Still, Tasks
from aiotaskstore.storage.transitions import Marked
from aiotaskstore.task import Task, TaskStatus

Results = dict[UUID, ActionResult]
Starting = Callable[[Tasks, Sequence[UUID], Still | None], Operation[Results]]
NO_STATUS: frozenset[TaskStatus] = frozenset()
_ANY_STATUS = frozenset(TaskStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One kind of action on tasks."""

    move: str
    """Its name, for a refusal."""
    start: Starting
    """Returns the operation for some tasks, with everything decided that it needs."""
    hint: Callable[[Results], Hint]
    """Returns the hint that dispatchers get after its commit."""
    refusal: Callable[[ActionResult], str] = lambda _result: ""
    """Returns what the caller may do about a refusal."""
    idempotent: frozenset[TaskStatus] = NO_STATUS
    """The statuses in which a task that is left as it was is as it should be."""
    ended: Callable[[Task], Task] | None = None
    """Returns the value of a task that this has ended, where no row of it is kept."""


def cancel(reason: str, *, force: bool) -> Action:
    """Cancel tasks. If one of them runs, dispatchers look for its cancel request."""

    def hint(results: Results) -> Hint:
        running = any(result.done and result.status is TaskStatus.RUNNING for result in results.values())
        return CANCEL_REQUESTED if running else NOTHING

    def ended(task: Task) -> Task:
        return replace(
            task, status=TaskStatus.CANCELLED, finish_reason=FinishReason.REQUEST.value, cancel_reason=reason
        )

    return Action(
        move="cancel",
        start=lambda tasks, ids, still: partial(tasks.cancel, ids, reason, force=force, still=still),
        hint=hint,
        ended=ended,
    )


def retry(*, force: bool) -> Action:
    """Run tasks again. After that, any queue may have work."""

    def refusal(result: ActionResult) -> str:
        if result.payload_gone:
            return "Its retention did not keep the payload, so there is nothing to run it with."
        if result.status is TaskStatus.SUCCEEDED:
            return "Pass force=True to run a succeeded task again."
        return "Wait for its end, or cancel it."

    return Action(
        move="retry",
        start=lambda tasks, ids, still: partial(tasks.retry, ids, force=force, still=still),
        hint=_work,
        refusal=refusal,
    )


def delete(*, force: bool) -> Action:
    """Delete tasks, of which no dispatcher needs to know."""
    return Action(
        move="delete",
        start=lambda tasks, ids, still: partial(tasks.delete, ids, force=force, still=still),
        hint=_nothing,
        refusal=lambda _result: "Cancel it first, or pass force=True.",
    )


def mark(ends: Mapping[str | None, Marked], *, succeeded: bool) -> Action:
    """End tasks as somebody says, each by its alias; under `None` stands what is said of every other alias."""
    status = TaskStatus.SUCCEEDED if succeeded else TaskStatus.FAILED

    def refusal(result: ActionResult) -> str:
        if result.status is TaskStatus.SUCCEEDED:
            return "To run it again, use retry with force=True."
        return "To run it after all, use retry."

    return Action(
        move=f"mark as {status}",
        start=lambda tasks, ids, still: partial(tasks.mark, ids, ends, still=still),
        hint=_nothing,
        refusal=refusal,
        idempotent=frozenset({TaskStatus.SUCCEEDED}) if succeeded else NO_STATUS,
        ended=lambda task: replace(task, status=status, finish_reason=FinishReason.FORCED.value),
    )


def pause() -> Action:
    """Set tasks aside."""
    return Action(
        move="pause",
        start=lambda tasks, ids, still: partial(tasks.pause, ids, still=still),
        hint=_nothing,
        refusal=_only("scheduled, pending or waiting"),
    )


def resume() -> Action:
    """Place tasks that were set aside."""
    return Action(
        move="resume",
        start=lambda tasks, ids, still: partial(tasks.resume, ids, still=still),
        hint=_placed,
        refusal=_only("paused"),
    )


def reschedule(run_at: datetime | None, delay: float | None) -> Action:
    """Give tasks another due time."""
    return Action(
        move="reschedule",
        start=lambda tasks, ids, still: partial(tasks.reschedule, ids, run_at, delay, still=still),
        hint=_placed,
        refusal=_only("scheduled, pending, waiting or paused", "To run a finished one again, use retry."),
    )


def soft_delete() -> Action:
    """Hide tasks."""
    return Action(
        move="soft-delete",
        start=lambda tasks, ids, still: partial(tasks.soft_delete, ids, still=still),
        hint=_nothing,
        idempotent=_ANY_STATUS,
    )


def restore() -> Action:
    """Show hidden tasks again."""
    return Action(
        move="restore",
        start=lambda tasks, ids, still: partial(tasks.restore, ids, still=still),
        hint=_placed,
        idempotent=_ANY_STATUS,
    )


def update(changes: Changes, payloads: Payloads | None) -> Action:
    """Write values of tasks."""
    return Action(
        move="update",
        start=lambda tasks, ids, still: partial(tasks.update, ids, changes, payloads, still=still),
        hint=_work,
        refusal=lambda _result: "Wait for its end, or clone it.",
    )


def clone(queue: str | None, payloads: Payloads | None, *, without: Collection[str]) -> Action:
    """Store new tasks like these, but for `without` of these aliases."""

    def start(tasks: Tasks, ids: Sequence[UUID], still: Still | None) -> Operation[Results]:
        return partial(tasks.clone, {id_: new_id() for id_ in ids}, queue, payloads, without=without, still=still)

    def hint(results: Results) -> Hint:
        return queue_hint(*sorted({result.copied.queue for result in results.values() if result.copied}))

    return Action(
        move="clone",
        start=start,
        hint=hint,
        refusal=lambda _result: "Its retention did not keep the payload; give one with payload=.",
    )


def _only(statuses: str, advice: str = "") -> Callable[[ActionResult], str]:
    sentence = f"Only what is {statuses} can be."
    return lambda _result: f"{sentence} {advice}".rstrip()


def _changed(results: Results) -> bool:
    return any(result.done for result in results.values())


def _nothing(_results: Results) -> Hint:
    return NOTHING


def _work(results: Results) -> Hint:
    return ANY_QUEUE if _changed(results) else NOTHING


def _placed(results: Results) -> Hint:
    return ANY_QUEUE | SCHEDULED if _changed(results) else NOTHING
