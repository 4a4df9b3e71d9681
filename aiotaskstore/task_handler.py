"""Class handlers: a task as an object with a method `handle`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

from aiotaskstore.backoff import Backoff
from aiotaskstore.context import TaskContext
from aiotaskstore.definition import AnyDefinition, TaskDefinition
from aiotaskstore.errors import ConfigurationError, HandlerReturnedFalseError
from aiotaskstore.handler_call import is_async
from aiotaskstore.handler_signature import first_parameter, refuse_generators
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.options import DefinitionOptions, OnDecodeError, OnStuck, RetryOn, Serialization
from aiotaskstore.payload import Result
from aiotaskstore.retention import Retention

Q = ParamSpec("Q")
S_co = TypeVar("S_co", covariant=True)

_SAYS_HOW_IT_WENT = {inspect.Signature.empty, None, bool, "bool", "None"}
"""What `handle` declares to return if that is no result, but whether the attempt succeeded."""


class TaskHandler:
    """Base of a handler that is a class; its class attributes are the options of `@store.task`.

    A subclass has a method `handle(self, context)`, `async def` or `def`. It returns `True` or nothing for success,
    `False` for a failed attempt ("handler returned False"), or a value as the result. Parameters after the context are
    the payload's type; without any, the payload may be any JSON object, and `context.param(name)` reads it. A function
    among the attributes is taken as it is, unless its first parameter is `self`.

    One object serves many runs at the same time, so it keeps nothing of a run: that is in the context.
    """

    alias: str = ""
    """The class's name, unless given."""
    title: str | None = None
    description: str | None = None
    """The first paragraph of the class's docstring, unless given."""
    queue: str | None = None
    priority: int = 0
    max_attempts: int | None = None
    backoff: Backoff | Duration | None = None
    retry_on: RetryOn = "any"
    timeout: Duration | None = None
    retention: Retention | None = None
    on_stuck: OnStuck = "retry"
    on_decode_error: OnDecodeError = "retry"
    serialization: Serialization = "loose"
    former_aliases: Sequence[str] = ()


class FreeAsyncHandler(Protocol[S_co]):
    """A class handler whose payload may be any JSON object."""

    def handle(self, context: TaskContext, /) -> Awaitable[S_co]:
        """Do the work."""


class AsyncHandler(Protocol[Q, S_co]):
    """A class handler whose parameters are its payload."""

    def handle(self, context: TaskContext, /, *args: Q.args, **kwargs: Q.kwargs) -> Awaitable[S_co]:
        """Do the work."""


class FreeThreadHandler(Protocol[S_co]):
    """A class handler with a `def`, whose payload may be any JSON object."""

    def handle(self, context: TaskContext, /) -> S_co:
        """Do the work, in a thread."""


class ThreadHandler(Protocol[Q, S_co]):
    """A class handler with a `def`, whose parameters are its payload."""

    def handle(self, context: TaskContext, /, *args: Q.args, **kwargs: Q.kwargs) -> S_co:
        """Do the work, in a thread."""


def definition_of(handler: object) -> AnyDefinition:
    """Return the definition of a class handler; raise `ConfigurationError` for one that cannot work."""
    if isinstance(handler, TaskDefinition):
        return handler
    if not isinstance(handler, TaskHandler):
        raise ConfigurationError(_not_a_handler(handler))
    handle = getattr(handler, "handle", None)
    name = type(handler).__name__
    if not callable(handle):
        raise ConfigurationError(f"{name} has no method `handle(self, context)`, which does the work.")
    refuse_generators(handle, name)
    declared = _signature(handle, name)
    typed = len(declared.parameters) > 1
    definition: AnyDefinition = TaskDefinition(
        (_AsyncCall if is_async(handle) else _ThreadCall)(handler, handle if typed else _without_payload(handle)),
        alias=handler.alias or name,
        title=handler.title,
        description=_description_of(handler) if handler.description is None else handler.description,
        options=_options_of(handler),
        typed_by=handle if typed else _any_payload,
    )
    if declared.return_annotation in _SAYS_HOW_IT_WENT:
        definition.result = Result(_any_payload, definition.alias)
    elif not typed:
        definition.result = Result(handle, definition.alias)
    definition.check_types(early=True)
    return definition


class _ClassCall:
    """A class handler as a function of the context and the payload. Equal handlers make equal calls."""

    def __init__(self, handler: TaskHandler, handle: Callable[..., Any]) -> None:
        self._handler, self._handle = handler, handle

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ClassCall) and _same(self._handler, other._handler)

    def __hash__(self) -> int:
        return hash(type(self._handler))


class _AsyncCall(_ClassCall):
    async def __call__(self, context: TaskContext, /, *args: Any, **params: Any) -> Any:
        return _checked(await self._handle(context, *args, **params), context)


class _ThreadCall(_ClassCall):
    def __call__(self, context: TaskContext, /, *args: Any, **params: Any) -> Any:
        value = self._handle(context, *args, **params)
        return _later(value, context) if inspect.isawaitable(value) else _checked(value, context)


def _any_payload(context: TaskContext, /, **params: Any) -> Any:
    """Take any payload: the signature of a class handler that declares no parameters."""
    raise NotImplementedError


def _without_payload(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `handle` that reads its payload from the context, as one that is given it too."""
    return lambda context, **_params: handle(context)


async def _later(value: Awaitable[Any], context: TaskContext) -> Any:
    return _checked(await value, context)


def _checked(value: Any, context: TaskContext) -> Any:
    """Return the result of what `handle` returned; raise if that says that the attempt failed."""
    if value is False:
        raise HandlerReturnedFalseError
    return None if value is True and context.output is not None else value


def _same(one: TaskHandler, other: TaskHandler) -> bool:
    """Whether two objects are the same handler: of one class, with the same attributes."""
    return one is other or (type(one) is type(other) and (one == other or _attributes(one) == _attributes(other)))


def _attributes(handler: TaskHandler) -> Any:
    return getattr(handler, "__dict__", handler)


def _signature(handle: Callable[..., Any], name: str) -> inspect.Signature:
    """Return the signature of a `handle` that takes a context first."""
    signature = inspect.signature(handle)
    first = first_parameter(handle)
    if first is None or first.kind not in {first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD}:
        raise ConfigurationError(f"{name}.handle{signature} takes no context: write `handle(self, context)`.")
    return signature


def _options_of(handler: TaskHandler) -> DefinitionOptions:
    """Read the options from the attributes of a class handler."""
    there = [name for name in DefinitionOptions.__dataclass_fields__ if hasattr(handler, name)]
    return DefinitionOptions(**{name: _attribute(handler, name) for name in there})


def _attribute(handler: TaskHandler, name: str) -> Any:
    """Return an attribute; a function without `self` as it is, and not as a method."""
    plain = inspect.getattr_static(handler, name)
    if inspect.isfunction(plain):
        first = first_parameter(plain)
        if first is None or first.name != "self":
            return plain
    return getattr(handler, name)


def _description_of(handler: TaskHandler) -> str:
    document = inspect.cleandoc(type(handler).__doc__ or "")
    return document.partition("\n\n")[0].replace("\n", " ")


def _not_a_handler(given: object) -> str:
    if isinstance(given, type) and issubclass(given, TaskHandler):
        return f"{given.__name__} is a class, and an object is needed that serves its runs: {given.__name__}()."
    kind = type(given).__name__
    return (
        f"A store takes a TaskRouter or a task, not {kind}. A task is a function under @store.task, or an object of a "
        "class that derives from TaskHandler."
    )
