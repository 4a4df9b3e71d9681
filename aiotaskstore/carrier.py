"""Carriers: each takes values from where a task is enqueued to every one of its runs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol
from uuid import UUID

from aiotaskstore.context import TaskContext
from aiotaskstore.errors import ConfigurationError, PayloadError
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.arguments import check_takes
from aiotaskstore.mechanics.text import check_text
from aiotaskstore.metadata import load_carried, with_carried
from aiotaskstore.payload import ANYTHING, dump
from aiotaskstore.task import NewTask

CARRIED_LIMIT = 16 * 1024
"""Bytes of JSON that all carriers together may store with one task."""
_UNSET: Any = object()


class OutgoingTask(Protocol):
    """A task that is about to be stored, as a carrier sees it."""

    @property
    def id(self) -> UUID:
        """Its id to be."""

    @property
    def alias(self) -> str:
        """The alias of its definition."""

    @property
    def queue(self) -> str:
        """Its queue."""

    @property
    def payload(self) -> str:
        """Its payload as JSON text."""


class Carrier(Protocol):
    """Takes values from where a task is enqueued to every one of its runs; `store.carry(…)` adds one."""

    @property
    def name(self) -> str:
        """What its values are stored under; each carrier of a store has a name of its own."""

    def capture(self, task: OutgoingTask) -> Mapping[str, Any] | None:
        """Return what to carry, as JSON; `None` for nothing. Called once a task, in the context of whoever enqueues."""

    def restore(self, values: Mapping[str, Any], context: TaskContext) -> None:
        """Take what was captured. Called in the context of each run, before its hooks and its handler."""


class ContextVariables:
    """Carries the context variables that an application has named. A variable that is not set stays so in the run."""

    name = "variables"

    def __init__(self) -> None:
        self._variables: dict[str, ContextVar[Any]] = {}

    def add(self, variable: ContextVar[Any]) -> None:
        """Carry a variable from now on. Raises `ConfigurationError` for two under one name."""
        if (
            self._variables.setdefault(check_text(variable.name, "The name of a context variable"), variable)
            is variable
        ):
            return
        raise ConfigurationError(
            f'Two context variables named "{variable.name}" cannot both be carried: a run finds their values by name. '
            "Give one of them another name."
        )

    def capture(self, _task: OutgoingTask) -> Mapping[str, Any] | None:
        """Return the values of those that are set; raise `ConfigurationError` for a value that is no JSON."""
        values = {name: variable.get(_UNSET) for name, variable in self._variables.items()}
        return {name: _json(name, value) for name, value in values.items() if value is not _UNSET} or None

    def restore(self, values: Mapping[str, Any], _context: TaskContext) -> None:
        """Set them in the context of a run."""
        for name, value in values.items():
            if name in self._variables:
                self._variables[name].set(value)


class Carriers:
    """The carriers of one store, by their names."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._carriers: dict[str, Carrier] = {}
        self._variables = ContextVariables()

    def __bool__(self) -> bool:
        """Whether there is any carrier."""
        return bool(self._carriers)

    def add(self, carried: ContextVar[Any] | Carrier) -> None:
        """Use a carrier, or carry a context variable, for what is enqueued and what runs from now on."""
        if isinstance(carried, ContextVar):
            self._variables.add(carried)
            carrier: Carrier = self._variables
        else:
            carrier = _checked(carried)
        if self._carriers.setdefault(carrier.name, carrier) is not carrier:
            raise ConfigurationError(
                f'A carrier named "{carrier.name}" is there already: {self._carriers[carrier.name]!r:.100}. '
                "Add each once, and give another one another name."
            )

    def capture(self, row: NewTask) -> NewTask:
        """Return a row with what the carriers capture in the caller's context.

        Raises `ConfigurationError` for what cannot be carried, and where a carrier raises.
        """
        captured = {name: self._captured(carrier, row) for name, carrier in self._carriers.items()}
        values = {name: one for name, one in captured.items() if one is not None}
        if not values:
            return row
        try:
            carried = dump(ANYTHING, values, "What is carried with a task", CARRIED_LIMIT)
        except PayloadError as error:
            raise ConfigurationError(f"{error} Nothing was stored.") from error
        return row._replace(metadata=with_carried(row.metadata, carried))

    def restore(self, context: TaskContext, metadata: str | None, queue: str) -> None:
        """Give each carrier what it has captured for a task. An error of one is reported, and changes nothing else."""
        for name, values in load_carried(metadata).items():
            carrier = self._carriers.get(name)
            if carrier is None or not isinstance(values, dict):
                continue
            try:
                carrier.restore(values, context)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - as an error of a hook
                self._hooks.report_failure(carrier.restore, error, queue, context.task_id)

    def _captured(self, carrier: Carrier, row: NewTask) -> Mapping[str, Any] | None:
        try:
            captured = carrier.capture(row)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f'The carrier "{carrier.name}" raised {type(error).__name__}: {error}. The task was not stored.'
            ) from error
        given: object = captured
        if given is None or (isinstance(given, Mapping) and all(isinstance(key, str) for key in given)):
            return captured
        raise ConfigurationError(
            f'The carrier "{carrier.name}" captured {given!r:.100}. What capture(task) returns is a mapping with text '
            "keys, such as a dict, or None for nothing. The task was not stored."
        )


def _checked(carrier: Any) -> Carrier:
    methods = (getattr(carrier, "capture", None), getattr(carrier, "restore", None))
    if isinstance(carrier, type) or not (
        isinstance(getattr(carrier, "name", None), str) and all(map(callable, methods))
    ):
        raise ConfigurationError(
            "store.carry() takes context variables, and carriers: objects with a name, capture(task) and "
            f"restore(values, context); not {carrier!r:.100}."
        )
    check_text(carrier.name, "The name of a carrier")
    check_takes(carrier.capture, "task", "capture of a carrier")
    check_takes(carrier.restore, "values, context", "restore of a carrier")
    if inspect.iscoroutinefunction(carrier.capture) or inspect.iscoroutinefunction(carrier.restore):
        raise ConfigurationError(
            f'The carrier "{carrier.name}" has an `async def`, which nobody would await: capture and restore are '
            "each a `def`."
        )
    checked: Carrier = carrier
    return checked


def _json(name: str, value: Any) -> Any:
    """Return the value of a context variable if a run will find the same."""
    try:
        same = bool(json.loads(dump(ANYTHING, value, f'The context variable "{name}"', CARRIED_LIMIT)) == value)
    except PayloadError as error:
        raise ConfigurationError(f"{error} Nothing was stored.") from error
    if not same:
        raise ConfigurationError(
            f'The context variable "{name}" is carried with tasks, so its value must be JSON: text, numbers, booleans, '
            f"None, lists, and dicts with text keys; not {value!r:.100}. Nothing was stored."
        )
    return value
