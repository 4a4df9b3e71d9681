"""Every error, its tree drawn here.

TaskStoreError
├── ConfigurationError (ValueError)        an option, a handler or a URL that cannot work
│   ├── DuplicateHandlerError              two handlers under one alias
│   │   └── DuplicateAliasError            two stored definitions under one alias
│   ├── InvalidRecurrenceError             a recurrence without a meaning or an occurrence
│   ├── DuplicateScheduleError             two schedules under one name
│   └── NotInTransactionError              a connection was given, but nothing would commit it
├── DatabaseUnavailableError (ConnectionError)
├── SchemaOutdatedError                    the tables are older than this library
├── SchemaTooNewError                      the tables are newer than this library
├── UnknownAliasError (LookupError)
│   └── DefinitionNotFoundError            no definition is stored under this id or alias
├── DefinitionInactiveError
├── PayloadError (ValueError)              does not fit, cannot be stored, or is too large
│   └── PayloadFunctionError               a function made no payload for an occurrence
├── DuplicateTaskError                     the external id, or the id that the caller chose, is taken
├── TaskNotFoundError (LookupError)
├── ScheduleNotFoundError (LookupError)
├── NotCancellableError                    it has finished
├── InvalidTransitionError                 no such move from this status
├── InvalidQueryError (ValueError)
├── ClaimLostError                         somebody else owns the task now
├── HandlerReturnedFalseError              how an attempt of a class handler failed
├── TaskFailedError                        raised by `result()`; in `task_errors`
└── TaskCancelledError                     raised by `result()`; in `task_errors`
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from uuid import UUID

_SHOWN = 100
"""Characters of a caller's text that a message repeats."""


class TaskStoreError(Exception):
    """Base class of everything this library raises on purpose."""


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


class DuplicateAliasError(DuplicateHandlerError):
    """Another definition that is not deleted has this alias in the database."""

    alias: str
    existing_id: UUID

    def __init__(self, alias: str, existing: UUID) -> None:
        self.alias, self.existing_id = alias, existing
        ConfigurationError.__init__(
            self,
            f'A definition "{alias}" is stored already: {existing}. Update that one, or soft-delete it first.',
        )


class DuplicateScheduleError(ConfigurationError):
    """A schedule with this name exists already."""

    name: str
    existing_id: UUID | None

    def __init__(self, name: str, existing: UUID | None = None) -> None:
        self.name, self.existing_id = name, existing
        there = "" if existing is None else f": {existing}"
        super().__init__(
            f'A schedule "{name}" exists already{there}. Change that one by store.schedules.update, or give this one '
            "another name."
        )


class NotInTransactionError(ConfigurationError):
    """A connection was given that has no transaction open, so nothing would roll the task back."""

    def __init__(self, driver: str, begin: str) -> None:
        super().__init__(
            f"The {driver} connection commits by itself: no transaction is open on it, so the task would stay "
            f"even if your own work failed. Open one first ({begin}), or call .enqueue() without .using()."
        )


class InvalidRecurrenceError(ConfigurationError):
    """A recurrence that has no meaning or no occurrence."""


class DatabaseUnavailableError(TaskStoreError, ConnectionError):
    """The database cannot be reached, refused the connection, or did not answer in time."""

    nothing_done: bool = False
    """Whether it is certain that nothing of what was to be written has been kept."""
    connection_lost: bool = False
    """Whether a connection broke that had been open."""
    timed_out: bool = False
    """Whether a statement was not answered in time."""
    task_ids: tuple[UUID, ...] = ()
    """Raised by enqueuing: the tasks that may be stored all the same. Look for them before enqueuing again."""


