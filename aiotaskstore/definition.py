"""A definition: an alias with its handler, payload type and defaults.

Its drafts and its bound form stand in the same file, since the three types refer to each other.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

import anyio.to_thread

from aiotaskstore.alias import check_alias
from aiotaskstore.connection_argument import check_connection
from aiotaskstore.context import TaskContext, running_context
from aiotaskstore.direct import DirectRun
from aiotaskstore.errors import ConfigurationError, PayloadError
from aiotaskstore.handle import TaskHandle
from aiotaskstore.handler_call import call_in_thread, is_async
from aiotaskstore.handler_signature import context_parameter, first_parameter, refuse_generators
from aiotaskstore.including_stores import IncludingStore, IncludingStores
from aiotaskstore.mechanics.text import check_text, printable
from aiotaskstore.options import DefinitionOptions, TaskOptions, check_options
from aiotaskstore.payload import Payload, Result, UnresolvedTypeError
from aiotaskstore.recurrence import Recurrence, RecurrenceFunction, as_recurrence
from aiotaskstore.schedule import (
    Schedule,
    ScheduleOptions,
    ScheduleStatus,
    check_schedule_names,
    check_schedule_payload,
)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_DESCRIPTION_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Draft(Generic[R_co]):
    """A task that is checked, but not stored; it may be enqueued any number of times."""

    alias: str
    payload: str
    """JSON text."""
    options: dict[str, Any]
    definition: TaskDefinition[..., R_co] | None = None
    unchecked: bool = False
    """Whether the task may be enqueued although its alias is unknown."""


def check_drafts(drafts: object) -> list[Draft[Any]]:
    """Return drafts as a list; raise `ConfigurationError` if anything else is among them."""
    given: list[Any] = list(drafts) if isinstance(drafts, Iterable) else [None]
    if not all(isinstance(one, Draft) for one in given):
        raise ConfigurationError(
            "Enqueuing many, or soon, takes drafts, such as send_welcome.draft(42) or "
            f'store.draft("send_welcome", {{"user_id": 42}}), not {printable(drafts, limit=100)}.'
        )
    return given


class Enqueuer(IncludingStore, Protocol):
    """A store, as far as a definition uses it."""

    async def enqueue_draft(self, draft: Draft[R], connection: Any) -> TaskHandle[R]:
        """Store a draft, on the caller's connection unless that is `None`."""

    def declare_schedule(self, schedule: Schedule) -> None:
        """Take a schedule in that code declares."""


