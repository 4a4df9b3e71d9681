"""The `task` decorator, and a router that declares tasks without a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from aiotaskstore.backoff import Backoff
from aiotaskstore.context import TaskContext
from aiotaskstore.definition import AnyDefinition, TaskDefinition
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.options import DefinitionOptions, OnDecodeError, OnStuck, RetryOn, Serialization
from aiotaskstore.registry import Registry
from aiotaskstore.retention import Retention

Q = ParamSpec("Q")
S = TypeVar("S")


class _Anything:
    """Nothing is of this type, so a first parameter matches it only when annotated `object` or `Any`."""


class TaskDecorator(Protocol):
    """What `task(…)` with options returns."""

    @overload
    def __call__(
        self, handler: Callable[Concatenate[_Anything, Q], Awaitable[S]], /
    ) -> TaskDefinition[Concatenate[Any, Q], S]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[TaskContext, Q], Awaitable[S]], /) -> TaskDefinition[Q, S]: ...
    @overload
    def __call__(self, handler: Callable[Q, Awaitable[S]], /) -> TaskDefinition[Q, S]: ...
    @overload
    def __call__(
        self, handler: Callable[Concatenate[_Anything, Q], S], /
    ) -> TaskDefinition[Concatenate[Any, Q], S]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[TaskContext, Q], S], /) -> TaskDefinition[Q, S]: ...
    @overload
    def __call__(self, handler: Callable[Q, S], /) -> TaskDefinition[Q, S]: ...


class TaskRouter:
    """Declares tasks without a store, as FastAPI's `APIRouter` does routes; `store.include(router)` adds them."""

    def __init__(self) -> None:
        self._registry = Registry()

    @property
    def handlers(self) -> list[AnyDefinition]:
        """The definitions declared here, in order."""
        return list(self._registry)

    @overload
    def task(
        self, handler: Callable[Concatenate[_Anything, Q], Awaitable[S]], /
    ) -> TaskDefinition[Concatenate[Any, Q], S]: ...
    @overload
    def task(self, handler: Callable[Concatenate[TaskContext, Q], Awaitable[S]], /) -> TaskDefinition[Q, S]: ...
    @overload
    def task(self, handler: Callable[Q, Awaitable[S]], /) -> TaskDefinition[Q, S]: ...
    @overload
    def task(self, handler: Callable[Concatenate[_Anything, Q], S], /) -> TaskDefinition[Concatenate[Any, Q], S]: ...
    @overload
    def task(self, handler: Callable[Concatenate[TaskContext, Q], S], /) -> TaskDefinition[Q, S]: ...
    @overload
    def task(self, handler: Callable[Q, S], /) -> TaskDefinition[Q, S]: ...
    @overload
    def task(
        self,
        *,
        alias: str | None = None,
        title: str | None = None,
        description: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        backoff: Backoff | Duration | None = None,
        retry_on: RetryOn = "any",
        timeout: Duration | None = None,
        retention: Retention | None = None,
        on_stuck: OnStuck = "retry",
        on_decode_error: OnDecodeError = "retry",
        external_id: Callable[..., str | None] | None = None,
        serialization_key: Callable[..., str | None] | None = None,
        serialization: Serialization = "loose",
        former_aliases: Sequence[str] = (),
    ) -> TaskDecorator: ...
    def task(
        self,
        *handler: Any,
        **options: Any,
    ) -> Any:
        """Make a task of a function: `@store.task`, or `@store.task(queue="emails", max_attempts=5)`.

        The function's name is the alias unless one is given, its docstring the description, its signature the
        payload's type. A first parameter annotated `TaskContext` is injected. Raises `ConfigurationError` for
        options and signatures that cannot work, `DuplicateHandlerError` for an alias that is taken.
        """
        naming = {name: options.pop(name, None) for name in ("alias", "title", "description")}

        def declare(function: Callable[..., Any]) -> AnyDefinition:
            definition: AnyDefinition = TaskDefinition(function, **naming, options=definition_options(options))
            definition.check_types(early=True)
            self._declare(definition)
            return definition

        return declare(*handler) if handler else declare

    def _declare(self, definition: AnyDefinition) -> bool:
        return self._registry.add(definition)


_DEFINITION_OPTIONS = frozenset(DefinitionOptions.__dataclass_fields__)


def definition_options(options: dict[str, Any]) -> DefinitionOptions:
    """Check the arguments of the decorator."""
    unknown = set(options) - _DEFINITION_OPTIONS
    if unknown:
        known = sorted(_DEFINITION_OPTIONS | {"alias", "title", "description"})
        raise ConfigurationError(f"@task has no option {', '.join(sorted(unknown))}. Known: {', '.join(known)}.")
    return DefinitionOptions(**options)
