"""Inspects a handler's signature: whether it may be a handler, and whether it takes a context."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from aiotaskstore.context import TaskContext
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.payload import function_of


def refuse_generators(handler: Callable[..., Any], alias: str) -> None:
    """Raise `ConfigurationError` if a handler is a generator."""
    function = function_of(handler)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigurationError(
            f'The handler "{alias}" is a generator, and a task has one result. Return a list, or enqueue '
            "a task for each item."
        )


def context_parameter(handler: Callable[..., Any], alias: str) -> inspect.Parameter | None:
    """Return the first parameter if it is a `TaskContext`, else `None`.

    Raises `ConfigurationError` if another parameter is a `TaskContext`, or if the handler is an unbound method.
    """
    found = None
    try:
        signature = inspect.signature(handler)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f'The handler "{alias}" has no signature that can be read ({error}), so its payload is unknown. '
            "Wrap it in a function."
        ) from error
    for index, one in enumerate(signature.parameters.values()):
        if not index and one.name in {"self", "cls"} and one.kind is not one.KEYWORD_ONLY:
            raise ConfigurationError(
                f'The handler "{alias}" takes "{one.name}" first, so it is a method, and nobody is there to be its '
                f'"{one.name}" when it runs. Decorate a function outside the class, or the method of an object: '
                "store.task(mailer.send)."
            )
        if not _is_context(one.annotation):
            continue
        if index or one.kind not in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}:
            raise ConfigurationError(
                f'The handler "{alias}" takes its TaskContext as "{one.name}", but only a first parameter is '
                "injected. Put it first, or call current_context()."
            )
        found = one
    return found


def first_parameter(handler: Callable[..., Any]) -> inspect.Parameter | None:
    """Return the first parameter, whatever it is; `None` where there is none."""
    return next(iter(inspect.signature(handler).parameters.values()), None)


def _is_context(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.strip("'\"").rpartition(".")[2] == TaskContext.__name__
    return annotation is TaskContext
