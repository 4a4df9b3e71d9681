"""Row ⇄ value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiotaskstore.definition_record import Definition
from aiotaskstore.retention import Retention
from aiotaskstore.task import AttemptError, Claim, Progress, Task, TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.steps import Row

CODES: dict[TaskStatus, int] = {
    TaskStatus.SCHEDULED: 0,
    TaskStatus.PENDING: 1,
    TaskStatus.WAITING: 2,
    TaskStatus.RUNNING: 3,
    TaskStatus.PAUSED: 4,
    TaskStatus.SUCCEEDED: 5,
    TaskStatus.FAILED: 6,
    TaskStatus.CANCELLED: 7,
    TaskStatus.INTERRUPTED: 8,
}
"""How a status is stored."""

STATUSES = {code: status for status, code in CODES.items()}

ON_STUCK = ("retry", "fail", "interrupt")
"""How `on_stuck` is stored: by its place here."""


class Beside:
    """What stands beside tasks' rows: their errors, progress and details, by task id."""

    def __init__(self) -> None:
        self.errors: dict[UUID, list[AttemptError]] = {}
        self.progress: dict[UUID, Progress] = {}
        self.details: dict[UUID, list[str]] = {}


def task_from(row: Row, database: Database, beside: Beside) -> Task:
    """Make a Task of a row of both column lists, `kept` and `ended`."""
    (
        id_, queue, alias, status, priority, run_at, payload, attempt, max_attempts, timeout, _fence, _on_stuck,
        owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, _strict,
        metadata, retention, cancel_requested_at, cancel_reason, dispatcher_id,
        created_at, updated_at, started_at, deleted_at,
        result, error, finish_reason, finished_at, cancelled_at, expires_at,
    ) = row  # fmt: skip
    instant = database.maybe_instant
    task_id = database.uid(id_)
    errors = beside.errors.get(task_id, [])
    if error is None and errors and STATUSES[status] is not TaskStatus.SUCCEEDED:
        error = f"{errors[-1].type}: {errors[-1].message}"
    return Task(
        id=task_id,
        alias=alias,
        queue=queue,
        status=STATUSES[status],
        payload=_json(payload),
        result=_json(result),
        error=error,
        errors=errors,
        details="\n".join(beside.details.get(task_id, ())),
        progress=beside.progress.get(task_id),
        attempt=attempt,
        max_attempts=max_attempts,
        priority=priority,
        run_at=database.instant(run_at),
        timeout=None if timeout is None else timedelta(seconds=timeout),
        owner=None if owner_type is None else (owner_type, owner_id or ""),
        source=source,
        parent_id=database.maybe_uid(parent_id),
        definition_id=database.maybe_uid(definition_id),
        external_id=external_id,
        serialization_key=serialization_key,
        metadata=_json(metadata) or {},
        retention=Retention.load(retention),
        finish_reason=finish_reason,
        cancel_reason=cancel_reason,
        cancel_requested_at=instant(cancel_requested_at),
        dispatcher_id=database.maybe_uid(dispatcher_id),
        created_at=database.instant(created_at),
        updated_at=database.instant(updated_at),
        started_at=instant(started_at),
        finished_at=instant(finished_at),
        cancelled_at=instant(cancelled_at),
        expires_at=instant(expires_at),
        deleted_at=instant(deleted_at),
    )


def running_task(claim: Claim, dispatcher_id: UUID, database: Database) -> Task:
    """Make the Task that a claim is for, as it stood when it was claimed."""
    started_at = database.instant(claim.started_at)
    return Task(
        id=claim.id,
        alias=claim.alias,
        queue=claim.queue,
        status=TaskStatus.RUNNING,
        payload=_json(claim.payload),
        errors=[],
        attempt=claim.attempt,
        max_attempts=claim.max_attempts,
        priority=claim.priority,
        run_at=database.instant(claim.run_at),
        timeout=None if claim.timeout is None else timedelta(seconds=claim.timeout),
        owner=None if claim.owner_type is None else (claim.owner_type, claim.owner_id or ""),
        source=claim.source,
        parent_id=database.maybe_uid(claim.parent_id),
        definition_id=database.maybe_uid(claim.definition_id),
        external_id=claim.external_id,
        serialization_key=claim.serialization_key,
        metadata=_json(claim.metadata) or {},
        retention=Retention.load(claim.retention),
        finish_reason=None,
        cancel_reason=None,
        cancel_requested_at=None,
        dispatcher_id=dispatcher_id,
        created_at=database.instant(claim.created_at),
        updated_at=started_at,
        started_at=started_at,
    )


def definition_from(row: Row, database: Database) -> Definition:
    """Make a Definition of a row of statement `definition`."""
    id_, alias, title, description, memo, status, created_at, updated_at, deleted_at, defaults = row
    return Definition(
        id=database.uid(id_),
        alias=alias,
        title=title,
        description=description,
        memo=memo,
        status=status,
        created_at=database.instant(created_at),
        updated_at=database.instant(updated_at),
        deleted_at=database.maybe_instant(deleted_at),
        defaults=json.loads(defaults),
    )


def read_beside(database: Database, errors: Sequence[Row], progress: Sequence[Row], details: Sequence[Row]) -> Beside:
    """Sort the rows of the side tables by task."""
    beside = Beside()
    for task_id, attempt, at, type_, message in errors:
        error = AttemptError(attempt, database.instant(at), type_, message)
        beside.errors.setdefault(database.uid(task_id), []).append(error)
    for task_id, text, fraction, at in progress:
        beside.progress[database.uid(task_id)] = Progress(text, fraction, database.instant(at))
    for task_id, text in details:
        beside.details.setdefault(database.uid(task_id), []).append(text)
    return beside


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
