"""Writes the pages of docs/reference from the public names and the commands: `python docs/reference/generate.py`.

Signatures come from the code, sentences from the docstrings, and defaults of options from the functions that take them.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import pkgutil
import sys
import textwrap
import tomllib
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import click

import aiotaskstore
import aiotaskstore.integrations
import aiotaskstore.testing
from aiotaskstore import DispatcherOptions, Event, StoreOptions, TaskStore, TaskStoreError
from aiotaskstore.cli.app import commands
from aiotaskstore.cli.exit_code import ExitCode

FOLDER = Path(__file__).parent

TAKES: dict[Any, Callable[..., Any]] = {StoreOptions: TaskStore.__init__, DispatcherOptions: TaskStore.dispatcher}
"""What takes the options of a TypedDict, with their defaults."""
UNITS = {"Duration": "seconds, or a `timedelta`"}


class Verbatim:
    """An annotation as it is written in the source."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


TOPICS = {
    "The store": "TaskStore StoreOptions TaskRouter Queue Retention StoreHealth",
    "Declaring tasks": "TaskDefinition TaskHandler TaskOptions Backoff constant steps exponential fibonacci noop",
    "Enqueuing": "TaskHandle Draft Carrier OutgoingTask",
    "In a handler": "TaskContext current_context Retry Snooze Cancel Fail is_retryable TaskLogFilter",
    "Around runs": "Middleware CallNext",
    "Running": "Dispatcher DispatcherOptions DispatcherInfo DispatcherHealth",
    "Tasks as they are stored": "Task TaskStatus FinishReason AttemptError Progress TaskFilters TaskSelection "
    "TaskChanges",
    "Definitions as they are stored": "Definition DefinitionStatus DefinitionFilters DefinitionChanges",
    "Queues as they are": "QueueInfo QueueMeasurement",
    "Schedules": "Schedule ScheduleStatus ScheduleOptions ScheduleFilters ScheduleChanges Recurrence Cron Every Once "
    "RecurrenceRule Frequency DayOfWeek MonthOfYear",
    "Findings": "Finding Severity",
    "Protocols, to annotate with and to fake": "TaskEnqueuer EnqueueableTask EnqueuedTask TaskReader HandlerStore "
    "HandlerContext",
}
"""Where a reader finds a name; errors and events are found by what they are, and what stands nowhere comes last."""
ENVIRONMENT = {
    "AIOTASKSTORE_APP": "the app of the commands, where `--app` names none: `module:attribute`",
    "AIOTASKSTORE_URL": "the database of `TaskStore.from_env()`, and of the commands where neither `--url` nor an app "
    "names one",
    "DATABASE_URL": "the same, where `AIOTASKSTORE_URL` is not set",
    "NO_COLOR": "no colours, if it is set to anything",
    "TERM": "`dumb`: no colours and no redrawing",
}
"""The variables that the library and its commands read."""


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    return {
        "index.md": render(),
        "testing.md": module_page("Testing", [aiotaskstore.testing]),
        "integrations.md": module_page("Integrations", integrations()),
        "command-line.md": command_page(),
    }


def render() -> str:
    """Return the page of the names that `aiotaskstore` exports."""
    lines = [
        "# Reference",
        "",
        "Every public name, its signature and its docstring. Written by `python docs/reference/generate.py`.",
        "",
        "On pages of their own: [testing](testing.md), [integrations](integrations.md), and",
        "[commands, exit codes, environment](command-line.md). Metrics: [Watching](../guide/watching.md).",
        "",
        *contents(),
        "",
    ]
    for name in aiotaskstore.__all__:
        lines += [f"## `{name}`", "", *describe(name, getattr(aiotaskstore, name)), ""]
        if name == "TaskStore":
            for attribute, kind in managers():
                lines += [f"## `store.{attribute}`", "", *describe(attribute, kind), ""]
    return "\n".join(lines).rstrip() + "\n"


def contents() -> Iterator[str]:
    """Yield the rows of a table of the names by topic."""
    topics = {topic: names.split() for topic, names in TOPICS.items()}
    topics["The store"] += [f"store.{attribute}" for attribute, _ in managers()]
    topics["Events"] = [name for name in aiotaskstore.__all__ if _is_a(name, Event)]
    topics["Errors"] = [name for name in aiotaskstore.__all__ if _is_a(name, TaskStoreError)]
    placed = {name for names in topics.values() for name in names}
    topics["More"] = [name for name in aiotaskstore.__all__ if name not in placed]
    yield from ("| topic | names |", "|---|---|")
    for topic, names in topics.items():
        found = [name for name in names if "." in name or name in aiotaskstore.__all__]
        if found:
            yield f"| {topic} | {' '.join(f'[`{name}`](#{_anchor(name)})' for name in found)} |"


def _anchor(heading: str) -> str:
    return heading.lower().replace(".", "")


def _is_a(name: str, kind: type) -> bool:
    thing = getattr(aiotaskstore, name)
    return inspect.isclass(thing) and issubclass(thing, kind)


