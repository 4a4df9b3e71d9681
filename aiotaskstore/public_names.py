"""The public names, as `aiotaskstore` exports them."""

from aiotaskstore.backoff import Backoff, constant, exponential, fibonacci, steps
from aiotaskstore.carrier import Carrier, OutgoingTask
from aiotaskstore.context import TaskContext, current_context
from aiotaskstore.definition import Draft, TaskDefinition
from aiotaskstore.definition_record import Definition, DefinitionStatus
from aiotaskstore.directives import Cancel, Fail, Retry, Snooze, is_retryable
from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.dispatch.dispatcher_settings import DispatcherOptions
from aiotaskstore.errors import (
    ClaimLostError,
    ConfigurationError,
    DatabaseUnavailableError,
    DefinitionInactiveError,
    DefinitionNotFoundError,
    DuplicateAliasError,
    DuplicateHandlerError,
    DuplicateScheduleError,
    DuplicateTaskError,
    HandlerReturnedFalseError,
    InvalidQueryError,
    InvalidRecurrenceError,
    InvalidTransitionError,
    NotCancellableError,
    NotInTransactionError,
    PayloadError,
    PayloadFunctionError,
    ScheduleNotFoundError,
    SchemaOutdatedError,
    SchemaTooNewError,
    TaskNotFoundError,
    TaskStoreError,
    UnknownAliasError,
)
from aiotaskstore.events import (
    AttemptFailed,
    BackgroundEnded,
    BackgroundFailed,
    BackgroundRecovered,
    ClaimLost,
    DispatcherOutdated,
    DispatcherStarted,
    DispatcherStopped,
    Event,
    ListenerFailed,
    QueuesMeasured,
    ScheduleFired,
    TaskClaimed,
    TaskEnqueued,
    TaskFinished,
    TaskRescued,
    TaskRetried,
    TasksClaimed,
    TaskStarted,
)
from aiotaskstore.finding import Finding, Severity
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.handle import TaskHandle
from aiotaskstore.health import DispatcherHealth, StoreHealth
from aiotaskstore.manage.changing import TaskChanges
from aiotaskstore.manage.definitions import DefinitionChanges, DefinitionFilters
from aiotaskstore.manage.dispatcher_info import DispatcherInfo
from aiotaskstore.manage.queues import QueueInfo
from aiotaskstore.manage.schedules import ScheduleFilters
from aiotaskstore.middleware import CallNext, Middleware
from aiotaskstore.noop_task import noop
from aiotaskstore.observe.log_filter import TaskLogFilter
from aiotaskstore.options import TaskOptions
from aiotaskstore.protocols import (
    EnqueueableTask,
    EnqueuedTask,
    HandlerContext,
    HandlerStore,
    TaskEnqueuer,
    TaskReader,
)
from aiotaskstore.queue import Queue
from aiotaskstore.queue_measurement import QueueMeasurement
from aiotaskstore.recurrence import (
    Cron,
    DayOfWeek,
    Every,
    Frequency,
    MonthOfYear,
    Once,
    Recurrence,
    RecurrenceRule,
)
from aiotaskstore.retention import Retention
from aiotaskstore.router import TaskRouter
from aiotaskstore.schedule import Schedule, ScheduleChanges, ScheduleOptions, ScheduleStatus
from aiotaskstore.storage.filters import TaskFilters, TaskSelection
from aiotaskstore.store_options import StoreOptions
from aiotaskstore.task import AttemptError, Progress, Task, TaskStatus
from aiotaskstore.task_errors import TaskCancelledError, TaskFailedError
from aiotaskstore.task_handler import TaskHandler
from aiotaskstore.taskstore import TaskStore

__all__ = [
    "AttemptError",
    "AttemptFailed",
    "BackgroundEnded",
    "BackgroundFailed",
    "BackgroundRecovered",
    "Backoff",
    "CallNext",
    "Cancel",
    "Carrier",
    "ClaimLost",
    "ClaimLostError",
    "ConfigurationError",
    "Cron",
    "DatabaseUnavailableError",
    "DayOfWeek",
    "Definition",
    "DefinitionChanges",
    "DefinitionFilters",
    "DefinitionInactiveError",
    "DefinitionNotFoundError",
    "DefinitionStatus",
    "Dispatcher",
    "DispatcherHealth",
    "DispatcherInfo",
    "DispatcherOptions",
    "DispatcherOutdated",
    "DispatcherStarted",
    "DispatcherStopped",
    "Draft",
    "DuplicateAliasError",
    "DuplicateHandlerError",
    "DuplicateScheduleError",
    "DuplicateTaskError",
    "EnqueueableTask",
    "EnqueuedTask",
    "Event",
    "Every",
    "Fail",
    "Finding",
    "FinishReason",
    "Frequency",
    "HandlerContext",
    "HandlerReturnedFalseError",
    "HandlerStore",
    "InvalidQueryError",
    "InvalidRecurrenceError",
    "InvalidTransitionError",
    "ListenerFailed",
    "Middleware",
    "MonthOfYear",
    "NotCancellableError",
    "NotInTransactionError",
    "Once",
    "OutgoingTask",
    "PayloadError",
    "PayloadFunctionError",
    "Progress",
    "Queue",
    "QueueInfo",
    "QueueMeasurement",
    "QueuesMeasured",
    "Recurrence",
    "RecurrenceRule",
    "Retention",
    "Retry",
    "Schedule",
    "ScheduleChanges",
    "ScheduleFilters",
    "ScheduleFired",
    "ScheduleNotFoundError",
    "ScheduleOptions",
    "ScheduleStatus",
    "SchemaOutdatedError",
    "SchemaTooNewError",
    "Severity",
    "Snooze",
    "StoreHealth",
    "StoreOptions",
    "Task",
    "TaskCancelledError",
    "TaskChanges",
    "TaskClaimed",
    "TaskContext",
    "TaskDefinition",
    "TaskEnqueued",
    "TaskEnqueuer",
    "TaskFailedError",
    "TaskFilters",
    "TaskFinished",
    "TaskHandle",
    "TaskHandler",
    "TaskLogFilter",
    "TaskNotFoundError",
    "TaskOptions",
    "TaskReader",
    "TaskRescued",
    "TaskRetried",
    "TaskRouter",
    "TaskSelection",
    "TaskStarted",
    "TaskStatus",
    "TaskStore",
    "TaskStoreError",
    "TasksClaimed",
    "UnknownAliasError",
    "constant",
    "current_context",
    "exponential",
    "fibonacci",
    "is_retryable",
    "noop",
    "steps",
]
