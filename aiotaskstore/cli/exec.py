"""`exec`: run a handler here and now, without a queue."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from aiotaskstore import HandlerReturnedFalseError, TaskContext, TaskStore, UnknownAliasError
from aiotaskstore.alias import RESERVED, fold
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.definitions import print_definitions
from aiotaskstore.cli.exit_code import ExitCode, plain
from aiotaskstore.cli.target import Target, run_with, targeted
from aiotaskstore.definition import AnyDefinition
from aiotaskstore.direct import DirectRun
from aiotaskstore.mechanics.text import printable
from aiotaskstore.mechanics.tracebacks import shortened


class _Exec(Command):
    """What follows the alias is the handler's, but for the options that every command has."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command's own arguments, and keep the handler's as `options`."""
        own, given = self._split(ctx, args)
        rest = super().parse_args(ctx, own)
        ctx.params["options"] = options_of(given)
        return rest

    def _split(self, ctx: click.Context, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """Separate the command's own arguments from the handler's."""
        takes_value = {
            name: not one.is_flag for one in self.get_params(ctx) if isinstance(one, click.Option) for name in one.opts
        }
        own: list[str] = []
        words = deque(args)
        while words and not _is_alias(own, takes_value):
            own.append(words.popleft())
        given: list[str] = []
        while words:
            word = words.popleft()
            name = word.partition("=")[0]
            if word == "--":
                return own, [*given, *words]
            if name not in takes_value:
                given += (word, *_value_after(word, words))
            else:
                own.append(word)
                if takes_value[name] and name == word and words:
                    own.append(words.popleft())
        return own, given


def _is_alias(own: Sequence[str], takes_value: dict[str, bool]) -> bool:
    """Whether the last of these arguments is the alias: no option, and no option's value."""
    return bool(own) and not own[-1].startswith("-") and not (len(own) > 1 and takes_value.get(own[-2], False))


def _value_after(word: str, words: deque[str]) -> list[str]:
    """Take the value of `--k v`, if there is one."""
    names = word.startswith("--") and "=" not in word
    return [words.popleft()] if names and words and not words[0].lstrip().startswith("--") else []


def options_of(words: Sequence[str]) -> dict[str, str]:
    """Read `--k=v`, `--k v` and `--k`, which is an empty text; of a repeated option the last one counts."""
    rest = deque(word.strip() for word in words)
    options: dict[str, str] = {}
    while rest:
        word = rest.popleft()
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.strip().replace("-", "_")
        if not word.startswith("--") or not name:
            raise click.UsageError(
                f'"{word}" belongs to no option of the handler. Write --name VALUE or --name=VALUE; a VALUE with '
                "spaces goes in quotes."
            )
        options[name] = value if equals else "".join(_value_after(word, rest))
    return options


@click.command("exec", cls=_Exec, options_metavar="", epilog="What stands after -- is the handler's in any case.")
@click.argument("alias", metavar="ALIAS [--NAME VALUE]...")
@targeted
def execute(target: Target, alias: str, options: dict[str, str]) -> None:
    """Run a handler here and now, without a queue, and print its result; exit with 1 if it fails.

    ALIAS may differ in case, "-" and "_". Options are the handler's arguments, --user-id for user_id; a function gets
    them as the types that it declares (JSON for lists and objects), a class handler as text, by context.param("name").

    \b
    aiotaskstore exec hello-world --name "Tom Jones"
    aiotaskstore exec send_welcome --user-id=42 --locale bg
    """  # noqa: D301
    if fold(alias) in RESERVED:
        print_definitions(target)
        return
    store, console = target.app_store(), target.console
    definition = _find(store.handlers, alias)
    payload = definition.payload
    text = payload.encode_values(payload.read_texts(options), store.payload_limit)
    shown = "".join(f" --{name}={json.dumps(value, ensure_ascii=False)}" for name, value in options.items())
    console.say(f"Running {definition.alias}{shown}")
    with _saying(console):
        end = run_with(store, lambda opened: _run(opened, definition, text, options), migrate=None)
    _print(console, definition, end)
    if end.error is not None:
        raise SystemExit(ExitCode.FAILED)


@dataclass
class _End:
    """How a run ended."""

    run: DirectRun
    result: Any = None
    output: str | None = None
    error: BaseException | None = None


def _find(definitions: Sequence[AnyDefinition], alias: str) -> AnyDefinition:
    """Return the definition that is meant; raise `UnknownAliasError`."""
    for exact in (True, False):
        for one in definitions:
            known = (one.alias, *one.defaults.former_aliases)
            if alias in known if exact else fold(alias) in map(fold, known):
                return one
    raise UnknownAliasError(alias, [one.alias for one in definitions])


async def _run(store: TaskStore, definition: AnyDefinition, text: str, options: dict[str, str]) -> _End:
    run = DirectRun(definition.alias, definition.defaults, lambda: json.loads(text))
    context, end = TaskContext(run, store, options), _End(run)
    try:
        arguments = definition.payload.decode(text)
        given = [arguments.pop(name, default) for name, default in definition.payload.positional_only.items()]
        value = await definition(context, *given, **arguments)
        end.result = json.loads(definition.result.encode_returned(value, context.output, store.payload_limit))
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        end.error = error
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is told, not raised
        end.error = error
    end.output = context.output
    return end


def _print(console: Console, definition: AnyDefinition, end: _End) -> None:
    error = end.error
    if console.prints_json:
        console.json(
            {
                "alias": definition.alias,
                "succeeded": error is None,
                "result": end.result,
                "output": end.output,
                "details": end.run.details,
                "progress": end.run.progress,
                "error": None if error is None else _described(error),
            }
        )
    elif error is None and end.result == end.output is not None:
        console.print(end.output)
    elif error is None and end.result is not None:
        console.json(end.result)
    if error is not None:
        trace = "" if isinstance(error, HandlerReturnedFalseError) else shortened(error)
        if trace:
            console.say(trace)
        console.say(f"{definition.alias} failed: {_described(error)}")


def _described(error: BaseException) -> str:
    name, text = type(error).__name__, printable(error)
    return text if isinstance(error, HandlerReturnedFalseError) else f"{name}: {text}" if text else name


@contextmanager
def _saying(console: Console) -> Iterator[None]:
    """Print what a handler says through its context at the moment it says it, whatever the app does with its log."""
    log, teller = logging.getLogger("aiotaskstore.task"), _Teller(console)
    before = log.level, log.propagate
    log.addHandler(teller)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(teller)
        log.level, log.propagate = before


class _Teller(logging.Handler):
    """Passes what is logged to a console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message, an error in red."""
        text = record.getMessage()
        failed = record.levelno >= logging.ERROR and not plain()
        self._console.say(click.style(text, fg="red") if failed else text)
