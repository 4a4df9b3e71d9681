"""The options of a task and of its definition, and how they override each other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from aiotaskstore.backoff import Backoff, as_backoff
from aiotaskstore.errors import ConfigurationError, PayloadError
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.mechanics.ids import check_chosen_id
from aiotaskstore.mechanics.text import LONG_LIMIT, NAME_LIMIT, check_text
from aiotaskstore.metadata import RESERVED_KEY
from aiotaskstore.payload import ANYTHING, dump
from aiotaskstore.queue import check_count, queue_name
from aiotaskstore.retention import Retention, check_retention

OnConflict = Literal["raise", "return"]
Serialization = Literal["loose", "strict"]
UniqueWhile = Literal["kept", "live"]
OnStuck = Literal["retry", "fail", "interrupt"]
OnDecodeError = Literal["retry", "cancel", "fail"]
RetryOn = Literal["any", "retryable"] | type[BaseException] | tuple[type[BaseException], ...]

METADATA_LIMIT = 64 * 1024
"""Bytes of JSON."""


class TaskOptions(TypedDict, total=False):
    """What `.options(…)`, `store.enqueue(…)` and `store.draft(…)` take."""

    id: UUID | str
    """The id of the task, chosen by the caller; if a task has it already, `DuplicateTaskError`."""
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
    serialization_key: str
    """At most one task with this key runs at a time; the others wait for it, first come, first served."""
    serialization: Serialization
    """Whether a task that awaits its next attempt lets others with its key pass ("loose"), or not ("strict")."""
    owner: tuple[str, object]
    """(type, id)."""
    source: str
    metadata: Mapping[str, Any]
    retention: Retention


_OPTIONS = frozenset(TaskOptions.__annotations__)
_CHOICES = {
    "unique_while": ("kept", "live"),
    "on_conflict": ("raise", "return"),
    "serialization": ("loose", "strict"),
}
_DEFINITION_CHOICES = {
    "on_stuck": ("retry", "fail", "interrupt"),
    "on_decode_error": ("retry", "cancel", "fail"),
    "serialization": ("loose", "strict"),
}


_EARLIEST = datetime(1000, 1, 2, tzinfo=UTC)
"""MySQL stores nothing before the year 1000."""
_LATEST = datetime(9999, 12, 30, tzinfo=UTC)
"""A day short of what Python can hold, so that it can be shown in every timezone."""


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
            return check_due(value, "run_at")
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
        case "id":
            return check_chosen_id(value)
        case "external_id" | "serialization_key" | "source":
            if value == "":
                raise ConfigurationError(f"{name} must not be empty; leave it out for a task without one.")
            return check_text(value, name, limit=NAME_LIMIT if name == "source" else LONG_LIMIT)
        case "owner":
            return _check_owner(value)
        case "metadata":
            return _check_metadata(value)
        case _:
            if value not in _CHOICES[name]:
                raise ConfigurationError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r:.100}.")
            return value


def check_instant(value: Any, name: str) -> datetime:
    """Return `value` in UTC if it is a datetime with a timezone."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ConfigurationError(
            f"{name} must be a datetime with a timezone, such as datetime.now(UTC), not {value!r:.100}."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{name} must lie within the years 1 to 9999 in UTC, but it is {value}.") from None


def check_due(value: Any, name: str) -> datetime:
    """Return `value` in UTC if it is an instant that every database stores and everybody can read."""
    instant = check_instant(value, name)
    if not _EARLIEST <= instant <= _LATEST:
        raise ConfigurationError(
            f"{name} must lie between {_EARLIEST:%Y-%m-%d} and {_LATEST:%Y-%m-%d} in UTC, but it is {value}."
        )
    return instant


def check_priority(value: Any) -> int:
    """Return `value` if it is a priority that every database can store."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise ConfigurationError(f"priority must be a whole number (smaller runs first), not {value!r:.100}.")
    return value


def _check_owner(value: Any) -> tuple[str, str]:
    if not isinstance(value, tuple | list) or len(value) != 2 or "" in value or None in value:  # noqa: PLR2004
        raise ConfigurationError(
            f'owner must be ("type", "id"), such as ("user", "42"), neither empty, not {value!r:.100}.'
        )
    return check_text(value[0], "owner type"), check_text(str(value[1]), "owner id", limit=LONG_LIMIT)


def _check_metadata(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or any(not isinstance(key, str) for key in value):
        raise ConfigurationError(f"metadata must be a mapping with text keys, not {value!r:.100}.")
    metadata = dict(value)
    dump_metadata(metadata)
    return metadata


def dump_metadata(metadata: Mapping[str, Any]) -> str | None:
    """Return metadata as JSON text, nothing for none; what cannot be JSON is a `ConfigurationError`."""
    if not metadata:
        return None
    if RESERVED_KEY in metadata:
        raise ConfigurationError(
            f'metadata must not have the key "{RESERVED_KEY}", which the library keeps for itself. Take another name.'
        )
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
    serialization_key: Callable[..., str | None] | None = None
    serialization: Serialization = "loose"
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
        for name, choices in _DEFINITION_CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigurationError(f"{name} must be {_either(choices)}, not {getattr(self, name)!r:.100}.")
        put(self, "retry_on", _check_retry_on(self.retry_on))
        put(self, "former_aliases", _check_former(self.former_aliases))
        _check_functions(self.functions)

    @property
    def functions(self) -> dict[str, Callable[..., str | None]]:
        """The functions that make options of a call's arguments, by the names of the options."""
        given = {"external_id": self.external_id, "serialization_key": self.serialization_key}
        return {name: function for name, function in given.items() if function is not None}

    def retries(self, error: BaseException) -> bool:
        """Return whether an error that is no directive is worth another attempt."""
        if self.retry_on == "any":
            return True
        return self.retry_on != "retryable" and isinstance(error, self.retry_on)

    def published(self) -> dict[str, Any]:
        """Return what other services need to enqueue by alias with the same defaults."""
        return {
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "timeout": self.timeout,
            "retention": self.retention.dump() if self.retention else None,
            "on_stuck": self.on_stuck,
            "former_aliases": list(self.former_aliases),
            "serialization": self.serialization,
            "functions": sorted(self.functions),
        }

    @staticmethod
    def from_published(defaults: Mapping[str, Any]) -> DefinitionOptions:
        """Read what another service published."""
        known = {
            name: defaults[name]
            for name in ("queue", "priority", "max_attempts", "timeout", "on_stuck", "serialization")
            if name in defaults
        }
        retention = defaults.get("retention")
        return DefinitionOptions(**known, retention=Retention.load(retention) if retention else None)


def _either(choices: tuple[str, ...]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def _check_functions(functions: Mapping[str, Any]) -> None:
    for name, function in functions.items():
        if not callable(function):
            raise ConfigurationError(
                f"{name} must be a function of the arguments, not {function!r:.100}. "
                f"For one task, choose it with .options({name}=…)."
            )
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"{name} must be a plain function of the arguments, but {function!r:.100} is async."
            )


def _check_former(value: Any) -> tuple[str, ...]:
    aliases = [value] if isinstance(value, str) else value
    if not isinstance(aliases, Iterable):
        raise ConfigurationError(f"former_aliases must be a list of names, not {value!r:.100}.")
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
            'retry_on must be "any", "retryable" or exception types such as (OSError, TimeoutError), '
            f"not {value!r:.100}."
        )
    return kinds
