"""The log records of events, with all their texts."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from uuid import UUID

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
    ScheduleFired,
    TaskFinished,
    TaskRescued,
    TaskRetried,
    TaskStarted,
)
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.duration import written
from aiotaskstore.mechanics.text import on_one_line
from aiotaskstore.mechanics.tracebacks import theirs
from aiotaskstore.task import TaskStatus

_log = logging.getLogger("aiotaskstore.dispatcher")


def log_events(hooks: Hooks) -> None:
    """Log events: at INFO the start and the end of each run, above INFO failures."""
    # If INFO is not logged, no event is made for a run without failures.
    info_is_logged = partial(_log.isEnabledFor, logging.INFO)
    hooks.on(TaskStarted, _run_started, info_is_logged)
    hooks.on(TaskFinished, _run_finished, info_is_logged)
    hooks.on(TaskRetried, _run_released, info_is_logged)
    hooks.on(AttemptFailed, _attempt_failed)
    hooks.on(ClaimLost, _claim_lost)
    hooks.on(TaskRescued, _rescued)
    hooks.on(ScheduleFired, _fired, info_is_logged)
    hooks.on(DispatcherStarted, _started)
    hooks.on(DispatcherStopped, _stopped)
    hooks.on(DispatcherOutdated, _outdated)
    hooks.on(BackgroundFailed, _background_failed)
    hooks.on(BackgroundRecovered, _background_recovered)
    hooks.on(BackgroundEnded, _background_ended)


def _run_started(event: TaskStarted) -> None:
    _log.info(
        "%s %s started (queue %s, attempt %d)", event.alias, event.task_id, event.queue, event.attempt,
        extra=_fields(event),
    )  # fmt: skip


def _run_finished(event: TaskFinished) -> None:
    if event.error is not None:
        return  # logged with its traceback by _attempt_failed
    why = "" if event.status is TaskStatus.SUCCEEDED else f" ({event.reason})"
    _log.info(
        "%s %s %s%s in %s", event.alias, event.task_id, event.status, why, written(event.took), extra=_fields(event)
    )


def _run_released(event: TaskRetried) -> None:
    if event.reason == "snooze":
        _log.info(
            "%s %s snoozed after %s; again %s", event.alias, event.task_id, written(event.took), _when(event.delay),
            extra=_fields(event),
        )  # fmt: skip
    elif event.reason == "shutdown":
        _log.info(
            "%s %s returned to the queue after %s: shutdown", event.alias, event.task_id, written(event.took),
            extra=_fields(event),
        )  # fmt: skip


def _attempt_failed(event: AttemptFailed) -> None:
    level = logging.ERROR if event.delay is None else logging.WARNING
    what = f"{type(event.error).__name__}: {on_one_line(event.error, limit=500)}"
    after = "" if event.delay is None else f"; again {_when(event.delay)}"
    _log.log(
        level, "%s %s failed, attempt %d: %s%s", event.alias, event.task_id, event.attempt, what, after,
        exc_info=(type(event.error), event.error, theirs(event.error.__traceback__)), extra=_fields(event),
    )  # fmt: skip


def _claim_lost(event: ClaimLost) -> None:
    _log.warning("%s %s: the claim was lost, its outcome is dropped", event.alias, event.task_id, extra=_fields(event))


def _rescued(event: TaskRescued) -> None:
    _log.warning(
        "%s %s rescued from dead dispatcher %s: %s",
        event.alias,
        event.task_id,
        event.dispatcher_id,
        event.status,
        extra=_fields(event),
    )


def _fired(event: ScheduleFired) -> None:
    _log.info(
        "schedule %s made %s %s for %s", event.name, event.alias, event.task_id, event.occurrence.isoformat(" "),
        extra=_fields(event),
    )  # fmt: skip


def _started(event: DispatcherStarted) -> None:
    _log.info(
        "dispatcher %s (%s) started, woken by %s", event.name, event.dispatcher_id, event.waking, extra=_fields(event)
    )


def _stopped(event: DispatcherStopped) -> None:
    ending = "drained" if event.drained else "returned what was still running to the queue"
    _log.info("dispatcher %s (%s) stopped: %s", event.name, event.dispatcher_id, ending, extra=_fields(event))


def _outdated(event: DispatcherOutdated) -> None:
    _log.warning(
        "dispatcher %s (%s, on %s, process %d) runs %s of aiotaskstore, which ignores %s; stop it, or start it "
        "again with this version",
        event.name,
        event.dispatcher_id,
        event.host,
        event.pid,
        f"version {event.version}" if event.version else "an older version",
        ", ".join(event.ignored) or "what is new",
        extra=_fields(event),
    )


def _background_failed(event: BackgroundFailed) -> None:
    """Log the first failure in a row as a warning, and the following ones, until a success, at DEBUG only."""
    again = f"; again {_when(event.retry_in)}" if event.retry_in else ""
    if event.failures > 1:
        _log.debug(
            "%s: failure %d: %s%s", event.loop, event.failures, on_one_line(event.error), again, extra=_fields(event)
        )
        return
    until = ", and so on until it succeeds" if again else ""
    _log.warning("%s: %s%s%s", event.loop, on_one_line(event.error), again, until, extra=_fields(event))


def _background_recovered(event: BackgroundRecovered) -> None:
    _log.info(
        "%s: goes on after %s; it had failed %s", event.loop, written(event.took), _times(event.failures),
        extra=_fields(event),
    )  # fmt: skip


def _background_ended(event: BackgroundEnded) -> None:
    owner = "the store" if event.dispatcher_id is None else f"dispatcher {event.dispatcher_id}"
    _log.critical("%s ends, since its %s did", owner, event.loop, exc_info=event.error, extra=_fields(event))


def _fields(event: Event) -> dict[str, Any]:
    """Return what `TaskLogFilter` would mark the record with, as far as the event tells it."""
    known = {name: getattr(event, name, None) for name in ("task_id", "alias", "queue", "attempt")}
    known["dispatcher"] = getattr(event, "dispatcher_id", None)
    told = {name: value for name, value in known.items() if value is not None}
    return {name: str(value) if isinstance(value, UUID) else value for name, value in told.items()}


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _when(delay: float | None) -> str:
    return f"in {written(delay)}" if delay else "at once"
