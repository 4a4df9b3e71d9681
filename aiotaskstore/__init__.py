"""An asyncio-native, durable task queue that lives in the database you already have.

The public names stand in `public_names.py`, and below by the module that defines them. Each is imported when it is
first asked for, so that nobody pays for what they do not use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiotaskstore.public_names import *  # noqa: F403 - they are listed there
    from aiotaskstore.public_names import __all__ as __all__
else:
    del TYPE_CHECKING

    from aiotaskstore.mechanics.names_on_demand import names_on_demand

    __getattr__, __dir__, __all__ = names_on_demand(
        globals(),
        {
            "backoff": "Backoff constant exponential fibonacci steps",
            "carrier": "Carrier OutgoingTask",
            "context": "TaskContext current_context",
            "definition": "Draft TaskDefinition",
            "definition_record": "Definition DefinitionStatus",
            "directives": "Cancel Fail Retry Snooze is_retryable",
            "dispatch.dispatcher": "Dispatcher",
            "dispatch.dispatcher_settings": "DispatcherOptions",
            "errors": (
                "ClaimLostError ConfigurationError DatabaseUnavailableError DefinitionInactiveError "
                "DefinitionNotFoundError DuplicateAliasError DuplicateHandlerError DuplicateScheduleError "
                "DuplicateTaskError HandlerReturnedFalseError InvalidQueryError InvalidRecurrenceError "
                "InvalidTransitionError NotCancellableError NotInTransactionError PayloadError "
                "PayloadFunctionError ScheduleNotFoundError SchemaOutdatedError SchemaTooNewError "
                "TaskNotFoundError TaskStoreError UnknownAliasError"
            ),
            "events": (
                "AttemptFailed BackgroundEnded BackgroundFailed BackgroundRecovered ClaimLost DispatcherOutdated "
                "DispatcherStarted DispatcherStopped Event ListenerFailed QueuesMeasured ScheduleFired TaskClaimed "
                "TaskEnqueued TaskFinished TaskRescued TaskRetried TasksClaimed TaskStarted"
            ),
            "finding": "Finding Severity",
            "finish_reason": "FinishReason",
            "handle": "TaskHandle",
            "health": "DispatcherHealth StoreHealth",
            "manage.changing": "TaskChanges",
            "manage.definitions": "DefinitionChanges DefinitionFilters",
            "manage.dispatcher_info": "DispatcherInfo",
            "manage.queues": "QueueInfo",
            "manage.schedules": "ScheduleFilters",
            "middleware": "CallNext Middleware",
            "noop_task": "noop",
            "observe.log_filter": "TaskLogFilter",
            "options": "TaskOptions",
            "protocols": "EnqueueableTask EnqueuedTask HandlerContext HandlerStore TaskEnqueuer TaskReader",
            "queue": "Queue",
            "queue_measurement": "QueueMeasurement",
            "recurrence": "Cron DayOfWeek Every Frequency MonthOfYear Once Recurrence RecurrenceRule",
            "retention": "Retention",
            "router": "TaskRouter",
            "schedule": "Schedule ScheduleChanges ScheduleOptions ScheduleStatus",
            "storage.filters": "TaskFilters TaskSelection",
            "store_options": "StoreOptions",
            "task": "AttemptError Progress Task TaskStatus",
            "task_errors": "TaskCancelledError TaskFailedError",
            "task_handler": "TaskHandler",
            "taskstore": "TaskStore",
        },
    )
    del names_on_demand
