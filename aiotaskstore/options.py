"""The options of a task and of its definition, and how they override each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

from aiotaskstore.backoff import Backoff, as_backoff
from aiotaskstore.duration import Duration, seconds
from aiotaskstore.errors import ConfigurationError, PayloadError
from aiotaskstore.payload import ANYTHING, dump
from aiotaskstore.queue import check_count, queue_name
from aiotaskstore.retention import Retention, check_retention
from aiotaskstore.text import LONG_LIMIT, check_text

OnConflict = Literal["raise", "return"]
UniqueWhile = Literal["kept", "live"]
OnStuck = Literal["retry", "fail", "interrupt"]
OnDecodeError = Literal["retry", "cancel", "fail"]
RetryOn = Literal["any", "retryable"] | type[BaseException] | tuple[type[BaseException], ...]

METADATA_LIMIT = 64 * 1024
"""Bytes of JSON."""


class TaskOptions(TypedDict, total=False):
    """What `.options(…)`, `store.enqueue(…)` and `store.draft(…)` take."""

    queue: str | None
    delay: Duration
    """Not before this long from now, by the database's clock."""
    run_at: datetime
    """Not before this instant."""
    priority: int
    """Smaller runs first; 0 by default."""
    max_attempts: int
    timeout: Duration
    external_id: str
    """Unique per alias as long as the earlier task's row is kept."""
    unique_while: UniqueWhile
    on_conflict: OnConflict
    owner: tuple[str, str]
    """(type, id)."""
    source: str
    metadata: Mapping[str, Any]
    retention: Retention


_OPTIONS = frozenset(TaskOptions.__annotations__)
_CHOICES = {"unique_while": ("kept", "live"), "on_conflict": ("raise", "return")}


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check and normalise a task's options; the first bad one is a `ConfigurationError`."""
    unknown = set(options) - _OPTIONS
    if unknown:
        raise ConfigurationError(
            f"There is no task option {', '.join(sorted(unknown))}. Known: {', '.join(sorted(_OPTIONS))}."
        )
    if options.get("delay") is not None and options.get("run_at") is not None:
        raise ConfigurationError("delay and run_at say the same thing twice: give one of them.")
    return {name: _check(name, value) for name, value in options.items() if value is not None or name == "queue"}


def _check(name: str, value: Any) -> Any:
    match name:
        case "queue":
            return queue_name(value)
        case "delay":
            return seconds(value, "delay")
        case "run_at":
            return check_instant(value, "run_at")
        case "priority":
            return check_priority(value)
        case "max_attempts":
            return check_count(value, "max_attempts")
        case "timeout":
            return seconds(value, "timeout", above_zero=True)
        case "retention":
            return check_retention(value)
        case _:
            return _check_text_option(name, value)


def _check_text_option(name: str, value: Any) -> Any:
    match name:
        case "external_id":
            if not value:
                raise ConfigurationError("external_id must not be empty; leave it out for a task without one.")
            return check_text(value, "external_id", limit=LONG_LIMIT)
        case "source":
            return check_text(value, "source")
        case "owner":
            return _check_owner(value)
        case "metadata":
            return _check_metadata(value)
        case _:
            if value not in _CHOICES[name]:
                raise ConfigurationError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}.")
            return value


def check_instant(value: Any, name: str) -> datetime:
    """Give `value` in UTC if it is a datetime with a timezone."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ConfigurationError(
            f"{name} must be a datetime with a timezone, such as datetime.now(UTC), not {value!r}."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{name} must lie within the years 1 to 9999 in UTC, but it is {value}.") from None


def check_priority(value: Any) -> int:
    """Give `value` back if it is a priority that every database can store."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise ConfigurationError(f"priority must be a whole number (smaller runs first), not {value!r}.")
    return value


def _check_owner(value: Any) -> tuple[str, str]:
    if not isinstance(value, tuple) or len(value) != 2:  # noqa: PLR2004 - (type, id)
        raise ConfigurationError(f'owner must be ("type", "id"), such as ("user", "42"), not {value!r}.')
    return check_text(value[0], "owner type"), check_text(str(value[1]), "owner id", limit=LONG_LIMIT)


