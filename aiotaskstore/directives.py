"""What a handler raises to choose how its attempt ends."""

from __future__ import annotations

from aiotaskstore.mechanics.duration import Duration, seconds


class Directive(Exception):  # noqa: N818 - an order to the dispatcher, not an error
    """Base of the four directives that a handler can raise."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class Retry(Directive):
    """Try again while attempts remain, after `delay` or else the definition's backoff."""

    def __init__(self, reason: str = "", *, delay: Duration | None = None) -> None:
        self.delay: float | None = None if delay is None else seconds(delay, "Retry delay")
        super().__init__(reason)


class Snooze(Directive):
    """Run again after `delay`, as if this attempt had not been made."""

    def __init__(self, delay: Duration, reason: str = "") -> None:
        self.delay: float = seconds(delay, "Snooze delay")
        super().__init__(reason)


class Cancel(Directive):
    """End as cancelled."""


class Fail(Directive):
    """End as failed, whatever attempts remain."""


def is_retryable(error: BaseException) -> bool:
    """Return whether there is a `Retry` anywhere in the error's chain of causes, groups included."""
    return find_retry(error) is not None


def find_retry(error: BaseException) -> Retry | None:
    """Find the nearest `Retry` in the error's chain of causes and in its groups."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        one = queue.pop(0)
        if one is None or id(one) in seen:
            continue
        if isinstance(one, Retry):
            return one
        seen.add(id(one))
        queue.append(one.__cause__ or (None if one.__suppress_context__ else one.__context__))
        if isinstance(one, BaseExceptionGroup):
            queue.extend(one.exceptions)
    return None
