"""Writes docs/reference/index.md from the public names: `python docs/reference/generate.py`.

Signatures come from the code, sentences from the docstrings, and defaults of options from the functions that take them.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiotaskstore
from aiotaskstore import DispatcherOptions, StoreOptions, TaskStore

PAGE = Path(__file__).with_name("index.md")

TAKES: dict[Any, Callable[..., Any]] = {StoreOptions: TaskStore.__init__, DispatcherOptions: TaskStore.dispatcher}
"""What takes the options of a TypedDict, with their defaults."""
UNITS = {"Duration": "seconds, or a `timedelta`"}


class Verbatim:
    """An annotation as it is written in the source."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def render() -> str:
    """Return the whole page."""
    lines = [
        "# Reference",
        "",
        "Every public name, its signature and its docstring. Written by `python docs/reference/generate.py`.",
        "",
    ]
    for name in aiotaskstore.__all__:
        lines += [f"## `{name}`", "", *describe(name, getattr(aiotaskstore, name)), ""]
        if name == "TaskStore":
            for attribute, kind in managers():
                lines += [f"## `store.{attribute}`", "", *describe(attribute, kind), ""]
    return "\n".join(lines).rstrip() + "\n"


def managers() -> Iterator[tuple[str, type]]:
    """Yield the properties of a store that have methods of their own, such as `tasks`, with their classes."""
    for name, member in sorted(vars(TaskStore).items()):
        kind = typing.get_type_hints(member.fget).get("return") if isinstance(member, property) else None
        if getattr(kind, "__module__", "").startswith("aiotaskstore.manage"):
            yield name, kind


def describe(name: str, thing: Any) -> list[str]:
    """Return the lines of one name: its signature, its docstring, its options, fields and methods."""
    document = inspect.getdoc(thing) or ""
    if typing.is_typeddict(thing):
        return [document, "", *options(thing)]
    if not inspect.isclass(thing):
        calls = [f"`{call}`" for call in signatures(name, thing)] if inspect.isfunction(thing) else []
        return [*calls, *([""] if calls else []), document] if document or calls else []
    lines = [document]
    if issubclass(thing, enum.Enum):
        lines += ["", *members(thing)]
    elif dataclasses.is_dataclass(thing):
        lines += ["", *fields(thing)]
    methods = [(key, value) for key, value in sorted(own(thing).items()) if is_public(key, value)]
    if methods:
        lines += ["", *(line for key, value in methods for line in method(key, value))]
    return lines


def own(kind: type) -> dict[str, Any]:
    """Return a class's members; a manager's with those of its bases, over which its methods are spread."""
    spread = kind.__mro__[::-1] if kind.__module__.startswith("aiotaskstore.manage") else (kind,)
    return {key: value for one in spread if one.__module__ != "builtins" for key, value in vars(one).items()}


def members(kind: type[enum.Enum]) -> Iterator[str]:
    """Yield a line for each member of an enum."""
    described = attribute_docs(kind)
    for one in kind:
        yield f"- `{one.value}`{_after(described.get(one.name))}"


def fields(kind: Any) -> Iterator[str]:
    """Yield a line for each field of a dataclass."""
    described = attribute_docs(kind)
    for one in dataclasses.fields(kind):
        default = "" if one.default is dataclasses.MISSING else f" = {one.default!r}"
        yield f"- `{one.name}: {one.type}{default}`{_after(described.get(one.name))}"


def options(kind: Any) -> Iterator[str]:
    """Yield a line for each option of a TypedDict, with its default and, of a duration, its unit."""
    parameters = inspect.signature(TAKES[kind]).parameters if kind in TAKES else {}
    described = attribute_docs(kind)
    for name, annotation in option_types(kind).items():
        default = f" = {parameters[name].default!r}" if name in parameters else ""
        unit = next((f" ({text})" for type_, text in UNITS.items() if type_ in annotation), "")
        yield f"- `{name}: {annotation}{default}`{unit}{_after(described.get(name))}"


def option_types(kind: Any) -> dict[str, str]:
    """Return the options of a TypedDict with their types as they are written, those of its bases first."""
    found: dict[str, str] = {}
    for base in bases(kind):
        found |= option_types(base)
    return found | {
        node.target.id: ast.unparse(node.annotation)
        for node in definition(kind).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def method(key: str, value: Any) -> Iterator[str]:
    """Yield a line for each signature of a method, the last one with the summary."""
    if isinstance(value, property):
        annotation = inspect.signature(value.fget).return_annotation if value.fget else ""
        yield f"- `{key}: {annotation}`{_after(summary(value))}"
        return
    *others, last = signatures(key, getattr(value, "__func__", value))
    yield from (f"- `{one}`" for one in others)
    yield f"- `{last}`{_after(summary(value))}"


def signatures(name: str, function: Callable[..., Any]) -> list[str]:
    """Return how a function is called, each overload by itself."""
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    overloads = typing.get_overloads(function) or [function]
    return [f"{prefix}{name}{_signature(one)}" for one in overloads]


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    found = inspect.signature(function)
    parameters = [_verbatim(one) for one in found.parameters.values() if one.name not in {"self", "cls"}]
    returned = found.return_annotation
    return found.replace(
        parameters=parameters, return_annotation=Verbatim(returned) if isinstance(returned, str) else returned
    )


def _verbatim(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = parameter.annotation
    return parameter.replace(annotation=Verbatim(annotation)) if isinstance(annotation, str) else parameter


def attribute_docs(kind: Any) -> dict[str, str]:
    """Return the texts that stand under attributes, by attribute; those of a base if there is none."""
    found: dict[str, str] = {}
    for base in bases(kind):
        found |= attribute_docs(base)
    nodes = definition(kind).body
    for node, following in zip(nodes, [*nodes[1:], None], strict=True):
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        text = following.value if isinstance(following, ast.Expr) else None
        if isinstance(target, ast.Name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
            found[target.id] = " ".join(text.value.split())
    return found


def bases(kind: Any) -> list[Any]:
    """Return the bases of a class that are ours; a TypedDict has them in its source only."""
    names = vars(sys.modules[kind.__module__])
    found = [names.get(base.id) for base in definition(kind).bases if isinstance(base, ast.Name)]
    return [base for base in found if getattr(base, "__module__", "").startswith("aiotaskstore")]


def definition(kind: Any) -> ast.ClassDef:
    """Return a class as it is written."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)  # noqa: S101 - a class's source is a class
    return node


def is_public(key: str, value: Any) -> bool:
    """Return whether a class's attribute is a documented method or property."""
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return not key.startswith("_") and inspect.isfunction(function) and bool(inspect.getdoc(value))


def summary(value: Any) -> str:
    """Return a docstring's first paragraph on one line."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


def _after(text: str | None) -> str:
    return f": {text}" if text else ""


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