def _check_metadata(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or any(not isinstance(key, str) for key in value):
        raise ConfigurationError(f"metadata must be a mapping with text keys, not {value!r}.")
    metadata = dict(value)
    dump_metadata(metadata)
    return metadata


def dump_metadata(metadata: Mapping[str, Any]) -> str | None:
    """Give metadata as JSON text, nothing for none; what cannot be JSON is a `ConfigurationError`."""
    if not metadata:
        return None
    try:
        return dump(ANYTHING, dict(metadata), "metadata", METADATA_LIMIT)
    except PayloadError as error:
        raise ConfigurationError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionOptions:
    """What a decorator said; `None` leaves it to the queue, and then to the library's default."""

    queue: str | None = None
    priority: int = 0
    max_attempts: int | None = None
    backoff: Backoff | Duration | None = None
    retry_on: RetryOn = "any"
    timeout: Duration | None = None
    retention: Retention | None = None
    on_stuck: OnStuck = "retry"
    on_decode_error: OnDecodeError = "retry"
    external_id: Callable[..., str | None] | None = None
    former_aliases: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        put = object.__setattr__
        if self.queue is not None:
            put(self, "queue", queue_name(self.queue))
        check_priority(self.priority)
        if self.max_attempts is not None:
            check_count(self.max_attempts, "max_attempts")
        put(self, "backoff", as_backoff(self.backoff))
        if self.timeout is not None:
            put(self, "timeout", seconds(self.timeout, "timeout", above_zero=True))
        if self.retention is not None:
            check_retention(self.retention)
        if self.on_stuck not in ("retry", "fail", "interrupt"):
            raise ConfigurationError(f"on_stuck must be retry, fail or interrupt, not {self.on_stuck!r}.")
        if self.on_decode_error not in ("retry", "cancel", "fail"):
            raise ConfigurationError(f"on_decode_error must be retry, cancel or fail, not {self.on_decode_error!r}.")
        put(self, "retry_on", _check_retry_on(self.retry_on))
        put(self, "former_aliases", _check_former(self.former_aliases))
        if self.external_id is not None and not callable(self.external_id):
            raise ConfigurationError(
                f"external_id must be a function of the arguments, not {self.external_id!r}. "
                "For one task, choose it with .options(external_id=…)."
            )

    def retries(self, error: BaseException) -> bool:
        """Tell whether an error that is no directive is worth another attempt."""
        if self.retry_on == "any":
            return True
        return self.retry_on != "retryable" and isinstance(error, self.retry_on)

    def published(self) -> dict[str, Any]:
        """Give what other services need to enqueue by alias as if they had the definition."""
        return {
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "timeout": self.timeout,
            "retention": self.retention.dump() if self.retention else None,
            "on_stuck": self.on_stuck,
        }

    @staticmethod
    def from_published(defaults: Mapping[str, Any]) -> DefinitionOptions:
        """Read what another service published."""
        known = {
            name: defaults[name]
            for name in ("queue", "priority", "max_attempts", "timeout", "on_stuck")
            if name in defaults
        }
        retention = defaults.get("retention")
        return DefinitionOptions(**known, retention=Retention.load(retention) if retention else None)


def _check_former(value: Any) -> tuple[str, ...]:
    aliases = [value] if isinstance(value, str) else value
    if not isinstance(aliases, Iterable):
        raise ConfigurationError(f"former_aliases must be a list of names, not {value!r}.")
    if "" in (names := tuple(check_text(alias, "A former alias") for alias in aliases)):
        raise ConfigurationError("A former alias must not be empty.")
    return names


def _check_retry_on(value: Any) -> RetryOn:
    if value in ("any", "retryable"):
        chosen: RetryOn = value
        return chosen
    kinds = tuple(value) if isinstance(value, tuple | list | set | frozenset) else (value,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ConfigurationError(
            f'retry_on must be "any", "retryable" or exception types such as (OSError, TimeoutError), not {value!r}.'
        )
    return kinds
