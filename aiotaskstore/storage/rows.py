"""Converts rows to values of the library, such as `Task`, and back."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiotaskstore.definition_record import Definition, DefinitionStatus
from aiotaskstore.metadata import load_metadata
from aiotaskstore.retention import Retention
from aiotaskstore.storage.side_rows import SideRows
from aiotaskstore.storage.statements import read
from aiotaskstore.task import Claim, Task, TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.operation import Row

CODES: dict[TaskStatus, int] = {status: int(read("shared")[1][status]) for status in TaskStatus}
"""How a status is stored: `shared.sql` says it."""

STATUSES = {code: status for status, code in CODES.items()}

ON_STUCK = ("retry", "fail", "interrupt")
"""How `on_stuck` is stored: by its place here."""


def task_from(row: Row, database: Database, side_rows: SideRows) -> Task:
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
    errors = side_rows.errors.get(task_id, [])
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
        errors_left_out=side_rows.errors_left_out.get(task_id, 0),
        details="\n".join(side_rows.details.get(task_id, ())),
        details_left_out=side_rows.details_left_out.get(task_id, 0),
        progress=side_rows.progress.get(task_id),
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
        metadata=load_metadata(metadata),
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
        metadata=load_metadata(claim.metadata),
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
    """Make a Definition of a row of the column list `definition_record`."""
    id_, alias, title, description, memo, status, created_at, updated_at, deleted_at, defaults = row
    return Definition(
        id=database.uid(id_),
        alias=alias,
        title=title,
        description=description,
        memo=memo,
        status=DefinitionStatus(status),
        created_at=database.instant(created_at),
        updated_at=database.instant(updated_at),
        deleted_at=database.maybe_instant(deleted_at),
        defaults=json.loads(defaults),
    )


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