class BoundTask(Generic[P, R]):
    """A definition with options, and perhaps a connection, already chosen."""

    def __init__(self, definition: TaskDefinition[P, R], options: dict[str, Any], connection: Any) -> None:
        self._definition, self._options, self._connection = definition, options, connection

    async def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Store a task for these arguments; returns once it is durable (or part of the caller's transaction).

        Raises `PayloadError` where the arguments do not fit, `DuplicateTaskError` where the external id is
        taken, `NotInTransactionError` where `.using()` was given a connection that commits by itself.
        """
        definition = self._definition
        return await definition.store.enqueue_draft(self._draft(args, kwargs), self._connection)

    def draft(self, /, *args: P.args, **kwargs: P.kwargs) -> Draft[R]:
        """Check these arguments and return a draft, for `enqueue_many`, `enqueue_soon` and schedules."""
        return self._draft(args, kwargs)

    def options(self, **options: Unpack[TaskOptions]) -> BoundTask[P, R]:
        """Return a bound task that enqueues with these options."""
        return BoundTask(self._definition, check_options({**self._options, **options}), self._connection)

    def schedule(
        self,
        recurrence: Recurrence | RecurrenceFunction | str,
        *,
        name: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Declare a schedule for this task, in every store that includes it: `send_digest.schedule("0 9 * * mon-fri")`.

        A plain call, at import; it is stored under its name (by default the alias) when the store opens. Raises what
        cannot work: `InvalidRecurrenceError`, `PayloadError`, `ConfigurationError`, `DuplicateScheduleError`.

        Its tasks have external ids of the schedule's own, one for each occurrence: a definition's `external_id`
        function is not used for them.
        """
        definition = self._definition
        schedule = declared_schedule(definition.alias if name is None else name, self, recurrence, options)
        definition.add_schedule(schedule)
        return schedule

    @property
    def task_options(self) -> dict[str, Any]:
        """The options chosen so far."""
        return self._options

    @property
    def definition(self) -> TaskDefinition[P, R]:
        """The definition of the task."""
        return self._definition

    def using(self, connection: object, /) -> BoundTask[P, R]:
        """Enqueue on the caller's connection, as a part of its transaction.

        Raises `ConfigurationError` for `None`.
        """
        check_connection(connection)
        return BoundTask(self._definition, self._options, connection)

    def _draft(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Draft[R]:
        definition = self._definition
        payload = definition.payload.encode(args, kwargs, definition.payload_limit)
        return Draft(definition.alias, payload, definition.keyed(self._options, args, kwargs), definition)


class TaskDefinition(BoundTask[P, R]):
    """A handler with its alias, payload type and defaults.

    `await send_welcome(42)` just runs the function; `.enqueue(42)` stores a task.
    """

    def __init__(
        self,
        handler: Callable[..., Any],
        *,
        alias: str | None = None,
        title: str | None = None,
        description: str | None = None,
        options: DefinitionOptions,
        typed_by: Callable[..., Any] | None = None,
    ) -> None:
        """Check a handler and its options.

        `typed_by` is a function with its signature, where it has none of its own; that takes a context first.
        """
        super().__init__(self, {}, None)
        if not callable(handler):
            raise ConfigurationError(f"A handler is a function, not {handler!r:.100}.")
        self.handler = handler
        self.alias: str = check_alias(alias if alias is not None else getattr(handler, "__name__", ""))
        refuse_generators(handler, self.alias)
        document = inspect.getdoc(handler) or ""
        self.title: str = check_text(
            title or self.alias.replace("_", " ").replace("-", " ").strip().capitalize(), "title"
        )
        self.description: str = (
            printable(document.partition("\n\n")[0].replace("\n", " "))
            if description is None
            else check_text(description, "description", limit=_DESCRIPTION_LIMIT)
        )
        self.defaults = options
        source = typed_by or handler
        self._context = context_parameter(source, self.alias) or (typed_by and first_parameter(typed_by))
        self.takes_context: bool = self._context is not None
        self.is_async: bool = is_async(handler)
        self.payload: Payload = Payload(source, self.alias, skip_first=self.takes_context)
        self.result: Result = Result(source, self.alias)
        self._stores: IncludingStores[Enqueuer] = IncludingStores()
        self.schedules: list[Schedule] = []
        """The schedules that code declares for it."""
        self.__doc__ = handler.__doc__
        self.__wrapped__ = handler

    @overload
    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def __call__(self, context: TaskContext, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def __call__(self, /, *args: Any, **kwargs: Any) -> R:
        """Run the handler here and now, without any queue; a `def` handler runs in a thread.

        Inside a run it has the caller's context, outside one a context of its own: `context.task` is a first attempt
        that is not stored, and progress and details stay in memory. A context may also be passed, first or by its
        name. Whatever the handler raises is raised, also `Retry` and the like.
        """
        passed, args = self._passed_context(args, kwargs)
        store = self._stores.likely()
        own = DirectRun(self.alias, self.defaults, lambda: self._payload_of_call(args, kwargs), store=store)
        context = passed or running_context.get() or TaskContext(own, store)
        given = (context, *args) if self.takes_context else args
        token = running_context.set(context)
        try:
            async with own:  # commits or rolls back the transaction that the handler may have opened
                if self.is_async:
                    return cast(R, await self.handler(*given, **kwargs))
                return cast(R, await call_in_thread(self.handler, given, kwargs, asyncio.to_thread))
        except asyncio.CancelledError:
            own.stopping = True  # a handler in a thread goes on, and may read this
            raise
        finally:
            running_context.reset(token)

    def __repr__(self) -> str:
        return f'<TaskDefinition "{self.alias}" {self.payload.signature}>'

    @property
    def store(self) -> Enqueuer:
        """The store that enqueues this definition: the only store that includes it, or the only open one.

        Raises `ConfigurationError` if no store includes the definition, or if several of its stores are open.
        """
        return self._stores.choose(self.alias)

    @property
    def payload_limit(self) -> int:
        """The smallest limit among the stores that include this definition, in bytes of JSON."""
        return self._stores.payload_limit

    def check_types(self, *, early: bool = False) -> None:
        """Build the types of the payload, so that what cannot work is refused before it is used.

        Raises `ConfigurationError`. While it is `early`, a type may name another that is defined later. The type of the
        result is left to the runs: a handler that is only called directly may return what nobody could store.
        """
        try:
            self.payload.check_type()
        except UnresolvedTypeError:
            if not early:
                raise

    def belong_to(self, store: Enqueuer) -> None:
        """Add a store that includes this definition."""
        self._stores.add(store)

    def add_schedule(self, schedule: Schedule) -> None:
        """Add a schedule to this definition, and to the stores that include it."""
        for store in self._stores.all():
            store.declare_schedule(schedule)
        self.schedules.append(schedule)

    def _passed_context(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[TaskContext | None, tuple[Any, ...]]:
        """Separate the context from a direct call's other arguments, if a context was passed."""
        if args and isinstance(args[0], TaskContext):
            return args[0], args[1:]
        parameter = self._context
        if parameter is not None and parameter.kind is not parameter.POSITIONAL_ONLY and parameter.name in kwargs:
            context = kwargs.pop(parameter.name)
            if not isinstance(context, TaskContext):
                raise ConfigurationError(
                    f'"{parameter.name}" of "{self.alias}" is its TaskContext, not {context!r:.100}; leave it out for '
                    "a context of its own."
                )
            return context, args
        return None, args

    def _payload_of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a direct call's arguments as they would be stored; `None` if they could not be stored."""
        try:
            return json.loads(self.payload.encode(args, kwargs, self.payload_limit))
        except PayloadError:
            return None

    def keyed(self, options: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Add what the definition's functions make of a call's arguments, such as its external id.

        They are called as the task is enqueued; what they need besides are the handler's defaults. An option that was
        chosen wins. Raises `ConfigurationError` for a function that raises, or returns no text.
        """
        made = {
            name: self._made(name, function, args, kwargs)
            for name, function in self.defaults.functions.items()
            if name not in options
        }
        return options | check_options(made) if made else options

    def _made(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        left_out = {
            needed: default
            for needed, (place, default) in self._needs[name].items()
            if place >= len(args) and needed not in kwargs
        }
        try:
            return function(*args, **kwargs, **left_out)
        except Exception as error:
            raise ConfigurationError(
                f'The function that makes the {name} of "{self.alias}" raised {type(error).__name__}: {error}. It is '
                "called with the arguments as they were enqueued, and returns a text, or None for none."
            ) from error

    @cached_property
    def _needs(self) -> dict[str, dict[str, tuple[int, Any]]]:
        """The arguments that each function needs and a caller may leave out: their places, the handler's defaults."""
        optional = {one.name: one.default for one in self.payload.parameters if one.default is not one.empty}
        return {
            name: {
                one.name: (place if one.kind is one.POSITIONAL_OR_KEYWORD else sys.maxsize, optional[one.name])
                for place, one in enumerate(_parameters(function))
                if one.default is one.empty and one.name in optional and one.kind is not one.POSITIONAL_ONLY
            }
            for name, function in self.defaults.functions.items()
        }

    async def invoke(self, context: TaskContext, arguments: dict[str, Any], limiter: anyio.CapacityLimiter) -> Any:
        """Call the handler with decoded arguments, as a run does."""
        given: list[Any] = [context] if self.takes_context else []
        if self.payload.positional_only:
            given += [arguments.pop(name, default) for name, default in self.payload.positional_only.items()]
        if self.is_async:
            return await self.handler(*given, **arguments)
        in_thread = partial(anyio.to_thread.run_sync, limiter=limiter)
        return await call_in_thread(self.handler, given, arguments, in_thread)


AnyDefinition = TaskDefinition[..., Any]


def _parameters(function: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    try:
        return inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # one of C, such as str, need not tell
        return ()


def declared_schedule(
    name: str,
    task: Draft[Any] | BoundTask[..., Any],
    recurrence: Recurrence | RecurrenceFunction | str,
    options: ScheduleOptions,
) -> Schedule:
    """Make a schedule that code declares; raises `PayloadError` for arguments that do not fit the task."""
    values: dict[str, Any] = dict(check_schedule_names(options))
    payload = values.pop("payload", None)
    if isinstance(task, BoundTask):
        definition, chosen = task.definition, task.task_options
        if not callable(payload):
            check_schedule_payload(payload, name)
            arguments = dict(payload or {})
            payload = json.loads(definition.payload.encode_values(arguments, definition.payload_limit))
            definition.keyed(chosen, (), arguments)  # made anew for each task: here only to see that it can be
        alias, by_function = definition.alias, definition.defaults.external_id is not None
    elif isinstance(task, Draft):
        if payload is not None:
            raise ConfigurationError(f'The schedule "{name}" has two payloads: that of its draft, and payload=.')
        alias, chosen, payload = task.alias, task.options, json.loads(task.payload)
        by_function = task.definition is not None and task.definition.defaults.external_id is not None
    else:
        raise ConfigurationError(
            f"schedule() takes a task, or a draft such as rebuild.draft(full=True), not {task!r:.100}."
        )
    chosen = {key: value for key, value in chosen.items() if not (by_function and key == "external_id")}
    return Schedule(
        name=name,
        alias=alias,
        recurrence=as_recurrence(recurrence, values.pop("timezone", None)),
        payload=payload,
        queue=chosen.pop("queue", None),
        options=chosen,
        status=ScheduleStatus.ACTIVE,
        code_owned=True,
        **values,
    )
