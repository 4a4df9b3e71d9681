"""Events become log records: the one place that words them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiotaskstore.events import (
    ClaimLost,
    DispatcherStarted,
    DispatcherStopped,
    LoopTroubled,
    TaskFinished,
    TaskRescued,
    TaskRetried,
)
from aiotaskstore.hooks import Hooks
from aiotaskstore.task import TaskStatus

_log = logging.getLogger("aiotaskstore.dispatcher")


def log_events(hooks: Hooks) -> None:
    """Log what goes wrong and what starts and stops; a success is logged only where DEBUG is on at the time."""
    hooks.on(TaskRetried, _retried)
    hooks.on(ClaimLost, _lost)
    hooks.on(TaskRescued, _rescued)
    hooks.on(DispatcherStarted, _started)
    hooks.on(DispatcherStopped, _stopped)
    hooks.on(LoopTroubled, _troubled)


def log_finished(hooks: Hooks) -> Callable[[], None]:
    """Log the end of every task; gives a function that ends it. Costs an event for each task."""
    return hooks.on(TaskFinished, _finished)


def _finished(event: TaskFinished) -> None:
    level = logging.ERROR if event.status is TaskStatus.FAILED else logging.DEBUG
    _log.log(
        level, "%s %s %s (%s) after %.3f s, attempt %d", event.alias, event.task_id, event.status, event.reason,
        event.took, event.attempt, exc_info=event.error,
    )  # fmt: skip


def _retried(event: TaskRetried) -> None:
    level = logging.WARNING if event.error else logging.INFO
    _log.log(
        level, "%s %s will run again in %.3g s (%s), attempt %d: %s", event.alias, event.task_id, event.delay or 0,
        event.reason, event.attempt, event.error or "",
    )  # fmt: skip


def _lost(event: ClaimLost) -> None:
    _log.warning("%s %s: the claim was lost, its outcome is dropped", event.alias, event.task_id)


def _rescued(event: TaskRescued) -> None:
    _log.warning(
        "%s %s rescued from dead dispatcher %s: %s",
        event.alias,
        event.task_id,
        event.dispatcher_id,
        event.status,
    )


def _started(event: DispatcherStarted) -> None:
    _log.info("dispatcher %s (%s) started, woken by %s", event.name, event.dispatcher_id, event.waking)


def _stopped(event: DispatcherStopped) -> None:
    ending = "drained" if event.drained else "gave back what was still running"
    _log.info("dispatcher %s (%s) stopped: %s", event.name, event.dispatcher_id, ending)


def _troubled(event: LoopTroubled) -> None:
    _log.warning("%s: %s; again in %.3g s", event.loop, event.error, event.retry_in)
