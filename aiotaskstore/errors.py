"""Every error, its tree drawn here.

TaskStoreError
├── ConfigurationError (ValueError)        an option, a handler or a URL that cannot work
│   ├── DuplicateHandlerError              two handlers under one alias
│   └── NotInTransactionError              a connection was given, but nothing would commit it
├── DatabaseUnavailableError (ConnectionError)
├── SchemaOutdatedError                    the tables are older than this library
├── SchemaTooNewError                      the tables are newer than this library
├── UnknownAliasError (LookupError)
├── DefinitionInactiveError
├── PayloadError (ValueError)              does not fit, cannot be stored, or is too large
├── DuplicateTaskError                     the external id is taken
├── TaskNotFoundError (LookupError)
├── NotCancellableError                    it has finished
├── InvalidTransitionError                 no such move from this status
├── InvalidQueryError (ValueError)
├── InvalidRecurrenceError (ValueError)
├── ClaimLostError                         somebody else owns the task now
├── TaskFailedError                        raised by `result()`
└── TaskCancelledError                     raised by `result()`
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from aiotaskstore.task import Task


class TaskStoreError(Exception):
    """Root of everything this library raises on purpose."""


class ConfigurationError(TaskStoreError, ValueError):
    """An option, a handler or a URL that cannot work; raised before anything is stored."""


class DuplicateHandlerError(ConfigurationError):
    """Two different handlers were registered under one alias."""

    def __init__(self, alias: str, taken: str) -> None:
        self.alias = alias
        super().__init__(
            f'An alias must belong to one handler, but "{alias}" is taken by "{taken}" '
            '(upper and lower case, "-" and "_" count as equal). Give one of them another alias=.'
        )


class NotInTransactionError(ConfigurationError):
    """A connection was given that has no transaction open, so nothing would roll the task back."""

    def __init__(self, driver: str, begin: str) -> None:
        super().__init__(
            f"The {driver} connection commits by itself: no transaction is open on it, so the task would stay "
            f"even if your own work failed. Open one first ({begin}), or call .enqueue() without .using()."
        )


class DatabaseUnavailableError(TaskStoreError, ConnectionError):
    """The database cannot be reached, refused us, or did not answer in time."""


class SchemaOutdatedError(TaskStoreError):
    """The tables are missing or older than this library needs."""

    wanted: int
    found: int | None

    def __init__(self, found: int | None, wanted: int) -> None:
        self.found, self.wanted = found, wanted
        state = "are missing" if not found else f"are at version {found}"
        super().__init__(
            f"The tables {state}, and this library needs version {wanted}. "
            "Run `aiotaskstore migrate`, or open the store with migrate=True."
        )


class SchemaTooNewError(TaskStoreError):
    """The tables were migrated by a newer version of this library."""

    wanted: int
    found: int

    def __init__(self, found: int, wanted: int) -> None:
        self.found, self.wanted = found, wanted
        super().__init__(
            f"The tables are at version {found}, newer than version {wanted} which this library knows. "
            "Upgrade aiotaskstore in this environment."
        )


class UnknownAliasError(TaskStoreError, LookupError):
    """No task is registered, here or in the database, under this alias."""

    def __init__(self, alias: str, known: Iterable[str]) -> None:
        self.alias = alias
        known = sorted(known)
        near = difflib.get_close_matches(alias, known, n=1)
        if near:
            hint = f'Did you mean "{near[0]}"?'
        elif known:
            hint = f"Known: {', '.join(known[:10])}{', …' if len(known) > 10 else ''}."  # noqa: PLR2004
        else:
            hint = "None is registered yet: import the module that declares it, or pass unchecked=True."
        super().__init__(f'No task is registered as "{alias}". {hint}')


class DefinitionInactiveError(TaskStoreError):
    """The definition was cancelled by an operator, so it is neither enqueued nor claimed."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        super().__init__(f'The definition "{alias}" is cancelled. Activate it before enqueuing.')


class PayloadError(TaskStoreError, ValueError):
    """A payload or a result that does not fit its types, cannot be JSON, or is too large."""


class DuplicateTaskError(TaskStoreError):
    """A task with this external id exists already."""

    existing_id: UUID
    external_id: str
    alias: str

    def __init__(self, alias: str, external_id: str, existing: UUID) -> None:
        self.alias, self.external_id, self.existing_id = alias, external_id, existing
        super().__init__(
            f'A task "{alias}" with the external id "{external_id}" exists already: {existing}. '
            'Use on_conflict="return" to get a handle to it.'
        )


class TaskNotFoundError(TaskStoreError, LookupError):
    """No row is kept under this id."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        super().__init__(
            f"No task {task_id} is stored. It was never committed, was deleted, or its retention kept no row."
        )


class NotCancellableError(TaskStoreError):
    """The task has finished, so there is nothing left to cancel."""

    status: str
    task_id: UUID

    def __init__(self, task_id: UUID, status: str) -> None:
        self.task_id, self.status = task_id, status
        super().__init__(
            f"Task {task_id} is {status}: only an unfinished task can be cancelled. "
            "Pass strict=False to get False instead of this error."
        )


class InvalidTransitionError(TaskStoreError):
    """The task's status does not allow this move."""

    status: str
    move: str
    task_id: UUID

    def __init__(self, task_id: UUID, move: str, status: str, hint: str) -> None:
        self.task_id, self.move, self.status = task_id, move, status
        super().__init__(f"Task {task_id} is {status}: cannot {move} it. {hint}")


class InvalidQueryError(TaskStoreError, ValueError):
    """A filter that cannot be meant; raised before any SQL runs."""


class InvalidRecurrenceError(TaskStoreError, ValueError):
    """A recurrence that has no meaning or no occurrence."""


class ClaimLostError(TaskStoreError):
    """This run no longer owns its task: it was rescued, cancelled by force, or deleted."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        super().__init__(f"Task {task_id} is no longer claimed by this run; what it writes is dropped.")


class TaskFailedError(TaskStoreError):
    """The awaited task failed, or was interrupted."""

    def __init__(self, task: Task) -> None:
        self.task = task
        super().__init__(f"Task {task.id} ({task.alias}) {task.status}: {task.error or task.finish_reason}")


class TaskCancelledError(TaskStoreError):
    """The awaited task was cancelled."""

    def __init__(self, task: Task) -> None:
        self.task = task
        reason = f": {task.cancel_reason}" if task.cancel_reason else ""
        super().__init__(f"Task {task.id} ({task.alias}) was cancelled{reason}")
