"""Decides the outcome of an attempt that raised: whether the task is retried, and when."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiotaskstore.backoff import exponential
from aiotaskstore.directives import Cancel, Fail, Snooze, find_retry
from aiotaskstore.errors import ConfigurationError, DatabaseUnavailableError
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.duration import seconds
from aiotaskstore.mechanics.text import printable
from aiotaskstore.mechanics.tracebacks import shortened
from aiotaskstore.options import DefinitionOptions
from aiotaskstore.outcome import Cancelled, Failed, Outcome, Retrying, Snoozed
from aiotaskstore.queue import Queue
from aiotaskstore.storage.transitions import LEAST_STUCK_TRIES
from aiotaskstore.task import Claim

_DEFAULT_BACKOFF = exponential()


class Decision(NamedTuple):
    """The outcome of an attempt, and the error to report."""

    outcome: Outcome
    error: BaseException
    """The error that events report: the handler's, or the error of a broken backoff."""


class RetryPolicy:
    """Decides for one attempt, by the options of its definition and the defaults of its queue."""

    def __init__(self, claim: Claim, options: DefinitionOptions, queue: Queue | None) -> None:
        self._claim, self._options, self._queue = claim, options, queue

    def raised(self, error: BaseException) -> Decision:
        """Decide after the handler raised an error or a directive."""
        match error:
            case Snooze(delay=delay):
                return Decision(Snoozed(delay), error)
            case Cancel(reason=why):
                return Decision(Cancelled(FinishReason.HANDLER, printable(why)), error)
            case Fail(reason=why):
                return Decision(Failed("Fail", printable(why), FinishReason.HANDLER, shortened(error)), error)
            case _:
                return self._retry_or_fail(error)

    def timed_out(self, error: TimeoutError) -> Decision:
        """Decide after the handler was cancelled at its timeout."""
        return self._retry_or_fail(error, timed_out=True)

    def uncommitted(self, error: BaseException) -> Decision:
        """Decide after the handler's transaction could not be committed.

        Where the database was unavailable, that is no more the handler's error than a crash is: the task is retried as
        often as its dispatchers may die.
        """
        if isinstance(error, DatabaseUnavailableError) and self._claim.attempt < LEAST_STUCK_TRIES:
            return self._retry(error)
        return self._retry_or_fail(error)

    def undecodable(self, error: BaseException) -> Decision:
        """Decide after the payload did not fit the handler's signature."""
        match self._options.on_decode_error:
            case "cancel":
                return Decision(Cancelled(FinishReason.HANDLER, printable(error)), error)
            case "fail":
                return _failed(error, FinishReason.ERROR)
            case _ if isinstance(error, ConfigurationError):
                return _failed(error, FinishReason.ERROR)
            case _:
                return self._retry_or_fail(error)

    def _retry_or_fail(self, error: BaseException, *, timed_out: bool = False) -> Decision:
        claim, retry = self._claim, find_retry(error)
        if retry is None and not self._options.retries(error):
            return _failed(error, FinishReason.ERROR)
        if claim.attempt >= claim.max_attempts:
            if claim.max_attempts > 1:
                return _failed(error, FinishReason.EXHAUSTED)
            return _failed(error, FinishReason.TIMEOUT if timed_out else FinishReason.ERROR)
        if retry is not None and retry.delay is not None:
            return _retrying(error, retry.delay)
        return self._retry(error)

    def _retry(self, error: BaseException) -> Decision:
        try:
            delay = seconds(self._backoff(self._claim.attempt, error), "backoff")
        except KeyboardInterrupt:
            raise
        except BaseException as broken:  # noqa: BLE001 - a broken backoff must not lose the attempt's outcome
            return _failed_by_backoff(error, broken)
        return _retrying(error, delay)

    @property
    def _backoff(self) -> Any:  # a function: options and queues turn seconds into one
        return self._options.backoff or (self._queue and self._queue.backoff) or _DEFAULT_BACKOFF


def _retrying(error: BaseException, delay: float) -> Decision:
    return Decision(Retrying(type(error).__name__, printable(error), delay, shortened(error)), error)


def _failed(error: BaseException, reason: FinishReason) -> Decision:
    return Decision(Failed(type(error).__name__, printable(error), reason, shortened(error)), error)


def _failed_by_backoff(error: BaseException, broken: BaseException) -> Decision:
    broken.__context__ = error
    why = f"{type(broken).__name__}: {printable(broken, limit=500)}"
    message = f"{printable(error, limit=9_000)} (no further attempt, since the backoff failed with {why})"
    return Decision(Failed(type(error).__name__, message, FinishReason.ERROR, shortened(broken)), broken)
