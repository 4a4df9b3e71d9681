"""A definition: an alias with its handler, payload type and defaults."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast
from weakref import ref

import anyio.to_thread

from aiotaskstore.context import TaskContext, running_context
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.options import DefinitionOptions, TaskOptions, check_options
from aiotaskstore.payload import Payload, Result
from aiotaskstore.text import check_text, printable

if TYPE_CHECKING:
    from aiotaskstore.handle import TaskHandle

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

RESERVED = frozenset({"list"})
"""Aliases that the command line uses itself."""
_DESCRIPTION_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Draft(Generic[R_co]):
    """A task that could be enqueued, as often as wanted: checked, but not stored anywhere."""

    alias: str
    payload: str
    """JSON text."""
    options: dict[str, Any]
    definition: TaskDefinition[..., R_co] | None = None
    unchecked: bool = False
    """Whether an alias nobody knows may be enqueued."""


def check_drafts(drafts: object) -> list[Draft[Any]]:
    """Give drafts back as a list; what is none is a `ConfigurationError`."""
    given: list[Any] = list(drafts) if isinstance(drafts, Iterable) else [None]
    if not all(isinstance(one, Draft) for one in given):
        raise ConfigurationError(
            "Enqueuing many, or soon, takes drafts, such as send_welcome.draft(42) or "
            f'store.draft("send_welcome", {{"user_id": 42}}), not {printable(drafts, limit=100)}.'
        )
    return given


class Enqueuer(Protocol):
    """What can store a draft: an open store."""

    @property
    def payload_limit(self) -> int:
        """Bytes of JSON that a payload may have."""

    @property
    def is_open(self) -> bool:
        """Whether it can store anything now."""

    async def enqueue_draft(self, draft: Draft[R], connection: Any) -> TaskHandle[R]:
        """Store a draft, on the caller's connection if one is given."""


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
        """Check these arguments and give a draft, for `enqueue_many`, `enqueue_soon` and schedules."""
        return self._draft(args, kwargs)

    def options(self, **options: Unpack[TaskOptions]) -> BoundTask[P, R]:
        """Choose options for the tasks enqueued through what this returns."""
        return BoundTask(self._definition, check_options({**self._options, **options}), self._connection)

    def using(self, connection: object, /) -> BoundTask[P, R]:
        """Enqueue on the caller's connection: committed with its transaction, gone with its rollback."""
        return BoundTask(self._definition, self._options, connection)

    def _draft(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Draft[R]:
        definition = self._definition
        payload = definition.payload.encode(args, kwargs, definition.payload_limit)
        options = self._options
        key_of = definition.defaults.external_id
        if key_of is not None and "external_id" not in options:
            key = key_of(*args, **kwargs)
            if key is not None:
                options = options | check_options({"external_id": key})
        return Draft(definition.alias, payload, options, definition)


class TaskDefinition(BoundTask[P, R]):
    """A handler with its alias, payload type and defaults.

    Awaiting a call, `await send_welcome(42)`, just runs the function; `.enqueue(42)` stores a task.
    """

    def __init__(
        self,
        handler: Callable[..., Any],
        *,
        alias: str | None = None,
        title: str | None = None,
        description: str | None = None,
        options: DefinitionOptions,
    ) -> None:
        super().__init__(self, {}, None)
        if not callable(handler):
            raise ConfigurationError(f"A handler is a function, not {handler!r}.")
        self.handler = handler
        self.alias: str = check_alias(alias if alias is not None else getattr(handler, "__name__", ""))
        if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
            raise ConfigurationError(
                f'The handler "{self.alias}" is a generator, and a task has one result. Return a list, or enqueue '
                "a task for each item."
            )
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
        self.takes_context: bool = _takes_context(handler, self.alias)
        self.is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__ is a handler too
        )
        self.payload: Payload = Payload(handler, self.alias, skip_first=self.takes_context)
        self.result: Result = Result(handler, self.alias)
        self._stores: list[ref[Enqueuer]] = []
        self.__doc__ = handler.__doc__
        self.__wrapped__ = handler

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the handler here and now, without any queue; a `def` handler runs in a thread."""
        context = running_context.get() or TaskContext(None, next(reversed(self._including()), None))
        given: tuple[Any, ...] = (context, *args) if self.takes_context else args
        if self.is_async:
            return cast(R, await self.handler(*given, **kwargs))
        value = await asyncio.to_thread(self.handler, *given, **kwargs)
        return cast(R, await value if inspect.isawaitable(value) else value)

    def __repr__(self) -> str:
        return f'<TaskDefinition "{self.alias}" {self.payload.signature}>'

    @property
    def store(self) -> Enqueuer:
        """The store that enqueues this definition: the one that includes it, or the one of several that is open.

        Raises `ConfigurationError` where no store includes it, or several that do are open.
        """
        stores = self._including()
        if not stores:
            raise ConfigurationError(
                f'The task "{self.alias}" is declared on a router that no store includes yet. '
                "Call store.include(router) first."
            )
        opened = [store for store in stores if store.is_open]
        if len(opened) > 1:
            raise ConfigurationError(
                f'The task "{self.alias}" is included in {len(opened)} open stores. '
                f'Say which: await store.enqueue("{self.alias}", {{…}}).'
            )
        return opened[0] if opened else stores[-1]

    @property
    def payload_limit(self) -> int:
        """The smallest limit among the stores that include this definition, in bytes of JSON."""
        return min((store.payload_limit for store in self._including()), default=2**31)

    def belong_to(self, store: Enqueuer) -> None:
        """Enqueue on this store from now on."""
        if store not in self._including():
            self._stores.append(ref(store))

    def _including(self) -> list[Enqueuer]:
        """Give the stores that include this definition and are still in use; none is kept alive by it."""
        return [store for one in self._stores if (store := one()) is not None]

    async def invoke(self, context: TaskContext, arguments: dict[str, Any], limiter: anyio.CapacityLimiter) -> Any:
        """Call the handler with decoded arguments, as a run does."""
        given: list[Any] = [context] if self.takes_context else []
        if self.payload.positional_only:
            given += [arguments.pop(name, default) for name, default in self.payload.positional_only.items()]
        if self.is_async:
            return await self.handler(*given, **arguments)
        value, error = await anyio.to_thread.run_sync(
            lambda: _outcome_of(self.handler, given, arguments), limiter=limiter
        )
        if error is not None:
            try:
                raise error
            finally:
                del error  # or its traceback and this frame keep each other for the garbage collector
        return await value if inspect.isawaitable(value) else value


AnyDefinition = TaskDefinition[..., Any]


def check_alias(alias: str) -> str:
    """Give an alias back if one can be enqueued under it."""
    if check_text(alias, "An alias") in ("", "<lambda>"):
        raise ConfigurationError("A task needs an alias: name the function, or pass alias=.")
    if fold(alias) in RESERVED:
        raise ConfigurationError(f'The alias "{alias}" is reserved for the command line; choose another one.')
    return alias


def fold(alias: str) -> str:
    """Give what makes two aliases the same: case, "-" and "_" do not count."""
    return alias.lower().replace("-", "").replace("_", "")


def _outcome_of(
    handler: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Call a handler in its thread, and bring back what it raises as a value.

    A future cannot carry everything: GeneratorExit would close the coroutines that wait for it, not be raised in them.
    """
    try:
        return handler(*args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
        return None, error


def _takes_context(handler: Callable[..., Any], alias: str) -> bool:
    """Tell whether the first parameter is a TaskContext; anywhere else it is a mistake."""
    takes = False
    try:
        signature = inspect.signature(handler)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f'The handler "{alias}" tells no signature ({error}), so its payload is unknown. Wrap it in a function.'
        ) from error
    for index, one in enumerate(signature.parameters.values()):
        if not _is_context(one.annotation):
            continue
        if index or one.kind not in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}:
            raise ConfigurationError(
                f'The handler "{alias}" takes its TaskContext as "{one.name}", but only a first parameter is '
                "injected. Put it first, or call current_context()."
            )
        takes = True
    return takes


def _is_context(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.strip("'\"").rpartition(".")[2] == TaskContext.__name__
    return annotation is TaskContext
