"""The application's `on_error`: it receives the errors that no call of the application raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from aiotaskstore.errors import ClaimLostError, ConfigurationError
from aiotaskstore.events import AttemptFailed, BackgroundEnded, BackgroundFailed, ClaimLost, ListenerFailed
from aiotaskstore.hooks import Hooks


def report_errors(hooks: Hooks, on_error: Callable[[str | None, UUID | None, BaseException], Any]) -> None:
    """Call `on_error` for each such error, with the queue and the id of its task, or `None`, and the error."""
    if not callable(on_error):
        raise ConfigurationError(f"on_error must be a function of (queue, task_id, error), not {on_error!r:.100}.")

    def report(event: AttemptFailed | BackgroundFailed) -> Any:
        return on_error(event.queue, event.task_id, event.error)

    def report_lost_claim(event: ClaimLost) -> Any:
        return on_error(event.queue, event.task_id, ClaimLostError(event.task_id))

    def report_end(event: BackgroundEnded) -> Any:
        return on_error(None, None, event.error)

    def report_listener(event: ListenerFailed) -> Any:
        if event.listener in reports:  # on_error itself raised
            return None
        return on_error(event.queue, event.task_id, event.error)

    reports = (report, report_lost_claim, report_end, report_listener)
    hooks.on(AttemptFailed, report)
    hooks.on(BackgroundFailed, report)
    hooks.on(ClaimLost, report_lost_claim)
    hooks.on(BackgroundEnded, report_end)
    hooks.on(ListenerFailed, report_listener)
