"""A schedule: what makes tasks at given instants."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self, TypedDict
from uuid import UUID

from aiotaskstore.errors import ConfigurationError, InvalidRecurrenceError, PayloadError, TaskStoreError
from aiotaskstore.mechanics.flag import check_flag
from aiotaskstore.mechanics.ids import check_chosen_id, new_id
from aiotaskstore.mechanics.text import check_text
from aiotaskstore.options import check_due, check_options
from aiotaskstore.payload import ANYTHING, dump
from aiotaskstore.queue import check_count, queue_name
from aiotaskstore.recurrence import (
    Recurrence,
    RecurrenceFunction,
    as_recurrence,
    dump_recurrence,
    load_recurrence,
)
from aiotaskstore.retention import Retention

Misfire = Literal["coalesce", "skip", "catch_up"]
PayloadFunction = Callable[..., Any]
"""Returns the payload of an occurrence, or `None` to skip it; sync or async, with no argument or the occurrence."""

_MISFIRES = ("coalesce", "skip", "catch_up")
_DESCRIPTION_LIMIT = 10_000
_NEAR = 0.4
"""How like an option its misspelling must be: as like as `tz` is to `timezone`."""
_OWN_OPTIONS = ("id", "external_id", "run_at", "unique_while", "on_conflict", "unique_for", "debounce", "max_wait")
"""Task options that an occurrence decides by itself, since it is enqueued exactly once."""


class ScheduleStatus(StrEnum):
    """The state of a schedule; only an active one makes tasks."""

    DRAFT = "draft"
    """Not in use yet."""
    ACTIVE = "active"
    INACTIVE = "inactive"
    """Paused by an operator, or stopped by an error, which is kept in `error`."""
    COMPLETED = "completed"
    """It has made its last task."""


class ScheduleOptions(TypedDict, total=False):
    """What `store.schedule(…)` and `.schedule(…)` of a task take."""

    timezone: str
    """The time zone of a cron text; UTC by default."""
    payload: Mapping[str, Any] | PayloadFunction | None
    """The arguments by name, or a function that returns them for each occurrence."""
    description: str
    starts_at: datetime | None
    """Nothing occurs before this instant."""
    ends_at: datetime | None
    """Nothing occurs after this instant."""
    max_executions: int | None
    """How many tasks it makes before it is completed."""
    misfire: Misfire
    """What becomes of occurrences that nobody was there to enqueue: see `Schedule.misfire`."""
    run_on_start: bool
    """Whether a task is made also when a dispatcher starts, once per `lease` over all dispatchers."""


class ScheduleChanges(TypedDict, total=False):
    """What `store.schedules.update(…)` writes: only what is named."""

    name: str
    alias: str
    queue: str | None
    payload: Mapping[str, Any] | PayloadFunction
    options: Mapping[str, Any]
    recurrence: Recurrence | RecurrenceFunction | str
    description: str
    status: ScheduleStatus | str
    starts_at: datetime | None
    ends_at: datetime | None
    max_executions: int | None
    misfire: Misfire
    run_on_start: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What makes a task of one definition at each occurrence of a recurrence.

    One that the application makes is stored by `store.schedules.create`. The fields from `execution_count` on are kept
    by dispatchers; `create` takes `execution_count`, `last_run_at` and `next_run_at` as they are given, so that a
    schedule of another database goes on where it was, and decides the others itself.
    """

    name: str
    """Unique among the schedules that are not deleted."""
    alias: str
    recurrence: Recurrence | RecurrenceFunction | str
    """A text is a cron expression in UTC; a function takes the last occurrence and returns the next one."""
    payload: Mapping[str, Any] | PayloadFunction | None = field(default_factory=dict)
    """The arguments by name. `None` where it is a function that this process does not know."""
    queue: str | None = None
    """`None` leaves it to the definition."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other options of its tasks, such as `priority` and `timeout`."""
    description: str = ""
    status: ScheduleStatus | str = ScheduleStatus.DRAFT
    starts_at: datetime | None = None
    """Nothing occurs before this instant."""
    ends_at: datetime | None = None
    """Nothing occurs after this instant."""
    max_executions: int | None = None
    """How many tasks it makes before it is completed; `None` for no limit."""
    misfire: Misfire = "coalesce"
    """What becomes of occurrences that were missed: one late task for all ("coalesce"), none ("skip"), or a task for
    each ("catch_up"). "skip" counts one as missed that is late by more than a dispatcher's `lease`."""
    run_on_start: bool = False
    """Whether a task is made also when a dispatcher starts, once per `lease` over all dispatchers."""
    id: UUID = field(default_factory=new_id)
    execution_count: int = 0
    """How many tasks it has made."""
    last_run_at: datetime | None = None
    """When it made its last task."""
    next_run_at: datetime | None = None
    """Its next occurrence, as far as that is known; `create` finds it for an active one that is given none."""
    code_owned: bool = False
    """Whether code declares it, by `store.schedule(…)`."""
    error: str | None = None
    """Why it was made inactive, if that was not asked for."""
    created_at: datetime | None = None
    """`None` while it is not stored."""
    updated_at: datetime | None = None
    deleted_at: datetime | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "name", check_schedule_name(self.name))
        if not check_text(self.alias, "An alias"):
            raise ConfigurationError(f'The schedule "{self.name}" names no task: give the alias of one.')
        put(self, "recurrence", as_recurrence(self.recurrence))
        check_schedule_payload(self.payload, self.name)
        put(self, "queue", None if self.queue is None else queue_name(self.queue))
        put(self, "options", check_schedule_options(self.options))
        check_text(self.description, "description", limit=_DESCRIPTION_LIMIT)
        put(self, "status", _status(self.status))
        put(self, "id", check_chosen_id(self.id, for_names="name"))
        for name in ("starts_at", "ends_at", "last_run_at", "next_run_at"):
            if getattr(self, name) is not None:
                put(self, name, check_due(getattr(self, name), name))
        self._check_limits()

    def _check_limits(self) -> None:
        if self.starts_at is not None and self.ends_at is not None and self.ends_at < self.starts_at:
            raise InvalidRecurrenceError(
                f'The schedule "{self.name}" ends at {self.ends_at}, before it starts at {self.starts_at}, so nothing '
                "would ever occur. Give an ends_at that is later."
            )
        if self.max_executions is not None:
            check_count(self.max_executions, "max_executions")
        if self.misfire not in _MISFIRES:
            raise ConfigurationError(f"misfire must be one of {', '.join(_MISFIRES)}, not {self.misfire!r:.100}.")
        made = self.execution_count
        if isinstance(made, bool) or not isinstance(made, int) or not 0 <= made < 2**31:
            raise ConfigurationError(f"execution_count must be a whole number of at least 0, not {made!r:.100}.")
        check_flag(self.run_on_start, "run_on_start")

    def has_ended(self, now: datetime) -> bool:
        """Return whether its end lies before this instant."""
        return self.ends_at is not None and now > self.ends_at

    @property
    def has_reached_max_executions(self) -> bool:
        """Whether it has made as many tasks as it may."""
        return self.max_executions is not None and self.execution_count >= self.max_executions

    def is_due(self, now: datetime) -> bool:
        """Return whether it would make a task at this instant."""
        active = self.status == ScheduleStatus.ACTIVE and self.deleted_at is None
        return active and self.next_run_at is not None and self.next_run_at <= now

    def to_json(self) -> str:
        """Return it as JSON text; of a recurrence that is a function only its name, as the database has it.

        A payload that is a function raises `ConfigurationError`.
        """
        if callable(self.payload):
            raise ConfigurationError(
                f'The payload of the schedule "{self.name}" is a function, which JSON cannot carry.'
            )
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        what = f'The payload of the schedule "{self.name}"'
        values["payload"] = json.loads(dump(ANYTHING, dict(self.payload or {}), what, sys.maxsize))
        values["options"] = json.loads(dump_schedule_options(self.options))
        values["recurrence"] = json.loads(dump_recurrence(self.recurrence))  # type: ignore[arg-type] # no text any more
        for name, value in values.items():
            if isinstance(value, datetime):
                values[name] = value.isoformat()
        return json.dumps(values | {"id": str(self.id)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` returned; raises `ConfigurationError` for any other text."""
        try:
            values = json.loads(text)
            values["id"] = UUID(values["id"])
            values["options"] = load_schedule_options(json.dumps(values["options"]))
            values["recurrence"] = load_recurrence(json.dumps(values["recurrence"]))
            for name, value in values.items():
                if name.endswith("_at") and value is not None:
                    values[name] = datetime.fromisoformat(value)
            return cls(**values)
        except TaskStoreError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ConfigurationError(
                f"This text is no schedule, but {text!r:.50} ({error!r:.50}); give one that to_json() made."
            ) from None


def check_schedule_names(options: ScheduleOptions) -> ScheduleOptions:
    """Return the options of a declared schedule; raises `ConfigurationError` for one that there is not."""
    known = {"name", *ScheduleOptions.__annotations__}
    unknown = sorted(options.keys() - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(known), n=1, cutoff=_NEAR)
        hint = f'Did you mean "{near[0]}"? ' if near else ""
        raise ConfigurationError(
            f"There is no schedule option {', '.join(unknown)}. {hint}Known: {', '.join(sorted(known))}."
        )
    return options


def check_schedule_name(name: object) -> str:
    """Return a name that a schedule may have. No UUID is one, so that ids and names are never mistaken."""
    checked = check_text(name, "A schedule's name")
    if not checked:
        raise ConfigurationError("A schedule needs a name that is not empty.")
    if is_id(checked):
        raise ConfigurationError(f'A schedule\'s name must not be a UUID, which "{checked}" is; choose another one.')
    return checked


def is_id(text: str) -> bool:
    """Return whether a text is an id rather than a name."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def check_schedule_payload(payload: object, name: str) -> None:
    """Raise `PayloadError` for what can be no payload of a schedule."""
    if payload is None or callable(payload):
        return
    if not isinstance(payload, Mapping) or any(not isinstance(key, str) for key in payload):
        raise PayloadError(
            f'The payload of the schedule "{name}" must be arguments by name, such as {{"user_id": 42}}, or a function '
            f"that returns them, not {payload!r:.100}."
        )


def check_schedule_options(options: object) -> dict[str, Any]:
    """Return the options of a schedule's tasks, checked and normalised; raises `ConfigurationError`."""
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"options must be a mapping of task options, not {options!r:.100}.")
    own = sorted(name for name in (*_OWN_OPTIONS, "queue") if name in options)
    if own:
        raise ConfigurationError(
            f"A schedule decides {', '.join(own)} of its tasks itself (queue is its own field, and each occurrence is "
            "enqueued exactly once); leave it out of its options."
        )
    return check_options(options)


def dump_schedule_options(options: Mapping[str, Any]) -> str:
    """Return checked options as JSON text."""
    values = dict(options)
    if "retention" in values:
        retention: Retention = values["retention"]
        values["retention"] = [retention.keep, retention.period_seconds, retention.payload]
    return dump(ANYTHING, values, "options", sys.maxsize)


def load_schedule_options(text: str) -> dict[str, Any]:
    """Read what `dump_schedule_options` returned."""
    values: dict[str, Any] = json.loads(text)
    if "retention" in values:
        values["retention"] = Retention(*values["retention"])
    if "owner" in values:
        values["owner"] = tuple(values["owner"])
    return values


def _status(value: object) -> ScheduleStatus:
    try:
        return ScheduleStatus(value)  # type: ignore[arg-type] # that is the question
    except ValueError:
        raise ConfigurationError(
            f"A schedule's status is one of {', '.join(ScheduleStatus)}, not {value!r:.100}."
        ) from None
