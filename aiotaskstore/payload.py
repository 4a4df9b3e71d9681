"""Typed payload ⇄ JSON: a handler's signature is its payload's type."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import math
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, GetCoreSchemaHandler, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypedDict

from aiotaskstore.errors import ConfigurationError, PayloadError

DEFAULT_LIMIT = 1024 * 1024
"""Bytes of JSON that a payload or a result may have."""
LARGE = 100 * 1024
"""Bytes of JSON from which on we say that a reference would serve better."""

_log = logging.getLogger("aiotaskstore")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SUSPECT = re.compile(rb"null|NaN|Infinity|[0-9]{4300}")
"""Where a number may have been written that cannot be read back as it was."""
_KINDS = inspect.Parameter


class UnresolvedTypeError(ConfigurationError):
    """An annotation names a type that is not there, or not yet: it may be defined below its use."""


class Payload:
    """A handler's parameters as one type."""

    def __init__(self, handler: Callable[..., Any], alias: str, *, skip_first: bool) -> None:
        self._handler, self._alias = handler, alias
        parameters = list(inspect.signature(handler).parameters.values())
        if any(one.kind is _KINDS.VAR_POSITIONAL for one in parameters):
            raise ConfigurationError(
                f'The handler "{alias}" takes *args, but a payload stores arguments by name. '
                "Take a list instead: values: list[int]."
            )
        self.parameters: list[inspect.Parameter] = parameters[1:] if skip_first else parameters
        self._positions = tuple(
            one.name for one in self.parameters if one.kind in {_KINDS.POSITIONAL_ONLY, _KINDS.POSITIONAL_OR_KEYWORD}
        )
        self.positional_only: dict[str, Any] = {
            one.name: one.default for one in self.parameters if one.kind is _KINDS.POSITIONAL_ONLY
        }
        """Their defaults, by name in order."""
        self._namespace = local_names(handler)

    def check_type(self) -> None:
        """Build the type; raise `ConfigurationError`, or `UnresolvedTypeError` where it names one that is not there."""
        _ = self._adapter

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], limit: int) -> str:
        """Check a call's arguments and return them as JSON text; raise `PayloadError`."""
        values = dict(zip(self._positions, args, strict=False))
        if len(args) > len(self._positions):
            raise self._misfit(f"{len(args)} positional arguments were given")
        twice = values.keys() & kwargs.keys()
        if twice:
            raise self._misfit(f"{min(twice)} was given twice")
        values.update(kwargs)
        return self.encode_values(values, limit)

    def encode_values(self, values: Mapping[str, Any], limit: int) -> str:
        """Check arguments by name and return them as JSON text; raise `PayloadError`."""
        try:
            checked = self._adapter.validator.validate_python(values)
        except ValidationError as error:
            raise self._misfit(_described(error)) from error
        return dump(self._adapter, checked, f'The payload of "{self._alias}"', limit)

    def decode(self, text: str) -> dict[str, Any]:
        """Read arguments by name from JSON text; raise `PayloadError` where old rows meet new code."""
        try:
            arguments: dict[str, Any] = self._adapter.validator.validate_json(text)
        except ValidationError as error:
            raise self._misfit(_described(error)) from error
        return arguments

    def read_texts(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Read arguments by name from texts, as a command line gives them: each as its parameter's type, or as JSON.

        Text that names no parameter stays text. Raises `PayloadError`; whether all arguments are there is not checked.
        """
        found: dict[str, Any] = {}
        for name, text in texts.items():
            adapter = self._adapters.get(name, self._adapters.get("**"))
            try:
                found[name] = text if adapter is None else _read_text(adapter, text)
            except ValidationError as error:
                raise self._misfit(f"{name}: {_described(error)}") from error
        return found

    @property
    def signature(self) -> str:
        """The parameters as they are written in Python."""
        return str(inspect.Signature([one.replace(kind=one.kind) for one in self.parameters]))

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        hints = type_hints(self._handler, self._namespace, self._alias)
        fields: dict[str, Any] = {}
        free: FreeKeywords | None = None
        for one in self.parameters:
            hint = hints.get(one.name, Any)
            if one.kind is _KINDS.VAR_KEYWORD:
                free = FreeKeywords(hint)
                continue
            fields[one.name] = hint if one.default is _KINDS.empty else NotRequired[hint]
        shape = TypedDict("Payload", fields)  # type: ignore[misc] # the fields are known at run time only
        config = ConfigDict(extra="allow" if free else "forbid", allow_inf_nan=False)
        setattr(shape, "__pydantic_config__", config)  # noqa: B010 - mypy knows no such attribute
        return build(Annotated[shape, free] if free else shape, f'The payload of "{self._alias}"')

    @cached_property
    def _adapters(self) -> dict[str, TypeAdapter[Any]]:
        """The type of each parameter; that of free keywords under `**`."""
        hints = type_hints(self._handler, self._namespace, self._alias)
        return {
            "**" if one.kind is _KINDS.VAR_KEYWORD else one.name: build(
                hints.get(one.name, Any), f'The parameter {one.name} of "{self._alias}"'
            )
            for one in self.parameters
        }

    def _misfit(self, what: str) -> PayloadError:
        return PayloadError(f'The payload of "{self._alias}" does not fit: {what}. Expected {self.signature}.')


class FreeKeywords:
    """Passes pydantic the type that `**kwargs` is annotated with."""

    def __init__(self, hint: Any) -> None:
        self._hint = hint

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        schema = handler(source)
        shape: Any = handler.resolve_ref_schema(schema)
        shape["extras_schema"] = handler.generate_schema(self._hint)
        return schema


class Result:
    """What a handler returns, as a type."""

    def __init__(self, handler: Callable[..., Any], alias: str) -> None:
        self._handler, self._alias = handler, alias
        self._namespace = local_names(handler)

    def encode(self, value: Any, limit: int) -> str:
        """Return a returned value as JSON text.

        Raises `PayloadError` where it cannot be stored, or could not be read back as the type that the handler
        declares: the attempt must fail, not a later read of its result.
        """
        text = "null" if value is None else dump(self._adapter, value, f'The result of "{self._alias}"', limit)
        if self._hint is not Any:
            try:
                self._adapter.validator.validate_json(text)
            except ValidationError as error:
                raise PayloadError(
                    f'The result of "{self._alias}" does not fit: {_described(error)}. The handler declares to return '
                    f"{_spelled(self._hint)}, and returned {type(value).__name__}."
                ) from error
        return text

    def encode_returned(self, value: Any, output: str | None, limit: int) -> str:
        """Return as JSON text what a handler returned, or its output if it returned nothing."""
        if value is None and output is not None:
            return self.encode_output(output, limit)
        return self.encode(value, limit)

    def encode_output(self, text: str, limit: int) -> str:
        """Return `context.output` as JSON text: the result of a handler that declares none, else as if returned."""
        if self._hint is type(None):
            return dump(ANYTHING, text, f'The output of "{self._alias}"', limit)
        return self.encode(text, limit)

    @cached_property
    def may_be_none(self) -> bool:
        """Whether the handler declares that it may return nothing."""
        try:
            self.encode(None, DEFAULT_LIMIT)
        except PayloadError:
            return False
        return True

    def decode(self, text: str) -> Any:
        """Read a result as the type the handler declares."""
        adapter = ANYTHING if self._hint is type(None) else self._adapter
        try:
            return adapter.validator.validate_json(text)
        except ValidationError as error:
            raise PayloadError(
                f'The stored result of "{self._alias}" is not what the handler declares to return: {_described(error)}.'
            ) from error

    @cached_property
    def _hint(self) -> Any:
        hint = type_hints(self._handler, self._namespace, self._alias).get("return", Any)
        return Any if hint in (typing.NoReturn, typing.Never, object) else hint

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return build(self._hint, f'The result of "{self._alias}"')


ANYTHING: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(defer_build=True))  # importing this would build it


def dump(adapter: TypeAdapter[Any], value: Any, what: str, limit: int) -> str:
    """Return a value as JSON text that every database returns as it was stored; raise `PayloadError`."""
    try:
        raw = adapter.serializer.to_json(value, by_alias=True, round_trip=True, warnings=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise PayloadError(f"{what} cannot be written as JSON: {error}. Use types that pydantic serialises.") from error
    if _SUSPECT.search(raw):
        _check_numbers(adapter, value, raw, what)
    if b"\\u0000" in raw and _NUL.search(raw):
        raise PayloadError(f"{what} contains a NUL character, which databases cannot search or compare.")
    if len(raw) > limit:
        raise PayloadError(
            f"{what} is {len(raw):,} bytes of JSON, and the limit is {limit:,}. Store the data elsewhere and "
            "enqueue a reference to it, or raise payload_limit."
        )
    if len(raw) > LARGE:
        _log.warning("%s is %s bytes of JSON; a reference to the data would serve better", what, f"{len(raw):,}")
    return raw.decode()


def build(type_: Any, what: str) -> TypeAdapter[Any]:
    """Build pydantic's adapter.

    Raises `ConfigurationError` for a type that pydantic cannot handle, and as one of them `UnresolvedTypeError` for a
    type that names another which is not there, or not yet.
    """
    try:
        adapter = TypeAdapter(type_)
        if not getattr(adapter, "pydantic_complete", True):
            adapter.rebuild(raise_errors=True)
    except NameError as error:
        raise UnresolvedTypeError(
            f'{what} has a type that names "{error.name}", which cannot be found. '
            "Import the type at run time, not only under TYPE_CHECKING."
        ) from error
    except (PydanticUserError, TypeError, SyntaxError) as error:
        if isinstance(error, PydanticUserError) and error.code == "typed-dict-version":
            raise ConfigurationError(
                f"{what} has a typing.TypedDict in its type, which pydantic cannot handle before Python 3.12. Define "
                "it with that of typing_extensions: from typing_extensions import TypedDict."
            ) from error
        raise ConfigurationError(f"{what} has a type that pydantic cannot handle: {error}") from error
    return adapter


def _read_text(adapter: TypeAdapter[Any], text: str) -> Any:
    """Read a value from a text; raise pydantic's error about the text if it is no JSON of that type either."""
    try:
        return adapter.validate_strings(text)
    except ValidationError as error:
        with suppress(ValidationError):
            return adapter.validate_json(text)
        if not text:  # a bare --flag
            with suppress(ValidationError):
                return adapter.validate_python(True, strict=True)  # noqa: FBT003 - the value
        raise error from None


def type_hints(handler: Callable[..., Any], namespace: Mapping[str, Any], alias: str) -> dict[str, Any]:
    """Resolve a handler's annotations, with the local names of an enclosing function."""
    try:
        return typing.get_type_hints(function_of(handler), localns=dict(namespace), include_extras=True)
    except NameError as error:
        raise UnresolvedTypeError(
            f'The annotations of the handler "{alias}" cannot be resolved: {error}. '
            "Import the type at run time, not only under TYPE_CHECKING."
        ) from error
    except (TypeError, SyntaxError) as error:
        raise ConfigurationError(f'The annotations of the handler "{alias}" cannot be resolved: {error}.') from error


def local_names(handler: Callable[..., Any]) -> dict[str, Any]:
    """Return the local names that a nested handler's annotations may use."""
    outer, nested, _ = getattr(function_of(handler), "__qualname__", "").rpartition(".<locals>.")
    names: dict[str, Any] = {}
    frame = sys._getframe(1) if nested else None  # noqa: SLF001 - the documented way to a caller's names
    while frame is not None:
        if f"{outer}.".startswith(f"{frame.f_code.co_qualname}."):
            names = frame.f_locals | names
        frame = frame.f_back
    return names


def function_of(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that has the annotations: a partial's function, a callable object's method."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isroutine(handler) or inspect.isclass(handler):
        return handler
    return type(handler).__call__


def _check_numbers(adapter: TypeAdapter[Any], value: Any, raw: bytes, what: str) -> None:
    """Refuse NaN and infinity, which pydantic writes as null, and integers that Python will not read again."""
    constants: list[str] = []
    try:
        plain = json.loads(raw, parse_constant=constants.append)
    except ValueError as error:
        raise PayloadError(f"{what} cannot be read back from JSON: {error}. Send such a number as text.") from error
    given = adapter.serializer.to_python(value, by_alias=True, round_trip=True, warnings=False)
    if constants or _lost_a_number(plain, given):
        raise PayloadError(f"{what} contains NaN or infinity, which JSON cannot carry.")


def _lost_a_number(plain: Any, given: Any) -> bool:
    """Return whether a number became a null."""
    if plain is None:
        return isinstance(given, float) and not math.isfinite(given)
    if isinstance(plain, dict) and isinstance(given, Mapping):
        return any(map(_lost_a_number, plain.values(), given.values()))
    if isinstance(plain, list) and isinstance(given, set | frozenset):  # a copy of a set may have another order
        return None in plain and any(_lost_a_number(None, one) for one in given)
    if isinstance(plain, list) and isinstance(given, Iterable):
        return any(map(_lost_a_number, plain, given))
    return False


def _spelled(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _described(error: ValidationError) -> str:
    """Say what pydantic found, argument by argument."""
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(str(part) for part in one["loc"])
        found.append(f"{where}: {one['msg']}" if where else one["msg"])
    more = error.error_count() - len(found)
    return "; ".join(found) + (f"; and {more} more" if more > 0 else "")
