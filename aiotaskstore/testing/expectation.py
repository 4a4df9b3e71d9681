"""An expected task: which of the enqueued tasks match it, and how the others differ."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

from aiotaskstore.definition import AnyDefinition
from aiotaskstore.errors import ConfigurationError, PayloadError
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.queue import check_count
from aiotaskstore.task import Task

_NEAREST = 3
"""Tasks that an error shows in full."""


class ExpectedOptions(TypedDict, total=False):
    """What else is expected of an enqueued task, beside its arguments; all given must hold."""

    queue: str
    status: str
    run_at: Any
    """The instant before which it does not run, or anything that equals it."""
    delay: Any
    """How long after it was enqueued it is due: a `timedelta`, seconds, or anything that equals them."""
    priority: int
    max_attempts: int
    timeout: Duration
    external_id: str
    serialization_key: str
    owner: tuple[str, str]
    source: str
    metadata: Mapping[str, Any]
    """These values at least."""
    count: int
    """How many tasks match, exactly: 1 or more; without it one at least."""


class Expectation:
    """A task that a test expects: its alias, some of its arguments, some of its options."""

    def __init__(
        self,
        alias: str,
        definition: AnyDefinition | None,
        options: ExpectedOptions,
        arguments: Mapping[str, Any],
    ) -> None:
        if not isinstance(options, Mapping):
            raise ConfigurationError(
                f'Expected options are a mapping such as {{"queue": "emails"}}, not {options!r:.100}.'
            )
        self.alias: str = alias
        self._definition, self._arguments = definition, arguments
        self.count: int | None = _count(options)
        self._options: dict[str, Any] = {name: value for name, value in options.items() if name != "count"}
        unknown = set(options) - set(ExpectedOptions.__annotations__)
        if unknown:
            raise ConfigurationError(
                f"{min(unknown)!r} is nothing that can be expected of a task; what can: "
                f"{', '.join(sorted(ExpectedOptions.__annotations__))}. Arguments are given by name."
            )
        if not isinstance(options.get("metadata", {}), Mapping):
            raise ConfigurationError(f"Expected metadata are a mapping, not {options['metadata']!r:.100}.")
        self._check_arguments()

    def __str__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self._arguments.items()]
        options = "".join(f", {name} {value!r}" for name, value in self._options.items())
        return f"{self.alias}({', '.join(shown)}){options}"

    def matches(self, task: Task) -> bool:
        """Return whether a task is as expected."""
        return task.alias == self.alias and not self._differing(task)

    def misses(self, tasks: Sequence[Task]) -> Iterator[str]:
        """Yield lines that say how the nearest of the tasks differ from what is expected."""
        same = [task for task in tasks if task.alias == self.alias]
        nearest = sorted(same, key=lambda task: len(self._differing(task)))[:_NEAREST]
        if nearest:
            yield f"Nearest of {len(same)} {self.alias} (- expected, + enqueued):"
        for task in nearest:
            yield f"  {task.id} {task.status}"
            actual = self._actual(task)
            expected = self._expected(task)
            lines = difflib.ndiff(
                [f"{name}={value!r}" for name, value in expected.items()],
                [f"{name}={actual[name]!r}" for name in expected],
            )
            yield from (f"    {line.rstrip()}" for line in lines)
        others = Counter(task.alias for task in tasks if task.alias != self.alias)
        if others:
            yield "Enqueued besides: " + ", ".join(f"{alias} × {count}" for alias, count in sorted(others.items()))

    def _differing(self, task: Task) -> list[str]:
        actual = self._actual(task)
        stored = task.payload if isinstance(task.payload, dict) else {}
        return [
            name
            for name, value in self._expected(task).items()
            if not (actual[name] == value or (name in self._arguments and stored.get(name, _ABSENT) == value))
        ]

    def _expected(self, task: Task) -> dict[str, Any]:
        """Return what is expected, by name; metadata that nobody asks for are those of the task."""
        expected = dict(self._arguments)
        for name, value in self._options.items():
            expected[_shown(name)] = {**task.metadata, **value} if name == "metadata" else _normal(name, value)
        return expected

    def _actual(self, task: Task) -> dict[str, Any]:
        found = self._decoded(task)
        actual: dict[str, Any] = {name: found.get(name, _ABSENT) for name in self._arguments}
        for name in self._options:
            if name == "delay":
                actual[_shown(name)] = (task.run_at - task.created_at).total_seconds()
            elif name == "timeout":
                actual[_shown(name)] = None if task.timeout is None else task.timeout.total_seconds()
            else:
                actual[_shown(name)] = getattr(task, name, _ABSENT)
        return actual

    def _decoded(self, task: Task) -> dict[str, Any]:
        """Return a task's arguments as its handler would get them, with its defaults."""
        if self._definition is None or task.payload is None:
            return task.payload if isinstance(task.payload, dict) else {}
        payload = self._definition.payload
        defaults = {one.name: one.default for one in payload.parameters if one.default is not one.empty}
        try:
            return defaults | payload.decode(json.dumps(task.payload))
        except PayloadError:  # stored by another version of the code
            return dict(task.payload)

    def _check_arguments(self) -> None:
        """Raise `ConfigurationError` for an argument that the handler does not take: no task could ever match it."""
        if self._definition is None:
            return
        parameters = self._definition.payload.parameters
        if any(one.kind is one.VAR_KEYWORD for one in parameters):
            return
        known = [one.name for one in parameters]
        for name in self._arguments:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(known) or 'none'}."
                raise ConfigurationError(
                    f'"{self.alias}" takes no argument {name}. {hint} Options are expected in the mapping before the '
                    'arguments, such as {"queue": "emails"}.'
                )


def _count(options: ExpectedOptions) -> int | None:
    if "count" not in options:
        return None
    if options["count"] == 0 and not isinstance(options["count"], bool):
        raise ConfigurationError("A count of 0 expects that nothing was enqueued: refute_enqueued() tests that.")
    return check_count(options["count"], "count")


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


_ABSENT = _Absent()


def _shown(name: str) -> str:
    """Return an option's name in a diff, where no argument has it."""
    return f"option {name}"


def _normal(name: str, value: Any) -> Any:
    """Return a duration in seconds, and what is compared as it is: also what only equals one, such as `approx(60)`."""
    return seconds(value, name) if name in {"delay", "timeout"} and isinstance(value, timedelta) else value