class SchemaOutdatedError(TaskStoreError):
    """The tables are missing or older than this library needs."""

    wanted: int
    found: int | None

    def __init__(self, found: int | None, wanted: int, detail: str = "") -> None:
        self.found, self.wanted = found, wanted
        state = "are missing" if not found else f"are at version {found}"
        super().__init__(
            f"The tables {state}, and this library needs version {wanted}. "
            f"Run `aiotaskstore migrate`, or open the store with migrate=True.{detail and ' '}{detail}"
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


class DefinitionNotFoundError(UnknownAliasError):
    """No definition is stored under this id or alias, or it is soft-deleted."""

    alias: str

    def __init__(self, definition: UUID | str, hint: str = "") -> None:
        self.alias = str(definition)
        shown = definition if isinstance(definition, UUID) else f'"{definition[:_SHOWN]}"'
        LookupError.__init__(
            self,
            f"No definition {shown} is stored. It was never published, was deleted, or is soft-deleted "
            f"(store.definitions.list(include_deleted=True) shows those).{hint}",
        )


class DefinitionInactiveError(TaskStoreError):
    """The definition was cancelled by an operator, so it is neither enqueued nor claimed."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        super().__init__(f'The definition "{alias}" is cancelled. Activate it before enqueuing.')


class PayloadError(TaskStoreError, ValueError):
    """A payload or a result that does not fit its types, cannot be JSON, or is too large."""


class PayloadFunctionError(PayloadError):
    """A function made no payload for an occurrence of a schedule, which is skipped."""


class DuplicateTaskError(TaskStoreError):
    """A task with this external id exists already, or one with the id that the caller chose."""

    existing_id: UUID
    external_id: str | None
    """`None` where the id itself is taken."""
    alias: str
    positions: tuple[int, int] | None
    """Of two drafts of one `enqueue_many` that want the same id: which they are, from 0.

    Nothing is stored then, and `existing_id` is what the first would have had.
    """

    def __init__(
        self, alias: str, external_id: str | None, existing: UUID, *, positions: tuple[int, int] | None = None
    ) -> None:
        self.alias, self.external_id, self.existing_id, self.positions = alias, external_id, existing, positions
        if positions is not None:
            both = "drafts[{}] and drafts[{}] have the same".format(*positions)
            message = (
                f"{both} id {existing}, so nothing was stored: an id is used once. Leave one of them out, or leave id= "
                "out to have a new id made."
                if external_id is None
                else f'{both} external id "{external_id}" for "{alias}", so nothing was stored. Leave one of them out, '
                'or use on_conflict="return" in the second, which then gets the id of the first.'
            )
        elif external_id is None:
            message = (
                f'A task with the id {existing} exists already, so this task "{alias}" was not stored: an id is used '
                "once. Look at that task, or leave id= out to have a new id made."
            )
        else:
            message = (
                f'A task "{alias}" with the external id "{external_id}" exists already: {existing}. '
                'Use on_conflict="return" to get a handle to it.'
            )
        super().__init__(message)


class TaskNotFoundError(TaskStoreError, LookupError):
    """No row is kept under this id."""

    task_id: UUID | str
    """The id that was looked for; text where it is no UUID, hence an id that never was."""

    def __init__(self, task_id: UUID | str) -> None:
        self.task_id = task_id
        if isinstance(task_id, UUID):
            message = f"No task {task_id} is stored. It was never committed, was deleted, or its retention kept no row."
        else:
            shown = repr(task_id) if len(task_id) <= _SHOWN else f"{task_id[:_SHOWN]!r}…"
            message = f"No task {shown} is stored: an id is a UUID, and this text is none."
        super().__init__(message)


class ScheduleNotFoundError(TaskStoreError, LookupError):
    """No schedule has this id or name."""

    key: UUID | str

    def __init__(self, key: UUID | str) -> None:
        self.key = key
        what = f'"{key[:_SHOWN]}"' if isinstance(key, str) else str(key)
        super().__init__(f"There is no schedule {what}; store.schedules.list() returns those that there are.")


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
    """The status of the task, or of the schedule, does not allow this move."""

    status: str
    move: str
    task_id: UUID
    """The id of the task, or of the schedule."""

    def __init__(self, task_id: UUID, move: str, status: str, hint: str, *, kind: str = "Task") -> None:
        self.task_id, self.move, self.status = task_id, move, status
        super().__init__(f"{kind} {task_id} is {status}: cannot {move} it. {hint}")


class InvalidQueryError(TaskStoreError, ValueError):
    """A filter that cannot be meant; raised before any SQL runs."""


class ClaimLostError(TaskStoreError):
    """This run no longer owns its task: it was rescued, cancelled by force, or deleted."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        super().__init__(f"Task {task_id} is no longer claimed by this run; what it writes is dropped.")


class HandlerReturnedFalseError(TaskStoreError):
    """The `handle` of a class handler returned `False`: the attempt failed."""

    def __init__(self) -> None:
        super().__init__("handler returned False")
