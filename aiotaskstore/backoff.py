"""How long to wait before the next attempt."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.duration import Duration, seconds


class Backoff(Protocol):
    """Any function of the attempts made so far (1 after the first) and the error that returns how long to wait."""

    def __call__(self, attempt: int, error: BaseException, /) -> Duration:
        """Return how long to wait before the next attempt."""


_MOST_NUMBERS = 64


def constant(delay: Duration) -> Backoff:
    """Wait the same time before every attempt."""
    wait = seconds(delay, "backoff")
    return lambda _attempt, _error: wait


def steps(sequence: Sequence[Duration], cycle: bool = False) -> Backoff:  # noqa: FBT001, FBT002 - may be named
    """Wait the times listed, one an attempt; after the last, keep to it or (`cycle`) begin again."""
    if isinstance(sequence, str) or not isinstance(sequence, Iterable):
        raise ConfigurationError(f"steps() takes a list of waits, such as steps([5, 30, 300]), not {sequence!r:.100}.")
    waits = [seconds(step, "a backoff step") for step in sequence]
    if not waits:
        raise ConfigurationError("steps() needs at least one wait, such as steps([5, 30, 300]).")

    def wait(attempt: int, _error: BaseException) -> float:
        index = attempt - 1
        return waits[index % len(waits) if cycle else min(index, len(waits) - 1)]

    return wait


def exponential(base: Duration = 5, factor: float = 2, cap: Duration = 600, jitter: float = 0) -> Backoff:
    """Wait base × factor^attempt, at most `cap`; `jitter` 0.1 moves it by up to a tenth either way.

    The first wait is base × factor, not base: `exponential(base=5)` waits 10, 20, 40 … seconds.
    """
    first, most = seconds(base, "backoff base"), seconds(cap, "backoff cap")
    if not isinstance(factor, int | float) or not 1 <= factor <= sys.float_info.max:
        raise ConfigurationError(f"A backoff factor is a number of 1 or more, but it is {factor!r:.100}.")
    growth = float(factor)

    def wait(attempt: int, _error: BaseException) -> float:
        try:
            grown = first * growth**attempt
        except OverflowError:
            grown = most if first else 0.0
        return _spread(min(most, grown), jitter, most)

    _check_jitter(jitter)
    return wait


def fibonacci(unit: Duration = 60, cap: Duration = 89 * 60, jitter: float = 0) -> Backoff:
    """Wait `unit` × 1, 1, 2, 3, 5, 8 …, at most `cap`."""
    each, most = seconds(unit, "backoff unit"), seconds(cap, "backoff cap")
    numbers = [1, 1]
    while len(numbers) < _MOST_NUMBERS:
        numbers.append(numbers[-1] + numbers[-2])

    def wait(attempt: int, _error: BaseException) -> float:
        return _spread(min(most, each * numbers[min(attempt, len(numbers)) - 1]), jitter, most)

    _check_jitter(jitter)
    return wait


def as_backoff(value: Backoff | Duration | None) -> Backoff | None:
    """Read a `backoff=` option: a function, or a number that means a constant wait."""
    if inspect.iscoroutinefunction(value):
        raise ConfigurationError(f"backoff must be a plain function of (attempt, error), not async: {value!r:.100}.")
    if value is None or callable(value):
        return value
    return constant(value)


def _check_jitter(jitter: float) -> None:
    if not isinstance(jitter, int | float) or not 0 <= jitter <= 1:
        raise ConfigurationError(f"backoff jitter is a share from 0 to 1, but it is {jitter!r:.100}.")


def _spread(wait: float, jitter: float, most: float) -> float:
    if not jitter:
        return wait
    return min(most, wait * (1 + jitter * random.uniform(-1, 1)))  # noqa: S311 - spreads load, guards nothing
