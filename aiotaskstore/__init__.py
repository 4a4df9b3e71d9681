"""An asyncio-native, durable task queue that lives in the database you already have."""

from aiotaskstore.backoff import constant, exponential, fibonacci, steps
from aiotaskstore.context import TaskContext, current_context
from aiotaskstore.definition import Draft, TaskDefinition
from aiotaskstore.definition_record import Definition
from aiotaskstore.directives import Cancel, Fail, Retry, Snooze, is_retryable
from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.errors import (
    ClaimLostError,
    ConfigurationError,
    DatabaseUnavailableError,
    DefinitionInactiveError,
    DuplicateHandlerError,
    DuplicateTaskError,
    InvalidQueryError,
    InvalidRecurrenceError,
    InvalidTransitionError,
    NotCancellableError,
    NotInTransactionError,
    PayloadError,
    SchemaOutdatedError,
    SchemaTooNewError,
    TaskCancelledError,
    TaskFailedError,
    TaskNotFoundError,
    TaskStoreError,
    UnknownAliasError,
)
from aiotaskstore.events import (
    AttemptFailed,
    ClaimLost,
    DispatcherStarted,
    DispatcherStopped,
    Event,
    LoopTroubled,
    TaskClaimed,
    TaskEnqueued,
    TaskFinished,
    TaskRescued,
    TaskRetried,
    TaskStarted,
)
from aiotaskstore.handle import TaskHandle
from aiotaskstore.noop import noop
from aiotaskstore.options import TaskOptions
from aiotaskstore.queue import Queue
from aiotaskstore.retention import Retention
from aiotaskstore.router import TaskRouter
from aiotaskstore.storage.listing import TaskFilters
from aiotaskstore.task import AttemptError, Progress, Task, TaskStatus
from aiotaskstore.taskstore import TaskStore

__all__ = [
    "AttemptError",
    "AttemptFailed",
    "Cancel",
    "ClaimLost",
    "ClaimLostError",
    "ConfigurationError",
    "DatabaseUnavailableError",
    "Definition",
    "DefinitionInactiveError",
    "Dispatcher",
    "DispatcherStarted",
    "DispatcherStopped",
    "Draft",
    "DuplicateHandlerError",
    "DuplicateTaskError",
    "Event",
    "Fail",
    "InvalidQueryError",
    "InvalidRecurrenceError",
    "InvalidTransitionError",
    "LoopTroubled",
    "NotCancellableError",
    "NotInTransactionError",
    "PayloadError",
    "Progress",
    "Queue",
    "Retention",
    "Retry",
    "SchemaOutdatedError",
    "SchemaTooNewError",
    "Snooze",
    "Task",
    "TaskCancelledError",
    "TaskClaimed",
    "TaskContext",
    "TaskDefinition",
    "TaskEnqueued",
    "TaskFailedError",
    "TaskFilters",
    "TaskFinished",
    "TaskHandle",
    "TaskNotFoundError",
    "TaskOptions",
    "TaskRescued",
    "TaskRetried",
    "TaskRouter",
    "TaskStarted",
    "TaskStatus",
    "TaskStore",
    "TaskStoreError",
    "UnknownAliasError",
    "constant",
    "current_context",
    "exponential",
    "fibonacci",
    "is_retryable",
    "noop",
    "steps",
]
