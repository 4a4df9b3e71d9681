"""Events become log records: the one place that words them."""

from __future__ import annotations

import logging

from aiotaskstore.events import (
    AttemptFailed,
    ClaimLost,
    DispatcherStarted,
    DispatcherStopped,
    LoopTroubled,
    TaskRescued,
)
from aiotaskstore.hooks import Hooks
from aiotaskstore.text import printable

_log = logging.getLogger("aiotaskstore.dispatcher")


def log_events(hooks: Hooks) -> None:
    """Log what goes wrong and what starts and stops. Successes are told by `TaskFinished`, to whoever wants them."""
    hooks.on(AttemptFailed, _failed)
    hooks.on(ClaimLost, _lost)
    hooks.on(TaskRescued, _rescued)
    hooks.on(DispatcherStarted, _started)
    hooks.on(DispatcherStopped, _stopped)
    hooks.on(LoopTroubled, _troubled)


def _failed(event: AttemptFailed) -> None:
    if event.delay is None:
        _log.error("%s %s failed, attempt %d", event.alias, event.task_id, event.attempt, exc_info=event.error)
        return
    error = f"{type(event.error).__name__}: {printable(event.error, limit=500)}"
    _log.warning(
        "%s %s failed, attempt %d: %s; again in %.3g s", event.alias, event.task_id, event.attempt, error, event.delay
    )


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
    _log.warning("%s: %s; again in %.3g s", event.loop, printable(event.error), event.retry_in)
