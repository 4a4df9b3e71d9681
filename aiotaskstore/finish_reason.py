"""Why a task ended."""

from __future__ import annotations

from enum import StrEnum


class FinishReason(StrEnum):
    """Why a task ended: the values that `Task.finish_reason` may have, as they are stored."""

    OK = "ok"
    """Its handler returned."""
    ERROR = "error"
    """An attempt failed with an error that is not worth a retry, or that no retry was allowed for."""
    EXHAUSTED = "exhausted"
    """The last of several attempts failed."""
    TIMEOUT = "timeout"
    """The only attempt took longer than the task's timeout."""
    STUCK = "stuck"
    """Its dispatcher died too often, or its handler ignored its cancellation."""
    HANDLER = "handler"
    """Its handler raised `Fail` or `Cancel`, or its payload could not be read and `on_decode_error` cancels it."""
    REQUEST = "request"
    """Somebody cancelled it."""
    INTERRUPTED = "interrupted"
    """Its dispatcher died, and its definition has `on_stuck="interrupt"`."""
    MISSING = "missing"
    """No handler was registered for its alias, and the dispatcher has `on_missing="fail"`."""
    UNSTORABLE = "unstorable"
    """The database refused to store how its last attempt ended."""
    FORCED = "forced"
    """An operator said how it ended: `mark_succeeded` or `mark_failed`."""
