"""Writes docs/reference/index.md from the docstrings of the public names: `python docs/reference/generate.py`."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from pathlib import Path
from typing import Any

import aiotaskstore

PAGE = Path(__file__).with_name("index.md")


def render() -> str:
    """Give the whole page."""
    parts = [
        "# Reference",
        "",
        "Every public name, from its docstring. Written by `python docs/reference/generate.py`.",
        "",
    ]
    for name in aiotaskstore.__all__:
        parts += [f"## `{name}`", "", *describe(name, getattr(aiotaskstore, name)), ""]
    return "\n".join(parts).rstrip() + "\n"


def describe(name: str, thing: Any) -> list[str]:
    """Give one name's lines: what it promises, how it is called, what it has."""
    document = inspect.getdoc(thing) or ""
    if not inspect.isclass(thing):
        call = f"`{name}{inspect.signature(thing)}`" if inspect.isfunction(thing) else ""
        return [line for line in (call, "", document) if line or call]
    lines = [document]
    if issubclass(thing, enum.Enum):
        lines += ["", ", ".join(f"`{one.value}`" for one in thing)]
    elif dataclasses.is_dataclass(thing):
        lines += ["", "Fields: " + ", ".join(f"`{one.name}`" for one in dataclasses.fields(thing)) + "."]
    methods = [(key, value) for key, value in sorted(vars(thing).items()) if is_public(key, value)]
    if methods:
        lines += ["", *(f"- `{key}`: {summary(value)}" for key, value in methods)]
    return lines


def is_public(key: str, value: Any) -> bool:
    """Tell whether a class's attribute is a documented method or property."""
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return not key.startswith("_") and inspect.isfunction(function) and bool(inspect.getdoc(value))


def summary(value: Any) -> str:
    """Give a docstring's first paragraph on one line."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