def integrations() -> list[Any]:
    """Return the modules for other packages: those that are named as an extra."""
    package = aiotaskstore.integrations
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    names = sorted(one.name for one in pkgutil.iter_modules(package.__path__) if one.name in extras)
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def exported(module: Any) -> list[str]:
    """Return a module's public names: those that it lists, else those that it makes and describes."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    made = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
    named = {*made, *texts_beneath(ast.parse(inspect.getsource(module)).body)}
    return sorted(name for name in named if not name.startswith("_"))


def module_page(title: str, modules: list[Any]) -> str:
    """Return the page of the names that some modules export."""
    lines = [f"# {title}", ""]
    for module in modules:
        lines += [f"## `{module.__name__}`", "", inspect.getdoc(module) or "", ""]
        for name in exported(module):
            lines += [f"### `{name}`", "", *describe_in([module, *modules], name), ""]
    return "\n".join(lines).rstrip() + "\n"


def describe_in(modules: list[Any], name: str) -> list[str]:
    """Return the lines of the first module's name; a value is described by the text beneath it, where it is made."""
    thing = getattr(modules[0], name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return describe(name, thing)
    makers = [one for one in [*modules, sys.modules[type(thing).__module__]] if hasattr(one, "__file__")]
    texts = [texts_beneath(ast.parse(inspect.getsource(one)).body).get(name) for one in makers]
    return [next(filter(None, texts), "")]


def command_page() -> str:
    """Return the page of the commands, their options, their exit codes and the environment's variables."""
    lines = [
        "# Commands, exit codes, environment",
        "",
        "How they are used: [The command line](../guide/command-line.md).",
        "",
    ]
    lines += ["## Common options", "", *map(option_line, common_options()), ""]
    for name, command in commands.commands.items():
        lines += describe_command(f"aiotaskstore {name}", command)
    lines += ["## Exit codes", ""]
    described = attribute_docs(ExitCode)
    lines += [f"- `{code.value}`: {described.get(code.name, code.name.lower())}" for code in ExitCode]
    lines += ["", "## Environment variables", ""]
    lines += [f"- `{name}`: {text}" for name, text in ENVIRONMENT.items()]
    return "\n".join(lines).rstrip() + "\n"


def describe_command(name: str, command: click.Command, level: int = 2) -> Iterator[str]:
    """Yield the lines of a command: what it does, its options with their defaults, and its commands."""
    with click.Context(command, info_name=name, max_content_width=1000) as context:
        arguments = [one.make_metavar(context) for one in command.params if isinstance(one, click.Argument)]
    records, common = option_records(command), common_options()
    yield from (f"{'#' * level} `{' '.join([name, *arguments])}`", "")
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.removeprefix("\b\n").splitlines()
        left_as_it_is = paragraph.startswith("\b")
        yield from ("```text", *lines, "```", "") if left_as_it_is else (" ".join(lines), "")
    yield from (option_line(record) for record in records if record not in common)
    if shared := [record[0].split()[0] for record in records if record in common]:
        yield f"- {', '.join(f'`{option}`' for option in shared)}: [common options](#common-options)."
    yield ""
    for key, one in getattr(command, "commands", {}).items():
        yield from describe_command(f"{name} {key}", one, level + 1)


def option_records(command: click.Command) -> list[tuple[str, str]]:
    """Return the options of a command that have a sentence: how each is written, and its sentence."""
    with click.Context(command, max_content_width=1000) as context:
        records = [one.get_help_record(context) for one in command.params]
    return [record for record in records if record and record[1]]


def option_line(record: tuple[str, str]) -> str:
    """Return the line of an option."""
    return f"- `{record[0]}`: {' '.join(record[1].split())}"


@cache
def common_options() -> list[tuple[str, str]]:
    """Return the options that half of the commands or more have, and with the same sentence."""
    records = [option_records(command) for command in every_command(commands)]
    counted = Counter(chain.from_iterable(records))
    return [record for record, count in counted.items() if count * 2 >= len(records)]


def every_command(group: click.Group) -> Iterator[click.Command]:
    """Yield the commands of a group that do something, those of its groups too."""
    for one in group.commands.values():
        yield from every_command(one) if isinstance(one, click.Group) else (one,)


def managers() -> Iterator[tuple[str, Any]]:
    """Yield the properties of a store that have methods of their own, such as `tasks`, with their classes."""
    names = vars(importlib.import_module("aiotaskstore.manage.managers"))  # the store imports it as it is needed
    for name, member in sorted(vars(TaskStore).items()):
        kind = typing.get_type_hints(member.fget, localns=names).get("return") if isinstance(member, property) else None
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
    parameters = [
        _without_address(_verbatim(one)) for one in found.parameters.values() if one.name not in {"self", "cls"}
    ]
    returned = found.return_annotation
    return found.replace(
        parameters=parameters, return_annotation=Verbatim(returned) if isinstance(returned, str) else returned
    )


def _verbatim(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = parameter.annotation
    return parameter.replace(annotation=Verbatim(annotation)) if isinstance(annotation, str) else parameter


def _without_address(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter, a default that is printed with its place in memory left out."""
    return parameter.replace(default=Verbatim("…")) if " at 0x" in repr(parameter.default) else parameter


def attribute_docs(kind: Any) -> dict[str, str]:
    """Return the texts that stand under attributes, by attribute; those of a base if there is none."""
    found: dict[str, str] = {}
    for base in bases(kind):
        found |= attribute_docs(base)
    return found | texts_beneath(definition(kind).body)


def texts_beneath(nodes: list[ast.stmt]) -> dict[str, str]:
    """Return the texts that stand under assignments, by what is assigned."""
    found: dict[str, str] = {}
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
    for file, text in pages().items():
        (FOLDER / file).write_text(text, "utf-8")
